"""One HTTP exchange with a client, over raw ASGI and what our own server offers beyond it (``Line``).

No framework's request object, because this is the hot path: what a short request costs beyond parsing
is one look at its body and one answer. It also keeps two things visible that frameworks hide: that the
client has gone (``watch``), and back-pressure (answers and ``chunk`` wait while the client does not
read).
"""

import asyncio
import functools
import itertools
import secrets
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol
from urllib.parse import parse_qs, quote

from homeport.errors import ClientError, RequestFault
from homeport.wire import faults
from homeport.wire.faults import Dialect

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]

_PROCESS = secrets.token_hex(8)
_numbers = itertools.count()


def new_id(prefix: str) -> str:
    """An id that no other process and no earlier call gave: a random part drawn once, and a count.

    Ids name things in logs and answers, nothing more; a system call for each would be waste.
    """
    return f"{prefix}{_PROCESS}{next(_numbers):08x}"


JSON = (b"content-type", b"application/json")


LINE = "homeport.line"
"""The name of ``Line`` among a scope's extensions."""


class Line(Protocol):
    """What our own server offers beyond ASGI. Two things cost a task there: writing to a client from
    where an engine's bytes arrive, and hearing that it has left; and a short request costs half as many
    steps when its body and its answer are one piece each."""

    @property
    def is_writable(self) -> bool:
        """False while the client does not read, and has been sent as much as the system holds."""
        ...

    async def unblocked(self) -> None:
        """Waits until it is writable, or the client has left."""
        ...

    @property
    def task(self) -> asyncio.Task[None] | None:
        """What runs for the request."""
        ...

    def whole_body(self) -> bytes | None:
        """The request's body, where all of it has come; else None, and ``receive`` tells. Asked
        once, and before ``receive``."""
        ...

    def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """Sends a whole answer; nothing once the client has left."""
        ...

    def push(self, data: bytes) -> None:
        """Sends a piece of the open stream; nothing once the client has left."""
        ...

    def when_left(self, callback: Callable[[], object] | None) -> None:
        """Calls back when the client leaves before its answer is complete. None: not any more."""
        ...


class Recorder(Protocol):
    """Hears what a stream sends, and that its client has left."""

    def open(self, notes: list[tuple[bytes, bytes]]) -> None: ...

    def record(self, data: bytes) -> None: ...

    def client_left(self, abort: Callable[[], object]) -> None:
        """Instead of being cancelled at once, the running task is left to the recorder's care."""


class Hearer(Protocol):
    """Hears an answer, piece by piece."""

    def hear(self, data: bytes) -> None: ...


