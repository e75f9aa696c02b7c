"""Anthropic Messages, the upstream's side: an engine that speaks nothing else is asked, and read.

``encode`` makes its body from a neutral request (docs/dialects.md 3.6), ``Decoder`` reads its stream,
``decode_body`` its whole answer, by the same rules. Two things differ from Chat Completions at every
turn: Anthropic refuses what it finds odd (empty blocks, results that do not follow their calls at once,
white space at the end), and its stream numbers *blocks*, where the hub numbers calls.

Shapes: ``anthropic`` 2.11.0, docs/dialects.md 1.7 to 1.9.
"""

import re
from typing import Any, Final

import msgspec

from homeport.errors import ClientError, UpstreamError
from homeport.facts import EngineFacts, ModelFacts
from homeport.wire.anthropic_answer import SIGNATURE, input_of
from homeport.wire.events import (
    End,
    Event,
    Failure,
    Finish,
    Image,
    Part,
    Request,
    Start,
    StopReason,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    ToolChoice,
    ToolResult,
    Turn,
    Usage,
    UsageReport,
)
from homeport.wire.faults import BAD_BODY, fault_in_stream
from homeport.wire.schemas import without_bounds
from homeport.wire.sse import SSEEvent
from homeport.wire.turns import fold_system_turns, pair_tool_results, text_of

Raw = msgspec.Raw
_encode = msgspec.json.Encoder().encode

MESSAGES_PATH: Final = "/v1/messages"

DEFAULT_MAX_TOKENS: Final = 8192
"""Anthropic requires a limit and OpenAI's clients seldom send one. Every model that is served today
takes so much; with the model's own limit known, that is used."""

MIN_BUDGET: Final = 1024
"""Of thinking; less is refused, and so is a budget that is not below ``max_tokens``."""

# --------------------------------------------------------------------------- the request


def encode(request: Request, engine: EngineFacts, model: ModelFacts) -> bytes:
    """The engine's body. Raises ``ClientError`` for what cannot be said in this dialect."""
    turns = pair_tool_results(fold_system_turns(request.turns))
    max_tokens = _max_tokens(request, model)
    body: dict[str, Any] = {"model": model.name, "max_tokens": max_tokens}
    if turns and turns[0].role == "system":
        if text := text_of(turns[0].parts, "\n\n"):
            body["system"] = text
        turns = turns[1:]
    if request.tools:
        _put_tools(body, request, engine)
    body["messages"] = _messages(turns, engine)
    body["stream"] = request.stream
    if request.stop:
        body["stop_sequences"] = list(request.stop)
    if request.temperature is not None:
        body["temperature"] = min(request.temperature, 1.0)  # OpenAI's goes up to 2
    for key in ("top_p", "top_k"):
        if (value := getattr(request, key)) is not None:
            body[key] = value
    _put_thinking(body, request, max_tokens)
    _put_output(body, request)
    return _encode(body)


def counting(body: bytes) -> bytes:
    """The body as ``count_tokens`` takes it."""
    fields = msgspec.json.decode(body, type=dict[str, Raw])
    return _encode({key: value for key, value in fields.items() if key not in _NOT_COUNTED})


_NOT_COUNTED = frozenset(
    {"max_tokens", "stream", "stop_sequences", "temperature", "top_p", "top_k", "metadata"}
)


