"""docs/dialects.md 3.6: an Anthropic upstream's answer, as chat clients get it, and passed through."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from homeport.errors import UpstreamError
from homeport.facts import EngineFacts, ModelFacts
from homeport.wire import (
    anthropic_upstream_answer,
    messages_relay,
)
from homeport.wire.events import (
    End,
    Event,
    Failure,
    Finish,
    Start,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallStart,
    Usage,
    UsageReport,
)
from homeport.wire.openai_chat_stream import ChatStream, encode_completion
from homeport.wire.stream import FromChat
from tests.support import anthropic_grammar
from tests.support.fake_anthropic import CALLS, TEXT, THINKING, message_of, sse_of, stream_of

MODEL = ModelFacts(name="claude")
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def text(value: str) -> dict[str, str]:
    return {"type": "text", "text": value}


# --- the answer -------------------------------------------------------------------------------

REQUEST = {"model": "m", "messages": [user("call")], "tools": [TOOL]}
UPSTREAM = b"".join(map(sse_of, stream_of(REQUEST)))


def translated(pieces: list[bytes], *, single_call: bool = False) -> tuple[bytes, FromChat]:
    out = ChatStream(
        completion_id="chatcmpl-1",
        model="m",
        created_at_s=1,
        request_id="r",
        wants_usage=True,
        single_call=single_call,
    )
    stream = FromChat(out, None, anthropic_upstream_answer.Decoder())
    return b"".join([*map(stream.feed, pieces), stream.finish()]), stream


def chunks_of(data: bytes) -> list[ChatCompletionChunk]:
    """The chunks, as the official type has them; the end must be there."""
    blocks = data.decode().removesuffix("\n\n").split("\n\n")
    assert blocks.pop() == "data: [DONE]"
    return [ChatCompletionChunk.model_validate_json(b.removeprefix("data: ")) for b in blocks]


@pytest.mark.row(
    "3.6 Fragments are numbered by call, not by block",
    "3.6 prompt_tokens",
    "3.6 pause_turn, stop_sequence and unknown reasons",
)
def test_calls_are_numbered_by_call_and_not_by_block() -> None:
    chunks = chunks_of(translated([UPSTREAM])[0])
    assert chunks[0].choices[0].delta.role == "assistant"
    calls: dict[int, list[str]] = {}
    for chunk in chunks:
        for fragment in chunk.choices[0].delta.tool_calls or () if chunk.choices else ():
            assert fragment.function is not None
            calls.setdefault(fragment.index, []).append(fragment.function.arguments or "")
    assert {index: "".join(parts) for index, parts in calls.items()} == {
        0: CALLS[0][2],
        1: CALLS[1][2],
    }
    assert chunks[-2].choices[0].finish_reason == "tool_calls"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.prompt_tokens == 42
    assert chunks[-1].usage.prompt_tokens_details is not None
    assert chunks[-1].usage.prompt_tokens_details.cached_tokens == 30


def test_a_single_call_where_only_one_is_wanted() -> None:
    out = translated([UPSTREAM], single_call=True)[0]
    assert CALLS[0][1].encode() in out
    assert CALLS[1][1].encode() not in out


@settings(max_examples=60, deadline=None)
@given(cuts=st.lists(st.integers(0, len(UPSTREAM)), max_size=12), newline=st.booleans())
def test_three_feeds(cuts: list[int], newline: bool) -> None:
    whole = translated([UPSTREAM])[0]
    data = UPSTREAM.replace(b"\n", b"\r\n") if newline else UPSTREAM
    edges = sorted({0, *cuts, len(data)})
    assert translated([data[a:b] for a, b in itertools.pairwise(edges)])[0] == whole
    assert translated([bytes([byte]) for byte in data])[0] == whole


@pytest.mark.row("3.6 An error event, or no stop reason")
@settings(max_examples=100, deadline=None)
@given(end=st.integers(0, len(UPSTREAM)))
def test_a_stream_that_ends_anywhere_ends_well_or_says_so(end: int) -> None:
    out, stream = translated([UPSTREAM[:end]])
    assert out.endswith(b"data: [DONE]\n\n") == (stream.failure is None)
    assert (stream.failure is None) == (end >= UPSTREAM.index(b"event: message_stop") - 2)


@pytest.mark.row(
    "3.6 Thinking",
    "3.6 Fragments are numbered by call, not by block",
    "3.6 pause_turn, stop_sequence and unknown reasons",
)
def test_a_whole_answer_and_its_stream_say_the_same() -> None:
    message = message_of(REQUEST, [], "tool_use")
    message["content"] = [
        {"type": "thinking", "thinking": THINKING, "signature": "s"},
        *({"type": "tool_use", "id": i, "name": n, "input": json.loads(a)} for i, n, a in CALLS),
    ]
    events = anthropic_upstream_answer.decode_body(json.dumps(message).encode())
    body = encode_completion(events, completion_id="c", model="m", created_at_s=1)
    answer = ChatCompletion.model_validate_json(body)
    said = answer.choices[0].message
    calls = [
        (c.id, c.function.name, json.loads(c.function.arguments))
        for c in said.tool_calls or ()
        if c.type == "function"
    ]
    assert calls == [(i, n, json.loads(a)) for i, n, a in CALLS]
    assert json.loads(body)["choices"][0]["message"]["reasoning_content"] == THINKING
    assert answer.choices[0].finish_reason == "tool_calls"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 49


@pytest.mark.row("3.6 pause_turn, stop_sequence and unknown reasons")
@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "content_filter"),
        ("tool_use", "stop"),  # without a call
        ("of_tomorrow", "stop"),
    ],
)
def test_stop_reasons(reason: str, finish: str) -> None:
    message = message_of(REQUEST, [text("".join(TEXT))], reason)
    events = anthropic_upstream_answer.decode_body(json.dumps(message).encode())
    body = json.loads(encode_completion(events, completion_id="c", model="m", created_at_s=1))
    assert body["choices"][0]["finish_reason"] == finish
    assert body["choices"][0]["message"]["content"] == "".join(TEXT)


@pytest.mark.row("3.6 An error event, or no stop reason")
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"type": "overloaded_error", "message": "Overloaded"}, "overloaded"),
        ({"type": "api_error", "message": "boom"}, "upstream"),
        ({"type": "x", "message": "prompt is too long: 9 tokens > 8 maximum"}, "context_overflow"),
    ],
)
def test_errors_in_a_stream(error: dict[str, str], kind: str) -> None:
    data = sse_of({"type": "error", "error": error})
    out, stream = translated(
        [UPSTREAM[: UPSTREAM.index(b"event: content_block_stop")], data, UPSTREAM]
    )
    assert stream.failure is not None
    assert stream.failure.kind == kind
    assert json.loads(out.split(b"data: ")[-1])["error"]["message"]


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"content": 1}', b"\xff"])
def test_what_is_no_message_is_the_upstreams_fault(body: bytes) -> None:
    with pytest.raises(UpstreamError):
        anthropic_upstream_answer.decode_body(body)


words = st.text(max_size=8)
pieces = st.one_of(
    st.builds(TextDelta, words),
    st.builds(ThinkingDelta, words),
    st.builds(ToolCallDelta, st.integers(0, 2), words),
    st.builds(UsageReport, st.builds(Usage, st.integers(0, 9), st.integers(0, 9))),
)


@settings(max_examples=150, deadline=None)
@given(middle=st.lists(pieces, max_size=12), ending=st.sampled_from(["end", "cut", "fail"]))
def test_from_the_hub_chunks_are_legal_and_lose_nothing(middle: list[Event], ending: str) -> None:
    events: list[Event] = [Start("x")]
    begun: set[int] = set()
    for event in middle:
        if isinstance(event, ToolCallDelta) and event.call not in begun:
            begun.add(event.call)
            events.append(ToolCallStart(event.call, f"id{event.call}", "f"))
        events.append(event)
    match ending:
        case "end":
            events += [Finish("end"), End()]
        case "fail":
            events.append(Failure("no"))
    stream = ChatStream(completion_id="c", model="m", created_at_s=1, request_id="r")
    out = b"".join(map(stream.feed, events))
    if ending != "end":
        assert (stream.failure is not None) == (ending == "fail")
        assert b"[DONE]" not in out
        return
    chunks = chunks_of(out)
    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert "".join(d.content or "" for d in deltas) == "".join(
        e.text for e in middle if isinstance(e, TextDelta)
    )
    for number in begun:
        got = "".join(
            (f.function.arguments or "") if f.function else ""
            for d in deltas
            for f in d.tool_calls or ()
            if f.index == number
        )
        given_ = [e.arguments for e in middle if isinstance(e, ToolCallDelta) and e.call == number]
        assert got == "".join(given_)
    assert [c.choices[0].finish_reason for c in chunks if c.choices[0].finish_reason] == [
        "tool_calls" if begun else "stop"
    ]


# --- passthrough ------------------------------------------------------------------------------


def relayed(pieces: list[bytes], *, is_opened: bool = False) -> tuple[bytes, Any]:
    relay = messages_relay.MessagesRelay(model="mine", request_id="r", is_opened=is_opened)
    return b"".join([*map(relay.feed, pieces), relay.finish()]), relay


@pytest.mark.row("3.6 The model's name")
def test_a_relayed_stream_changes_the_models_name_only() -> None:
    out, relay = relayed([UPSTREAM])
    assert out.split(b"\n\n")[1:] == UPSTREAM.split(b"\n\n")[1:]
    answer = anthropic_grammar.read(out)
    assert answer.is_stopped
    assert b'"model":"mine"' in out.split(b"\n\n")[0].replace(b'": "', b'":"')
    assert relay.usage == Usage(42, 7, 30)
    assert relay.failure is None
    assert relayed([bytes([byte]) for byte in UPSTREAM])[0] == out


def test_a_stream_that_we_have_opened_has_one_start() -> None:
    out, _ = relayed([UPSTREAM], is_opened=True)
    assert b"message_start" not in out


@settings(max_examples=80, deadline=None)
@given(end=st.integers(0, len(UPSTREAM)))
def test_a_relayed_stream_that_ends_anywhere_ends_well_or_says_so(end: int) -> None:
    out, relay = relayed([UPSTREAM[:end]])
    assert (b"event: error" in out) == (relay.failure is not None)
    assert (b"event: message_stop" in out) == (relay.failure is None)


@pytest.mark.row("3.6 The billing line (1.1)", "3.6 The model's name")
@pytest.mark.parametrize("reads", [True, False])
def test_the_billing_line(reads: bool) -> None:
    line = "x-anthropic-billing-header: a"
    facts = EngineFacts(reads_billing_line=reads)
    for system, kept in (
        ([text(line), text("Be kind.")], [text("Be kind.")]),
        (f"{line}\nBe kind.", "Be kind."),
        ([text("Be kind."), text(line)], [text("Be kind."), text(line)]),
    ):
        body = json.dumps({"model": "m", "system": system, "odd": 1}).encode()
        out = json.loads(messages_relay.relay_request(body, facts, MODEL))
        assert out == {"model": "claude", "system": system if reads else kept, "odd": 1}


@pytest.mark.row("3.6 The model's name")
def test_a_relayed_whole_answer() -> None:
    body = json.dumps(message_of(REQUEST, [text("hi")], "end_turn")).encode()
    out, usage = messages_relay.relay_body(body, "mine")
    assert json.loads(out) == {**json.loads(body), "model": "mine"}
    assert usage == Usage(42, 7, 30)
    with pytest.raises(UpstreamError):
        messages_relay.relay_body(b'{"type": "error", "error": {"message": "no"}}', "mine")
    with pytest.raises(UpstreamError):
        messages_relay.relay_body(b"no", "mine")
