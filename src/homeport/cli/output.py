"""The only module that prints. stdout is data, for programs; stderr is talk, for people.

An error reads

    error: FILE:LINE: KEY: what is wrong
      hint: what to do next

A command that was asked for ``--json`` and fails without its answer says the same on stdout, too, in
one line: ``{"errors":[{"where":…,"key":…,"message":…,"hint":…}]}``. What people read on stderr stays.

Colour only on a terminal, and not with ``NO_COLOR`` (no-color.org: set and not empty) or
``TERM=dumb``.
"""

import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, TextIO

import msgspec

from homeport.errors import ConfigError, StackError

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_STYLES = re.compile(r"\x1b\[[0-9;:]*[mK]")
"""Colours, and erasing to the end of the line: what programs print to make lines pretty."""
_RED, _YELLOW, _CYAN = "31", "33", "36"


_noted: list[dict[str, str]] | None = None
"""The errors that were told to people; None where no program waits for them."""


def begin(*, as_json: bool) -> None:
    """A command, which was asked for JSON or not."""
    global _noted
    _noted = [] if as_json else None


def note(message: str, *, hint: str = "", where: str = "", key: str = "") -> None:
    """An error, for a program."""
    if _noted is not None:
        _noted.append({"where": where, "key": key, "message": message, "hint": hint})


def errors_json() -> None:
    """It has failed: the errors, to stdout, unless the answer is there already."""
    if _noted:
        data(msgspec.json.encode({"errors": _noted}).decode())


_seen: dict[str, TextIO] = {}
"""What ``stdout`` and ``stderr`` were before they led into a log."""


def tell_too(stdout: TextIO | None, stderr: TextIO | None) -> None:
    """This process logs into a file from now on (``serve --log-file``); what is printed here goes to
    these as well, because there somebody reads it."""
    both = {"stdout": stdout, "stderr": stderr}
    _seen.update({name: stream for name, stream in both.items() if stream is not None})


def say_there(text: str) -> None:
    """Talk that is of no use in the log itself."""
    _repeat("stderr", text)


def _repeat(name: str, text: str) -> None:
    if name in _seen:
        with suppress(OSError):  # that terminal has gone; the log has it
            print(text, file=_seen[name], flush=True)


def data(text: str) -> None:
    """One piece of the answer, to stdout."""
    _repeat("stdout", text)
    print(text, flush=True)


def data_json(value: Any) -> None:
    """The whole answer as JSON, to stdout."""
    begin(as_json=False)  # whoever waited for it has it
    data(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def row(*cells: tuple[str, int]) -> None:
    """One row of a table, to stdout: texts and their widths."""
    data("  ".join(f"{_harmless(text):<{width}}" for text, width in cells).rstrip())


def cells(texts: Sequence[str], gap: str, colours: Mapping[int, str]) -> None:
    """One row of padded cells, to stdout; ``colours`` by their position."""
    shown = [_harmless(text) for text in texts]
    if wants_colour(sys.stdout):
        shown = [
            f"\x1b[{colour}m{text}\x1b[0m" if (colour := colours.get(at)) else text
            for at, text in enumerate(shown)
        ]
    data(gap.join(shown).rstrip())


def lines(texts: Sequence[str]) -> None:
    """Lines of a program that is not ours, to stdout: a person's terminal gets them without colours
    and whatever else would move its cursor, everything else as they are."""
    if texts:
        clean = map(_plain, texts) if sys.stdout.isatty() else texts
        data("\n".join(clean))


def width() -> int | None:
    """Of the terminal that stdout is; None where it is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def quote(texts: Sequence[str]) -> None:
    """Such lines as a part of talk, to stderr."""
    for text in texts:
        say(f"  {_plain(text)}")


def say(text: str) -> None:
    """Talk, to stderr."""
    _repeat("stderr", text)
    print(text, file=sys.stderr, flush=True)


def status(text: str) -> None:
    """The last line on the terminal, in place of the status before it; ``say("")`` ends it."""
    width = shutil.get_terminal_size().columns - 1
    print(f"\r{_harmless(text)[:width]}\x1b[K", end="", file=sys.stderr, flush=True)


def clear_status() -> None:
    """Leaves nothing of it; what is said next stands there."""
    print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def is_terminal() -> bool:
    """Whether a person sees stderr as it is written, so that a line may be written over."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def error(message: str, *, hint: str = "") -> None:
    note(message, hint=hint)
    _labelled("error", _RED, message, hint)


def warning(message: str, *, hint: str = "") -> None:
    _labelled("warning", _YELLOW, message, hint)


def config_error(problem: ConfigError) -> None:
    """A configuration error with its place; every one of them where there are several."""
    for each in getattr(problem, "errors", (problem,)):
        note(each.message, hint=each.hint, where=each.where, key=each.key)
        head = ": ".join(part for part in (each.where, each.key, each.message) if part)
        _labelled("error", _RED, head, each.hint)


def stack_error(problem: StackError) -> None:
    """What failed, the last words of the program that did, the next step."""
    note("\n".join((problem.message, *problem.said)), hint=problem.hint)
    _labelled("error", _RED, problem.message, "")
    quote(problem.said)
    if problem.hint:
        say(f"  {_painted('hint:', _CYAN)} {_harmless(problem.hint)}")


class Work:
    """Work that takes a while: ``step`` tells what stays on the screen, ``now`` what it does just now,
    which a terminal shows on one line and anything else not at all; ``begin`` is worth a line there."""

    def __init__(self) -> None:
        self._shows = False

    def step(self, text: str) -> None:
        self.end()
        say(text)

    def now(self, text: str) -> None:
        if is_terminal():
            status(f"  {text}")
            self._shows = True

    def begin(self, text: str) -> None:
        if is_terminal():
            self.now(text.strip())
        else:
            self.step(text)

    def end(self) -> None:
        if self._shows:
            clear_status()
        self._shows = False

    def __enter__(self) -> "Work":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def _labelled(label: str, colour: str, message: str, hint: str) -> None:
    say(f"{_painted(label + ':', colour)} {_harmless(message)}")
    if hint:
        say(f"  {_painted('hint:', _CYAN)} {_harmless(hint)}")


def _plain(text: str) -> str:
    return _harmless(_STYLES.sub("", text))


def _harmless(text: str) -> str:
    """Without control characters: a message may quote a file or what an upstream sent."""
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def _painted(text: str, colour: str) -> str:
    return f"\x1b[1;{colour}m{text}\x1b[0m" if wants_colour(sys.stderr) else text


def wants_colour(stream: TextIO) -> bool:
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return stream.isatty()
