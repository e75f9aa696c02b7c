"""What counts as a broken call, and what the model is told."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.wire.call_text import MAX_HELD_CHARS
from homeport.wire.correction import MARKS, MAX_NAMES, CallCheck, corrected
from homeport.wire.events import (
    Event,
    Failure,
    Finish,
    Request,
    StopReason,
    Text,
    TextDelta,
    ThinkingDelta,
    Tool,
    ToolCallStart,
    Turn,
)
from homeport.wire.stages import Stages, stages
from tests.wire.rescue_cases import (
    CASES,
    CITY,
    NASTY,
    TOOLS,
    answer,
    cut,
    hermes,
    merged,
    parsed,
    points,
    text_of,
    thinking_of,
)


def checked(text: str | list[str], reason: StopReason = "end") -> tuple[CallCheck, list[Event]]:
    check = CallCheck()
    pieces = [text] if isinstance(text, str) else text
    return check, stages(TOOLS, last=check).feed_all(answer(pieces, reason))


@pytest.mark.row("3.10 rescue_retry: true")
@pytest.mark.parametrize(
    "text",
    [
        hermes("launch", "{}"),
        "\n" + hermes("get_al", "{}"),
        "<tool_call>\nget the weather\n</tool_call>",
        "<tool_call>",
        "[TOOL_CALLS] nothing",
        "<function=launch>\n<parameter=x>\n1\n</parameter>\n</function>",
    ],
)
def test_broken(text: str) -> None:
    for pieces in ([text], list(text)):
        check, events = checked(pieces)
        assert check.broken == text
        assert events == [event for event in events if type(event).__name__ == "Start"]


def test_thinking_goes_on() -> None:
    text = hermes("launch", "{}")
    check, events = checked("<think>Hm.</think>\n" + text)
    assert check.broken == text
    assert thinking_of(events) == "Hm."
    assert text_of(events) == ""


@pytest.mark.row("3.10 rescue_retry: true")
@pytest.mark.parametrize(
    "text",
    [
        "Hello.",
        "",
        "  ",
        "<p>Hello</p>",
        "<tool",
        "[1, 2]",
        "Like " + hermes("launch", "{}"),
        hermes("get", CITY) + hermes("launch", "{}"),
        '{"name": "launch", "arguments": {}}',
    ],
)
def test_not_broken(text: str) -> None:
    for pieces in ([text], list(text)):
        check, events = checked(pieces)
        assert check.broken is None
        assert merged(events) == merged(stages(TOOLS).feed_all(answer(pieces)))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.form)
def test_good_calls_are_not_broken(case: object) -> None:
    assert hasattr(case, "text")
    assert hasattr(case, "calls")
    check, events = checked(list(case.text))
    assert check.broken is None
    assert parsed(events) == case.calls


@pytest.mark.row("3.10 rescue_retry: true")
def test_what_is_cut_short_is_let_out() -> None:
    text = hermes("launch", "{}")
    check, events = checked(list(text), "length")
    assert check.broken is None
    assert text_of(events) == text


def test_failure_lets_out() -> None:
    check = CallCheck()
    events = Stages(check).feed_all(
        [TextDelta("<tool_call>"), ThinkingDelta("x"), TextDelta("y"), Failure("gone")]
    )
    assert events == [TextDelta("<tool_call>"), ThinkingDelta("x"), TextDelta("y"), Failure("gone")]
    assert check.feed(Finish("end")) == [Finish("end")]
    assert check.broken is None


def test_engines_own_calls_pass() -> None:
    events: list[Event] = [TextDelta("<tool_call>"), ToolCallStart(0, "a", "get"), Finish("end")]
    assert Stages(CallCheck()).feed_all(events) == events


def test_it_is_bounded() -> None:
    check = CallCheck()
    assert check.feed(TextDelta("<tool_call>" + "x" * (MAX_HELD_CHARS - 11))) == []
    assert len(check.feed(TextDelta("x"))) == 2


@settings(max_examples=300, deadline=None)
@given(text=NASTY, points=points, reason=st.sampled_from(["end", "length"]))
def test_anything_in(text: str, points: list[int], reason: StopReason) -> None:
    whole, events = checked(text, reason)
    parts, cut_events = checked(cut(text, points), reason)
    assert parts.broken == whole.broken
    assert merged(cut_events) == merged(events)
    if whole.broken is None:
        assert merged(events) == merged(stages(TOOLS).feed_all(answer([text], reason)))
    else:
        assert text.endswith(whole.broken)


def test_marks_come_from_the_table() -> None:
    assert {"<tool_call>", "<function=", "[TOOL_CALLS]"} <= set(MARKS)
    assert all(len(mark) > 6 for mark in MARKS)


@pytest.mark.row("3.10 rescue_retry: true")
def test_the_request_only_grows() -> None:
    tools = tuple(Tool(f"t{i}", b"{}") for i in range(MAX_NAMES + 1))
    request = Request(model="m", turns=(Turn("user", (Text("Hi"),)),), tools=tools)
    again = corrected(request, "<tool_call>x")
    assert again.turns[:1] == request.turns
    assert again.turns[1] == Turn("assistant", (Text("<tool_call>x"),))
    (told,) = again.turns[2].parts
    assert isinstance(told, Text)
    assert "t0, t1, " in told.text
    assert f"t{MAX_NAMES}" not in told.text
