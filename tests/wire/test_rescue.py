"""Tool calls that arrive as text. Each form of the table has cases (``rescue_cases``), and each case is
shown to depend on its row."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.wire.call_forms import FORMS
from homeport.wire.call_text import MAX_CALL_CHARS, MAX_HEAD_CHARS, MAX_HELD_CHARS
from homeport.wire.events import (
    End,
    Failure,
    Finish,
    Start,
    StopReason,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallStart,
)
from homeport.wire.rescue import CallRescue
from homeport.wire.thinking_tags import THINK_TAGS
from tests.wire.rescue_cases import (
    ALL,
    CASES,
    CITY,
    GET,
    NASTY,
    TOOLS,
    Call,
    Case,
    answer,
    by_case,
    calls_of,
    cut,
    hermes,
    merged,
    parsed,
    points,
    reason_of,
    rescued,
    run,
    text_of,
    tool,
)

# --------------------------------------------------------------------------- the forms


@pytest.mark.row(
    "3.10 <tool_call>, as Hermes and Qwen print it",
    "3.10 tags with parameters",
    "3.10 tags … values",
    "3.10 Mistral",
    "3.10 DeepSeek",
    "3.10 Llama",
    "3.10 Python lists",
    "3.10 gpt-oss, Kimi, Granite, Cohere, Functionary",
    "3.10 a fence, bare JSON",
    "3.10 finish_reason",
    "3.10 arguments quoted twice",
)
@by_case
def test_form(case: Case) -> None:
    events = rescued(case.text)
    assert parsed(events) == case.calls
    assert text_of(events) == ""
    assert reason_of(events) == "tool_use"
    ids = [event.id for event in events if isinstance(event, ToolCallStart)]
    assert len(set(ids)) == len(case.calls)


@by_case
def test_form_one_character_at_a_time(case: Case) -> None:
    assert merged(rescued(list(case.text))) == merged(rescued(case.text))


@by_case
@settings(max_examples=30, deadline=None)
@given(points=points)
def test_form_cut_anywhere(case: Case, points: list[int]) -> None:
    assert merged(rescued(cut(case.text, points))) == merged(rescued(case.text))


@by_case
def test_form_is_its_rows_doing(case: Case) -> None:
    """Without the row the text stays text, whole."""
    others = tuple(form for form in FORMS if form.name != case.form)
    assert len(others) == len(FORMS) - 1
    events = run(CallRescue(TOOLS, others), answer([case.text]))
    assert calls_of(events) == ()
    assert text_of(events) == case.text


def test_every_form_has_a_case() -> None:
    assert {case.form for case in CASES} == {form.name for form in FORMS}


def test_every_form_is_documented() -> None:
    page = Path(__file__).parents[2].joinpath("docs/rescue.md").read_text("utf-8")
    for form in FORMS:
        assert f"| `{form.name}` | {form.models} | {'yes' if form.is_marked else 'no'} |" in page
    assert all(f"`{tags.open}`" in page for tags in THINK_TAGS)


@pytest.mark.row("3.10 the tool's name")
@by_case
def test_undeclared_names_stay_text(case: Case) -> None:
    events = rescued(case.text, tools=(tool("other"),))
    assert calls_of(events) == ()
    assert text_of(events) == case.text
    assert reason_of(events) == "end"


@pytest.mark.row("3.10 prose first")
@by_case
def test_prose_before_stays_text(case: Case) -> None:
    text = "I'll look. " + case.text
    assert calls_of(rescued(text)) == ()
    assert text_of(rescued(text)) == text


@pytest.mark.row("3.10 Python lists", "3.10 a fence, bare JSON", "3.10 text behind a call")
@by_case
def test_prose_after(case: Case) -> None:
    """A marked form's calls count; an unmarked one is data that the answer shows."""
    events = rescued(case.text + " This is how.", "end")
    if "forgotten" in case.note:
        return
    if next(form for form in FORMS if form.name == case.form).is_marked:
        assert parsed(events) == case.calls
        assert text_of(events) == " This is how."  # no mark leaks
        assert isinstance(events[1], ToolCallStart)
    else:
        assert calls_of(events) == ()
        assert text_of(events) == case.text + " This is how."


