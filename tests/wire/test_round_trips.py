"""Properties of whole requests: one dialect in and out keeps every field but the named; across dialects
text, tools, ids and order are kept, there and back again."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.engines import vllm
from homeport.facts import EngineFacts, ModelFacts
from homeport.wire import (
    anthropic,
    anthropic_upstream,
    messages_relay,
    openai_chat,
    openai_chat_neutral,
    openai_chat_upstream,
    openai_responses,
)
from tests.wire.cases import CASES
from tests.wire.test_requests import ANTHROPIC, OPENAI, name_of

Body = dict[str, Any]
MODEL = ModelFacts(name="local")
PLAIN = EngineFacts()
RESPONSES = sorted((CASES / "responses").glob("*/*.json"))

# --------------------------------------------------------------------------- one dialect in and out

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2)
    ),
    max_leaves=5,
)
CHAT_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "max_tokens": st.integers(1, 99),
    "max_completion_tokens": st.integers(1, 99),
    "temperature": st.floats(0, 2),
    "top_p": st.floats(0, 1),
    "n": st.just(1),
    "stop": st.text(min_size=1, max_size=3) | st.lists(st.text(min_size=1, max_size=3), max_size=4),
    "seed": st.integers(0, 99),
    "stream": st.booleans(),
    "parallel_tool_calls": st.booleans(),
    "response_format": st.just({"type": "json_object"}),
    "reasoning_effort": st.sampled_from(["low", "high"]),
    "logit_bias": st.dictionaries(st.sampled_from(["1", "2"]), st.integers(-9, 9)),
    "chat_template_kwargs": st.just({"enable_thinking": False}),
    "user": st.text(max_size=4),
    "something_new": json_values,
}


@settings(max_examples=150, deadline=None)
@given(
    fields=st.fixed_dictionaries({}, optional=CHAT_FIELDS), order=st.randoms(use_true_random=False)
)
def test_a_chat_request_keeps_every_field_in_its_place(fields: Body, order: Any) -> None:
    body = {**fields, "model": "m", "messages": [{"role": "user", "content": "q", "name": "x"}]}
    keys = list(body)
    order.shuffle(keys)
    raw = json.dumps({key: body[key] for key in keys}).encode()
    sent = json.loads(openai_chat.relay_request(raw, openai_chat.decode(raw), vllm.FACTS, MODEL))
    usage = {"stream_options": {"include_usage": True}} if body.get("stream") else {}
    assert sent == {**body, "model": "local", **usage}
    assert [key for key in sent if key in body] == keys


MESSAGES_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "temperature": st.floats(0, 1),
    "stop_sequences": st.lists(st.text(max_size=3), max_size=2),
    "system": st.text(max_size=6) | st.just([{"type": "text", "text": "s", "cache_control": {}}]),
    "metadata": st.just({"user_id": "u"}),
    "thinking": st.just({"type": "adaptive", "display": "omitted"}),
    "context_management": json_values,
    "something_new": json_values,
}


@settings(max_examples=120, deadline=None)
@given(fields=st.fixed_dictionaries({}, optional=MESSAGES_FIELDS))
def test_a_messages_request_keeps_every_field_in_its_place(fields: Body) -> None:
    body = {**fields, "model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "q"}]}
    sent = json.loads(messages_relay.relay_request(json.dumps(body).encode(), PLAIN, MODEL))
    assert sent == {**body, "model": "local"}
    assert list(sent) == list(body)


@pytest.mark.parametrize("path", ANTHROPIC, ids=name_of)
def test_recorded_requests_relayed_keep_every_field(path: Path) -> None:
    body = json.loads(path.read_bytes())
    facts = EngineFacts(reads_billing_line=True)
    sent = json.loads(messages_relay.relay_request(path.read_bytes(), facts, MODEL))
    assert sent == {**body, "model": "local"}
    assert list(sent) == list(body)


# --------------------------------------------------------------------------- across dialects


def blocks_in(messages: list[Body], kind: str) -> Iterator[Body]:
    for message in messages:
        if isinstance(message["content"], list):
            yield from (block for block in message["content"] if block["type"] == kind)


def said_in(value: Any) -> str:
    """All text of a body's messages, in order."""
    return json.dumps(value, ensure_ascii=False)


