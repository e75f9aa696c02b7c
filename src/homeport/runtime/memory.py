"""Memory as it is: how much engines may have, how much one uses, how much is free now.

One budget for all engines, of the memory that they compute in: the cards' where there are CUDA
devices, else the machine's. On a machine with cards an engine that computes on the CPU all the same
counts with what it uses of the machine's memory; that errs on the safe side.

What an engine uses is what its whole process tree uses: servers fork workers. On cards it is what NVML
lists for those processes. Else it is the proportional set size (Linux): pages that several processes
share are divided among them, so that two engines with the same model file count it once. The resident
set size would count it twice; it stands in where the kernel does not tell (macOS, another user's
process). On macOS the unique set size is looked at too, and the larger taken.

An engine that has ended has not given its memory back yet: the kernel frees many gigabytes for
seconds, and a driver takes its time. So the next start waits until the memory is seen to be free.
"""

import asyncio
import time
from typing import TYPE_CHECKING, Final

import msgspec
import structlog

from homeport.facts import MIB, Machine
from homeport.runtime.machine import read_machine, read_memory
from homeport.runtime.nvml import Cards

if TYPE_CHECKING:
    import psutil

log = structlog.get_logger()

MEMORY_SHARE: Final = 0.85
"""The rest is for the system, the user's programs, and what engines keep beyond what was reserved:
llama.cpp's cache of old prompts alone may take a gigabyte."""
APPLE_SHARE: Final = 0.7
"""Metal lets the GPU have two thirds to three quarters of an Apple silicon machine's memory
(``recommendedMaxWorkingSetSize``); beyond that, MLX is killed. Not verified on such a machine."""
FIRST_POLL_S: Final = 0.01
LAST_POLL_S: Final = 0.2
"""Between two looks, doubling: what is free in a moment is seen in a moment."""


class Freed(msgspec.Struct, frozen=True, kw_only=True):
    """How a wait for memory ended."""

    is_enough: bool
    need_bytes: int
    free_bytes: int
    """What was free when it was last looked at."""
    waited_s: float


class Memory:
    """The memory that engines share. All reading is done in a thread: it may take a second."""

    def __init__(self, cards: Cards) -> None:
        self._cards = cards

    async def machine(self) -> Machine:
        return await asyncio.to_thread(read_machine, self._cards)

    async def used_bytes(self, pid: int) -> int:
        """Return what process ``pid`` and all its descendants use; 0 when it has ended.

        For an engine in a container, ``pid`` is the container's first process, not the program that
        started the container.
        """
        return await asyncio.to_thread(_used_bytes, self._cards, pid)

    async def free_bytes(self) -> int:
        """Return what could be had now: of all cards, or of the machine's memory."""
        return await asyncio.to_thread(_free_bytes, self._cards)

    async def until_free(self, need_bytes: int, timeout_s: float) -> Freed:
        """Wait until ``need_bytes`` are free, at most ``timeout_s``.

        Looks at least once, so that a timeout of 0 asks whether they are. What to do when they are not
        is the caller's decision: other programs may hold the memory for good.
        """
        began, poll_s = time.monotonic(), FIRST_POLL_S
        while True:
            free, waited_s = await self.free_bytes(), time.monotonic() - began
            if free >= need_bytes or waited_s >= timeout_s:
                break
            await asyncio.sleep(min(poll_s, timeout_s - waited_s))
            poll_s = min(2 * poll_s, LAST_POLL_S)
        freed = Freed(
            is_enough=free >= need_bytes,
            need_bytes=need_bytes,
            free_bytes=free,
            waited_s=round(waited_s, 3),
        )
        tell = log.debug if freed.is_enough else log.warning
        tell(
            "memory.free" if freed.is_enough else "memory.not_free",
            need_mib=need_bytes // MIB,
            free_mib=free // MIB,
            waited_s=freed.waited_s,
        )
        return freed


def budget_bytes(machine: Machine) -> int:
    """Return what all engines together may use when the user has not said (``lifecycle.memory``).

    All of the cards: nothing else is meant to run there, and engines' own estimates leave a margin.
    """
    if machine.gpus:
        return sum(gpu.total_bytes for gpu in machine.gpus)
    share = APPLE_SHARE if machine.is_apple_silicon else MEMORY_SHARE
    return int(machine.memory_bytes * share)


def _free_bytes(cards: Cards) -> int:
    memory = read_memory()
    gpus = cards.gpus(memory.total_bytes, memory.available_bytes)
    return sum(gpu.free_bytes for gpu in gpus) if gpus else memory.available_bytes


def _used_bytes(cards: Cards, pid: int) -> int:
    import psutil

    try:
        first = psutil.Process(pid)
        tree = [first, *first.children(recursive=True)]
    except psutil.Error:
        return 0
    on_cards = cards.used_by({process.pid for process in tree})
    if on_cards is not None:
        return on_cards
    return sum(_process_bytes(process) for process in tree)


def _process_bytes(process: "psutil.Process") -> int:
    import psutil

    try:
        full = process.memory_full_info()
        return int(full.pss) if hasattr(full, "pss") else int(max(full.uss, full.rss))
    except psutil.AccessDenied:
        pass
    except psutil.Error:
        return 0  # ended meanwhile
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0
