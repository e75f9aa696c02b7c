"""Histories of a route's deployments, and what holds in all of them."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.routing.affinity import MAX_KEYS, Key
from homeport.routing.selection import MAX_COOLDOWN_S, Selection

ONE, TWO = Key("one"), Key("two")


def selection(*deployments: tuple[str, float], cooldown_s: float = 5.0) -> Selection:
    return Selection(deployments or (("a", 1.0), ("b", 1.0)), cooldown_s)


def served(it: Selection, key: Key | None = None, now: float = 0.0) -> str:
    """One request, from its beginning to its good end."""
    name = it.pick(key, now)
    assert name is not None
    it.began(name)
    it.ended(name)
    it.worked(name, key)
    return name


def test_a_conversation_stays_where_it_was_answered() -> None:
    it = selection()
    first = served(it, ONE)
    for _ in range(5):
        served(it)
        assert served(it, ONE) == first


def test_conversations_are_spread() -> None:
    it = selection()
    assert {served(it, ONE), served(it, TWO)} == {"a", "b"}


def test_a_conversation_that_failed_goes_elsewhere_and_stays_there() -> None:
    it = selection()
    home = served(it, ONE)
    it.failed(home, now=10)
    away = served(it, ONE, now=10)
    assert away != home
    assert served(it, ONE, now=100) == away  # its cache is there now


def test_the_least_busy_one_is_asked() -> None:
    it = selection(("a", 1), ("b", 1), ("c", 1))
    it.began("a")
    it.began("b")
    assert it.pick(None, 0) == "c"
    it.ended("a")
    it.began("c")
    assert it.pick(None, 0) == "a"


def test_weights_are_shares() -> None:
    it = selection(("a", 3), ("b", 1))
    assert Counter(served(it) for _ in range(40)) == {"a": 30, "b": 10}


def test_weight_zero_is_a_spare() -> None:
    it = selection(("spare", 0), ("a", 1))
    it.began("a")
    assert it.pick(None, 0) == "a"
    it.failed("a", now=0)
    assert it.pick(None, 1) == "spare"


def test_a_failed_one_is_left_alone_for_its_cooldown() -> None:
    it = selection()
    it.failed("a", now=0)
    assert [it.pick(None, now) for now in (0, 4.9)] == ["b", "b"]
    it.began("b")
    assert it.pick(None, 5.0) == "a"


def test_it_may_ask_for_a_pause_of_its_own_but_not_for_any() -> None:
    it = selection()
    it.failed("a", now=0, retry_after_s=20)
    it.began("b")
    assert (it.pick(None, 19), it.pick(None, 20)) == ("b", "a")
    it.failed("a", now=0, retry_after_s=1e9)
    assert it.pick(None, MAX_COOLDOWN_S) == "a"


def test_a_success_ends_the_cooldown() -> None:
    it = selection()
    it.failed("a", now=0)
    it.began("b")
    it.worked("a", None)
    assert it.pick(None, 0) == "a"


def test_where_none_is_available_the_soonest_is_asked() -> None:
    it = selection()
    it.failed("b", now=0)
    it.failed("a", now=1)
    assert it.pick(None, 2) == "b"


def test_each_is_tried_once() -> None:
    it = selection()
    it.failed("a", now=0)
    assert it.pick(None, 0, tried={"b"}) == "a"
    assert it.pick(None, 0, tried={"a", "b"}) is None


def test_conversations_are_forgotten_in_the_end() -> None:
    it = selection()
    for number in range(MAX_KEYS + 10):
        served(it, Key(f"c{number}"))
    assert f"pins={MAX_KEYS}" in repr(it)


steps = st.lists(
    st.tuples(
        st.sampled_from(["ask", "end", "fail", "wait"]),
        st.sampled_from([None, ONE, TWO]),
        st.floats(0, 10),
    ),
    max_size=60,
)


@given(st.dictionaries(st.sampled_from("abcd"), st.floats(0, 10), min_size=1), steps)
def test_anything_may_happen(
    weights: dict[str, float], steps: list[tuple[str, Key | None, float]]
) -> None:
    """There is always an answer, never one that is tried, and an available one if there is any."""
    it, now = Selection(weights.items(), 5.0), 0.0
    under_way: list[tuple[str, Key | None]] = []
    resting = dict.fromkeys(weights, 0.0)
    for what, key, amount in steps:
        if what == "wait":
            now += amount
        elif what == "ask":
            name = it.pick(key, now)
            assert name is not None
            assert resting[name] <= now or all(until > now for until in resting.values())
            others = it.pick(key, now, tried={name})
            assert others != name
            assert (others is None) == (len(weights) == 1)
            it.began(name)
            under_way.append((name, key))
        elif under_way:
            name, key = under_way.pop()
            it.ended(name)
            if what == "end":
                it.worked(name, key)
                resting[name] = 0.0
            else:
                it.failed(name, now, amount)
                resting[name] = max(resting[name], now + amount)


@pytest.mark.parametrize("weights", [(1, 1), (5, 1), (1, 2, 3)])
def test_no_deployment_with_a_weight_is_starved(weights: tuple[int, ...]) -> None:
    it = Selection(((str(i), w) for i, w in enumerate(weights)), 5.0)
    rounds = 10 * sum(weights)
    assert Counter(served(it) for _ in range(rounds)) == {
        str(i): 10 * w for i, w in enumerate(weights)
    }
