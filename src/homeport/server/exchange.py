"""One request and its answer, as our HTTP/1.1 server has them.

An ``Exchange`` is the ``receive`` and ``send`` of ASGI, and ``Line``: whole bodies, whole answers, and
what a relay needs. It frames the answer. When a request comes, and when the next one may be answered,
is ``protocol``'s matter.
"""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final, Protocol

import structlog

from homeport.server.http import Headers, Receive, Scope, Send

log = structlog.get_logger()

PAUSE_BYTES: Final = 256 * 1024
"""Of a body, unread, at which reading pauses. One read of uvloop's is as much."""

PHRASES: Final = {int(status): status.phrase for status in HTTPStatus}
STATUS_LINES: Final = {n: f"HTTP/1.1 {n} {phrase}".encode() for n, phrase in PHRASES.items()}
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


def refusal(status: int, why: bytes) -> bytes:
    return (
        b"HTTP/1.1 %d %b\r\ncontent-type: text/plain\r\nconnection: close\r\n"
        b"content-length: %d\r\n\r\n%b" % (status, PHRASES[status].encode(), len(why), why)
    )


FAILED: Final = refusal(500, b"homeport failed; see its log\n")

Application = Callable[[Scope, Receive, Send], Any]


class Connected(Protocol):
    """What an exchange asks of its connection."""

    loop: asyncio.AbstractEventLoop
    is_blocked: bool

    def write(self, data: bytes) -> None: ...

    def resume_reading(self) -> None: ...

    async def unblocked(self) -> None: ...

    def ended(self, exchange: "Exchange") -> None: ...

    def give_up(self, farewell: bytes) -> None: ...


