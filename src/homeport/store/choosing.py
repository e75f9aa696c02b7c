"""Which database a URL means."""

from importlib.util import find_spec
from pathlib import Path
from typing import Final

from homeport.errors import ConfigError
from homeport.store.base import Store

POSTGRES: Final = ("postgresql://", "postgres://")
FILE: Final = "usage.db"
"""In the state folder, where nothing else is said."""


def store_for(url: str | None, state_home: Path) -> Store:
    """The store, not opened. Raises ``ConfigError`` where its driver is not installed."""
    if url is not None and url.startswith(POSTGRES):
        if find_spec("psycopg") is None:
            raise ConfigError(
                "PostgreSQL needs a driver that is not installed",
                key="store.url",
                hint="pip install 'homeport[postgres]'",
            )
        from homeport.store.postgres import PostgresStore

        return PostgresStore(url)
    from homeport.store.sqlite import SqliteStore

    return SqliteStore(Path(url) if url is not None else state_home / FILE)
