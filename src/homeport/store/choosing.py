"""Which database the settings mean, and the recorder that belongs to it."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from homeport.errors import ConfigError
from homeport.settings import StoreSettings
from homeport.store.base import Store
from homeport.store.spool import Spool

if TYPE_CHECKING:  # logs, which a command that only reads does not need
    from homeport.store.recorder import Recorder

POSTGRES: Final = ("postgresql://", "postgres://")
FILE: Final = "usage.db"
"""In the state folder, where nothing else is said."""
SPOOL: Final = "spool"
"""A folder there."""


def recorder_for(settings: StoreSettings, state_home: Path) -> "Recorder | None":
    """Not started; None where nothing is to be remembered. Raises ``ConfigError``."""
    if not settings.enabled:
        return None
    from homeport.store.recorder import Recorder

    return Recorder(
        store_for(settings.url, state_home),
        Spool(state_home / SPOOL, settings.spool_bytes),
        retention_s=settings.retention_s,
        max_captures=settings.capture.max_requests,
    )


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
