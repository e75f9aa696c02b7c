"""``max_tools``: the model sees few tools, asks for others, and calls them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from tests.support.engine import Answer, FakeEngine, ToolCall
from tests.support.gateway import Gateway

NAMES = ["read_file", "send_email", "weather", "list_files"]
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
ASKS = Answer(tool_calls=(ToolCall(name="find_tools", arguments='{"query":"weather"}'),))
CALLS = Answer(tool_calls=(ToolCall(name="weather", arguments='{"a":"Tokyo"}'),))
either = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


@pytest.fixture
def slim(engine: FakeEngine, tmp_path: Path) -> Iterator[Gateway]:
    config = tmp_path / "config.yaml"
    config.write_text(f"models: {{fake: {{upstream: '{engine.base_url}', max_tools: 2}}}}\n")
    with Gateway(tmp_path, "--config", str(config)) as gateway:
        yield gateway
        gateway.assert_no_internal_error()


def shown(engine: FakeEngine) -> list[list[str]]:
    bodies = (chat["body"] for chat in engine.chats())
    return [[tool["function"]["name"] for tool in body["tools"]] for body in bodies]


@either
async def test_anthropic(slim: Gateway, engine: FakeEngine, stream: bool) -> None:
    engine.script(ASKS, CALLS)
    arguments: dict[str, Any] = {
        "model": "fake",
        "max_tokens": 64,
        "messages": [{"role": "user", "content": "Read my files"}],
        "tools": [{"name": name, "input_schema": SCHEMA} for name in NAMES],
    }
    async with anthropic.AsyncAnthropic(base_url=slim.base_url, api_key="x") as client:
        if stream:
            async with client.messages.stream(**arguments) as events:
                answer = await events.get_final_message()
        else:
            answer = await client.messages.create(**arguments)
    [call] = answer.content
    assert (call.type, getattr(call, "name", "")) == ("tool_use", "weather")
    assert answer.stop_reason == "tool_use"
    assert shown(engine) == [
        ["find_tools", "read_file", "list_files"],
        ["find_tools", "read_file", "list_files", "weather"],
    ]
    last = engine.chats()[1]["body"]["messages"][-1]
    assert last["content"] == "These tools can be called now: weather"


@either
async def test_responses(slim: Gateway, engine: FakeEngine, stream: bool) -> None:
    engine.script(ASKS, CALLS)
    arguments: dict[str, Any] = {
        "model": "fake",
        "input": "Read my files",
        "tools": [{"type": "function", "name": name, "parameters": SCHEMA} for name in NAMES],
    }
    async with openai.AsyncOpenAI(base_url=f"{slim.base_url}/v1", api_key="x") as client:
        if stream:
            async with client.responses.stream(**arguments) as events:
                async for _ in events:
                    pass
                response: Any = await events.get_final_response()
        else:
            response = await client.responses.create(**arguments)
    assert [(item.type, item.name) for item in response.output] == [("function_call", "weather")]


def chat(**fields: Any) -> dict[str, Any]:
    functions = [{"name": name, "parameters": SCHEMA} for name in NAMES]
    return {
        "model": "fake",
        "messages": [{"role": "user", "content": "Read my files", "name": "me"}],
        "tools": [{"type": "function", "function": function} for function in functions],
        **fields,
    }


@either
@pytest.mark.parametrize("as_text", [False, True], ids=["call", "text"])
async def test_chat(slim: Gateway, engine: FakeEngine, stream: bool, as_text: bool) -> None:
    text = '<tool_call>{"name": "find_tools", "arguments": {"query": "weather"}}</tool_call>'
    engine.script(Answer(text=text) if as_text else replace(ASKS, text="Hm."), CALLS)
    arguments = chat(seed=5, presence_penalty=0.5)
    async with openai.AsyncOpenAI(base_url=f"{slim.base_url}/v1", api_key="x") as client:
        if stream:
            async with client.chat.completions.stream(**arguments) as events:
                async for _ in events:
                    pass
                answer: Any = await events.get_final_completion()
        else:
            answer = await client.chat.completions.create(**arguments)
    [choice] = answer.choices
    [call] = choice.message.tool_calls
    assert (call.function.name, call.function.arguments) == ("weather", '{"a":"Tokyo"}')
    assert choice.finish_reason == "tool_calls"
    assert choice.message.role == "assistant"
    assert (choice.message.content or "") == ("" if as_text else "Hm.")
    assert shown(engine) == [
        ["find_tools", "read_file", "list_files"],
        ["find_tools", "read_file", "list_files", "weather"],
    ]
    first, second = (exchange["body"] for exchange in engine.chats())
    assert first["messages"] == arguments["messages"]
    assert second["messages"][:1] == first["messages"]
    assert [m["role"] for m in second["messages"][1:]] == ["assistant", "tool"]
    assert second["messages"][-1]["content"] == "These tools can be called now: weather"
    assert (second["seed"], second["presence_penalty"]) == (5, 0.5)


@pytest.mark.parametrize("more", [{"n": 2}, {"logprobs": True}, {"tool_choice": "none"}])
async def test_chat_requests_that_are_not_translated(
    slim: Gateway, engine: FakeEngine, more: dict[str, Any]
) -> None:
    engine.script(Answer(text="Hello"))
    async with openai.AsyncOpenAI(base_url=f"{slim.base_url}/v1", api_key="x") as client:
        answer = await client.chat.completions.create(**chat(**more))
    assert answer.choices[0].message.content == "Hello"
    [names] = shown(engine)
    assert names == (["find_tools", "read_file", "list_files"] if "tool_choice" in more else NAMES)


async def test_chat_requests_with_few_tools_pass(slim: Gateway, engine: FakeEngine) -> None:
    engine.script(Answer(text="<think>Hm.</think>Hello"))
    arguments = chat()
    arguments["tools"] = arguments["tools"][:2]
    async with openai.AsyncOpenAI(base_url=f"{slim.base_url}/v1", api_key="x") as client:
        answer = await client.chat.completions.create(**arguments)
    assert answer.choices[0].message.content == "<think>Hm.</think>Hello"
    assert shown(engine) == [NAMES[:2]]


@either
async def test_a_model_that_asks_without_end(
    slim: Gateway, engine: FakeEngine, stream: bool
) -> None:
    engine.script(Answer(tool_calls=ASKS.tool_calls, repeat=True))
    async with anthropic.AsyncAnthropic(base_url=slim.base_url, api_key="x") as client:
        arguments: dict[str, Any] = {
            "model": "fake",
            "max_tokens": 64,
            "messages": [{"role": "user", "content": "Read my files"}],
            "tools": [{"name": name, "input_schema": SCHEMA} for name in NAMES],
        }
        if stream:
            async with client.messages.stream(**arguments) as events:
                answer = await events.get_final_message()
        else:
            answer = await client.messages.create(**arguments)
    assert answer.stop_reason == "end_turn"
    assert 2 < len(engine.chats()) < 8
