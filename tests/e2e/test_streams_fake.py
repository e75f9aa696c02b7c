"""What clients see when an engine answers well, badly, late, or not at all.

End to end on real ports: client, gateway and a scripted engine. The official SDKs read the good
streams (they are the judges of what is legal), a bare client the bad ones (the SDKs would hide when
and how things arrive).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from tests.e2e.dialects import ANTHROPIC, BOTH, OPENAI, Dialect
from tests.e2e.raw_client import Exchange, SseEvent, ask
from tests.support.engine import Answer, FakeEngine, ToolCall
from tests.support.fake_engine.completion import overflow_error
from tests.support.fake_engine.script import COUNT_PATH, prompt_tokens
from tests.support.gateway import Gateway

KEY = "dummy"
both_dialects = pytest.mark.parametrize("dialect", BOTH, ids=str)
streamed_or_whole = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])

WORDS = "Füße, 東京, 🦙: words that take several bytes"
PARIS = ToolCall(name="get_weather", arguments='{"city": "Paris"}', id="call_a")
TOKYO = ToolCall(name="get_weather", arguments='{"city": "東京"}', id="call_b")
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}


async def stream_from(gateway: Gateway, dialect: Dialect) -> Exchange:
    return await ask(gateway.base_url, "POST", dialect.path, dialect.request(stream=True))


async def events_from(gateway: Gateway, dialect: Dialect) -> list[SseEvent]:
    async with await stream_from(gateway, dialect) as exchange:
        assert exchange.status == 200
        return await exchange.all_events()


# --- answers that go well, read by the official SDKs ----------------------------------------


async def anthropic_message(gateway: Gateway) -> anthropic.types.Message:
    async with (
        anthropic.AsyncAnthropic(base_url=gateway.base_url, api_key=KEY) as client,
        client.messages.stream(
            model="fake",
            max_tokens=256,
            messages=[{"role": "user", "content": "Hello"}],
            tools=[{"name": "get_weather", "input_schema": SCHEMA}],
        ) as stream,
    ):
        return await stream.get_final_message()


async def openai_completion(gateway: Gateway) -> Any:
    function = {"name": "get_weather", "parameters": SCHEMA}
    async with (
        openai.AsyncOpenAI(base_url=f"{gateway.base_url}/v1", api_key=KEY) as client,
        client.chat.completions.stream(
            model="fake",
            messages=[{"role": "user", "content": "Hello"}],
            tools=[{"type": "function", "function": function}],  # type: ignore[typeddict-item]
            stream_options={"include_usage": True},
        ) as stream,
    ):
        return await stream.get_final_completion()


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "both"])
async def test_text_and_reasoning_as_anthropic(
    gateway: Gateway, engine: FakeEngine, field: Any
) -> None:
    engine.script(Answer(reasoning="Let me think.", reasoning_field=field, text=WORDS))
    message = await anthropic_message(gateway)
    assert [block.type for block in message.content] == ["thinking", "text"]
    thinking, text = message.content
    assert isinstance(thinking, anthropic.types.ThinkingBlock)
    assert isinstance(text, anthropic.types.TextBlock)
    assert (thinking.thinking, text.text) == ("Let me think.", WORDS)
    assert message.stop_reason == "end_turn"


@pytest.mark.parametrize("style", ["fragments", "whole", "interleaved"])
async def test_tool_calls_as_anthropic(gateway: Gateway, engine: FakeEngine, style: Any) -> None:
    engine.script(Answer(text="Looking.", tool_calls=(PARIS, TOKYO), tool_style=style))
    message = await anthropic_message(gateway)
    text, *calls = message.content
    assert text.type == "text"
    used = [block for block in calls if isinstance(block, anthropic.types.ToolUseBlock)]
    assert [(b.id, b.name, b.input) for b in used] == [
        ("call_a", "get_weather", {"city": "Paris"}),
        ("call_b", "get_weather", {"city": "東京"}),
    ]
    assert message.stop_reason == "tool_use"


@pytest.mark.parametrize("style", ["fragments", "whole", "interleaved"])
async def test_tool_calls_as_openai(gateway: Gateway, engine: FakeEngine, style: Any) -> None:
    engine.script(Answer(text=WORDS, tool_calls=(PARIS, TOKYO), tool_style=style))
    completion = await openai_completion(gateway)
    choice = completion.choices[0]
    assert choice.message.content == WORDS
    calls = [(c.id, c.function.name, c.function.arguments) for c in choice.message.tool_calls]
    assert calls == [(c.id, c.name, c.arguments) for c in (PARIS, TOKYO)]
    assert choice.finish_reason == "tool_calls"


@streamed_or_whole
async def test_usage_adds_up(gateway: Gateway, engine: FakeEngine, stream: bool) -> None:
    """Anthropic's `input_tokens` exclude the cached ones, OpenAI's `prompt_tokens` include them."""
    answer = Answer(text="Hi", prompt_tokens=100, cached_tokens=40, completion_tokens=7)
    engine.script(answer, answer)
    usages = {}
    for dialect in BOTH:
        request = dialect.request(stream=stream)
        async with await ask(gateway.base_url, "POST", dialect.path, request) as exchange:
            usages[dialect] = last_usage(await exchange.body(), stream=stream)
    ours = usages[ANTHROPIC]
    assert (ours["input_tokens"], ours["cache_read_input_tokens"]) == (60, 40)
    assert ours["output_tokens"] == 7
    theirs = usages[OPENAI]
    assert (theirs["prompt_tokens"], theirs["completion_tokens"]) == (100, 7)
    assert theirs["prompt_tokens_details"]["cached_tokens"] == 40


def last_usage(body: bytes, *, stream: bool) -> dict[str, Any]:
    if not stream:
        usage: dict[str, Any] = json.loads(body)["usage"]
        return usage
    data = [line[6:] for line in body.splitlines() if line.startswith(b"data: {")]
    usages = [value["usage"] for value in map(json.loads, data) if value.get("usage")]
    assert usages, body
    last: dict[str, Any] = usages[-1]
    return last


@both_dialects
async def test_whole_answer(gateway: Gateway, engine: FakeEngine, dialect: Dialect) -> None:
    engine.script(Answer(text=WORDS))
    request = dialect.request(stream=False)
    async with await ask(gateway.base_url, "POST", dialect.path, request) as exchange:
        assert exchange.status == 200
        answer = await exchange.json()
    if dialect is ANTHROPIC:
        assert [block["text"] for block in answer["content"]] == [WORDS]
        assert answer["id"].startswith("msg_")
    else:
        assert answer["choices"][0]["message"]["content"] == WORDS
    assert engine.chats()[0]["body"].get("stream") in (False, None)


@pytest.mark.parametrize("framing", ["chunked", "close", "length"])
@both_dialects
async def test_upstream_framings(
    gateway: Gateway, engine: FakeEngine, dialect: Dialect, framing: Any
) -> None:
    engine.script(Answer(text=WORDS, framing=framing))
    events = await events_from(gateway, dialect)
    assert dialect.text_of(events) == WORDS
    assert dialect.ended_well(events)


@both_dialects
async def test_bytes_cut_anywhere(gateway: Gateway, engine: FakeEngine, dialect: Dialect) -> None:
    """Inside a multi-byte character, a field name, an escape, between CR and LF."""
    chunk = {"index": 0, "delta": {"role": "assistant", "content": WORDS}, "finish_reason": None}
    frame = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "fake"}
    said = json.dumps({**frame, "choices": [chunk]}, ensure_ascii=False)
    finished = json.dumps({**frame, "choices": [{**chunk, "delta": {}, "finish_reason": "stop"}]})
    raw = f": comment\r\n\r\ndata: {said}\r\n\r\ndata: {finished}\r\n\r\ndata: [DONE]\r\n\r\n"
    every_third = tuple(range(1, len(raw.encode()), 3))
    engine.script(Answer(raw_sse=raw, cuts=every_third))
    events = await events_from(gateway, dialect)
    assert dialect.text_of(events) == WORDS
    assert dialect.ended_well(events)


async def test_no_done_marker_is_no_error(gateway: Gateway, engine: FakeEngine) -> None:
    """A finish reason came: some engines leave `[DONE]` out."""
    engine.script(Answer(text="Hi", done_marker=False))
    events = await events_from(gateway, ANTHROPIC)
    assert ANTHROPIC.text_of(events) == "Hi"
    assert ANTHROPIC.ended_well(events)


async def test_every_anthropic_event_is_named(gateway: Gateway, engine: FakeEngine) -> None:
    """Claude Code drops frames without an `event:` line."""
    engine.script(Answer(reasoning="Hm.", text="Hi", tool_calls=(PARIS,)))
    events = await events_from(gateway, ANTHROPIC)
    assert [e.name for e in events] == [e.json()["type"] for e in events]


# --- errors before the first byte -----------------------------------------------------------


@pytest.mark.parametrize("status", [400, 404, 422, 429, 500, 503])
@streamed_or_whole
@both_dialects
async def test_engine_error_before_the_first_byte(
    gateway: Gateway, engine: FakeEngine, dialect: Dialect, stream: bool, status: int
) -> None:
    """The status is real and the body is in the client's dialect."""
    body = {"error": {"code": status, "message": "no such luck", "type": "some_error"}}
    engine.script(Answer(status=status, body=body, headers={"Retry-After": "3"}, repeat=True))
    request = dialect.request(stream=stream)
    async with await ask(gateway.base_url, "POST", dialect.path, request) as exchange:
        error = dialect.error_in(await exchange.json())
        expected = 400 if status == 422 else status
        assert exchange.status == expected
        assert "no such luck" in error["message"]
        if status in (429, 503):
            assert int(exchange.headers["retry-after"]) == 3


