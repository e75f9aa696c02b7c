"""What only PostgreSQL can do to us: be killed, hang, and have TimescaleDB in it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from homeport.errors import ConfigError
from homeport.store.base import Filter, StoreError
from homeport.store.choosing import store_for
from homeport.store.postgres import PostgresStore
from homeport.store.recorder import Recorder
from homeport.store.spool import Spool
from homeport.store.sqlite import SqliteStore
from tests.store.records import DAY_US, NOON_US, record
from tests.support import postgres
from tests.support.postgres import Postgres


def rows(url: str, query: str) -> list[Any]:
    with psycopg.connect(url) as connection:
        return connection.execute(query.encode()).fetchall()


def test_a_killed_server(postgres_server: Postgres) -> None:
    with postgres.database(postgres_server.url("postgres")) as url:
        store = PostgresStore(url)
        store.open()
        store.append([record(1)])
        postgres_server.kill()
        with pytest.raises(StoreError):
            store.append([record(2)])
        with pytest.raises(StoreError):
            store.open()
        postgres_server.start()
        store.open()
        store.append([record(1), record(2)])
        assert store.query(Filter())[0].requests == 2
        store.close()


def test_a_server_that_hangs(postgres_server: Postgres, tmp_path: Path) -> None:
    """It takes our bytes and never answers: the call ends all the same, and so does nothing else."""
    with postgres.database(postgres_server.url("postgres")) as url:
        store = PostgresStore(url, call_timeout_s=0.2)
        recorder = Recorder(
            store, Spool(tmp_path, 10**6), retention_s=1e9, linger_s=0.001, first_retry_s=0.05
        )
        store.open()
        postgres_server.freeze()
        try:
            with pytest.raises(StoreError):
                store.append([record(1)])
        finally:
            postgres_server.thaw()
        recorder.start()
        recorder.record(record(1))
        recorder.close()
        assert recorder.written == 1
        assert len(rows(url, "SELECT * FROM homeport_usage")) == 1


def test_a_password_stays_hidden() -> None:
    store = PostgresStore("postgresql://homeport:hunter2@127.0.0.1:1/x")
    with pytest.raises(StoreError) as failed:
        store.open()
    assert "hunter2" not in repr(store) + str(failed.value)


def test_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(store_for("postgres://x/y", tmp_path), PostgresStore)
    assert isinstance(store_for(None, tmp_path), SqliteStore)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigError, match="not installed"):
        store_for("postgresql://x/y", tmp_path)


# ------------------------------------------------------------------- TimescaleDB


def chunks(url: str) -> int:
    return len(rows(url, "SELECT show_chunks('homeport_usage')"))


def test_the_table_is_a_hypertable_of_days(timescale_url: str) -> None:
    with postgres.database(timescale_url) as url:
        postgres.add_timescale(url)
        store = PostgresStore(url)
        store.open()
        assert store.has_timescale
        store.append([record(n, at_us=NOON_US + n * DAY_US) for n in range(5)])
        assert chunks(url) == 5
        store.prune(NOON_US + 3 * DAY_US, now_us=0, max_captures=0)
        assert chunks(url) == 2, "whole days are dropped, not emptied"
        store.close()


def test_the_extension_may_come_later(timescale_url: str) -> None:
    """What is there becomes a part of the hypertable."""
    with postgres.database(timescale_url) as url:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("DROP EXTENSION IF EXISTS timescaledb CASCADE")
        store = PostgresStore(url)
        store.open()
        assert not store.has_timescale
        batch = [record(n, at_us=NOON_US + n * DAY_US) for n in range(5)]
        store.append(batch)
        store.close()
        postgres.add_timescale(url)
        later = PostgresStore(url)
        later.open()
        assert later.has_timescale
        later.append(batch)
        assert later.query(Filter())[0].requests == 5
        assert chunks(url) == 5
        later.close()


@pytest.fixture
def reader(postgres_server: Postgres) -> Iterator[str]:
    """A role is the whole server's; it is dropped after the databases that know it."""
    name = "homeport_reader"
    with psycopg.connect(postgres_server.url("postgres"), autocommit=True) as server:
        server.execute(f"CREATE ROLE {name} LOGIN".encode())
        yield name
        server.execute(f"DROP ROLE {name}".encode())


def test_a_reader_may_read_what_requests_cost_and_no_more(
    postgres_server: Postgres, reader: str
) -> None:
    with postgres.database(postgres_server.url("postgres")) as url:
        store = PostgresStore(url)
        store.open()
        store.append([record(1)])
        store.open()  # nothing is left to grant
        as_reader = url.replace("homeport@", f"{reader}@")
        assert rows(as_reader, "SELECT model FROM homeport_usage") == [("qwen",)]
        for refused in (
            "SELECT * FROM homeport_capture",
            "DELETE FROM homeport_usage",
            "CREATE TABLE mine (it text)",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                rows(as_reader, refused)
        store.close()


def test_a_reader_that_comes_later(postgres_server: Postgres, request: Any) -> None:
    with postgres.database(postgres_server.url("postgres")) as url:
        store = PostgresStore(url)
        store.open()
        reader: str = request.getfixturevalue("reader")
        as_reader = url.replace("homeport@", f"{reader}@")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            rows(as_reader, "SELECT * FROM homeport_usage")
        store.open()
        assert rows(as_reader, "SELECT * FROM homeport_usage") == []
        store.close()
