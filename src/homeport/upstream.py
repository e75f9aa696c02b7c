"""The streaming HTTP/1.1 client to engines: open, relay, abort.

Ours, because it sits in the hot path: measured on this kind of machine it costs a third of aiohttp's
CPU a request and pyreqwest hops between threads for every streamed chunk (``docs/adr/0003``). Only
what talking to engines needs: keep-alive, chunked and length-delimited and until-close bodies,
back-pressure, timeouts, TLS. No redirects, cookies, proxies or compression.

How it works. A ``_Connection`` is an asyncio protocol around httptools' (llhttp's) parser. Whatever
arrived since the last ``read`` is handed over at once; when more than ``PAUSE_BYTES`` wait, reading
from the socket pauses, so a client that does not read blocks the engine and not our memory. One
future is the only waiter, one lazily re-armed timer the only clock. While somebody waits in ``read``
with a ``Sink``, what arrives goes to the sink from within ``data_received``, and nobody is woken
unless the sink says so: a streamed chunk then costs no turn of the loop.

Stale connections. Engines close idle connections after 5 s (llama.cpp, uvicorn) and may do so while
we send. A request on a *reused* connection that dies before any byte of an answer is sent once more
on a fresh one (RFC 9112, 9.3.1 allows that where the request was surely not acted on; engines that
close an idle connection have not read it).
"""

import asyncio
import functools
import math
import ssl
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

import httptools

from homeport.errors import UpstreamError

PAUSE_BYTES = 256 * 1024
"""Unread bytes at which reading pauses. uvicorn's own high-water mark is 64 KiB."""

MAX_HEAD_BYTES = 64 * 1024
"""All that may come before an answer's head is whole, interim heads included; httpcore allows
100 KiB, nginx 8 KiB a line."""

MAX_IDLE = 64
"""Idle connections kept per origin."""

LINGER_S = 1.0
"""How long an answered exchange may take to end, so that its connection can be used again."""

TICK_S = 5.0
"""``read`` returns ``None`` after this much silence, for the caller to give a sign of life."""


Sink = Callable[[bytes], bytes | None]
"""Takes a piece of an answer as it arrives. Returns None to go on; the piece itself if it cannot be
taken now: ``read`` returns it; ``b""`` if it was the last that is wanted: so does ``read``. What a sink
raises, ``read`` raises."""


class Url(NamedTuple):
    """A parsed URL; the host header and the path are ready to be written."""

    host: str
    port: int
    tls: bool
    path: bytes
    authority: bytes

    @property
    def origin(self) -> tuple[str, int, bool]:
        return self.host, self.port, self.tls


