"""Between the requests and the database: nothing that happens to the latter reaches the former.

``record`` is what a request calls, once, at its end. It puts the record into a queue, which costs
about a microsecond, and never waits. One thread takes batches out of the queue and writes them, and
everything that may be slow, away or full is its business alone:

1. The database takes the batch.
2. It cannot now: the batch goes to the spool on disk, and so do all that follow, for the order's sake.
   The database is tried again after 1 s, 2 s, … 30 s; when it is back, the spool is replayed, oldest
   first, and from then on batches go straight to it.
3. It never will, because of a value in it: the batch is halved until the culprit is alone, and that
   one is dropped.
4. The spool has reached its limit, or the disk is full: the batch is dropped. So is a record for which
   there is no room in the queue, because the thread waits for a database that is slow.

Dropped records are counted (``homeport_usage_dropped_total``) and told in the log, the first of an
outage at once. A record that was written and whose answer got lost is written again: the database
keeps it once, by time and request id. Killed with -9 we lose what came in the last ``LINGER_S`` or
so.

A batch gathers for ``LINGER_S``: a thread that woke up for each record would cost each request more
than the writing does. Not for longer: at eight thousand requests a second a quarter of a second of
records is more than a core's cache holds, and then each request takes 10 µs longer (measured).
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Literal

import structlog

from homeport.store.base import Capture, RefusedError, Store, StoreError, UsageRecord
from homeport.store.spool import Spool, SpoolError

log = structlog.get_logger()

BATCH: Final = 500
QUEUE: Final = 20_000
"""Records, about 20 MB: twenty seconds of a thousand requests per second."""
CAPTURES: Final = 64
"""Captures that wait; a body may be large."""
LINGER_S: Final = 0.1
FIRST_RETRY_S: Final = 1.0
LAST_RETRY_S: Final = 30.0
PRUNE_EVERY_S: Final = 3600.0
CLOSE_S: Final = 5.0
"""How long a stop waits for the database; then what is left is spooled."""

Dropped = Literal["queue", "spool", "refused", "capture"]
"""Why: no room in the queue, none in the spool; a value that the database does not take; a capture that
could not be written at once."""


class Recorder:
    """Owns the store, the spool and the thread."""

    def __init__(
        self,
        store: Store,
        spool: Spool,
        *,
        retention_s: float,
        max_captures: int = 0,
        linger_s: float = LINGER_S,
        first_retry_s: float = FIRST_RETRY_S,
    ) -> None:
        self._store, self._spool = store, spool
        self._retention_s, self._max_captures = retention_s, max_captures
        self._linger_s, self._first_retry_s = linger_s, first_retry_s
        self._queue: deque[UsageRecord] = deque()
        self._captures: deque[Callable[[], Capture]] = deque()
        self._in_hand: Sequence[UsageRecord] = ()
        """What the thread has taken out of the queue and not got rid of."""
        self._wake, self._stop = threading.Event(), threading.Event()
        self._is_idle = False
        self._is_behind = spool.size_bytes > 0
        """Older records than the queue's wait in the spool."""
        self.is_up = False
        """Whether the database took what it was given last."""
        self._retry_at = self._prune_at = 0.0
        self._retry_s = first_retry_s
        self.written = 0
        self.dropped: dict[Dropped, int] = {"queue": 0, "spool": 0, "refused": 0, "capture": 0}
        self._is_told = False
        self._thread = threading.Thread(target=self._run, name="usage", daemon=True)

    def __repr__(self) -> str:
        state = "up" if self.is_up else "down"
        return f"<Recorder {state} queued={len(self._queue)} spooled={self.spooled_bytes}>"

    @property
    def queued(self) -> int:
        return len(self._queue)

    @property
    def is_down(self) -> bool:
        """The database was tried, and in vain. Before the first try it is neither up nor down."""
        return self._is_told and not self.is_up

    @property
    def spooled_bytes(self) -> int:
        return self._spool.size_bytes

    # ------------------------------------------------------------------- the loop's side

    def start(self) -> None:
        """The database is opened by the thread: serving does not wait for it."""
        self._thread.start()

    def record(self, record: UsageRecord) -> None:
        if len(self._queue) >= QUEUE:
            self.dropped["queue"] += 1
            return
        self._queue.append(record)
        if self._is_idle:
            self._is_idle = False
            self._wake.set()

    def capture(self, made: Callable[[], Capture]) -> None:
        """``made`` is called in the thread: redacting takes its time."""
        if len(self._captures) >= CAPTURES:
            self.dropped["capture"] += 1
            return
        self._captures.append(made)
        self._is_idle = False
        self._wake.set()

    def close(self, within_s: float = CLOSE_S) -> None:
        """Writes what is queued; what takes longer is spooled. Blocks for so long at most."""
        self._stop.set()
        self._wake.set()
        self._thread.join(within_s)
        if self._thread.is_alive():
            # It waits for the database with a batch in hand, which may arrive or not; given again by
            # the next start it is kept once.
            self._to_spool([*self._in_hand, *self._queue])
            self._queue.clear()
            self._spool.close()

    # ------------------------------------------------------------------- the thread's side

    def _run(self) -> None:
        while True:
            try:
                self._step()
            except Exception as error:  # one of ours; the thread must not end for it
                log.exception("store.failed")
                self._down(error)
                self._to_spool(self._in_hand)
            if self._stop.is_set() and not self._queue:
                break
            self._rest()
        self._store.close()
        self._spool.close()

    def _rest(self) -> None:
        """Until there is something to do, and then so long that a batch gathers."""
        self._is_idle = True
        if not self._queue and not self._captures:  # looked at after saying that we are idle
            self._wake.wait(self._idle_s())
        self._is_idle = False
        self._wake.clear()
        self._stop.wait(self._linger_s)

    def _idle_s(self) -> float:
        due = self._prune_at if self.is_up else self._retry_at
        return max(0.0, due - time.monotonic())

    def _step(self) -> None:
        if self._is_behind:
            self._catch_up()
        elif not self.is_up:
            self._is_ready()
        while batch := self._taken():
            self._in_hand = batch
            self._write(batch)
            self._in_hand = ()
        while self._captures:
            self._write_capture(self._captures.popleft())
        if self.is_up and time.monotonic() >= self._prune_at:
            self._prune()

    def _taken(self) -> list[UsageRecord]:
        return [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]

    def _write(self, batch: Sequence[UsageRecord]) -> None:
        if not self._is_behind and self._is_ready():
            try:
                self._append(batch)
            except StoreError as error:
                self._down(error)
            else:
                return
        self._to_spool(batch)

    def _catch_up(self) -> None:
        if not self._is_ready():
            return
        try:
            for segment in self._spool.segments():
                for batch in _batches(segment.records):
                    self._append(batch)
                self._spool.done(segment)
                self._drop("refused", segment.torn, "a line of the spool is cut off")
        except StoreError as error:
            self._down(error)
        else:
            self._is_behind = False

    def _append(self, batch: Sequence[UsageRecord]) -> None:
        """Raises ``StoreError``."""
        try:
            self._store.append(batch)
        except RefusedError as error:
            if len(batch) == 1:
                self._drop("refused", 1, str(error))
                return
            half = len(batch) // 2
            self._append(batch[:half])
            self._append(batch[half:])
        else:
            self.written += len(batch)
            self._works()

    def _to_spool(self, batch: Sequence[UsageRecord]) -> None:
        if not batch:
            return
        self._is_behind = True
        try:
            kept = self._spool.put(batch)
        except SpoolError as error:
            self._drop("spool", len(batch), str(error))
        else:
            self._drop("spool", len(batch) - kept, "its limit is reached")

    def _write_capture(self, made: Callable[[], Capture]) -> None:
        try:
            if self._is_ready():
                self._store.append_captures([made()])
                return
        except RefusedError as error:
            log.warning("store.capture_refused", error=str(error))
        except StoreError as error:
            self._down(error)
        self.dropped["capture"] += 1

    def _prune(self) -> None:
        self._prune_at = time.monotonic() + PRUNE_EVERY_S
        now_us = time.time_ns() // 1000
        before_us = now_us - round(self._retention_s * 1_000_000)
        try:
            self._store.prune(before_us, now_us=now_us, max_captures=self._max_captures)
        except StoreError as error:
            self._down(error)

    # ------------------------------------------------------------------- up and down

    def _is_ready(self) -> bool:
        """Whether the database may be asked; opens it when that is due. A stop waits for none that is
        down: the spool is there at the next start."""
        if self.is_up:
            return True
        if time.monotonic() < self._retry_at or (self._stop.is_set() and self._is_told):
            return False
        try:
            self._store.open()
        except StoreError as error:
            self._down(error)
            return False
        self.is_up = True
        return True

    def _works(self) -> None:
        """It has taken something; that it could be opened proves little: its disk may be full."""
        if self._is_told:
            log.warning("store.back")
        self._is_told, self._retry_s = False, self._first_retry_s

    def _down(self, error: Exception) -> None:
        self.is_up = False
        self._retry_at = time.monotonic() + self._retry_s
        self._retry_s = min(self._retry_s * 2, LAST_RETRY_S)
        if not self._is_told:
            self._is_told = True
            log.warning("store.down", error=str(error), then=self._what_follows())

    def _what_follows(self) -> str:
        """Where the state folder is what cannot be written, the spool in it cannot either."""
        try:
            self._spool.look()
        except SpoolError as error:
            return f"records are lost, for they cannot wait on disk: {error}"
        return "records wait on disk"

    def _drop(self, why: Dropped, count: int, reason: str) -> None:
        if not count:
            return
        if not self.dropped[why]:
            log.error("store.dropped", why=why, records=count, reason=reason)
        self.dropped[why] += count


def _batches(records: Sequence[UsageRecord]) -> Iterator[Sequence[UsageRecord]]:
    for start in range(0, len(records), BATCH):
        yield records[start : start + BATCH]
