"""What is done about an engine's answer on its way to a translated client: texts that are calls, one
more try, searches, and the search for tools. The engine's events are said here; no HTTP."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest

from homeport.facts import Endpoint, EngineFacts, ModelFacts
from homeport.server.calls import ChatCall
from homeport.server.mending import Mending
from homeport.wire import slimming, web_search
from homeport.wire.events import (
    End,
    Event,
    Finish,
    Request,
    SearchHit,
    SearchWish,
    Text,
    TextDelta,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    ToolChoice,
    ToolResult,
    Turn,
    WebSearch,
)

ENDPOINT = Endpoint(base_url="http://x/v1", engine=EngineFacts(), model=ModelFacts(name="m"))
HERMES = '<tool_call>{"name": "get", "arguments": {}}</tool_call>'
UNKNOWN = HERMES.replace("get", "launch")
TOOLS = tuple(Tool(name, b"{}") for name in ("get", "put", "read_file", "weather"))
HI = (Turn("user", (Text("Read it"),)),)


class Searcher:
    """Finds one page for everything, and remembers what was searched for."""

    def __init__(self) -> None:
        self.queries: list[str] = []

    async def search(self, call: ToolCall, search_id: str, wish: SearchWish) -> WebSearch:
        self.queries.append(web_search.query_of(call))
        return WebSearch(search_id, self.queries[-1], (SearchHit("https://a.org", "A", "of a"),))


def endpoint(**settings: Any) -> Endpoint:
    return msgspec.structs.replace(ENDPOINT, **settings)


def request(**fields: Any) -> Request:
    return Request(model="m", turns=HI, **{"tools": TOOLS, **fields})


def mending(request: Request, searcher: Searcher | None = None) -> Mending:
    return Mending(request, searcher)  # type: ignore[arg-type]


def said(text: str) -> list[Event]:
    return [TextDelta(text), Finish("end"), End()]


def called(name: str, **arguments: str) -> list[Event]:
    start = ToolCallStart(0, "c", name)
    return [start, ToolCallDelta(0, json.dumps(arguments)), Finish("tool_use"), End()]


def answered(mending: Mending, endpoint: Endpoint, events: list[Event]) -> list[Event]:
    """What goes on of an engine's answer."""
    return mending.whole(events, endpoint)


def goes_on(call: Mending | ChatCall) -> bool:
    """Whether the engine is asked once more; what has to be done before that is done."""
    is_unfinished = call.is_broken if isinstance(call, Mending) else call.is_unfinished
    if is_unfinished:
        asyncio.run(call.go_on())
    return is_unfinished


def names(events: list[Event]) -> list[str]:
    return [event.name for event in events if isinstance(event, ToolCallStart)]


def test_a_text_that_is_a_call() -> None:
    assert names(answered(mending(request()), ENDPOINT, said(HERMES))) == ["get"]


@pytest.mark.row("3.10 rescue: false")
def test_rescue_switched_off() -> None:
    text = f"<think>Hm.</think>{HERMES}"
    events = answered(mending(request()), endpoint(rescue=False), said(text))
    assert events == said(text)


@pytest.mark.row("3.10 tool_choice: none")
def test_no_calls_where_the_client_forbids_them() -> None:
    forbidding = request(tool_choice=ToolChoice("none"))
    assert answered(mending(forbidding), ENDPOINT, said(HERMES)) == said(HERMES)


CHAT: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Read it"}],
    "tools": [{"type": "function", "function": {"name": tool.name}} for tool in TOOLS],
}


def chat_answer(text: str, endpoint: Endpoint, **more: Any) -> dict[str, Any]:
    call = ChatCall(json.dumps(CHAT | more).encode())
    call.engine_body(endpoint)
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    answer, _ = call.whole(json.dumps({"id": "x", "choices": [choice]}).encode(), endpoint)
    found: dict[str, Any] = json.loads(answer)["choices"][0]["message"]
    return found


@pytest.mark.row("3.10 rescue: false", "3.10 tool_choice: none")
def test_chat_clients_are_asked_for_too() -> None:
    assert chat_answer(HERMES, ENDPOINT)["tool_calls"][0]["function"]["name"] == "get"
    assert chat_answer(HERMES, ENDPOINT, tool_choice="none")["content"] == HERMES
    assert chat_answer(HERMES, endpoint(rescue=False))["content"] == HERMES


# --------------------------------------------------------------------------- one more try


@pytest.mark.row("3.10 rescue_retry: true")
def test_one_more_try_and_no_other() -> None:
    retrying = mending(request())
    where = endpoint(rescue_retry=True)
    assert answered(retrying, where, said(UNKNOWN)) == []
    assert goes_on(retrying)
    broken, told = retrying.asked(where).turns[-2:]
    assert broken == Turn("assistant", (Text(UNKNOWN),))
    assert "get, put" in str(told.parts)
    assert answered(retrying, where, said(UNKNOWN)) == said(UNKNOWN)
    assert not goes_on(retrying)


@pytest.mark.row("3.10 rescue_retry: true")
def test_no_more_tries_unless_told_to() -> None:
    once = mending(request())
    assert answered(once, ENDPOINT, said(UNKNOWN)) == said(UNKNOWN)
    assert not goes_on(once)


# --------------------------------------------------------------------------- searches


