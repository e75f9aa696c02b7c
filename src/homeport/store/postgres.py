"""PostgreSQL, and TimescaleDB where its extension is in the database.

With the extension the usage table is a hypertable: one chunk a day, found again by time and dropped
as a whole when it is too old. That takes the Apache edition only (no compression, no continuous
aggregates, no retention jobs: ``prune`` calls ``drop_chunks`` itself). A database that gets the
extension later is turned at the next start. Its rule that a unique key must hold the time is why the
key is time and request id everywhere.

A server that hangs must not hang us. ``statement_timeout`` is kept by the server, which may be the one
that is stuck; so each call has an alarm, too, that shuts the connection down under it.

psycopg is an extra (``homeport[postgres]``), loaded when a database is opened.
"""

import os
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog

from homeport.store import migrate, sql
from homeport.store.base import (
    Aggregate,
    Capture,
    Filter,
    RefusedError,
    StoreError,
    UsageRecord,
)

if TYPE_CHECKING:
    import psycopg

log = structlog.get_logger()

CONNECT_TIMEOUT_S: Final = 5
CALL_TIMEOUT_S: Final = 10.0
"""A batch takes milliseconds. Turning a table with a year of records into a hypertable takes longer,
which is why ``open`` has more time."""
OPEN_TIMEOUT_S: Final = 600.0

LOCK: Final = 0x686F6D65706F7274
"""Of those who migrate: "homeport" in ASCII. Advisory locks are numbers."""

READER: Final = "homeport_reader"
"""A role that whoever runs the database may have made, for dashboards. It is let read what requests
cost, never what was said in them."""

_PLAIN: Final = sql.Spelling(
    mark="%s",
    at="at",
    instant="('epoch'::timestamptz + %s * interval '1 microsecond')",
    last_us="CAST(extract(epoch FROM max(at)) * 1000000 AS bigint)",
    day="to_char(date_trunc('day', at AT TIME ZONE 'UTC'), 'YYYY-MM-DD')",
)
_TIMESCALE: Final = _PLAIN._replace(
    day="to_char(time_bucket(interval '1 day', at) AT TIME ZONE 'UTC', 'YYYY-MM-DD')"
)
_CHUNK: Final = "interval '1 day'"
_US: Final = "('epoch'::timestamptz + r.{} * interval '1 microsecond')"
_TYPES: Final = {"int": "bigint", "float": "double precision", "bool": "boolean", "str": "text"}
_CAPTURE_TIMES: Final = "CAST(extract(epoch FROM {}) * 1000000 AS bigint)"


def _insert(table: str, kind: type[msgspec.Struct]) -> str:
    """One statement for a batch of any length, which comes as one JSON text."""
    columns, values, types = [], [], []
    for field in msgspec.structs.fields(kind):
        said = field.type if isinstance(field.type, type) else field.type.__args__[0]
        types.append(f"{field.name} {_TYPES[said.__name__]}")
        is_time = field.name.endswith("_us")
        columns.append(field.name.removesuffix("_us") if is_time else field.name)
        values.append(_US.format(field.name) if is_time else f"r.{field.name}")
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(values)} "
        f"FROM json_to_recordset(%s::json) AS r ({', '.join(types)}) ON CONFLICT DO NOTHING"
    )


INSERT_USAGE: Final = _insert(sql.USAGE, UsageRecord)
INSERT_CAPTURE: Final = _insert(sql.CAPTURE, Capture)


