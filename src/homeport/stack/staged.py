"""Files that are written all, or none of them: first aside, then put into their places.

A full disk or a folder that may not be written shows while they are aside; then nothing has changed.
What is left to go wrong is the machine's end in the middle of some renames: each file is then the old
one or the new one, whole, and the same command brings the rest up to date.
"""

import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from homeport.errors import StackError

READABLE, OPEN = 0o644, 0o755
"""For all: containers run as other users, and the folder above lets nobody else in."""
SECRET = 0o600
"""For its owner alone."""


def write(
    file: Path, data: bytes, mode: int = SECRET, owner: tuple[int, int] | None = None
) -> None:
    """One file; ``owner`` is a uid and a gid. Raises ``OSError``."""
    with Staged() as staged:
        staged.add(file, data, mode, owner)
        staged.put()


def unwritable(path: Path | str, error: OSError) -> StackError:
    """What somebody is told whose folder cannot be written."""
    return StackError(
        f"{path} cannot be written: {error.strerror}",
        hint="check the permissions of that folder, and the space on its disk",
    )


class _Part(NamedTuple):
    aside: Path
    file: Path


class Staged:
    """``with Staged() as staged: staged.add(…); …; staged.put()``; all calls raise ``OSError``."""

    def __init__(self) -> None:
        self._parts: list[_Part] = []
        self._folders: list[Path] = []

    def make(self, folder: Path, mode: int = OPEN) -> None:
        """A folder, with all above it, if it is not there."""
        if folder.is_dir():
            return
        self.make(folder.parent)
        folder.mkdir()
        self._folders.append(folder)
        folder.chmod(mode)  # whatever the umask

    def add(
        self,
        file: Path,
        data: bytes,
        mode: int = READABLE,
        owner: tuple[int, int] | None = None,
    ) -> None:
        """Through a link, it is the file behind it that is written."""
        file = Path(os.path.realpath(file))
        self.make(file.parent)
        part = _Part(file.with_name(f".{file.name}.part"), file)
        self._parts.append(part)
        try:
            part.aside.unlink(missing_ok=True)  # of one that was killed
            with open(
                os.open(part.aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb"
            ) as stream:
                os.fchmod(stream.fileno(), mode)
                if owner is not None:
                    os.fchown(stream.fileno(), *owner)
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:  # a full disk says no name
            raise OSError(error.errno, error.strerror, str(file)) from None

    def put(self) -> None:
        """In the order of ``add``."""
        for part in self._parts:
            os.replace(part.aside, part.file)
        self._parts, self._folders = [], []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for part in self._parts:
            with suppress(OSError):
                part.aside.unlink()
        for folder in reversed(self._folders):
            with suppress(OSError):
                folder.rmdir()
