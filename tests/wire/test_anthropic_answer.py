"""Whole answers as Anthropic messages: one small case per row of docs/dialects.md 3.2."""

import json
from typing import Any

import anthropic as sdk
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.wire.anthropic_answer import (
    continued,
    encode_message,
    input_of,
    message_usage_of,
    prewarmed,
    usage_of,
)
from homeport.wire.events import (
    Event,
    Finish,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallStart,
    Usage,
    UsageReport,
)
from homeport.wire.openai_chat_answer import decode_body


def message(events: list[Event], **options: Any) -> dict[str, Any]:
    body = encode_message(events, message_id="msg_1", model="asked", **options)
    sdk.types.Message.model_validate_json(body)
    decoded: dict[str, Any] = json.loads(body)
    return decoded


def answer(message_: dict[str, Any], finish: str = "stop", **choice: Any) -> dict[str, Any]:
    """What becomes of an engine's answer."""
    choices = [{"index": 0, "message": message_, "finish_reason": finish, **choice}]
    body = {"id": "chatcmpl-9", "model": "theirs", "choices": choices, "system_fingerprint": "x"}
    return message(decode_body(msgspec.json.encode(body)))


def function(arguments: Any, name: str = "f", id_: str | None = "a") -> dict[str, Any]:
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}


@pytest.mark.row("3.2 id", "3.2 model", "3.2 no usage")
def test_id_model_and_role_are_ours() -> None:
    assert answer({"content": "hi"}) == {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "asked",
        "content": [{"type": "text", "text": "hi", "citations": []}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "stop_details": None,
        "container": None,
        "diagnostics": None,
        "usage": message_usage_of(Usage(0, 0)),
    }


@pytest.mark.row("3.2 reasoning_content, reasoning", "3.2 reasoning_content … its signature")
@pytest.mark.parametrize("key", ["reasoning", "reasoning_content"])
def test_reasoning_is_a_signed_block_in_front(key: str) -> None:
    blocks = answer({"content": "hi", key: "hmm"})["content"]
    assert [block["type"] for block in blocks] == ["thinking", "text"]
    assert blocks[0]["signature"] == "homeport"


@pytest.mark.row("3.2 content, text or parts", "3.2 nothing at all", "3.2 tool_calls")
@pytest.mark.parametrize("content", [None, "", []])
def test_no_text_block_without_text(content: Any) -> None:
    assert answer({"content": content})["content"] == []
    calls = {"content": content, "tool_calls": [function("{}")]}
    assert [block["type"] for block in answer(calls)["content"]] == ["tool_use"]


@pytest.mark.row("3.2 content, text or parts")
def test_content_parts_are_joined() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert answer({"content": parts})["content"] == [
        {"type": "text", "text": "ab", "citations": []}
    ]


@pytest.mark.row("3.2 refusal")
def test_a_refusal() -> None:
    refused = answer({"content": None, "refusal": "no"})
    assert refused["content"] == [{"type": "text", "text": "no", "citations": []}]
    assert refused["stop_reason"] == "refusal"


@pytest.mark.row(
    "3.2 arguments that are no JSON object",
    '3.2 arguments "", null',
    "3.2 arguments as an object",
    "3.5 a whole answer",
)
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ('{"b": 1, "a": [1.50]}', {"b": 1, "a": [1.5]}),
        ("", {}),
        (None, {}),
        (" ", {}),
        ({"x": 1}, {"x": 1}),
        ('{"cut', {"__raw_arguments": '{"cut'}),
        ("false", {"__raw_arguments": "false"}),  # vLLM without strict
        ("[1]", {"__raw_arguments": "[1]"}),
        ('"x"', {"__raw_arguments": '"x"'}),
        ("[" * 9999, {"__raw_arguments": "[" * 9999}),
    ],
)
def test_input_is_an_object_and_bad_json_is_shown(arguments: Any, expected: Any) -> None:
    called = answer({"content": None, "tool_calls": [function(arguments)]}, "tool_calls")
    assert called["content"][0]["input"] == expected
    assert called["stop_reason"] == "tool_use"


def test_input_keeps_key_order_and_numbers() -> None:
    encoded = msgspec.json.encode(input_of('{"z":1.50,"a":1e2}'))
    assert encoded == b'{"z":1.50,"a":1e2}'


@pytest.mark.row("3.2 a call's id")
def test_ids_are_kept_made_up_and_made_unique() -> None:
    calls = [function("{}", id_=id_) for id_ in ("functions.f:0", None, "a", "a")]
    blocks = answer({"content": None, "tool_calls": calls}, "tool_calls")["content"]
    assert [block["id"] for block in blocks] == ["functions.f:0", "toolu_9_1", "a", "a_2"]


@pytest.mark.row("3.2 function_call", "3.2 tool_calls")
def test_the_legacy_call() -> None:
    legacy = {"content": None, "function_call": {"name": "f", "arguments": "{}"}}
    [block] = answer(legacy, "function_call")["content"]
    assert (block["name"], block["input"]) == ("f", {})


