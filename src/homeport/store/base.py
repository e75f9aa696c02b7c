"""What a store keeps and answers; ``sqlite`` and ``postgres`` are the two that there are.

A store belongs to one thread (``recorder`` has one for it): its calls block, and none of them is made
where requests are served. Two things may go wrong, and the difference decides what becomes of a batch:

- ``StoreError``: the database cannot take it now. The same batch may be given again, as often as need
  be: what it has of it already is kept once, by time and request id.
- ``RefusedError``: this database will never take it, because of what is in it.

A ``UsageRecord`` has counts, times and names; what was said in a request is not among them. A
``Capture`` has exactly that, and exists only where the user asked for it (``capture``).
"""

from collections.abc import Sequence
from typing import Final, Literal, Protocol

import msgspec

from homeport.errors import HomeportError

MAX_TEXT: Final = 200
"""Names that a client sends are cut there."""
LEAST_SPEED_S: Final = 0.1
"""From the first token to the end; an answer whose tokens came in less has no speed. Three tokens at 30
a second take that long: what is faster came as one burst (a short answer, one that somebody on the way
has put together), and its time is that of a write to a socket."""


class StoreError(HomeportError):
    """The database is away, full or slow: later."""


class RefusedError(HomeportError):
    """The database does not take these very values."""


class UsageRecord(msgspec.Struct, frozen=True, gc=False):
    """One request that reached a model, however it ended. Field names are those of the columns.

    None means: not known, or there is none. Times of day are microseconds since the epoch, which come
    back from every database as they were.
    """

    at_us: int
    """When it came."""
    request_id: str
    key: str = ""
    """Name of the key that it was admitted with; empty where none is needed."""
    client: str = ""
    """Of the user agent, as is the next."""
    client_version: str = ""
    session: str = ""
    """By the client's own header, as is the next."""
    agent: str = ""
    asked_model: str = ""
    """What the client wrote."""
    model: str = ""
    """The id that it was resolved to."""
    deployment: str | None = None
    """What the engine calls the model; None where the request never got to an engine."""
    engine: str | None = None
    dialect: str = ""
    engine_dialect: str | None = None
    stream: bool = False
    prompt_tokens: int | None = None
    """The whole prompt, its cached part included."""
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    duration_s: float = 0.0
    waited_s: float = 0.0
    """For the model to be loaded and free, as a part of the duration."""
    first_token_s: float | None = None
    """From its coming; streams only, as is the next."""
    tokens_per_s: float | None = None
    """After the first token; None where all came within ``LEAST_SPEED_S``."""
    status: int = 0
    """0 for a client that left before there was one."""
    stop_reason: str | None = None
    """In the words of the client's dialect."""
    tool_calls: int = 0
    error: str | None = None
    """The kind of fault; ``left`` for a client that did not wait for the end."""
    bytes_in: int = 0
    bytes_out: int = 0


class Capture(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What was said in one request, redacted and cut (``capture``)."""

    at_us: int
    request_id: str
    expires_us: int
    key: str = ""
    model: str = ""
    session: str = ""
    request: str = ""
    response: str = ""


By = Literal["model", "key", "client", "day"]


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which records, and what they are put together by. Days are those of UTC."""

    by: By = "model"
    session: str | None = None
    since_us: int = 0
    until_us: int | None = None


class Aggregate(msgspec.Struct, frozen=True, kw_only=True):
    """All records of one name. The times are averages over the requests that have the number; the
    speed is all tokens of the answers that have one, by all their time."""

    name: str
    requests: int
    failed: int
    left: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    first_token_s: float | None
    tokens_per_s: float | None
    waited_s: float
    """All waits together."""
    last_us: int


class Store(Protocol):
    """One database. ``open`` first; all calls from one thread."""

    def open(self) -> None:
        """Connects, and brings the tables to what this version knows. Raises ``StoreError``, after
        which it may be called again."""
        ...

    def append(self, batch: Sequence[UsageRecord]) -> None:
        """Keeps the records that it does not have yet: all, or none."""
        ...

    def append_captures(self, batch: Sequence[Capture]) -> None: ...

    def query(self, wanted: Filter) -> list[Aggregate]:
        """By name."""
        ...

    def captures(self, *, session: str | None = None, limit: int = 20) -> list[Capture]:
        """The latest ones, latest first."""
        ...

    def prune(self, before_us: int, *, now_us: int, max_captures: int) -> None:
        """Forgets records from before, captures that have expired, and the oldest of too many."""
        ...

    def close(self) -> None: ...
