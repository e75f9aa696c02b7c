"""What the scheduler may and must do, written a second time: a small world around it.

The judge hands each event to a scheduler and carries its effects out in a world of its own, in which
engines exist or do not, hold memory, and have requests. It knows nothing of how the scheduler decides;
it knows what must never be, and raises ``Unlawful`` (an AssertionError) when it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from homeport.lifecycle.scheduler import (
    Effect,
    Grant,
    Policy,
    Refuse,
    Scheduler,
    Start,
    Stop,
    Terms,
)

EngineState = Literal["none", "starting", "ready", "stopping", "backoff"]


class Unlawful(AssertionError):  # noqa: N818  (it is a verdict)
    """The scheduler has done what it must not; the message says what."""


@dataclass
class Wish:
    """One request."""

    ticket: int
    model: str
    since: float
    takes_slot: bool


@dataclass
class Engine:
    terms: Terms
    state: EngineState = "none"
    holds: int = 0
    ready_at: float = 0.0
    limit: int | None = None
    is_retired: bool = False
    waiting: list[Wish] = field(default_factory=list)
    using: list[Wish] = field(default_factory=list)


class Judge:
    """Each event has a method of the scheduler's name, which returns the effects."""

    def __init__(self, policy: Policy, *, now: float = 0.0) -> None:
        self.policy, self.now = policy, now
        self.scheduler = Scheduler(policy)
        self.engines: dict[str, Engine] = {}
        self.ended: dict[int, str] = {}
        """Tickets and how they ended."""
        self.starts: list[str] = []
        self.orphans: list[Wish] = []
        """In flight at models that have been forgotten."""

    # ------------------------------------------------------------------- events

    def add(self, model: str, terms: Terms) -> list[Effect]:
        engine = self.engines.setdefault(model, Engine(terms))
        engine.terms, engine.is_retired = terms, False
        return self._do(lambda: self.scheduler.add(model, terms, self.now))

    def retire(self, model: str) -> list[Effect]:
        if model in self.engines:
            self.engines[model].is_retired = True
        return self._do(lambda: self.scheduler.retire(model, self.now))

    def set_policy(self, policy: Policy) -> list[Effect]:
        self.policy = policy
        return self._do(lambda: self.scheduler.set_policy(policy, self.now))

    def set_default(self, model: str | None) -> list[Effect]:
        return self._do(lambda: self.scheduler.set_default(model, self.now))

    def request(self, ticket: int, model: str, *, takes_slot: bool = True) -> list[Effect]:
        wish = Wish(ticket, model, self.now, takes_slot)
        engine = self.engines.get(model)
        if engine is None or engine.is_retired:
            effects = self.scheduler.request(ticket, model, self.now, takes_slot=takes_slot)
            require(effects == [Refuse(ticket, "gone")], f"{model} is not there: {effects}")
            self.ended[ticket] = "gone"
            return effects
        queued = len(engine.waiting)
        engine.waiting.append(wish)

        def ask() -> list[Effect]:
            return self.scheduler.request(ticket, model, self.now, takes_slot=takes_slot)

        # A request that is granted at once costs no decision: the next event may find one to make.
        effects = self._do(ask, decided=False)
        if effects != [Grant(ticket)]:
            self._nothing_left()
        if self.ended.get(ticket) == "queue_full":
            require(queued >= engine.terms.max_queue, f"the queue has room for {ticket}")
        require(len(engine.waiting) <= max(queued, engine.terms.max_queue), "the queue is too long")
        return effects

    def leave(self, ticket: int) -> list[Effect]:
        places = [self.orphans]
        places += [there for e in self.engines.values() for there in (e.waiting, e.using)]
        for place in places:
            for wish in [wish for wish in place if wish.ticket == ticket]:
                place.remove(wish)
                self.ended[ticket] = "left"
        return self._do(lambda: self.scheduler.leave(ticket, self.now))

    def load(self, model: str) -> list[Effect]:
        return self._do(lambda: self.scheduler.load(model, self.now))

    def unload(self, model: str) -> list[Effect]:
        return self._do(lambda: self.scheduler.unload(model, self.now))

    def ready(self, model: str, *, limit: int | None = None) -> list[Effect]:
        engine = self._in(model, "starting", "backoff")
        if engine is not None:
            engine.state, engine.ready_at, engine.limit = "ready", self.now, limit
        return self._do(lambda: self.scheduler.ready(model, self.now, limit=limit), late=not engine)

    def measured(self, model: str, used_bytes: int) -> list[Effect]:
        engine = self._in(model, "starting", "ready", "backoff", "stopping")
        if engine is not None:
            engine.holds = used_bytes
        return self._do(
            lambda: self.scheduler.measured(model, used_bytes, self.now), late=not engine
        )

    def down(self, model: str, *, retry_s: float | None, was_ready: bool) -> list[Effect]:
        engine = self._in(model, "starting", "ready", "backoff")
        waited = list(engine.waiting) if engine is not None else []
        if engine is not None and retry_s is None:
            engine.state, engine.holds = "none", 0
        elif engine is not None:
            engine.state = "backoff"

        def ends() -> list[Effect]:
            return self.scheduler.down(model, self.now, retry_s=retry_s, was_ready=was_ready)

        effects = self._do(ends, late=not engine)
        if not was_ready or retry_s is None:
            spared = [wish for wish in waited if wish.ticket not in self.ended]
            require(not spared, f"{model} has failed, and these wait on: {spared}")
        return effects

    def stopped(self, model: str) -> list[Effect]:
        engine = self._in(model, "stopping")
        if engine is not None:
            engine.state, engine.holds = "none", 0
        return self._do(lambda: self.scheduler.stopped(model, self.now), late=not engine)

    def tick(self) -> list[Effect]:
        return self._do(lambda: self.scheduler.tick(self.now))

    def advance(self, seconds: float) -> list[Effect]:
        """Let time pass, with a tick whenever the scheduler asked for one."""
        until, effects = self.now + seconds, list[Effect]()
        for _ in range(1000):
            wake = self.scheduler.next_wake(self.now)
            if wake is None or wake > until:
                self.now = until
                return effects
            self.now = max(self.now, wake)
            effects += self.tick()
        raise Unlawful(f"it wants to be woken for ever: {wake} at {self.now}")

    # ------------------------------------------------------------------- the law

    def _do(
        self, event: Callable[[], list[Effect]], *, late: bool = False, decided: bool = True
    ) -> list[Effect]:
        effects = event()
        require(not (late and effects), f"an event that came too late did {effects}")
        self._carry_out(effects)
        if decided:
            self._nothing_left()
        self._check()
        return effects

    def _carry_out(self, effects: Sequence[Effect]) -> None:
        most = sum(len(engine.waiting) for engine in self.engines.values()) + len(self.engines)
        require(len(effects) <= most, f"too many effects of one event: {effects}")
        for effect in effects:
            match effect:
                case Grant(ticket):
                    self._granted(ticket)
                case Refuse(ticket, reason):
                    wish = self._waiting(ticket)
                    self.engines[wish.model].waiting.remove(wish)
                    self.ended[ticket] = reason
                case Start(model):
                    self._started(model, self.engines[model])
                case Stop(model, why):
                    self._stopping(model, self.engines[model], why)
        self._forget()

    def _granted(self, ticket: int) -> None:
        wish = self._waiting(ticket)
        engine = self.engines[wish.model]
        require(engine.state == "ready", f"{ticket} was granted {wish.model}: {engine.state}")
        if wish.takes_slot:
            first = next(other for other in engine.waiting if other.takes_slot)
            require(first is wish, f"{ticket} was granted before {first.ticket}")
            taken = sum(other.takes_slot for other in engine.using)
            require(engine.limit is None or taken < engine.limit, f"no slot for {ticket}")
        engine.waiting.remove(wish)
        engine.using.append(wish)

    def _started(self, model: str, engine: Engine) -> None:
        require(engine.state == "none", f"{model} was started while {engine.state}")
        running = {name: other for name, other in self.engines.items() if other.state != "none"}
        engine.state, engine.holds = "starting", engine.terms.need_bytes
        held = engine.holds + sum(other.holds for other in running.values())
        budget = self.policy.budget_bytes
        require(budget is None or held <= budget, f"{held} of {budget} after the start of {model}")
        for name, other in running.items():
            lawful = self._may_share(engine.terms.group, other.terms.group)
            require(lawful, f"{model} was started beside {name}")
        self.starts.append(model)

    def _stopping(self, model: str, engine: Engine, why: str) -> None:
        up = engine.state in ("starting", "ready", "backoff")
        require(up, f"{model} was stopped while {engine.state}")
        require(not engine.using, f"{model} was stopped with requests in flight")
        if why in ("evicted", "idle"):
            require(not engine.terms.pinned, f"{model} is pinned and was {why}")
            require(engine.state != "starting", f"{model} was {why} while it was starting")
        if why == "evicted" and engine.state == "ready":
            ready_until = engine.ready_at + self.policy.min_dwell_s
            require(self.now >= ready_until, f"{model} was evicted before {ready_until}")
        if why == "gone":
            require(engine.is_retired, f"{model} is still configured")
        engine.state = "stopping"

    def _may_share(self, one: str | None, other: str | None) -> bool:
        if one is None or other is None:
            return True
        known = {group.name: group for group in self.policy.groups}
        if one == other:
            return one in known and known[one].together
        apart = {(group.name, far) for group in self.policy.groups for far in group.apart_from}
        return (one, other) not in apart and (other, one) not in apart

    def _check(self) -> None:
        """After each event."""
        seen = self.scheduler.snapshot()
        require(seen.keys() == self.engines.keys(), f"{seen.keys()} are known")
        for name, engine in self.engines.items():
            shown = seen[name]
            counts = (shown.in_flight, shown.queued, shown.reserved_bytes)
            real = (len(engine.using), len(engine.waiting), engine.holds)
            require(counts == real, f"{name}: {counts} is shown, {real} is so")
            states = {"none": ("stopped", "failed"), "ready": ("ready", "draining")}
            allowed = states.get(engine.state, (engine.state,))
            require(shown.state in allowed, f"{name} is {engine.state}, not {shown.state}")
            for wish in engine.waiting:
                late = self.now >= wish.since + engine.terms.max_wait_s
                require(not late, f"{wish.ticket} has waited since {wish.since}")

    def _nothing_left(self) -> None:
        """Nothing that could be decided now waits for another event, or for no event at all."""
        wake = self.scheduler.next_wake(self.now)
        again = self.scheduler.tick(self.now)
        require(not again, f"a decision was forgotten: {again}")
        due = self.scheduler.next_wake(self.now)
        in_time = due is None or (wake is not None and wake <= due)
        require(in_time, f"something is due at {due}, it wants to be woken at {wake}")

    def _forget(self) -> None:
        for name, engine in list(self.engines.items()):
            if engine.is_retired and engine.state == "none":
                self.orphans += self.engines.pop(name).using

    # ------------------------------------------------------------------- finding

    def _waiting(self, ticket: int) -> Wish:
        found = [w for e in self.engines.values() for w in e.waiting if w.ticket == ticket]
        require(len(found) == 1, f"{ticket} does not wait")
        return found[0]

    def _in(self, model: str, *states: EngineState) -> Engine | None:
        engine = self.engines.get(model)
        return engine if engine is not None and engine.state in states else None


def require(lawful: bool, otherwise: str) -> None:
    if not lawful:
        raise Unlawful(otherwise)
