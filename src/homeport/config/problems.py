"""What is wrong with a configuration: collected over the whole file, shown together.

A user who fixes one line and is then told of the next has to start homeport ten times. So readers
and rules add to one ``Problems``, go on with what is left, and ``raise_any`` ends the story.

A key path is a tuple (``("server", "keys", 0, "sha256")``); it is shown dotted.
"""

import difflib
from collections.abc import Iterable
from typing import Final

from homeport.errors import ConfigError

KeyPath = tuple[str | int, ...]

MAX_SHOWN: Final = 50
"""A file with more wrong lines than this is the wrong file."""


class WrongValueError(ValueError):
    """One value is wrong; whoever knows its place turns this into a ``ConfigError``."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message, self.hint = message, hint


class CollectedConfigError(ConfigError):
    """Everything that is wrong with one configuration, in file order; never empty.

    As a ``ConfigError`` it speaks for the first one.
    """

    def __init__(self, errors: Iterable[ConfigError]) -> None:
        self.errors = tuple(errors)
        first = self.errors[0]
        super().__init__(first.message, where=first.where, key=first.key, hint=first.hint)

    def __str__(self) -> str:
        return "\n".join(str(error) for error in self.errors)


class Problems:
    """Collects what is wrong with one file and knows on which line each key stands."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._lines: dict[KeyPath, int] = {}
        self._found: list[tuple[int, ConfigError]] = []

    def __repr__(self) -> str:
        return f"Problems({self.file!r}, {len(self._found)} found)"

    def note(self, path: KeyPath, line: int) -> None:
        """Remember that ``path`` is written on ``line``."""
        self._lines[path] = line

    def has(self, path: KeyPath) -> bool:
        """Whether the file has this key, right or wrong."""
        return path in self._lines

    def line_of(self, path: KeyPath) -> int:
        """The line of the key, or of the nearest key around it."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)

    def add(self, path: KeyPath, message: str, hint: str, *, line: int | None = None) -> None:
        line = line or self.line_of(path)
        where = f"{self.file}:{line}"
        self._found.append((line, ConfigError(message, where=where, key=shown(path), hint=hint)))

    @property
    def errors(self) -> list[ConfigError]:
        """What was added, in file order."""
        ordered = sorted(self._found, key=lambda item: item[0])
        return [error for _, error in ordered[:MAX_SHOWN]]

    def raise_any(self) -> None:
        """Raises ``CollectedConfigError`` when something was added."""
        if errors := self.errors:
            raise CollectedConfigError(errors)


def shown(path: KeyPath) -> str:
    """``models."qwen2.5".ctx``: dotted, parts that hold a dot or a space in quotes."""
    return ".".join(_part(str(step)) for step in path)


def _part(text: str) -> str:
    plain = text and all(c.isalnum() or c in "-_/:*" for c in text)
    return text if plain else f'"{text}"'


def near(word: str, known: Iterable[str]) -> str:
    """``did you mean 'x'?`` when something is close, else the whole list."""
    names = sorted(set(known))
    folded = {name.casefold(): name for name in names}
    close = difflib.get_close_matches(word.casefold()[:200], folded, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{folded[close[0]]}'?"
    return f"known: {', '.join(names)}" if names else "there are none"
