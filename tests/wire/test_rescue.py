"""Tool calls and thinking that arrive as text. Each form of the table has cases here, and each case
is shown to depend on its row."""

import itertools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.wire.call_forms import FORMS
from homeport.wire.events import (
    End,
    Event,
    Failure,
    Finish,
    Start,
    StopReason,
    TextDelta,
    ThinkingDelta,
    Tool,
    ToolCallDelta,
    ToolCallStart,
    Usage,
    UsageReport,
)
from homeport.wire.rescue import (
    MAX_CALL_CHARS,
    MAX_HEAD_CHARS,
    MAX_HELD_CHARS,
    THINK_TAGS,
    ArgumentRepair,
    CallRescue,
    Stage,
    ThinkSplitter,
    stages,
)


def tool(name: str, **types: str | list[str]) -> Tool:
    properties = {key: {"type": kind} for key, kind in types.items()}
    return Tool(name, json.dumps({"type": "object", "properties": properties}).encode())


TOOLS = (
    tool("Write", path="string", content="string", mode="integer", append="boolean"),
    tool("get", city="string", days=["integer", "null"], where="object"),
    tool("get_all"),
    tool("mcp__db__query", sql="string"),
)

CITY = '{"city": "Paris"}'
PY = 'def f():\n    return "</tool_call> {"\n'


class Call(NamedTuple):
    name: str
    arguments: object


class Case(NamedTuple):
    form: str
    text: str
    calls: tuple[Call, ...]
    note: str = ""


GET = Call("get", {"city": "Paris"})
ALL = Call("get_all", {})


def hermes(name: str, arguments: str, key: str = "arguments") -> str:
    return f'<tool_call>\n{{"name": "{name}", "{key}": {arguments}}}\n</tool_call>'


