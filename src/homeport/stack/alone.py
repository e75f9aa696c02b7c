"""One command at a time: of two that start or stop at once, the second finds what the first has done.

A lock of the kernel's (``flock``), which it gives back whatever happens to the holder; the file stays,
and says nothing. Descriptors of Python's are closed in a child, so what is started does not hold it.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from homeport.stack.proxy import Tell
from homeport.stack.staged import unwritable


@contextmanager
def alone(folder: Path, tell: Tell) -> Iterator[None]:
    """Nobody else changes anything meanwhile. Blocks until that is so; raises ``StackError`` where the
    folder cannot be written."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise unwritable(folder, error) from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell("another homeport command is at work; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