VLLM_OVERFLOW = {
    "error": {
        "message": "This model's maximum context length is 2048 tokens. However, your prompt "
        "contains at least 2049 input tokens, which exceeds this limit even without any output "
        "tokens. Please reduce the length of the input prompt. (parameter=input_tokens, "
        "value=2049)",
        "type": "BadRequestError",
        "param": "input_tokens",
        "code": 400,
    }
}


@pytest.mark.parametrize(
    "body",
    [overflow_error(2049, 2048), VLLM_OVERFLOW],
    ids=["llamacpp", "vllm"],
)
@streamed_or_whole
@both_dialects
async def test_overflow_in_words_that_clients_act_on(
    gateway: Gateway, engine: FakeEngine, dialect: Dialect, stream: bool, body: Any
) -> None:
    engine.script(Answer(status=400, body=body, repeat=True))
    request = dialect.request(stream=stream)
    async with await ask(gateway.base_url, "POST", dialect.path, request) as exchange:
        assert exchange.status == 400
        error = dialect.error_in(await exchange.json())
    if dialect is ANTHROPIC:
        assert error["message"] == "prompt is too long: 2049 tokens > 2048 maximum"
        assert error["type"] == "invalid_request_error"
    else:
        assert error["code"] == "context_length_exceeded"


@streamed_or_whole
@both_dialects
async def test_engine_down(tmp_path: Path, dialect: Dialect, stream: bool) -> None:
    with FakeEngine() as engine, Gateway(tmp_path, "--upstream", engine.base_url) as gateway:
        engine.stop()
        request = dialect.request(stream=stream)
        async with await ask(gateway.base_url, "POST", dialect.path, request) as exchange:
            assert exchange.status == 503
            assert int(exchange.headers["retry-after"]) > 0
            dialect.error_in(await exchange.json())


