"""KV caches that survive a switch: the slots of a llama.cpp that is evicted, as files.

A conversation of 60 000 tokens costs a minute of prefill and more; writing its KV cache to a disk and
reading it again costs seconds. So before a llama.cpp is stopped to make room, each of its slots is
saved (``POST /slots/N?action=save``), and when the same model is back, restored. Conversations keep
their slots then (``server.cache_care``).

The files hold what the model has read. They lie in a folder of their own, for its owner only, which
is removed at the end; what a killed homeport left is removed by the next one. A model that would be
started otherwise than it was (another context, another file) does not get its slots back, and all
files together stay within a bound: the oldest go first.
"""

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from homeport.engines.anthropic_messages import auth_headers
from homeport.errors import UpstreamError
from homeport.facts import MIB, Command, Endpoint
from homeport.runtime.probe import Post

log = structlog.get_logger()

FLAG: Final = "--slot-save-path"
LEAST_TOKENS: Final = 256
"""What is read again sooner than it is written is not kept."""
TIMEOUT_S: Final = 30.0
"""For one slot: ten gigabytes at the speed of a slow disk. A switch does not wait any longer."""


class _Saved(msgspec.Struct, frozen=True):
    """The slots of one model that lie in files."""

    started_by: tuple[str, ...]
    files: tuple[tuple[int, Path], ...]
    size_bytes: int


class SlotFiles:
    """The files of all models, below ``folder``; ``close`` removes them."""

    def __init__(self, folder: Path, limit_bytes: int, fetch: Post) -> None:
        """Raises ``OSError`` when the folder cannot be made."""
        self._limit_bytes, self._fetch = limit_bytes, fetch
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _remove_leftovers(folder)
        self.folder = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=folder))
        self._saved: dict[str, _Saved] = {}
        self._numbers = itertools.count(1)

    def __repr__(self) -> str:
        size_mib = sum(saved.size_bytes for saved in self._saved.values()) // MIB
        return f"<SlotFiles {list(self._saved)} {size_mib} MiB>"

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def command(self, command: Command) -> Command:
        """The command, with the folder in it where the engine can save slots."""
        if command.engine != "llamacpp" or command.container or FLAG in command.argv:
            return command
        return msgspec.structs.replace(command, argv=(*command.argv, FLAG, str(self.folder)))

    async def save(self, model_id: str, command: Command, endpoint: Endpoint) -> None:
        """Save all slots that hold much. What cannot be saved is lost, as without this."""
        if str(self.folder) not in command.argv:
            return
        try:
            await self._save(model_id, command, endpoint)
        except OSError as error:
            log.warning("slots.not_saved", instance=model_id, error=error.strerror)

    async def _save(self, model_id: str, command: Command, endpoint: Endpoint) -> None:
        files: list[tuple[int, Path]] = []
        for slot in range(endpoint.model.slots or 1):
            path = self.folder / f"{next(self._numbers)}.kv"
            tokens = await self._tell(endpoint, slot, "save", path.name)
            if tokens is not None and tokens >= LEAST_TOKENS and path.exists():
                files.append((slot, path))
            else:
                path.unlink(missing_ok=True)
        self._drop(model_id)
        if files:
            size = sum(path.stat().st_size for _, path in files)
            self._saved[model_id] = _Saved(_identity(command), tuple(files), size)
            log.info("slots.saved", instance=model_id, slots=len(files), size_mib=size // MIB)
        self._shrink()

    async def restore(self, model_id: str, command: Command, endpoint: Endpoint) -> bool:
        """Restore what was saved; return whether the slots are as they were."""
        saved = self._saved.pop(model_id, None)
        if saved is None:
            return False
        is_whole = saved.started_by == _identity(command)
        for slot, path in saved.files:
            if is_whole:
                tokens = await self._tell(endpoint, slot, "restore", path.name)
                is_whole = tokens is not None
            path.unlink(missing_ok=True)
        log.info("slots.restored" if is_whole else "slots.lost", instance=model_id)
        return is_whole

    async def _tell(self, endpoint: Endpoint, slot: int, action: str, name: str) -> int | None:
        """One slot; the number of tokens, or None when the engine could not."""
        url = f"{endpoint.base_url.removesuffix('/v1')}/slots/{slot}?action={action}"
        headers = {**auth_headers(endpoint.api_key, "openai_chat")}
        headers["content-type"] = "application/json"
        body = msgspec.json.encode({"filename": name})
        try:
            status, _, answer = await self._fetch(url, headers, TIMEOUT_S, method="POST", body=body)
            told: dict[str, Any] = msgspec.json.decode(answer, type=dict[str, Any])
        except (UpstreamError, msgspec.MsgspecError) as error:
            log.warning(f"slot.not_{action}d", slot=slot, error=str(error))
            return None
        tokens = told.get(f"n_{action}d")
        return tokens if status == 200 and type(tokens) is int else None

    def _shrink(self) -> None:
        while sum(saved.size_bytes for saved in self._saved.values()) > self._limit_bytes:
            oldest = next(iter(self._saved))
            log.info("slots.dropped", instance=oldest, limit_mib=self._limit_bytes // MIB)
            self._drop(oldest)

    def _drop(self, model_id: str) -> None:
        saved = self._saved.pop(model_id, None)
        for _, path in saved.files if saved is not None else ():
            path.unlink(missing_ok=True)


def _identity(command: Command) -> tuple[str, ...]:
    """What must be the same for a cache to be valid: the command, but for the port."""
    return tuple(_without_port(command.argv))


def _without_port(argv: tuple[str, ...]) -> Iterator[str]:
    before = ""
    for word in argv:
        if before != "--port":
            yield word
        before = word


def _remove_leftovers(folder: Path) -> None:
    """Folders of processes that have ended. (A pid that lives again keeps one for a while longer.)"""
    import psutil

    for left in folder.iterdir():
        pid, _, _ = left.name.partition("-")
        if pid.isdecimal() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(left, ignore_errors=True)
