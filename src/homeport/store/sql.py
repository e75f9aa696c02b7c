"""Statements that SQLite and PostgreSQL have in common, and the little in which they differ. Pure."""

from typing import Final, NamedTuple

from homeport.store.base import LEAST_SPEED_S, By, Capture, Filter, UsageRecord

USAGE: Final = "homeport_usage"
CAPTURE: Final = "homeport_capture"
FIELDS: Final = UsageRecord.__struct_fields__
CAPTURE_FIELDS: Final = Capture.__struct_fields__

HAS_SPEED: Final = f"tokens_per_s IS NOT NULL AND duration_s - first_token_s >= {LEAST_SPEED_S}"
SPEED: Final = (
    f"sum(completion_tokens) FILTER (WHERE {HAS_SPEED})\n"
    f"    / sum(duration_s - first_token_s) FILTER (WHERE {HAS_SPEED})"
)
"""Of many answers. Not the average of their speeds: there an answer of three tokens would count as much
as one of three thousand."""


class Spelling(NamedTuple):
    """How one database says it."""

    mark: str
    """Where a value is put in."""
    at: str
    """The column of the time."""
    instant: str
    """A time, given as microseconds."""
    last_us: str
    """The latest time of a group, as microseconds."""
    day: str
    """The day of a time, as text."""


def aggregates(wanted: Filter, spelling: Spelling) -> tuple[str, list[int | str]]:
    """The query, and the values that go into it; columns as ``Aggregate`` has them."""
    names: dict[By, str] = {
        "model": "model",
        "key": "key",
        "client": "client",
        "day": spelling.day,
    }
    where = [f"{spelling.at} >= {spelling.instant}"]
    values: list[int | str] = [wanted.since_us]
    if wanted.until_us is not None:
        where.append(f"{spelling.at} < {spelling.instant}")
        values.append(wanted.until_us)
    if wanted.session is not None:
        where.append(f"session = {spelling.mark}")
        values.append(wanted.session)
    query = f"""
        SELECT {names[wanted.by]} AS name,
               count(*),
               count(*) FILTER (WHERE error IS NOT NULL AND error <> 'left'),
               count(*) FILTER (WHERE error = 'left'),
               CAST(coalesce(sum(prompt_tokens), 0) AS bigint),
               CAST(coalesce(sum(cached_tokens), 0) AS bigint),
               CAST(coalesce(sum(completion_tokens), 0) AS bigint),
               avg(first_token_s),
               {SPEED},
               coalesce(sum(waited_s), 0.0),
               {spelling.last_us}
        FROM {USAGE} WHERE {" AND ".join(where)} GROUP BY 1 ORDER BY 1"""
    return query, values
