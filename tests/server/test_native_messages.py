"""Passthrough per feature: which requests of an Anthropic client go to an engine's own /v1/messages."""

from __future__ import annotations

import json
from typing import Any

import pytest

from homeport.facts import Endpoint, EngineFacts, Feature, ModelFacts
from homeport.server.calls import CHAT_PATH, AnthropicCall
from homeport.wire.anthropic_upstream import MESSAGES_PATH

TOOL = {"name": "f", "input_schema": {"type": "object"}}
IMAGE = {"type": "image", "source": {"type": "url", "url": "http://h/a.png"}}
USED = {"type": "tool_use", "id": "a", "name": "f", "input": {}}


def asked(right: set[Feature] | None, **fields: Any) -> tuple[str, Any]:
    """The route and the body for a request to an engine with such a record."""
    messages = [{"role": "user", "content": "hi"}]
    body = {"model": "m", "max_tokens": 9, "messages": messages, "odd": 1, **fields}
    facts = EngineFacts(native_messages=None if right is None else frozenset(right))
    endpoint = Endpoint(base_url="http://h/v1", engine=facts, model=ModelFacts(name="real"))
    call = AnthropicCall(json.dumps(body).encode())
    sent = json.loads(call.engine_body(endpoint))
    assert call.wants_count is (call.path == CHAT_PATH)
    return call.path, sent


def result(**fields: Any) -> list[dict[str, Any]]:
    block = {"type": "tool_result", "tool_use_id": "a", "content": "x", **fields}
    return [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [USED]},
        {"role": "user", "content": [block]},
    ]


@pytest.mark.parametrize(
    ("feature", "fields"),
    [
        ("stream", {"stream": True}),
        ("tools", {"tools": [TOOL]}),
        ("stop_sequences", {"stop_sequences": ["x"]}),
        ("thinking", {"thinking": {"type": "disabled"}}),
        ("thinking", {"output_config": {"effort": "low"}}),
        ("schema", {"output_config": {"format": {"type": "json_schema", "schema": {}}}}),
        ("images", {"messages": [{"role": "user", "content": [IMAGE]}]}),
        ("tools", {"messages": result()}),
        (
            "prefill",
            {
                "messages": [
                    {"role": "user", "content": "hi"},
                    {"role": "assistant", "content": "It"},
                ]
            },
        ),
        (
            "system_inside",
            {
                "messages": [
                    {"role": "user", "content": "hi"},
                    {"role": "system", "content": "x"},
                    {"role": "user", "content": "so"},
                ]
            },
        ),
    ],
)
def test_a_request_passes_only_where_all_that_it_asks_for_is_right(
    feature: Feature, fields: dict[str, Any]
) -> None:
    path, sent = asked({feature}, **fields)
    assert path == MESSAGES_PATH
    assert sent["odd"] == 1
    assert sent["model"] == "real"
    assert asked(set(), **fields)[0] == CHAT_PATH
    assert asked(None, **fields)[0] == CHAT_PATH


@pytest.mark.parametrize(
    ("needed", "fields"),
    [
        ({"tools", "tool_choice"}, {"tools": [TOOL], "tool_choice": {"type": "any"}}),
        (
            {"tools", "tool_choice"},
            {
                "tools": [TOOL],
                "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
            },
        ),
        ({"tools", "tool_errors"}, {"messages": result(is_error=True)}),
        ({"tools", "tool_images"}, {"messages": result(content=[IMAGE])}),
    ],
)
def test_all_of_several_features_are_needed(needed: set[Feature], fields: dict[str, Any]) -> None:
    assert asked(needed, **fields)[0] == MESSAGES_PATH
    for missing in needed:
        assert asked(needed - {missing}, **fields)[0] == CHAT_PATH


def test_plain_text_needs_a_record() -> None:
    assert asked(set())[0] == MESSAGES_PATH
    path, sent = asked(None)
    assert path == CHAT_PATH
    assert "odd" not in sent


def test_a_count_is_of_the_chat() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "odd": 1}
    facts = EngineFacts(native_messages=frozenset())
    endpoint = Endpoint(base_url="http://h/v1", engine=facts, model=ModelFacts(name="real"))
    call = AnthropicCall(json.dumps(body).encode(), counting=True)
    assert "odd" not in json.loads(call.engine_body(endpoint))
    assert call.path == CHAT_PATH