def assert_in_order(texts: list[str], said: str) -> None:
    at = -1
    for text in texts:
        found = said.find(json.dumps(text, ensure_ascii=False)[1:-1], at + 1)
        assert found > at, f"lost or out of order: {text[:60]!r}"
        at = found


def there_and_back(raw: bytes) -> tuple[Body, Body]:
    """An Anthropic request as a chat engine gets it, and that one as an Anthropic engine would."""
    chat = openai_chat_upstream.encode(anthropic.decode(raw, counting=True), PLAIN, MODEL)
    back = anthropic_upstream.encode(openai_chat_neutral.neutral(chat), PLAIN, MODEL)
    return json.loads(chat), json.loads(back)


def assert_same_conversation(body: Body, chat: Body, back: Body) -> None:
    used = list(blocks_in(body["messages"], "tool_use"))
    calls = [call for message in chat["messages"] for call in message.get("tool_calls", ())]
    again = list(blocks_in(back["messages"], "tool_use"))
    names = [(block["id"], block["name"]) for block in used]
    assert [(call["id"], call["function"]["name"]) for call in calls] == names
    assert [(block["id"], block["name"]) for block in again] == names
    for block, call, returned in zip(used, calls, again, strict=True):
        if isinstance(block["input"], dict) and "__unparsedToolInput" not in block["input"]:
            assert json.loads(call["function"]["arguments"]) == block["input"] == returned["input"]
    answered = [block["tool_use_id"] for block in blocks_in(body["messages"], "tool_result")]
    results = [m["tool_call_id"] for m in chat["messages"] if m["role"] == "tool"]
    assert results == answered
    returned_results = [b["tool_use_id"] for b in blocks_in(back["messages"], "tool_result")]
    assert returned_results == answered
    declared = [tool["function"]["name"] for tool in chat.get("tools", ())]
    assert [tool["name"] for tool in back.get("tools", ())] == declared
    schemas = [tool["function"]["parameters"] for tool in chat.get("tools", ())]
    assert [tool["input_schema"] for tool in back.get("tools", ())] == schemas


@pytest.mark.parametrize("path", ANTHROPIC, ids=name_of)
def test_recorded_requests_there_and_back(path: Path) -> None:
    body = json.loads(path.read_bytes())
    chat, back = there_and_back(path.read_bytes())
    assert_same_conversation(body, chat, back)
    texts = [
        block["text"] for block in blocks_in(body["messages"], "text") if block["text"].strip()
    ]
    for text in texts:
        assert json.dumps(text, ensure_ascii=False)[1:-1] in said_in(back["messages"])
    assert back.get("system") == next(
        (m["content"] for m in chat["messages"] if m["role"] == "system"), None
    )


@pytest.mark.parametrize("path", OPENAI, ids=name_of)
def test_recorded_chat_requests_are_accepted_by_an_anthropic_engine(path: Path) -> None:
    body = json.loads(path.read_bytes())
    sent = json.loads(
        anthropic_upstream.encode(openai_chat_neutral.neutral(path.read_bytes()), PLAIN, MODEL)
    )
    texts = [m["content"] for m in body["messages"] if isinstance(m.get("content"), str)]
    assert_in_order([text for text in texts if text.strip()], said_in(sent))
    names = [tool["function"]["name"] for tool in body.get("tools", ())]
    assert [tool["name"] for tool in sent.get("tools", ())] == names


@pytest.mark.parametrize("path", RESPONSES, ids=name_of)
def test_recorded_responses_requests_by_way_of_chat(path: Path) -> None:
    """The hub's request, written as chat and read again, is the hub's request."""
    wire = openai_responses.decode(path.read_bytes())
    found = openai_responses.neutral(wire, openai_responses.entries_of(wire, lambda _: None))
    chat = openai_chat_upstream.encode(found.request, PLAIN, MODEL)
    again = openai_chat_neutral.neutral(chat)
    assert (
        json.loads(openai_chat_upstream.encode(again, PLAIN, MODEL))["messages"]
        == (json.loads(chat)["messages"])
    )
    assert [(t.name, json.loads(t.schema)) for t in again.tools] == [
        (t.name, json.loads(t.schema)) for t in found.request.tools
    ]


