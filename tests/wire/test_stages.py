"""All stages, one behind the other."""

from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.wire.events import End
from homeport.wire.stages import stages
from tests.wire.rescue_cases import (
    CITY,
    GET,
    NASTY,
    TOOLS,
    answer,
    cut,
    hermes,
    merged,
    parsed,
    points,
    reason_of,
    text_of,
    thinking_of,
)


@settings(max_examples=300, deadline=None)
@given(text=NASTY, points=points, starts_inside=st.booleans())
def test_anything_through_all_stages(text: str, points: list[int], starts_inside: bool) -> None:
    whole = stages(TOOLS, starts_inside=starts_inside).feed_all(answer([text]))
    parts = stages(TOOLS, starts_inside=starts_inside).feed_all(answer(cut(text, points)))
    assert merged(parts) == merged(whole)
    assert isinstance(whole[-1], End)


def test_a_call_behind_thinking() -> None:
    text = "<think>I need the weather.</think>\n\n" + hermes("get", CITY)
    for pieces in ([text], list(text)):
        events = stages(TOOLS).feed_all(answer(pieces))
        assert thinking_of(events) == "I need the weather."
        assert parsed(events) == (GET,)
        assert text_of(events) == ""
        assert reason_of(events) == "tool_use"


def test_harmony_whole() -> None:
    text = (
        "<|channel|>analysis<|message|>Weather.<|end|><|start|>assistant<|channel|>commentary "
        f"to=functions.get <|constrain|>json<|message|>{CITY}<|call|>"
    )
    for pieces in ([text], list(text)):
        events = stages(TOOLS).feed_all(answer(pieces))
        assert thinking_of(events) == "Weather."
        assert parsed(events) == (GET,)
