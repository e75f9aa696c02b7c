"""The requests that probes are made of: small, greedy where that can be said, and in each dialect."""

from collections.abc import Mapping
from typing import Any, Final

from homeport.engines.findings import Ask

SHORT: Final = 16
CALL: Final = 200
"""Tokens that an answer may have; a call with its arguments is longer."""

HELLO: Final = {"role": "user", "content": "Say hello."}
WEATHER: Final = {"role": "user", "content": "What is the weather in Oslo? Use the tool."}
CITY: Final = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}
PIXEL: Final = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGA"
    "WjR9awAAAABJRU5ErkJggg=="
)


def tool(name: str = "get_weather", schema: Mapping[str, Any] = CITY) -> dict[str, Any]:
    function = {"name": name, "description": "Tells the weather.", "parameters": schema}
    return {"type": "function", "function": function}


def chat(*messages: Mapping[str, Any], **fields: Any) -> Ask:
    body = {"messages": messages or (HELLO,), "max_tokens": SHORT, "temperature": 0, **fields}
    return Ask(body=body)


def calling(choice: Any, *tools: Mapping[str, Any]) -> Ask:
    return chat(WEATHER, tools=tools or (tool(),), tool_choice=choice, max_tokens=CALL)


def messages(text: str = "Say hello.", **fields: Any) -> Ask:
    body = {"messages": [{"role": "user", "content": text}], "max_tokens": SHORT, **fields}
    return Ask(path="/v1/messages", body={"temperature": 0, **body})


_A_TOOL: Final = {"name": "get_weather", "description": "Tells the weather.", "input_schema": CITY}


def messages_call(**fields: Any) -> Ask:
    choice = {"type": "any"}
    return messages(
        WEATHER["content"], tools=[_A_TOOL], tool_choice=choice, max_tokens=CALL, **fields
    )


_THINKING_CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "get_weather", "arguments": '{"city":"Oslo"}'},
}
CALLED = {"role": "assistant", "content": "", "tool_calls": [_THINKING_CALL]}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "Rain."}
_THOUGHT = "They want the weather of Oslo, so the tool has to be called first of all."
_NOTE = {"role": "system", "content": "From now on be very brief, please."}
_TALK = (
    WEATHER,
    CALLED,
    RESULT,
    {"role": "assistant", "content": "It rains in Oslo."},
    {"role": "user", "content": "Thanks. Will it rain tomorrow, too?"},
)
NOTED: Final = {
    "behind a user turn": 1,
    "behind a result": 3,
    "in front of a user turn": 4,
    "at the end": 5,
}
"""Places of a system turn, and how much of ``_TALK`` stands in front of it."""


def systems_inside() -> tuple[Ask, ...]:
    """The talk; with a note at each place; and its beginning, itself and itself with a note at the end
    as prompts: that note must come behind more of the talk than its beginning."""
    noted = [(*_TALK[:at], _NOTE, *_TALK[at:]) for at in NOTED.values()]
    talks = [chat(*talk, tools=(tool(),), max_tokens=1) for talk in (_TALK, *noted)]
    rendered = [chat(*talk, tools=(tool(),)) for talk in (_TALK[:1], _TALK, noted[-1])]
    routes = ("/apply-template", "/tokenize")  # llama.cpp, vLLM
    return (*talks, *(Ask(path=route, body=ask.body) for route in routes for ask in rendered))


def replay(key: str) -> tuple[Ask, ...]:
    tools = (tool(),)
    plain = chat(WEATHER, CALLED, RESULT, tools=tools)
    return (plain, chat(WEATHER, {**CALLED, key: _THOUGHT}, RESULT, tools=tools))


def bounded(keywords: Mapping[str, Any], kind: str = "string") -> tuple[Ask, ...]:
    value = {"type": kind, **keywords}
    schema = {"type": "object", "properties": {"city": value}, "required": ["city"]}
    plain = {"type": "object", "properties": {"city": {"type": kind}}, "required": ["city"]}
    return (
        calling("required", tool(schema=plain)),
        calling("required", tool(schema=schema)),
    )


_DEGREES = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "degrees": {"type": "integer"}},
    "required": ["city", "degrees"],
    "additionalProperties": False,
}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "w", "schema": _DEGREES, "strict": True}}
IMAGE = {"type": "image_url", "image_url": {"url": PIXEL}}
SEEN = {"role": "user", "content": [{"type": "text", "text": "What is this?"}, IMAGE]}

_ASKED: Final = {"type": "message", **WEATHER}
THINKS = {
    "id": "rs_1",
    "type": "reasoning",
    "summary": [],
    "content": [{"type": "reasoning_text", "text": _THOUGHT}],
}
CALLS = {
    "id": "fc_1",
    "type": "function_call",
    "call_id": "call_1",
    "name": "get_weather",
    "arguments": '{"city":"Oslo"}',
}
CALLS_RESULT = {"type": "function_call_output", "call_id": "call_1", "output": "Rain."}
RESPONSE_SCHEMA = {"type": "json_schema", "name": "w", "schema": _DEGREES, "strict": True}


def response(input_: Any = "Say hello.", **fields: Any) -> Ask:
    body = {"input": input_, "max_output_tokens": SHORT, "temperature": 0, "store": False}
    return Ask(path="/v1/responses", body={**body, **fields})


def response_with_tool(*items: Mapping[str, Any], **fields: Any) -> Ask:
    flat = {"type": "function", **tool()["function"]}
    return response([_ASKED, *items], tools=[flat], **fields)


def response_call(**fields: Any) -> Ask:
    return response_with_tool(tool_choice="required", max_output_tokens=CALL, **fields)


COUNTED = chat(HELLO, max_tokens=1)
LONG = {"role": "user", "content": "Count from one to a thousand, one number a line."}
