"""Which models run, and which request may use one now: one serialised loop of decisions.

Events go in, with the time as an argument; effects come out, in the order in which to carry them out.
Nothing here waits, measures or starts anything. ``runtime.fleet`` is the coat around it.

The policy:

1. **Requests are never cut off.** A model with requests in flight is not stopped: not to make room,
   not for its ttl, not by ``unload`` or ``retire``, which wait.
2. **Who asks for the same model is served together.** The requests of a model wait in one queue, first
   come, first served; when it becomes ready they are granted, as many as it computes side by side
   (``lifecycle.queue``). ``max_queue`` bounds how many wait, ``max_wait_s`` how long.
3. **The oldest wish comes first.** A model that is wanted and does not run is *needy*; it is as old as
   its oldest request (or ``load``). The needy ones are looked at by age, and each *claims* its room. A
   younger one goes ahead if it takes nothing from an older claim: it fits beside it, and evicts none
   on whose end the older one relies. So a big model is not starved by small ones that always fit.
4. **Room is made by eviction** (``lifecycle.eviction``), and all victims of a claim are decided at
   once. When each of them has been ready for ``min_dwell_s``, they *yield*: they grant only requests
   that are older than the wish they yield to, or that waited when they became ready. When nothing is
   in flight at any of them, all are stopped, and when the last is gone, the new one starts. Two models
   that are asked for in turn thus change places once for everything that came meanwhile, not once for
   each request.
5. **What can never fit is refused at once**: what is larger than the budget without the pinned models,
   or excluded by a pinned one.
6. **Room is reserved** from the start of a model until its process is gone, by what it is said to need
   and later by what it was measured to use. At a start the reservations are within the budget.
   Measuring may show that they are not; then models go as soon as nobody uses them.
7. **Idle models go** when nobody has used them, or waited for them, for ``ttl_s``; pinned ones stay.
   The default model comes back after it was evicted, as soon as those in its place have been idle for
   ``return_to_default_s``.
8. **A failed model is tried again** by the next request. Requests that wait outlive one crash of a
   model that was ready, but no failed start: the next one would probably fail too.

Every event makes all decisions anew from what is so (``_decide``). There is no plan to be kept: where
the oldest request leaves, those who yielded to it simply do not yield any more.

Events that come too late are ignored: a start may succeed just after its end was decided.
"""

from collections.abc import Iterator, Mapping
from itertools import count
from math import inf
from typing import Final, Literal

import msgspec

from homeport.lifecycle.eviction import Resident, Space, surplus, victims_for
from homeport.lifecycle.model import Model, Residency, Terms
from homeport.lifecycle.queue import Queue, Request, Ticket
from homeport.settings import Group

__all__ = [
    "Effect",
    "Grant",
    "Policy",
    "Refuse",
    "Residency",
    "Scheduler",
    "Start",
    "Stop",
    "Terms",
    "Ticket",
]

MIN_RETRY_S: Final = 1.0
MAX_RETRY_S: Final = 60.0
"""What a client is told to wait before it asks a full queue again. Clients stop believing in more."""


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """``settings.LifecycleSettings``, with the budget known."""

    budget_bytes: int | None = None
    min_dwell_s: float = 2.0
    return_to_default_s: float | None = None
    groups: tuple[Group, ...] = ()


# --------------------------------------------------------------------------- effects

RefuseReason = Literal["queue_full", "waited_too_long", "failed", "cannot_fit", "gone"]
StopReason = Literal["evicted", "idle", "asked", "gone"]


class Grant(msgspec.Struct, frozen=True):
    """The request may use its model now, until ``leave``."""

    ticket: Ticket


class Refuse(msgspec.Struct, frozen=True):
    """The request is over. A ``leave`` that comes all the same is ignored."""

    ticket: Ticket
    reason: RefuseReason
    retry_after_s: float | None = None


class Start(msgspec.Struct, frozen=True):
    """Begin to start it: its room is reserved. ``ready`` or ``down`` shall follow."""

    model: str


class Stop(msgspec.Struct, frozen=True):
    """Stop it: nothing is in flight. ``stopped`` shall follow. It may still be starting, or wait for
    its next start after a crash."""

    model: str
    why: StopReason


Effect = Grant | Refuse | Start | Stop


