"""``homeport ps``: what every model is doing now."""

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import click

from homeport.cli import control, output, table
from homeport.cli.table import Column

COLUMNS: Final = (
    Column("MODEL"),
    Column("STATE"),
    Column("IN FLIGHT", 1, is_number=True),
    Column("WAITING", 2, is_number=True),
    Column("OLDEST", 2, is_number=True),
    Column("MEMORY", 3, is_number=True),
    Column("IDLE", 4, is_number=True),
    Column("CONTEXT", 5, is_number=True),
    Column("ENGINE", 6),
    Column("PORT", 7, is_number=True),
)
LAST_OUTPUT: Final = "; its last output:\n"
"""Between why an engine has ended and what it said (``runtime.instance``, which takes longer to load
than all of this)."""
COLOURS: Final = {"ready": "32", "starting": "33", "backoff": "31", "failed": "31"}


@click.command()
@control.url_option
@click.option("--json", "as_json", is_flag=True, help="Everything that is known, as JSON.")
def ps(url: str | None, as_json: bool) -> None:
    """Show what every model is doing.

    OLDEST is the age of the oldest request, and how much of its prompt is read, while the engine
    tells. MEMORY is what is kept for the engine. IDLE is how long nobody has used it, and behind the
    slash after how long it is stopped. A star marks the default model.
    """
    rows = control.find(url).ask("GET", control.MODELS)["models"]
    if as_json:
        output.data_json(rows)
        return
    if not rows:
        output.say("no models yet; `homeport serve` says why")
        return
    shown = table.lines(COLUMNS, [_cells(row) for row in rows], output.width())
    for row, cells in zip([None, *rows], shown, strict=True):
        colour = COLOURS.get(row["state"], "") if row else ""
        output.cells(cells, table.GAP, colours={1: colour})
    for row in rows:
        if row["last_error"] and row["state"] in ("backoff", "failed"):
            _tell_failure(row)


def _tell_failure(row: dict[str, Any]) -> None:
    """Why, without the engine's own lines: there is a command for those."""
    reason, has_output, _ = row["last_error"].partition(LAST_OUTPUT)
    first, *more = reason.splitlines()
    output.error(f"{row['id']}: {first}", hint=f"homeport logs {row['id']}" if has_output else "")
    output.quote([line.strip() for line in more])


def _cells(row: dict[str, Any]) -> Sequence[str]:
    return (
        row["id"] + (" *" if row["is_default"] else ""),
        row["state"],
        str(row["in_flight"] or "-"),
        str(row["queued"] or "-"),
        oldest(row),
        _size(row["reserved_bytes"]),
        _idle(row),
        str(row["context_tokens"] or "-"),
        row["engine"] or "-",
        str(row["port"] or _host(row["upstream"]) or "-"),
    )


def _host(url: str | None) -> str:
    """What of an address tells one server from another."""
    return urlsplit(url).netloc if url else ""


def oldest(row: dict[str, Any]) -> str:
    """Its age, and how much of its prompt is read; an older gateway tells neither."""
    age, tokens = row.get("oldest_s"), row.get("prompt_tokens")
    if age is None:
        return "-"
    return duration(age) + (f" {100 * row['prompt_read'] // tokens}%" if tokens else "")


def _idle(row: dict[str, Any]) -> str:
    if row["idle_s"] is None:
        return "-"
    idle = duration(row["idle_s"])
    if row["ttl_left_s"] is None:
        return idle
    return f"{idle}/{duration(row['idle_s'] + row['ttl_left_s'])}"


def duration(seconds: float) -> str:
    """``42s``, ``5m``, ``3h20m``, ``2d``: two figures are enough to read at a glance."""
    minutes, hours = round(seconds) // 60, round(seconds) // 3600
    if not minutes:
        return f"{round(seconds)}s"
    if not hours:
        return f"{minutes}m"
    return f"{hours}h{minutes % 60:02}m" if hours < 24 else f"{hours // 24}d"


def _size(size_bytes: int | None) -> str:
    if not size_bytes:
        return "-"
    mib = size_bytes / 1024**2
    return f"{mib:.0f} MiB" if mib < 1000 else f"{mib / 1024:.1f} GiB"
