"""The log of a homeport in the background: one file, and the one before it.

The process that writes it bounds it, too (``serve --log-file``): standard output and standard error
lead into the file, and with the line that makes it larger than ``LIMIT_BYTES`` it is renamed to
``NAME.1`` and a new one takes its place for both. So there is no second process that has to live for
the log's sake, and what is printed past Python (a crash of the interpreter) gets there all the same.
No line is cut, and the two files together have at most twice the limit and a line.

Nothing fails because of the log: what cannot be written, since the disk is full, is lost.
"""

import io
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final, TextIO, cast

LIMIT_BYTES: Final = 8 * 1024**2
"""Of one file. Without ``--debug`` that is months."""
MODE: Final = 0o600
POLL_S: Final = 0.2
"""How often a follower looks: a person reads along."""


def before(file: Path) -> Path:
    """Where the older lines are."""
    return file.with_name(f"{file.name}.1")


def opened(file: Path) -> int:
    """A descriptor that appends. Raises ``OSError``."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, MODE)


# ---------------------------------------------------------------------- the process that writes


def take_over(file: Path, limit_bytes: int = LIMIT_BYTES) -> tuple[TextIO | None, TextIO | None]:
    """From here on this process says everything into the file. Returns what standard output and
    standard error were before; None where they led into this very file. Raises ``OSError``."""
    log = _Log(file, (sys.stdout.fileno(), sys.stderr.fileno()), limit_bytes)
    before = tuple(os.dup(number) for number in log.numbers)
    log.begin()
    stdout, stderr = (_as_it_was(number, file) for number in before)
    sys.stdout, sys.stderr = (_text_stream(log, number) for number in log.numbers)
    return stdout, stderr


def _as_it_was(number: int, file: Path) -> TextIO | None:
    if os.path.samestat(os.fstat(number), file.stat()):
        os.close(number)
        return None
    raw = cast(BinaryIO, io.FileIO(number, "w"))  # nothing is kept that cannot be written
    return io.TextIOWrapper(raw, "utf-8", "backslashreplace", write_through=True)


def _text_stream(log: "_Log", number: int) -> io.TextIOWrapper:
    # Text right above a stream without a buffer, as ``python -u`` has it; typeshed wants one between.
    raw = cast(BinaryIO, _Stream(log, number))
    return io.TextIOWrapper(raw, "utf-8", "backslashreplace", line_buffering=True)


class _Log:
    """The file, behind the descriptors of this process that lead into it."""

    def __init__(self, file: Path, numbers: tuple[int, int], limit_bytes: int) -> None:
        self.numbers = numbers
        self._file, self._limit_bytes = file, limit_bytes
        self._lock = threading.Lock()

    def begin(self) -> None:
        handle = opened(self._file)
        for number in self.numbers:
            os.dup2(handle, number)
        os.close(handle)

    def write(self, number: int, data: memoryview) -> None:
        with self._lock, suppress(OSError):
            is_whole = data[-1:].tobytes() == b"\n"
            while data:
                data = data[os.write(number, data) :]
            now = os.fstat(number)
            if now.st_size > self._limit_bytes and is_whole:
                os.replace(self._file, before(self._file))
                self.begin()
            elif not now.st_nlink:  # somebody has removed it
                self.begin()


class _Stream(io.RawIOBase):
    def __init__(self, log: _Log, number: int) -> None:
        self._log, self._number = log, number

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._number

    def write(self, data: object) -> int:
        view = memoryview(data).cast("B")  # type: ignore[arg-type]  # what the text layer hands down
        self._log.write(self._number, view)
        return len(view)


# ---------------------------------------------------------------------- those who read


def last(file: Path, count: int) -> list[str]:
    """The last lines, from both files; none when there is no log."""
    found: deque[str] = deque(maxlen=count)
    for each in (before(file), file):
        with suppress(FileNotFoundError), each.open("rb") as stream:
            found.extend(map(_text, stream))
    return list(found)


def since(file: Path, place: tuple[int, int], count: int) -> tuple[str, ...]:
    """The last lines behind a ``place_of`` the file."""
    with suppress(FileNotFoundError), file.open("rb") as stream:
        if os.fstat(stream.fileno()).st_ino == place[0]:
            stream.seek(place[1])
        return tuple(deque(map(_text, stream), maxlen=count))
    return ()


def place_of(file: Path) -> tuple[int, int]:
    """The end of the log as it is now, for ``since``."""
    with suppress(FileNotFoundError):
        found = file.stat()
        return found.st_ino, found.st_size
    return 0, 0


def followed(file: Path, count: int, wait: Callable[[float], None] = time.sleep) -> Iterator[str]:
    """The last lines, and those that come, whichever process writes them and however often the file
    is replaced. Never ends."""
    # Opened before the end is read, so that no line falls between.
    stream = _opened(file)
    yield from _behind(stream, file, count)
    while True:
        if stream is None:
            wait(POLL_S)
        else:
            with stream:
                yield from _until_replaced(stream, file, wait)
        stream = _opened(file)


def _until_replaced(stream: BinaryIO, file: Path, wait: Callable[[float], None]) -> Iterator[str]:
    begun, is_current = b"", True
    while is_current:
        # Asked before the rest is read: what was written before the file was replaced is in it then.
        is_current = _is_current(stream, file)
        while piece := stream.readline():
            begun += piece
            if begun.endswith(b"\n"):
                yield _text(begun)
                begun = b""
        if is_current:
            wait(POLL_S)
    if begun:
        yield _text(begun)


def _behind(stream: BinaryIO | None, file: Path, count: int) -> list[str]:
    """The last whole lines; the stream stands behind them then."""
    found: deque[str] = deque(maxlen=count)
    with suppress(FileNotFoundError), before(file).open("rb") as older:
        found.extend(map(_text, older))
    if stream is not None:
        at = 0
        for line in stream:
            if not line.endswith(b"\n"):
                break
            at += len(line)
            found.append(_text(line))
        stream.seek(at)
    return list(found)


def _opened(file: Path) -> BinaryIO | None:
    try:
        return file.open("rb")
    except FileNotFoundError:
        return None


def _is_current(stream: BinaryIO, file: Path) -> bool:
    """Whether no other file has taken its name."""
    try:
        return os.path.samestat(os.fstat(stream.fileno()), file.stat())
    except FileNotFoundError:
        return True  # just being replaced, or removed: more may come until there is another


def _text(line: bytes) -> str:
    return line.decode(errors="replace").rstrip("\r\n")
