"""A connection of our HTTP/1.1 server without a socket, applications for it, and requests."""

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Sequence
from types import SimpleNamespace
from typing import Any

from homeport.outgoing import Unsent
from homeport.server.http import Line
from homeport.server.protocol import Connection

Answers = Callable[[Any, Any, Any], Coroutine[Any, Any, None]]
START = "http.response.start"


class Wire(asyncio.Transport):
    """A transport as uvloop's: ``write_eof`` and then ``write`` is a mistake, so is pausing twice."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.writes: list[bytes] = []
        self.is_closed = self.is_aborted = self.is_ended = self.is_paused = False
        self.closed = asyncio.Event()
        self.on_close: Callable[[], None] = lambda: None

    def write(self, data: Any) -> None:
        assert not self.is_ended, "a write after the end"
        assert data
        if not self.is_closed:
            self.sent += data
            self.writes.append(data)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.is_ended = True

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self.closed.set()
            asyncio.get_running_loop().call_soon(self.on_close)

    def abort(self) -> None:
        self.is_aborted = True
        self.close()

    def pause_reading(self) -> None:
        assert not self.is_paused
        self.is_paused = True

    def resume_reading(self) -> None:
        assert self.is_paused
        self.is_paused = False


class Client:
    """One connection, and the tasks on it."""

    def __init__(self, app: Answers, *, keep_alive_s: float = 60.0) -> None:
        self.connections: set[Connection] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        config = SimpleNamespace(loaded_app=app, timeout_keep_alive=keep_alive_s)
        state = SimpleNamespace(connections=self.connections, tasks=self.tasks)
        self.wire = Wire()
        self.connection = Connection(config, state, unsent=Unsent())
        self.wire.on_close = self.leave
        self.connection.connection_made(self.wire)

    def leave(self) -> None:
        if self.connection in self.connections:
            self.wire.is_closed = True
            self.connection.connection_lost(None)

    async def feed(self, *pieces: bytes) -> None:
        for piece in pieces:
            if not self.wire.is_closed:
                self.connection.data_received(piece)
            await turn()

    async def done(self) -> bytes:
        """All that was sent, once there is nothing more to come."""
        async with asyncio.timeout(5):
            while self.tasks:
                await asyncio.wait(self.tasks)
        await turn()
        return bytes(self.wire.sent)

    async def told(self, *pieces: bytes) -> bytes:
        await self.feed(*pieces)
        return await self.done()


# Functions, because mypy believes that an attribute stays as it was asserted to be.


def is_paused(client: Client) -> bool:
    return client.wire.is_paused


def is_closed(client: Client) -> bool:
    return client.wire.is_closed


def is_writable(line: Line) -> bool:
    return line.is_writable


async def turn() -> None:
    for _ in range(6):
        await asyncio.sleep(0)


async def body_of(receive: Any) -> bytes:
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise asyncio.CancelledError
        body += message["body"]
        if not message["more_body"]:
            return bytes(body)


def start(status: int = 200, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": START, "status": status, "headers": list(headers)}


def piece(body: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": more}


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Method, target and body."""
    body = await body_of(receive)
    said = b"%b %b?%b %b" % (
        scope["method"].encode(),
        scope["path"].encode(),
        scope["query_string"],
        body,
    )
    await send(start(200, (b"content-length", b"%d" % len(said))))
    await send(piece(said))


async def stream(scope: Any, receive: Any, send: Any) -> None:
    await body_of(receive)
    await send(start())
    for word in (b"one", b"two"):
        await send(piece(word, more=True))
    await send(piece(b""))


async def early(scope: Any, receive: Any, send: Any) -> None:
    """Answers without having asked for the body."""
    await send(start(200, (b"content-length", b"2")))
    await send(piece(b"no"))


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    edges = [0, *sorted({place % len(data) for place in places}), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges) if a < b]


GET = b"GET /a%20b?q=1 HTTP/1.1\r\nhost: x\r\n\r\n"
POST = b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"POST /c HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    b"3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\ntrailer: t\r\n\r\n"
)
UPGRADE = (
    b"POST /u HTTP/1.1\r\nhost: x\r\nconnection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\n"
    b"http2-settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\ncontent-length: 2\r\n\r\nup"
)
WHOLE_URL = b"GET http://x/w?q HTTP/1.1\r\nhost: x\r\n\r\n"


def answered(said: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(said), said)


ANSWERED = {
    GET: answered(b"GET /a b?q=1 "),
    POST: answered(b"POST /p? hello"),
    CHUNKED: answered(b"POST /c? hello"),
    UPGRADE: answered(b"POST /u? up"),
    WHOLE_URL: answered(b"GET /w?q "),
}
ALL = b"".join(ANSWERED)
ALL_ANSWERED = b"".join(ANSWERED.values())