@functools.lru_cache(maxsize=1024)
def parse_url(url: str) -> Url:
    """Raises ``ValueError`` for what is no http(s) URL."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"not an http(s) URL: {url}")
    tls = parts.scheme == "https"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    authority = parts.netloc.rpartition("@")[2]
    port = parts.port or (443 if tls else 80)
    return Url(parts.hostname, port, tls, path.encode(), authority.encode())


class LostError(UpstreamError):
    """The engine cannot be reached, or went away before its answer was whole: it may have died."""


class _StaleError(Exception):
    """A reused connection died before it answered."""


class _Connection(asyncio.Protocol):
    """One connection, one exchange at a time."""

    def __init__(self, pool: "Client", origin: tuple[str, int, bool]) -> None:
        self._pool, self.origin = pool, origin
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser: Any = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_paused = False
        self.is_reused = False
        self.idle_since = 0.0
        self.heard_at = -math.inf
        """When bytes came last."""
        self._reset()

    def _reset(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self._head_bytes = 0
        self._chunks: list[bytes] = []
        self._buffered = 0
        self._has_head = self._is_complete = self._has_bytes = self._is_interim = False
        self._may_stay = self._is_lingering = self._is_idle = False
        self._error: Exception | None = None
        self._seen_at = self._loop.time()
        self._patience_s = self._pool.idle_timeout_s
        self._went_idle = False
        self._sink: Sink | None = None
        self._is_enough = False

    # ------------------------------------------------------------- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name

    def data_received(self, data: bytes) -> None:
        self._seen_at = self.heard_at = self._loop.time()
        self._has_bytes = True
        if not self._has_head:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._refuse(f"the engine does not speak HTTP: {error}")
        if not self._has_head and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(f"the head of the engine's answer is over {MAX_HEAD_BYTES} bytes")
        if self._buffered > PAUSE_BYTES and not self._is_paused and self._transport:
            self._is_paused = True
            self._transport.pause_reading()
        if self._sink is None or not self._pour(self._sink):
            self._wake()
        if self._is_lingering and self._is_complete:
            self.release()

    def _pour(self, sink: Sink) -> bool:
        """Gives the sink what has come. Returns whether the reader may sleep on."""
        if self._chunks:
            data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
            try:
                left = sink(data)
            except Exception as error:
                self._throw(error)
                return True
            if left is None:
                self._chunks.clear()
                self._buffered = 0
            else:
                self._sink = None  # before the reader runs, more may come
                self._chunks, self._is_enough = [left] if left else [], not left
                self._buffered = len(left)
                return False
        return not self._is_complete and self._error is None

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._stop_clock()
        self._pool.forget(self)
        if self._is_complete:
            return
        if self._has_head and self._ends_with_connection() and exc is None:
            self._is_complete = True
        elif self.is_reused and not self._has_bytes:
            self._fail(_StaleError())
        else:
            self._fail(LostError("upstream", "the engine closed the connection mid-answer"))
        self._wake()

    def _ends_with_connection(self) -> bool:
        return b"content-length" not in self.headers and b"transfer-encoding" not in self.headers

    # ------------------------------------------------------------- the parser's side

    def on_message_begin(self) -> None:
        if self._is_complete:  # it would be taken for the answer to the next request
            raise ValueError("an answer that nobody asked for")

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self._is_interim = 100 <= self.status < 200
        if self._is_interim:
            self.headers = {}
        else:
            self._has_head = True

    def on_body(self, body: bytes) -> None:
        self._chunks.append(body)
        self._buffered += len(body)

    def on_message_complete(self) -> None:
        self._is_complete = not self._is_interim
        # Asked here, and not later: the parser forgets a message's flags once it is complete.
        self._may_stay = self._parser.should_keep_alive()

    # ------------------------------------------------------------- the exchange's side

    def begin(self, data: bytes, body: bytes, patience_s: float | None) -> None:
        """Sends a request; what the last exchange left behind is gone. ``patience_s`` is how long the
        engine may be silent, where that is not the pool's."""
        assert self._transport is not None, "a connection that is open"
        self._reset()
        if patience_s is not None:
            self._patience_s = patience_s
            self._stop_clock()
        if len(body) > 16 * 1024:
            self._transport.writelines((data, body))
        else:
            self._transport.write(data + body)
        if self._timer is None:
            self._timer = self._loop.call_later(self._tick_s, self._tick)

    @property
    def _tick_s(self) -> float:
        return min(self._pool.tick_s, self._patience_s)

    async def wait_head(self, timeout_s: float | None) -> bool:
        """True once status and headers are there; False when ``timeout_s`` passed first."""
        timer, is_over = None, False

        def end() -> None:  # a flag and no look at the clock: timers may fire a little early
            nonlocal is_over
            is_over = True
            self._wake()

        if timeout_s is not None and not self._has_head and self._error is None:
            timer = self._loop.call_later(timeout_s, end)
        try:
            while not self._has_head:
                if self._error is not None:
                    raise self._error
                if is_over:
                    return False
                await self._wait()
        finally:
            if timer is not None:
                timer.cancel()
        return True

    async def read(self, sink: Sink | None = None) -> bytes | None:
        while not self._chunks:
            if self._is_complete or self._is_enough:
                return b""
            if self._error is not None:
                raise self._error
            if self._went_idle:
                self._went_idle = False
                return None
            self._sink = sink
            try:
                await self._wait()
            finally:
                self._sink = None
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._buffered = 0
        if self._is_paused and self._transport:
            self._is_paused = False
            self._transport.resume_reading()
        return data

    def release(self, *, is_answered: bool = False) -> None:
        """The exchange is over: back to the pool if it ended cleanly, else closed; a little later
        where only the end is missing (``is_answered``). The clock of a kept connection may tick on,
        once: arming a timer costs more than that. The end of our patience must not: it would cut off
        the next answer, or have the next request sent twice."""
        if self._is_complete and self._may_stay and not self._is_paused and self.is_open:
            if self._is_lingering:
                self._stop_clock()
            self.is_reused = self._is_idle = True
            self.idle_since = self._loop.time()
            self._pool.keep(self)
        elif is_answered and not self._is_complete:
            self._is_lingering = True
            self._stop_clock()
            self._timer = self._loop.call_later(LINGER_S, self.abort)
        else:
            self.abort()

    def abort(self) -> None:
        """Closes at once, with a reset: the engine notices without delay and stops generating."""
        if self._transport is not None:
            self._transport.abort()

    @property
    def silence_s(self) -> float:
        """How long nothing has come; what has come and is not read yet is no silence."""
        return 0.0 if self._chunks else self._loop.time() - self.heard_at

    @property
    def idle_s(self) -> float:
        """How long it has been in the pool."""
        return self._loop.time() - self.idle_since

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    # ------------------------------------------------------------- waiting

    async def _wait(self) -> None:
        assert self._waiter is None, "one reader at a time"
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _throw(self, error: Exception) -> None:
        self._sink = None
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)

    def _fail(self, error: Exception) -> None:
        if self._error is None:
            self._error = error

    def _refuse(self, problem: str) -> None:
        self._fail(UpstreamError("upstream", problem))
        self.abort()

    def _tick(self) -> None:
        """Looks at the clock every ``TICK_S`` instead of arming a timer for every read."""
        if self._is_idle:
            self._timer = None
            return
        due_s = self._tick_s
        if self._chunks:  # nobody reads: that is the client's silence, not the engine's
            self._seen_at = self._loop.time()
        silence = self._loop.time() - self._seen_at
        if silence >= self._patience_s * 0.999:
            self._fail(
                UpstreamError("timeout", f"the engine said nothing for {silence:.3g} seconds")
            )
            self._wake()
            self.abort()
            self._timer = None
            return
        if silence >= due_s * 0.999:
            self._went_idle = True
            self._wake()
        else:
            due_s -= silence
        self._timer = self._loop.call_later(due_s, self._tick)

    def _stop_clock(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Exchange:
    """One request and its answer. Always ``close`` it: what is not read to its end is aborted."""

    def __init__(
        self, client: "Client", url: Url, head: bytes, body: bytes, patience_s: float | None
    ) -> None:
        self._client, self._url, self._head, self._body = client, url, head, body
        self._patience_s = patience_s
        self._connection: _Connection | None = None
        self.is_answered = False
        """All that is wanted has been read: ``close`` does not abort the engine for what is left."""

    def __repr__(self) -> str:
        status = self._connection.status if self._connection else "unsent"
        return f"<Exchange {self._url.authority.decode()}{self._url.path.decode()} {status}>"

    async def send(self, *, fresh: bool = False) -> None:
        """Connects if need be, and sends. Raises ``UpstreamError("unavailable")`` if it cannot."""
        self._connection = await self._client.connection(self._url, fresh=fresh)
        self._connection.begin(self._head, self._body, self._patience_s)

    async def wait_head(self, timeout_s: float | None = None) -> bool:
        """Waits for status and headers; False when ``timeout_s`` passed first (ask again)."""
        assert self._connection is not None
        try:
            return await self._connection.wait_head(timeout_s)
        except _StaleError:
            await self.send(fresh=True)
            return await self._connection.wait_head(timeout_s)

    @property
    def status(self) -> int:
        return self._connection.status if self._connection else 0

    def header(self, name: str) -> str | None:
        assert self._connection is not None
        value = self._connection.headers.get(name.encode())
        return value.decode("latin-1") if value is not None else None

    @property
    def headers(self) -> Mapping[bytes, bytes]:
        """Names in lower case; of repeated ones the last."""
        return self._connection.headers if self._connection else {}

    async def read(self, sink: Sink | None = None) -> bytes | None:
        """What has arrived since; ``b""`` at the end; ``None`` after ``TICK_S`` of silence. What
        arrives while this waits goes to the ``sink`` first, if there is one."""
        assert self._connection is not None
        return await self._connection.read(sink)

    async def read_all(self, limit_bytes: int) -> bytes:
        """The rest of the body. Raises ``UpstreamError`` beyond the limit."""
        chunks: list[bytes] = []
        size = 0
        while (data := await self.read()) != b"":
            if data is None:
                continue
            size += len(data)
            if size > limit_bytes:
                raise UpstreamError("upstream", f"the engine's answer is over {limit_bytes} bytes")
            chunks.append(data)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def close(self) -> None:
        """Ends the exchange; an unfinished answer is aborted at the engine."""
        if self._connection is not None:
            self._connection.release(is_answered=self.is_answered)
            self._connection = None


class Client:
    """A keep-alive pool for all origins. One per process; ``close`` it at the end."""

    def __init__(
        self,
        *,
        connect_timeout_s: float = 5.0,
        idle_timeout_s: float = 3600.0,
        keep_alive_s: float = 4.0,
    ) -> None:
        self.set_timeouts(connect_timeout_s=connect_timeout_s, idle_timeout_s=idle_timeout_s)
        self._keep_alive_s = keep_alive_s
        self._idle: dict[tuple[str, int, bool], list[_Connection]] = {}
        self._open: set[_Connection] = set()
        self._tls: ssl.SSLContext | None = None

    def set_timeouts(self, *, connect_timeout_s: float, idle_timeout_s: float) -> None:
        """At once, for exchanges under way too."""
        self._connect_timeout_s, self.idle_timeout_s = connect_timeout_s, idle_timeout_s
        self.tick_s = min(TICK_S, idle_timeout_s)

    def __repr__(self) -> str:
        return f"<Client idle={sum(map(len, self._idle.values()))} origins={len(self._idle)}>"

    def exchange(
        self,
        url: str,
        *,
        method: str = "POST",
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        idle_timeout_s: float | None = None,
    ) -> Exchange:
        """A request, not sent yet; ``idle_timeout_s`` in place of the client's. Raises ``ValueError``
        for header values with line breaks."""
        target = parse_url(url)
        lines = [
            b"%b %b HTTP/1.1\r\nhost: %b\r\n" % (method.encode(), target.path, target.authority)
        ]
        for name, value in headers:
            if "\n" in value or "\r" in value:
                raise ValueError(f"line break in header {name}")
            lines.append(f"{name}: {value}\r\n".encode("latin-1"))
        if body or method == "POST":
            lines.append(b"content-length: %d\r\n" % len(body))
        lines.append(b"\r\n")
        return Exchange(self, target, b"".join(lines), body, idle_timeout_s)

    async def fetch(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 5.0,
        *,
        method: str = "GET",
        body: bytes = b"",
        limit_bytes: int = 16 * 1024 * 1024,
    ) -> tuple[int, dict[str, str], bytes]:
        """A small exchange, whole. Raises ``UpstreamError`` (``unavailable`` or ``timeout``)."""
        exchange = self.exchange(url, method=method, headers=(headers or {}).items(), body=body)
        try:
            async with asyncio.timeout(timeout_s):
                await exchange.send()
                await exchange.wait_head()
                answer = await exchange.read_all(limit_bytes)
                names = {
                    k.decode("latin-1"): v.decode("latin-1") for k, v in exchange.headers.items()
                }
                return exchange.status, names, answer
        except TimeoutError:
            raise UpstreamError("timeout", f"{url} did not answer within {timeout_s:g} s") from None
        finally:
            exchange.close()

    async def connection(self, url: Url, *, fresh: bool) -> _Connection:
        """An idle connection, or a new one."""
        idle = self._idle.get(url.origin)
        while idle and not fresh:
            connection = idle.pop()  # the latest used: least likely to be closed by the engine
            if connection.is_open and connection.idle_s < self._keep_alive_s:
                return connection
            connection.abort()
        return await self._connect(url)

    async def _connect(self, url: Url) -> _Connection:
        loop = asyncio.get_running_loop()
        context: ssl.SSLContext | None = None
        if url.tls:
            context = self._tls = self._tls or ssl.create_default_context()
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                _, connection = await loop.create_connection(
                    lambda: _Connection(self, url.origin), url.host, url.port, ssl=context
                )
        except TimeoutError:
            reason = f"no connection within {self._connect_timeout_s:g} s"
        except OSError as error:
            reason = error.strerror or str(error)
        else:
            if connection.is_open:
                self._open.add(connection)
                return connection
            reason = "it closed the connection at once"
        raise LostError(
            "unavailable",
            f"the engine at {url.host}:{url.port} does not answer: {reason}",
            retry_after_s=2,
        )

    def keep(self, connection: _Connection) -> None:
        """Takes a connection back (called by the connection)."""
        idle = self._idle.setdefault(connection.origin, [])
        if len(idle) < MAX_IDLE:
            idle.append(connection)
        else:
            connection.abort()

    def forget(self, connection: _Connection) -> None:
        """A connection was lost (called by the connection)."""
        self._open.discard(connection)
        idle = self._idle.get(connection.origin)
        if idle and connection in idle:
            idle.remove(connection)
            if not idle:  # engines of ours come back on other ports
                del self._idle[connection.origin]

    def silence_s(self, url: str) -> float:
        """For how long nothing has come from the server at ``url``, on any connection that is open;
        infinite when there is none, or nothing has ever come."""
        origin = parse_url(url).origin
        ours = (c.silence_s for c in self._open if c.origin == origin)
        return min(ours, default=math.inf)

    async def close(self) -> None:
        """Closes what is idle; exchanges under way end by their own ``close``."""
        for connections in self._idle.values():
            for connection in list(connections):
                connection.abort()
        self._idle.clear()