# --- errors after it ------------------------------------------------------------------------


async def test_silent_engine_gets_a_stream_started(gateway: Gateway, engine: FakeEngine) -> None:
    engine.script(Answer(then="stall", at="headers"))
    async with await stream_from(gateway, ANTHROPIC) as exchange:
        assert exchange.status == 200
        first = await anext(exchange.events())
    assert first.name == "message_start"
    assert "headers" not in engine.chats()[0]["marks"], "the engine had not even answered"


async def test_late_engine_error_arrives_in_the_stream(
    gateway: Gateway, engine: FakeEngine
) -> None:
    body = {"error": {"code": 500, "message": "no such luck", "type": "server_error"}}
    engine.script(Answer(status=500, body=body, delay_headers_s=1.0, repeat=True))
    events = await events_from(gateway, ANTHROPIC)
    names = [event.name for event in events if event.name != "ping"]
    assert names == ["message_start", "error"]
    (error,) = ANTHROPIC.errors(events)
    assert "no such luck" in error["message"]


@pytest.mark.parametrize("then", ["cut", "reset", "error"])
@both_dialects
async def test_engine_breaks_off_mid_stream(
    gateway: Gateway, engine: FakeEngine, dialect: Dialect, then: Any
) -> None:
    """One error event, and nothing that looks like a good end."""
    engine.script(Answer(text="one two three", fragment_chars=(4,), then=then, at=3))
    events = await events_from(gateway, dialect)
    assert len(dialect.errors(events)) == 1
    assert not dialect.ended_well(events)
    assert "message_stop" not in [event.name for event in events]
    assert dialect.errors(events[-1:]), "the error is the last event"
    if then != "reset":  # a reset may overtake bytes that were on their way
        assert dialect.text_of(events) == "one two "


