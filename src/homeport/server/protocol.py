"""HTTP/1.1 from clients: the protocol class that uvicorn puts on each connection.

uvicorn accepts, drains and stops; what happens on a connection is here. Ours, because every request
pays for it: uvicorn's own costs a seventh of a short request (``docs/adr/0004``). What is saved: one
timer that stays armed is the only clock, what our own application never uses is not prepared, and
what is written leaves together (``outgoing``).

How it works. A ``Connection`` parses (httptools, as uvicorn does) and keeps a queue of requests; the
first one is being answered. A request is an ``Exchange`` (``exchange``), which reads its body and
frames its answer. Its task starts as soon as its head is there and what came with it has been parsed: a
short request's body is whole by then, and a long one can be refused before its body has come.

The end of a connection. A client that closes its sending side counts as gone (a close looks the same,
and an engine must not work for nobody). An answer that came before the request's body had: the rest of
the body is read and dropped, so that a client that sends first and reads then gets to read it; where
the connection cannot stay open, our side says so by a FIN and drops on (RFC 9112, 9.6).

What a client controls is bounded: ``MAX_HEAD_BYTES``, ``PAUSE_BYTES`` of a body that nobody has asked
for yet, ``MAX_PIPELINED``, and ``keep_alive_s`` for a head to come, or a byte of a body.
"""

import asyncio
from collections import deque
from typing import Any, Final, cast
from urllib.parse import unquote

import httptools

from homeport.outgoing import Outgoing, Unsent
from homeport.server.exchange import Application, Exchange, refusal
from homeport.server.http import LINE, Scope

MAX_HEAD_BYTES: Final = 64 * 1024
"""Request line and headers; llhttp itself has no limit. nginx allows 32 KiB, Node 16 KiB."""

MAX_PIPELINED: Final = 64
"""Requests that wait behind the one being answered. Reading pauses at the first of them, so there
are never more than one read holds; no client that we know sends any."""


BAD_REQUEST: Final = refusal(400, b"this is no HTTP/1.1 request\n")
HEAD_TOO_LARGE: Final = refusal(431, b"the request's head is over 64 KiB\n")


