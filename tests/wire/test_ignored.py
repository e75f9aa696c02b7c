"""What an engine would take and not do: whoever asks for it is told so, in each dialect."""

import json
from typing import Any

import pytest

from homeport.engines import llamacpp, mlx, ollama
from homeport.errors import ClientError
from homeport.facts import EngineFacts, ModelFacts
from homeport.wire import anthropic, openai_chat, openai_chat_upstream, openai_responses

MODEL = ModelFacts(name="local", context_tokens=4096)
EXTENDED = mlx.extended(
    mlx.FACTS, {"homeport": {"counts": True, "forces_calls": True, "aborts": True}}
)
"""MLX as homeport starts it."""
CITY = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": CITY}}
USER = [{"role": "user", "content": "Hello"}]


def relayed(engine: EngineFacts, **fields: Any) -> Any:
    body = json.dumps({"model": "m", "messages": USER, **fields}).encode()
    return json.loads(openai_chat.relay_request(body, openai_chat.decode(body), engine, MODEL))


def translated(engine: EngineFacts, **fields: Any) -> Any:
    body = json.dumps({"model": "m", "max_tokens": 8, "messages": USER, **fields}).encode()
    return json.loads(openai_chat_upstream.encode(anthropic.decode(body), engine, MODEL))


def responded(engine: EngineFacts, **fields: Any) -> Any:
    wire = openai_responses.decode(json.dumps({"model": "m", "input": "Hello", **fields}).encode())
    entries = openai_responses.entries_of(wire, lambda item_id: None)
    request = openai_responses.neutral(wire, entries).request
    return json.loads(openai_chat_upstream.encode(request, engine, MODEL))


CHOICES = ["required", {"type": "function", "function": {"name": "f"}}]


@pytest.mark.row("3.1 tool_choice … any, tool, engine ignores tool_choice")
def test_a_tool_that_must_be_called() -> None:
    for choice in CHOICES:
        with pytest.raises(ClientError, match="cannot be made to call") as refused:
            relayed(mlx.FACTS, tools=[TOOL], tool_choice=choice)
        assert refused.value.param == "tool_choice"
        assert relayed(EXTENDED, tools=[TOOL], tool_choice=choice)["tool_choice"] == choice
        assert relayed(ollama.FACTS, tools=[TOOL], tool_choice=choice)["tools"] == [TOOL]
    tools = [{"name": "f", "input_schema": CITY}]
    for mode in ({"type": "any"}, {"type": "tool", "name": "f"}):
        with pytest.raises(ClientError, match="cannot be made to call"):
            translated(mlx.FACTS, tools=tools, tool_choice=mode)
    assert translated(EXTENDED, tools=tools, tool_choice=mode)["tool_choice"] == CHOICES[1]
    flat = [{"type": "function", "name": "f", "parameters": CITY}]
    with pytest.raises(ClientError, match="cannot be made to call"):
        responded(mlx.FACTS, tools=flat, tool_choice="required")


@pytest.mark.parametrize("choice", ["auto", None])
def test_a_tool_that_may_be_called(choice: str | None) -> None:
    chosen = {} if choice is None else {"tool_choice": choice}
    assert relayed(mlx.FACTS, tools=[TOOL], **chosen)["tools"] == [TOOL]
    assert relayed(mlx.FACTS, tool_choice="required") is not None, "of no tools"


@pytest.mark.parametrize("engine", [mlx.FACTS, ollama.FACTS], ids=lambda facts: facts.engine)
def test_a_tool_that_must_not_be_called_is_not_shown(engine: EngineFacts) -> None:
    sent = relayed(engine, tools=[TOOL], tool_choice="none")
    assert "tools" not in sent
    assert "tool_choice" not in sent
    assert relayed(EXTENDED, tools=[TOOL], tool_choice="none")["tools"] == [TOOL]


@pytest.mark.row("3.1 output_config.format … engine ignores it")
@pytest.mark.parametrize("engine", [mlx.FACTS, EXTENDED], ids=["plain", "extended"])
def test_an_answer_that_must_obey_a_schema(engine: EngineFacts) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "c", "schema": CITY}}
    with pytest.raises(ClientError, match="to a schema") as refused:
        relayed(engine, response_format=schema)
    assert refused.value.param == "response_format"
    flat = {"type": "json_schema", "schema": CITY}
    with pytest.raises(ClientError, match="to a schema"):
        translated(engine, output_config={"format": flat})
    with pytest.raises(ClientError, match="to a schema"):
        responded(engine, text={"format": {**flat, "name": "c"}})
    assert relayed(llamacpp.FACTS, response_format=schema)["response_format"] == schema
    # Any JSON: its clients have to ask for it in words, too.
    assert relayed(engine, response_format={"type": "json_object"})
    assert responded(engine, text={"format": {"type": "json_object"}})


def test_several_answers() -> None:
    with pytest.raises(ClientError, match="one answer at a time") as refused:
        relayed(mlx.FACTS, n=2)
    assert refused.value.param == "n"
    assert relayed(mlx.FACTS, n=1)["n"] == 1
    assert relayed(llamacpp.FACTS, n=2)["n"] == 2


@pytest.mark.parametrize(
    ("props", "expected"),
    [
        ({}, mlx.FACTS),
        ({"homeport": None}, mlx.FACTS),
        ({"homeport": {}}, mlx.FACTS),
        ({"homeport": {"counts": 1, "forces_calls": "yes", "aborts": None}}, mlx.FACTS),
    ],
)
def test_a_server_that_tells_no_additions(props: dict[str, Any], expected: EngineFacts) -> None:
    assert mlx.extended(mlx.FACTS, props) == expected
