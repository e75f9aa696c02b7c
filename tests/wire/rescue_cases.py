"""What the tests of calls and thinking in text share: cases for each form, and how answers are fed and
read."""

import itertools
import json
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import pytest
from hypothesis import strategies as st

from homeport.wire.call_forms import FORMS
from homeport.wire.events import (
    End,
    Event,
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
from homeport.wire.rescue import CallRescue
from homeport.wire.stages import Stage


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