@pytest.mark.row("3.10 half a call")
@by_case
@settings(max_examples=30, deadline=None)
@given(end=st.integers(0, 10_000), points=points)
def test_half_a_form_is_let_out(case: Case, end: int, points: list[int]) -> None:
    """Cut short by the token limit: whole calls, or the text as it was; never a bit of both lost."""
    text = case.text[: end % (len(case.text) + 1)]
    events = rescued(cut(text, points), "length")
    assert merged(events) == merged(rescued(text, "length"))
    assert reason_of(events) == "length"
    found = parsed(events)
    assert found == case.calls[: len(found)]
    if found:
        assert text.endswith(text_of(events))
    else:
        assert text_of(events) == text


@pytest.mark.row("3.10 half a call")
@by_case
def test_failure_lets_out(case: Case) -> None:
    text = case.text[: len(case.text) // 3]
    events = run(CallRescue(TOOLS), [TextDelta(text), Failure("gone")])
    assert events[-1] == Failure("gone")
    assert text_of(events) == text or calls_of(events)


# --------------------------------------------------------------------------- the guard


@pytest.mark.row("3.10 Python lists", "3.10 a fence, bare JSON")
@pytest.mark.parametrize(
    "text",
    [
        "Hello.",
        "<p>Hello</p>",
        "{",
        '{"name": "Bash", "arguments": {}}',
        '{"name": "get", "version": 5}',
        '{"name": "get", "arguments": {"city": "Paris"}, "why": "an example"}',
        '{"name": "get", "arguments": "Paris"}',
        '{"name": "get", "arguments": {"city": }}',
        '```json\n{"name": "get_al", "arguments": {}}\n```',
        '```json\n{"city": "Paris"}\n```',
        '```json\n{"name": "get", "arguments": {}}\n```\nshows how it is done.',
        '```python\nprint("x")\n```',
        "<tool_call>\nget",
        "<tool_call>I would call get</tool_call>",
        "<function=get>and text</function>",
        "[TOOL_CALLS] are what Mistral prints",
        "[1, 2, 3]",
        "[get]",
        "[get('Paris')]",
        "[get(city=Paris)]",
        "[get(city='Paris'), drop(table='x')]",
        "[get(city='a' + 'b')]",
        "[get(city=f'a')]",
        "[get(days=1 2)]",
        "[get(city=(1, 2))]",
        "[get(city=01)]",
        "[get(city='Paris') get_all()]",
        "[get(city='Paris'",
        "[get(city='Paris')] is how it is called",
        "get(city='Paris')",
        "<|tool_call_start|>[get(]",
        "<think>hm</think>",
        "",
        "   \n",
    ],
)
def test_stays_text(text: str) -> None:
    for pieces in ([text], list(text)):
        events = rescued(pieces)
        assert calls_of(events) == ()
        assert text_of(events) == text
        assert reason_of(events) == "end"


def test_prose_is_not_held_at_all() -> None:
    rescue = CallRescue(TOOLS)
    assert rescue.feed(TextDelta("H")) == [TextDelta("H")]
    assert rescue.is_idle


@pytest.mark.parametrize(
    ("text", "let_out_at"),
    [("<table>", "<ta"), ('{"city": 1}', '{"c'), ("```python", "```p"), ("<tool_call>x", ">x")],
)
def test_gives_up_at_once(text: str, let_out_at: str) -> None:
    rescue = CallRescue(TOOLS)
    until = text.index(let_out_at) + len(let_out_at)
    held = [rescue.feed(TextDelta(letter)) for letter in text[:until]]
    assert held[:-1] == [[]] * (until - 1)
    assert held[-1] == [TextDelta(text[:until])]


def test_without_tools_nothing_is_touched() -> None:
    event = TextDelta(CASES[0].text)
    assert CallRescue(()).feed(event)[0] is event


@pytest.mark.row("3.10 calls of the engine's own")
def test_engines_own_call_ends_the_watch() -> None:
    rescue = CallRescue(TOOLS)
    events = run(
        rescue,
        [TextDelta("<tool_"), ToolCallStart(0, "a", "get"), ToolCallDelta(0, CITY), TextDelta("x")],
    )
    assert events == [
        TextDelta("<tool_"),
        ToolCallStart(0, "a", "get"),
        ToolCallDelta(0, CITY),
        TextDelta("x"),
    ]


@pytest.mark.row("3.10 calls of the engine's own")
def test_engines_own_call_behind_a_rescued_one_gets_the_next_number() -> None:
    events = run(
        CallRescue(TOOLS),
        [
            Start("x"),
            TextDelta(hermes("get", CITY)),
            ToolCallStart(0, "a", "get_all"),
            ToolCallDelta(0, "{}"),
            Finish("tool_use"),
            End(),
        ],
    )
    assert [event.call for event in events if isinstance(event, ToolCallStart)] == [0, 1]
    assert parsed(events) == (GET, ALL)


def test_thinking_before_changes_nothing() -> None:
    events = run(CallRescue(TOOLS), [ThinkingDelta("hm"), *answer(["\n" + hermes("get", CITY)])])
    assert parsed(events) == (GET,)


def test_thinking_between_keeps_the_order() -> None:
    events = run(CallRescue(TOOLS), [TextDelta("<tool"), ThinkingDelta("hm"), TextDelta("_call>")])
    assert events == [TextDelta("<tool"), ThinkingDelta("hm"), TextDelta("_call>")]


@pytest.mark.row("3.10 broken arguments")
@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ('<tool_call>{"name": "get", "arguments": {"city": Paris}}</tool_call>', '{"city": Paris}'),
        ('<tool_call>{"name": "get", "arguments": {"city": "x"}</tool_call>', '{"city": "x"}'),
        ('<tool_call>{"name": "get", "arguments": {"city": "x"</tool_call>', '{"city": "x"'),
        ('<tool_call>{"name": "get", "arguments": {"city": "x}}\n</tool_call>', '{"city": "x}'),
        ('<tool_call>{"name": "get", "arguments": ["x"]}</tool_call>', '["x"]'),
        ('<tool_call>{"name": "get"}</tool_call>', "{}"),
        ('[TOOL_CALLS]get[ARGS]{"city": x}', '{"city": x}'),
    ],
)
def test_broken_arguments_are_passed_on_raw(text: str, arguments: str) -> None:
    """docs/dialects.md 3.5: the client's model sees its mistake."""
    for pieces in ([text], list(text)):
        events = rescued(pieces)
        assert calls_of(events) == (("get", arguments),)
        assert text_of(events) == ""


