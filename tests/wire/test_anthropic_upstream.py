"""docs/dialects.md 3.6: a Chat Completions request to an Anthropic upstream, and its answer back."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from homeport.errors import ClientError, UpstreamError
from homeport.facts import EngineFacts, ModelFacts
from homeport.wire import anthropic_upstream, messages_relay, openai_chat_neutral
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

FACTS = EngineFacts(token_count="messages", replays_thinking=False)
MODEL = ModelFacts(name="claude")
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}


def sent(
    *messages: dict[str, Any], facts: EngineFacts = FACTS, model: ModelFacts = MODEL, **fields: Any
) -> Any:
    """What the upstream is sent for a client's request."""
    chat = {"messages": list(messages) or [user("hi")], **fields}
    request = openai_chat_neutral.neutral(json.dumps(chat).encode())
    return json.loads(anthropic_upstream.encode(request, facts, model))


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def call(id_: str, arguments: str, name: str = "weather") -> dict[str, Any]:
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}


def text(value: str) -> dict[str, str]:
    return {"type": "text", "text": value}


# --- the request ------------------------------------------------------------------------------


@pytest.mark.row("3.6 Leading system and developer messages")
def test_leading_instructions_are_the_system_prompt() -> None:
    body = sent(
        {"role": "system", "content": "One."}, {"role": "developer", "content": "Two."}, user("hi")
    )
    assert body["system"] == "One.\n\nTwo."
    assert body["messages"] == [user([text("hi")])]


@pytest.mark.row("3.6 Leading system and developer messages")
def test_later_instructions_stay_in_place() -> None:
    body = sent(user("hi"), {"role": "system", "content": "Be brief."}, user("again"))
    assert "system" not in body
    texts = [block["text"] for block in body["messages"][0]["content"]]
    assert texts == ["hi", "<system>\nBe brief.\n</system>", "again"]


@pytest.mark.row("3.6 Tool messages")
def test_results_stand_in_one_user_turn_behind_their_calls() -> None:
    body = sent(
        user("hi"),
        {"role": "assistant", "content": None, "tool_calls": [call("a", "{}"), call("b", "{}")]},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
        {"role": "tool", "tool_call_id": "b", "content": [text("2")]},
        user("go on"),
    )
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    assert body["messages"][2]["content"] == [
        {"type": "tool_result", "tool_use_id": "a", "content": "1"},
        {"type": "tool_result", "tool_use_id": "b", "content": "2"},
        text("go on"),
    ]


@pytest.mark.row("3.6 Arguments text")
@pytest.mark.parametrize(
    ("arguments", "input_"),
    [
        ('{"city":"Oslo"}', {"city": "Oslo"}),
        ("", {}),
        ("{broken", {"__raw_arguments": "{broken"}),
        ("[1]", {"__raw_arguments": "[1]"}),
    ],
)
def test_arguments_are_an_object(arguments: str, input_: dict[str, Any]) -> None:
    body = sent(
        user("hi"),
        {"role": "assistant", "content": "So:", "tool_calls": [call("a b", arguments)]},
        {"role": "tool", "tool_call_id": "a b", "content": "1"},
    )
    assert body["messages"][1]["content"] == [
        text("So:"),
        {"type": "tool_use", "id": "a_b", "name": "weather", "input": input_},
    ]
    assert body["messages"][2]["content"][0]["tool_use_id"] == "a_b"


@pytest.mark.row("3.6 Tool messages")
def test_an_unanswered_call_is_answered() -> None:
    body = sent(user("hi"), {"role": "assistant", "tool_calls": [call("a", "{}")]}, user("well?"))
    assert body["messages"][2]["content"][0]["type"] == "tool_result"
    assert body["messages"][2]["content"][0]["is_error"] is True


@pytest.mark.row("3.6 image_url")
@pytest.mark.parametrize(
    ("url", "source"),
    [
        (
            "data:image/jpeg;base64,QUJD",
            {"type": "base64", "media_type": "image/jpeg", "data": "QUJD"},
        ),
        ("https://example.org/a.png", {"type": "url", "url": "https://example.org/a.png"}),
    ],
)
def test_images(url: str, source: dict[str, str]) -> None:
    body = sent(user([text("see"), {"type": "image_url", "image_url": {"url": url}}]))
    assert body["messages"][0]["content"] == [text("see"), {"type": "image", "source": source}]


@pytest.mark.row("3.6 tools")
@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (None, {"type": "auto"}),
        ("auto", {"type": "auto"}),
        ("none", {"type": "none"}),
        ("required", {"type": "any"}),
        (
            {"type": "function", "function": {"name": "weather"}},
            {"type": "tool", "name": "weather"},
        ),
    ],
)
def test_tool_choice(choice: Any, said: dict[str, Any]) -> None:
    body = sent(tools=[TOOL], tool_choice=choice)
    assert body["tool_choice"] == said
    assert body["tools"] == [{"name": "weather", "input_schema": SCHEMA}]
    single = sent(tools=[TOOL], tool_choice=choice, parallel_tool_calls=False)["tool_choice"]
    if choice != "none":
        assert single == {**said, "disable_parallel_tool_use": True}


