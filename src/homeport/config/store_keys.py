"""The keys of what is remembered of requests. A part of the table in ``config.schema``."""

from typing import Final

from homeport.config.kinds import (
    BOOLEAN,
    COUNT,
    DATABASE,
    PATTERN,
    REGEX,
    SECONDS,
    SIZE,
    SIZE_OR_ZERO,
    Key,
    ListOf,
    Section,
)
from homeport.settings import CaptureSettings

_CAPTURE: Final = CaptureSettings()

CAPTURE: Final = Section(
    (
        Key(
            name="keys",
            kind=ListOf(PATTERN, one_ok=True),
            default="none",
            doc="Names of clients' keys (`server.keys`), or patterns: their requests are captured.",
            example="[debugging]",
        ),
        Key(
            name="models",
            kind=ListOf(PATTERN, one_ok=True),
            default="none",
            doc="Models, or patterns, whose requests are captured.",
            example="[qwen3-8b]",
        ),
        Key(
            name="sessions",
            kind=ListOf(PATTERN, one_ok=True),
            default="none",
            doc="Session ids, or patterns, as clients send them: those requests are captured.",
            example="[0199f3*]",
        ),
        Key(
            name="max_bytes",
            kind=SIZE,
            default="64KiB",
            doc="So much of a request's body is kept, and so much of its answer.",
        ),
        Key(
            name="keep_s",
            kind=SECONDS,
            also="keep",
            default="7d",
            doc="A capture is deleted after this time.",
            example="1d",
        ),
        Key(
            name="max_requests",
            kind=COUNT,
            default=str(_CAPTURE.max_requests),
            doc="So many captures are kept; the oldest go first.",
        ),
        Key(
            name="redact",
            kind=ListOf(REGEX, one_ok=True),
            default="none",
            doc="Regular expressions (Python's) of what is hidden in captures, beside what always is: "
            "the client's key, what looks like a key or token, `Authorization` lines, private keys.",
            example="['ACME-[0-9]{6}']",
        ),
    )
)

STORE: Final = Section(
    (
        Key(
            name="enabled",
            kind=BOOLEAN,
            default="true",
            doc="Whether anything is remembered. `store: off` is short for `store: {enabled: false}`.",
            example="false",
        ),
        Key(
            name="url",
            kind=DATABASE,
            default="usage.db in the state folder",
            doc="The database: a file for SQLite, or the address of a PostgreSQL database, for which "
            "the extra `homeport[postgres]` has to be installed. `${NAME}` or `os.environ/NAME` takes "
            "it from the environment.",
            example="postgresql://homeport:secret@127.0.0.1/homeport",
        ),
        Key(
            name="retention_s",
            kind=SECONDS,
            also="retention",
            default="90d",
            doc="Records are deleted after this time.",
            example="365d",
        ),
        Key(
            name="spool_bytes",
            kind=SIZE_OR_ZERO,
            also="spool",
            default="64MiB",
            doc="Disk space for records that the database cannot take now (about 500 bytes each). What "
            "does not fit is dropped, and counted.",
        ),
        Key(
            name="capture",
            kind=CAPTURE,
            doc="Requests that are kept with what was said in them. None, unless one of `keys`, "
            "`models` and `sessions` means them.",
        ),
    ),
    short="enabled",
)