class Scheduler:
    """Each event returns the effects to carry out, in order. ``now`` never goes back.

    Models are known by ``add``; events for others are ignored, and requests refused as ``gone``.
    """

    def __init__(self, policy: Policy = Policy()) -> None:  # noqa: B008  (frozen)
        self._policy, self._space = policy, _space(policy)
        self._models: dict[str, Model] = {}
        self._tickets: dict[Ticket, Model] = {}
        self._default: str | None = None
        self._places = count(1)
        self._wakes: list[float] = []
        """When the last decision wants to be made again."""
        self._is_calm = True
        """Whether the last one left nothing that waits for a request to end."""

    def __repr__(self) -> str:
        models = (f"{name}: {model.state} {model.queue}" for name, model in self._models.items())
        return f"<Scheduler {', '.join(models)}>"

    # ----------------------------------------------------------------------- what is configured

    def add(self, model: str, terms: Terms, now: float) -> list[Effect]:
        """It is known from now on, or again, or its terms have changed. A new need is reserved from
        its next start."""
        known = self._models.setdefault(model, Model(name=model, terms=terms, queue=Queue()))
        known.terms, known.is_retired = terms, False
        return self._decide(now)

    def retire(self, model: str, now: float) -> list[Effect]:
        """It has left the configuration: who waits for it is refused, and when nothing is in flight it
        is stopped and forgotten."""
        known = self._models.get(model)
        if known is None:
            return []
        known.is_retired, known.load_place = True, None
        refused = self._refuse_waiting(known, "gone")
        self._forget_if_gone(known)
        return refused + self._decide(now)

    def set_policy(self, policy: Policy, now: float) -> list[Effect]:
        self._policy, self._space = policy, _space(policy)
        return self._decide(now)

    def set_default(self, model: str | None, now: float) -> list[Effect]:
        """The model to come back to (``return_to_default_s``)."""
        self._default = model
        return self._decide(now)

    # ----------------------------------------------------------------------- what is asked

    def request(
        self, ticket: Ticket, model: str, now: float, *, takes_slot: bool = True
    ) -> list[Effect]:
        """Someone wants to use it. Granted at once if it is ready and free; this is the hot path."""
        known = self._models.get(model)
        if known is None or known.is_retired:
            return [Refuse(ticket, "gone")]
        place = next(self._places)
        request = Request(ticket=ticket, place=place, arrived_at=now, takes_slot=takes_slot)
        queue = known.queue
        if known.state == "ready" and queue.can_serve_now(request):
            self._tickets[ticket] = known
            known.idle_since, known.used = None, place
            queue.grant(request)
            return [Grant(ticket)]
        if queue.queued >= known.terms.max_queue:
            return [Refuse(ticket, "queue_full", _retry_after_s(queue, now))]
        self._tickets[ticket] = known
        known.idle_since = None
        queue.join(request)
        return self._decide(now)

    def leave(self, ticket: Ticket, now: float) -> list[Effect]:
        """It is done, or its client has gone, whether it waited or was granted."""
        known = self._tickets.pop(ticket, None)
        if known is None:
            return []
        was_in_flight = known.queue.leave(ticket)
        if was_in_flight and known.queue.in_flight and not known.queue.queued:
            return []  # the hot path: nobody was waiting for this
        self._note_idle(known, now)
        if was_in_flight and self._is_calm and known.terms.ttl_s != 0:
            return []  # the hot path of one client alone: nobody is waiting for anything
        return self._decide(now)

    def load(self, model: str, now: float) -> list[Effect]:
        """It shall run, as if a request had come; one that is being stopped, again after that."""
        known = self._models.get(model)
        if known is None or known.is_retired or (known.is_up and not known.is_leaving):
            return []
        known.load_place = known.load_place or next(self._places)
        return self._decide(now)

    def unload(self, model: str, now: float) -> list[Effect]:
        """It shall be stopped. Requests that have come before are served first; one that comes
        afterwards starts it again."""
        known = self._models.get(model)
        if known is None:
            return []
        known.load_place = known.displaced_at = None
        if known.is_up and known.unload_place is None:
            known.unload_place = next(self._places)
        return self._decide(now)

    # ----------------------------------------------------------------------- what happens to engines

    def ready(self, model: str, now: float, *, limit: int | None = None) -> list[Effect]:
        """It takes requests, ``limit`` side by side (None: any number)."""
        known = self._models.get(model)
        if known is None or known.state not in ("starting", "backoff"):
            return []
        known.state, known.ready_since = "ready", now
        known.queue.limit, known.used = limit, next(self._places)
        known.ready_place, known.idle_since = known.used, None
        self._note_idle(known, now)
        return self._decide(now)

    def measured(self, model: str, used_bytes: int, now: float) -> list[Effect]:
        """What it really uses replaces its reservation."""
        known = self._models.get(model)
        if known is None or not known.is_resident:
            return []
        known.reserved_bytes = used_bytes
        return self._decide(now)

    def down(
        self, model: str, now: float, *, retry_s: float | None, was_ready: bool
    ) -> list[Effect]:
        """Its process has ended by itself. It is started again after ``retry_s``, and then ``ready``
        or ``down`` follows; or (None) that is given up."""
        known = self._models.get(model)
        if known is None or not known.is_up:
            return []  # of one that is being stopped, ``stopped`` tells
        known.ready_since = None
        if retry_s is None:
            self._gone(known, "failed")
        else:
            known.state = "backoff"
        outlived = was_ready and retry_s is not None  # rule 8
        refused = [] if outlived else self._refuse_waiting(known, "failed", retry_s)
        return refused + self._decide(now)

    def stopped(self, model: str, now: float) -> list[Effect]:
        """After ``Stop``: its process has ended and its memory is back."""
        known = self._models.get(model)
        if known is None or known.state != "stopping":
            return []
        self._gone(known, "stopped")
        return self._decide(now)

    # ----------------------------------------------------------------------- time

    def tick(self, now: float) -> list[Effect]:
        """Time has passed."""
        return self._decide(now)

    def next_wake(self, now: float) -> float | None:
        """Return when to ``tick``; None: nothing is due before another event. Not after ``now`` if
        something is due already."""
        wakes: list[float | None] = [*self._wakes]
        for model in self._models.values():
            wakes += [model.gives_up_at, model.expires_at]
        return min((wake for wake in wakes if wake is not None), default=None)

    def snapshot(self) -> Mapping[str, Residency]:
        return {name: model.residency for name, model in self._models.items()}

    # ----------------------------------------------------------------------- decisions

    def _decide(self, now: float) -> list[Effect]:
        """Make all decisions that are due, until none is: what one leaves may be for another."""
        effects: list[Effect] = []
        while made := self._pass(now):
            effects += made
        self._is_calm = self._nothing_is_pending()
        return effects

    def _nothing_is_pending(self) -> bool:
        """Whether no decision waits for a request to end: it then changes nothing but times."""
        default = self._models.get(self._default or "")
        if default is not None and default.displaced_at is not None:
            return False
        as_if_idle = [m.as_resident("idle") for m in self._models.values() if m.is_up]
        settled = all(model.is_settled for model in self._models.values())
        return settled and not surplus(as_if_idle, self._space)

    def _pass(self, now: float) -> list[Effect]:
        """Each step sees what those before it have done."""
        self._wakes = []
        return [
            *self._give_up_waiting(now),
            *self._stop_leaving(now),
            *self._trim(now),
            *self._serve_needy(now),
            *self._grant(),
        ]

    def _give_up_waiting(self, now: float) -> Iterator[Effect]:
        """Rule 2: nobody waits longer than ``max_wait_s``."""
        for model in self._models.values():
            while (due := model.gives_up_at) is not None and now >= due:
                request = model.queue.oldest
                assert request is not None
                yield self._refuse(
                    model, request, "waited_too_long", _retry_after_s(model.queue, now)
                )
                self._note_idle(model, now)

    def _stop_leaving(self, now: float) -> Iterator[Effect]:
        """Rules 1 and 7: who shall go, goes as soon as nothing is in flight."""
        for model in self._models.values():
            model.queue.closed_to = model.unload_place
            if not model.is_up or not model.queue.is_done:
                continue
            expires_at = model.expires_at
            if model.is_retired:
                yield _stop(model, "gone")
            elif model.unload_place is not None:
                yield _stop(model, "asked")
            elif expires_at is not None and now >= expires_at:
                yield _stop(model, "idle")

    def _trim(self, now: float) -> Iterator[Effect]:
        """Rule 6: models that have grown beyond the budget."""
        for name in surplus(self._residents(now), self._space):
            model = self._models[name]
            yield from self._evict_when_settled([model], now)

    def _serve_needy(self, now: float) -> Iterator[Effect]:
        """Rules 3 to 5. What becomes of each needy model, from the oldest wish to the youngest:

        1. No eviction can ever make room for it: its requests are refused.
        2. It would need what an older one claims: it waits, and claims nothing.
        3. Others must go first: they yield, or are stopped.
        4. Its room is claimed, but those who leave it are not all gone: it waits.
        5. There is room: it starts.
        """
        self._want_default_back(now)
        claimed = self._residents(now)
        for model, place in self._needy():
            newcomer = model.as_newcomer()
            if victims_for(newcomer, self._residents(now), self._space) is None:
                model.load_place = None
                yield from self._refuse_waiting(model, "cannot_fit")  # case 1
                continue
            victims = victims_for(newcomer, claimed, self._space)
            if victims is None:
                continue  # case 2
            claimed = [*(r for r in claimed if r.model not in victims), newcomer]
            if victims:
                going = [self._models[name] for name in victims]
                yield from self._evict_when_settled(going, now, for_place=place)  # case 3
            elif self._is_free_for(model, newcomer):  # else case 4
                yield _start(model)  # case 5

    def _evict_when_settled(
        self, victims: list[Model], now: float, *, for_place: int | None = None
    ) -> Iterator[Effect]:
        """Rule 4: stop them all at once, when each has been ready for long enough and has nothing in
        flight; until then they yield."""
        settled_at = max(victim.settles_at(self._policy.min_dwell_s) for victim in victims)
        if now < settled_at:
            self._wakes += [] if settled_at == inf else [settled_at]
            return
        for victim in victims:
            yields_to = None if for_place is None else max(for_place, victim.ready_place)
            places = (yields_to, victim.queue.closed_to)
            victim.queue.closed_to = min((p for p in places if p is not None), default=None)
        if all(victim.queue.is_done for victim in victims):
            for victim in victims:
                victim.displaced_at = now
                yield _stop(victim, "evicted")

    def _want_default_back(self, now: float) -> None:
        """Rule 7: the default, once evicted, is wanted again when those in its place are idle."""
        delay_s, default = self._policy.return_to_default_s, self._models.get(self._default or "")
        if delay_s is None or default is None or default.displaced_at is None:
            return
        if default.is_resident:  # it is being stopped
            return
        if any(model.wanted_since is not None for model in self._models.values()):
            return
        victims = victims_for(default.as_newcomer(), self._residents(now), self._space)
        idle_since = [self._models[name].idle_since for name in victims or ()]
        times = [default.displaced_at, *(since for since in idle_since if since is not None)]
        if victims is None or None in idle_since:
            return  # another event will change that
        if now >= max(times) + delay_s:
            default.load_place = next(self._places)
        else:
            self._wakes.append(max(times) + delay_s)

    def _grant(self) -> Iterator[Effect]:
        """Rule 2: all that can be served are, together."""
        for model in self._models.values():
            if model.state == "ready":
                for request in model.queue.grant_waiting():
                    model.used = next(self._places)
                    yield Grant(request.ticket)

    # ----------------------------------------------------------------------- what the rules read

    def _needy(self) -> list[tuple[Model, int]]:
        """Models that are wanted and not up, with the place of their oldest wish, oldest first."""
        wishes = ((model, model.wanted_since) for model in self._models.values() if not model.is_up)
        needy = [(model, place) for model, place in wishes if place is not None]
        return sorted(needy, key=lambda wish: wish[1])

    def _residents(self, now: float) -> list[Resident]:
        """All but those that are being stopped: their room is as good as free."""
        dwell_s = self._policy.min_dwell_s
        up = (model for model in self._models.values() if model.is_up)
        return [model.as_resident(model.condition(now, dwell_s)) for model in up]

    def _is_free_for(self, model: Model, newcomer: Resident) -> bool:
        """Whether it can start now: it is stopped itself, and so are all that have left it room."""
        others = [m.as_resident() for m in self._models.values() if m.is_resident]
        return not model.is_resident and self._space.has_room(newcomer, others)

    # ----------------------------------------------------------------------- what the rules change

    def _refuse(
        self, model: Model, request: Request, reason: RefuseReason, retry_s: float | None
    ) -> Refuse:
        del self._tickets[request.ticket]
        model.queue.leave(request.ticket)
        return Refuse(request.ticket, reason, retry_s)

    def _refuse_waiting(
        self, model: Model, reason: RefuseReason, retry_s: float | None = None
    ) -> list[Effect]:
        return [self._refuse(model, request, reason, retry_s) for request in model.queue.waiting]

    def _note_idle(self, model: Model, now: float) -> None:
        """After a request has gone: it may have been the last."""
        if model.state == "ready" and model.queue.is_idle and model.idle_since is None:
            model.idle_since, model.used = now, next(self._places)

    def _gone(self, model: Model, state: Literal["stopped", "failed"]) -> None:
        """Its process has ended and its room is free."""
        model.state, model.reserved_bytes = state, 0
        model.ready_since = model.idle_since = model.unload_place = None
        self._forget_if_gone(model)

    def _forget_if_gone(self, model: Model) -> None:
        if model.is_retired and not model.is_resident:
            del self._models[model.name]


def _space(policy: Policy) -> Space:
    return Space(budget_bytes=policy.budget_bytes, groups=policy.groups)


def _start(model: Model) -> Start:
    model.state, model.reserved_bytes = "starting", model.terms.need_bytes
    model.load_place = model.displaced_at = None
    return Start(model.name)


def _stop(model: Model, why: StopReason) -> Stop:
    model.state = "stopping"
    model.ready_since = model.idle_since = None
    return Stop(model.name, why)


def _retry_after_s(queue: Queue, now: float) -> float:
    """How long a request would have to wait, guessed by what the oldest one has waited so far."""
    waited_s = now - queue.oldest.arrived_at if queue.oldest is not None else 0.0
    return min(max(waited_s, MIN_RETRY_S), MAX_RETRY_S)
