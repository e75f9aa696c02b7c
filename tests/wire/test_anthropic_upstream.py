"""docs/dialects.md 3.6: a Chat Completions request to an Anthropic upstream, and its answer back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from homeport.errors import ClientError
from homeport.facts import EngineFacts, ModelFacts
from homeport.wire import anthropic_upstream, openai_chat_neutral

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
