"""``homeport usage``: what was asked of which model; read from the database, so that homeport need not
run. The stack's database is reached in its network only: there the command runs in the gateway's
container.

A bar shows tokens: ``░`` prompt from the cache, ``▒`` prompt that the engine had to read, ``█`` answer.
All bars are to one scale.
"""

import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
import msgspec

from homeport.cli import output, table
from homeport.cli.table import Column
from homeport.config import load
from homeport.config.problems import WrongValueError
from homeport.config.values import Place, seconds
from homeport.errors import ConfigError
from homeport.stack.containers import reached
from homeport.store.base import Aggregate, By, Capture, Filter, Store, StoreError
from homeport.store.choosing import FILE, POSTGRES, store_for

STORE: Final = "HOMEPORT_STORE_URL"
BARS: Final = "░▒█"
BAR_WIDTH: Final = 28
LEAST_BAR: Final = 8
COLUMNS: Final = (
    Column("REQUESTS", 1, is_number=True),
    Column("FAILED", 4, is_number=True),
    Column("LEFT", 6, is_number=True),
    Column("PROMPT", 1, is_number=True),
    Column("CACHED", 2, is_number=True),
    Column("ANSWER", 1, is_number=True),
    Column("FIRST", 5, is_number=True),
    Column("TOK/S", 5, is_number=True),
    Column("", 3),
)
"""Behind the name; the last one is the bar."""


@click.command()
@click.option("--config", "file", type=click.Path(path_type=Path), help="Configuration file.")
@click.option(
    "--by",
    type=click.Choice(["model", "key", "client", "day"]),
    default="model",
    show_default=True,
    help="What requests are put together by; days are those of UTC.",
)
@click.option("--since", default="7d", show_default=True, help="How far back: 90s, 12h, 7d.")
@click.option("--captured", is_flag=True, help="The latest captures instead, with what was said.")
@click.option("--session", metavar="ID", help="Of this session only.")
@click.option("--json", "as_json", is_flag=True, help="As JSON on stdout.")
def usage(
    file: Path | None, by: By, since: str, captured: bool, session: str | None, as_json: bool
) -> None:
    """Show what was asked of which model: requests, tokens, times.

    FAILED requests ended with an error; of those that LEFT the client did not wait for the end. CACHED
    is the part of the prompts that the engine had in its cache. FIRST is the average time to the first
    token, TOK/S the speed after it (all tokens by all the time), both of streams.
    """
    since_s = _seconds(since)
    stack = None if file or os.environ.get(STORE) else reached.gateway(os.environ)
    if stack is not None:
        output.say("of the stack; with --config FILE of a homeport without containers")
        words = ["usage", "--by", by, "--since", since, *["--captured"] * captured]
        words += [*["--session", session or ""] * (session is not None), *["--json"] * as_json]
        raise SystemExit(reached.run(stack, words, has_terminal=output.width() is not None))
    settings, wrong = load.store(file, os.environ)
    if wrong is not None:
        _warn(wrong)
    state_home = load.state_home(os.environ)
    store = store_for(settings.url, state_home)
    is_new = (
        not (settings.url or "").startswith(POSTGRES)
        and not Path(settings.url or state_home / FILE).exists()
    )
    if is_new:
        why = "" if settings.enabled else " (store: off)"
        output.say(f"nothing has been recorded yet{why}")
        if not file and reached.is_installed(os.environ):
            output.say(
                "  the stack has a database of its own, and does not run: homeport proxy start"
            )
        if as_json:
            output.data_json([])
        return
    since_us = time.time_ns() // 1000 - round(since_s * 1_000_000)
    try:
        store.open()
        if captured:
            _tell_captures(store.captures(session=session), session, as_json=as_json)
        else:
            _tell(store, Filter(by=by, session=session, since_us=since_us), as_json=as_json)
    except StoreError as error:
        output.error(str(error), hint="records wait on disk until the database is back")
        raise SystemExit(1) from None
    finally:
        store.close()


def _warn(wrong: ConfigError) -> None:
    """Of what is wrong in the configuration beside the store's settings, the first."""
    message = ": ".join(filter(None, (wrong.where, wrong.key, wrong.message)))
    more = len(getattr(wrong, "errors", (wrong,))) - 1
    output.warning(
        f"{message} (and {more} more)" if more else message,
        hint="usage does without it; `homeport config check` says more",
    )