class PostgresStore:
    """Follows ``base.Store``."""

    def __init__(self, url: str, *, call_timeout_s: float = CALL_TIMEOUT_S) -> None:
        self._url, self._call_timeout_s = url, call_timeout_s
        self._db: psycopg.Connection[Any] | None = None
        self.has_timescale = False

    def __repr__(self) -> str:  # never shows the password
        return f"<PostgresStore open={self._db is not None} timescale={self.has_timescale}>"

    def open(self) -> None:
        import psycopg  # an extra, and heavy

        self.close()
        try:
            self._db = psycopg.connect(
                self._url,
                autocommit=True,
                connect_timeout=CONNECT_TIMEOUT_S,
                application_name="homeport",
                # Not seen by a server that is gone without a word; Linux only, ignored elsewhere.
                tcp_user_timeout=int(self._call_timeout_s * 1000),
                prepare_threshold=None,  # a pooler in between may hand each call to another server
            )
        except psycopg.Error as error:
            raise StoreError(_words(error)) from None
        try:
            self._prepare()
        except StoreError:
            self.close()
            raise

    def append(self, batch: Sequence[UsageRecord]) -> None:
        self._run(INSERT_USAGE, msgspec.json.encode(batch).decode())

    def append_captures(self, batch: Sequence[Capture]) -> None:
        self._run(INSERT_CAPTURE, msgspec.json.encode(batch).decode())

    def query(self, wanted: Filter) -> list[Aggregate]:
        spelling = _TIMESCALE if self.has_timescale else _PLAIN
        query, values = sql.aggregates(wanted, spelling)
        names = Aggregate.__struct_fields__
        return [
            Aggregate(**dict(zip(names, row, strict=True))) for row in self._rows(query, *values)
        ]

    def captures(self, *, session: str | None = None, limit: int = 20) -> list[Capture]:
        columns = [
            _CAPTURE_TIMES.format(name.removesuffix("_us")) if name.endswith("_us") else name
            for name in sql.CAPTURE_FIELDS
        ]
        where, values = (
            ("", [limit]) if session is None else ("WHERE session = %s", [session, limit])
        )
        query = f"SELECT {', '.join(columns)} FROM {sql.CAPTURE} {where} ORDER BY at DESC LIMIT %s"
        return [
            Capture(**dict(zip(sql.CAPTURE_FIELDS, row, strict=True)))
            for row in self._rows(query, *values)
        ]

    def prune(self, before_us: int, *, now_us: int, max_captures: int) -> None:
        """Chunks that are too old go as files; the rest of the oldest day row by row."""
        instant = _PLAIN.instant
        if self.has_timescale:
            self._run(f"SELECT drop_chunks('{sql.USAGE}', older_than => {instant})", before_us)
        self._run(f"DELETE FROM {sql.USAGE} WHERE at < {instant}", before_us)
        self._run(f"DELETE FROM {sql.CAPTURE} WHERE expires < {instant}", now_us)
        self._run(
            f"DELETE FROM {sql.CAPTURE} WHERE (at, request_id) IN "
            f"(SELECT at, request_id FROM {sql.CAPTURE} ORDER BY at DESC OFFSET %s)",
            max_captures,
        )

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    # ------------------------------------------------------------------- inside

    @property
    def _connected(self) -> "psycopg.Connection[Any]":
        if self._db is None:
            raise StoreError("the database is not open")
        return self._db

    def _prepare(self) -> None:
        with self._alarmed(OPEN_TIMEOUT_S) as db, db.transaction():
            db.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
            db.execute("SET LOCAL client_min_messages = warning")  # not that a table is there
            db.execute(
                f"CREATE TABLE IF NOT EXISTS {migrate.TABLE} "
                "(number integer PRIMARY KEY, name text NOT NULL, at timestamptz DEFAULT now())"
            )
            applied = [row[0] for row in db.execute(f"SELECT number FROM {migrate.TABLE}")]
            for step in migrate.missing(migrate.migrations("postgres"), applied):
                for statement in step.statements:
                    db.execute(statement.encode())
                db.execute(
                    f"INSERT INTO {migrate.TABLE} (number, name) VALUES (%s, %s)",
                    (step.number, step.name),
                )
            self.has_timescale = _made_hypertable(db)
            _let_read(db)
        timeout_ms = int(self._call_timeout_s * 1000)
        self._run(f"SET statement_timeout = {timeout_ms}")

    def _run(self, query: str, *values: object) -> None:
        with self._alarmed(self._call_timeout_s) as db:
            db.execute(query.encode(), values or None)

    def _rows(self, query: str, *values: object) -> list[Any]:
        with self._alarmed(self._call_timeout_s) as db:
            return db.execute(query.encode(), values).fetchall()

    @contextmanager
    def _alarmed(self, timeout_s: float) -> Iterator["psycopg.Connection[Any]"]:
        """Theirs as ours; and an end, whatever the server does. After an error the connection is
        closed unless the server has merely said no to the values."""
        import psycopg

        db = self._connected
        line = socket.socket(fileno=os.dup(db.fileno()))
        alarm = threading.Timer(timeout_s + 1, _shut, (line,))
        alarm.daemon = True
        alarm.start()
        try:
            yield db
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            raise RefusedError(_words(error)) from None
        except psycopg.Error as error:
            self.close()
            raise StoreError(_words(error)) from None
        except UnicodeEncodeError as error:
            raise RefusedError(str(error)) from None
        finally:
            alarm.cancel()
            alarm.join()  # it may be ringing just now
            line.close()


def _made_hypertable(db: "psycopg.Connection[Any]") -> bool:
    """False without the extension, and where we may not use it: the table does as it is."""
    import psycopg

    has = db.execute("SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'").fetchone()
    if has is None:
        return False
    try:
        with db.transaction():  # a savepoint
            db.execute(
                f"SELECT create_hypertable('{sql.USAGE}', 'at', chunk_time_interval => {_CHUNK}, "
                "if_not_exists => true, migrate_data => true)".encode()
            )
    except psycopg.Error as error:
        log.warning("store.no_hypertable", error=_words(error))
        return False
    return True


def _let_read(db: "psycopg.Connection[Any]") -> None:
    """The reader, where there is one, may read the usage; dashboards are no reason to fail."""
    import psycopg

    lacks = db.execute(
        f"SELECT 1 FROM pg_roles WHERE rolname = '{READER}' "
        f"AND NOT has_table_privilege(rolname, '{sql.USAGE}', 'SELECT')".encode()
    ).fetchone()
    if lacks is None:
        return
    try:
        with db.transaction():  # a savepoint
            db.execute(f"GRANT SELECT ON {sql.USAGE} TO {READER}".encode())
    except psycopg.Error as error:
        log.warning("store.no_reader", error=_words(error))


def _shut(line: socket.socket) -> None:
    """Both directions: whoever waits for it wakes up."""
    with suppress(OSError):  # the server has hung up
        line.shutdown(socket.SHUT_RDWR)


def _words(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
