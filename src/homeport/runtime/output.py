"""What an engine says, line by line: the end of it, for whoever asks, and for those who follow.

The lines of one instance are numbered from 1, across restarts of its engine, and only the last ones are
kept. A reader says from which number on it wants to read and is told how many of those lines are gone.
So nobody keeps a queue for a reader that is slow, and nothing is missing without a word.

A line ends with a line feed, or with a carriage return: progress bars write over themselves with one,
and the last state of a bar is what a person wants to see while a model loads.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Final

import msgspec

KEPT_BYTES: Final = 256 * 1024
"""Of one instance, in all: some thousand lines, more than any engine writes when it starts."""
MAX_LINE_BYTES: Final = 8 * 1024
"""A longer line is cut into several: what waits for its end is bounded too."""
LINE_COST_BYTES: Final = 64
"""What a line costs beside its text, so that empty lines are bounded as well."""


class Lines(msgspec.Struct, frozen=True):
    """What a reader gets: the lines from number ``first`` on."""

    dropped: int
    """So many lines before ``first`` were asked for, and are not kept any more."""
    first: int
    texts: tuple[str, ...]

    @property
    def after(self) -> int:
        """From where to read on."""
        return self.first + len(self.texts)


class Output:
    """The lines of one instance. All calls belong to the thread of the event loop."""

    def __init__(
        self, kept_bytes: int = KEPT_BYTES, heard: Callable[[str], None] | None = None
    ) -> None:
        """``heard`` gets each line as it comes, none left out; it holds up whoever writes."""
        self._kept_bytes, self._heard = kept_bytes, heard
        self._lines: deque[bytes] = deque()
        self._size_bytes = 0
        self._begun = b""
        """A line whose end has not come yet."""
        self.next = 1
        """The number of the line that comes next."""
        self.is_closed = False
        """Nothing comes any more: the instance is gone for good."""
        self._news: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"<Output lines {self.next - len(self._lines)} to {self.next - 1}>"

    # ------------------------------------------------------------------- the engine's side

    def write(self, data: bytes) -> None:
        """The next bytes, cut anywhere."""
        data = self._begun + data
        # A return at the very end may be half of a line's end: its other half decides.
        held = data[-1:] if data.endswith(b"\r") else b""
        whole = data[: len(data) - len(held)].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = whole.split(b"\n")
        for line in lines:
            self._add(line)
        while len(rest) >= MAX_LINE_BYTES:
            self._add(rest[:MAX_LINE_BYTES])
            rest = rest[MAX_LINE_BYTES:]
        self._begun = rest + held
        if lines:
            self._wake()

    def end_run(self) -> None:
        """The engine has ended: a line without an end is one all the same."""
        if rest := self._begun.rstrip(b"\r"):
            self._add(rest)
        self._begun = b""
        self._wake()

    def close(self) -> None:
        self.is_closed = True
        self._wake()

    def _add(self, line: bytes) -> None:
        for start in range(0, len(line) or 1, MAX_LINE_BYTES):
            piece = line[start : start + MAX_LINE_BYTES]
            if self._heard is not None:
                self._heard(piece.decode(errors="replace"))
            self._lines.append(piece)
            self.next += 1
            self._size_bytes += len(piece) + LINE_COST_BYTES
        while self._size_bytes > self._kept_bytes:
            self._size_bytes -= len(self._lines.popleft()) + LINE_COST_BYTES

    # ------------------------------------------------------------------- the readers' side

    def last(self, count: int) -> Lines:
        """The last ``count`` lines, as far as they are kept."""
        return self.since(self.next - min(count, len(self._lines)))

    def since(self, number: int) -> Lines:
        """The lines from ``number`` on."""
        oldest = self.next - len(self._lines)
        first = min(max(number, oldest), self.next)
        wanted = islice(self._lines, first - oldest, None)
        texts = tuple(line.decode(errors="replace") for line in wanted)
        return Lines(max(0, first - number), first, texts)

    @property
    def last_line(self) -> str:
        """The last one that says something, the one being written included."""
        for line in (self._begun, *reversed(self._lines)):
            if text := line.decode(errors="replace").strip():
                return text
        return ""

    async def changed(self, number: int) -> None:
        """Returns when there is a line ``number``, or none will come."""
        while self.next <= number and not self.is_closed:
            if self._news is None:
                self._news = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._news)

    async def closed(self) -> None:
        """Returns when the instance is gone for good."""
        while not self.is_closed:
            await self.changed(self.next)

    def _wake(self) -> None:
        if self._news is not None:
            news, self._news = self._news, None
            if not news.done():
                news.set_result(None)
