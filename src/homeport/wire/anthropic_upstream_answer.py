"""What an upstream answers that speaks Anthropic Messages only, as neutral events.

``Decoder`` reads its stream, ``decode_body`` its whole answer, by the same rules (docs/dialects.md
3.6). Its stream numbers *blocks*, where the hub numbers calls.

Shapes: ``anthropic`` 2.11.0, docs/dialects.md 1.8 and 1.9.
"""

from typing import Any

import msgspec

from homeport.errors import UpstreamError
from homeport.wire.events import (
    End,
    Event,
    Failure,
    Finish,
    Start,
    StopReason,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallStart,
    Usage,
    UsageReport,
)
from homeport.wire.faults import BAD_BODY, fault_in_stream
from homeport.wire.sse import SSEEvent

Raw = msgspec.Raw
_encode = msgspec.json.Encoder().encode


class WireUsage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


class ContentBlock(msgspec.Struct):
    type: str = ""
    text: str | None = None
    thinking: str | None = None
    id: str | None = None
    name: str | None = None
    input: Any = None


class Delta(msgspec.Struct):
    type: str = ""
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None


class Message(msgspec.Struct):
    id: str | None = None
    content: list[ContentBlock] | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    usage: WireUsage | None = None


class Frame(msgspec.Struct):
    """Any event: the union of the fields that we read."""

    type: str = ""
    index: int | None = None
    message: Message | None = None
    content_block: ContentBlock | None = None
    delta: Delta | None = None
    usage: WireUsage | None = None
    error: Any = None


_decode_frame = msgspec.json.Decoder(Frame).decode
_decode_message = msgspec.json.Decoder(Message).decode

FINISH: dict[str, StopReason] = {
    "end_turn": "end",
    "pause_turn": "end",
    "max_tokens": "length",
    "model_context_window_exceeded": "context_length",
    "stop_sequence": "stop_sequence",
    "tool_use": "tool_use",
    "refusal": "refusal",
}


class UsageSum:
    """What ``message_start`` said, overwritten by what ``message_delta`` says."""

    def __init__(self) -> None:
        self._seen = WireUsage()

    def take(self, usage: WireUsage | None) -> None:
        for key in usage.__struct_fields__ if usage is not None else ():
            if (value := getattr(usage, key)) is not None:
                setattr(self._seen, key, value)

    @property
    def neutral(self) -> Usage | None:
        """The hub's count of a prompt includes what was read from or written to a cache."""
        seen = self._seen
        if seen.input_tokens is None and seen.output_tokens is None:
            return None
        cached = seen.cache_read_input_tokens
        written = seen.cache_creation_input_tokens or 0
        prompt = (seen.input_tokens or 0) + (cached or 0) + written
        return Usage(prompt, seen.output_tokens or 0, cached)


class _Block:
    """A tool call's block while it is open."""

    __slots__ = ("call", "has_arguments", "input")

    def __init__(self, call: int, input_: object) -> None:
        self.call, self.input, self.has_arguments = call, input_, False


