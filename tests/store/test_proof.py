"""The proof: whatever happens to the database in the middle, every record is there, once."""

from __future__ import annotations

import json
import os
import random
import threading
from collections.abc import Sequence
from pathlib import Path

import psycopg
import pytest

from bench import contestants, load
from bench.bodies import request
from homeport.store.base import Filter, StoreError, UsageRecord
from homeport.store.recorder import Recorder
from homeport.store.spool import Spool
from homeport.store.sqlite import SqliteStore
from tests.store.records import record
from tests.support import postgres
from tests.support.gateway import Gateway
from tests.support.postgres import Postgres

MANY = 50_000
CONNECTIONS = 16
LIMIT_S = 600.0


class Flaky(SqliteStore):
    """The real SQLite; every now and then it fails, or keeps a batch and says that it failed."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._random = random.Random(4711)
        self.failures = 0
        self.is_sound = False

    def open(self) -> None:
        self._perhaps(0.3)
        super().open()

    def append(self, batch: Sequence[UsageRecord]) -> None:
        self._perhaps(0.2)
        super().append(batch)
        self._perhaps(0.2)

    def _perhaps(self, chance: float) -> None:
        if not self.is_sound and self._random.random() < chance:
            self.failures += 1
            raise StoreError("one of its moods")


def test_a_moody_database(tmp_path: Path) -> None:
    store = Flaky(tmp_path / "usage.db")
    spool = Spool(tmp_path / "spool", 10**8)
    recorder = Recorder(
        store, spool, retention_s=1e9, max_captures=1, linger_s=0.0005, first_retry_s=0.0005
    )
    recorder.start()
    for number in range(5000):
        recorder.record(record(number, model=str(number % 7)))
        if number % 20 == 0:
            threading.Event().wait(0.0005)  # so that there are many batches
    store.is_sound = True
    recorder.close(60)
    assert store.failures > 10
    assert not any(recorder.dropped.values())
    # What is still spooled is the next start's.
    again = Recorder(SqliteStore(tmp_path / "usage.db"), spool, retention_s=1e9, max_captures=1)
    again.start()
    again.close(60)
    reader = SqliteStore(tmp_path / "usage.db")
    reader.open()
    found = reader.query(Filter())
    reader.close()
    assert sum(each.requests for each in found) == 5000
    assert list(tmp_path.glob("spool/*")) == []


def kill_and_start(server: Postgres, gateway: Gateway) -> None:
    """While requests are served: after a third of them, and after two thirds."""
    for share, then in ((MANY // 3, server.kill), (2 * MANY // 3, server.start)):
        while answered(gateway) < share:
            threading.Event().wait(0.02)
        then()


def answered(gateway: Gateway) -> float:
    counts = [line for line in gateway.metrics() if line.startswith("homeport_requests_total{")]
    return sum(float(line.rpartition(" ")[2]) for line in counts)


@pytest.mark.slow_store
@pytest.mark.timeout(900)
def test_postgres_is_killed_under_load(tmp_path: Path, postgres_server: Postgres) -> None:
    """A real gateway answers 50 000 requests; a third of the way the database is killed with -9, two
    thirds of the way it is started again. No request fails, and each leaves one record."""
    with (
        postgres.database(postgres_server.url("postgres")) as url,
        contestants.engine_running() as engine,
    ):
        config = tmp_path / "config.yaml"
        config.write_text(json.dumps({"store": {"url": url}}))
        upstream = f"http://127.0.0.1:{engine.port}/v1"
        with Gateway(tmp_path, "--upstream", upstream, "--config", str(config)) as gateway:
            accident = threading.Thread(target=kill_and_start, args=(postgres_server, gateway))
            accident.start()
            result = load.drive(
                gateway.port,
                request("chat", 1024),
                connections=CONNECTIONS,
                seconds=LIMIT_S,
                limit=MANY,
            )
            accident.join(LIMIT_S)
            assert result.answers == MANY, "every request was answered"
            gateway.assert_no_internal_error()
            lines = gateway.metrics()
            assert not [
                line
                for line in lines
                if line.startswith("homeport_usage_dropped_total") and not line.endswith(" 0.0")
            ]
        output = gateway.output()
        assert "store.down" in output
        with psycopg.connect(url) as connection:
            counts = connection.execute(
                b"SELECT count(*), count(DISTINCT request_id) FROM homeport_usage"
            ).fetchone()
        left = list((tmp_path / "home/homeport/state/spool").glob("*"))
        assert counts == (MANY, MANY), f"{left=}, {os.linesep.join(output.splitlines()[-5:])}"
