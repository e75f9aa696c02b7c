"""How often models have to be started when there is room for one: the policy, simulated turn by turn.

Shares no code with ``homeport.lifecycle`` and does not work like it: there events are decided one by
one, here a whole *turn* of a model is computed at once, from its start to its end, out of a list of
requests that is known beforehand. What was recorded of a real run goes in as well as what was made up.

A turn belongs to the model of the oldest request that nobody has served yet. From the moment it is
ready (``ready_at``) it takes its requests in their order, ``slots`` side by side. It stops taking new
ones when another model is waited for and it has been ready for ``min_dwell_s``; from then on it takes
only those that are older than the other's, and those that waited already when it became ready. It ends
with the last that it took.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from math import inf
from typing import NamedTuple


class Asked(NamedTuple):
    """One request: when it came, for which model, and how long it used it."""

    arrived_s: float
    model: str
    duration_s: float


def starts_needed(
    requests: Iterable[Asked | tuple[float, str, float]],
    *,
    load_s: float,
    stop_s: float = 0.0,
    min_dwell_s: float = 2.0,
    slots: int | None = None,
) -> int:
    """Return how many starts the policy makes for ``requests``, with room for one model at a time.

    ``load_s`` is the time from a start to ready, ``stop_s`` from a stop to the next start.
    """
    unserved = sorted(Asked(*request) for request in requests)
    starts, free_at = 0, -inf
    while unserved:
        starts += 1
        first = unserved[0]
        ready_at = max(free_at, first.arrived_s) + load_s
        other = next((r.arrived_s for r in unserved if r.model != first.model), inf)
        closes_at = max(other, ready_at + min_dwell_s)
        mine = [request for request in unserved if request.model == first.model]
        ends = _ends(mine, ready_at, closes_at, max(other, ready_at), slots)
        free_at = max([closes_at, *ends]) + stop_s
        taken = set(map(id, mine[: len(ends)]))
        unserved = [request for request in unserved if id(request) not in taken]
    return starts


def _ends(
    mine: list[Asked], ready_at: float, closes_at: float, sure_until: float, slots: int | None
) -> list[float]:
    """When each request that this turn takes ends. What has come by ``sure_until`` is taken in any
    case; what comes later, if it can begin before ``closes_at``."""
    slots_free_at = [ready_at] * (slots or len(mine))
    ends = list[float]()
    for request in mine:
        begins = max(request.arrived_s, slots_free_at[0])
        if begins >= closes_at and request.arrived_s > sure_until:
            break
        heapq.heapreplace(slots_free_at, begins + request.duration_s)
        ends.append(begins + request.duration_s)
    return ends
