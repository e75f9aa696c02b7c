"""The HTTP client against a raw server that does what each test says, byte by byte.

Runs on uvloop, as the gateway does: its transports differ from asyncio's in when they notice what.
Nothing sleeps; what must not hang is cut off by ``LIMIT_S``.
"""

import asyncio
import contextlib
import functools
import gc
import math
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, NamedTuple, Self

import pytest
import uvloop

from homeport import upstream
from homeport.errors import UpstreamError
from homeport.upstream import Client, Exchange, parse_url

LIMIT_S = 20.0
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def on_uvloop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(LIMIT_S):
                await test(*args, **kwargs)

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(bounded())

    return run


# --- the server -----------------------------------------------------------------------------


class Peer:
    """One connection, from the server's side."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def request(self) -> tuple[bytes, bytes]:
        """Head and body of the next request."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        lines = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
        return head, await self.reader.readexactly(int(lines.get(b"content-length", b"0")))

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()

    async def client_left(self) -> None:
        try:
            while await self.reader.read(65536):
                pass
        except ConnectionError:
            pass

    def reset(self) -> None:
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[Peer], Awaitable[None]]


class Server:
    """Gives the first connection to the first script, and so on; the last one serves the rest. A
    connection is closed when its script ends."""

    def __init__(self, *scripts: Script) -> None:
        self._scripts = scripts
        self.connections = 0
        self.tasks: list[asyncio.Task[Any]] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1/x"
        self.client = Client()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.client.close()
        self._server.close()
        if kind is not None:
            for task in self.tasks:
                task.cancel()
        await asyncio.gather(*self.tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.append(task)
        script = self._scripts[min(self.connections, len(self._scripts) - 1)]
        self.connections += 1
        try:
            await script(Peer(reader, writer))
        except asyncio.IncompleteReadError:
            pass  # the client closed an idle connection
        finally:
            writer.transport.abort() if writer.transport.is_closing() else writer.close()

    async def ask(self, body: bytes = b"question") -> tuple[int, bytes]:
        exchange = self.client.exchange(self.url, body=body)
        try:
            await exchange.send()
            await exchange.wait_head()
            return exchange.status, await exchange.read_all(1 << 20)
        finally:
            exchange.close()


def answers(*pieces: bytes, then: str = "close") -> Script:
    """A script: one request, this answer, cut as given."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(*pieces)
        if then == "reset":
            peer.reset()
        elif then == "wait":
            await peer.client_left()

    return script


async def for_ever(peer: Peer) -> None:
    while True:
        await peer.request()
        await peer.send(OK)


async def until(is_so: Callable[[], bool]) -> None:
    """Turns the loop until the client has noticed what the server did."""
    while not is_so():  # noqa: ASYNC110  (nothing here could set an event)
        await asyncio.sleep(0)


# --- answers --------------------------------------------------------------------------------


@on_uvloop
async def test_what_the_server_gets() -> None:
    seen: list[tuple[bytes, bytes]] = []

    async def script(peer: Peer) -> None:
        seen.append(await peer.request())
        await peer.send(OK)

    async with Server(script) as server:
        exchange = server.client.exchange(
            server.url + "?a=b", headers=[("x-one", "1"), ("x-two", "é")], body=b"body"
        )
        await exchange.send()
        await exchange.wait_head()
        assert await exchange.read_all(10) == b"ok"
        assert exchange.status == 200
        assert exchange.header("content-length") == "2"
        assert exchange.header("nothing") is None
        exchange.close()
        port = b"%d" % server.port
    head, body = seen[0]
    assert body == b"body"
    assert head.splitlines()[:5] == [
        b"POST /v1/x?a=b HTTP/1.1",
        b"host: 127.0.0.1:" + port,
        b"x-one: 1",
        "x-two: é".encode("latin-1"),
        b"content-length: 4",
    ]


@on_uvloop
async def test_big_request_arrives_whole() -> None:
    sizes: list[int] = []

    async def script(peer: Peer) -> None:
        _, body = await peer.request()
        sizes.append(len(body))
        await peer.send(OK)

    async with Server(script) as server:
        assert await server.ask(b"x" * 5_000_000) == (200, b"ok")
    assert sizes == [5_000_000]


@on_uvloop
async def test_line_break_in_header_is_refused() -> None:
    for value in ("a\r\nb: c", "a\nb"):
        with pytest.raises(ValueError, match="line break"):
            Client().exchange("http://127.0.0.1/", headers=[("a", value)])


WHOLE_CHUNKED = CHUNKED + b"5\r\nhello\r\n7;ext=1\r\n, world\r\n0\r\ntrailer: x\r\n\r\n"


@pytest.mark.parametrize("at", range(1, len(WHOLE_CHUNKED)))
@on_uvloop
async def test_chunked_cut_anywhere_arrives_whole(at: int) -> None:
    async with Server(answers(WHOLE_CHUNKED[:at], WHOLE_CHUNKED[at:])) as server:
        assert await server.ask() == (200, b"hello, world")


@on_uvloop
async def test_chunked_byte_by_byte() -> None:
    pieces = [WHOLE_CHUNKED[i : i + 1] for i in range(len(WHOLE_CHUNKED))]
    async with Server(answers(*pieces)) as server:
        assert await server.ask() == (200, b"hello, world")


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("at", range(1, len(WHOLE_CHUNKED), 7))
@on_uvloop
async def test_chunked_that_ends_early_is_an_error(at: int, how: str) -> None:
    """Never a truncated answer that looks whole."""
    async with Server(answers(WHOLE_CHUNKED[:at], then=how)) as server:
        with pytest.raises(UpstreamError, match="closed the connection") as error:
            await server.ask()
        assert error.value.kind == "upstream"


@on_uvloop
async def test_body_until_close() -> None:
    async with Server(answers(b"HTTP/1.1 200 OK\r\n\r\n", b"all of", b" this")) as server:
        assert await server.ask() == (200, b"all of this")
        assert await server.ask() == (200, b"all of this")
        assert server.connections == 2


@on_uvloop
async def test_content_length_cut_short_is_an_error() -> None:
    async with Server(answers(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")) as server:
        with pytest.raises(UpstreamError, match="mid-answer"):
            await server.ask()


@on_uvloop
async def test_what_came_before_the_cut_is_readable() -> None:
    async with Server(answers(CHUNKED + b"5\r\nhello\r\n")) as server:
        exchange = server.client.exchange(server.url)
        await exchange.send()
        await exchange.wait_head()
        assert await exchange.read() == b"hello"
        with pytest.raises(UpstreamError):
            await exchange.read()
        exchange.close()


@on_uvloop
async def test_interim_answers_are_skipped() -> None:
    interim = b"HTTP/1.1 100 Continue\r\nx: y\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: z\r\n\r\n"
    async with Server(answers(interim, OK)) as server:
        exchange = server.client.exchange(server.url)
        await exchange.send()
        await exchange.wait_head()
        assert (exchange.status, exchange.header("x")) == (200, None)
        assert await exchange.read_all(10) == b"ok"
        exchange.close()


@pytest.mark.parametrize("status", [204, 304])
@on_uvloop
async def test_answers_without_a_body(status: int) -> None:
    async with Server(answers(b"HTTP/1.1 %d No\r\n\r\n" % status, then="wait")) as server:
        assert await server.ask() == (status, b"")


# --- nonsense -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "garbage",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x15\x03\x03\x00\x02\x02\x46",  # a TLS alert
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        CHUNKED + b"xyz\r\n",
    ],
)
@on_uvloop
async def test_garbage(garbage: bytes) -> None:
    async with Server(answers(garbage, then="wait")) as server:
        with pytest.raises(UpstreamError, match="does not speak HTTP") as error:
            await server.ask()
        assert error.value.kind == "upstream"


async def _one_long_header(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\nx: ")
    while not peer.writer.is_closing():
        await peer.send(b"y" * 4096)


async def _headers_without_end(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\n")
    while not peer.writer.is_closing():
        await peer.send(b"x: y\r\n" * 512)


async def _interims_without_end(peer: Peer) -> None:
    await peer.request()
    while not peer.writer.is_closing():
        await peer.send(b"HTTP/1.1 102 Processing\r\n\r\n" * 128)


@pytest.mark.parametrize("script", [_one_long_header, _headers_without_end, _interims_without_end])
@on_uvloop
async def test_head_without_end(script: Script) -> None:
    async def until_cut(peer: Peer) -> None:
        with contextlib.suppress(ConnectionError):
            await script(peer)

    async with Server(until_cut) as server:
        with pytest.raises(UpstreamError, match=f"over {upstream.MAX_HEAD_BYTES} bytes"):
            await server.ask()


@pytest.mark.parametrize("when", ["together", "later"])
@on_uvloop
async def test_answer_that_nobody_asked_for_poisons_the_connection(when: str) -> None:
    """Else it would be taken for the answer to the next request."""
    sent = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        stray = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nstray"
        if when == "together":
            await peer.send(OK + stray)
        else:
            await peer.send(OK)
            await asked_once.wait()
            await peer.send(stray)
        sent.set()
        await peer.client_left()

    asked_once = asyncio.Event()
    async with Server(script, for_ever) as server:
        assert await server.ask() == (200, b"ok")
        asked_once.set()
        await sent.wait()
        await until(lambda: "idle=0" in repr(server.client))
        assert await server.ask() == (200, b"ok")
        assert server.connections == 2


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
    monkeypatch.setattr(upstream, "LINGER_S", 0.02)
    async with Server(answers(CHUNKED + b"5\r\nhello\r\n", then="wait")) as server:
        await _read_and_leave(server)
        await asyncio.gather(*server.tasks)  # the server saw the client leave
        assert repr(server.client) == "<Client idle=0 origins=0>"


@on_uvloop
async def test_a_late_end_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next request has the connection for itself, however long its answer takes: the end of the
    patience with the first one does not cut it off."""
    monkeypatch.setattr(upstream, "LINGER_S", 0.3)
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


async def _once_then_close_on_next(peer: Peer) -> None:
    """As a server does whose idle timeout fires while the next request is on its way."""
    await peer.request()
    await peer.send(OK)
    await peer.request()


@pytest.mark.parametrize("how", ["close", "reset"])
@on_uvloop
async def test_stale_connection_is_replaced_once(how: str) -> None:
    async def script(peer: Peer) -> None:
        await _once_then_close_on_next(peer)
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

    async with Server(_once_then_close_on_next, silent) as server:
        assert await server.ask() == (200, b"ok")
        with pytest.raises(UpstreamError, match="mid-answer"):
            await server.ask()
        assert server.connections == 2


@on_uvloop
async def test_nothing_is_sent_twice_once_a_byte_came() -> None:
    async def script(peer: Peer) -> None:
        await _once_then_close_on_next(peer)
        await peer.send(b"H")

    async with Server(script, for_ever) as server:
        assert await server.ask() == (200, b"ok")
        with pytest.raises(UpstreamError, match="mid-answer"):
            await server.ask()
        assert server.connections == 1


@on_uvloop
async def test_replaced_connection_leaves_no_clock_behind() -> None:
    """The timer of a lost connection held it for as long as an answer may take."""
    async with Server(_once_then_close_on_next, for_ever) as server:
        await server.ask()
        await server.ask()
        await server.client.close()
        await asyncio.sleep(0)
        gc.collect()
        alive = [c for c in gc.get_objects() if isinstance(c, upstream._Connection)]
        assert [c for c in alive if c._timer is not None] == []


@on_uvloop
async def test_idle_connection_has_a_clock_for_one_more_tick_at_most() -> None:
    async with Server(for_ever) as server:
        server.client.tick_s = 0.01
        await server.ask()
        (connection,) = server.client._idle[upstream.parse_url(server.url).origin]
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
    monkeypatch.setattr(upstream, "MAX_IDLE", 2)
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
            async with asyncio.timeout(upstream.TICK_S / 2):
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
        await _once_then_close_on_next(peer)
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
        await _once_then_close_on_next(peer)
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
        assert connection._buffered <= upstream.PAUSE_BYTES + 1024 * 1024
        got = 0
        while data := await exchange.read():
            got += len(data)
        assert got == size
        exchange.close()


# --- a sink -------------------------------------------------------------------------------------


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
        connection._seen_at -= upstream.TICK_S
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


@on_uvloop
async def test_answer_over_the_limit() -> None:
    async with Server(answers(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100)) as server:
        exchange = server.client.exchange(server.url)
        await exchange.send()
        await exchange.wait_head()
        with pytest.raises(UpstreamError, match="over 99 bytes"):
            await exchange.read_all(99)
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


# --- fetch ----------------------------------------------------------------------------------


@on_uvloop
async def test_fetch() -> None:
    async with Server(for_ever) as server:
        status, headers, body = await server.client.fetch(server.url, {"a": "b"})
        assert (status, body, headers["content-length"]) == (200, b"ok", "2")


@on_uvloop
async def test_fetch_that_takes_too_long() -> None:
    left = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.client_left()
        left.set()

    async with Server(script) as server:
        with pytest.raises(UpstreamError, match="did not answer within") as error:
            await server.client.fetch(server.url, timeout_s=0.05)
        assert error.value.kind == "timeout"
        await left.wait()


# --- small things ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "host", "port", "path", "authority"),
    [
        ("http://a/v1", "a", 80, b"/v1", b"a"),
        ("https://a", "a", 443, b"/", b"a"),
        ("http://[::1]:8080/x?y=z", "::1", 8080, b"/x?y=z", b"[::1]:8080"),
        ("http://user:secret@a:1/", "a", 1, b"/", b"a:1"),
    ],
)
def test_parse_url(url: str, host: str, port: int, path: bytes, authority: bytes) -> None:
    found = parse_url(url)
    assert (found.host, found.port, found.path, found.authority) == (host, port, path, authority)


@pytest.mark.parametrize("url", ["ftp://a/", "a:80", "http://", "http://a:99999/"])
def test_parse_url_refuses(url: str) -> None:
    with pytest.raises(ValueError, match=r"URL|[Pp]ort"):
        parse_url(url)


@on_uvloop
async def test_reprs() -> None:
    exchange: Exchange = Client().exchange("http://a:1/b")
    assert repr(exchange) == "<Exchange a:1/b unsent>"
    assert exchange.status == 0
    assert exchange.headers == {}
    exchange.close()