CASES = [
    Case("hermes", hermes("get", CITY), (GET,)),
    Case("hermes", hermes("get", CITY) + "\n" + hermes("get_all", "{}"), (GET, ALL), "parallel"),
    Case("hermes", "\n\n" + hermes("get", CITY) + "<|im_end|>", (GET,), "leaked end of turn"),
    Case(
        "hermes",
        hermes("Write", json.dumps({"path": "a.py", "content": PY})),
        (Call("Write", {"path": "a.py", "content": PY}),),
        "the mark in a string",
    ),
    Case(
        "hermes",
        f'<tool_call>{{"arguments": {CITY}, "name": "get"}}</tool_call>',
        (GET,),
        "arguments first, as Hermes' own prompt has it",
    ),
    Case("hermes", f'<tool_call>[{{"name": "get", "arguments": {CITY}}}]', (GET,), "Granite 3.1"),
    Case("hermes", hermes("get", json.dumps(CITY)), (GET,), "arguments encoded twice"),
    Case("hermes", hermes("get_all", "null"), (ALL,)),
    Case("qwen_tools", f'<tools>\n{{"name": "get", "arguments": {CITY}}}\n</tools>', (GET,)),
    Case(
        "function_call",
        f'<function_call>{{"name": "get", "arguments": {CITY}}}</function_call>',
        (GET,),
    ),
    Case(
        "qwen3_coder",
        "<tool_call>\n<function=get>\n<parameter=city>\nParis\n</parameter>\n"
        "<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>",
        (Call("get", {"city": "Paris", "days": 3}),),
    ),
    Case(
        "qwen3_coder",
        "<function=Write>\n<parameter=path>\n5\n</parameter>\n<parameter=append>\nTrue\n"
        f"</parameter>\n<parameter=content>\n{PY}</function>\n</parameter>\n</function>\n"
        "<function=get_all>\n</function>\n</tool_call>",
        (Call("Write", {"path": "5", "append": True, "content": PY + "</function>"}), ALL),
        "types by the schema, an end tag inside a value, no outer tag",
    ),
    Case(
        "qwen3_coder",
        "<function=Write>\n<parameter=path> test.txt\n<parameter=content> hello",
        (Call("Write", {"path": "test.txt", "content": "hello"}),),
        "forgotten end tags (continuedev/continue#13057)",
    ),
    Case("function_tag", f"<function=get>{CITY}</function>", (GET,)),
    Case("functionary", f">>>get\n{CITY}\n>>>get_all\n{{}}", (GET, ALL)),
    Case(
        "glm",
        "<tool_call>get\n<arg_key>city</arg_key>\n<arg_value>Paris</arg_value>\n"
        '<arg_key>where</arg_key>\n<arg_value>{"x": 1}</arg_value>\n</tool_call>\n'
        "<tool_call>get_all\n</tool_call>",
        (Call("get", {"city": "Paris", "where": {"x": 1}}), ALL),
    ),
    Case(
        "invoke",
        '<minimax:tool_call>\n<invoke name="get">\n<parameter name="city">Paris</parameter>\n'
        '</invoke>\n<invoke name="get_all">\n</invoke>\n</minimax:tool_call>',
        (GET, ALL),
    ),
    Case(
        "invoke",
        '<tool_call>\n<invoke name="get"><parameter name="city">Paris</parameter></invoke>'
        "</tool_call>",
        (GET,),
    ),
    Case(
        "dsml",
        '<｜DSML｜function_calls>\n<｜DSML｜invoke name="get">\n<｜DSML｜parameter name="city" '
        'string="true">Paris</｜DSML｜parameter>\n<｜DSML｜parameter name="days" string="false">5'
        "</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜function_calls>",
        (Call("get", {"city": "Paris", "days": 5}),),
    ),
    Case(
        "dsml",
        '<｜DSML｜tool_calls>\n<｜DSML｜invoke name="get">\n<｜DSML｜parameter name="days" '
        'string="true">5</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>',
        (Call("get", {"days": "5"}),),
        "what the model calls a string is one",
    ),
    Case(
        "mistral",
        f'[TOOL_CALLS] [{{"name": "get", "arguments": {CITY}}}, '
        '{"name": "get_all", "arguments": {}, "id": "a1b2c3d4e"}]</s>',
        (GET, ALL),
    ),
    Case("mistral_args", f"[TOOL_CALLS]get[ARGS]{CITY}[TOOL_CALLS]get_all[ARGS]{{}}", (GET, ALL)),
    Case("mistral_args", f"[TOOL_CALLS]get[CALL_ID]a1b2c3d4e[ARGS]{CITY}", (GET,)),
    Case("mistral_args", f"[TOOL_CALLS]get{CITY}", (GET,)),
    Case(
        "deepseek_v3",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get\n```json\n"
        f"{CITY}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>get_all\n"
        "```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜><｜end▁of▁sentence｜>",
        (GET, ALL),
    ),
    Case(
        "deepseek_v31",
        f"<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get<｜tool▁sep｜>{CITY}<｜tool▁call▁end｜>"
        "<｜tool▁call▁begin｜>get_all<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        (GET, ALL),
    ),
    Case(
        "kimi",
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.get:0<|tool_call_argument_begin|>"
        f"{CITY}<|tool_call_end|><|tool_call_begin|>functions.get_all:1"
        "<|tool_call_argument_begin|>{}<|tool_call_end|><|tool_calls_section_end|>",
        (GET, ALL),
    ),
    Case(
        "harmony",
        "<|start|>assistant<|channel|>commentary to=functions.get <|constrain|>json<|message|>"
        f"{CITY}<|call|>",
        (GET,),
    ),
    Case("harmony", f"<|channel|>commentary to=functions.get json<|message|>{CITY}", (GET,)),
    Case("harmony", f" to=functions.get<|channel|>commentary json<|message|>{CITY}", (GET,)),
    Case("harmony", f"commentary to=functions.get json{CITY}", (GET,), "marks stripped"),
    Case("python_tag", f'<|python_tag|>{{"name": "get", "parameters": {CITY}}}<|eom_id|>', (GET,)),
    Case(
        "python_list", "<|python_start|>[get(city='Paris')]<|python_end|><|eom|>", (GET,), "Llama 4"
    ),
    Case(
        "python_list",
        '<|tool_call_start|>[get(city="Paris"), get_all()]<|tool_call_end|>',
        (GET, ALL),
    ),
    Case(
        "python_list",
        '<function_calls>\nget(city="Paris", days=null)\nget_all()\n</function_calls>',
        (Call("get", {"city": "Paris", "days": None}), ALL),
        "Olmo 3",
    ),
    Case(
        "python_list",
        f"<|tool_call_start|>[Write(path='a.py', append=True, mode=3, content='''{PY}it's ]''')]",
        (Call("Write", {"path": "a.py", "append": True, "mode": 3, "content": PY + "it's ]"}),),
        "a long string",
    ),
    Case("bare_python_list", "[get(city='Paris')]", (GET,), "Llama 3.2"),
    Case("bare_python_list", "[get_all(), get(city='Paris')]<|eot|>", (ALL, GET), "Llama 4"),
    Case(
        "bare_python_list",
        "[get(city='it\\'s ) ] \\u00e9', where={'x': [1, -2.5e3, None], \"y\": False})]",
        (Call("get", {"city": "it's ) ] é", "where": {"x": [1, -2500, None], "y": False}}),),
        "brackets and quotes in a string, nested values",
    ),
    Case(
        "tool_call_token",
        f'<|tool_call|>[{{"name": "get", "arguments": {CITY}}}]<|/tool_call|>',
        (GET,),
    ),
    Case("tool_call_token", f'functools[{{"name": "get", "arguments": {CITY}}}]', (GET,), "Phi-4"),
    Case(
        "cohere",
        f'<|START_ACTION|>[\n    {{"tool_call_id": "0", "tool_name": "get", "parameters": {CITY}}}\n'
        "]<|END_ACTION|>",
        (GET,),
    ),
    Case("fence", f'```json\n{{"name": "get", "arguments": {CITY}}}\n```', (GET,)),
    Case("fence", f'```\n{{"name": "get", "parameters": {CITY}}}\n```\n', (GET,)),
    Case(
        "fence",
        f'```json\n{{"name": "get", "arguments": {CITY}}}\n```\n\n'
        '```json\n{"name": "get_all", "arguments": {}}\n```',
        (GET, ALL),
    ),
    Case("bare", f'{{"name": "get", "arguments": {CITY}}}', (GET,), "Qwen2.5-Coder"),
    Case("bare", f'{{"name": "get", "parameters": {CITY}}}', (GET,), "Llama 3.1"),
    Case(
        "bare",
        f'{{"type": "function", "name": "get", "parameters": {CITY}}}',
        (GET,),
        "Llama 3.2 with a type",
    ),
    Case(
        "bare",
        f'{{"name": "get", "parameters": {CITY}}}; {{"name": "get_all", "parameters": {{}}}}',
        (GET, ALL),
    ),
    Case(
        "bare",
        f'[{{"type": "function", "function": {{"name": "get", "arguments": {json.dumps(CITY)}}}}}]',
        (GET,),
        "OpenAI's shape",
    ),
]

