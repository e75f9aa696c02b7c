"""Which connection a request gets, what becomes of it, and how one is made."""

import asyncio
import contextlib
import gc
import socket

import pytest

from homeport.errors import UpstreamError
from homeport.upstream import Client
from homeport.upstream.client import parse_url
from homeport.upstream.connection import Connection
from tests.upstream.raw_server import (
    CHUNKED,
    OK,
    Peer,
    Server,
    answers,
    for_ever,
    on_uvloop,
    once_then_close_on_next,
    until,
)

# --- connections ----------------------------------------------------------------------------


@on_uvloop
async def test_connection_is_used_again() -> None:
    async with Server(for_ever) as server:
        for _ in range(5):
            assert await server.ask() == (200, b"ok")
        assert server.connections == 1
        assert repr(server.client) == "<Client idle=1 origins=1>"


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
    ],
)
@on_uvloop
async def test_connection_that_is_announced_to_close_is_not(head: bytes) -> None:
    async with Server(answers(head, then="wait")) as server:
        assert await server.ask() == (200, b"ok")
        assert await server.ask() == (200, b"ok")
        assert server.connections == 2


@on_uvloop
async def test_unread_answer_is_aborted_not_reused() -> None:
    left = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED + b"5\r\nhello\r\n")
        await peer.client_left()
        left.set()

    async with Server(script) as server:
        exchange = server.client.exchange(server.url)
        await exchange.send()
        await exchange.wait_head()
        assert await exchange.read() == b"hello"
        exchange.close()
        exchange.close()  # twice is harmless
        await left.wait()


@on_uvloop
async def test_answered_exchange_may_end_later() -> None:
    go = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED + b"5\r\nhello\r\n")
        await go.wait()
        await peer.send(b"0\r\n\r\n")
        await for_ever(peer)

    async with Server(script) as server:
        await _read_and_leave(server)
        go.set()
        await until(lambda: "idle=1" in repr(server.client))
        assert await server.ask() == (200, b"ok")
        assert server.connections == 1


@on_uvloop
async def test_answered_exchange_that_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("homeport.upstream.connection.LINGER_S", 0.02)
    async with Server(answers(CHUNKED + b"5\r\nhello\r\n", then="wait")) as server:
        await _read_and_leave(server)
        await asyncio.gather(*server.tasks)  # the server saw the client leave
        assert repr(server.client) == "<Client idle=0 origins=0>"


