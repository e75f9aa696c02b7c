"""A client that leaves must free the engine: on every route, at every moment, in every way.

The engine is the witness: it marks a request `disconnect` when the gateway closes the connection
before the engine has answered to the end. Nothing here sleeps; `happens` returns when it happened.
"""

from __future__ import annotations

from collections.abc import Iterator

import anthropic
import openai
import pytest

from tests.e2e.dialects import BOTH, Dialect
from tests.e2e.raw_client import Exchange, ask, send
from tests.support.engine import Answer, FakeEngine
from tests.support.gateway import Gateway

KEY = "dummy"
both_dialects = pytest.mark.parametrize("dialect", BOTH, ids=str)
both_ways = pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])


@pytest.fixture(autouse=True)
def nothing_is_left_in_flight(gateway: Gateway) -> Iterator[None]:
    """Whatever the client did, its lease was given back."""
    yield
    gateway.wait_idle()


async def read_until_text(exchange: Exchange, dialect: Dialect, text: str) -> None:
    seen = ""
    async for event in exchange.events():
        seen += dialect.text_in(event.json())
        if text in seen:
            return
    raise AssertionError(f"the stream ended before {text!r}: {seen!r}")


@both_ways
@both_dialects
async def test_leaving_mid_stream(
    gateway: Gateway, engine: FakeEngine, dialect: Dialect, reset: bool
) -> None:
    engine.script(Answer(text="one two three", fragment_chars=(4,), then="stall", at=3))
    request = dialect.request(stream=True)
    async with await ask(gateway.base_url, "POST", dialect.path, request) as exchange:
        await read_until_text(exchange, dialect, "one two")
        await exchange.leave(reset=reset)
    await engine.happens("disconnect")


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@both_ways
@both_dialects
async def test_leaving_before_the_engine_answers(
    gateway: Gateway, engine: FakeEngine, dialect: Dialect, reset: bool, stream: bool
) -> None:
    engine.script(Answer(then="stall", at="headers"))
    request = dialect.request(stream=stream)
    async with await send(gateway.base_url, "POST", dialect.path, request) as exchange:
        await engine.happens("request")
        await exchange.leave(reset=reset)
    await engine.happens("disconnect")


@both_dialects
async def test_leaving_while_the_engine_is_silent_after_its_headers(
    gateway: Gateway, engine: FakeEngine, dialect: Dialect
) -> None:
    engine.script(Answer(then="stall", at=0))
    request = dialect.request(stream=True)
    async with await send(gateway.base_url, "POST", dialect.path, request) as exchange:
        await engine.happens("headers")
        await exchange.leave()
    await engine.happens("disconnect")


@both_dialects
async def test_leaving_half_way_through_a_whole_answer(
    gateway: Gateway, engine: FakeEngine, dialect: Dialect
) -> None:
    engine.script(Answer(text="never seen whole", then="stall", at=0))
    request = dialect.request(stream=False)
    async with await send(gateway.base_url, "POST", dialect.path, request) as exchange:
        await engine.happens("first")
        await exchange.leave()
    await engine.happens("disconnect")


@both_dialects
async def test_leaving_without_ever_reading(
    gateway: Gateway, engine: FakeEngine, dialect: Dialect
) -> None:
    engine.script(Answer(flood_bytes=50_000_000))
    request = dialect.request(stream=True)
    async with await send(gateway.base_url, "POST", dialect.path, request) as exchange:
        await engine.happens("blocked")
        await exchange.leave()
    await engine.happens("disconnect")


@both_dialects
async def test_leaving_before_the_request_is_whole(
    gateway: Gateway, engine: FakeEngine, dialect: Dialect
) -> None:
    headers = {"Content-Length": "1000"}
    half = b'{"model": "fake", "messages": ['
    async with await send(gateway.base_url, "POST", dialect.path, half, headers) as exchange:
        await exchange.leave()
    request = dialect.request(stream=False)
    async with await ask(gateway.base_url, "POST", dialect.path, request) as exchange:
        assert exchange.status == 200
    assert len(engine.chats()) == 1


@both_dialects
async def test_one_of_many_leaves(gateway: Gateway, engine: FakeEngine, dialect: Dialect) -> None:
    """The others' answers go on."""
    slow = Answer(text="stays", fragment_chars=(5,), delay_first_s=1.0)
    engine.script(Answer(then="stall", at=0), slow)
    request = dialect.request(stream=True)
    leaver = await send(gateway.base_url, "POST", dialect.path, request)
    await engine.happens("headers", 1)
    stayer = await send(gateway.base_url, "POST", dialect.path, request)
    await engine.happens("headers", 2)
    await leaver.leave()
    await engine.happens("disconnect")
    async with await stayer.answered():
        events = await stayer.all_events()
    assert dialect.text_of(events) == "stays"
    assert dialect.ended_well(events)


async def connections_of_two(gateway: Gateway, engine: FakeEngine, dialect: Dialect) -> list[int]:
    """The engine's numbers for the connections of two streams, read one after the other."""
    request = dialect.request(stream=True)
    for _ in range(2):
        async with await ask(gateway.base_url, "POST", dialect.path, request) as exchange:
            assert dialect.ended_well(await exchange.all_events())
    await engine.happens("finish", 2)
    chats = engine.chats()
    assert not any(chat["disconnected"] for chat in chats)
    return [chat["connection"] for chat in chats]


@both_dialects
async def test_a_client_that_stays_is_no_disconnect(
    keeping_gateway: Gateway, engine: FakeEngine, dialect: Dialect
) -> None:
    first, second = await connections_of_two(keeping_gateway, engine, dialect)
    assert first == second, "the connection should be used again"


@both_dialects
async def test_connections_to_llamacpp_are_not_used_again(
    gateway: Gateway, engine: FakeEngine, dialect: Dialect
) -> None:
    """Each open one holds a thread of its (the fake engine signs as llama.cpp)."""
    first, second = await connections_of_two(gateway, engine, dialect)
    assert first != second


async def test_leaving_through_the_anthropic_sdk(gateway: Gateway, engine: FakeEngine) -> None:
    engine.script(Answer(text="one two three", then="stall", at=3))
    async with (
        anthropic.AsyncAnthropic(base_url=gateway.base_url, api_key=KEY) as client,
        client.messages.stream(
            model="fake", max_tokens=256, messages=[{"role": "user", "content": "Hello"}]
        ) as stream,
    ):
        async for text in stream.text_stream:
            assert text
            break
    await engine.happens("disconnect")


async def test_leaving_through_the_openai_sdk(gateway: Gateway, engine: FakeEngine) -> None:
    engine.script(Answer(text="one two three", then="stall", at=3))
    async with openai.AsyncOpenAI(base_url=f"{gateway.base_url}/v1", api_key=KEY) as client:
        stream = await client.chat.completions.create(
            model="fake", messages=[{"role": "user", "content": "Hello"}], stream=True
        )
        async for _ in stream:
            break
        await stream.close()
    await engine.happens("disconnect")
