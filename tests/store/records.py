"""Records and stores for the tests of this folder."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from homeport.store.base import Aggregate, Capture, Filter, StoreError, UsageRecord

NOON_US = 1_767_268_800_000_000
"""2026-01-01 12:00 UTC."""
MINUTE_US = 60_000_000
DAY_US = 24 * 60 * MINUTE_US


def record(number: int, at_us: int | None = None, **fields: object) -> UsageRecord:
    """One of a kind by its number; a minute and odd microseconds after the one before."""
    at_us = NOON_US + number * (MINUTE_US + 7) if at_us is None else at_us
    values: dict[str, object] = {"model": "qwen", "key": "laptop", "client": "claude-cli", **fields}
    return UsageRecord(at_us=at_us, request_id=f"req_{number:08x}", **values)  # type: ignore[arg-type]


def capture(number: int, **fields: object) -> Capture:
    at_us = NOON_US + number * MINUTE_US
    values: dict[str, object] = {"expires_us": at_us + DAY_US, "session": "s1", **fields}
    return Capture(at_us=at_us, request_id=f"req_{number:08x}", **values)  # type: ignore[arg-type]


class FaultyStore:
    """Keeps what it is given, in the order in which it came; fails as it is told."""

    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails
        self.error: Exception = StoreError("told to fail")
        self.loses_answers = False
        """It keeps the batch, and the caller is told that it failed."""
        self.kept: dict[tuple[int, str], UsageRecord] = {}
        self.captured: list[Capture] = []
        self.opened = self.appended = 0
        self.pruned: list[int] = []
        self.gate = threading.Event()
        """Closed, it hangs."""
        self.gate.set()
        self.is_hanging = threading.Event()
        self.changed = threading.Condition()

    def open(self) -> None:
        self.opened += 1
        self._fail()

    def append(self, batch: Sequence[UsageRecord]) -> None:
        self.appended += 1
        if not self.gate.is_set():
            self.is_hanging.set()
            self.gate.wait(30)
        if not self.loses_answers:
            self._fail()
        with self.changed:
            for each in batch:
                self.kept.setdefault((each.at_us, each.request_id), each)
            self.changed.notify_all()
        self._fail()

    def append_captures(self, batch: Sequence[Capture]) -> None:
        self._fail()
        with self.changed:
            self.captured += batch
            self.changed.notify_all()

    def query(self, wanted: Filter) -> list[Aggregate]:
        return []

    def captures(self, *, session: str | None = None, limit: int = 20) -> list[Capture]:
        return self.captured

    def prune(self, before_us: int, *, now_us: int, max_captures: int) -> None:
        self.pruned.append(before_us)

    def close(self) -> None:
        pass

    def _fail(self) -> None:
        with self.changed:
            self.changed.notify_all()
        if self.fails:
            raise self.error

    @property
    def ids(self) -> list[str]:
        return [request_id for _, request_id in self.kept]

    def wait_kept(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.kept) >= count, 30), len(self.kept)

    def wait_opened(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.opened >= count, 30)
