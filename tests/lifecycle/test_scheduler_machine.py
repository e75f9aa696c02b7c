"""Anything may happen, in any order: the scheduler keeps the law (``tests.lifecycle.judge``).

Requests come and go, engines become ready, crash, end slowly; models and budgets change; time passes.
At the end everybody leaves and every engine does what it is asked: then every request must have ended,
and what is reserved is what is there.
"""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from homeport.lifecycle.scheduler import Policy, Terms
from homeport.settings import Group
from tests.lifecycle.judge import Judge, Unlawful, Wish, require

MODELS = ("a", "b", "c", "d", "e")
MAX_WAIT_S = 60.0
SETTLING_S = 30.0
"""More than the dwell times of all switches that the end needs: nobody waits in vain for so long."""

models = st.sampled_from(MODELS)
groups = st.lists(
    st.sampled_from(
        (
            Group(name="g"),
            Group(name="h", together=True),
            Group(name="h", together=True, apart_from=("g",)),
        )
    ),
    max_size=2,
    unique_by=lambda group: group.name,
)
terms = st.builds(
    Terms,
    need_bytes=st.integers(0, 8),
    group=st.sampled_from((None, None, "g", "h")),
    pinned=st.sampled_from((False, False, False, True)),
    ttl_s=st.sampled_from((None, 0.0, 3.0, 20.0)),
    max_queue=st.integers(0, 6),
    max_wait_s=st.just(MAX_WAIT_S),
)
policies = st.builds(
    Policy,
    budget_bytes=st.sampled_from((None, 8, 10, 16)),
    min_dwell_s=st.sampled_from((0.0, 2.0)),
    return_to_default_s=st.sampled_from((None, 0.0, 5.0)),
    groups=groups.map(tuple),
)
seconds = st.one_of(st.just(0.0), st.floats(0.0, 10.0), st.sampled_from((2.0, 60.0)))


