"""The recorder: whatever the database does, no record is lost, doubled or moved, and nobody waits."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from homeport.store import recorder as module
from homeport.store.base import Filter, RefusedError, Store, UsageRecord
from homeport.store.recorder import Recorder
from homeport.store.spool import Spool
from homeport.store.sqlite import SqliteStore
from tests.store.records import FaultyStore, capture, record

LIMIT = 1024 * 1024
RETENTION_S = 1e9


@contextmanager
def recording(
    store: Store, folder: Path, limit_bytes: int = LIMIT, *, linger_s: float = 0.001
) -> Iterator[Recorder]:
    spool = Spool(folder / "spool", limit_bytes)
    made = Recorder(store, spool, retention_s=RETENTION_S, linger_s=linger_s, first_retry_s=0.01)
    made.start()
    try:
        yield made
    finally:
        made.close()


def ids(first: int, last: int) -> list[str]:
    return [record(number).request_id for number in range(first, last)]


def files(folder: Path) -> list[Path]:
    return sorted((folder / "spool").glob("*.jsonl"))


def test_records_arrive_in_batches(tmp_path: Path) -> None:
    store = FaultyStore()
    with recording(store, tmp_path, linger_s=0.05) as recorder:
        for number in range(1200):
            recorder.record(record(number))
    assert store.ids == ids(0, 1200)
    assert store.appended <= 6
    assert (recorder.written, recorder.queued, recorder.spooled_bytes) == (1200, 0, 0)
    assert not any(recorder.dropped.values())


def test_a_database_that_is_down_at_first(tmp_path: Path) -> None:
    store = FaultyStore(fails=True)
    with recording(store, tmp_path) as recorder:
        recorder.record(record(0))
        store.wait_opened(3)
        recorder.record(record(1))
        store.fails = False
        store.wait_kept(2)
    assert store.ids == ids(0, 2)
    assert files(tmp_path) == []


def test_a_database_that_goes_down_and_comes_back(tmp_path: Path) -> None:
    store = FaultyStore()
    with capture_logs() as logs, recording(store, tmp_path) as recorder:
        for number in range(2000):
            if number == 500:
                store.wait_kept(1)
                store.fails = True
            if number == 1500:
                store.wait_opened(4)
                store.fails = False
            recorder.record(record(number))
        store.wait_kept(2000)
    assert store.ids == ids(0, 2000)
    assert recorder.spooled_bytes == 0
    assert files(tmp_path) == []
    told = [entry["event"] for entry in logs]
    assert told == ["store.down", "store.back"], "each outage is told once"


def test_an_answer_that_gets_lost(tmp_path: Path) -> None:
    """The database has the batch, and we do not know: it is given again, and kept once."""
    store = FaultyStore()
    with recording(store, tmp_path) as recorder:
        store.loses_answers = store.fails = True
        recorder.record(record(0))
        store.wait_kept(1)
        recorder.record(record(1))
        store.loses_answers = store.fails = False
        store.wait_kept(2)
    assert store.ids == ids(0, 2)


def test_what_was_spooled_is_there_at_the_next_start(tmp_path: Path) -> None:
    with recording(FaultyStore(fails=True), tmp_path) as recorder:
        for number in range(700):
            recorder.record(record(number))
    assert files(tmp_path) != []
    assert not any(recorder.dropped.values())
    store = FaultyStore()
    with recording(store, tmp_path) as recorder:
        recorder.record(record(700))
        store.wait_kept(701)
    assert store.ids == ids(0, 701)
    assert files(tmp_path) == []


def test_a_database_that_hangs_delays_nobody(tmp_path: Path) -> None:
    """Nor the stop: what is left is spooled, that which is in its hands included."""
    store = FaultyStore()
    store.gate.clear()
    spool = Spool(tmp_path / "spool", LIMIT)
    recorder = Recorder(store, spool, retention_s=RETENTION_S, linger_s=0.001)
    recorder.start()
    recorder.record(record(0))
    assert store.is_hanging.wait(10)
    began = time.monotonic()
    for number in range(1, 1000):
        recorder.record(record(number))
    assert recorder.queued == 999
    recorder.close(within_s=0.05)
    assert time.monotonic() - began < 5
    again = FaultyStore()
    with recording(again, tmp_path):
        again.wait_kept(1000)
    assert sorted(again.ids) == ids(0, 1000)
    store.gate.set()


def test_the_queue_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUEUE", 10)
    store = FaultyStore()
    store.gate.clear()
    with recording(store, tmp_path) as recorder:
        recorder.record(record(0))
        assert store.is_hanging.wait(10)
        for number in range(1, 16):
            recorder.record(record(number))
        assert recorder.dropped["queue"] == 5
        store.gate.set()
        store.wait_kept(11)
    assert store.ids == ids(0, 11)


def test_the_spool_is_bounded(tmp_path: Path) -> None:
    """What no longer fits is dropped and counted; what did fit arrives."""
    store = FaultyStore(fails=True)
    with capture_logs() as logs, recording(store, tmp_path, 20_000) as recorder:
        for number in range(200):
            recorder.record(record(number))
        store.wait_opened(2)
    assert recorder.spooled_bytes <= 20_000
    kept = 200 - recorder.dropped["spool"]
    assert 0 < kept < 200
    assert "store.dropped" in [entry["event"] for entry in logs]
    again = FaultyStore()
    with recording(again, tmp_path):
        again.wait_kept(kept)
    assert len(again.ids) == kept


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file, where a folder should be")
    store = FaultyStore(fails=True)
    with capture_logs() as logs, recording(store, tmp_path) as recorder:
        recorder.record(record(0))
        store.wait_opened(2)
    assert recorder.dropped["spool"] == 1
    (down,) = (entry for entry in logs if entry["event"] == "store.down")
    assert "records are lost" in down["then"]
    assert str(tmp_path / "spool") in down["then"]


def test_an_outage_says_that_records_wait(tmp_path: Path) -> None:
    store = FaultyStore(fails=True)
    with capture_logs() as logs, recording(store, tmp_path) as recorder:
        recorder.record(record(0))
        store.wait_opened(2)
    (down,) = (entry for entry in logs if entry["event"] == "store.down")
    assert down["then"] == "records wait on disk"


class Picky(FaultyStore):
    """Never takes record 7."""

    def append(self, batch: Sequence[UsageRecord]) -> None:
        if any(each.request_id == record(7).request_id for each in batch):
            raise RefusedError("not this one")
        super().append(batch)


def test_a_record_that_is_refused_takes_no_other_with_it(tmp_path: Path) -> None:
    store = Picky()
    with recording(store, tmp_path, linger_s=0.02) as recorder:
        for number in range(20):
            recorder.record(record(number))
        store.wait_kept(19)
    assert store.ids == ids(0, 7) + ids(8, 20)
    assert recorder.dropped["refused"] == 1


def test_a_failure_of_ours_ends_nothing(tmp_path: Path) -> None:
    store = FaultyStore(fails=True)
    store.error = ValueError("a mistake in the store")
    with recording(store, tmp_path) as recorder:
        recorder.record(record(0))
        store.wait_opened(2)
        store.fails = False
        recorder.record(record(1))
        store.wait_kept(2)
    assert store.ids == ids(0, 2)


def test_what_is_old_is_pruned_at_the_start(tmp_path: Path) -> None:
    store = FaultyStore()
    with recording(store, tmp_path) as recorder:
        recorder.record(record(0))
        store.wait_kept(1)
    assert len(store.pruned) == 1
    assert abs(store.pruned[0] / 1e6 - (time.time() - RETENTION_S)) < 60


def test_captures_are_made_in_the_thread(tmp_path: Path) -> None:
    store = FaultyStore()
    with recording(store, tmp_path) as recorder:
        recorder.capture(lambda: capture(1))
    assert store.captured == [capture(1)]
    store.fails = True
    with recording(store, tmp_path) as recorder:
        recorder.capture(lambda: capture(2))
    assert recorder.dropped["capture"] == 1, "what was said does not go to the spool"


def test_a_real_database_in_whose_way_somebody_stands(tmp_path: Path) -> None:
    """Another process holds SQLite's write lock, then lets go of it."""
    path = tmp_path / "usage.db"
    with closing(SqliteStore(path)) as blocker:
        blocker.open()
        with recording(SqliteStore(path), tmp_path) as recorder:
            with blocker._transaction():
                recorder.record(record(0))
                assert recorder.queued <= 1
            recorder.record(record(1))
        assert blocker.query(Filter())[0].requests == 2