class Decoder:
    """An engine's stream, SSE event by SSE event; the seam is ``openai_chat_answer.Decoder``'s.

    Its index numbers blocks of all kinds; calls are numbered here, as they appear.
    """

    def __init__(self) -> None:
        self.progress = None
        """Not told in this dialect."""
        self._calls: dict[int, _Block] = {}
        self._count = 0
        self._usage = UsageSum()
        self._has_finish = self._is_over = False

    def feed(self, sse: SSEEvent) -> list[Event]:
        if self._is_over or sse.data == b"[DONE]":
            return []
        try:
            frame = _decode_frame(sse.data)
        except BAD_BODY as error:
            if sse.event == "error":
                return self._failed(sse.data)
            raise UpstreamError(
                "upstream", f"the engine sent what is no Messages event: {error}"
            ) from None
        if frame.error is not None or sse.event == "error":
            return self._failed(sse.data)
        return self._frame(frame)

    def finish(self) -> list[Event]:
        """The bytes ended. Fine after a stop reason, else a cut."""
        if self._is_over:
            return []
        if self._has_finish:
            return self._end()
        self._is_over = True
        return [Failure("the engine broke off in the middle of its answer")]

    def _frame(self, frame: Frame) -> list[Event]:
        match frame.type:
            case "message_start":
                message = frame.message or Message()
                self._usage.take(message.usage)
                return [Start(message.id)]
            case "content_block_start":
                return self._begun(frame.index or 0, frame.content_block or ContentBlock())
            case "content_block_delta":
                return self._delta(frame.index or 0, frame.delta or Delta())
            case "content_block_stop":
                return self._stopped(frame.index or 0)
            case "message_delta":
                self._usage.take(frame.usage)
                return self._finished(frame.delta or Delta())
            case "message_stop":
                return self._end()
            case _:
                return []  # ping, and what may come

    def _begun(self, index: int, block: ContentBlock) -> list[Event]:
        match block.type:
            case "text":
                return [TextDelta(block.text)] if block.text else []
            case "thinking":
                return [ThinkingDelta(block.thinking)] if block.thinking else []
            case "tool_use":
                call = self._count
                self._count += 1
                self._calls[index] = _Block(call, block.input)
                return [ToolCallStart(call, block.id or f"toolu_{call}", block.name or "")]
            case _:
                return []  # tools that the server ran by itself

    def _delta(self, index: int, delta: Delta) -> list[Event]:
        match delta.type:
            case "text_delta":
                return [TextDelta(delta.text)] if delta.text else []
            case "thinking_delta":
                return [ThinkingDelta(delta.thinking)] if delta.thinking else []
            case "input_json_delta" if delta.partial_json and index in self._calls:
                block = self._calls[index]
                block.has_arguments = True
                return [ToolCallDelta(block.call, delta.partial_json)]
            case _:
                return []  # signatures, citations

    def _stopped(self, index: int) -> list[Event]:
        """A call whose arguments came in its start, or which has none: ``{}``, since "" is no JSON."""
        block = self._calls.pop(index, None)
        if block is None or block.has_arguments:
            return []
        return [ToolCallDelta(block.call, _encode(block.input or {}).decode())]

    def _finished(self, delta: Delta) -> list[Event]:
        events: list[Event] = []
        if delta.stop_reason and not self._has_finish:
            self._has_finish = True
            for index in tuple(self._calls):
                events += self._stopped(index)
            events.append(Finish(FINISH.get(delta.stop_reason, "end"), delta.stop_sequence))
        if (usage := self._usage.neutral) is not None:
            events.append(UsageReport(usage))
        return events

    def _end(self) -> list[Event]:
        self._is_over = True
        events: list[Event] = []
        if not self._has_finish:
            for index in tuple(self._calls):
                events += self._stopped(index)
            events.append(Finish("tool_use" if self._count else "end"))
        return [*events, End()]

    def _failed(self, data: bytes) -> list[Event]:
        self._is_over = True
        return [failure_of(data)]


def failure_of(data: bytes) -> Failure:
    """An error event as the hub has it."""
    fault = fault_in_stream(data)
    if fault.kind == "context_overflow":
        return Failure(fault.message, "context_overflow", fault.tokens)
    return Failure(fault.message, "overloaded" if b'"overloaded_error"' in data else "upstream")


def decode_body(body: bytes) -> list[Event]:
    """A whole answer as events. Raises ``UpstreamError`` when it is no message."""
    try:
        frame, message = _decode_frame(body), _decode_message(body)
    except BAD_BODY as error:
        raise UpstreamError("upstream", f"the engine sent what is no message: {error}") from None
    if frame.error is not None:
        return [failure_of(body)]
    if message.content is None:
        raise UpstreamError("upstream", "the engine's answer holds no content")
    decoder = Decoder()
    events = decoder._frame(Frame("message_start", message=message))
    for index, block in enumerate(message.content):
        events += decoder._frame(Frame("content_block_start", index, content_block=block))
        events += decoder._frame(Frame("content_block_stop", index))
    ending = Delta(stop_reason=message.stop_reason, stop_sequence=message.stop_sequence)
    events += decoder._frame(Frame("message_delta", delta=ending))
    return events + decoder._frame(Frame("message_stop"))