def test_a_broken_call_does_not_swallow_the_next() -> None:
    text = '<tool_call>{"name": "get", "arguments": {"city": "x"}</tool_call>\n'
    events = rescued(list(text + hermes("get_all", "{}")))
    assert parsed(events) == (Call("get", {"city": "x"}), ALL)


@pytest.mark.row("3.10 a long one")
def test_the_head_is_bounded() -> None:
    text = "<tool_call>" + " " * MAX_HEAD_CHARS + '{"name": "get", "arguments": {}}'
    for pieces in ([text], list(text)):
        assert text_of(rescued(pieces)) == text


@pytest.mark.row("3.10 a long one")
@pytest.mark.parametrize("size", [1, 1000, 100_000])
@pytest.mark.parametrize("tail", ['"}}</tool_call>', ""])
def test_a_call_is_bounded(size: int, tail: str) -> None:
    text = (
        '<tool_call>{"name": "get", "arguments": {"city": "' + "x" * (MAX_CALL_CHARS + 2000) + tail
    )
    rescue = CallRescue(TOOLS)
    sent = 0
    for start in range(0, len(text), size):
        piece = text[start : start + size]
        sent += len(text_of(rescue.feed(TextDelta(piece))))
        assert start + len(piece) - sent <= MAX_HELD_CHARS
    sent += len(text_of(run(rescue, [Finish("end"), End()])))
    assert sent == len(text)


@settings(max_examples=400, deadline=None)
@given(text=NASTY, points=points, reason=st.sampled_from(["end", "length"]))
def test_anything_in(text: str, points: list[int], reason: StopReason) -> None:
    """Nothing raised, the same outcome for any cut, and what is not called is not lost."""
    whole = rescued(text, reason)
    assert merged(rescued(cut(text, points), reason)) == merged(whole)
    if not calls_of(whole):
        assert text_of(whole) == text
    else:
        assert text.endswith(text_of(whole))
    assert all(name in {t.name for t in TOOLS} for name, _ in calls_of(whole))