def searching(searcher: Searcher, **fields: Any) -> Mending:
    return mending(request(**{"web_search": SearchWish(), **fields}), searcher)


@pytest.mark.row("3.11 the hosted tool")
def test_the_model_is_shown_a_function() -> None:
    assert searching(Searcher()).asked(ENDPOINT).tools == (*TOOLS, web_search.TOOL)
    assert mending(request(web_search=SearchWish())).asked(ENDPOINT).tools == TOOLS
    own = (*TOOLS, Tool("web_search", b"{}"))
    assert searching(Searcher(), tools=own).asked(ENDPOINT).tools == own


@pytest.mark.row("3.11 a call of it")
@pytest.mark.parametrize("as_text", [False, True], ids=["call", "text"])
def test_a_search(as_text: bool) -> None:
    searcher = Searcher()
    mending = searching(searcher)
    text = '<tool_call>{"name": "web_search", "arguments": {"query": "x"}}</tool_call>'
    asked = said(text) if as_text else called("web_search", query="x")
    assert answered(mending, ENDPOINT, asked) == []
    assert goes_on(mending)
    [search] = mending.shown
    assert isinstance(search, WebSearch)
    assert search.hits[0].url == "https://a.org"
    assert search.id.startswith("srvtoolu_")
    assert searcher.queries == ["x"]
    assert answered(mending, ENDPOINT, said("Found.")) == said("Found.")
    assert not goes_on(mending)


@pytest.mark.row("3.11 max_uses")
@pytest.mark.parametrize(("wanted", "limit"), [(2, 2), (99, 8), (None, 8)])
def test_searches_are_bounded(wanted: int | None, limit: int) -> None:
    searcher = Searcher()
    mending = searching(searcher, web_search=SearchWish(max_uses=wanted))
    for _ in range(20):
        answered(mending, ENDPOINT, called("web_search", query="x"))
        if not goes_on(mending):
            break
    else:
        pytest.fail("asks without end")
    assert len(searcher.queries) == limit
    errors = [event.error for event in mending.shown if isinstance(event, WebSearch)]
    assert errors[:limit] == [None] * limit
    assert set(errors[limit:]) <= {"max_uses_exceeded"}
    assert mending.asked(ENDPOINT).tool_choice == ToolChoice("none")


# --------------------------------------------------------------------------- few tools

SLIM = endpoint(max_tools=1)


@pytest.mark.row("3.12 a call of find_tools")
@pytest.mark.parametrize("as_text", [False, True], ids=["call", "text"])
def test_a_search_for_tools(as_text: bool) -> None:
    mending_ = mending(request())
    assert [tool.name for tool in mending_.asked(SLIM).tools] == ["find_tools", "read_file"]
    text = '<tool_call>{"name": "find_tools", "arguments": {"query": "weather"}}</tool_call>'
    asked = said(text) if as_text else called("find_tools", query="weather")
    assert answered(mending_, SLIM, asked) == []
    assert goes_on(mending_)
    again = mending_.asked(SLIM)
    assert [tool.name for tool in again.tools] == ["find_tools", "read_file", "weather"]
    [result] = again.turns[-1].parts
    assert isinstance(result, ToolResult)
    assert result.content == (Text("These tools can be called now: weather"),)
    assert names(answered(mending_, SLIM, called("weather"))) == ["weather"]
    assert not goes_on(mending_)
    assert mending_.shown == []


@pytest.mark.row("3.12 a … without end")
def test_a_model_that_looks_for_tools_without_end() -> None:
    mending_ = mending(request())
    rounds = 0
    while answered(mending_, SLIM, called("find_tools", query="weather")) == []:
        assert goes_on(mending_)
        rounds += 1
        assert rounds < 20
    assert rounds == slimming.MAX_ROUNDS


@pytest.mark.row("3.12 Chat Completions")
def test_a_chat_client_keeps_its_body() -> None:
    body = {**CHAT, "seed": 5, "messages": [{"role": "user", "content": "Read it", "name": "me"}]}
    call = ChatCall(json.dumps(body).encode())
    first = json.loads(call.engine_body(SLIM))
    shown = [tool["function"]["name"] for tool in first.pop("tools")]
    assert shown == ["find_tools", "read_file"]
    assert first == {"model": "m", "seed": 5, "messages": body["messages"]}
    function = {"name": "find_tools", "arguments": '{"query":"weather"}'}
    message = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c", "type": "function", "function": function}],
    }
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    call.whole(json.dumps({"id": "x", "choices": [choice]}).encode(), SLIM)
    assert goes_on(call)
    second = json.loads(call.engine_body(SLIM))
    assert second["messages"][:1] == body["messages"]
    assert [m["role"] for m in second["messages"]] == ["user", "assistant", "tool"]
    assert [t["function"]["name"] for t in second["tools"]] == [*shown, "weather"]
    assert second["seed"] == 5


@pytest.mark.row("3.12 Chat Completions")
@pytest.mark.parametrize("more", [{"n": 2}, {"logprobs": True}, {"tools": CHAT["tools"][:1]}])
def test_other_chat_requests_pass(more: dict[str, Any]) -> None:
    body = CHAT | more
    sent = json.loads(ChatCall(json.dumps(body).encode()).engine_body(SLIM))
    assert sent == {**body, "model": "m"}
