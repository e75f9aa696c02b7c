"""Slots: conversations keep theirs, background requests keep off them."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.routing.affinity import (
    SHORT_BYTES,
    Key,
    Slots,
    SmallModels,
    is_background,
    key_of,
)
from homeport.settings import SMALL_MODELS

MAIN, SUB, OTHER = Key("s", ""), Key("s", "agent-1"), Key("t", "")
SMALL = Key("s", is_small=True)


def once(slots: Slots, key: Key | None, *, background: bool = False) -> int | None:
    """A request that ends before the next one begins."""
    slot = slots.pick(key, background=background)
    slots.release(slot)
    return slot


def test_a_conversation_comes_back_to_its_slot() -> None:
    slots = Slots(3)
    first = once(slots, MAIN)
    assert first is not None
    once(slots, SUB)
    once(slots, None, background=True)
    assert once(slots, MAIN) == first


def test_background_requests_never_take_a_conversations_slot() -> None:
    slots = Slots(2)
    mine = once(slots, MAIN)
    assert [once(slots, None, background=True) for _ in range(3)] == [1, 1, 1]
    assert once(slots, MAIN, background=True) == 1, "a title request carries the session's id too"
    assert once(slots, MAIN) == mine == 0


def test_background_requests_queue_when_only_conversations_are_left() -> None:
    slots = Slots(3)
    once(slots, MAIN)
    once(slots, SUB)
    assert [slots.pick(None, background=True) for _ in range(2)] == [2, 2]


def test_on_two_slots_sub_agents_and_background_requests_share_the_last() -> None:
    slots = Slots(2)
    assert once(slots, MAIN) == 0
    assert once(slots, SUB) == 1
    assert once(slots, None, background=True) == 1
    assert once(slots, OTHER) == 0, "another main conversation"
    assert once(slots, SUB) == 1


def test_a_busy_pin_falls_back_to_an_idle_slot_and_is_kept() -> None:
    slots = Slots(3)
    pinned = slots.pick(MAIN, background=False)
    second = slots.pick(MAIN, background=False)
    assert second is not None
    assert second != pinned
    slots.release(second)
    slots.release(pinned)
    assert once(slots, MAIN) == pinned


def test_the_longest_silent_conversation_gives_way() -> None:
    slots = Slots(3)
    a, b = once(slots, MAIN), once(slots, SUB)
    once(slots, MAIN)
    assert once(slots, OTHER) == b, "SUB was silent for longer than MAIN"
    assert once(slots, MAIN) == a


def test_one_slot_and_no_key_name_no_slot() -> None:
    assert Slots(1).pick(MAIN, background=False) is None
    assert Slots(4).pick(None, background=False) is None


@pytest.mark.parametrize(
    ("name", "is_small"),
    [
        ("claude-haiku-4-5", True),
        ("claude-3-5-haiku-20241022", True),
        ("Claude-Haiku-4-5-20251001", True),
        ("anthropic/claude-haiku-4.5", True),
        ("us.anthropic.claude-3-5-haiku-20241022-v1:0", True),
        ("claude-sonnet-5", False),
        ("haiku-writer-8b", False),
        ("", False),
    ],
)
def test_the_small_models_of_claude_code(name: str, is_small: bool) -> None:
    assert (name in SmallModels(SMALL_MODELS)) is is_small


def test_small_models_of_the_users_own() -> None:
    mine = SmallModels(("Title-Model", "mini-*"))
    assert [name in mine for name in ("title-model", "MINI-3", "claude-haiku-4-5")] == [1, 1, 0]
    assert "claude-haiku-4-5" not in SmallModels(())


def test_a_name_of_any_length_is_judged_and_not_kept() -> None:
    small = SmallModels(("mini-*",))
    for name, is_small in (("mini-" + "x" * 10_000, True), ("x" * 10_000, False)):
        held = sys.getrefcount(name)
        assert (name in small) is is_small
        assert sys.getrefcount(name) == held


@pytest.mark.parametrize(
    ("has_tools", "is_long", "is_small", "background"),
    [
        (False, False, False, True),
        (False, False, True, True),
        (False, True, True, True),
        (False, True, False, False),
        (True, False, False, False),
        (True, True, False, False),
        (True, False, True, False),
        (True, True, True, False),
    ],
)
def test_what_is_background(
    has_tools: bool, is_long: bool, is_small: bool, background: bool
) -> None:
    size = SHORT_BYTES + is_long
    assert is_background(has_tools=has_tools, size_bytes=size, is_small=is_small) is background


@pytest.mark.parametrize("count", [2, 3, 4])
def test_a_small_model_beside_the_main_conversation_never_gets_its_slot(count: int) -> None:
    """With tools, and without an agent's id: older clients say no more of their sub-agents."""
    slots = Slots(count)
    mine = once(slots, MAIN)
    beside = once(slots, SMALL)
    assert beside != mine
    assert [once(slots, SMALL), once(slots, MAIN)] == [beside, mine]


@pytest.mark.parametrize("count", [2, 3, 4])
def test_a_main_conversation_by_a_small_name_is_one(count: int) -> None:
    """The user chose that model: its titles, by the same name, are background; it comes back."""
    slots = Slots(count)
    mine = once(slots, SMALL)
    assert mine == 0
    for _ in range(3):
        assert once(slots, SMALL, background=True) not in (mine, None)
        assert once(slots, SMALL) == mine


def test_a_main_conversation_that_changes_its_model_is_a_new_one() -> None:
    slots = Slots(2)
    assert once(slots, SMALL) == 0
    assert once(slots, MAIN) == 0
    assert [once(slots, SMALL), once(slots, MAIN)] == [1, 0]


def test_an_agent_is_a_conversation_by_whatever_name() -> None:
    headers = {b"x-claude-code-session-id": b"s", b"x-claude-code-agent-id": b"agent-1"}
    assert key_of(headers, is_small=True) == key_of(headers) == SUB
    session = {b"x-claude-code-session-id": b"s"}
    assert key_of(session, is_small=True) == SMALL
    assert key_of(session) == MAIN
    assert key_of({}, "hash", is_small=True) == Key("hash")


def test_session_and_agent_headers_make_the_key() -> None:
    headers = {b"x-claude-code-session-id": b"s1", b"x-claude-code-agent-id": b"a1"}
    assert key_of(headers) == Key("s1", "a1")
    assert key_of({b"x-session-affinity": b"s2"}) == Key("s2")
    assert key_of({}, "hash") == Key("hash")
    assert key_of({}) is None


steps = st.lists(
    st.one_of(
        st.tuples(st.just("begin"), st.integers(0, 5), st.booleans()),
        st.tuples(st.just("end"), st.integers(0, 20), st.booleans()),
    ),
    max_size=60,
)


@given(st.integers(3, 6), steps)
def test_whatever_happens_slots_are_in_range_and_given_back(
    count: int, history: list[tuple[str, int, bool]]
) -> None:
    slots = Slots(count)
    running: list[int | None] = []
    for what, number, background in history:
        if what == "begin":
            before = set(slots._pins.values())
            slot = slots.pick(Key(f"k{number}"), background=background)
            assert slot is None or 0 <= slot < count
            if background:
                assert slot not in before, "a background request took a conversation's slot"
            running.append(slot)
        elif running:
            slots.release(running.pop(number % len(running)))
    for slot in running:
        slots.release(slot)
    assert not slots._busy
    assert count - 1 not in slots._pins.values(), "the last slot belongs to background requests"
