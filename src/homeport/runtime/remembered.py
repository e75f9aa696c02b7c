"""What models were seen to use, kept from one run to the next.

A small JSON file. An entry's key is a digest of all that decides how much an engine takes: change the
context, and what was measured before does not count. The file is a convenience and no record: if it
cannot be read, everything is forgotten, with a warning; if it cannot be written, that is a warning
too. It is replaced whole, after reading it again, so that of two homeports that write at the same time
one may lose its entry, and nothing else happens.
"""

import hashlib
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
import structlog

from homeport.facts import EngineName, Machine
from homeport.settings import ModelSettings

log = structlog.get_logger()

ENTRIES: Final = 256
"""More models than anyone runs; the oldest go first."""
FILE_BYTES: Final = 1024 * 1024
"""A file of ours is far smaller."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    used_bytes: int
    model: str
    """Its id, for people who read the file."""
    at_s: int
    """Time of day."""


class _File(msgspec.Struct, frozen=True, kw_only=True):
    measured: dict[str, Entry] = {}


class Remembered:
    """The file at ``path``, which need not exist. Blocking, and quick."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def used_bytes(self, key: str) -> int | None:
        entry = self._read().get(key)
        return entry.used_bytes if entry is not None and entry.used_bytes > 0 else None

    def remember(self, key: str, model_id: str, used_bytes: int) -> None:
        entries = self._read()
        entries.pop(key, None)
        newest = sorted(entries.items(), key=lambda item: item[1].at_s)[-(ENTRIES - 1) :]
        entry = Entry(used_bytes=used_bytes, model=model_id, at_s=int(time.time()))
        try:
            self._replace(_File(measured={**dict(newest), key: entry}))
        except OSError as error:
            log.warning("memory.not_remembered", file=str(self._path), error=error.strerror)

    def _read(self) -> dict[str, Entry]:
        try:
            with self._path.open("rb") as stream:
                data = stream.read(FILE_BYTES + 1)
            if len(data) > FILE_BYTES:
                raise msgspec.ValidationError("it is too large")
            return msgspec.json.decode(data, type=_File).measured
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            log.warning("memory.forgotten", file=str(self._path), error=str(error))
            return {}

    def _replace(self, content: _File) -> None:
        """Write beside it, then rename: a reader sees the old file or the new one."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        data = msgspec.json.format(msgspec.json.encode(content), indent=1)
        number, name = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}.")
        try:
            with os.fdopen(number, "wb") as stream:
                stream.write(data)
            os.replace(name, self._path)
        except BaseException:
            with suppress(OSError):
                os.unlink(name)
            raise

    def __repr__(self) -> str:
        return f"Remembered({str(self._path)!r})"


def key_of(model: ModelSettings, engine: EngineName, machine: Machine) -> str:
    """Return the key for ``model`` as it is now: its settings, its files, and whose memory it is.

    Reads sizes and times of its files.
    """
    decides = (
        engine,
        model.path,
        model.hub,
        model.command,
        model.binary,
        model.image,
        model.ctx,
        model.slots,
        model.args,
        model.env,
        model.embeddings,
        "cards" if machine.gpus else "memory",
        _stamps(Path(model.path)) if model.path is not None else (),
    )
    return hashlib.sha256(msgspec.json.encode(decides)).hexdigest()[:32]


def _stamps(path: Path) -> tuple[tuple[str, int, int], ...]:
    """Name, size and time of the file, or of those in the folder; empty when it is not there."""
    try:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        stats = [(file.name, file.stat()) for file in files]
    except OSError:
        return ()
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)
