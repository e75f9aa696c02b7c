"""SQLite: a file, and nothing to install. What holds where nothing else is said.

WAL, so that whoever reads (``homeport usage``, a dashboard) and whoever writes do not wait for each
other. ``synchronous=NORMAL``: a record that was written outlives any crash of ours; the last ones may
be lost with the power, the file is whole all the same (sqlite.org/wal.html). Two gateways may share
the file: one waits for the other, up to ``BUSY_S``.

A batch is a few ``INSERT``s of many rows; the last one is filled up with a row that it has already,
which is not kept twice. Each statement gives the interpreter's lock away several times, and waits for
it again while requests are served; rows one by one (``executemany``) do so at each row.
"""

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, repeat
from pathlib import Path
from typing import Final

import msgspec

from homeport.store import migrate, sql
from homeport.store.base import (
    Aggregate,
    Capture,
    Filter,
    RefusedError,
    StoreError,
    UsageRecord,
)

BUSY_S: Final = 5.0
"""For a lock that another process holds; then the batch is tried later."""

RETRY_S: Final = 0.01

PRUNED_AT_ONCE: Final = 5000
"""Rows; the lock is given away in between."""

_ROWS_AT_ONCE: Final = (1, 4, 16, 32, 64, 128)
"""Few sizes, so that few statements are ever parsed. 128 records have 3456 values; SQLite's limit is
32766 from 3.32 (2020) on."""

_SPELLING: Final = sql.Spelling(
    mark="?",
    at="at_us",
    instant="?",
    last_us="max(at_us)",
    day="strftime('%Y-%m-%d', at_us / 1000000, 'unixepoch')",
)
_REFUSED: Final = (
    sqlite3.DataError,
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    OverflowError,  # a whole number beyond 64 bits
    UnicodeEncodeError,
)


def _use_wal(db: sqlite3.Connection) -> None:
    """This statement alone does not wait for a lock (``timeout``), which others hold while several
    gateways make the file at once. Raises ``sqlite3.Error``."""
    give_up_at = time.monotonic() + BUSY_S
    while True:
        try:
            db.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() >= give_up_at:
                raise
            time.sleep(RETRY_S)
        else:
            return


class SqliteStore:
    """Follows ``base.Store``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db: sqlite3.Connection | None = None

    def __repr__(self) -> str:
        return f"<SqliteStore {self._path} open={self._db is not None}>"

    def open(self) -> None:
        self.close()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # Ours alone; the files beside it (-wal, -shm) get the same rights from SQLite.
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise StoreError(f"{self._path}: {error.strerror}") from None
        with self._errors():
            # No implicit transactions: they are written out here.
            self._db = sqlite3.connect(self._path, timeout=BUSY_S, isolation_level=None)
            _use_wal(self._db)
            self._db.execute("PRAGMA synchronous=NORMAL")
        try:
            self._migrate()
        except StoreError:
            self.close()
            raise

    def append(self, batch: Sequence[UsageRecord]) -> None:
        self._insert(sql.USAGE, sql.FIELDS, [msgspec.structs.astuple(each) for each in batch])

    def append_captures(self, batch: Sequence[Capture]) -> None:
        rows = [msgspec.structs.astuple(each) for each in batch]
        self._insert(sql.CAPTURE, sql.CAPTURE_FIELDS, rows)

    def query(self, wanted: Filter) -> list[Aggregate]:
        query, values = sql.aggregates(wanted, _SPELLING)
        with self._errors():
            rows = self._connected.execute(query, values).fetchall()
        names = Aggregate.__struct_fields__
        return [Aggregate(**dict(zip(names, row, strict=True))) for row in rows]

    def captures(self, *, session: str | None = None, limit: int = 20) -> list[Capture]:
        names = sql.CAPTURE_FIELDS
        where = "" if session is None else "WHERE session = ?"
        query = f"SELECT {', '.join(names)} FROM {sql.CAPTURE} {where} ORDER BY at_us DESC LIMIT ?"
        values = [limit] if session is None else [session, limit]
        with self._errors():
            rows = self._connected.execute(query, values).fetchall()
        return [Capture(**dict(zip(names, row, strict=True))) for row in rows]

    def prune(self, before_us: int, *, now_us: int, max_captures: int) -> None:
        self._delete(sql.USAGE, "at_us < ?", before_us)
        self._delete(sql.CAPTURE, "expires_us < ?", now_us)
        newest = f"SELECT rowid FROM {sql.CAPTURE} ORDER BY at_us DESC LIMIT ?"
        self._delete(sql.CAPTURE, f"rowid NOT IN ({newest})", max_captures)

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    # ------------------------------------------------------------------- inside

    @property
    def _connected(self) -> sqlite3.Connection:
        if self._db is None:
            raise StoreError("the database is not open")
        return self._db

    def _migrate(self) -> None:
        with self._transaction() as db:  # the write lock, before we look
            db.execute(
                f"CREATE TABLE IF NOT EXISTS {migrate.TABLE} "
                "(number INTEGER PRIMARY KEY, name TEXT NOT NULL)"
            )
            applied = [row[0] for row in db.execute(f"SELECT number FROM {migrate.TABLE}")]
            for step in migrate.missing(migrate.migrations("sqlite"), applied):
                for statement in step.statements:
                    db.execute(statement)
                db.execute(f"INSERT INTO {migrate.TABLE} VALUES (?, ?)", (step.number, step.name))

    def _insert(
        self, table: str, fields: Sequence[str], rows: Sequence[tuple[object, ...]]
    ) -> None:
        row = f"({', '.join('?' * len(fields))})"
        into = f"INSERT INTO {table} ({', '.join(fields)}) VALUES "
        start = 0
        with self._transaction() as db:
            while part := rows[start : start + _ROWS_AT_ONCE[-1]]:
                size = next(size for size in _ROWS_AT_ONCE if size >= len(part))
                values = chain(*part, *repeat(part[-1], size - len(part)))
                statement = f"{into}{', '.join([row] * size)} ON CONFLICT DO NOTHING"
                db.execute(statement, tuple(values))
                start += size

    def _delete(self, table: str, where: str, value: int) -> None:
        some = f"SELECT at_us, request_id FROM {table} WHERE {where} LIMIT {PRUNED_AT_ONCE}"
        deleted = PRUNED_AT_ONCE
        while deleted == PRUNED_AT_ONCE:
            with self._transaction() as db:
                done = db.execute(
                    f"DELETE FROM {table} WHERE (at_us, request_id) IN ({some})", (value,)
                )
                deleted = done.rowcount

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        db = self._connected
        with self._errors():
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:  # a full disk has rolled it back already
                    db.execute("ROLLBACK")
                raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Theirs as ours. What the database could not do now it may do later; a file that is no
        database is mended by whoever takes it away."""
        try:
            yield
        except _REFUSED as error:
            raise RefusedError(f"{self._path}: {error}") from None
        except sqlite3.Error as error:
            raise StoreError(f"{self._path}: {error}") from None
