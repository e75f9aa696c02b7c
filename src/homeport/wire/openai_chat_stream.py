"""OpenAI Chat Completions, the answer side towards clients: neutral events become chunks.

Used where client and engine speak different dialects; else bytes pass through (``passthrough``).

``ChatStream`` writes the stream: a chunk with the role first; text, thinking (``reasoning_content``, as
local engines have it) and fragments of calls, numbered by *call*; one chunk with the finish reason; the
usage, if it was asked for; ``[DONE]``. An error is ``{"error": …}`` and the last thing that is sent.
``encode_completion`` writes the whole answer.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from homeport.errors import RequestFault, UpstreamError
from homeport.wire import faults, sse
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
from homeport.wire.rounds import as_one

_encode = msgspec.json.Encoder().encode

FINISH_REASONS: dict[StopReason, str] = {
    "end": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "context_length": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


def finish_reason_of(finish: Finish, *, called_tools: bool) -> str:
    """Calls count more than what the engine says of its end, cuts and refusals more than calls."""
    if finish.reason in ("end", "stop_sequence", "tool_use"):
        return "tool_calls" if called_tools else "stop"
    return FINISH_REASONS[finish.reason]


def usage_of(usage: Usage) -> dict[str, Any]:
    usage = as_one(usage)
    out: dict[str, Any] = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
    if usage.cached_tokens is not None:
        out["prompt_tokens_details"] = {"cached_tokens": usage.cached_tokens}
    if usage.reasoning_tokens is not None:
        out["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    return out


class ChatStream:
    """One stream of chunks; the seam is ``stream.EventEncoder``."""

    def __init__(
        self,
        *,
        completion_id: str,
        model: str,
        created_at_s: int,
        request_id: str,
        wants_usage: bool = False,
        single_call: bool = False,
    ) -> None:
        self.usage: Usage | None = None
        self.failure: RequestFault | None = None
        self._head: dict[str, Any] = {
            "id": completion_id,
            "object": "chat.completion.chunk",
            "created": created_at_s,
            "model": model,
        }
        self._request_id = request_id
        self._wants_usage, self._single_call = wants_usage, single_call
        self._finish = Finish("end")
        self._calls: set[int] = set()
        self._has_begun = self._is_over = False

    def feed(self, event: Event) -> bytes:
        if self._is_over:
            return b""
        match event:
            case TextDelta(text=text):
                return self._delta({"content": text}) if text else b""
            case ThinkingDelta(text=text):
                return self._delta({"reasoning_content": text}) if text else b""
            case ToolCallStart():
                return self._call(event)
            case ToolCallDelta(call=call, arguments=arguments):
                if call not in self._calls or not arguments:
                    return b""
                fragment = {"index": call, "function": {"arguments": arguments}}
                return self._delta({"tool_calls": [fragment]})
            case Finish():
                self._finish = event
            case UsageReport(usage=usage):
                self.usage = usage
            case Failure(kind=kind, message=message, tokens=tokens):
                return self.fail(UpstreamError(kind, message, tokens=tokens))
            case End():
                return self._end()
            case Start():
                return self._role()
        return b""

    def fail(self, fault: RequestFault) -> bytes:
        """The in-stream error, after which nothing comes."""
        if self._is_over:
            return b""
        self._is_over, self.failure = True, fault
        return sse.encode(faults.body_of(fault, "openai_chat", self._request_id))

    def _call(self, start: ToolCallStart) -> bytes:
        if self._single_call and self._calls:
            return b""
        self._calls.add(start.call)
        function = {"name": start.name, "arguments": ""}
        fragment = {"index": start.call, "id": start.id, "type": "function", "function": function}
        return self._delta({"tool_calls": [fragment]})

    def _role(self) -> bytes:
        if self._has_begun:
            return b""
        self._has_begun = True
        return self._chunk({"role": "assistant", "content": ""}, None)

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return self._role() + self._chunk(delta, None)

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        usage = {"usage": None} if self._wants_usage else {}
        return sse.encode(_encode({**self._head, "choices": [choice], **usage}))

    def _end(self) -> bytes:
        out = self._role()
        out += self._chunk({}, finish_reason_of(self._finish, called_tools=bool(self._calls)))
        if self._wants_usage:
            usage = usage_of(self.usage or Usage(0, 0))
            out += sse.encode(_encode({**self._head, "choices": [], "usage": usage}))
        self._is_over = True
        return out + sse.DONE


def encode_completion(
    events: Iterable[Event],
    *,
    completion_id: str,
    model: str,
    created_at_s: int,
    single_call: bool = False,
) -> bytes:
    """A whole answer, from the events of one (no ``Failure`` among them)."""
    thinking, text, calls = [], [], dict[int, tuple[ToolCallStart, list[str]]]()
    finish, usage = Finish("end"), Usage(0, 0)
    for event in events:
        match event:
            case ThinkingDelta():
                thinking.append(event.text)
            case TextDelta():
                text.append(event.text)
            case ToolCallStart() if not (single_call and calls):
                calls[event.call] = (event, [])
            case ToolCallDelta() if event.call in calls:
                calls[event.call][1].append(event.arguments)
            case Finish():
                finish = event
            case UsageReport():
                usage = event.usage
            case _:
                pass
    content = "".join(text)
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if calls and not content else content,
        "refusal": None,
    }
    if thinking:
        message["reasoning_content"] = "".join(thinking)
    if calls:
        message["tool_calls"] = [
            {
                "id": start.id,
                "type": "function",
                "function": {"name": start.name, "arguments": "".join(fragments)},
            }
            for start, fragments in calls.values()
        ]
    reason = finish_reason_of(finish, called_tools=bool(calls))
    return _encode(
        {
            "id": completion_id,
            "object": "chat.completion",
            "created": created_at_s,
            "model": model,
            "choices": [
                {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
            ],
            "usage": usage_of(usage),
        }
    )