words = st.text(st.sampled_from('abcé東🦙 \n"\\'), max_size=5)
arguments = st.dictionaries(st.sampled_from("abc"), words | st.integers(), max_size=2)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[list[Body], list[str]]:
    """Turns as agents have them, and all texts in their order. Each text is its own."""
    messages: list[Body] = []
    texts: list[str] = []

    def text(mark: str) -> str:
        texts.append(f"{mark}{len(texts)}.{draw(words)}!")
        return texts[-1]

    def block(mark: str) -> Body:
        return {"type": "text", "text": text(mark)}

    for turn in range(draw(st.integers(1, 4))):
        messages.append(
            {"role": "user", "content": [block("u") for _ in range(draw(st.integers(1, 2)))]}
        )
        said = [block("a") for _ in range(draw(st.integers(0, 1)))]
        calls = [
            {"type": "tool_use", "id": f"id_{turn}_{i}", "name": "f", "input": draw(arguments)}
            for i in range(draw(st.integers(0 if said else 1, 3)))
        ]
        messages.append({"role": "assistant", "content": [*said, *calls]})
        if calls:
            results = [
                {"type": "tool_result", "tool_use_id": call["id"], "content": text("r")}
                for call in calls
            ]
            messages.append({"role": "user", "content": results})
    if messages[-1]["role"] == "assistant":
        messages.append({"role": "user", "content": [block("u")]})
    return messages, texts


TOOL = {"name": "f", "input_schema": {"type": "object", "properties": {"b": {}, "a": {}}}}


@settings(max_examples=120, deadline=None)
@given(conversations())
def test_any_conversation_there_and_back(made: tuple[list[Body], list[str]]) -> None:
    messages, texts = made
    body = {"model": "m", "max_tokens": 9, "messages": messages, "tools": [TOOL], "system": "S!"}
    chat, back = there_and_back(json.dumps(body).encode())
    assert_same_conversation(body, chat, back)
    assert_in_order(texts, said_in(chat["messages"]))
    assert_in_order(texts, said_in(back["messages"]))
    assert back["system"] == chat["messages"][0]["content"] == "S!"
    assert back["messages"][0]["role"] == "user"


def as_items(messages: list[Body]) -> list[Body]:
    """The same conversation as items of the Responses API."""
    items: list[Body] = []
    for message in messages:
        for block in message["content"]:
            match block["type"]:
                case "text":
                    kind = "output_text" if message["role"] == "assistant" else "input_text"
                    content = [{"type": kind, "text": block["text"]}]
                    items.append({"type": "message", "role": message["role"], "content": content})
                case "tool_use":
                    call = {"call_id": block["id"], "name": block["name"]}
                    text = json.dumps(block["input"], ensure_ascii=False)
                    items.append({"type": "function_call", **call, "arguments": text})
                case _:
                    result = {"call_id": block["tool_use_id"], "output": block["content"]}
                    items.append({"type": "function_call_output", **result})
    return items


@settings(max_examples=120, deadline=None)
@given(conversations())
def test_any_conversation_is_the_same_to_an_engine_in_either_api(
    made: tuple[list[Body], list[str]],
) -> None:
    messages, texts = made
    asked = {"model": "m", "max_tokens": 9, "messages": messages, "system": "S!"}
    as_messages = openai_chat_upstream.encode(
        anthropic.decode(json.dumps(asked).encode()), PLAIN, MODEL
    )
    asked = {"model": "m", "input": as_items(messages), "instructions": "S!"}
    wire = openai_responses.decode(json.dumps(asked).encode())
    found = openai_responses.neutral(wire, openai_responses.entries_of(wire, lambda _: None))
    as_responses = openai_chat_upstream.encode(found.request, PLAIN, MODEL)
    theirs, ours = (json.loads(sent)["messages"] for sent in (as_messages, as_responses))
    for message in (*theirs, *ours):
        for call in message.get("tool_calls", ()):
            call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    assert ours == theirs
    assert_in_order(texts, said_in(ours))
