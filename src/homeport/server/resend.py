"""A client that comes back gets the answer that still runs, not a second one.

Agents give up on a slow stream and send the same request again: Claude Code after 300 s of silence,
others on any cut. Started anew, the copy queues behind the first, is slower, is given up in turn: a
livelock. So a stream with a session id is taped while it runs. When its client leaves, it is held for
``grace_s``; the same request (key, session, agent, route and body, byte for byte) that comes within
that time, or while the first still runs, follows the tape: what was sent is replayed, then it goes on
live. Without a session id nothing is held: two equal requests may well be two questions.

The first request's own task goes on as the producer; its writes to a client that has left fall into
the void, as uvicorn has it. A tape is bounded: a longer answer cannot be followed, and is then
aborted at once when its client leaves.
"""

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from homeport.errors import RequestFault, UpstreamError
from homeport.routing.affinity import key_of
from homeport.server.http import Http

MAX_TAPE_BYTES: Final = 8 * 1024 * 1024
"""About 50 000 tokens of translated stream."""


class ResendKey(NamedTuple):
    """What makes two requests the same."""

    client: str
    session: str
    agent: str
    path: str
    body: bytes


def resend_key(http: Http) -> ResendKey | None:
    """None when the request names no session."""
    session = key_of(http.headers)
    if session is None:
        return None
    digest = hashlib.blake2b(http.raw_body, digest_size=16).digest()
    return ResendKey(http.key_name, session.session, session.agent, http.path, digest)


class Tape:
    """One stream as it was sent so far, and who follows it."""

    def __init__(self, grace_s: float) -> None:
        self.notes: list[tuple[bytes, bytes]] = []
        self.fault: RequestFault | None = None
        self.is_open = self.is_done = self.is_full = False
        self._grace_s = grace_s
        self._chunks: list[bytes] = []
        self._size_bytes = 0
        self._followers = 0
        self._waiters: list[asyncio.Future[None]] = []
        self._abort: Callable[[], object] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Tape {self._size_bytes} bytes done={self.is_done} followers={self._followers}>"

    # ------------------------------------------------------------------- the producer's side

    def open(self, notes: list[tuple[bytes, bytes]]) -> None:
        self.notes, self.is_open = list(notes), True
        self._wake()

    def record(self, data: bytes) -> None:
        """A full tape takes no new followers; it goes on for those that it has."""
        self._size_bytes += len(data)
        self.is_full = self._size_bytes > MAX_TAPE_BYTES
        if self.is_full and not self._followers:
            self._chunks.clear()
            return
        self._chunks.append(data)
        self._wake()

    def close(self, fault: RequestFault | None = None) -> None:
        """The stream has ended; or it never opened, because of ``fault``."""
        self.fault, self.is_done = fault, True
        if self._timer is not None:
            self._timer.cancel()
        self._wake()

    def client_left(self, abort: Callable[[], object]) -> None:
        """The producer's client is gone: ``abort`` is called when nobody has come in time."""
        self._abort = abort
        self._hold()

    def _hold(self) -> None:
        if self._abort is None or self._followers or self.is_done:
            return
        if self.is_full:
            self._abort()
            return
        self._timer = asyncio.get_running_loop().call_later(self._grace_s, self._abort)

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    # ------------------------------------------------------------------- a follower's side

    async def follow(self, http: Http) -> None:
        """Answers ``http`` with what the tape holds and will hold."""
        self._followers += 1
        if self._timer is not None:
            self._timer.cancel()
        try:
            with http.watch():
                await self._replay(http)
        finally:
            self._followers -= 1
            self._hold()

    async def _replay(self, http: Http) -> None:
        while not self.is_open:
            if self.is_done:
                raise self.fault or UpstreamError("upstream", "the answer was broken off")
            await self._change()
        http.notes = [*self.notes, (b"x-homeport-resend", b"attached")]
        await http.open_stream()
        place = 0
        while True:
            if place < len(self._chunks):
                data = b"".join(self._chunks[place:])
                place = len(self._chunks)
                await http.chunk(data)
            elif self.is_done:
                await http.end()
                return
            else:
                await self._change()

    async def _change(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter


class Resends:
    """The tapes of streams that run, and for ``grace_s`` of those whose client missed the end."""

    def __init__(self, grace_s: float = 0.0) -> None:
        self.grace_s = grace_s
        self._tapes: dict[ResendKey, Tape] = {}

    def __repr__(self) -> str:
        return f"<Resends {list(self._tapes.values())!r}>"

    def find(self, key: ResendKey) -> Tape | None:
        tape = self._tapes.get(key)
        return None if tape is None or tape.is_full else tape

    @contextmanager
    def taped(self, key: ResendKey, http: Http) -> Iterator[None]:
        """Tapes what is sent to ``http`` within the block."""
        if self.grace_s <= 0:
            yield
            return
        tape = http.tape = self._tapes[key] = Tape(self.grace_s)
        try:
            yield
        except RequestFault as fault:
            tape.close(fault)
            raise
        finally:
            if not tape.is_done:
                tape.close()
            self._forget(key, tape, at_once=not http.has_left)

    def _forget(self, key: ResendKey, tape: Tape, *, at_once: bool) -> None:
        def drop() -> None:
            if self._tapes.get(key) is tape:
                del self._tapes[key]

        if at_once or not tape.is_open or tape.is_full:
            drop()
        else:
            asyncio.get_running_loop().call_later(self.grace_s, drop)
