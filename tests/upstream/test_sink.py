"""Answers that are taken as they arrive."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

import pytest

from homeport.errors import UpstreamError
from homeport.upstream import Exchange
from homeport.upstream.client import TICK_S
from tests.upstream.raw_server import Peer, Server, answers, on_uvloop


class Sipping:
    """A sink that takes pieces until told otherwise."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.left: Callable[[bytes], bytes | None] = lambda data: None
        self.came = asyncio.Event()

    def __call__(self, data: bytes) -> bytes | None:
        left = self.left(data)
        if left is None or not left:
            self.taken.append(data)
        self.came.set()
        return left

    async def more(self) -> None:
        await self.came.wait()
        self.came.clear()


class Sipped(NamedTuple):
    server: Server
    peer: Peer
    exchange: Exchange
    sink: Sipping
    reading: asyncio.Future[bytes | None]

    async def read(self) -> asyncio.Future[bytes | None]:
        """A reader that waits."""
        reading = asyncio.ensure_future(self.exchange.read(self.sink))
        await asyncio.sleep(0)
        return reading


@asynccontextmanager
async def sipped() -> AsyncIterator[Sipped]:
    """An answer of ten bytes, of which none has come, and a reader that waits with a sink."""
    go = asyncio.get_running_loop().create_future()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n")
        go.set_result(peer)
        await peer.client_left()

    async with Server(script) as server:
        exchange = server.client.exchange(server.url)
        await exchange.send()
        await exchange.wait_head()
        sink = Sipping()
        reading = asyncio.ensure_future(exchange.read(sink))
        await asyncio.sleep(0)
        try:
            yield Sipped(server, await go, exchange, sink, reading)
        finally:
            exchange.close()


@on_uvloop
async def test_sink_takes_what_comes_and_the_reader_sleeps_until_the_end() -> None:
    async with sipped() as it:
        for piece in (b"one", b"two"):
            await it.peer.send(piece)
            await it.sink.more()
            assert not it.reading.done()
        await it.peer.send(b"last")
        assert await it.reading == b""
        assert it.sink.taken == [b"one", b"two", b"last"]
        it.exchange.close()
        assert repr(it.server.client) == "<Client idle=1 origins=1>"


@on_uvloop
async def test_sink_that_cannot_take_wakes_the_reader_in_order() -> None:
    async with sipped() as it:
        it.sink.left = lambda data: data
        connection = it.exchange._connection
        assert connection is not None
        connection.data_received(b"one")
        connection.data_received(b"two")  # before the reader runs: not the sink's any more
        assert await it.reading == b"onetwo"
        it.sink.left = lambda data: None
        reading = await it.read()
        await it.peer.send(b"last")
        assert await reading == b""
        assert it.sink.taken == [b"last"]


@on_uvloop
async def test_sink_that_has_enough() -> None:
    async with sipped() as it:
        it.sink.left = lambda data: b""
        await it.peer.send(b"one")
        assert await it.reading == b""
        assert await it.exchange.read() == b"", "and so it stays"
        it.exchange.close()
        assert repr(it.server.client) == "<Client idle=0 origins=0>", "the rest is not waited for"


@pytest.mark.parametrize("piece", [b"one", b"everything"])
@on_uvloop
async def test_sink_that_fails_fails_the_reader(piece: bytes) -> None:
    def fail(data: bytes) -> bytes:
        raise LookupError(data)

    async with sipped() as it:
        it.sink.left = fail
        await it.peer.send(piece)
        with pytest.raises(LookupError, match=piece.decode()):
            await it.reading


@on_uvloop
async def test_answer_that_breaks_off_under_a_sink() -> None:
    async with sipped() as it:
        await it.peer.send(b"one")
        await it.sink.more()
        it.peer.reset()
        with pytest.raises(UpstreamError, match="mid-answer"):
            await it.reading
        assert it.sink.taken == [b"one"]


@on_uvloop
async def test_silence_under_a_sink() -> None:
    async with sipped() as it:
        connection = it.exchange._connection
        assert connection is not None
        connection._seen_at -= TICK_S
        connection._tick()
        assert await it.reading is None
        reading = await it.read()
        await it.peer.send(b"one")
        await it.sink.more()
        assert not reading.done()
        reading.cancel()
        await asyncio.wait({reading})
        await it.peer.send(b"two")
        assert await it.exchange.read() == b"two", "a reader that has gone takes its sink with it"
        assert it.sink.taken == [b"one"]


@pytest.mark.parametrize("length", [b"", b"content-length: 100\r\n"], ids=["open", "whole"])
@on_uvloop
async def test_answer_over_the_limit(length: bytes) -> None:
    """Whether its end has come or not."""
    answer = b"HTTP/1.1 200 OK\r\n" + length + b"\r\n" + b"x" * 100
    async with Server(answers(answer)) as server:
        exchange = server.client.exchange(server.url)
        await exchange.send()
        await exchange.wait_head()
        with pytest.raises(UpstreamError, match="over 99 bytes"):
            await exchange.read_all(99)
        exchange.close()