async def test_stream_that_ends_without_a_finish_reason(
    gateway: Gateway, engine: FakeEngine
) -> None:
    """Properly framed, but cut all the same: never an invented `end_turn`."""
    chunk = {"index": 0, "delta": {"content": "one"}, "finish_reason": None}
    engine.script(Answer(raw_sse=f"data: {json.dumps({'id': 'x', 'choices': [chunk]})}\n\n"))
    events = await events_from(gateway, ANTHROPIC)
    assert len(ANTHROPIC.errors(events)) == 1
    assert not ANTHROPIC.ended_well(events)


async def test_events_after_an_error_are_not_shown(gateway: Gateway, engine: FakeEngine) -> None:
    error = json.dumps({"error": {"message": "out of memory", "type": "server_error"}})
    chunk = {"index": 0, "delta": {"content": "late"}, "finish_reason": "stop"}
    late = json.dumps({"id": "x", "choices": [chunk]})
    engine.script(Answer(raw_sse=f"data: {error}\n\ndata: {late}\n\ndata: [DONE]\n\n"))
    events = await events_from(gateway, ANTHROPIC)
    assert [event.name for event in events] == ["message_start", "error"]
    assert "out of memory" in ANTHROPIC.errors(events)[0]["message"]


@pytest.mark.parametrize(
    "raw",
    ["data: {nonsense\n\n", "data: [1, 2]\n\n", "<html>Bad gateway</html>\n\n", ""],
    ids=["half-json", "no-object", "html", "nothing"],
)
@both_dialects
async def test_nonsense_for_a_stream(
    gateway: Gateway, engine: FakeEngine, dialect: Dialect, raw: str
) -> None:
    """An error, before or within the stream; never a good end."""
    engine.script(Answer(raw_sse=raw))
    async with await stream_from(gateway, dialect) as exchange:
        if exchange.status != 200:
            dialect.error_in(await exchange.json())
            return
        events = await exchange.all_events()
    assert len(dialect.errors(events)) == 1
    assert not dialect.ended_well(events)


@both_dialects
async def test_an_error_ends_the_stream_at_once(
    gateway: Gateway, engine: FakeEngine, dialect: Dialect
) -> None:
    """Also when the engine keeps its connection open, or goes on talking to nobody."""
    error = json.dumps({"error": {"message": "out of memory", "type": "server_error"}})
    engine.script(Answer(raw_sse=f"data: {error}\n\n", then="stall", at=1))
    events = await events_from(gateway, dialect)
    assert len(dialect.errors(events)) == 1
    await engine.happens("disconnect")


@both_dialects
async def test_done_ends_the_stream_at_once(
    gateway: Gateway, engine: FakeEngine, dialect: Dialect
) -> None:
    """Also when the engine is slow to close what it has finished."""
    chunk = {"index": 0, "delta": {"content": "one"}, "finish_reason": "stop"}
    said = json.dumps({"id": "x", "object": "chat.completion.chunk", "choices": [chunk]})
    engine.script(Answer(raw_sse=f"data: {said}\n\ndata: [DONE]\n\n", then="stall", at=1))
    events = await events_from(gateway, dialect)
    assert dialect.text_of(events) == "one"
    assert dialect.ended_well(events)
    gateway.wait_idle()


