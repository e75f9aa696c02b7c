"""Thinking that arrives as text, between tags."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.wire.events import StopReason, TextDelta, ThinkingDelta
from homeport.wire.thinking_tags import THINK_TAGS, ThinkSplitter
from tests.wire.rescue_cases import answer, run, text_of, thinking_of


def split(
    text: str | Sequence[str], *, starts_inside: bool = False, reason: StopReason = "end"
) -> tuple[str, str]:
    pieces = [text] if isinstance(text, str) else text
    events = run(ThinkSplitter(starts_inside=starts_inside), answer(pieces, reason))
    thinking_at = [i for i, e in enumerate(events) if isinstance(e, ThinkingDelta)]
    text_at = [i for i, e in enumerate(events) if isinstance(e, TextDelta)]
    assert not thinking_at or not text_at or max(thinking_at) < min(text_at)
    return thinking_of(events), text_of(events)


@pytest.mark.row("3.10 thinking in tags at the beginning")
@pytest.mark.parametrize("tags", THINK_TAGS, ids=lambda tags: tags.open)
@pytest.mark.parametrize("lead", ["", "\n", "  \n"])
def test_think_tags(tags: tuple[str, str, str], lead: str) -> None:
    opened, closed, then = tags
    text = f"{lead}{opened}\nLet me see.\n{closed}\n\n{then}It is <b>5</b>. {opened}"
    expected = ("Let me see.\n", f"It is <b>5</b>. {opened}")
    assert split(text) == expected
    assert split(list(text)) == expected
    for at in range(len(text)):
        assert split([text[:at], text[at:]]) == expected


@pytest.mark.row("3.10 thinking in tags at the beginning")
@pytest.mark.parametrize(
    ("text", "thinking", "rest"),
    [
        ("<think>\n\n</think>\n\nHi", "", "Hi"),  # Qwen3 with thinking switched off
        ("<think>never closed", "never closed", ""),
        ("<think>a </thin b", "a </thin b", ""),
        ("<think>a</thin", "a</thin", ""),
        ("<thin", "", "<thin"),
        ("Hi <think>x</think>", "", "Hi <think>x</think>"),
        ("<thinker>", "", "<thinker>"),
        ("</think>Hi", "", "</think>Hi"),
        (" \n", "", " \n"),
        (" " * 600 + "<think>x</think>", "", " " * 600 + "<think>x</think>"),
    ],
)
def test_think_edges(text: str, thinking: str, rest: str) -> None:
    assert split(text) == (thinking, rest)
    assert split(list(text)) == (thinking, rest)


@pytest.mark.row("3.10 thinking … which the template opened")
@pytest.mark.parametrize(
    ("text", "thinking", "rest"),
    [
        ("Let me see.</think>\n\nHi", "Let me see.", "Hi"),
        ("<think>Let me see.</think>Hi", "Let me see.", "Hi"),
        ("\n</think>Hi", "", "Hi"),
        ("<b>never closed", "<b>never closed", ""),
    ],
)
def test_template_starts_inside(text: str, thinking: str, rest: str) -> None:
    assert split(text, starts_inside=True) == (thinking, rest)
    assert split(list(text), starts_inside=True) == (thinking, rest)


@pytest.mark.row("3.10 thinking … beside the engine's own")
def test_engines_own_thinking_switches_the_splitter_off() -> None:
    events = run(ThinkSplitter(), [ThinkingDelta("hm"), TextDelta("<think>x</think>")])
    assert events == [ThinkingDelta("hm"), TextDelta("<think>x</think>")]


@settings(max_examples=200, deadline=None)
@given(
    text=st.lists(st.sampled_from(["<", "/", "think", ">", "<think>", "</think>", " ", "a"])).map(
        "".join
    ),
    starts_inside=st.booleans(),
)
def test_think_holds_back_no_more_than_a_tag(text: str, starts_inside: bool) -> None:
    splitter = ThinkSplitter(starts_inside=starts_inside)
    passed = 0
    for letter in text:
        out = run(splitter, [TextDelta(letter)])
        passed += len(text_of(out) + thinking_of(out))
        assert len(splitter._held.strip()) < len("<thinking>") + 2
    assert split(list(text), starts_inside=starts_inside) == split(
        text, starts_inside=starts_inside
    )
