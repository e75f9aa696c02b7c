"""A program in a pseudo-terminal, and what its screen shows.

The screen knows what full-screen programs for the terminal use: movement of the cursor, erasing,
scrolling at the last line. Colours, titles and modes are read over.
"""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

LINES, COLUMNS = 50, 160
WAIT_S = 30.0
STOP_TIMEOUT_S = 10.0

ENTER, DOWN, ESCAPE, CTRL_C = "\r", "\x1b[B", "\x1b", "\x03"

_TOKEN = re.compile(
    r"\x1b\[(?P<values>[0-9;:?<=>]*)[ -/]*(?P<final>[@-~])"  # a control sequence
    r"|\x1b[\]P_^X][^\x07\x1b]*(?:\x07|\x1b\\)"  # a string for the terminal, such as its title
    r"|\x1b(?:[ -/]+[0-~]|[0-OQ-WYZ\\`-~])"  # any other escape
    r"|(?P<control>[\x00-\x1a\x1c-\x1f\x7f])"
    r"|(?P<text>[^\x00-\x1f\x7f]+)"
)


class Screen:
    """What a terminal would show of the bytes that it was fed."""

    def __init__(self, lines: int = LINES, columns: int = COLUMNS) -> None:
        self._columns = columns
        self._rows = [[" "] * columns for _ in range(lines)]
        self._row = self._column = 0

    def __str__(self) -> str:
        return "\n".join("".join(row).rstrip() for row in self._rows).strip("\n")

    def feed(self, text: str) -> str:
        """Returns what may be the beginning of a sequence: it belongs before the next piece."""
        end = 0
        for token in _TOKEN.finditer(text):
            if token.start() != end:
                break
            end = token.end()
            if token["final"]:
                self._sequence(token["final"], token["values"])
            elif token["control"]:
                self._control(token["control"])
            elif token["text"]:
                self._write(token["text"])
        return text[end:]

    def _control(self, control: str) -> None:
        match control:
            case "\r":
                self._column = 0
            case "\n" if self._row + 1 < len(self._rows):
                self._row += 1
            case "\n":
                self._rows = [*self._rows[1:], [" "] * self._columns]
            case "\b":
                self._column = max(0, self._column - 1)
            case "\t":
                self._column = min(self._columns - 1, self._column // 8 * 8 + 8)

    def _write(self, text: str) -> None:
        for character in text:
            if self._column == self._columns:
                self._control("\r")
                self._control("\n")
            self._rows[self._row][self._column] = character
            self._column += 1

    def _sequence(self, final: str, values: str) -> None:
        if values[:1] in ("?", "<", "=", ">"):
            return
        first, second = ([int(v or 0) for v in values.split(";")] + [0, 0])[:2]
        row, column = self._row, min(self._column, self._columns - 1)
        match final:
            case "A":
                row -= first or 1
            case "B":
                row += first or 1
            case "C":
                column += first or 1
            case "D":
                column -= first or 1
            case "G":
                column = (first or 1) - 1
            case "d":
                row = (first or 1) - 1
            case "H" | "f":
                row, column = (first or 1) - 1, (second or 1) - 1
            case "J" | "K":
                self._erase(final, first)
                return
            case _:
                return
        self._row = min(max(row, 0), len(self._rows) - 1)
        self._column = min(max(column, 0), self._columns - 1)

    def _erase(self, final: str, part: int) -> None:
        """`part`: 0 to the end, 1 from the beginning, 2 all; of the line (K) or the screen (J)."""
        line = self._rows[self._row]
        for column in range(self._columns):
            if part == 2 or (column >= self._column if part == 0 else column <= self._column):
                line[column] = " "
        if final == "J":
            for number, row in enumerate(self._rows):
                if part >= 2 or (number > self._row if part == 0 else number < self._row):
                    row[:] = [" "] * self._columns


class Terminal:
    """One program, from its start to its end. It leads a process group of its own."""

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        env: Mapping[str, str],
        *,
        columns: int = COLUMNS,
    ) -> None:
        self.screen = Screen(columns=columns)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, columns, 0, 0))
        self._terminal: int | None = ours
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            env={**env, "TERM": "xterm-256color"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(STOP_TIMEOUT_S)
        self.hang_up()

    def hang_up(self) -> None:
        """The terminal is gone, as when its window is closed."""
        if self._terminal is not None:
            os.close(self._terminal)
            self._terminal = None

    def press(self, keys: str) -> None:
        assert self._terminal is not None
        os.write(self._terminal, keys.encode())

    def until(self, pattern: str, *, timeout_s: float = WAIT_S) -> str:
        """The screen, once the pattern is on it. Raises `AssertionError` if it does not come."""
        deadline = time.monotonic() + timeout_s
        while not re.search(pattern, str(self.screen)):
            left_s = deadline - time.monotonic()
            ended = not self._read(left_s) and self._process.poll() is not None
            assert left_s > 0, f"no {pattern!r} within {timeout_s} s on\n{self.screen}"
            assert not ended, f"ended without {pattern!r} on\n{self.screen}"
        return str(self.screen)

    def settle(self, quiet_s: float = 0.3, *, at_most_s: float = 3.0) -> None:
        """Until nothing has been drawn for so long, or something is drawn for ever: now it listens
        to keys."""
        deadline = time.monotonic() + at_most_s
        while time.monotonic() < deadline and self._read(quiet_s):
            pass

    def wait_end(self) -> int:
        """Its exit status."""
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while self._process.poll() is None and time.monotonic() < deadline:
            self._read(0.1)
        return self._process.wait(1)

    def _read(self, timeout_s: float) -> bool:
        """False if nothing came."""
        if self._terminal is None:
            time.sleep(timeout_s)
            return False
        if not select.select([self._terminal], [], [], max(0.0, timeout_s))[0]:
            return False
        try:
            data = os.read(self._terminal, 65536)
        except OSError:  # the program has closed its side
            return False
        self._held = self.screen.feed(self._held + self._decoder.decode(data))
        return True