@both_dialects
async def test_endless_line(gateway: Gateway, engine: FakeEngine, dialect: Dialect) -> None:
    """One event that never ends is not collected for ever."""
    endless = "data: " + "x" * 40_000_000
    engine.script(Answer(raw_sse=endless, cuts=tuple(range(0, len(endless), 16 * 1024))))
    before = gateway.rss_bytes()
    events = await events_from(gateway, dialect)
    assert len(dialect.errors(events)) == 1
    assert not dialect.ended_well(events)
    assert gateway.rss_bytes() - before < 2 * len(endless)
    await engine.happens("disconnect")


@both_dialects
async def test_whole_answer_cut_half_way(
    gateway: Gateway, engine: FakeEngine, dialect: Dialect
) -> None:
    engine.script(Answer(text=WORDS, then="cut", at=0, repeat=True))
    request = dialect.request(stream=False)
    async with await ask(gateway.base_url, "POST", dialect.path, request) as exchange:
        assert exchange.status == 502
        dialect.error_in(await exchange.json())


# --- the SDKs' view of failures -------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (400, "BadRequestError"),
        (404, "NotFoundError"),
        (429, "RateLimitError"),
        (500, "InternalServerError"),
    ],
)
async def test_sdks_raise_the_matching_error(
    gateway: Gateway, engine: FakeEngine, status: int, name: str
) -> None:
    body = {"error": {"code": status, "message": "no such luck", "type": "some_error"}}
    engine.script(Answer(status=status, body=body, repeat=True))
    async with (
        anthropic.AsyncAnthropic(
            base_url=gateway.base_url, api_key=KEY, max_retries=0
        ) as claude_client,
        openai.AsyncOpenAI(
            base_url=f"{gateway.base_url}/v1", api_key=KEY, max_retries=0
        ) as openai_client,
    ):
        with pytest.raises(getattr(anthropic, name), match="no such luck"):
            await claude_client.messages.create(
                model="fake", max_tokens=9, messages=[{"role": "user", "content": "Hello"}]
            )
        with pytest.raises(getattr(openai, name), match="no such luck"):
            await openai_client.chat.completions.create(
                model="fake", messages=[{"role": "user", "content": "Hello"}]
            )


async def test_sdks_raise_on_a_broken_stream(gateway: Gateway, engine: FakeEngine) -> None:
    engine.script(*[Answer(text="one two three", then="cut", at=3)] * 2)
    with pytest.raises(anthropic.APIError):
        await anthropic_message(gateway)
    with pytest.raises(openai.APIError):
        await openai_completion(gateway)


async def test_sdks_list_models(gateway: Gateway) -> None:
    async with (
        anthropic.AsyncAnthropic(base_url=gateway.base_url, api_key=KEY) as claude_client,
        openai.AsyncOpenAI(base_url=f"{gateway.base_url}/v1", api_key=KEY) as openai_client,
    ):
        assert "fake" in [model.id async for model in claude_client.models.list()]
        assert "fake" in [model.id async for model in openai_client.models.list()]
        assert (await claude_client.models.retrieve("fake")).id == "fake"
        assert (await openai_client.models.retrieve("fake")).id == "fake"


async def test_token_count_is_the_engines(gateway: Gateway, engine: FakeEngine) -> None:
    async with anthropic.AsyncAnthropic(base_url=gateway.base_url, api_key=KEY) as client:
        counted = await client.messages.count_tokens(
            model="fake", messages=[{"role": "user", "content": "Hello"}]
        )
    (asked,) = engine.requests(COUNT_PATH)
    assert counted.input_tokens == prompt_tokens(asked["body"])
    assert engine.chats() == []


# --- connections ----------------------------------------------------------------------------


@pytest.mark.parametrize("mood", ["drop", "drop_on_next"])
@streamed_or_whole
@both_dialects
async def test_stale_connection_is_replaced_unnoticed(
    keeping_gateway: Gateway, engine: FakeEngine, dialect: Dialect, stream: bool, mood: Any
) -> None:
    """The engine's idle timeout fires just when the next request is on its way."""
    whole = (100,)
    first = Answer(text="first", fragment_chars=whole, keep_alive=mood)
    engine.script(first, Answer(text="second", fragment_chars=whole))
    request = dialect.request(stream=stream)
    for text in ("first", "second"):
        async with await ask(keeping_gateway.base_url, "POST", dialect.path, request) as exchange:
            assert exchange.status == 200
            assert text.encode() in await exchange.body()
    answered = [chat for chat in engine.chats() if "finish" in chat["marks"]]
    assert len(answered) == 2
    assert answered[0]["connection"] != answered[1]["connection"]