@on_uvloop
async def test_a_late_end_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next request has the connection for itself, however long its answer takes: the end of the
    patience with the first one does not cut it off."""
    monkeypatch.setattr("homeport.upstream.connection.LINGER_S", 0.3)
    go = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED + b"5\r\nhello\r\n")
        await go.wait()
        await peer.send(b"0\r\n\r\n")
        await peer.request()
        with contextlib.suppress(TimeoutError):  # it does not leave
            await asyncio.wait_for(peer.client_left(), 0.6)
        await peer.send(OK)
        await for_ever(peer)

    async with Server(script, for_ever) as server:
        await _read_and_leave(server)
        go.set()
        await until(lambda: "idle=1" in repr(server.client))
        assert await server.ask() == (200, b"ok")
        assert server.connections == 1


async def _read_and_leave(server: Server) -> None:
    exchange = server.client.exchange(server.url)
    await exchange.send()
    await exchange.wait_head()
    assert await exchange.read() == b"hello"
    exchange.is_answered = True
    exchange.close()
    assert repr(server.client) == "<Client idle=0 origins=0>"


@on_uvloop
async def test_cancelled_wait_aborts() -> None:
    asked, left = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        asked.set()
        await peer.client_left()
        left.set()

    async with Server(script) as server:
        task = asyncio.ensure_future(server.ask())
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await left.wait()


@pytest.mark.parametrize("how", ["close", "reset"])
@on_uvloop
async def test_stale_connection_is_replaced_once(how: str) -> None:
    async def script(peer: Peer) -> None:
        await once_then_close_on_next(peer)
        if how == "reset":
            peer.reset()

    async with Server(script, for_ever) as server:
        assert await server.ask() == (200, b"ok")
        assert await server.ask() == (200, b"ok")
        assert server.connections == 2


@on_uvloop
async def test_fresh_connection_that_dies_is_no_stale_one() -> None:
    async def silent(peer: Peer) -> None:
        await peer.request()

    async with Server(once_then_close_on_next, silent) as server:
        assert await server.ask() == (200, b"ok")
        with pytest.raises(UpstreamError, match="mid-answer"):
            await server.ask()
        assert server.connections == 2


@on_uvloop
async def test_nothing_is_sent_twice_once_a_byte_came() -> None:
    async def script(peer: Peer) -> None:
        await once_then_close_on_next(peer)
        await peer.send(b"H")

    async with Server(script, for_ever) as server:
        assert await server.ask() == (200, b"ok")
        with pytest.raises(UpstreamError, match="mid-answer"):
            await server.ask()
        assert server.connections == 1


@on_uvloop
async def test_replaced_connection_leaves_no_clock_behind() -> None:
    """The timer of a lost connection held it for as long as an answer may take."""
    async with Server(once_then_close_on_next, for_ever) as server:
        await server.ask()
        await server.ask()
        await server.client.close()
        await asyncio.sleep(0)
        gc.collect()
        alive = [c for c in gc.get_objects() if isinstance(c, Connection)]
        assert [c for c in alive if c._timer is not None] == []


@on_uvloop
async def test_idle_connection_has_a_clock_for_one_more_tick_at_most() -> None:
    async with Server(for_ever) as server:
        server.client.tick_s = 0.01
        await server.ask()
        (connection,) = server.client._idle[parse_url(server.url).origin]
        await until(lambda: connection._timer is None)
        assert await server.ask() == (200, b"ok")
        assert server.connections == 1


@on_uvloop
async def test_server_that_closes_idle_connections() -> None:
    async with Server(answers(OK)) as server:
        assert await server.ask() == (200, b"ok")
        await until(lambda: "idle=0" in repr(server.client))
        assert repr(server.client) == "<Client idle=0 origins=0>"
        assert await server.ask() == (200, b"ok")


@on_uvloop
async def test_idle_connections_expire() -> None:
    async with Server(for_ever) as server:
        server.client = Client(keep_alive_s=0.0)
        assert await server.ask() == (200, b"ok")
        assert await server.ask() == (200, b"ok")
        assert server.connections == 2


@on_uvloop
async def test_parallel_requests_take_a_connection_each() -> None:
    async with Server(for_ever) as server:
        found = await asyncio.gather(*(server.ask() for _ in range(10)))
        assert found == [(200, b"ok")] * 10
        assert 1 < server.connections <= 10
        before = server.connections
        await server.ask()
        assert server.connections == before


@on_uvloop
async def test_idle_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("homeport.upstream.client.MAX_IDLE", 2)
    async with Server(for_ever) as server:
        await asyncio.gather(*(server.ask() for _ in range(6)))
        assert repr(server.client) == "<Client idle=2 origins=1>"


# --- connecting -----------------------------------------------------------------------------


def closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@on_uvloop
async def test_nobody_listens() -> None:
    port = closed_port()
    with pytest.raises(UpstreamError, match=f"127.0.0.1:{port} does not answer") as error:
        await Client().exchange(f"http://127.0.0.1:{port}/").send()
    assert error.value.kind == "unavailable"
    assert error.value.retry_after_s


@on_uvloop
async def test_name_that_does_not_resolve() -> None:
    with pytest.raises(UpstreamError) as error:
        await Client().exchange("http://nobody.invalid/").send()
    assert error.value.kind == "unavailable"


@on_uvloop
async def test_connecting_takes_too_long() -> None:
    """A listener whose queue is full does not answer a new connection."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))
            client = Client(connect_timeout_s=0.05)
            with pytest.raises(UpstreamError, match=r"within 0\.05 s") as error:
                await client.exchange(f"http://127.0.0.1:{port}/").send()
            assert error.value.kind == "unavailable"
        finally:
            for filler in fillers:
                filler.close()


@on_uvloop
async def test_tls_asked_of_a_plain_server() -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.read(1)

    async with Server(script) as server:
        url = server.url.replace("http:", "https:")
        with pytest.raises(UpstreamError) as error:
            await server.client.exchange(url).send()
        assert error.value.kind == "unavailable"
