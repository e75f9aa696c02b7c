"""One connection to an engine, one exchange at a time.

It is an asyncio protocol around httptools' (llhttp's) parser. Whatever arrived since the last
``read`` is handed over at once; when more than ``PAUSE_BYTES`` wait, reading from the socket
pauses, so a client that does not read blocks the engine and not our memory. One future is the only
waiter, one lazily re-armed timer the only clock. While somebody waits in ``read`` with a ``Sink``,
what arrives goes to the sink from within ``data_received``, and nobody is woken unless the sink
says so: a streamed chunk then costs no turn of the loop.
"""

import asyncio
import math
from collections.abc import Callable
from typing import Any, Protocol, cast

import httptools

from homeport.errors import UpstreamError
from homeport.outgoing import Outgoing, Unsent

PAUSE_BYTES = 256 * 1024
"""Unread bytes at which reading pauses. uvicorn's own high-water mark is 64 KiB."""

MAX_HEAD_BYTES = 64 * 1024
"""All that may come before an answer's head is whole, interim heads included; httpcore allows
100 KiB, nginx 8 KiB a line."""

LINGER_S = 1.0
"""How long an answered exchange may take to end, so that its connection can be used again."""


Sink = Callable[[bytes], bytes | None]
"""Takes a piece of an answer as it arrives. Returns None to go on; the piece itself if it cannot be
taken now: ``read`` returns it; ``b""`` if it was the last that is wanted: so does ``read``. What a sink
raises, ``read`` raises."""


class LostError(UpstreamError):
    """The engine cannot be reached, or went away before its answer was whole: it may have died."""


class StaleError(Exception):
    """A reused connection died before it answered."""


class Pool(Protocol):
    """What a connection comes from, and goes back to."""

    idle_timeout_s: float
    tick_s: float
    """After this much silence ``read`` returns ``None``."""
    unsent: Unsent

    def keep(self, connection: "Connection") -> None: ...

    def forget(self, connection: "Connection") -> None: ...


class Connection(asyncio.Protocol):
    """One connection, one exchange at a time."""

    def __init__(self, pool: Pool, origin: tuple[str, int, bool]) -> None:
        self._pool, self.origin = pool, origin
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._out: Outgoing
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
        self._out = Outgoing(self._transport, self._pool.unsent, self._loop)

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
        if (self._sink is None or not self._pour(self._sink)) and self._waiter is not None:
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
            self._fail(StaleError())
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
        self._out.write(data)
        self._out.write(body)
        if self._timer is None:
            self._timer = self._loop.call_later(self._tick_s, self._tick)

    @property
    def _tick_s(self) -> float:
        return min(self._pool.tick_s, self._patience_s)

    async def wait_head(self, timeout_s: float | None) -> bool:
        """True once status and headers are there; False when ``timeout_s`` passed first."""
        if timeout_s is not None and not self._has_head and self._error is None:
            return await self._wait_head_for(timeout_s)
        while not self._has_head:
            if self._error is not None:
                raise self._error
            await self._wait()
        return True

    async def _wait_head_for(self, timeout_s: float) -> bool:
        is_over = False

        def end() -> None:  # a flag and no look at the clock: timers may fire a little early
            nonlocal is_over
            is_over = True
            self._wake()

        timer = self._loop.call_later(timeout_s, end)
        try:
            while not self._has_head:
                if self._error is not None:
                    raise self._error
                if is_over:
                    return False
                await self._wait()
        finally:
            timer.cancel()
        return True

    def rest(self, limit_bytes: int) -> bytes | None:
        """What has not been read of an answer that is there whole; None of any other, and beyond the
        limit."""
        if not self._is_complete or self._is_paused or self._buffered > limit_bytes:
            return None
        chunks, self._chunks, self._buffered = self._chunks, [], 0
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

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