FLOOD_BYTES = 50_000_000
RSS_GROWTH_BYTES = 24_000_000


@both_dialects
async def test_back_pressure(gateway: Gateway, engine: FakeEngine, dialect: Dialect) -> None:
    """A client that does not read stops the engine; reading on, it gets every byte."""
    engine.script(Answer(flood_bytes=FLOOD_BYTES))
    before = gateway.rss_bytes()
    async with await stream_from(gateway, dialect) as exchange:
        await engine.happens("blocked")
        assert engine.chats()[0]["bytes_sent"] < FLOOD_BYTES / 2
        assert gateway.rss_bytes() - before < RSS_GROWTH_BYTES
        size = 0
        async for event in exchange.events():
            size += event.data.count("x")
        assert FLOOD_BYTES <= size < FLOOD_BYTES * 1.01
    assert gateway.rss_bytes() - before < RSS_GROWTH_BYTES


PING_EVERY_S = 10


@pytest.mark.timeout(60)
async def test_pings_while_the_engine_is_silent(gateway: Gateway, engine: FakeEngine) -> None:
    """Events, not comments: Claude Code gives up after 300 s without an event."""
    engine.script(Answer(then="stall", at=1))
    async with await stream_from(gateway, ANTHROPIC) as exchange:
        async for event in exchange.events(timeout_s=PING_EVERY_S + 5):
            if event.name == "ping":
                return
    raise AssertionError("the stream ended without a ping")


# --- routes, keys, hosts --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "dialect"),
    [
        ("/v1/messages/batches", ANTHROPIC),
        ("/v1/messages/nonsense", ANTHROPIC),
        ("/v1/chat/nonsense", OPENAI),
        ("/v1/nonsense", OPENAI),
    ],
)
async def test_unknown_route(gateway: Gateway, path: str, dialect: Dialect) -> None:
    async with await ask(gateway.base_url, "POST", path, {}) as exchange:
        assert exchange.status == 404
        dialect.error_in(await exchange.json())


@pytest.mark.parametrize(
    "headers",
    [
        {"x-api-key": KEY, "anthropic-version": "2023-06-01"},
        {"Authorization": f"Bearer {KEY}", "anthropic-version": "2026-10-21"},
        {"x-api-key": KEY, "Authorization": "Bearer other"},
        {},
    ],
    ids=["x-api-key", "bearer", "both", "none"],
)
@both_dialects
async def test_any_key_style_where_none_is_asked_for(
    gateway: Gateway, engine: FakeEngine, dialect: Dialect, headers: dict[str, str]
) -> None:
    """And a client's key never reaches the engine."""
    request = dialect.request(stream=False)
    async with await ask(gateway.base_url, "POST", dialect.path, request, headers) as exchange:
        assert exchange.status == 200
    (chat,) = engine.chats()
    assert KEY not in chat["headers"].get("authorization", "")
    assert "x-api-key" not in chat["headers"]


REBINDING: tuple[dict[str, str], ...] = (
    {"Host": "evil.example"},
    {"Host": "evil.example:80"},
    {"Host": "127.0.0.1.evil.example"},
)


@pytest.mark.parametrize("headers", REBINDING, ids=lambda headers: str(headers["Host"]))
@both_dialects
async def test_host_header_of_elsewhere_is_refused(
    gateway: Gateway, engine: FakeEngine, dialect: Dialect, headers: dict[str, str]
) -> None:
    """DNS rebinding: a web page whose name now points at loopback."""
    request = dialect.request(stream=False)
    async with await ask(gateway.base_url, "POST", dialect.path, request, headers) as exchange:
        assert 400 <= exchange.status < 500
    assert engine.chats() == []


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_host_header_of_loopback_is_welcome(gateway: Gateway, host: str) -> None:
    headers = {"Host": f"{host}:{gateway.port}"}
    async with await ask(gateway.base_url, "GET", "/v1/models", headers=headers) as exchange:
        assert exchange.status == 200
        assert [model["id"] for model in (await exchange.json())["data"]]
