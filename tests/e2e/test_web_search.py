"""Searches that clients leave to the server: run by the gateway, or refused so that they go on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from tests.support.claude_code import ClaudeCode
from tests.support.engine import Answer, FakeEngine, ToolCall, When
from tests.support.fake_search import KEY as SEARCH_KEY
from tests.support.fake_search import FakeSearch
from tests.support.gateway import Gateway

KEY = "dummy"
SEARCH = Answer(
    text="Let me look.",
    tool_calls=(ToolCall(name="web_search", arguments='{"query": "home port"}'),),
)
FOUND = Answer(text="It is where ships return.")
TOOL: Any = {"type": "web_search_20250305", "name": "web_search", "max_uses": 8}
FUNCTION: Any = {"name": "f", "input_schema": {"type": "object"}}
URLS = ["https://example.org/homeport", "https://docs.example.com/x"]
either = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


each_service = pytest.mark.parametrize("search", ["searxng", "brave", "tavily"], indirect=True)


@pytest.fixture
def search(request: pytest.FixtureRequest) -> Iterator[FakeSearch]:
    with FakeSearch(getattr(request, "param", "searxng")) as search:
        yield search


@pytest.fixture
def searching(engine: FakeEngine, search: FakeSearch, tmp_path: Path) -> Iterator[Gateway]:
    """The key stands in the environment, as users are told to."""
    config = tmp_path / "config.yaml"
    settings = {
        "models": {"fake": {"upstream": engine.base_url}},
        "default_model": "fake",
        "web_search": search.settings("os.environ/SEARCH_KEY"),
    }
    config.write_text(json.dumps(settings))
    with Gateway(tmp_path, "--config", str(config), env={"SEARCH_KEY": SEARCH_KEY}) as gateway:
        yield gateway
        gateway.assert_no_internal_error()
        output = gateway.output()
        assert "Traceback" not in output
        assert SEARCH_KEY not in output
        assert "home port" not in output


async def message(gateway: Gateway, *, stream: bool, **more: Any) -> anthropic.types.Message:
    arguments: dict[str, Any] = {
        "model": "fake",
        "max_tokens": 256,
        "messages": [{"role": "user", "content": "What is a home port?"}],
        "tools": [TOOL],
        **more,
    }
    async with anthropic.AsyncAnthropic(base_url=gateway.base_url, api_key=KEY) as client:
        if not stream:
            whole: anthropic.types.Message = await client.messages.create(**arguments)
            return whole
        async with client.messages.stream(**arguments) as answer:
            return await answer.get_final_message()


def blocks(answer: anthropic.types.Message) -> list[dict[str, Any]]:
    return [block.model_dump() for block in answer.content]


@each_service
@either
@pytest.mark.parametrize("choice", [{"type": "auto"}, {"type": "tool", "name": "web_search"}])
async def test_anthropic(
    searching: Gateway, engine: FakeEngine, search: FakeSearch, stream: bool, choice: Any
) -> None:
    engine.script(SEARCH, FOUND)
    answer = await message(searching, stream=stream, tool_choice=choice)
    found = blocks(answer)
    kinds = [block["type"] for block in found if block["type"] != "text"]
    assert kinds == ["server_tool_use", "web_search_tool_result"]
    call, result = (block for block in found if block["type"] != "text")
    assert (call["name"], call["input"]) == ("web_search", {"query": "home port"})
    assert call["id"] == result["tool_use_id"]
    assert call["id"].startswith("srvtoolu_")
    assert [page["url"] for page in result["content"]] == URLS
    assert result["content"][0]["title"] == "A home port"
    assert result["content"][0]["page_age"] == "2026-11-02"
    assert found[-1]["text"].endswith("It is where ships return.")
    assert answer.stop_reason == "end_turn"
    assert answer.usage.server_tool_use is not None
    assert answer.usage.server_tool_use.web_search_requests == 1
    if not stream:  # the SDK's stream helper keeps the fields that it knows
        assert len(answer.usage.model_dump()["iterations"]) == 2
    assert search.queries == ["home port"]
    first, second = (chat["body"] for chat in engine.chats())
    assert first["tool_choice"] == ("auto" if choice["type"] == "auto" else "required")
    assert second["tools"] == first["tools"]
    assert second.get("tool_choice", "auto") == "auto"
    assert second["messages"][: len(first["messages"])] == first["messages"]
    assert second["messages"][-2]["content"] == "Let me look."
    assert "Where ships return. & rest" in second["messages"][-1]["content"]
    assert "javascript" not in second["messages"][-1]["content"]


@each_service
@either
async def test_allowed_domains(searching: Gateway, engine: FakeEngine, stream: bool) -> None:
    engine.script(SEARCH, FOUND)
    answer = await message(
        searching, stream=stream, tools=[{**TOOL, "allowed_domains": ["example.com"]}]
    )
    pages = [b["content"] for b in blocks(answer) if b["type"] == "web_search_tool_result"]
    assert [page["url"] for page in pages[0]] == URLS[1:]


@each_service
@either
@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (401, b"no", "unavailable"),
        (429, b"no", "too_many_requests"),
        (200, b"<html>", "unavailable"),
    ],
    ids=["401", "429", "html"],
)
async def test_a_search_that_fails_is_told(
    searching: Gateway,
    engine: FakeEngine,
    search: FakeSearch,
    status: int,
    body: bytes,
    code: str,
    stream: bool,
) -> None:
    search.status, search.body = status, body
    engine.script(SEARCH, Answer(text="I do not know."))
    answer = await message(searching, stream=stream)
    result = next(b for b in blocks(answer) if b["type"] == "web_search_tool_result")
    assert result["content"]["error_code"] == code
    assert "Go on without it" in engine.chats()[1]["body"]["messages"][-1]["content"]
    assert answer.stop_reason == "end_turn"
    assert "search.failed" in searching.output()


@either
async def test_a_search_that_fails_is_told_to_responses_clients(
    searching: Gateway, engine: FakeEngine, search: FakeSearch, stream: bool
) -> None:
    search.status = 429
    engine.script(SEARCH, Answer(text="I do not know."))
    response = await respond(searching, stream=stream)
    assert [item.type for item in response.output] == ["message", "web_search_call", "message"]
    assert response.output[1].status == "failed"
    assert response.status == "completed"


@either
async def test_a_model_that_searches_without_end(
    searching: Gateway, engine: FakeEngine, search: FakeSearch, stream: bool
) -> None:
    engine.script(Answer(tool_calls=SEARCH.tool_calls, repeat=True))
    answer = await message(searching, stream=stream, tools=[{**TOOL, "max_uses": 2}])
    assert len(search.queries) == 2
    assert len(engine.chats()) <= 10
    errors = [
        b["content"]["error_code"]
        for b in blocks(answer)
        if b["type"] == "web_search_tool_result" and isinstance(b["content"], dict)
    ]
    assert set(errors) == {"max_uses_exceeded"}
    assert answer.stop_reason == "end_turn"


@either
async def test_calls_of_the_clients_own_tools_come_first(
    searching: Gateway, engine: FakeEngine, search: FakeSearch, stream: bool
) -> None:
    own = ToolCall(name="f", arguments="{}")
    engine.script(Answer(tool_calls=(*SEARCH.tool_calls, own)))
    answer = await message(searching, stream=stream, tools=[TOOL, FUNCTION])
    assert [b["name"] for b in blocks(answer) if b["type"] == "tool_use"] == ["f"]
    assert answer.stop_reason == "tool_use"
    assert search.queries == []


@either
async def test_without_a_service_the_client_is_told(
    gateway: Gateway, engine: FakeEngine, stream: bool
) -> None:
    answer = await message(gateway, stream=stream, tool_choice={"type": "any"})
    call, result, text = blocks(answer)
    assert call["input"] == {"query": "What is a home port?"}
    assert result["content"]["error_code"] == "unavailable"
    assert text["text"].startswith("Web search is not available")
    assert answer.stop_reason == "end_turn"
    assert engine.chats() == []


@either
async def test_without_a_service_other_tools_stay(
    gateway: Gateway, engine: FakeEngine, stream: bool
) -> None:
    engine.script(Answer(text="Hello"))
    await message(gateway, stream=stream, tools=[TOOL, FUNCTION])
    tools = engine.chats()[0]["body"]["tools"]
    assert [tool["function"]["name"] for tool in tools] == ["f"]


async def respond(
    gateway: Gateway, *, stream: bool, seen: list[str] | None = None, **more: Any
) -> Any:
    arguments: dict[str, Any] = {
        "model": "fake",
        "input": "What is a home port?",
        "tools": [{"type": "web_search"}],
        **more,
    }
    async with openai.AsyncOpenAI(base_url=f"{gateway.base_url}/v1", api_key=KEY) as client:
        if not stream:
            return await client.responses.create(**arguments)
        async with client.responses.stream(**arguments) as events:
            kinds = [event.type async for event in events]
            if seen is not None:
                seen += kinds
            return await events.get_final_response()


@either
@pytest.mark.parametrize("choice", ["required", {"type": "web_search_preview"}])
async def test_responses_may_force_a_search(
    searching: Gateway, engine: FakeEngine, search: FakeSearch, stream: bool, choice: Any
) -> None:
    engine.script(SEARCH, FOUND)
    response = await respond(searching, stream=stream, tool_choice=choice)
    assert search.queries == ["home port"]
    assert response.output_text.endswith("It is where ships return.")
    first, second = (chat["body"] for chat in engine.chats())
    assert first["tool_choice"] == "required"
    assert [tool["function"]["name"] for tool in first["tools"]] == ["web_search"]
    assert second.get("tool_choice", "auto") == "auto"


@either
@pytest.mark.parametrize("choice", ["required", {"type": "web_search_preview"}])
async def test_a_search_that_nobody_runs_cannot_be_forced(
    gateway: Gateway, engine: FakeEngine, stream: bool, choice: Any
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await respond(gateway, stream=stream, tool_choice=choice)
    assert caught.value.param == "tool_choice"
    assert "nobody here searches the web" in caught.value.message
    assert engine.chats() == []


@each_service
@either
async def test_responses(
    searching: Gateway, engine: FakeEngine, search: FakeSearch, stream: bool
) -> None:
    engine.script(SEARCH, FOUND)
    seen: list[str] = []
    response = await respond(searching, stream=stream, seen=seen)
    if stream:
        at = seen.index("response.web_search_call.in_progress")
        assert seen[at + 1 : at + 3] == [
            "response.web_search_call.searching",
            "response.web_search_call.completed",
        ]
    async with openai.AsyncOpenAI(base_url=f"{searching.base_url}/v1", api_key=KEY) as client:
        again = await client.responses.create(
            model="fake", input="Thanks", previous_response_id=response.id
        )
    assert [item.type for item in response.output] == ["message", "web_search_call", "message"]
    call = response.output[1]
    assert (call.status, call.action.query) == ("completed", "home port")
    assert [source.url for source in call.action.sources] == URLS
    assert response.output_text.endswith("It is where ships return.")
    assert again.status == "completed"
    assert search.queries == ["home port"]


@pytest.mark.claude_code
@pytest.mark.timeout(900)
@pytest.mark.parametrize("is_set_up", [True, False], ids=["searxng", "none"])
def test_claude_code_searches(
    claude: ClaudeCode,
    engine: FakeEngine,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    is_set_up: bool,
) -> None:
    gateway: Gateway = request.getfixturevalue("searching" if is_set_up else "gateway")
    ask = ToolCall(name="WebSearch", arguments=json.dumps({"query": "home port"}))
    engine.script(
        Answer(when=When(last_role="user", contains='"name": "WebSearch"'), tool_calls=(ask,)),
        Answer(when=When(contains='"name": "WebSearch"'), text="Done."),
        Answer(when=When(last_role="user", contains='"name": "web_search"'), **_said(SEARCH)),
        Answer(when=When(last_role="tool", contains='"name": "web_search"'), text="Ships return."),
    )
    run = claude.run(
        "What is a home port? Search the web.",
        base_url=gateway.base_url,
        folder=tmp_path_factory.mktemp("claude"),
        model="fake",
        options=("--allowedTools", "WebSearch"),
        env={"ENABLE_TOOL_SEARCH": "false"},
    )
    assert run.exit_status == 0, f"{run.stdout}\n{run.stderr}"
    assert run.retries == []
    assert run.text == "Done."
    (result,) = run.tool_results()
    if is_set_up:
        assert URLS[0] in result
        assert "Ships return." in result
    else:
        assert "not available" in result


def _said(answer: Answer) -> dict[str, Any]:
    return {"text": answer.text, "tool_calls": answer.tool_calls}
