"""``services/.env``: secrets and choices of the stack, as Docker Compose reads them.

Lines that are there stay as they are, comments too; what is missing is added at the end.

What Compose makes of a line (compose-go, package dotenv; ``tests/stack/test_env_file.py`` asks the real
one):

* ``'…'`` is literal, but for ``\\'``. So a backslash before the closing quote cannot be said.
* ``"…"`` knows ``\\n``, ``\\"``, ``\\\\``, ``\\$`` and a few more, and ``$NAME`` means that variable.
* without quotes a value ends at `` #`` or with the line, and ``$NAME`` means that variable, too.

We write without quotes what is plain, and in single quotes what can be said in them. In what a user
wrote ``$NAME`` is left as it stands, and a value of several lines is not read: its line is none for us.
Nor is one with a NUL byte, which no environment can hold.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

_LINE: Final = re.compile(
    r"""^\s*(?:export\s+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)\s*=[^\S\n]*
    (?: '(?P<single>(?:\\[\\']|\\(?![\\'])|[^'\\])*)' (?:\s*\#.*)?
      | "(?P<double>(?:\\.|[^"\\])*)" (?:\s*\#.*)?
      | (?P<bare>(?:[^\s'"].*?)?) (?:\s\#.*)?
    )\s*$""",
    re.VERBOSE | re.DOTALL,
)
_PLAIN: Final = re.compile(r"[A-Za-z0-9_@%+:,./=-]*")
_ESCAPES: Final = {
    **{letter: letter for letter in '"\\$'},
    **dict(zip("nrtabfv", "\n\r\t\a\b\f\v", strict=True)),
}
MODE: Final = 0o600


class Variable(NamedTuple):
    name: str
    value: str
    comment: str = ""
    """Stands above it."""


class Line(NamedTuple):
    """One variable as it stands in a file."""

    name: str
    value: str
    text: str
    """The whole line."""
    is_literal: bool
    """No ``$NAME`` in it means another variable."""


def lines(text: str) -> list[Line]:
    """The variables, in their order."""
    return [line for each in text.split("\n") if (line := _read(each)) is not None]


def values(text: str) -> dict[str, str]:
    """Return what the file says; of a name that is there twice, the last."""
    return {line.name: line.value for line in lines(text)}


def unread(text: str) -> list[int]:
    """Numbers of the lines that say something which is not understood here."""
    return [
        number
        for number, line in enumerate(text.split("\n"), start=1)
        if line.strip() and not line.lstrip().startswith("#") and _read(line) is None
    ]


def load(file: Path) -> str:
    """The text of a file, which need not be there; bytes that are no text survive.

    Raises ``OSError``.
    """
    try:
        return decoded(file.read_bytes())
    except FileNotFoundError:
        return ""


def read(file: Path) -> dict[str, str]:
    """Its variables. Raises ``OSError``."""
    return values(load(file))


def decoded(data: bytes) -> str:
    return data.decode("utf-8-sig", "surrogateescape").replace("\r\n", "\n")


def encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def completed(text: str, wanted: Iterable[Variable]) -> str:
    """Return the text with the variables that it lacks."""
    known = values(text)
    missing = [variable for variable in wanted if variable.name not in known]
    whole = [text.rstrip("\n")] if text.strip() else []
    for variable in missing:
        if variable.comment:
            whole += [""] * bool(whole) + [f"# {variable.comment}"]
        whole.append(f"{variable.name}={quoted(variable.value)}")
    return "\n".join(whole) + "\n"


def changed(text: str, new: Mapping[str, str]) -> str:
    """Return the text with other values for names that it has, and those that it lacks behind it."""
    known = values(text)
    whole = []
    for each in text.split("\n"):
        line = _read(each)
        is_other = line is not None and line.name in new and known[line.name] != new[line.name]
        whole.append(f"{line.name}={quoted(new[line.name])}" if line and is_other else each)
    rest = (Variable(name, value) for name, value in new.items())
    return completed("\n".join(whole), rest)


def quoted(value: str) -> str:
    """So that Compose reads just this value."""
    if _PLAIN.fullmatch(value):
        return value
    if not re.search(r"['\\\n\r]", value):
        return f"'{value}'"
    escaped = re.sub(r'[\\"$]', r"\\\g<0>", value).replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'


def _read(line: str) -> Line | None:
    if line.lstrip().startswith("#") or "\0" in line or not (match := _LINE.match(line)):
        return None
    single, double, bare = match.group("single", "double", "bare")
    if single is not None:
        value = re.sub(r"(\\\\)|\\'", lambda found: found[1] or "'", single)
        return Line(match["name"], value, line, True)
    if double is not None:
        value = re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[0]), double)
        is_literal = "$" not in re.sub(r"\\.", "", double, flags=re.DOTALL)
        return Line(match["name"], value, line, is_literal)
    return Line(match["name"], bare, line, "$" not in bare)
