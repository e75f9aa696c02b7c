"""What every store promises, on every database that there is: one suite for all.

SQLite is always there, PostgreSQL where its server is installed, TimescaleDB where a URL or Docker
has it.
"""

from __future__ import annotations

import threading
from typing import Any

import pytest

from homeport.store import migrate
from homeport.store.base import Filter, RefusedError, StoreError, UsageRecord
from tests.store.conftest import Database
from tests.store.records import DAY_US, NOON_US, capture, record


def test_all_fields_are_counted(database: Database) -> None:
    store = database.store()
    store.append(
        [
            record(1, prompt_tokens=100, cached_tokens=60, completion_tokens=10, waited_s=0.5),
            record(2, prompt_tokens=1, completion_tokens=2, first_token_s=0.25),
            record(3, error="left", status=200, first_token_s=0.75),
            record(4, error="upstream", status=502),
            record(5, model="other"),
        ]
    )
    other, qwen = store.query(Filter())
    assert (other.name, other.requests) == ("other", 1)
    assert (other.first_token_s, other.tokens_per_s, other.prompt_tokens) == (None, None, 0)
    assert (qwen.name, qwen.requests, qwen.failed, qwen.left) == ("qwen", 4, 1, 1)
    assert (qwen.prompt_tokens, qwen.cached_tokens, qwen.completion_tokens) == (101, 60, 12)
    assert (qwen.first_token_s, qwen.tokens_per_s, qwen.waited_s) == (0.5, None, 0.5)
    assert qwen.last_us == record(4).at_us


def test_a_speed_is_of_all_tokens_and_all_time(database: Database) -> None:
    """A short answer counts as much as it is long; one that came at once has no speed, also where an
    older homeport has written one down."""
    store = database.store()

    def answer(number: int, tokens: int, took_s: float, *, by: str) -> UsageRecord:
        times: dict[str, Any] = {"first_token_s": 0.5, "duration_s": 0.5 + took_s}
        speed = tokens / took_s
        return record(number, client=by, completion_tokens=tokens, tokens_per_s=speed, **times)

    store.append(
        [
            answer(1, 900, 30.0, by="codex"),
            answer(2, 100, 1.25, by="codex"),
            answer(3, 25, 1 / 4096, by="codex"),
            record(4, client="codex", completion_tokens=5000, duration_s=3.0),
            answer(5, 25, 1 / 4096, by="curl"),
        ]
    )
    codex, curl = store.query(Filter(by="client"))
    assert codex.tokens_per_s == pytest.approx(1000 / 31.25)
    assert (curl.tokens_per_s, curl.completion_tokens) == (None, 25)


def test_nothing_is_kept_yet(database: Database) -> None:
    store = database.store()
    store.append([])
    assert store.query(Filter()) == []
    assert store.captures() == []


def test_a_record_is_kept_once(database: Database) -> None:
    """However often, together with new ones, in one batch twice, by another connection."""
    store, other = database.store(), database.store()
    store.append([record(1), record(2)])
    store.append([record(2), record(3), record(3)])
    other.append([record(1), record(4)])
    assert store.query(Filter())[0].requests == 4


def test_a_big_batch(database: Database) -> None:
    store = database.store()
    batch = [record(number, agent="ä" * 50) for number in range(3000)]
    store.append(batch)
    store.append(batch)
    assert store.query(Filter())[0].requests == 3000


def test_times_come_back_to_the_microsecond(database: Database) -> None:
    store = database.store()
    for number, at_us in enumerate((NOON_US + 1, NOON_US + 999_999, 4_102_444_799_999_999)):
        store.append([record(number, at_us=at_us, model=str(number))])
        assert store.query(Filter())[number].last_us == at_us


@pytest.mark.parametrize(
    ("by", "names"),
    [
        ("model", ["a", "b"]),
        ("key", ["", "phone"]),
        ("client", ["claude-cli", "codex"]),
        ("day", ["2026-01-01", "2026-01-02"]),
    ],
)
def test_by_what_is_asked_for(database: Database, by: str, names: list[str]) -> None:
    store = database.store()
    last_of_day_us = NOON_US + DAY_US // 2 - 1
    store.append(
        [
            record(1, model="a", key="", client="codex", at_us=last_of_day_us),
            record(2, model="b", key="phone", client="claude-cli", at_us=last_of_day_us + 1),
        ]
    )
    found = store.query(Filter(by=by))  # type: ignore[arg-type]
    assert [each.name for each in found] == names


