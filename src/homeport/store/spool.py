"""Records that wait on disk while the database cannot take them, as lines of JSON in a few files.

Each process writes files of its own and holds a lock on the one that it writes to. What it finds when
it starts, and nobody has locked, was left by one that has ended: that is replayed as well. Names sort
by time, so that the order is kept. A file is deleted once the database has all of it; if we are
killed in between, it is replayed again, and the database knows its records already.

A line that was cut off, because its writer was killed, is no record and is passed over.
"""

import fcntl
import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import IO, Final, NamedTuple

import msgspec

from homeport.store.base import UsageRecord

FILE_BYTES: Final = 1024 * 1024
"""Then a new one is begun: what has been replayed gives its room back."""

_decode = msgspec.json.Decoder(UsageRecord).decode
_encode = msgspec.json.Encoder().encode


class SpoolError(Exception):
    """The disk does not take it."""


class Segment(NamedTuple):
    """One file, and what is in it."""

    path: Path
    records: list[UsageRecord]
    torn: int
    """Lines that are no records."""


class Spool:
    """What one process writes and reads; two of its threads may."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder, self._limit_bytes = folder, limit_bytes
        self._file: IO[bytes] | None = None
        self._files = 0
        self._lock = threading.Lock()
        self.size_bytes = 0
        """Of what waits. Others' files count too, as far as they were looked at."""
        self._refresh()

    def __repr__(self) -> str:
        return f"<Spool {self._folder} {self.size_bytes} bytes>"

    def put(self, batch: Sequence[UsageRecord]) -> int:
        """Return how many of the batch there was room for, the first ones. Raises ``SpoolError``; then
        nothing of it is kept."""
        with self._lock:
            room = self._limit_bytes - self.size_bytes
            lines = [_encode(each) + b"\n" for each in batch]
            fitting = sum(total <= room for total in accumulate(map(len, lines)))
            self._put(b"".join(lines[:fitting]))
            return fitting

    def look(self) -> None:
        """Raises ``SpoolError`` where nothing can be put, as far as that is seen without writing."""
        with self._lock:
            if self.size_bytes >= self._limit_bytes:
                raise SpoolError("its limit is reached")
            try:
                self._make_folder()
            except OSError as error:
                raise SpoolError(f"{self._folder}: {error.strerror}") from None
            if not os.access(self._folder, os.W_OK | os.X_OK):
                raise SpoolError(f"{self._folder} cannot be written to")

    def _put(self, data: bytes) -> None:
        try:
            file = self._file or self._begun()
            before = file.tell()
            try:
                _write_all(file, data)
            except OSError:  # the disk is full: half a batch would be half a line
                file.truncate(before)
                file.seek(before)
                raise
        except OSError as error:
            raise SpoolError(f"{self._folder}: {error.strerror}") from None
        self.size_bytes += len(data)
        if file.tell() >= FILE_BYTES:
            self._end()

    def segments(self) -> Iterator[Segment]:
        """What waits, oldest first. The caller calls ``done`` with each that the database has taken."""
        self.close()
        for path in self._paths():
            with suppress(OSError), path.open("rb") as file:
                # Locked: somebody writes to it. It stays so until the caller is done with it, so that
                # no two replay it at once; that would be right, but twice the work.
                if _locked(file):
                    yield _read(path, file)
        self._refresh()

    def done(self, segment: Segment) -> None:
        with suppress(OSError):
            size = segment.path.stat().st_size
            segment.path.unlink()
            self.size_bytes = max(0, self.size_bytes - size)

    def close(self) -> None:
        with self._lock:
            self._end()

    # ------------------------------------------------------------------- inside

    def _begun(self) -> IO[bytes]:
        self._make_folder()
        self._files += 1
        name = f"{time.time_ns():020d}-{os.getpid()}-{self._files}.jsonl"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(self._folder / name, flags, 0o600)
        self._file = os.fdopen(descriptor, "wb", buffering=0)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        return self._file

    def _make_folder(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def _end(self) -> None:
        """What has been written may be replayed from now on, by us or others."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _paths(self) -> list[Path]:
        return sorted(self._folder.glob("*.jsonl"))

    def _refresh(self) -> None:
        self.size_bytes = sum(_sizes(self._paths()))


def _write_all(file: IO[bytes], data: bytes) -> None:
    """Unbuffered files may take a part only."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def _sizes(paths: Iterable[Path]) -> Iterator[int]:
    for path in paths:
        with suppress(OSError):
            yield path.stat().st_size


def _locked(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _read(path: Path, file: IO[bytes]) -> Segment:
    records, torn = list[UsageRecord](), 0
    for line in file:
        try:
            records.append(_decode(line))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            torn += 1
    return Segment(path, records, torn)
