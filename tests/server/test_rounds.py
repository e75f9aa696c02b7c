"""The usage of one answer for which the engine was asked twice, in each dialect.

The rounds are those of ``max_tools``: the model asks for tools, the gateway answers, the model goes on.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest

from homeport.facts import Endpoint, EngineFacts, ModelFacts
from homeport.server.calls import AnthropicCall, Call, ChatCall
from homeport.server.metrics import Metrics
from homeport.server.response_store import ResponseStore
from homeport.server.responses import ResponsesCall
from homeport.wire.anthropic_answer import encode_message
from homeport.wire.anthropic_stream import AnthropicStream
from homeport.wire.events import End, Event, Finish, TextDelta, Usage, UsageReport, WebSearch
from homeport.wire.rounds import as_one, summed

ENDPOINT = Endpoint(
    base_url="http://h/v1",
    engine=EngineFacts(),
    model=ModelFacts(name="real", context_tokens=200),
    max_tools=1,
    rescue_retry=True,
)
FIRST: Any = {
    "prompt_tokens": 100,
    "completion_tokens": 10,
    "prompt_tokens_details": {"cached_tokens": 60},
    "completion_tokens_details": {"reasoning_tokens": 3},
}
SECOND: Any = {
    "prompt_tokens": 130,
    "completion_tokens": 7,
    "prompt_tokens_details": {"cached_tokens": 108},
}
FIND = {"name": "find_tools", "arguments": '{"query": "weather"}'}
BROKEN = '<tool_call>{"name": "weather", "arguments": {"city": }</tool_call>'
either = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
by_reason = pytest.mark.parametrize("broken", [False, True], ids=["tools", "broken call"])


def chunks(message: dict[str, Any], finish: str, usage: Any) -> bytes:
    if "tool_calls" in message:
        message["tool_calls"][0]["index"] = 0
    told: list[Any] = [
        {"choices": [{"index": 0, "delta": message, "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]},
        {"choices": [], "usage": usage},
    ]
    return b"".join(b"data: %b\n\n" % msgspec.json.encode(c) for c in told) + b"data: [DONE]\n\n"


def answers(*, broken: bool) -> list[tuple[dict[str, Any], str, Any]]:
    call = {"id": "a", "type": "function", "function": FIND}
    first: dict[str, Any] = {"role": "assistant", "content": BROKEN if broken else None}
    if not broken:
        first["tool_calls"] = [call]
    said = {"role": "assistant", "content": "Rain."}
    return [(first, "stop" if broken else "tool_calls", FIRST), (said, "stop", SECOND)]


def told(call: Call, *, broken: bool) -> tuple[bytes, Usage]:
    """What the client is sent in the end, and what is counted."""

    async def run() -> tuple[bytes, Usage]:
        out, usage = b"", None
        call.prepare("req_1")
        for message, finish, spent in answers(broken=broken):
            call.engine_body(ENDPOINT)
            if call.stream:
                translation = call.translation(ENDPOINT)
                out += translation.feed(chunks(message, finish, spent)) + translation.finish()
                usage = translation.usage
            else:
                choice = {"index": 0, "message": message, "finish_reason": finish}
                body = {"choices": [choice], "usage": spent}
                out, usage = call.whole(json.dumps(body).encode(), ENDPOINT)
            assert call.is_unfinished is (spent is FIRST)
            if call.is_unfinished:
                out += await call.go_on()
        assert usage is not None
        return out, usage

    return asyncio.run(run())


def last_event(out: bytes) -> dict[str, Any]:
    """The last one with a usage."""
    lines = [line[6:] for line in out.split(b"\n") if line.startswith(b"data: {")]
    found: dict[str, Any] = next(json.loads(line) for line in lines[::-1] if b'"usage"' in line)
    return found


def tools(count: int, form: str) -> list[dict[str, Any]]:
    names = ["read", "weather"][:count]
    if form == "anthropic":
        return [{"name": name, "input_schema": {"type": "object"}} for name in names]
    if form == "responses":
        return [{"type": "function", "name": name, "parameters": {}} for name in names]
    return [{"type": "function", "function": {"name": name}} for name in names]


@either
@by_reason
@pytest.mark.row("3.14 Anthropic's counts", "3.14 Anthropic's iterations", "3.14 metrics")
def test_anthropic(stream: bool, broken: bool) -> None:
    body: dict[str, Any] = {"model": "m", "max_tokens": 9, "stream": stream}
    body["messages"] = [{"role": "user", "content": "read"}]
    body["tools"] = tools(1 if broken else 2, "anthropic")
    out, counted = told(AnthropicCall(json.dumps(body).encode()), broken=broken)
    answer = last_event(out) if stream else json.loads(out)
    usage = answer["usage"]
    assert usage["input_tokens"] == (100 - 60) + (130 - 108)
    assert usage["cache_read_input_tokens"] == 60 + 108
    assert usage["output_tokens"] == 17
    assert usage["output_tokens_details"] == {"thinking_tokens": 3}
    assert usage["server_tool_use"] is None
    first, second = usage["iterations"]
    assert (first["input_tokens"], first["cache_read_input_tokens"]) == (40, 60)
    assert (second["input_tokens"], second["cache_read_input_tokens"]) == (22, 108)
    assert (second["type"], second["output_tokens"]) == ("message", 7)
    metrics = Metrics()
    outcome = metrics.begin("anthropic", "m", stream=stream)
    outcome.usage = counted
    metrics.end(outcome, status=200, has_left=False)
    assert metrics._series["m"].prompt == 230
    assert metrics._series["m"].cached == 168
    assert metrics._series["m"].completion == 17


@either
@by_reason
@pytest.mark.row("3.14 OpenAI's input_tokens, cached_tokens", "3.14 OpenAI's output_tokens")
def test_responses(stream: bool, broken: bool) -> None:
    body: dict[str, Any] = {"model": "m", "input": "read", "stream": stream}
    body["tools"] = tools(1 if broken else 2, "responses")
    call = ResponsesCall(json.dumps(body).encode(), ResponseStore(), "")
    out, _ = told(call, broken=broken)
    usage = last_event(out)["response"]["usage"] if stream else json.loads(out)["usage"]
    assert usage["input_tokens"] == 130
    assert usage["input_tokens_details"]["cached_tokens"] == 130 - (40 + 22)
    assert usage["output_tokens"] == 17
    assert usage["output_tokens_details"]["reasoning_tokens"] == 3
    assert usage["total_tokens"] == 147


@either
@pytest.mark.row("3.14 OpenAI's input_tokens, cached_tokens", "3.14 OpenAI's output_tokens")
def test_chat(stream: bool) -> None:
    body: dict[str, Any] = {"model": "m", "stream": stream, "tools": tools(2, "chat")}
    body["messages"] = [{"role": "user", "content": "read"}]
    body["stream_options"] = {"include_usage": True} if stream else None
    out, _ = told(ChatCall(json.dumps(body).encode()), broken=False)
    usage = (last_event(out) if stream else json.loads(out))["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (130, 17)
    assert usage["prompt_tokens_details"] == {"cached_tokens": 130 - (40 + 22)}
    assert usage["completion_tokens_details"] == {"reasoning_tokens": 3}


@pytest.mark.row("3.14 stop reasons")
@pytest.mark.parametrize(
    ("context", "reason"), [(200, "max_tokens"), (137, "model_context_window_exceeded")]
)
def test_the_length_is_that_of_the_last_round(context: int, reason: str) -> None:
    usage = Usage(130, 7, 108, earlier=(Usage(100, 10, 60),))
    events: list[Event] = [Finish("length"), UsageReport(usage), End()]
    answer = encode_message(events, message_id="msg_1", model="m", context_tokens=context)
    assert json.loads(answer)["stop_reason"] == reason


@either
@pytest.mark.row("3.14 Anthropic's server_tool_use")
@pytest.mark.parametrize(
    ("errors", "count"), [((None, None), 2), ((None, "unavailable"), 1), (("unavailable",), 0)]
)
def test_searches_are_counted(stream: bool, errors: tuple[Any, ...], count: int) -> None:
    searches = [WebSearch(f"srvtoolu_{n}", "q", error=e) for n, e in enumerate(errors)]
    events: list[Event] = [
        *searches,
        TextDelta("x"),
        Finish("end"),
        UsageReport(Usage(1, 1)),
        End(),
    ]
    if stream:
        machine = AnthropicStream(message_id="msg_1", model="m", request_id="req_1")
        out = b"".join(map(machine.feed, events))
        usage = last_event(out)["usage"]
    else:
        usage = json.loads(encode_message(events, message_id="msg_1", model="m"))["usage"]
    assert usage["server_tool_use"] == {"web_search_requests": count, "web_fetch_requests": 0}


@either
def test_one_round_is_told_as_it_is(stream: bool) -> None:
    body = {"model": "m", "max_tokens": 9, "stream": stream}
    body["messages"] = [{"role": "user", "content": "hi"}]
    call = AnthropicCall(json.dumps(body).encode())
    call.prepare("req_1")
    call.engine_body(ENDPOINT)
    message = {"role": "assistant", "content": "Hi."}
    if stream:
        out = call.translation(ENDPOINT).feed(chunks(message, "stop", FIRST))
        usage = last_event(out)["usage"]
    else:
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        answer = {"choices": [choice], "usage": FIRST}
        usage = json.loads(call.whole(json.dumps(answer).encode(), ENDPOINT)[0])["usage"]
    assert "iterations" not in usage
    assert (usage["input_tokens"], usage["cache_read_input_tokens"]) == (40, 60)


def test_what_passes_through_is_asked_for_once() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    call = ChatCall(json.dumps(body).encode())
    call.engine_body(ENDPOINT)
    assert not call.is_unfinished


def test_counts_that_nobody_made() -> None:
    """An engine that does not tell what was cached; and a prompt whose head was changed."""
    unknown = Usage(20, 2, earlier=(Usage(10, 1),))
    assert summed(unknown) == Usage(30, 3)
    assert as_one(unknown) == Usage(20, 3)
    anew = Usage(20, 2, 0, earlier=(Usage(10, 1, 8),))
    assert as_one(anew) == Usage(20, 3, 0)
