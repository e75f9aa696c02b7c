"""Every question of the dashboards to the database, on a real PostgreSQL and, with Docker, TimescaleDB.

Tables are made and filled by the store itself. Macros and variables are put in as Grafana does
(tests/support/grafana.py); the user is the one that Grafana has, made by the stack's own reader.sql.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from homeport.store.base import UsageRecord
from homeport.store.postgres import READER, PostgresStore
from tests.support import grafana, postgres
from tests.support.gateway import free_port
from tests.support.grafana import STACK, Question
from tests.support.postgres import MissingError, Postgres, until_up

SCRIPT = STACK / "timescaledb/reader.sql"
PASSWORD = "it's a secret"
MINUTE_US = 60_000_000
NOON_US = 1_767_268_800_000_000
"""2026-01-01 12:00 UTC."""
ALL_TIMES = {"since": "2025-12-30T00:00:00Z", "until": "2026-01-10T00:00:00Z"}

QUESTIONS = list(grafana.questions("grafana-postgresql-datasource"))
VARIABLES = list(grafana.variables("grafana-postgresql-datasource"))
EVERYTHING = {variable["name"]: variable["allValue"] for _, variable in VARIABLES}


def records() -> list[UsageRecord]:
    """Two days of two models, two keys and none, with errors, and without what may be missing."""
    made = []
    for number in range(40):
        failed, left = number % 10 == 3, number % 10 == 7
        made.append(
            UsageRecord(
                at_us=NOON_US + number * 61 * MINUTE_US,
                request_id=f"req_{number:04x}",
                model=("qwen", "gpt-oss")[number % 2],
                key=("laptop", "", "it's mine")[number % 3],
                client=("claude-cli", "")[number % 4 == 0],
                prompt_tokens=None if failed else 1000 + number,
                cached_tokens=None if failed else 500,
                completion_tokens=None if failed else 10,
                duration_s=float(number),
                first_token_s=None if failed or number % 2 else 0.5,
                tokens_per_s=None if failed or number % 2 or not number else 10 / (number - 0.5),
                status=503 if failed else 200,
                error="unavailable" if failed else "left" if left else None,
                stop_reason=None if failed else "stop",
            )
        )
    return made


@dataclass
class Database:
    url: str
    """Of Grafana's user."""
    timescale: bool

    def ask(self, text: str, **chosen: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Names of columns, and rows."""
        made = grafana.sql(
            text, timescale=self.timescale, chosen={**EVERYTHING, **chosen}, **ALL_TIMES
        )
        with psycopg.connect(self.url) as connection:
            found = connection.execute(made.encode())
            return [column.name for column in found.description or ()], found.fetchall()


@pytest.fixture(scope="module", params=["postgres", "timescale"])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    is_timescale = request.param == "timescale"
    with ExitStack() as stack:
        try:
            if is_timescale:
                server = stack.enter_context(postgres.timescale())
            else:
                server = stack.enter_context(Postgres()).url("postgres")
            psql = shutil.which("psql") or postgres.programs() / "psql"
        except MissingError as missing:
            pytest.skip(str(missing))
        stack.callback(drop_reader, server)  # after the database in which it has rights
        url = stack.enter_context(postgres.database(server))
        if is_timescale:
            postgres.add_timescale(url)
        made_by_script(str(psql), url)
        store = PostgresStore(url)
        store.open()
        store.append(records())
        assert store.has_timescale == is_timescale
        made_by_script(str(psql), url)  # again does no harm
        parts = urlsplit(url)
        location = f"{READER}:{PASSWORD.replace(' ', '%20')}@{parts.hostname}:{parts.port}"
        yield Database(parts._replace(netloc=location).geturl(), is_timescale)
        store.close()


def made_by_script(psql: str, url: str) -> None:
    env = {**os.environ, "HOMEPORT_DB_READER_PASSWORD": PASSWORD}
    done = subprocess.run([psql, url, "-f", str(SCRIPT)], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "secret" not in done.stdout + done.stderr


def drop_reader(server: str) -> None:
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"DROP ROLE IF EXISTS {READER}".encode())


def panel_of(question: Question) -> dict[str, Any]:
    (panel,) = (
        each
        for each in grafana.documents()[question.dashboard]["panels"]
        if each["title"] == question.panel
    )
    found: dict[str, Any] = panel
    return found


@pytest.mark.parametrize("question", QUESTIONS, ids=str)
def test_every_question_has_an_answer(database: Database, question: Question) -> None:
    columns, found = database.ask(question.target["rawSql"])
    assert found
    assert len(set(columns)) == len(columns)
    if question.target["format"] == "time_series":
        assert columns[0] == "time"
        is_text = [isinstance(value, str) for value in found[0][1:]]
        assert is_text.count(True) == (columns[1] == "metric")
        assert is_text.count(False) >= 1
        times = [row[0] for row in found]
        assert times == sorted(times)
        assert all(row[0] is not None for row in found)
    else:
        assert "time" not in columns
        named = {
            override["matcher"]["options"]
            for override in panel_of(question)["fieldConfig"]["overrides"]
        }
        assert named <= set(columns), "units for columns that do not come"


@pytest.mark.parametrize(
    "chosen", [{"model": ["qwen"]}, {"key": ["(none)", "it's mine"]}, {"client": ["claude-cli"]}]
)
def test_a_choice_narrows_every_answer(database: Database, chosen: dict[str, list[str]]) -> None:
    (name, values), everything = next(iter(chosen.items())), len(records())
    inserted = {name: grafana.quoted(values)}
    total = next(q for q in QUESTIONS if q.panel == "In the chosen time").target["rawSql"]
    assert database.ask(total)[1][0][0] == everything
    kept = [each for each in records() if (getattr(each, name) or "(none)") in values]
    assert database.ask(total, **inserted)[1][0][0] == len(kept)
    assert 0 < len(kept) < everything
    for question in QUESTIONS:
        text = question.target["rawSql"]
        for variable in EVERYTHING:
            assert f"IN (${variable})" in text, question
        database.ask(text, **inserted)


def test_an_empty_database_is_no_error(database: Database) -> None:
    """Nothing in the chosen time: an answer without rows, or with zeros."""
    for question in QUESTIONS:
        database.ask(question.target["rawSql"], model="'nobody'")


@pytest.mark.parametrize("variable", [each for _, each in VARIABLES], ids=lambda it: it["name"])
def test_what_there_is_to_choose(database: Database, variable: dict[str, Any]) -> None:
    columns, found = database.ask(variable["query"])
    assert len(columns) == 1
    values = [row[0] for row in found]
    assert len(set(values)) == len(values)
    wanted = {getattr(each, variable["name"]) or "(none)" for each in records()}
    assert set(values) == wanted


def test_totals_are_right(database: Database) -> None:
    """By hand, from the records."""
    text = next(q for q in QUESTIONS if q.panel == "In the chosen time").target["rawSql"]
    columns, (row,) = database.ask(text)
    said = dict(zip(columns, row, strict=True))
    prompts = [each.prompt_tokens for each in records() if each.prompt_tokens is not None]
    assert said["Requests"] == 40
    assert said["Failed"] == sum(each.error == "unavailable" for each in records()) == 4
    assert said["Prompt tokens"] == sum(prompts)
    assert said["From cache"] == pytest.approx(500 * len(prompts) / sum(prompts))
    assert said["First token, half within"] == 0.5
    streamed = [each for each in records() if each.tokens_per_s is not None]
    took_s = sum(each.duration_s - 0.5 for each in streamed)
    assert said["Speed"] == pytest.approx(10 * len(streamed) / took_s)


def test_the_slowest_come_first(database: Database) -> None:
    text = next(q for q in QUESTIONS if q.panel == "Slowest requests").target["rawSql"]
    columns, found = database.ask(text)
    took = [row[columns.index("Took")] for row in found]
    assert took == sorted(took, reverse=True)
    assert took[0] == 39.0


def test_grafana_may_read_nothing_else(database: Database) -> None:
    with psycopg.connect(database.url) as connection:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT * FROM homeport_capture")
        connection.rollback()
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute("DELETE FROM homeport_usage")
        connection.rollback()
        connection.execute("SET default_transaction_read_only = off")
        connection.commit()
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("DELETE FROM homeport_usage")


@pytest.mark.docker
def test_the_image_makes_the_role_when_it_sets_the_database_up() -> None:
    """As the stack mounts it, with the password in the database's environment."""
    if (
        shutil.which("docker") is None
        or subprocess.run(["docker", "info"], capture_output=True).returncode
    ):
        pytest.skip("no Docker answers")
    name, port = f"homeport-test-mon-db-{os.getpid()}", free_port()
    given = {"POSTGRES_USER": "homeport", "POSTGRES_PASSWORD": "owner"}
    given["HOMEPORT_DB_READER_PASSWORD"] = "reader"
    started = subprocess.run(
        [
            *("docker", "run", "--detach", "--rm", "--name", name),
            *("--publish", f"127.0.0.1:{port}:5432"),
            *(word for each in given.items() for word in ("--env", "=".join(each))),
            *("--volume", f"{SCRIPT}:/docker-entrypoint-initdb.d/020_homeport_reader.sql:ro"),
            postgres.TIMESCALE_IMAGE,
        ],
        capture_output=True,
        text=True,
    )
    if started.returncode:
        pytest.skip(f"no TimescaleDB: {started.stderr.strip().splitlines()[-1]}")
    try:
        url = f"postgresql://homeport:owner@127.0.0.1:{port}/homeport"
        until_up(url)
        store = PostgresStore(url)
        store.open()
        store.append(records())
        store.close()
        with psycopg.connect(url.replace("homeport:owner", f"{READER}:reader")) as connection:
            found = connection.execute("SELECT count(*) FROM homeport_usage").fetchone()
            assert found == (len(records()),)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("SELECT * FROM homeport_capture")
    finally:
        subprocess.run(["docker", "rm", "--force", "--volumes", name], capture_output=True)


def test_only_columns_that_the_documentation_tells() -> None:
    told = Path(__file__).parents[2].joinpath("docs/usage.md").read_text("utf-8")
    fields = set(UsageRecord.__struct_fields__) - {"at_us"}
    used = {
        word
        for question in QUESTIONS
        for word in re.findall(
            r"[a-z_]+", re.sub(r'"[^"]*"|\'[^\']*\'', "", question.target["rawSql"])
        )
        if word in fields
    }
    assert {"prompt_tokens", "request_id", "error"} <= used
    assert [name for name in sorted(used) if f"`{name}`" not in told] == []