@pytest.mark.row(
    "3.2 stop, eos",
    "3.2 tool_calls, function_call",
    "3.2 length",
    "3.2 content_filter",
)
@pytest.mark.parametrize(
    ("finish", "choice", "calls", "expected"),
    [
        ("stop", {}, False, ("end_turn", None)),
        ("stop", {"stop_reason": "END"}, False, ("stop_sequence", "END")),
        ("stop", {"matched_stop": "END"}, False, ("stop_sequence", "END")),
        ("stop", {"stop_reason": 5}, False, ("end_turn", None)),
        ("stop", {}, True, ("tool_use", None)),  # vLLM with a named choice
        ("stop", {"stop_reason": "END"}, True, ("tool_use", None)),
        ("tool_calls", {}, True, ("tool_use", None)),
        ("tool_calls", {}, False, ("end_turn", None)),  # mlx
        ("length", {}, False, ("max_tokens", None)),
        ("length", {}, True, ("max_tokens", None)),
        ("content_filter", {}, False, ("refusal", None)),
    ],
)
def test_stop_reasons(
    finish: str, choice: dict[str, Any], calls: bool, expected: tuple[str, str | None]
) -> None:
    said: dict[str, Any] = {"content": "x", "tool_calls": [function("{}")] if calls else None}
    body = answer(said, finish, **choice)
    assert (body["stop_reason"], body["stop_sequence"]) == expected


@pytest.mark.row("3.2 length")
@pytest.mark.parametrize(
    ("usage", "context", "expected"),
    [
        (Usage(2000, 48), 2048, "model_context_window_exceeded"),
        (Usage(2000, 47), 2048, "max_tokens"),
        (Usage(2000, 48), None, "max_tokens"),
        (None, 2048, "max_tokens"),
    ],
)
def test_a_length_stop_at_the_contexts_end(
    usage: Usage | None, context: int | None, expected: str
) -> None:
    events: list[Event] = [TextDelta("x"), Finish("length")]
    events += [UsageReport(usage)] if usage else []
    assert message(events, context_tokens=context)["stop_reason"] == expected


@pytest.mark.row("3.2 prompt_tokens, cached_tokens", "3.2 cache writes", "3.2 reasoning_tokens")
def test_usage_counts_the_cache_apart() -> None:
    assert usage_of(Usage(100, 7, 60, 5)) == {
        "input_tokens": 40,
        "cache_read_input_tokens": 60,
        "cache_creation_input_tokens": 0,
        "output_tokens": 7,
        "output_tokens_details": {"thinking_tokens": 5},
        "server_tool_use": None,
    }
    assert usage_of(Usage(1, 1))["output_tokens_details"] is None


@pytest.mark.row("3.2 prompt_tokens, cached_tokens")
@given(st.integers(0, 9999), st.integers(0, 9999), st.none() | st.integers(0, 99999))
@settings(max_examples=60, deadline=None)
def test_usage_adds_up(prompt: int, completion: int, cached: int | None) -> None:
    usage = usage_of(Usage(prompt, completion, cached))
    assert all(count >= 0 for count in usage.values() if count is not None)
    parts = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    assert sum(usage[part] for part in parts) == prompt


@pytest.mark.row("3.1 max_tokens: 0")
def test_prewarming_is_answered_with_nothing_but_usage() -> None:
    """``max_tokens: 0``: the engine made one token, of whatever kind, which is not the client's."""
    for made in (TextDelta("x"), ThinkingDelta("x"), ToolCallStart(0, "a", "f")):
        events: list[Event] = [made, Finish("end"), UsageReport(Usage(9, 1, 4, 1))]
        body = message(prewarmed(events), context_tokens=2048)
        assert (body["content"], body["stop_reason"]) == ([], "max_tokens")
        usage = body["usage"]
        assert (usage["input_tokens"], usage["cache_read_input_tokens"]) == (5, 4)
        assert usage["output_tokens"] == 0


@pytest.mark.parametrize(
    ("prefill", "text", "expected"),
    [
        ("Sure", "Sure, yes", ", yes"),
        ("Sure", "Yes", "Yes"),
        ("", "Yes", "Yes"),
        ("Yes", "Yes", ""),
    ],
)
def test_what_the_client_began_is_not_repeated(prefill: str, text: str, expected: str) -> None:
    """llama.cpp begins whole answers with it."""
    events = continued([ThinkingDelta("Sure"), TextDelta(text), TextDelta("Sure")], prefill)
    assert events == [ThinkingDelta("Sure"), TextDelta(expected), TextDelta("Sure")]
    assert continued([Finish("end")], prefill) == [Finish("end")]


@pytest.mark.row("3.1 disable_parallel_tool_use", "3.3 21")
def test_single_call_keeps_the_first() -> None:
    events: list[Event] = []
    for number in range(3):
        events += [ToolCallStart(number, f"id_{number}", "f"), ToolCallDelta(number, "{}")]
    assert [b["id"] for b in message(events, single_call=True)["content"]] == ["id_0"]
    assert len(message(events)["content"]) == 3


texts = st.text(max_size=6)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.builds(TextDelta, texts) | st.builds(ThinkingDelta, texts), max_size=8),
    st.lists(st.text(max_size=8), max_size=3),
)
def test_nothing_is_lost(said: list[Event], calls: list[str]) -> None:
    events = list(said)
    for number, arguments in enumerate(calls):
        events += [ToolCallStart(number, f"id_{number}", "f"), ToolCallDelta(number, arguments)]
    content = message(events)["content"]

    def of(type_: str) -> str:
        return "".join(block[type_] for block in content if block["type"] == type_)

    assert of("text") == "".join(e.text for e in said if isinstance(e, TextDelta))
    assert of("thinking") == "".join(e.text for e in said if isinstance(e, ThinkingDelta))
    assert [b["id"] for b in content if b["type"] == "tool_use"] == [
        f"id_{i}" for i in range(len(calls))
    ]