def test_from_and_until(database: Database) -> None:
    store = database.store()
    store.append([record(number) for number in range(10)])
    wanted = Filter(since_us=record(3).at_us, until_us=record(7).at_us)
    assert store.query(wanted)[0].requests == 4


def test_of_one_session(database: Database) -> None:
    store = database.store()
    store.append([record(n, session=("s1", "s2", "")[n % 3], model=str(n % 2)) for n in range(12)])
    found = store.query(Filter(session="s1", since_us=record(1).at_us))
    assert [(each.name, each.requests) for each in found] == [("0", 1), ("1", 2)]
    assert store.query(Filter(session="'")) == []


def test_what_is_old_goes(database: Database) -> None:
    """To the microsecond; of many days, those that are over and the rest of the oldest."""
    store = database.store()
    batch = [record(n, at_us=NOON_US + n * DAY_US // 4, model=str(n)) for n in range(40)]
    store.append(batch)
    store.prune(batch[21].at_us, now_us=0, max_captures=10)
    assert sorted(int(each.name) for each in store.query(Filter())) == list(range(21, 40))


def test_many_old_ones_go(database: Database) -> None:
    store = database.store()
    store.append([record(number, at_us=NOON_US + number) for number in range(12_001)])
    store.prune(NOON_US + 12_000, now_us=0, max_captures=0)
    assert store.query(Filter())[0].requests == 1


def test_captures_come_back_latest_first(database: Database) -> None:
    store = database.store()
    said = capture(1, request='{"q": "héllo"}', response="line\nline", key="k", model="m")
    store.append_captures([said, said])
    store.append_captures([said, capture(2, session="s2")])
    assert store.captures() == [capture(2, session="s2"), said]
    assert store.captures(session="s1") == [said]
    assert store.captures(limit=1) == [capture(2, session="s2")]


def test_captures_expire_and_are_few(database: Database) -> None:
    store = database.store()
    short = capture(9, expires_us=NOON_US + 1)
    store.append_captures([*(capture(number) for number in range(5)), short])
    store.prune(0, now_us=NOON_US + 2, max_captures=3)
    assert store.captures() == [capture(4), capture(3), capture(2)]


def test_a_value_that_it_does_not_take(database: Database) -> None:
    """The batch is not kept in part, and the next one is taken."""
    store = database.store()
    with pytest.raises(RefusedError):
        store.append([record(1), record(2, prompt_tokens=2**70)])
    store.append([record(3)])
    assert store.query(Filter())[0].requests == 1


def test_many_start_at_once(database: Database) -> None:
    stores = [database.store(is_open=False) for _ in range(6)]
    failed: list[BaseException] = []
    start = threading.Barrier(len(stores))

    def open_one(number: int) -> None:
        try:
            start.wait()
            store = database.store(is_open=False)
            store.open()
            store.append([record(number)])
            store.close()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=open_one, args=(n,)) for n in range(len(stores))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []
    assert database.store().query(Filter())[0].requests == len(stores)


def test_it_may_be_opened_again(database: Database) -> None:
    store = database.store()
    store.append([record(1)])
    store.open()
    assert store.query(Filter())[0].requests == 1
    store.close()
    with pytest.raises(StoreError):
        store.append([record(2)])


def test_a_later_migration_is_added(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there stays; a homeport that does not know it keeps its hands off."""
    database.store().append([record(1)])
    known = migrate.migrations(database.kind if database.kind == "sqlite" else "postgres")
    step = migrate.Migration(2, "note", "ALTER TABLE homeport_usage ADD COLUMN note text;\n")
    with monkeypatch.context() as patch:
        patch.setattr(migrate, "migrations", lambda _: (*known, step))
        newer = database.store()
        newer.append([record(2)])
        database.store()
    assert newer.query(Filter())[0].requests == 2
    with pytest.raises(StoreError, match="migration 2"):
        database.store()


def test_a_migration_that_fails_leaves_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = migrate.migrations(database.kind if database.kind == "sqlite" else "postgres")
    broken = migrate.Migration(2, "broken", "CREATE TABLE half (a int); CREATE NONSENSE;")
    with monkeypatch.context() as patch:
        patch.setattr(migrate, "migrations", lambda _: (*known, broken))
        with pytest.raises(StoreError):
            database.store()
    mended = migrate.Migration(2, "mended", "CREATE TABLE half (a int);")
    with monkeypatch.context() as patch:
        patch.setattr(migrate, "migrations", lambda _: (*known, mended))
        database.store().append([record(1)])
