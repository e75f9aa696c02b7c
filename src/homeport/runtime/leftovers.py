"""What an unclean end has left: found at the next start, and ended.

The shim sees to it that hardly anything is ever left. But it can be killed together with homeport, by
an administrator or by a machine that is out of memory, and a container is beyond its reach then. So at
the start all is looked at that a homeport has noted down (``ledger``) or labelled (``container``):

* Its owner lives: it is his. Several homeports may run side by side.
* Its owner has gone: what still runs of it is ended, with all its children, and the note removed.
* Nobody can tell (``identity``): it is left alone, and a container is named to the person.

A process is ended only if it has the mark of that start in its environment, or is the first process of
that tree by pid and start time, or a child of one of these. The same pid alone means nothing.
"""

import asyncio
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import msgspec
import structlog

from homeport.runtime.container import Ours
from homeport.runtime.identity import Identity, of
from homeport.runtime.ledger import MARK, Ledger, Record

if TYPE_CHECKING:
    import psutil

log = structlog.get_logger()

GRACE_S: Final = 1.0
"""Between SIGTERM and SIGKILL; nobody waits for their answers any more."""
GIVE_UP_S: Final = 5.0
"""What has not ended then cannot be ended (a driver that hangs). Its note stays."""
_POLL_S: Final = 0.02


class Leftovers(msgspec.Struct, frozen=True, kw_only=True):
    """What was found."""

    processes: tuple[tuple[str, int], ...] = ()
    """Models, and how many processes of theirs were ended."""
    containers: tuple[str, ...] = ()
    """Names of those that were removed."""
    unclear: tuple[str, ...] = ()
    """Names of containers whose owner cannot be seen from here."""

    def __bool__(self) -> bool:
        return bool(self.processes or self.containers or self.unclear)


async def reap(ledger: Ledger, *, uses_docker: bool) -> Leftovers:
    """End what has no owner any more. ``uses_docker``: a model of ours runs in a container, so that
    looking at containers is no surprise; else they are only if a note names one."""
    notes = ledger.read()
    orphans = [(path, note) for path, note in notes if note and note.owner.fate == "gone"]
    uses_docker |= any(note.container is not None for _, note in orphans)
    ended, stubborn = await asyncio.to_thread(_ended, [note for _, note in orphans])
    containers = await _containers(shutil.which("docker") if uses_docker else None)
    for path, note in orphans:
        is_settled = note.container is None or containers is not None
        if note.mark not in stubborn and is_settled:
            path.unlink(missing_ok=True)
    for path, maybe in notes:
        if maybe is None:
            log.warning("engine.note_unreadable", file=str(path))
            path.unlink(missing_ok=True)
    counts = ((note.model, ended[note.mark]) for _, note in orphans if ended[note.mark])
    removed, unclear = containers or ((), ())
    return Leftovers(
        processes=tuple(counts),
        containers=removed,
        unclear=unclear,
    )


# --------------------------------------------------------------------------- containers


async def _containers(program: str | None) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """Remove those without an owner. Returns the names of these and of the unclear ones; None when
    Docker did not tell."""
    if program is None:
        return None
    removed, unclear = [], []
    try:
        ours = await Ours.listed(program)
        for container_id, name, _, owner in ours.containers:
            match owner.fate:
                case "gone" if await ours.remove(container_id):
                    removed.append(name)
                case "unknown":
                    unclear.append(name)
    except OSError as error:
        log.warning("containers.not_listed", error=error.strerror)
        return None
    return tuple(removed), tuple(unclear)


# --------------------------------------------------------------------------- processes


def _ended(notes: list[Record]) -> tuple[dict[str, int], set[str]]:
    """End the trees of these notes. Returns, by their marks, how many processes there were, and where
    not all would end."""
    counts = {note.mark: 0 for note in notes}
    if not notes:
        return counts, set()
    began, asked = time.monotonic(), set[int]()
    while found := _found(notes):
        late_s = time.monotonic() - began
        for mark, processes in found.items():
            counts[mark] = max(counts[mark], len(processes))
            for process in processes:
                _signal(process, asked, kill=late_s >= GRACE_S)
        if late_s >= GIVE_UP_S:
            log.error("engine.not_ended", pids=[p.pid for tree in found.values() for p in tree])
            return counts, set(found)
        time.sleep(_POLL_S)
    return counts, set()


def _signal(process: "psutil.Process", asked: set[int], *, kill: bool) -> None:
    """SIGTERM once, SIGKILL as often as it takes. (psutil makes sure that the pid is still his.)"""
    import psutil

    with suppress(psutil.Error):
        if kill:
            process.kill()
        elif process.pid not in asked:
            asked.add(process.pid)
            process.terminate()


def _found(notes: Iterable[Record]) -> dict[str, list["psutil.Process"]]:
    """The processes that live of each note's tree."""
    import psutil

    marks = {note.mark for note in notes}
    firsts: dict[Identity | None, str] = {
        note.first: note.mark for note in notes if note.first is not None
    }
    ours = {psutil.Process().pid, *(parent.pid for parent in psutil.Process().parents())}
    found: dict[str, dict[int, psutil.Process]] = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            mark = firsts.get(of(process.pid)) or process.environ().get(MARK)
            if mark in marks and process.pid not in ours and _lives(process):
                tree = found.setdefault(mark, {})
                for one in (process, *process.children(recursive=True)):
                    if _lives(one):
                        tree[one.pid] = one
    return {mark: list(tree.values()) for mark, tree in found.items()}


def _lives(process: "psutil.Process") -> bool:
    import psutil

    return bool(process.status() != psutil.STATUS_ZOMBIE)
