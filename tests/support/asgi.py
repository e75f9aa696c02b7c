"""An ASGI application driven by hand, as the server would drive it.

Frameworks' test clients collect the whole answer before they return it, so they can see neither
streaming, nor back-pressure, nor a client that leaves. Here a test holds both ends: it feeds the body
piece by piece, stops reading, reads on, leaves.

What the server does and this does too: ``receive`` says ``http.disconnect`` once the client has left
*or the answer is complete*; ``send`` to a client that has left does nothing; what ``Line`` promises.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Self
from urllib.parse import unquote

from homeport.server.http import LINE

LIMIT_S = 10.0
"""What should happen at once must have happened by then."""

App = Callable[[dict[str, Any], Any, Any], Awaitable[None]]


class Exchange:
    """One request and its answer.

    >>> async with Exchange(app, "POST", "/v1/messages") as exchange:  # doctest: +SKIP
    ...     exchange.feed(b'{"model": ', more=True)
    ...     exchange.feed(b'"x"}')
    ...     assert await exchange.status() == 400
    """

    def __init__(
        self,
        app: App,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        query: str = "",
    ) -> None:
        fields = {"host": "127.0.0.1:11899", **(headers or {})}
        self._scope: dict[str, Any] = {
            "type": "http",
            "method": method,
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "extensions": {LINE: self},
            "headers": [(k.lower().encode(), v.encode("latin-1")) for k, v in fields.items()],
        }
        self._app = app
        self._pieces: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._changed = asyncio.Condition()
        self._reads = asyncio.Event()
        self._reads.set()
        self._over = asyncio.Event()  # the client has left, or the answer is complete
        self.has_left = self.is_complete = self.is_blocked = False
        self.start: dict[str, Any] | None = None
        self.chunks: list[bytes] = []
        self.receives = 0
        self.pushes = 0
        self._notes: list[asyncio.Future[None]] = []
        self._on_leave: Callable[[], object] | None = None

    async def __aenter__(self) -> Self:
        self.task = asyncio.ensure_future(self._app(self._scope, self._receive, self._send))
        return self

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        if kind is not None:
            self.task.cancel()
            await asyncio.wait({self.task})
            return
        async with asyncio.timeout(LIMIT_S):
            await self.task
            await asyncio.gather(*self._notes)

    # ------------------------------------------------------------- the client's side

    def feed(self, body: bytes, *, more: bool = False) -> Self:
        self._pieces.put_nowait({"type": "http.request", "body": body, "more_body": more})
        return self

    def leave(self) -> None:
        self.has_left = True
        self._tell()
        self._over.set()
        self._reads.set()

    def stop_reading(self) -> None:
        self._reads.clear()

    def read_on(self) -> None:
        self._reads.set()

    async def until(self, is_so: Callable[[Exchange], bool]) -> None:
        """Waits for what the application sends."""
        async with asyncio.timeout(LIMIT_S), self._changed:
            await self._changed.wait_for(lambda: is_so(self) or self.task.done())
        assert is_so(self), f"the application ended: {self.task!r}"

    async def status(self) -> int:
        await self.until(lambda it: it.start is not None)
        assert self.start is not None
        return int(self.start["status"])

    @property
    def headers(self) -> dict[str, str]:
        assert self.start is not None
        return {k.decode(): v.decode("latin-1") for k, v in self.start["headers"]}

    async def body(self) -> bytes:
        await self.until(lambda it: it.is_complete)
        return b"".join(self.chunks)

    async def json(self) -> Any:
        return json.loads(await self.body())

    # ------------------------------------------------------------- the server's side: Line

    @property
    def is_writable(self) -> bool:
        return self._reads.is_set()

    async def unblocked(self) -> None:
        await self._note(is_blocked=True)
        await self._reads.wait()
        self.is_blocked = False

    def whole_body(self) -> bytes | None:
        """As on a socket: what a test has fed before the application ran has come with the head."""
        if self._over.is_set() or self.receives or self._pieces.qsize() != 1:
            return None
        piece = self._pieces.get_nowait()
        if piece["more_body"]:
            self._pieces.put_nowait(piece)
            return None
        return bytes(piece["body"])

    def answer(self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> None:
        assert self.is_writable
        if self.has_left:
            return
        self._begin({"type": "http.response.start", "status": status, "headers": list(headers)})
        self._go_on(body, is_last=True)
        self._notes.append(asyncio.ensure_future(self._note()))

    def push(self, data: bytes) -> None:
        assert self.is_writable
        assert self.start is not None, "a body before the start"
        self.pushes += 1
        if not self.has_left:
            self.chunks.append(data)
            self._notes.append(asyncio.ensure_future(self._note()))

    def when_left(self, callback: Callable[[], object] | None) -> None:
        self._on_leave = callback
        if self.has_left:
            asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        if self._on_leave is not None and not self.is_complete:
            self._on_leave()

    @property
    def is_watched(self) -> bool:
        return self._on_leave is not None

    # ------------------------------------------------------------- the server's side: ASGI

    async def _receive(self) -> dict[str, Any]:
        self.receives += 1
        if not self._over.is_set():
            piece = asyncio.ensure_future(self._pieces.get())
            over = asyncio.ensure_future(self._over.wait())
            try:
                await asyncio.wait({piece, over}, return_when=asyncio.FIRST_COMPLETED)
                if piece.done():
                    return piece.result()
            finally:
                piece.cancel()
                over.cancel()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        if not self._reads.is_set():
            await self.unblocked()
        if self.has_left:
            return
        if message["type"] == "http.response.start":
            self._begin(message)
        else:
            self._go_on(message.get("body", b""), is_last=not message.get("more_body"))
        await self._note()

    def _begin(self, start: dict[str, Any]) -> None:
        assert self.start is None, "a second start"
        self.start = start

    def _go_on(self, body: bytes, *, is_last: bool) -> None:
        assert self.start is not None, "a body before the start"
        assert not self.is_complete, f"{body!r} after the end"
        if body and self._scope["method"] != "HEAD":
            self.chunks.append(body)
        if is_last:
            self.is_complete = True
            self._over.set()
            self._check_length()

    def _check_length(self) -> None:
        length = self.headers.get("content-length")
        if length is not None and self._scope["method"] != "HEAD":
            assert int(length) == sum(map(len, self.chunks))

    async def _note(self, *, is_blocked: bool = False) -> None:
        async with self._changed:
            self.is_blocked = is_blocked
            self._changed.notify_all()


async def ask(
    app: App,
    method: str,
    path: str,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    query: str = "",
) -> Exchange:
    """A request whose answer is complete."""
    async with Exchange(app, method, path, headers, query) as exchange:
        exchange.feed(body)
        await exchange.body()
    return exchange
