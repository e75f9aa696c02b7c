"""Anthropic Messages: whole answers, and what streams share with them: stop reasons, usage, ids.

Shapes: ``anthropic`` 2.11.0, every field that its types declare; docs/dialects.md 3.2.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from homeport.wire.events import (
    End,
    Event,
    Finish,
    Start,
    StopReason,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallStart,
    Usage,
    UsageReport,
    WebSearch,
)
from homeport.wire.faults import BAD_BODY
from homeport.wire.rounds import rounds, summed

SIGNATURE = "homeport"
"""A thinking block needs a signature (strict readers reject its absence); ours proves nothing, and
anything is accepted back."""

STOP_REASONS: dict[StopReason, str] = {
    "end": "end_turn",
    "length": "max_tokens",
    "context_length": "model_context_window_exceeded",
    "stop_sequence": "stop_sequence",
    "tool_use": "tool_use",
    "refusal": "refusal",
}


def stop_reason_of(
    finish: Finish, *, called_tools: bool, usage: Usage | None, context_tokens: int | None
) -> tuple[str, str | None]:
    """``(stop_reason, stop_sequence)``; precedence: truncated, refused, tool use, stop string, end.

    A length stop at the end of the context has its own word: clients compact then.
    """
    reason = finish.reason
    if reason == "length":
        if usage and context_tokens and _total(usage) >= context_tokens:
            reason = "context_length"
    elif reason in ("tool_use", "end", "stop_sequence"):
        if called_tools:
            reason = "tool_use"
        elif reason == "tool_use":  # mlx: tool_calls without a call
            reason = "end"
    return STOP_REASONS[reason], finish.stop_sequence if reason == "stop_sequence" else None


def _total(usage: Usage) -> int:
    return usage.prompt_tokens + usage.completion_tokens


# Strict readers want every field that the official types declare, so what we do not have is null.

NULLS: dict[str, None] = dict.fromkeys(("stop_details", "container", "diagnostics"))
"""Of a message, beside the stop reason."""

_USAGE_NULLS = dict.fromkeys(("cache_creation", "service_tier", "speed", "inference_geo"))

CALLER: dict[str, Any] = {"caller": {"type": "direct"}, "toolset_name": None}
"""Of a ``tool_use`` block. The AI SDK (and so opencode) fails on a caller that is null."""


def message_usage_of(usage: Usage, searches: int | None = None) -> dict[str, Any]:
    """The usage of a message; that of a ``message_delta`` event (``usage_of``) is shorter."""
    return {**usage_of(usage, searches), **_USAGE_NULLS}


def usage_of(usage: Usage, searches: int | None = None) -> dict[str, Any]:
    """Of several rounds the sum, and each by itself: by the last one clients know how long the
    conversation is. ``searches`` is None where there was nothing to search."""
    total = summed(usage)
    thinking = total.reasoning_tokens
    tools = {"web_search_requests": searches, "web_fetch_requests": 0}
    out: dict[str, Any] = {
        **_counts(total),
        "output_tokens_details": None if thinking is None else {"thinking_tokens": thinking},
        "server_tool_use": None if searches is None else tools,
    }
    if usage.earlier:
        out["iterations"] = [
            {"type": "message", **_counts(one), "cache_creation": None} for one in rounds(usage)
        ]
    return out


def _counts(usage: Usage) -> dict[str, int]:
    """Anthropic counts cached tokens apart: prompt = input + cache_read + cache_creation."""
    cached = min(usage.cached_tokens or 0, usage.prompt_tokens)
    return {
        "input_tokens": usage.prompt_tokens - cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": usage.completion_tokens,
    }


def searched(before: int | None, search: WebSearch) -> int:
    """The number of searches; one that failed is none, as Anthropic counts."""
    return (before or 0) + (search.error is None)


def prewarmed(events: Iterable[Event]) -> list[Event]:
    """The answer to ``max_tokens: 0``, which only asks to have the prompt read into the cache: the
    engine had to make one token (none at all is an error to most), the client gets none."""
    kept: list[Event] = []
    for event in events:
        match event:
            case TextDelta() | ThinkingDelta() | ToolCallStart() | ToolCallDelta():
                pass
            case Finish():
                kept.append(Finish("length"))
            case UsageReport(usage=usage):
                kept.append(UsageReport(Usage(usage.prompt_tokens, 0, usage.cached_tokens)))
            case _:
                kept.append(event)
    return kept


def continued(events: Iterable[Event], prefill: str) -> list[Event]:
    """A whole answer less ``prefill``, which the client has already and puts in front itself."""
    kept = list(events)
    first = next((i for i, event in enumerate(kept) if isinstance(event, TextDelta)), None)
    if prefill and first is not None:
        text = kept[first]
        assert isinstance(text, TextDelta)
        kept[first] = TextDelta(text.text.removeprefix(prefill))
    return kept


def encode_message(
    events: Iterable[Event],
    *,
    message_id: str,
    model: str,
    context_tokens: int | None = None,
    single_call: bool = False,
) -> bytes:
    """A whole answer as a Message, from the events of one (no ``Failure`` among them).

    ``single_call`` keeps only the first tool call (``disable_parallel_tool_use``).
    """
    thinking, text, calls = [], [], dict[int, tuple[ToolCallStart, list[str]]]()
    searches: list[dict[str, Any]] = []
    finish, usage = Finish("end"), Usage(0, 0)
    requests: int | None = None
    for event in events:
        match event:  # in the order of what every answer has
            case TextDelta():
                text.append(event.text)
            case UsageReport():
                usage = event.usage
            case Finish():
                finish = event
            case Start() | End():
                pass
            case ThinkingDelta():
                thinking.append(event.text)
            case ToolCallStart() if not (single_call and calls):
                calls[event.call] = (event, [])
            case ToolCallDelta() if event.call in calls:
                calls[event.call][1].append(event.arguments)
            case WebSearch():
                searches += search_blocks(event)
                requests = searched(requests, event)
            case _:
                pass
    content: list[dict[str, Any]] = []
    if thinking:
        content.append({"type": "thinking", "thinking": "".join(thinking), "signature": SIGNATURE})
    content += searches
    if any(text):
        content.append({"type": "text", "text": "".join(text), "citations": []})
    for start, fragments in calls.values():
        content.append(
            {
                "type": "tool_use",
                "id": start.id,
                "name": start.name,
                "input": input_of("".join(fragments)),
                **CALLER,
            }
        )
    stop_reason, stop_sequence = stop_reason_of(
        finish, called_tools=bool(calls), usage=usage, context_tokens=context_tokens
    )
    return msgspec.json.encode(
        {
            "id": message_id,
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": content,
            "stop_reason": stop_reason,
            "stop_sequence": stop_sequence,
            **NULLS,
            "usage": message_usage_of(usage, requests),
        }
    )


def search_blocks(search: WebSearch) -> tuple[dict[str, Any], dict[str, Any]]:
    """A search and its result. Nothing is encrypted here; the extract stands in that field's place, so
    that whoever reads it has something."""
    content: Any = [
        {
            "type": "web_search_result",
            "url": hit.url,
            "title": hit.title,
            "encrypted_content": hit.extract,
            "page_age": hit.age,
        }
        for hit in search.hits
    ]
    if search.error is not None:
        content = {"type": "web_search_tool_result_error", "error_code": search.error}
    call = {
        "type": "server_tool_use",
        "id": search.id,
        "name": "web_search",
        "input": {"query": search.query},
    }
    return call, {"type": "web_search_tool_result", "tool_use_id": search.id, "content": content}


def input_of(arguments: str) -> Any:
    """A call's arguments as the object that ``input`` must be.

    What is no JSON object is wrapped, never replaced by ``{}``: the client's tool then reports the
    wrong arguments, and the model sees its mistake (docs/dialects.md 3.5).
    """
    if not arguments.strip():
        return {}
    try:
        value = msgspec.json.decode(arguments)
    except BAD_BODY:
        return {"__raw_arguments": arguments}
    is_whole = isinstance(value, dict)
    return msgspec.Raw(arguments.encode()) if is_whole else {"__raw_arguments": arguments}
