"""The tables of a database, brought to what this version knows: numbered steps, forward only.

``migrations/NNNN_what.DATABASE.sql`` are the steps; a database remembers which ones it has had
(``homeport_migration``). All that are missing run in one transaction, under a lock that the database
gives to one at a time, and are looked up again behind that lock: of two that start at once, the second
finds nothing to do. Steps that have been released do not change; a mistake is mended by the next one.

There is no way back. A database that has had steps which this version does not know is left alone:
a newer homeport keeps its records there.
"""

import re
from collections.abc import Iterable, Iterator
from importlib import resources
from typing import Final, NamedTuple

from homeport.store.base import StoreError

TABLE: Final = "homeport_migration"
_NAME: Final = re.compile(r"(\d{4})_(\w+)\.(\w+)\.sql")


class Migration(NamedTuple):
    number: int
    name: str
    sql: str

    @property
    def statements(self) -> list[str]:
        """One by one, as both drivers want them in a transaction. No statement holds a ``;``."""
        return [each for part in self.sql.split(";") if (each := part.strip())]


def migrations(database: str) -> tuple[Migration, ...]:
    """The steps of one kind of database, in order."""
    return tuple(sorted(_found(database)))


def _found(database: str) -> Iterator[Migration]:
    for file in resources.files("homeport.store").joinpath("migrations").iterdir():
        named = _NAME.fullmatch(file.name)
        if named is not None and named[3] == database:
            yield Migration(int(named[1]), named[2], file.read_text("utf-8"))


def missing(known: Iterable[Migration], applied: Iterable[int]) -> list[Migration]:
    """Those that have to run. Raises ``StoreError`` where the database is ahead of us."""
    known, had = tuple(known), set(applied)
    if newer := had - {step.number for step in known}:
        raise StoreError(
            f"the database has had migration {max(newer)}, which this homeport does not know: a newer "
            "one keeps its records there"
        )
    return [step for step in known if step.number not in had]
