"""Arguments that repeat themselves, or are quoted twice."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.wire.argument_repair import ArgumentRepair
from homeport.wire.call_text import MAX_CALL_CHARS
from homeport.wire.events import End, Event, Finish, TextDelta, ToolCallDelta, ToolCallStart
from tests.wire.rescue_cases import CITY, calls_of, cut, points, run


def repaired(*fragments: str) -> str:
    events: list[Event] = [ToolCallStart(0, "a", "get"), *(ToolCallDelta(0, f) for f in fragments)]
    out = run(ArgumentRepair(), [*events, Finish("tool_use"), End()])
    assert isinstance(out[-1], End)
    assert isinstance(out[-2], Finish)
    ((_, arguments),) = calls_of(out)
    return arguments


@pytest.mark.row("3.10 arguments that repeat themselves", "3.10 arguments quoted twice")
@pytest.mark.parametrize(
    ("fragments", "arguments"),
    [
        # cumulative
        (["{", '{"city"', '{"city": "Par', '{"city": "Paris"}'], CITY),
        (['{"city"', CITY], CITY),
        ([CITY, CITY], CITY),
        ([CITY, CITY, CITY], CITY),
        (["{", "{", '{"city"', CITY], CITY),
        ([" ", ' {"city"', " " + CITY], "  " + CITY),
        (["{", '{"city"', '{"city": "', 'Paris"}'], CITY),
        # quoted
        ([json.dumps(CITY)], CITY),
        (list(json.dumps(CITY)), CITY),
        ([" ", json.dumps(CITY)], " " + CITY),
        (['"Paris"'], '"Paris"'),
        (['"{\\"a', "\\"], '"{\\"a\\'),
        # plain
        (["{", '"city"', ': "Paris"', "}"], CITY),
        (['{"a":', '{"a":1}', "}"], '{"a":{"a":1}}'),
        (['{"a":', '{"a":1}}'], '{"a":{"a":1}}'),
        (['{"a":', '{"a":', "1}}"], '{"a":{"a":1}}'),
        (["[", "[", "1]]"], "[[1]]"),
        (['{"city": ', "tru"], '{"city": tru'),
        ([], ""),
        ([" "], " "),
        (["null"], "null"),
    ],
)
def test_arguments(fragments: list[str], arguments: str) -> None:
    assert repaired(*fragments) == arguments


@pytest.mark.row("3.10 arguments that repeat themselves", "3.10 arguments quoted twice")
@settings(max_examples=200, deadline=None)
@given(
    value=st.recursive(
        st.dictionaries(st.sampled_from("ab"), st.integers(0, 3)),
        lambda inner: st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
        max_leaves=6,
    ),
    points=points,
)
def test_arguments_of_any_object(value: object, points: list[int]) -> None:
    text = json.dumps(value)
    ends = [len("".join(cut(text, points)[: i + 1])) for i in range(len(cut(text, points)))]
    assert json.loads(repaired(*[text[:end] for end in ends])) == value
    assert json.loads(repaired(*cut(json.dumps(text), points))) == value


@settings(max_examples=200, deadline=None)
@given(value=st.dictionaries(st.text(max_size=3), st.integers() | st.text()), points=points)
def test_plain_arguments_pass(value: object, points: list[int]) -> None:
    text = json.dumps(value, ensure_ascii=False)
    assert repaired(*cut(text, points)) == text


@pytest.mark.row("3.5 a stream")
def test_plain_fragments_are_not_held() -> None:
    repair = ArgumentRepair()
    repair.feed(ToolCallStart(0, "a", "get"))
    for fragment in ("{", '"city": ', '"Paris"', "}"):
        event = ToolCallDelta(0, fragment)
        assert repair.feed(event) == [event]


def test_arguments_of_several_calls() -> None:
    events = run(
        ArgumentRepair(),
        [
            ToolCallStart(0, "a", "get"),
            ToolCallDelta(0, '{"city"'),
            ToolCallStart(1, "b", "get"),
            ToolCallDelta(1, json.dumps(CITY)),
            ToolCallDelta(0, CITY),
            TextDelta("then"),
            Finish("tool_use"),
        ],
    )
    assert calls_of(events) == (("get", CITY), ("get", CITY))
    assert events.index(TextDelta("then")) == len(events) - 2


def test_repeats_are_bounded() -> None:
    repair = ArgumentRepair()
    repair.feed(ToolCallStart(0, "a", "get"))
    fragment = '{"city": "' + "x" * (MAX_CALL_CHARS // 2)
    held = [repair.feed(ToolCallDelta(0, fragment)) for _ in range(4)]
    assert held[1:3] == [[], []]
    assert held[3] == [ToolCallDelta(0, fragment * 3)]


def test_quoted_arguments_are_bounded() -> None:
    repair = ArgumentRepair()
    repair.feed(ToolCallStart(0, "a", "get"))
    repair.feed(ToolCallDelta(0, '"'))
    out = repair.feed(ToolCallDelta(0, "x" * MAX_CALL_CHARS))
    assert out == [ToolCallDelta(0, '"' + "x" * MAX_CALL_CHARS)]
    assert repair.feed(ToolCallDelta(0, "y")) == [ToolCallDelta(0, "y")]
