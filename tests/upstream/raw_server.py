"""A raw server that does what each test says, byte by byte.

Tests run on uvloop, as the gateway does: its transports differ from asyncio's in when they notice what.
Nothing sleeps; what must not hang is cut off by ``LIMIT_S``.
"""

import asyncio
import functools
import socket
import struct
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Self

import uvloop

from homeport.upstream import Client

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


async def once_then_close_on_next(peer: Peer) -> None:
    """As a server does whose idle timeout fires while the next request is on its way."""
    await peer.request()
    await peer.send(OK)
    await peer.request()