def _tell(store: Store, wanted: Filter, *, as_json: bool) -> None:
    found = store.query(wanted)
    if wanted.by != "day":
        found.sort(key=tokens, reverse=True)
    if as_json:
        output.data_json([rounded(each) for each in found])
        return
    if not found:
        of = "" if wanted.session is None else f" of session '{wanted.session}'"
        output.say(f"no requests{of} since then")
        return
    columns = (Column(wanted.by.upper()), *COLUMNS)
    most = max(map(tokens, found))
    width = output.width()
    rows = [[*cells(each), ""] for each in found]
    bar_width = BAR_WIDTH if width is None else _room(columns, rows, width)
    for row, each in zip(rows, found, strict=True):
        row[-1] = bar(each, most, bar_width)
    shown = table.lines(columns, rows, width)
    for line in shown:
        output.cells(line, table.GAP, colours={})
    if len(shown[0]) == len(columns):  # else there was no room for bars
        output.say(f"\n{BARS[0]} cached prompt  {BARS[1]} prompt read  {BARS[2]} answer, in tokens")


def _tell_captures(found: Sequence[Capture], session: str | None, *, as_json: bool) -> None:
    if as_json:
        output.data_json(found)
        return
    if not found:
        of = "" if session is None else f" of session '{session}'"
        output.say(
            f"nothing has been captured{of}; store.capture in the configuration says what is"
        )
    for each in found:
        at = datetime.fromtimestamp(each.at_us / 1_000_000, UTC).isoformat(timespec="seconds")
        output.data(f"{at}  {each.request_id}  {each.model}  {each.session}".rstrip())
        output.data(f"  > {each.request}")
        output.data(f"  < {each.response}")


def tokens(each: Aggregate) -> int:
    return each.prompt_tokens + each.completion_tokens


def rounded(each: Aggregate) -> Aggregate:
    """With times to the millisecond and the speed to a tenth: the rest of what a division has given
    was never measured."""
    first_s, speed = each.first_token_s, each.tokens_per_s
    return msgspec.structs.replace(
        each,
        first_token_s=None if first_s is None else round(first_s, 3),
        tokens_per_s=None if speed is None else round(speed, 1),
        waited_s=round(each.waited_s, 3),
    )


def cells(each: Aggregate) -> list[str]:
    share = f"{each.cached_tokens / each.prompt_tokens:.0%}" if each.prompt_tokens else "-"
    return [
        each.name or "-",
        str(each.requests),
        str(each.failed or "-"),
        str(each.left or "-"),
        short(each.prompt_tokens),
        share,
        short(each.completion_tokens),
        "-" if each.first_token_s is None else f"{each.first_token_s:.2f}s",
        "-" if each.tokens_per_s is None else f"{each.tokens_per_s:.0f}",
    ]


def short(count: int) -> str:
    """``999``, ``12.3k``, ``4.0M``."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= size:
            return f"{count / size:.1f}{unit}"
    return str(count)


def bar(each: Aggregate, most: int, width: int) -> str:
    """Three parts, of which each begins where the one before has ended: rounded, they never add up to
    more than the whole. Who used anything has a mark."""
    if not most or not tokens(each):
        return ""
    cached = min(each.cached_tokens, each.prompt_tokens)
    ends = [round(part * width / most) for part in (cached, each.prompt_tokens, tokens(each))]
    drawn = "".join(
        mark * (end - begin) for mark, begin, end in zip(BARS, [0, *ends], ends, strict=False)
    )
    return drawn or BARS[1]


def _room(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> int:
    """What the other columns leave for the bar; it is left out where that is too little."""
    widths = [max(len(c.title), *(len(row[i]) for row in rows)) for i, c in enumerate(columns)]
    rest = width - sum(widths[:-1]) - len(table.GAP) * (len(columns) - 1)
    return max(LEAST_BAR, min(BAR_WIDTH, rest))


def _seconds(text: str) -> float:
    try:
        return seconds(text, Place(folder="", env={}, exists=lambda _: False))
    except WrongValueError as wrong:
        raise ConfigError(wrong.message, where="--since", hint="write 90s, 12h or 7d") from None
