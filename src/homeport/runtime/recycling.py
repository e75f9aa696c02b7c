"""Engines that go on computing for clients that have left: seen, and ended to be started anew.

Most engines stop when a connection is closed. Of one that may not (``EngineFacts.stops_when_left``),
nobody is told what it does; but its processes can be watched. After a client has left, and as soon as
no other request is in flight, it is given some seconds to rest. If it computes on all the while, for
nobody, it is worth a restart: else the next prompt waits behind an answer that nobody reads, for up to
as long as that answer may be.

It is never ended under a request. One that comes while we look is served, beside what goes on; then we
look again.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from homeport.runtime.instance import Base

LOOK_S: Final = 1.0
"""For one look; a request that comes meanwhile voids it."""
LOOKS: Final = 4
"""In a row: an engine may notice with its next token or after the piece of a prompt that it reads."""
BUSY_SHARE: Final = 0.1
"""Of one core. mlx_lm at rest takes 0.002 (0.32.2). What computes on a GPU keeps the program that feeds
it busy as well; how much, was not seen for a long prompt on a Mac."""


def cpu_s(pid: int) -> float:
    """Seconds of computing that the tree of ``pid`` has used; 0 when it has ended."""
    import psutil

    try:
        first = psutil.Process(pid)
        times = [process.cpu_times() for process in (first, *first.children(recursive=True))]
    except psutil.Error:
        return 0.0
    return float(sum(each.user + each.system for each in times))


async def until_abandoned(
    instance: Base,
    left: asyncio.Event,
    pid: int,
    *,
    look_s: float = LOOK_S,
    measure: Callable[[int], float] = cpu_s,
) -> str:
    """Return why it has to be ended, when it computes for nobody. ``left`` is set when a client leaves.

    Runs until it is cancelled else.
    """
    while True:
        await left.wait()
        left.clear()
        looks = 0
        while looks < LOOKS:
            ended, before = instance.leases_ended, await asyncio.to_thread(measure, pid)
            await asyncio.sleep(look_s)
            if instance.in_flight or instance.leases_ended != ended:
                looks = 0
                continue
            if await asyncio.to_thread(measure, pid) - before < BUSY_SHARE * look_s:
                break
            looks += 1
        else:
            return "it computed on for a client that had left"
