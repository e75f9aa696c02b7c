"""Time and size: servers that say nothing, and clients that do not read."""

import asyncio
import math

import pytest

from homeport.errors import UpstreamError
from homeport.upstream import Client
from homeport.upstream.client import TICK_S
from homeport.upstream.connection import PAUSE_BYTES
from tests.upstream.raw_server import (
    CHUNKED,
    LIMIT_S,
    OK,
    Peer,
    Server,
    answers,
    for_ever,
    on_uvloop,
    once_then_close_on_next,
    until,
)

# --- time and size --------------------------------------------------------------------------


@on_uvloop
async def test_wait_head_gives_up_and_goes_on() -> None:
    go = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await go.wait()
        await peer.send(OK)

    async with Server(script) as server:
        exchange = server.client.exchange(server.url)
        await exchange.send()
        assert not await exchange.wait_head(0.0)
        assert not await exchange.wait_head(0.01)
        go.set()
        assert await exchange.wait_head(None)
        assert await exchange.wait_head(0.0)
        assert await exchange.read_all(10) == b"ok"
        exchange.close()


@on_uvloop
async def test_wait_head_gives_up_in_time_every_time() -> None:
    """uvloop's timers may fire a little before the time that its clock shows then."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.client_left()

    async with Server(script) as server:
        exchange = server.client.exchange(server.url)
        await exchange.send()
        for n in range(120):
            async with asyncio.timeout(TICK_S / 2):
                assert not await exchange.wait_head(0.002 + n * 0.000_01)
        exchange.close()


@on_uvloop
async def test_silence_is_told_and_the_answer_goes_on() -> None:
    go = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED + b"5\r\nhello\r\n")
        await go.wait()
        await peer.send(b"0\r\n\r\n")

    async with Server(script) as server:
        server.client.tick_s = 0.01
        exchange = server.client.exchange(server.url)
        await exchange.send()
        await exchange.wait_head()
        assert await exchange.read() == b"hello"
        assert await exchange.read() is None
        assert await exchange.read() is None
        go.set()
        while (data := await exchange.read()) is None:
            pass
        assert data == b""
        exchange.close()


@pytest.mark.parametrize("sent", [b"", CHUNKED + b"5\r\nhello\r\n"], ids=["no head", "mid-body"])
@on_uvloop
async def test_too_long_a_silence(sent: bytes) -> None:
    async with Server(answers(sent, then="wait")) as server:
        server.client = Client(idle_timeout_s=0.05)
        with pytest.raises(UpstreamError, match="said nothing") as error:
            await server.ask()
        assert error.value.kind == "timeout"


@on_uvloop
async def test_silence_on_a_used_connection_is_a_timeout_not_a_stale_one() -> None:
    async def script(peer: Peer) -> None:
        await once_then_close_on_next(peer)
        await peer.client_left()

    async with Server(script, for_ever) as server:
        server.client = Client(idle_timeout_s=0.05)
        assert await server.ask() == (200, b"ok")
        with pytest.raises(UpstreamError, match="said nothing"):
            await server.ask()
        assert server.connections == 1


@on_uvloop
async def test_an_exchange_may_have_less_patience_than_its_client() -> None:
    async def script(peer: Peer) -> None:
        await once_then_close_on_next(peer)
        await peer.client_left()

    async with Server(script, for_ever) as server:
        assert await server.ask() == (
            200,
            b"ok",
        )  # its connection is used again: with another clock
        exchange = server.client.exchange(server.url, idle_timeout_s=0.05)
        await exchange.send()
        with pytest.raises(UpstreamError, match="said nothing") as error:
            await exchange.wait_head()
        exchange.close()
        assert error.value.kind == "timeout"


@on_uvloop
async def test_client_that_does_not_read_is_not_the_engines_silence() -> None:
    async with Server(answers(CHUNKED + b"5\r\nhello\r\n", then="wait")) as server:
        server.client = Client(idle_timeout_s=0.02)
        exchange = server.client.exchange(server.url)
        await exchange.send()
        await exchange.wait_head()
        connection = exchange._connection
        assert connection is not None
        await until(lambda: bool(connection._chunks))
        for _ in range(5):
            connection._tick()  # as if that much time had passed
        await asyncio.sleep(0.05)
        assert await exchange.read() == b"hello"
        exchange.close()


@on_uvloop
async def test_back_pressure() -> None:
    """The engine blocks while nobody reads, and everything arrives once somebody does."""
    blocked, size = asyncio.Event(), 32 * 1024 * 1024

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        left = size
        while left:
            peer.writer.write(b"x" * 65536)
            left -= 65536
            try:
                async with asyncio.timeout(0.3):
                    await peer.writer.drain()
            except TimeoutError:
                blocked.set()
                await peer.writer.drain()

    async with Server(script) as server:
        exchange = server.client.exchange(server.url)
        await exchange.send()
        await exchange.wait_head()
        await blocked.wait()
        connection = exchange._connection
        assert connection is not None
        assert connection._is_paused
        assert connection._buffered <= PAUSE_BYTES + 1024 * 1024
        got = 0
        while data := await exchange.read():
            got += len(data)
        assert got == size
        exchange.close()


# --- silence --------------------------------------------------------------------------------


@on_uvloop
async def test_how_long_a_server_has_been_silent() -> None:
    """On any connection that is open; what waits to be read is no silence."""
    more = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await more.wait()
        await peer.send(CHUNKED, b"1\r\na\r\n")
        await peer.client_left()

    async with Server(for_ever, script) as server:
        client = server.client
        assert client.silence_s(server.url) == math.inf
        kept = client.exchange(server.url, body=b"x")
        await kept.send()
        await kept.wait_head()
        exchange = client.exchange(server.url, body=b"x")
        await exchange.send()
        assert client.silence_s(server.url) < LIMIT_S, "the other one has been answered"
        assert client.silence_s("http://127.0.0.1:1/") == math.inf
        kept.close()
        for connection in list(client._open):
            if connection.heard_at > 0:
                connection.abort()
        await until(lambda: client.silence_s(server.url) == math.inf)
        more.set()
        await exchange.wait_head()
        await until(lambda: client.silence_s(server.url) == 0.0)
        assert await exchange.read() == b"a"
        assert 0.0 <= client.silence_s(server.url) < LIMIT_S
        exchange.close()
        await until(lambda: client.silence_s(server.url) == math.inf)
        assert not client._open
