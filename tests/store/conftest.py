"""Databases: a new, empty one for each test, of each kind that there is here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from homeport.store.base import Store
from homeport.store.postgres import PostgresStore
from homeport.store.sqlite import SqliteStore
from tests.support import postgres
from tests.support.postgres import MissingError, Postgres

KINDS = ("sqlite", "postgres", "timescale")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    with ExitStack() as stack:
        try:
            server = stack.enter_context(Postgres())
        except MissingError as missing:
            pytest.skip(str(missing))
        yield server


@pytest.fixture(scope="session")
def timescale_url() -> Iterator[str]:
    with ExitStack() as stack:
        try:
            url = stack.enter_context(postgres.timescale())
        except MissingError as missing:
            pytest.skip(str(missing))
        yield url


class Database:
    """One database; ``store()`` is one more connection to it."""

    def __init__(self, kind: str, place: str) -> None:
        self.kind, self.place = kind, place
        self._opened: list[Store] = []

    def store(self, *, is_open: bool = True) -> Store:
        made = SqliteStore(Path(self.place)) if self.kind == "sqlite" else PostgresStore(self.place)
        self._opened.append(made)
        if is_open:
            made.open()
        return made

    def close(self) -> None:
        for store in self._opened:
            store.close()


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    with ExitStack() as stack:
        match request.param:
            case "sqlite":
                place = str(tmp_path / "usage.db")
            case "postgres":
                server: Postgres = request.getfixturevalue("postgres_server")
                place = stack.enter_context(postgres.database(server.url("postgres")))
            case _:
                url: str = request.getfixturevalue("timescale_url")
                place = stack.enter_context(postgres.database(url))
                postgres.add_timescale(place)
        made = Database(request.param, place)
        stack.callback(made.close)
        yield made