class Exchange:
    """One request and its answer, as ASGI has it, and as ``Line`` has it.

    ``receive`` says ``http.disconnect`` once the client has left or the answer is complete; ``send``
    waits while the client does not read, and does nothing once it has left.
    """

    def __init__(
        self, connection: Connected, scope: Scope, *, keep_alive: bool, expects: bool
    ) -> None:
        self.scope = scope
        self.keep_alive = keep_alive
        self.is_running = self.is_received = self.is_begun = self.is_done = self.has_left = False
        self._connection = connection
        self._expects_continue = expects
        self._chunks: list[bytes] = []
        self._buffered = 0
        self._is_told_all = False
        self.task: asyncio.Task[None] | None = None
        self._reader: asyncio.Future[None] | None = None
        self._on_leave: Callable[[], object] | None = None
        self._is_chunked = self._is_bodiless = False
        self._left: int | None = None
        """What is left of the answer's announced length; None where none was."""

    def __repr__(self) -> str:
        return f"<Exchange {self.scope['method']} {self.scope['path']} done={self.is_done}>"

    # ------------------------------------------------------------------- the request

    def take(self, body: bytes) -> bool:
        """Keeps a piece of the body. Returns whether that is enough for now."""
        self._chunks.append(body)
        self._buffered += len(body)
        if self._reader is not None:
            self._wake()
        return self._buffered > PAUSE_BYTES

    def end(self) -> None:
        """The body is whole."""
        self.is_received = True
        if self._reader is not None:
            self._wake()

    def leave(self) -> None:
        """The client has gone."""
        self.has_left = True
        self._wake()
        self._tell()

    def _tell(self) -> None:
        if self._on_leave is not None and not self.is_done:
            self._on_leave()

    async def receive(self) -> dict[str, Any]:
        if self._expects_continue:
            self._expects_continue = False
            if not (self._chunks or self.is_received or self.is_begun or self.has_left):
                self._connection.write(CONTINUE)
        while not (self.has_left or self.is_done):
            if self._chunks or (self.is_received and not self._is_told_all):
                return self._next_piece()
            await self._more()
        return {"type": "http.disconnect"}

    def whole_body(self) -> bytes | None:
        if not self.is_received or self.has_left or self.is_done:
            return None
        chunks, self._chunks, self._buffered = self._chunks, [], 0
        self._is_told_all = True
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _next_piece(self) -> dict[str, Any]:
        body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks, self._buffered = [], 0
        self._is_told_all = self.is_received
        return {"type": "http.request", "body": body, "more_body": not self.is_received}

    async def _more(self) -> None:
        if not self.is_received:
            self._connection.resume_reading()
        self._reader = self._connection.loop.create_future()
        await self._reader

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    # ------------------------------------------------------------------- the answer

    async def send(self, message: dict[str, Any]) -> None:
        if self._connection.is_blocked:
            await self._connection.unblocked()
        if self.has_left:
            return
        if self.is_done:
            raise RuntimeError("this answer is complete")
        if self.is_begun:
            self._write(message.get("body", b""), is_last=not message.get("more_body"))
        else:
            self._begin(message["status"], message["headers"])

    @property
    def is_writable(self) -> bool:
        return not self._connection.is_blocked

    async def unblocked(self) -> None:
        await self._connection.unblocked()

    def push(self, data: bytes) -> None:
        if not self.has_left:
            self._write(data, is_last=False)

    def answer(self, status: int, headers: Headers, body: bytes) -> None:
        if self.has_left:
            return
        if self.is_begun:
            raise RuntimeError("this answer has begun already")
        self._begin(status, headers)
        self._write(body, is_last=True)

    def when_left(self, callback: Callable[[], object] | None) -> None:
        self._on_leave = callback
        if callback is not None and self.has_left:
            self._connection.loop.call_soon(self._tell)

    def _begin(self, status: int, headers: Headers) -> None:
        head = self._head_of(status, headers)
        self.is_begun = True
        self._connection.write(head)

    def _head_of(self, status: int, headers: Headers) -> bytes:
        lines = [STATUS_LINES.get(status) or b"HTTP/1.1 %d " % status]
        self._is_bodiless = self.scope["method"] == "HEAD" or status in (204, 304)
        self._left = None
        for name, value in headers:
            lines.append(name + b": " + value)
            if name == b"content-length":
                self._left = int(value)
        if self._left is None and not self._is_bodiless:
            self._is_chunked = self.scope["http_version"] == "1.1"
            if self._is_chunked:
                lines.append(b"transfer-encoding: chunked")
            else:
                self.keep_alive = False  # this answer ends with the connection
        if self._expects_continue and not self.is_received:
            self.keep_alive = False  # nobody knows whether that body still comes
        if not self.keep_alive:
            lines.append(b"connection: close")
        lines.append(b"\r\n")  # with the join, the empty line
        head = b"\r\n".join(lines)
        if head.count(b"\n") != len(lines) or head.count(b"\r") != len(lines) or b"\0" in head:
            raise RuntimeError("a line break within a header of an answer")
        return head

    def _write(self, body: bytes, *, is_last: bool) -> None:
        data = b""
        if self._is_chunked:
            if body:
                data = b"%x\r\n%b\r\n" % (len(body), body)
            if is_last:
                data += b"0\r\n\r\n"
        elif not self._is_bodiless:
            data = body
            self._count(len(body), is_last=is_last)
        if data:
            self._connection.write(data)
        if is_last:
            self.is_done = True
            if self._reader is not None:
                self._wake()
            self._connection.ended(self)

    def _count(self, length: int, *, is_last: bool) -> None:
        if self._left is None:
            return
        self._left -= length
        if self._left < 0 or (is_last and self._left):
            raise RuntimeError("an answer that is not as long as its head says")

    # ------------------------------------------------------------------- its task

    async def run(self, app: Application) -> None:
        try:
            await app(self.scope, self.receive, self.send)
        except Exception:
            log.exception("request.failed", path=self.scope["path"])
        finally:
            self.scope.pop("extensions", None)  # a cycle otherwise, for each request
            if not self.is_done and not self.has_left:
                self._connection.give_up(b"" if self.is_begun else FAILED)