def _max_tokens(request: Request, model: ModelFacts) -> int:
    if request.max_tokens is not None:
        asked = request.max_tokens
        return min(asked, model.output_tokens) if model.output_tokens is not None else asked
    if model.output_tokens is not None:
        return model.output_tokens
    if model.context_tokens is not None:
        return max(1, min(DEFAULT_MAX_TOKENS, model.context_tokens // 2))
    return DEFAULT_MAX_TOKENS


def _put_tools(body: dict[str, Any], request: Request, engine: EngineFacts) -> None:
    choice = request.tool_choice or ToolChoice("auto")
    if choice.mode == "named" and not any(tool.name == choice.name for tool in request.tools):
        raise ClientError(
            "invalid_request",
            f"tool_choice: no tool is called '{choice.name}'",
            param="tool_choice",
        )
    body["tools"] = [_tool(tool, engine) for tool in request.tools]
    said: dict[str, Any] = (
        {"type": "tool", "name": choice.name} if choice.mode == "named" else {"type": choice.mode}
    )
    if request.parallel_tool_calls is False and choice.mode != "none":
        said["disable_parallel_tool_use"] = True
    body["tool_choice"] = said


def _tool(tool: Tool, engine: EngineFacts) -> dict[str, Any]:
    out: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        out["description"] = tool.description
    out["input_schema"] = Raw(_schema(tool.schema, engine))
    if tool.strict and engine.strict_tools:
        out["strict"] = True
    return out


def _schema(schema: bytes, engine: EngineFacts) -> bytes:
    """With the ``type`` that Anthropic requires; a tool without arguments has none in OpenAI's."""
    try:
        fields = msgspec.json.decode(schema, type=dict[str, Raw])
        if "type" not in fields:
            schema = _encode({"type": "object", "properties": Raw(b"{}"), **fields})
        return schema if engine.schema_bounds else without_bounds(schema)
    except BAD_BODY as error:
        raise ClientError("invalid_request", f"tools: {error}", param="tools") from None


def _put_thinking(body: dict[str, Any], request: Request, max_tokens: int) -> None:
    switch = request.thinking
    if switch is None:
        return
    if not switch.enabled:
        body["thinking"] = {"type": "disabled"}
    elif switch.budget_tokens is None or max_tokens <= MIN_BUDGET:
        body["thinking"] = {"type": "adaptive"}
    else:
        budget = max(MIN_BUDGET, min(switch.budget_tokens, max_tokens - 1))
        body["thinking"] = {"type": "enabled", "budget_tokens": budget}


def _put_output(body: dict[str, Any], request: Request) -> None:
    """Effort and schema. "Any JSON" has no word here: OpenAI's API makes its clients say so in the
    messages, which the model reads."""
    config: dict[str, Any] = {}
    if request.effort is not None and request.effort != "none":
        config["effort"] = _EFFORTS.get(request.effort, "high")
    wanted = request.response_format
    if wanted is not None and wanted.schema is not None:
        config["format"] = {"type": "json_schema", "schema": Raw(wanted.schema)}
    if config:
        body["output_config"] = config


_EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "xhigh": "xhigh", "max": "max"}


# --------------------------------------------------------------------------- turns to messages


def _messages(turns: tuple[Turn, ...], engine: EngineFacts) -> list[dict[str, Any]]:
    """Roles alternate: what follows another turn of its role joins it, so that all results of several
    calls stand in *one* user message, directly behind the calls."""
    out: list[tuple[str, list[dict[str, Any]]]] = []
    for turn in turns:
        blocks = [block for part in turn.parts if (block := _block(part, engine)) is not None]
        if not blocks:
            continue  # Anthropic refuses an empty turn
        if out and out[-1][0] == turn.role:
            out[-1][1].extend(blocks)
        else:
            out.append((turn.role, blocks))
    for role, blocks in out:
        if role == "user":  # results must come first
            blocks.sort(key=lambda block: block["type"] != "tool_result")
    if out and out[-1][0] == "assistant":
        _trim_end(out[-1][1])
        if not out[-1][1]:
            out.pop()
    return [{"role": role, "content": blocks} for role, blocks in out]


def _trim_end(blocks: list[dict[str, Any]]) -> None:
    """An answer that has begun must not end in white space."""
    while blocks and blocks[-1]["type"] == "text":
        blocks[-1]["text"] = blocks[-1]["text"].rstrip()
        if blocks[-1]["text"]:
            return
        blocks.pop()


def _block(part: Part, engine: EngineFacts) -> dict[str, Any] | None:
    match part:
        case Text(text=text):
            return {"type": "text", "text": text} if text.strip() else None
        case Image(url=url):
            return _image(url)
        case Thinking(text=text):
            if not engine.replays_thinking:
                return None
            return {"type": "thinking", "thinking": text, "signature": SIGNATURE}
        case ToolCall():
            return {
                "type": "tool_use",
                "id": _id(part.id),
                "name": part.name,
                "input": input_of(part.arguments),
            }
        case ToolResult():
            return _result(part, engine)


def _result(result: ToolResult, engine: EngineFacts) -> dict[str, Any]:
    inner = [block for part in result.content if (block := _block(part, engine)) is not None]
    said: dict[str, Any] = {"type": "tool_result", "tool_use_id": _id(result.call_id)}
    if len(inner) == 1 and inner[0]["type"] == "text":
        said["content"] = inner[0]["text"]
    elif inner:
        said["content"] = inner
    if result.is_error:
        said["is_error"] = True
    return said


_DATA_URL = re.compile(r"data:([^;,]*)(?:;[^;,]*)*;base64,", re.IGNORECASE)


def _image(url: str) -> dict[str, Any]:
    if found := _DATA_URL.match(url):
        data, media_type = url[found.end() :], found[1] or "image/png"
        return {
            "type": "image",
            "source": {"type": "base64", "media_type": media_type, "data": data},
        }
    return {"type": "image", "source": {"type": "url", "url": url}}


_NO_ID = re.compile(r"[^a-zA-Z0-9_-]")


def _id(id_: str) -> str:
    """A call's id in the characters that Anthropic allows."""
    return _NO_ID.sub("_", id_) or "toolu_0"


# --------------------------------------------------------------------------- the answer


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
