"""What callers use of the client: a pool of connections for all origins, and exchanges.

Stale connections. Engines close idle connections after 5 s (llama.cpp, uvicorn) and may do so while
we send. A request on a *reused* connection that dies before any byte of an answer is sent once more
on a fresh one (RFC 9112, 9.3.1 allows that where the request was surely not acted on; engines that
close an idle connection have not read it).
"""

import asyncio
import functools
import math
import ssl
from collections.abc import Iterable, Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from homeport.errors import UpstreamError
from homeport.outgoing import Unsent
from homeport.upstream.connection import Connection, LostError, Sink, StaleError

MAX_IDLE = 64
"""Idle connections kept per origin."""

TICK_S = 5.0
"""``read`` returns ``None`` after this much silence, for the caller to give a sign of life."""


class Url(NamedTuple):
    """A parsed URL; the host header and the path are ready to be written."""

    origin: tuple[str, int, bool]
    """Host, port, and whether it is TLS."""
    path: bytes
    authority: bytes


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
    return Url((parts.hostname, port, tls), path.encode(), authority.encode())


class Head(NamedTuple):
    """Where a request goes, and what stands before its body but for the body's length."""

    url: Url
    method: str
    lines: bytes


def head_of(url: str, headers: Iterable[tuple[str, str]] = (), method: str = "POST") -> Head:
    """Raises ``ValueError`` for a URL that is none, and for header values with line breaks."""
    target = parse_url(url)
    lines = [f"{method} ".encode(), target.path, b" HTTP/1.1\r\nhost: ", target.authority, b"\r\n"]
    for name, value in headers:
        if "\n" in value or "\r" in value:
            raise ValueError(f"line break in header {name}")
        lines.append(f"{name}: {value}\r\n".encode("latin-1"))
    return Head(target, method, b"".join(lines))


class Exchange:
    """One request and its answer. Always ``close`` it: what is not read to its end is aborted."""

    def __init__(
        self, client: "Client", url: Url, head: bytes, body: bytes, patience_s: float | None
    ) -> None:
        self._client, self._url, self._head, self._body = client, url, head, body
        self._patience_s = patience_s
        self._connection: Connection | None = None
        self.is_answered = False
        """All that is wanted has been read: ``close`` does not abort the engine for what is left."""

    def __repr__(self) -> str:
        status = self._connection.status if self._connection else "unsent"
        return f"<Exchange {self._url.authority.decode()}{self._url.path.decode()} {status}>"

    async def send(self, *, fresh: bool = False) -> None:
        """Connects if need be, and sends. Raises ``UpstreamError("unavailable")`` if it cannot."""
        connection = None if fresh else self._client.idle(self._url)
        self._connection = connection or await self._client.connect(self._url)
        self._connection.begin(self._head, self._body, self._patience_s)

    async def wait_head(self, timeout_s: float | None = None) -> bool:
        """Waits for status and headers; False when ``timeout_s`` passed first (ask again)."""
        assert self._connection is not None
        try:
            return await self._connection.wait_head(timeout_s)
        except StaleError:
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
        assert self._connection is not None
        if (rest := self._connection.rest(limit_bytes)) is not None:
            return rest
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
        self.unsent = Unsent()
        self._idle: dict[tuple[str, int, bool], list[Connection]] = {}
        self._open: set[Connection] = set()
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
        as ``head_of`` does."""
        return self.exchange_of(head_of(url, headers, method), body, idle_timeout_s)

    def exchange_of(self, head: Head, body: bytes, idle_timeout_s: float | None) -> Exchange:
        """The same with a head that was made before."""
        end = b"\r\n"
        if body or head.method == "POST":
            end = b"content-length: %d\r\n\r\n" % len(body)
        return Exchange(self, head.url, head.lines + end, body, idle_timeout_s)

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

    def idle(self, url: Url) -> Connection | None:
        """An idle connection, if there is one."""
        idle = self._idle.get(url.origin)
        while idle:
            connection = idle.pop()  # the latest used: least likely to be closed by the engine
            if connection.is_open and connection.idle_s < self._keep_alive_s:
                return connection
            connection.abort()
        return None

    async def connect(self, url: Url) -> Connection:
        """A new connection. Raises ``LostError``."""
        host, port, tls = url.origin
        loop = asyncio.get_running_loop()
        context: ssl.SSLContext | None = None
        if tls:
            context = self._tls = self._tls or ssl.create_default_context()
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                _, connection = await loop.create_connection(
                    lambda: Connection(self, url.origin), host, port, ssl=context
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
            f"the engine at {host}:{port} does not answer: {reason}",
            retry_after_s=2,
        )

    def keep(self, connection: Connection) -> None:
        """Takes a connection back (called by the connection)."""
        idle = self._idle.setdefault(connection.origin, [])
        if len(idle) < MAX_IDLE:
            idle.append(connection)
        else:
            connection.abort()

    def forget(self, connection: Connection) -> None:
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