class Http:
    """What a handler reads from and writes to. Write either ``answer`` once, or ``open_stream``,
    ``chunk`` as often as needed, ``end``."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, dialect: Dialect) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.dialect = dialect
        self.is_plain = False
        """Errors are said in our own words (``faults.plain_body_of``), not in the dialect's."""
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.request_id = new_id("req_")
        self.key_name = ""
        """Of the key that the client was admitted with; empty where none is needed."""
        self.is_from_litellm = False
        """It is the LiteLLM beside us that asks: it must not be asked for this again."""
        self.model_id = ""
        """What the asked name was resolved to."""
        self.waited_s = 0.0
        """For a model to be loaded and free."""
        self.notes: list[tuple[bytes, bytes]] = []
        """Headers that every answer to this request carries; handlers add to them."""
        self.status = 0
        """Of the answer that has begun; 0 before."""
        self.raw_body = b""
        """The request's body, once it has been read."""
        self.sent_bytes = 0
        """Of bodies and chunks."""
        self.heard: Hearer | None = None
        """Hears what is sent as well, where the request is captured."""
        self.tape: Recorder | None = None
        """Takes down what a stream sends, for a client that comes back."""
        self.has_left = False
        self.line: Line = scope["extensions"][LINE]
        self._scope, self._receive, self._send = scope, receive, send

    def __repr__(self) -> str:
        return f"<Http {self.method} {self.path} {self.request_id} status={self.status}>"

    def header(self, name: bytes) -> str | None:
        value = self.headers.get(name)
        return value.decode("latin-1") if value is not None else None

    @property
    def raw_path(self) -> str:
        """As it was sent: what is percent-encoded stays so."""
        raw: bytes = self._scope["raw_path"]
        return raw.decode("latin-1")

    def query(self, name: str) -> str | None:
        """The last value of a query parameter."""
        values = parse_qs(self._scope["query_string"].decode("latin-1")).get(name)
        return values[-1] if values else None

    async def body(self, limit_bytes: int) -> bytes:
        """The whole body. Raises ``ClientError("too_large")`` as soon as the limit is passed."""
        announced = self.headers.get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > limit_bytes:
            raise _too_large(limit_bytes)
        body = self.line.whole_body()
        if body is None:
            chunks, size, is_more = [], 0, True
            while is_more:
                piece, is_more = await self._piece()
                chunks.append(piece)
                size += len(piece)
                if size > limit_bytes:
                    raise _too_large(limit_bytes)
            body = b"".join(chunks)
        if len(body) > limit_bytes:
            raise _too_large(limit_bytes)
        self.raw_body = body
        return body

    async def discard_body(self) -> None:
        """Reads the body without keeping it."""
        while (await self._piece())[1]:
            pass

    async def _piece(self) -> tuple[bytes, bool]:
        """The next piece of the body, and whether more follow."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.has_left = True
            raise asyncio.CancelledError
        return message["body"], message["more_body"]

    # ------------------------------------------------------------------- answers

    async def answer(self, status: int, body: bytes, headers: Headers = (JSON,)) -> None:
        """A whole answer."""
        if status != 204:
            headers = (*headers, (b"content-length", b"%d" % len(body)))
        if not self.line.is_writable:
            await self.line.unblocked()
        self.line.answer(status, self._all(headers), body)
        self.status = status
        if self.method != "HEAD":
            self._note(body)

    async def fault(self, fault: RequestFault) -> None:
        """An error in the caller's dialect; nothing if the answer has begun already.

        What is left of the body is not asked for: the server below reads and drops it, so that the
        client gets to read this, and can use its connection again.
        """
        if self.status:
            return
        headers: list[tuple[bytes, bytes]] = [JSON]
        if fault.retry_after_s is not None:
            headers.append((b"retry-after", b"%d" % fault.retry_after_s))
        if fault.kind == "authentication":
            headers.append((b"www-authenticate", b"Bearer"))
        if self.is_plain:
            body = faults.plain_body_of(fault)
        else:
            body = faults.body_of(fault, self.dialect, self.request_id)
        await self.answer(faults.status_of(fault, self.dialect), body, headers)

    async def open_stream(self) -> None:
        """200 and the headers of an event stream."""
        if self.tape is not None:
            self.tape.open(self.notes)
        headers = self._all(STREAM_HEADERS)
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        self.status = 200

    async def chunk(self, data: bytes) -> None:
        """Waits while the client does not read."""
        self._note(data)
        if self.tape is not None:
            self.tape.record(data)
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    @property
    def may_push(self) -> bool:
        """False while the client does not read: ``chunk`` would wait."""
        return self.line.is_writable

    def push(self, data: bytes) -> None:
        """``chunk`` at once, where ``may_push``."""
        self._note(data)
        if self.tape is not None:
            self.tape.record(data)
        self.line.push(data)

    def _note(self, data: bytes) -> None:
        self.sent_bytes += len(data)
        if self.heard is not None:
            self.heard.hear(data)

    async def end(self) -> None:
        await self._send({"type": "http.response.body", "body": b""})

    def _all(self, headers: Headers) -> Headers:
        id_ = self.request_id.encode()
        return [*headers, (b"request-id", id_), (b"x-request-id", id_), *self.notes]

    # ------------------------------------------------------------------- the client's leaving

    def watch(self) -> "Watch":
        """``with http.watch():`` cancels the running task when the client leaves.

        ``has_left`` tells this cancellation from others.
        """
        return Watch(self)


STREAM_HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)


@functools.lru_cache(maxsize=1024)
def header_value(text: str) -> bytes:
    """A name from elsewhere as a header value: percent-encoded where it is not plain ASCII."""
    return quote(text, safe=HEADER_SAFE).encode()


HEADER_SAFE = "".join(map(chr, range(0x20, 0x7F)))


def _too_large(limit_bytes: int) -> ClientError:
    return ClientError("too_large", f"the request body is over the limit of {limit_bytes} bytes")


class Watch:
    """Notices that a client has gone."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def __enter__(self) -> None:
        self._http.line.when_left(self._left)

    def __exit__(self, *_: object) -> None:
        self._http.line.when_left(None)

    def _left(self) -> None:
        self._http.has_left = True
        if (task := self._http.line.task) is None:
            return
        if self._http.tape is not None:
            self._http.tape.client_left(task.cancel)
        else:
            task.cancel()
