"""One model, as the scheduler sees it: its terms, its state, its requests, and who wants it.

Facts only, with what follows from them alone. What is done about them is decided in
``lifecycle.scheduler``, which is the only one to change them.
"""

from math import inf
from typing import Literal

import msgspec

from homeport.lifecycle.eviction import Condition, Resident
from homeport.lifecycle.machine import State
from homeport.lifecycle.queue import Queue


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What a model may, and what it needs."""

    need_bytes: int = 0
    """Reserved before a start; 0 where it is not known."""
    group: str | None = None
    pinned: bool = False
    ttl_s: float | None = None
    max_queue: int = 100
    max_wait_s: float = 900.0


class Residency(msgspec.Struct, frozen=True, kw_only=True):
    """What one model is doing: a snapshot, to show."""

    state: State
    in_flight: int = 0
    queued: int = 0
    reserved_bytes: int = 0
    idle_since: float | None = None
    """Since when it is ready without being used."""
    ready_since: float | None = None


class Model(msgspec.Struct, kw_only=True, eq=False):
    name: str
    terms: Terms
    queue: Queue
    state: Literal["stopped", "starting", "ready", "stopping", "backoff", "failed"] = "stopped"
    """``lifecycle.machine`` explains them. ``backoff`` lasts until it is ready again."""
    reserved_bytes: int = 0
    load_place: int | None = None
    """The place of a ``load`` (or return to the default) that has not been carried out."""
    unload_place: int | None = None
    """The place of an ``unload`` that has not: requests before it are still served."""
    is_retired: bool = False
    used: int = 0
    """When it was last used: a place too."""
    ready_since: float | None = None
    ready_place: int = 0
    """Requests before this place waited when it became ready."""
    idle_since: float | None = None
    """Since when it has been ready, with nothing in flight and nobody waiting."""
    displaced_at: float | None = None
    """When it was evicted, if it has not been started or unloaded since."""

    @property
    def is_up(self) -> bool:
        """There is a process, or there will be one again without our doing."""
        return self.state in ("starting", "ready", "backoff")

    @property
    def is_resident(self) -> bool:
        """It takes memory."""
        return self.is_up or self.state == "stopping"

    @property
    def is_leaving(self) -> bool:
        """It shall go, whoever else needs room."""
        return self.is_retired or self.unload_place is not None

    @property
    def is_settled(self) -> bool:
        """Nobody waits for it, and it yields to nobody and is not to go."""
        wishes = (self.wanted_since, self.unload_place, self.queue.closed_to)
        return not self.is_retired and all(wish is None for wish in wishes)

    @property
    def wanted_since(self) -> int | None:
        """The place of the oldest wish for it."""
        oldest = self.queue.oldest
        if oldest is None or self.load_place is None:
            return self.load_place if oldest is None else oldest.place
        return min(oldest.place, self.load_place)

    @property
    def gives_up_at(self) -> float | None:
        """When the first of those who wait has waited too long."""
        oldest = self.queue.oldest
        return None if oldest is None else oldest.arrived_at + self.terms.max_wait_s

    @property
    def expires_at(self) -> float | None:
        """When it has been idle for too long."""
        if self.terms.pinned or self.terms.ttl_s is None or self.idle_since is None:
            return None
        return self.idle_since + self.terms.ttl_s

    def settles_at(self, min_dwell_s: float) -> float:
        """When it may be stopped for another one: never while it starts, after its dwell when it is
        ready, at any time while it waits for its restart."""
        if self.state == "starting":
            return inf
        return -inf if self.ready_since is None else self.ready_since + min_dwell_s

    def condition(self, now: float, min_dwell_s: float) -> Condition:
        """What it would cost to lose it, of one that is up."""
        settles_at = self.settles_at(min_dwell_s)
        if self.terms.pinned and not self.is_leaving:
            return "kept"
        if settles_at == inf:
            return "starting"
        if not self.queue.is_idle:
            return "leaving" if self.is_leaving else "busy"
        return "idle" if now >= settles_at else "fresh"

    def as_resident(self, condition: Condition = "kept") -> Resident:
        return Resident(
            model=self.name,
            size_bytes=self.reserved_bytes,
            group=self.terms.group,
            condition=condition,
            used=self.used,
        )

    def as_newcomer(self) -> Resident:
        size_bytes, group = self.terms.need_bytes, self.terms.group
        return Resident(model=self.name, size_bytes=size_bytes, group=group, condition="kept")

    @property
    def residency(self) -> Residency:
        is_draining = self.state == "ready" and self.queue.closed_to is not None
        return Residency(
            state="draining" if is_draining else self.state,
            in_flight=self.queue.in_flight,
            queued=self.queue.queued,
            reserved_bytes=self.reserved_bytes,
            idle_since=self.idle_since,
            ready_since=self.ready_since,
        )
