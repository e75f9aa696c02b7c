"""Who goes to make room, and who need not."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.lifecycle.eviction import (
    GOES,
    Condition,
    Resident,
    Space,
    in_order,
    surplus,
    victims_for,
)
from homeport.settings import Group

G = Group(name="g")
TOGETHER = Group(name="t", together=True, apart_from=("g",))
TEN = Space(budget_bytes=10, groups=(G, TOGETHER))

GROUPS = (None, "g", "t", "unknown")
CONDITIONS: tuple[Condition, ...] = (*GOES, "kept")


def resident(
    model: str,
    size: int = 0,
    *,
    used: int = 0,
    group: str | None = None,
    condition: Condition = "idle",
) -> Resident:
    return Resident(model=model, size_bytes=size, used=used, group=group, condition=condition)


def victims(newcomer: Resident, *residents: Resident) -> str | None:
    """Their names side by side; the newcomer is kept, as it always is."""
    found = victims_for(newcomer, residents, TEN)
    return None if found is None else "".join(found)


NEW = resident("n", 6)


@pytest.mark.parametrize(
    ("residents", "expected"),
    [
        pytest.param([], "", id="nobody is there"),
        pytest.param([resident("a", 4)], "", id="there is room, to the byte"),
        pytest.param([resident("a", 5)], "a", id="there is none, by a byte"),
        pytest.param(
            [resident("a", 4, used=2), resident("b", 4, used=1)],
            "b",
            id="the least recently used goes",
        ),
        pytest.param(
            [resident("a", 4, used=1, condition="busy"), resident("b", 4, used=2)],
            "b",
            id="an idle one goes before a busy one",
        ),
        pytest.param(
            [resident("a", 2, used=1), resident("b", 6, used=2)],
            "b",
            id="who is not needed is spared",
        ),
        pytest.param(
            [resident("a", 2, used=1), resident("b", 2, used=2), resident("c", 2, used=3)],
            "a",
            id="no more go than are needed",
        ),
        pytest.param(
            [resident("a", 3, used=1), resident("b", 3, used=2), resident("c", 3, used=3)],
            "ab",
            id="two make room together",
        ),
        pytest.param([resident("a", 5, condition="kept")], None, id="nobody can go"),
        pytest.param(
            [resident("a", 4, condition="kept"), resident("b", 5, condition="starting")],
            "b",
            id="everybody else can",
        ),
    ],
)
def test_by_memory(residents: list[Resident], expected: str | None) -> None:
    assert victims(NEW, *residents) == expected


def test_what_is_larger_than_the_budget_never_fits() -> None:
    assert victims(resident("n", 10)) == ""
    assert victims(resident("n", 11)) is None


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        pytest.param(None, "", id="no group"),
        pytest.param("g", "ac", id="its own group, and the one apart from it"),
        pytest.param("t", "a", id="together: only the one apart"),
        pytest.param("unknown", "d", id="unknown groups are exclusive"),
        pytest.param("other", "", id="other groups do not matter"),
    ],
)
def test_by_group(group: str | None, expected: str) -> None:
    residents = [
        resident("a", group="g"),
        resident("b"),
        resident("c", group="t"),
        resident("d", group="unknown"),
    ]
    assert victims(resident("n", group=group), *residents) == expected


def test_a_kept_one_of_the_group() -> None:
    assert victims(resident("n", group="g"), resident("a", group="g", condition="kept")) is None


def test_without_a_budget_only_groups_count() -> None:
    space = Space(groups=(G,))
    assert victims_for(resident("n", 2**60), [resident("a", 2**60)], space) == ()


def test_the_order_in_which_they_go() -> None:
    residents = [resident(word, condition=word) for word in reversed(CONDITIONS)]
    assert [r.model for r in in_order(residents)] == list(GOES)


class TestSurplus:
    def test_idle_ones_go_until_the_rest_fits(self) -> None:
        three = [resident("a", 5, used=3), resident("b", 5, used=1), resident("c", 5, used=2)]
        assert surplus(three, TEN) == ("b",)

    def test_or_until_nobody_is_idle(self) -> None:
        three = [
            resident("a", 9, condition="busy"),
            resident("b", 3, condition="fresh"),
            resident("c", 3),
            resident("d", 3, condition="busy"),
        ]
        assert surplus(three, TEN) == ("c", "b")

    def test_nobody_goes_while_they_fit_or_without_a_budget(self) -> None:
        two = [resident("a", 5), resident("b", 5)]
        assert surplus(two, TEN) == ()
        assert surplus([*two, *two], Space()) == ()

    def test_the_last_one_is_in_nobodys_way(self) -> None:
        assert surplus([resident("a", 11)], TEN) == ()
        assert surplus([resident("a", 11), resident("b", 11, used=1)], TEN) == ("a",)


residents = st.builds(
    Resident,
    model=st.just(""),
    size_bytes=st.integers(0, 10),
    group=st.sampled_from(GROUPS),
    condition=st.sampled_from(CONDITIONS),
    used=st.integers(0, 100),
)


def named(some: list[Resident]) -> list[Resident]:
    return [
        Resident(
            model=str(number),
            size_bytes=one.size_bytes,
            group=one.group,
            condition=one.condition,
            used=one.used,
        )
        for number, one in enumerate(some)
    ]


@given(residents, st.lists(residents, max_size=6).map(named))
def test_after_an_eviction_there_is_room_and_nobody_went_for_nothing(
    newcomer: Resident, there: list[Resident]
) -> None:
    found = victims_for(newcomer, there, TEN)
    able = {one.model for one in there if one.condition != "kept"}
    if found is None:
        assert not TEN.has_room(newcomer, [one for one in there if one.model not in able])
        return
    assert set(found) <= able
    staying = [one for one in there if one.model not in found]
    assert TEN.has_room(newcomer, staying)
    for number in range(len(found)):
        for fewer in combinations(found, number):
            assert not TEN.has_room(newcomer, [one for one in there if one.model not in fewer])
