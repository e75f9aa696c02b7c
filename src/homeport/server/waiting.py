"""Requests that wait long, told rarely.

An engine may read a long prompt for minutes, and in all that time nothing comes: the client shows
nothing, and the person looks at the gateway's terminal. A line there says who waits, for how long, and
how much of the prompt is read, where the engine tells (llama.cpp).

What is under way is looked at once a second, from outside: a quick request does nothing for this.
"""

import asyncio
import math
import time
from collections.abc import Collection
from typing import Final

import structlog

from homeport.server.metrics import Outcome

log = structlog.get_logger()

LOOK_S: Final = 1.0
LONG_S: Final = 5.0
"""What is not answered by then is told: as long as a stream is silent before its first ping."""
AGAIN_S: Final = 30.0
"""Between two lines about the same request."""


class Waiting:
    def __init__(self, under_way: Collection[Outcome]) -> None:
        self._under_way = under_way
        self._told: dict[Outcome, float] = {}

    async def watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            self.look(time.monotonic())

    def look(self, now: float) -> None:
        """Tells what has to be told."""
        long = [it for it in self._under_way if is_waiting(it) and now - it.began >= LONG_S]
        self._told = {it: self._told.get(it, -math.inf) for it in long}
        for it in long:
            if now - self._told[it] >= AGAIN_S:
                self._told[it] = now
                _tell(it, round(now - it.began))


def is_waiting(it: Outcome) -> bool:
    """Whether the client has had nothing of the answer. An answer that is sent whole comes at its
    end."""
    return it.first_sent is None


def _tell(it: Outcome, waited_s: int) -> None:
    read = {}
    if it.progress is not None and it.progress.total:
        percent = 100 * it.progress.processed // it.progress.total
        read["prompt_read"] = f"{percent} % of {it.progress.total} tokens"
    until = "first token" if it.stream else "whole answer"
    log.info("request.waits", model=it.model, waited_s=waited_s, until=until, **read)