class World(RuleBasedStateMachine):
    @initialize(policy=policies, each=st.lists(terms, min_size=2, max_size=5))
    def begin(self, policy: Policy, each: list[Terms]) -> None:
        self.judge = Judge(policy)
        self.tickets = 0
        self.judge.set_default("a")
        for model, its_terms in zip(MODELS, each, strict=False):
            self.judge.add(model, its_terms)

    # ------------------------------------------------------------------- requests

    @rule(model=models, takes_slot=st.sampled_from((True, True, False)))
    def request(self, model: str, takes_slot: bool) -> None:
        self.tickets += 1
        self.judge.request(self.tickets, model, takes_slot=takes_slot)

    @rule(model=models, number=st.integers(2, 5))
    def requests(self, model: str, number: int) -> None:
        for _ in range(number):
            self.request(model, True)

    @precondition(lambda self: self.tickets > 0)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """Any ticket, also one that has ended."""
        self.judge.leave(data.draw(st.integers(1, self.tickets)))

    @precondition(lambda self: bool(wishes(self.judge)))
    @rule(data=st.data())
    def leave_alive(self, data: st.DataObject) -> None:
        self.judge.leave(data.draw(st.sampled_from(wishes(self.judge))).ticket)

    # ------------------------------------------------------------------- engines

    @rule(data=st.data(), limit=st.sampled_from((None, 1, 2)))
    def ready(self, data: st.DataObject, limit: int | None) -> None:
        self.judge.ready(data.draw(self.one("starting", "backoff")), limit=limit)

    @rule(data=st.data())
    def stopped(self, data: st.DataObject) -> None:
        self.judge.stopped(data.draw(self.one("stopping")))

    @rule(data=st.data(), retry_s=st.sampled_from((None, 0.5)))
    def down(self, data: st.DataObject, retry_s: float | None) -> None:
        model = data.draw(self.one("starting", "ready", "backoff"))
        engine = self.judge.engines.get(model)
        was_ready = engine is not None and engine.state == "ready"
        self.judge.down(model, retry_s=retry_s, was_ready=was_ready)

    @rule(data=st.data(), used_bytes=st.integers(0, 12))
    def measured(self, data: st.DataObject, used_bytes: int) -> None:
        self.judge.measured(data.draw(self.one("ready")), used_bytes)

    def one(self, *states: str) -> st.SearchStrategy[str]:
        """Mostly one for which it is time; sometimes any."""
        fit = [name for name, engine in self.judge.engines.items() if engine.state in states]
        return st.sampled_from(fit) | models if fit else models

    # ------------------------------------------------------------------- people

    @rule(model=models)
    def load(self, model: str) -> None:
        self.judge.load(model)

    @rule(model=models)
    def unload(self, model: str) -> None:
        self.judge.unload(model)

    @rule(model=models, its_terms=terms)
    def add(self, model: str, its_terms: Terms) -> None:
        self.judge.add(model, its_terms)

    @rule(model=models)
    def retire(self, model: str) -> None:
        self.judge.retire(model)

    @rule(policy=policies)
    def set_policy(self, policy: Policy) -> None:
        self.judge.set_policy(policy)

    @rule(model=st.sampled_from((None, *MODELS)))
    def set_default(self, model: str | None) -> None:
        self.judge.set_default(model)

    # ------------------------------------------------------------------- time

    @rule(passed_s=seconds)
    def pass_time(self, passed_s: float) -> None:
        self.judge.advance(passed_s)

    @invariant()
    def every_ticket_waits_or_is_granted_or_has_ended(self) -> None:
        alive = [wish.ticket for wish in wishes(self.judge)]
        assert len(alive) == len(set(alive))
        assert not set(alive) & set(self.judge.ended)
        assert set(alive) | set(self.judge.ended) == set(range(1, self.tickets + 1))

    def teardown(self) -> None:
        if not hasattr(self, "judge"):
            return
        self.everybody_leaves_and_every_engine_obeys()
        for engine in self.judge.engines.values():
            require(engine.state in ("none", "ready"), f"an engine is left: {engine}")
            require((engine.state == "ready") or not engine.holds, f"memory is left: {engine}")
        for model in list(self.judge.engines):
            self.judge.retire(model)
        self.everybody_leaves_and_every_engine_obeys()
        require(not self.judge.scheduler.snapshot(), "somebody is left")
        require(self.judge.scheduler.next_wake(self.judge.now) is None, "something is due")

    def everybody_leaves_and_every_engine_obeys(self) -> None:
        self.judge.set_default(None)  # it would come back for ever, where ttl is short
        began, ended_before = self.judge.now, set(self.judge.ended)
        patient = {
            w.ticket for w in wishes(self.judge) if w.since + MAX_WAIT_S > began + SETTLING_S
        }
        for _ in range(200):
            if not self.step():
                break
        else:
            raise Unlawful("it never ends")
        require(self.judge.now - began <= SETTLING_S, "it took too long")
        ended = {t: how for t, how in self.judge.ended.items() if t not in ended_before}
        in_vain = {ticket for ticket, how in ended.items() if how == "waited_too_long"}
        require(not in_vain & patient, f"{in_vain & patient} waited in vain")

    def step(self) -> bool:
        """One round; return whether something is still to come."""
        judge = self.judge
        for name, engine in list(judge.engines.items()):
            for wish in list(engine.using):
                judge.leave(wish.ticket)
            if engine.state in ("starting", "backoff"):
                judge.ready(name, limit=1)
            elif engine.state == "stopping":
                judge.stopped(name)
        for wish in list(judge.orphans):
            judge.leave(wish.ticket)
        engines = judge.engines.values()
        if any(e.using or e.state in ("starting", "backoff", "stopping") for e in engines):
            return True
        if not wishes(judge):
            return False
        wake = judge.scheduler.next_wake(judge.now)
        require(wake is not None, f"they wait for nothing: {wishes(judge)}")
        assert wake is not None
        judge.advance(max(0.0, wake - judge.now))
        return True


def wishes(judge: Judge) -> list[Wish]:
    """All that have not ended."""
    there = [w for e in judge.engines.values() for w in (*e.waiting, *e.using)]
    return [*there, *judge.orphans]


TestWorld = World.TestCase
TestWorld.settings = settings(
    max_examples=150,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