@pytest.mark.row("3.6 tools")
def test_a_tool_without_arguments_has_a_schema_all_the_same() -> None:
    body = sent(tools=[{"type": "function", "function": {"name": "now", "strict": True}}])
    schema = {"type": "object", "properties": {}}
    assert body["tools"] == [{"name": "now", "input_schema": schema, "strict": True}]


def test_an_unknown_tool_cannot_be_chosen() -> None:
    with pytest.raises(ClientError, match="no tool is called 'x'"):
        sent(tools=[TOOL], tool_choice={"type": "function", "function": {"name": "x"}})


@pytest.mark.row("3.6 max_completion_tokens, max_tokens")
@pytest.mark.parametrize(
    ("fields", "model", "limit"),
    [
        ({}, MODEL, anthropic_upstream.DEFAULT_MAX_TOKENS),
        ({}, ModelFacts(name="m", output_tokens=4096), 4096),
        ({}, ModelFacts(name="m", context_tokens=2000), 1000),
        ({"max_tokens": 5}, MODEL, 5),
        ({"max_completion_tokens": 6, "max_tokens": 5}, MODEL, 6),
        ({"max_tokens": 99999}, ModelFacts(name="m", output_tokens=4096), 4096),
    ],
)
def test_max_tokens(fields: dict[str, Any], model: ModelFacts, limit: int) -> None:
    assert sent(model=model, **fields)["max_tokens"] == limit


@pytest.mark.row("3.6 max_completion_tokens, max_tokens", "3.6 response_format with a schema")
@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"stop": "END"}, {"stop_sequences": ["END"]}),
        ({"stop": ["A", ""]}, {"stop_sequences": ["A"]}),
        ({"temperature": 1.7, "top_p": 0.5}, {"temperature": 1.0, "top_p": 0.5}),
        ({"reasoning_effort": "minimal"}, {"output_config": {"effort": "low"}}),
        ({"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}),
        (
            {"thinking_budget_tokens": 2000},
            {"thinking": {"type": "enabled", "budget_tokens": 2000}},
        ),
        (
            {"thinking_budget_tokens": 2000, "max_tokens": 1500},
            {"thinking": {"type": "enabled", "budget_tokens": 1499}},
        ),
        (
            {"chat_template_kwargs": {"enable_thinking": True}},
            {"thinking": {"type": "adaptive"}},
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}},
            {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
        ),
        ({"response_format": {"type": "json_object"}}, {}),
        ({"seed": 1, "user": "u", "logit_bias": {}, "n": 1, "logprobs": False}, {}),
    ],
)
def test_fields(fields: dict[str, Any], said: dict[str, Any]) -> None:
    plain = sent(**({"max_tokens": fields["max_tokens"]} if "max_tokens" in fields else {}))
    assert sent(**fields) == {**plain, **said}


@pytest.mark.row("3.6 n above 1, logprobs, audio, functions, custom tools", "3.6 image_url")
@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"modalities": ["audio"]}, "modalities"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"tools": [{"type": "custom", "custom": {"name": "c"}}]}, "tools.0.type"),
        ({"messages": [{"role": "function", "content": ""}]}, "messages.0.role"),
        ({"messages": [user([{"type": "input_audio"}])]}, "messages.0.content.0.type"),
        ({"messages": [{"role": "tool", "content": ""}]}, "messages.0.tool_call_id"),
        ({"messages": 1}, "messages"),
    ],
)
def test_what_cannot_be_said_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    body = json.dumps({"messages": [user("hi")], **fields}).encode()
    with pytest.raises(ClientError) as refused:
        openai_chat_neutral.neutral(body)
    assert refused.value.param == param


@pytest.mark.row("3.6 reasoning_content, reasoning")
@pytest.mark.parametrize("replays", [True, False])
def test_thinking_goes_back_only_where_it_is_taken(replays: bool) -> None:
    said = {"role": "assistant", "content": "Yes.", "reasoning_content": "Hm."}
    body = sent(user("hi"), said, user("so"), facts=EngineFacts(replays_thinking=replays))
    kinds = [block["type"] for block in body["messages"][1]["content"]]
    assert kinds == (["thinking", "text"] if replays else ["text"])


@pytest.mark.row("3.6 Text without any letter in it, and turns without a block, are left out")
def test_an_answer_that_has_begun_ends_without_white_space() -> None:
    body = sent(user("hi"), {"role": "assistant", "content": "It is \n"})
    assert body["messages"][1]["content"] == [text("It is")]
    body = sent(user("hi"), {"role": "assistant", "content": " \n"})
    assert len(body["messages"]) == 1


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
    stream = FromChat(out, None, anthropic_upstream.Decoder())
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
    events = anthropic_upstream.decode_body(json.dumps(message).encode())
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
    events = anthropic_upstream.decode_body(json.dumps(message).encode())
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
        anthropic_upstream.decode_body(body)


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
