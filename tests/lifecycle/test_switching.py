"""Not one start more than the policy needs: the scheduler against a simulation of its policy.

Three models, room for one, sixteen clients that each wait for their answer before they ask again. What
they asked is recorded as it comes about, and given to ``tests.support.switching``, which knows the
policy but not the scheduler.
"""

import heapq
from itertools import count, pairwise
from random import Random

import pytest

from homeport.lifecycle.scheduler import Effect, Grant, Policy, Start, Stop, Terms
from tests.lifecycle.judge import Judge
from tests.support.switching import Asked, starts_needed

MODELS = ("a", "b", "c")
LOAD_S, STOP_S, DWELL_S = 3.0, 0.4, 2.0


class Loop:
    """Clients and engines with a clock of their own; nothing takes longer than it says."""

    def __init__(self, seed: int, *, slots: int | None, clients: int, requests: int) -> None:
        self.random = Random(seed)
        self.slots = slots
        self.judge = Judge(Policy(budget_bytes=10, min_dwell_s=DWELL_S))
        self.asked: dict[int, Asked] = {}
        self.to_ask = requests
        self.numbers = count(1)
        self.due: list[tuple[float, int, str, str | int]] = []
        for model in MODELS:
            self.judge.add(model, Terms(need_bytes=6))
        for _ in range(clients):
            self.later(self.random.uniform(0, 1), "ask", "")

    def later(self, seconds: float, what: str, whom: str | int) -> None:
        heapq.heappush(self.due, (self.judge.now + seconds, next(self.numbers), what, whom))

    def run(self) -> list[Asked]:
        judge = self.judge
        while (wake := judge.scheduler.next_wake(judge.now)) is not None or self.due:
            if wake is not None and (not self.due or wake <= self.due[0][0]):
                judge.now = max(judge.now, wake)
                self.carry_out(judge.tick())
            else:
                judge.now, _, what, whom = heapq.heappop(self.due)
                self.carry_out(self.happen(what, whom))
        return list(self.asked.values())

    def happen(self, what: str, whom: str | int) -> list[Effect]:
        match what, whom:
            case "ready", str(model):
                return self.judge.ready(model, limit=self.slots)
            case "stopped", str(model):
                return self.judge.stopped(model)
            case "leave", int(ticket):
                self.later(self.random.uniform(0, 0.5), "ask", "")
                return self.judge.leave(ticket)
        if not self.to_ask:
            return []
        self.to_ask -= 1
        ticket, model = next(self.numbers), self.random.choice(MODELS)
        self.asked[ticket] = Asked(self.judge.now, model, self.random.uniform(0.05, 2.0))
        return self.judge.request(ticket, model)

    def carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Grant(ticket):
                    self.later(self.asked[ticket].duration_s, "leave", ticket)
                case Start(model):
                    self.later(LOAD_S, "ready", model)
                case Stop(model):
                    self.later(STOP_S, "stopped", model)


@pytest.mark.parametrize("slots", [None, 1, 2, 4])
@pytest.mark.parametrize("seed", range(5))
def test_not_one_start_more_than_the_policy_needs(seed: int, slots: int | None) -> None:
    loop = Loop(seed, slots=slots, clients=16, requests=200)
    asked = loop.run()
    times = {"load_s": LOAD_S, "stop_s": STOP_S, "min_dwell_s": DWELL_S}
    assert len(asked) == 200
    assert set(loop.judge.ended.values()) == {"left"}
    assert len(loop.judge.starts) == starts_needed(asked, slots=slots, **times)


def test_collating_saves_most_of_the_starts() -> None:
    """One by one, in the order in which they came, two of three requests would need a switch."""
    loop = Loop(0, slots=None, clients=16, requests=200)
    models = [request.model for request in loop.run()]
    one_by_one = 1 + sum(a != b for a, b in pairwise(models))
    assert len(loop.judge.starts) < one_by_one / 3


class TestTheSimulation:
    """By hand."""

    def needed(self, *requests: tuple[float, str, float], slots: int | None = None) -> int:
        return starts_needed(requests, load_s=3, stop_s=1, min_dwell_s=2, slots=slots)

    def test_nothing(self) -> None:
        assert self.needed() == 0

    def test_one_model(self) -> None:
        assert self.needed((0, "a", 1), (100, "a", 1)) == 1

    def test_what_comes_while_it_loads_and_dwells_is_taken(self) -> None:
        assert self.needed((0, "a", 1), (1, "b", 1), (4.9, "a", 1)) == 2

    def test_what_comes_after_that_is_not(self) -> None:
        assert self.needed((0, "a", 9), (1, "b", 1), (5.1, "a", 1)) == 3

    def test_what_is_older_than_the_other_is_taken_however_late_it_begins(self) -> None:
        assert self.needed((0, "a", 9), (5, "a", 9), (6, "b", 1), slots=1) == 2
        assert self.needed((0, "a", 9), (5, "b", 9), (6, "a", 1), slots=1) == 3

    def test_what_waited_when_it_became_ready_is_taken_too(self) -> None:
        assert self.needed((0, "a", 9), (1, "b", 1), (2, "a", 1), slots=1) == 2
