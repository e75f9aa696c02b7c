"""When an engine counts as stuck: history by history."""

import math

import pytest

from homeport.lifecycle.liveness import Liveness

BUSY_S = 300.0


def judged(*looks: str, period_s: float = 10.0, busy_s: float = BUSY_S) -> list[bool]:
    """Each look is ``ok`` or a failure: ``idle``, ``work`` or ``heard`` (something came 1 s ago)."""
    judge, now, verdicts = Liveness(0.0, busy_s=busy_s), 0.0, []
    for look in looks:
        now += period_s
        if look == "ok":
            judge.answered(now)
            verdicts.append(False)
        else:
            silence_s = 1.0 if look == "heard" else math.inf
            verdicts.append(judge.failed(now, silence_s=silence_s, has_work=look != "idle"))
    return verdicts


def test_an_idle_engine_has_three_tries() -> None:
    assert judged("idle", "idle", "idle") == [False, False, True]


def test_an_answer_begins_anew() -> None:
    assert not any(judged("idle", "idle", "ok", "idle", "idle", "ok"))
    assert judged("idle", "idle", "ok", "idle", "idle", "idle")[-1]


def test_what_comes_is_life() -> None:
    assert not any(judged(*["heard"] * 100))
    assert not any(judged("work", "work", "heard", "work", "work"))


def test_work_gives_time() -> None:
    """Thirty looks of ten seconds."""
    verdicts = judged(*["work"] * 31)
    assert verdicts.index(True) == 29


def test_work_that_has_been_given_up_still_keeps_it_busy() -> None:
    """The client has left, and the engine computes on; it has not answered since."""
    verdicts = judged("work", *["idle"] * 30)
    assert verdicts.index(True) == 29


def test_the_silence_counts_from_the_last_that_came() -> None:
    verdicts = judged("work", "work", "heard", *["work"] * 31)
    assert verdicts.index(True) == 3 + 29


def test_after_an_answer_old_work_counts_no_more() -> None:
    assert judged("work", "work", "ok", "idle", "idle", "idle")[-1]


@pytest.mark.parametrize("silence_s", [10.0, 10.5, math.inf])
def test_what_came_before_the_last_look_is_no_news(silence_s: float) -> None:
    judge = Liveness(0.0, busy_s=BUSY_S)
    judge.answered(10.0)
    failed = [
        judge.failed(10.0 + 10.0 * n, silence_s=silence_s + 10.0 * n - 10.0, has_work=False)
        for n in (1, 2, 3)
    ]
    assert failed == [False, False, True]


def test_repr() -> None:
    judge = Liveness(0.0, busy_s=1.0)
    judge.failed(1.0, silence_s=math.inf, has_work=True)
    assert repr(judge) == "<Liveness failures=1 has_worked=True>"
