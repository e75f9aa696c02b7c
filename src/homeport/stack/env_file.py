"""``services/.env``: secrets and choices of the stack, as Docker Compose reads them.

Lines that are there stay as they are, comments too; what is missing is added at the end. Values are
written in single quotes where they need any: Compose takes such a value literally (Compose's
documentation, "Syntax for environment files"). Only what a user writes may use more of that syntax;
of it we read quotes, comments and ``export``, and leave ``$NAME`` alone.
"""

import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

_LINE: Final = re.compile(
    r"""^\s*(?:export\s+)?(?P<name>[A-Za-z_]\w*)\s*=\s*
    (?: '(?P<single>[^']*)' | "(?P<double>(?:\\.|[^"\\])*)" | (?P<bare>.*?) )
    (?:\s+\#.*)?\s*$""",
    re.VERBOSE,
)
_PLAIN: Final = re.compile(r"[\w@%+:,./=-]*")
MODE: Final = 0o600


class Variable(NamedTuple):
    name: str
    value: str
    comment: str = ""
    """Stands above it."""


def values(text: str) -> dict[str, str]:
    """Return what the file says; of a name that is there twice, the last."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        if line.lstrip().startswith("#") or not (match := _LINE.match(line)):
            continue
        single, double, bare = match.group("single", "double", "bare")
        if double is not None:
            found[match["name"]] = re.sub(r"\\(.)", r"\1", double)
        else:
            found[match["name"]] = bare if single is None else single
    return found


def read(file: Path) -> dict[str, str]:
    """The same of a file, which need not be there. Raises ``OSError``."""
    try:
        return values(file.read_text())
    except FileNotFoundError:
        return {}


def completed(text: str, wanted: Iterable[Variable]) -> str:
    """Return the text with the variables that it lacks."""
    known = values(text)
    missing = [variable for variable in wanted if variable.name not in known]
    lines = [text.rstrip("\n")] if text.strip() else []
    for variable in missing:
        if variable.comment:
            lines += [""] * bool(lines) + [f"# {variable.comment}"]
        lines.append(f"{variable.name}={_quoted(variable.value)}")
    return "\n".join(lines) + "\n"


def changed(text: str, new: Mapping[str, str]) -> str:
    """Return the text with other values for names that it has, and those that it lacks behind it."""
    known = values(text)
    lines = []
    for line in text.splitlines():
        match = None if line.lstrip().startswith("#") else _LINE.match(line)
        name = str(match["name"]) if match else ""
        is_other = name in new and known[name] != new[name]
        lines.append(f"{name}={_quoted(new[name])}" if is_other else line)
    rest = (Variable(name, value) for name, value in new.items())
    return completed("\n".join(lines), rest)


def write(file: Path, text: str) -> None:
    """For its owner alone, whole or not at all. Raises ``OSError``."""
    handle, name = tempfile.mkstemp(
        dir=file.parent, prefix=".env-"
    )  # mkstemp makes it with mode 600
    try:
        with os.fdopen(handle, "w") as stream:
            stream.write(text)
        os.replace(name, file)
    except BaseException:
        os.unlink(name)
        raise


def _quoted(value: str) -> str:
    if _PLAIN.fullmatch(value):
        return value
    if "'" not in value:
        return f"'{value}'"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
    return f'"{escaped}"'