by_case = pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.form}-{c.note or c.text[:24]}")
points = st.lists(st.integers(0, 10_000), max_size=8)


# --------------------------------------------------------------------------- helpers


def cut(text: str, points: Iterable[int]) -> list[str]:
    at = sorted({0, len(text), *(p % (len(text) + 1) for p in points)})
    return [text[a:b] for a, b in itertools.pairwise(at)]


def answer(pieces: Iterable[str], reason: StopReason = "end") -> list[Event]:
    deltas = (TextDelta(piece) for piece in pieces)
    return [Start("chatcmpl-1"), *deltas, Finish(reason), UsageReport(Usage(1, 1)), End()]


def run(stage: Stage, events: Iterable[Event]) -> list[Event]:
    return [out for event in events for out in stage.feed(event)]


def merged(events: Iterable[Event]) -> list[Event]:
    """With neighbouring deltas of one kind as one: how they are cut does not matter."""
    out: list[Event] = []
    for event in events:
        last = out[-1] if out else None
        match last, event:
            case TextDelta(), TextDelta():
                out[-1] = TextDelta(last.text + event.text)
            case ThinkingDelta(), ThinkingDelta():
                out[-1] = ThinkingDelta(last.text + event.text)
            case ToolCallDelta(), ToolCallDelta() if last.call == event.call:
                out[-1] = ToolCallDelta(last.call, last.arguments + event.arguments)
            case _:
                out.append(event)
    return out


def text_of(events: Iterable[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def thinking_of(events: Iterable[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, ThinkingDelta))


def calls_of(events: Iterable[Event]) -> tuple[tuple[str, str], ...]:
    calls: dict[int, tuple[str, str]] = {}
    for event in events:
        if isinstance(event, ToolCallStart):
            calls[event.call] = (event.name, "")
        elif isinstance(event, ToolCallDelta):
            name, arguments = calls[event.call]
            calls[event.call] = (name, arguments + event.arguments)
    return tuple(calls.values())


def parsed(events: Iterable[Event]) -> tuple[Call, ...]:
    return tuple(Call(name, json.loads(arguments)) for name, arguments in calls_of(events))


def reason_of(events: Iterable[Event]) -> str:
    (reason,) = (event.reason for event in events if isinstance(event, Finish))
    return reason


def rescued(
    text: str | Sequence[str], reason: StopReason = "end", tools: Sequence[Tool] = TOOLS
) -> list[Event]:
    pieces = [text] if isinstance(text, str) else text
    return run(CallRescue(tools), answer(pieces, reason))


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


NASTY = st.lists(
    st.one_of(
        st.sampled_from(
            sorted({piece for form in FORMS for head in form.compiled for piece in head})
            + sorted({mark for form in FORMS for mark in (*form.after, form.close)})
            + ["get", "get_all", "Write", CITY, "{}", "{", "}", '"', "\\", "<", "\n", "[", "]"]
            + [case.text for case in CASES]
            + ["\ud800", "<parameter=", '"arguments":', "<think>", "</think>"]
        ),
        st.text(max_size=5),
    ),
    max_size=12,
).map("".join)


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


@settings(max_examples=300, deadline=None)
@given(text=NASTY, points=points, starts_inside=st.booleans())
def test_anything_through_all_stages(text: str, points: list[int], starts_inside: bool) -> None:
    whole = stages(TOOLS, starts_inside=starts_inside).feed_all(answer([text]))
    parts = stages(TOOLS, starts_inside=starts_inside).feed_all(answer(cut(text, points)))
    assert merged(parts) == merged(whole)
    assert isinstance(whole[-1], End)


# --------------------------------------------------------------------------- thinking


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


# --------------------------------------------------------------------------- arguments


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