class Connection(asyncio.Protocol):
    """One client. The constructor's arguments but the last, ``shutdown``, and being in uvicorn's set
    of connections are what uvicorn asks for."""

    def __init__(
        self,
        config: Any,
        server_state: Any,
        app_state: Any = None,
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        unsent: Unsent,
    ) -> None:
        self._app: Application = config.loaded_app
        self._keep_alive_s: float = config.timeout_keep_alive
        self._connections: set[Any] = server_state.connections
        self._tasks: set[asyncio.Task[None]] = server_state.tasks
        self.loop = _loop or asyncio.get_running_loop()
        self._parser: Any = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport
        self._unsent = unsent
        self._out: Outgoing
        self._timer: asyncio.TimerHandle
        self._seen_at = 0.0
        self._queue: deque[Exchange] = deque()
        """Requests whose heads are there; the first is being answered."""
        self._receiving: Exchange | None = None
        """The request whose body is coming, in the queue or answered already."""
        self._is_in_head = False
        self._head_bytes = 0
        self._read_bytes = 0
        """Of the latest read, what is no body."""
        self._expects_continue = False
        self._upgrading = self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._problem = BAD_REQUEST
        self._refusal = b""
        """What the client is told once the queue is empty, because the rest makes no sense."""
        self._is_paused = self._is_stopping = self._is_closing = self._is_lingering = False
        self.is_blocked = False
        self._writers: list[asyncio.Future[None]] = []

    def __repr__(self) -> str:
        return f"<Connection queue={list(self._queue)!r} blocked={self.is_blocked}>"

    # ------------------------------------------------------------------- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        self._out = Outgoing(self._transport, self._unsent, self.loop)
        self._connections.add(self)
        self._seen_at = self.loop.time()
        self._timer = self.loop.call_later(self._keep_alive_s, self._look_around)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._timer.cancel()
        queue, self._queue = self._queue, deque()
        for exchange in queue:
            exchange.leave()
        self.resume_writing()

    def data_received(self, data: bytes) -> None:
        if self._refusal:
            return
        self._read_bytes = len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._parser = httptools.HttpRequestParser(self)
            self.data_received(self._without_upgrade() + data[upgrade.args[0] :])
            return
        except httptools.HttpParserError:
            self._refuse(self._problem)
            return
        if self._is_in_head:
            self._head_bytes += self._read_bytes
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(HEAD_TOO_LARGE)
        self._start()

    def _without_upgrade(self) -> bytes:
        """The head that was just read, without the wish for another protocol: we speak no other, and
        ignoring it is how to say so (RFC 9110, 7.8). The parser would take the body for that other
        protocol; Java's client sends the wish with every request."""
        lines = [b"%b %b HTTP/1.1\r\n" % (self._upgrading, self._url)]
        lines += [b"%b: %b\r\n" % header for header in self._headers if header[0] != b"upgrade"]
        return b"".join((*lines, b"\r\n"))

    # ------------------------------------------------------------------- the parser's side

    def on_message_begin(self) -> None:
        if len(self._queue) > MAX_PIPELINED:
            raise ValueError("too many pipelined requests")
        self._is_in_head, self._head_bytes = True, 0
        self._url, self._headers, self._expects_continue = b"", [], False

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        self._headers.append((name, value))
        if name == b"expect":
            self._expects_continue = value.lower() == b"100-continue"

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        self._seen_at = self.loop.time()
        if self._head_bytes + self._read_bytes > MAX_HEAD_BYTES:
            self._check_head()
        if self._parser.should_upgrade():
            self._upgrading = self._parser.get_method()
            if self._upgrading == b"CONNECT":
                raise ValueError("no tunnels here")
            return  # it comes again, without that
        scope = self._scope()
        keep_alive = scope["http_version"] == "1.1" and self._parser.should_keep_alive()
        exchange = Exchange(self, scope, keep_alive=keep_alive, expects=self._expects_continue)
        scope["extensions"] = {LINE: exchange}
        self._receiving = exchange
        self._queue.append(exchange)
        if len(self._queue) > 1:
            self.pause_reading()

    def _check_head(self) -> None:
        size = sum(len(name) + len(value) for name, value in self._headers)
        if size + len(self._url) > MAX_HEAD_BYTES:
            self._problem = HEAD_TOO_LARGE
            raise ValueError("the head is too large")

    def _scope(self) -> Scope:
        """Raises ``ValueError`` for what is no request of HTTP/1."""
        version = self._parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise ValueError(f"HTTP/{version}")
        raw_path, _, query = self._target().partition(b"?")
        path = raw_path.decode("ascii")
        return {
            "type": "http",
            "http_version": version,
            "method": self._parser.get_method().decode("ascii"),
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": query,
            "headers": self._headers,
        }

    def _target(self) -> bytes:
        """Path and query; proxies' clients send whole URLs (RFC 9112, 3.2.2)."""
        url = self._url
        if url.startswith(b"/") or b"://" not in url:
            return url
        parts = httptools.parse_url(url)
        return (parts.path or b"/") + (b"?" + parts.query if parts.query else b"")

    def on_body(self, body: bytes) -> None:
        exchange = self._receiving
        self._seen_at = self.loop.time()
        self._read_bytes -= len(body)
        if exchange is not None and not exchange.is_done and exchange.take(body):
            self.pause_reading()

    def on_message_complete(self) -> None:
        exchange, self._receiving = self._receiving, None
        if exchange is not None:
            exchange.end()
        if self._is_paused and len(self._queue) < 2:
            self.resume_reading()  # for whoever comes next, and to hear that the client leaves
        if self._is_lingering:
            self._out.close()

    # ------------------------------------------------------------------- the exchanges' side

    def _start(self) -> None:
        if not self._queue or self._queue[0].is_running or self._is_closing:
            return
        exchange = self._queue[0]
        exchange.is_running = True
        task = self.loop.create_task(exchange.run(self._app))
        exchange.task = task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def write(self, data: bytes) -> None:
        self._out.write(data)

    def ended(self, exchange: Exchange) -> None:
        """An answer is complete: the next request's turn, or the connection's end."""
        self._queue.popleft()
        self._seen_at = self.loop.time()
        if not exchange.keep_alive or self._is_stopping:
            self._close(linger=not exchange.is_received)
        elif self._refusal and not self._queue:
            self._close_with(self._refusal)
        else:
            if self._is_paused and len(self._queue) < 2:
                self.resume_reading()
            if self._queue:
                self._start()

    def give_up(self, farewell: bytes) -> None:
        """The application has ended without an answer, or half-way through one."""
        if farewell:
            self._close_with(farewell)
        else:
            self._out.flush()
            self._transport.abort()

    def _refuse(self, answer: bytes) -> None:
        """Nonsense: it is answered once all that came before it is, and nothing is read after it."""
        if self._refusal:
            return
        self._refusal = answer
        broken, self._receiving = self._receiving, None
        if broken is not None and not broken.is_done:
            is_first = broken is self._queue[0]
            self._queue.remove(broken)
            broken.leave()
            if is_first and broken.is_begun:
                self._transport.abort()
        if self._queue:
            self._start()
        else:
            self._close_with(answer)

    def _close_with(self, answer: bytes) -> None:
        self._is_closing = True
        if not self._is_lingering and not self._transport.is_closing():
            self._out.write(answer)
        self._out.close()

    def _close(self, *, linger: bool) -> None:
        self._is_closing = True
        if linger and not self._is_stopping and self._transport.can_write_eof():
            self._is_lingering = True
            self._out.write_eof()
            self.resume_reading()
        else:
            self._out.close()

    # ------------------------------------------------------------------- ending

    def _look_around(self) -> None:
        """Closes the connection if the client owed us something for too long."""
        silence_s = self.loop.time() - self._seen_at
        is_waited_for = not self._queue or (self._receiving is not None and not self._is_paused)
        if is_waited_for and silence_s >= self._keep_alive_s * 0.999:
            self._out.close()
            return
        due_s = self._keep_alive_s - silence_s if is_waited_for else self._keep_alive_s
        self._timer = self.loop.call_later(due_s, self._look_around)

    def shutdown(self) -> None:
        """uvicorn's wish: what is under way may finish, then the connection ends."""
        self._is_stopping = True
        if not self._queue:
            self._out.close()
        for exchange in self._queue:
            exchange.keep_alive = False

    def abort(self) -> None:
        """Cuts the connection; to the request under way, its client has left."""
        self._transport.abort()

    # ------------------------------------------------------------------- flow

    def pause_reading(self) -> None:
        if not self._is_paused and not self._transport.is_closing():
            self._is_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._is_paused and not self._transport.is_closing():
            self._is_paused = False
            self._transport.resume_reading()

    def pause_writing(self) -> None:
        self.is_blocked = True

    def resume_writing(self) -> None:
        self.is_blocked = False
        writers, self._writers = self._writers, []
        for writer in writers:
            if not writer.done():
                writer.set_result(None)

    async def unblocked(self) -> None:
        """Waits until the client reads, or has left."""
        while self.is_blocked:
            writer = self.loop.create_future()
            self._writers.append(writer)
            await writer
