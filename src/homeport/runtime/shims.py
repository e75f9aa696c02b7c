"""Starting shims, and keeping one that is ready before there is an engine for it.

A shim is up after twenty milliseconds; what it is to start it is told in one message (``shim.order``).
So from the first start on one is kept as a **spare**: the next engine gets it at once, and while that
engine loads, another one is started. A spare is nobody's engine. It waits for its order, and ends with
us as any shim does, by its lifeline.
"""

import asyncio
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from pathlib import Path
from typing import Final

import structlog

from homeport.runtime import identity, shim

log = structlog.get_logger()

_SHIM: Final = Path(shim.__file__)


async def started() -> Process:
    """A new shim, which waits for its order. Call it in the thread of the event loop, with whose end
    the kernel ends it. What it and its engine say comes out of its stdout."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", str(_SHIM)),
        stdin=PIPE,  # the lifeline
        stdout=PIPE,
        stderr=STDOUT,
        start_new_session=True,  # Ctrl-C in the terminal is not for the shim
    )


class Shims:
    """Gives out shims that wait for their order. ``close`` ends the spare."""

    def __init__(self) -> None:
        self._spare: Process | None = None
        self._coming: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Shims spare={self._spare.pid if self._spare is not None else None}>"

    async def taken(self) -> Process:
        """1. The spare, at once.
        2. A new one, where there is no spare yet, or it has died."""
        spare, self._spare = self._spare, None
        if (
            spare is None or identity.of(spare.pid) is None
        ):  # its exit status comes later than its end
            spare = await started()  # 2.
        is_coming = self._coming is not None and not self._coming.done()
        if self._spare is None and not is_coming:
            self._coming = asyncio.create_task(self._provide(), name="spare shim")
        return spare

    async def close(self) -> None:
        """Nothing is to be taken any more."""
        if self._coming is not None:
            await asyncio.wait([self._coming])  # one that is half started could not be ended
        spare, self._spare = self._spare, None
        if spare is not None:
            assert spare.stdin is not None
            spare.stdin.close()
            await spare.wait()

    async def _provide(self) -> None:
        try:
            self._spare = await started()
        except OSError as error:  # whoever needs one will try again, and tell
            log.warning("shim.no_spare", error=error.strerror)
