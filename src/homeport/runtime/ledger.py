"""What runs, on disk: one small file for each engine, for whoever comes after an unclean end.

It is written before the engine is started and removed when it has ended with all that belonged to it.
So what lies there without a living owner may still run. ``leftovers`` reads it.

Every process of an engine has a mark in its environment, a random number of that one start
(``HOMEPORT_ENGINE``). Children inherit it, those that flee into sessions of their own included: who has
it belongs to the engine, for certain. A file can thus be written before there is any pid.

The files are a second line behind the shim. That one cannot be written is no reason not to start.
"""

import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
import structlog

from homeport.facts import Command
from homeport.runtime import identity
from homeport.runtime.identity import Identity

log = structlog.get_logger()

MARK: Final = "HOMEPORT_ENGINE"
FILE_BYTES: Final = 64 * 1024
"""A larger one is not ours."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One engine that was started."""

    model: str
    mark: str
    owner: Identity
    """The homeport that started it."""
    first: Identity | None = None
    """The first process of its tree (the shim), once there is one."""
    program: str
    container: str | None = None


class Entry:
    """The file of one engine. ``command`` is the engine's, with the mark in its environment."""

    def __init__(self, path: Path, record: Record, command: Command) -> None:
        self._path, self._record = path, record
        env = (*command.env, (MARK, record.mark))
        self.command = msgspec.structs.replace(command, env=env)
        self._write()

    def spawned(self, pid: int) -> None:
        self._record = msgspec.structs.replace(self._record, first=identity.of(pid))
        self._write()

    def remove(self) -> None:
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _write(self) -> None:
        try:
            _replace(self._path, msgspec.json.encode(self._record))
        except OSError as error:
            log.warning("engine.not_recorded", file=str(self._path), error=error.strerror)


class Ledger:
    """The files of all engines, in ``folder``; of other homeports too, if they share it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __repr__(self) -> str:
        return f"Ledger({str(self.folder)!r})"

    def begin(self, model_id: str, command: Command) -> Entry:
        """Note that an engine is about to be started by ``command``."""
        owner, mark = identity.own(), secrets.token_hex(16)
        record = Record(
            model=model_id,
            mark=mark,
            owner=owner,
            program=command.argv[0],
            container=command.container,
        )
        return Entry(self.folder / f"{owner.pid}-{mark}.json", record, command)

    def read(self) -> list[tuple[Path, Record | None]]:
        """All files, with what they say; None for one that says nothing we know."""
        try:
            paths = sorted(self.folder.glob("*.json"))
        except OSError:
            return []
        return [(path, _read(path)) for path in paths]


def _read(path: Path) -> Record | None:
    try:
        with path.open("rb") as stream:
            return msgspec.json.decode(stream.read(FILE_BYTES), type=Record)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _replace(path: Path, data: bytes) -> None:
    """Write beside it, then rename: a reader sees the old file or the new one. Without ``fsync``: what
    a loss of power destroys is about processes that it has ended."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    number, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".new")
    try:
        with os.fdopen(number, "wb") as stream:
            stream.write(data)
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise
