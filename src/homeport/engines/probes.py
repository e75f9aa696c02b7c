"""What a running engine can do, found out by asking: a table of probes, all pure.

A probe is one claim about the engine ("obeys tool_choice required"), the requests that test it and a
judge that reads the replies. ``runtime.check`` sends them; ``engines.records`` makes facts of what was
found. A small model may fail where its engine does not, so a judge says ``no`` only to what the engine
did, and ``unsure`` to what the model may have failed at.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

import msgspec

from homeport.engines import response_shapes
from homeport.engines.answers import decoded, items
from homeport.spec import UpstreamDialect
from homeport.wire.anthropic_upstream import UsageSum, WireUsage

Result = Literal["yes", "no", "unsure"]


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """One request; ``model`` is filled in by who sends it. Without a body it is a GET.

    ``leave`` closes the connection as soon as the answer has begun.
    """

    path: str = "/v1/chat/completions"
    body: Mapping[str, Any] | None = None
    leave: bool = False


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """Status 0: no answer came."""

    status: int = 0
    body: bytes = b""
    took_s: float = 0.0

    @property
    def json(self) -> Any:
        return decoded(self.body)

    @property
    def message(self) -> dict[str, Any]:
        """The first choice's message, or nothing."""
        choice = self.choice
        message = choice.get("message")
        return message if isinstance(message, dict) else {}

    @property
    def choice(self) -> dict[str, Any]:
        choices = _get(self.json, "choices")
        first = choices[0] if isinstance(choices, list) and choices else None
        return first if isinstance(first, dict) else {}

    @property
    def text(self) -> str:
        content = self.message.get("content")
        return content if isinstance(content, str) else ""

    @property
    def calls(self) -> list[str]:
        """The names of the tools that it calls."""
        calls = self.message.get("tool_calls")
        names = (
            [_get(_get(c, "function"), "name") for c in calls] if isinstance(calls, list) else []
        )
        return [name for name in names if isinstance(name, str)]

    @property
    def prompt_tokens(self) -> int | None:
        count = _get(_get(self.json, "usage"), "prompt_tokens")
        return count if type(count) is int else None

    @property
    def frames(self) -> list[dict[str, Any]]:
        """The data of its events, where it is a stream."""
        lines = self.body.split(b"\n")
        found = [decoded(line[5:]) for line in lines if line.startswith(b"data:")]
        return [value for value in found if isinstance(value, dict)]

    @property
    def refusal(self) -> str:
        """What it says instead of an answer."""
        error = _get(self.json, "error")
        words = _get(error, "message") or (error if isinstance(error, str) else None)
        words = words or _get(self.json, "message")
        text = words if isinstance(words, str) else self.body[:200].decode("utf-8", "replace")
        head = f"status {self.status}" if self.status else "no answer"
        return f"{head}: {' '.join(text.split())[:120]}" if text else head


class Finding(msgspec.Struct, frozen=True):
    """What a probe found: the result, and what was seen."""

    result: Result
    seen: str


Judge = Callable[[tuple[Reply, ...]], Finding]


class Probe(msgspec.Struct, frozen=True):
    feature: str
    says: str
    """The claim, for people."""
    asks: tuple[Ask, ...]
    judge: Judge


def _get(value: object, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None


def _found(is_so: bool, seen: str, otherwise: Result = "no") -> Finding:
    return Finding("yes" if is_so else otherwise, seen)


# --------------------------------------------------------------------------- requests

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


def _tool(name: str = "get_weather", schema: Mapping[str, Any] = CITY) -> dict[str, Any]:
    function = {"name": name, "description": "Tells the weather.", "parameters": schema}
    return {"type": "function", "function": function}


def _chat(*messages: Mapping[str, Any], **fields: Any) -> Ask:
    body = {"messages": messages or (HELLO,), "max_tokens": SHORT, "temperature": 0, **fields}
    return Ask(body=body)


def _calling(choice: Any, *tools: Mapping[str, Any]) -> Ask:
    return _chat(WEATHER, tools=tools or (_tool(),), tool_choice=choice, max_tokens=CALL)


def _messages(text: str = "Say hello.", **fields: Any) -> Ask:
    body = {"messages": [{"role": "user", "content": text}], "max_tokens": SHORT, **fields}
    return Ask(path="/v1/messages", body={"temperature": 0, **body})


_A_TOOL: Final = {"name": "get_weather", "description": "Tells the weather.", "input_schema": CITY}


def _messages_call(**fields: Any) -> Ask:
    choice = {"type": "any"}
    return _messages(
        WEATHER["content"], tools=[_A_TOOL], tool_choice=choice, max_tokens=CALL, **fields
    )


# --------------------------------------------------------------------------- judges


def _accepted(replies: tuple[Reply, ...]) -> Finding:
    """Every request was answered; a refusal of the last one is a no."""
    last = replies[-1]
    if last.status == 200:
        return Finding("yes", "accepted")
    return Finding("no" if 400 <= last.status < 500 else "unsure", last.refusal)


def _needs_answer(judge: Callable[[Reply], Finding]) -> Judge:
    """For one reply: what is refused is a no, silence is unsure."""

    def judged(replies: tuple[Reply, ...]) -> Finding:
        reply = replies[-1]
        if reply.status != 200:
            return Finding("no" if reply.status >= 400 else "unsure", reply.refusal)
        return judge(reply)

    return judged


def _system_inside(replies: tuple[Reply, ...]) -> Finding:
    """Taken wherever a client may put it, seen by the model, and left in its place: what moves to the
    front changes the head of the prompt, and the cached prefix is lost. Only a route that renders the
    prompt tells that."""
    count = 1 + len(_NOTED)
    without, *within = replies[:count]
    if without.status != 200:
        return Finding("unsure", without.refusal)
    for place, reply in zip(_NOTED, within, strict=True):
        if reply.status != 200:
            return Finding("no", f"{place}: {reply.refusal}")
        before, after = without.prompt_tokens, reply.prompt_tokens
        if before is None or after is None:
            return Finding("unsure", "accepted; the usage does not tell whether the model sees it")
        if after <= before:
            return Finding("no", f"{place}: the prompt has {after - before:+d} tokens with it")
    prompts = [_rendered(reply) for reply in replies[count:]]
    for begun, whole, ended in (prompts[:3], prompts[3:]):
        if begun and whole and ended:
            is_there = _shared(whole, ended) > _shared(begun, whole)
            return _found(is_there, "it stays in its place" if is_there else "it is moved forward")
    return Finding("unsure", "accepted; where it stands cannot be seen")


def _rendered(reply: Reply) -> str | list[Any] | None:
    """The prompt: llama.cpp's as text, vLLM's as tokens."""
    found = _get(reply.json, "prompt") or _get(reply.json, "tokens")
    return found if reply.status == 200 and isinstance(found, str | list) else None


def _shared(a: str | list[Any], b: str | list[Any]) -> int:
    """How long the two are the same."""
    pairs = enumerate(zip(a, b, strict=False))
    return next((i for i, (x, y) in pairs if x != y), min(len(a), len(b)))


@_needs_answer
def _auto(reply: Reply) -> Finding:
    called = ", ".join(reply.calls)
    return Finding("yes", f"called {called}" if called else "accepted; no call was made")


@_needs_answer
def _required(reply: Reply) -> Finding:
    if reply.calls:
        return Finding("yes", f"called {', '.join(reply.calls)}")
    if reply.choice.get("finish_reason") == "length":
        return Finding("unsure", "cut at the limit before a call")
    return Finding("no", f"no call: {reply.text[:60]!r}")


@_needs_answer
def _none(reply: Reply) -> Finding:
    return _found(not reply.calls, f"called {reply.calls[0]}" if reply.calls else "no call")


@_needs_answer
def _named(reply: Reply) -> Finding:
    """The question is about the weather, the tool that must be called is the other one."""
    if reply.calls:
        return _found(set(reply.calls) == {"get_time"}, f"called {', '.join(reply.calls)}")
    if reply.choice.get("finish_reason") == "length":
        return Finding("unsure", "cut at the limit before a call")
    return Finding("no", f"no call: {reply.text[:60]!r}")


@_needs_answer
def _obeyed(reply: Reply) -> Finding:
    """Whole, or a beginning that no free text has."""
    value = decoded(reply.text.encode())
    if isinstance(value, dict):
        is_so = isinstance(value.get("city"), str) and type(value.get("degrees")) is int
        return _found(is_so, reply.text[:60])
    is_cut = reply.choice.get("finish_reason") == "length"
    may_be = is_cut and reply.text.lstrip().startswith("{")
    return Finding("unsure" if may_be else "no", repr(reply.text[:60]))


def _survives(replies: tuple[Reply, ...]) -> Finding:
    """The plain tool works, the one with the keyword too: then the keyword breaks nothing."""
    plain, bounded = replies
    if plain.status != 200:
        return Finding("unsure", f"a plain tool fails already: {plain.refusal}")
    if bounded.status != 200:
        return Finding("no", bounded.refusal)
    if plain.calls and not bounded.calls and bounded.choice.get("finish_reason") != "length":
        return Finding("no", "no call is made any more")
    return Finding("yes", "the tool works")


def _sees(replies: tuple[Reply, ...]) -> Finding:
    """llama.cpp refuses an image with a 500; the words tell."""
    reply = replies[-1]
    if reply.status == 200:
        return Finding("yes", "accepted")
    is_about = any(word in reply.refusal.lower() for word in ("image", "vision", "modal"))
    return Finding("no" if is_about or 400 <= reply.status < 500 else "unsure", reply.refusal)


def _image_in_tool(replies: tuple[Reply, ...]) -> Finding:
    by_user, by_tool = replies
    if by_user.status != 200:
        return Finding("unsure", "the model takes no images at all")
    return _sees((by_tool,))


def _replayed(replies: tuple[Reply, ...]) -> Finding:
    """Whether the field makes the prompt longer. (A template may drop what is before the last user
    turn, so the answer that holds it is behind that one, with a call.)"""
    plain, thinking = replies
    if plain.status != 200:
        return Finding("unsure", plain.refusal)
    if thinking.status != 200:
        return Finding("no", thinking.refusal)
    before, after = plain.prompt_tokens, thinking.prompt_tokens
    if before is None or after is None:
        return Finding("unsure", "accepted; the usage does not tell whether the model sees it")
    if after > before:
        return Finding("yes", f"the prompt has {after - before:+d} tokens with it")
    return Finding("unsure", "accepted; the prompt is as long as without it")


@_needs_answer
def _stream_usage(reply: Reply) -> Finding:
    usages = [frame["usage"] for frame in reply.frames if isinstance(frame.get("usage"), dict)]
    if not reply.frames:
        return Finding("no", "no stream")
    return _found(bool(usages), f"{len(usages)} report" + "s" * (len(usages) != 1))


def _counted(key: str) -> Judge:
    """A count that is the prompt's in the usage of the same request."""

    def judged(replies: tuple[Reply, ...]) -> Finding:
        asked, counted = replies
        count = _get(counted.json, key)
        if counted.status != 200 or type(count) is not int:
            return Finding("no", counted.refusal)
        if asked.prompt_tokens is None:
            return Finding("unsure", f"{count} tokens; the usage does not tell")
        return _found(
            count == asked.prompt_tokens, f"{count}, the usage says {asked.prompt_tokens}"
        )

    return judged


@_needs_answer
def _stop_told(reply: Reply) -> Finding:
    """The stop string is a blank, which hardly any answer can do without."""
    hits = [reply.choice.get(key) for key in ("stop_reason", "matched_stop", "stopping_word")]
    hit = next((h for h in hits if isinstance(h, str) and h), None)
    if hit is not None:
        return Finding("yes", f"told: {hit!r}")
    if reply.choice.get("finish_reason") == "length":
        return Finding("unsure", "it was not hit")
    return Finding("no", f"only finish_reason {reply.choice.get('finish_reason')!r}")


@_needs_answer
def _stops(reply: Reply) -> Finding:
    return _found(" " not in reply.text, repr(reply.text[:40]))


BUSY_S: Final = 3.0
"""A short answer that takes longer than this waits for something."""


def _freed(replies: tuple[Reply, ...]) -> Finding:
    """1. ``/slots`` says that nothing is computed. 2. Without it: a short request is answered."""
    left, slots, after = replies
    if left.status != 200:
        return Finding("unsure", left.refusal)
    busy = [_get(slot, "is_processing") for slot in slots.json or ()] if slots.status == 200 else []
    if busy and all(type(is_busy) is bool for is_busy in busy):  # case 1
        return _found(not any(busy), f"{sum(busy)} of {len(busy)} slots busy after it")
    if after.status != 200:  # case 2
        return Finding("unsure", after.refusal)
    took = f"the next answer took {after.took_s:.1f} s"
    return Finding("yes" if after.took_s < BUSY_S else "unsure", took)


def _is_message(replies: tuple[Reply, ...]) -> Finding:
    """The shape that SDKs need (docs/dialects.md 1.8), and all of the prompt in the usage, also where a
    part of it was cached: clients compact by it."""
    chat, _, reply = replies
    if reply.status != 200:
        return Finding("no" if reply.status >= 400 else "unsure", reply.refusal)
    value = reply.json
    usage = UsageSum()
    if isinstance(_get(value, "usage"), dict):
        usage.take(msgspec.convert(value["usage"], WireUsage, strict=False))
    counted = usage.neutral.prompt_tokens if usage.neutral is not None else None
    claims = {
        "type": _get(value, "type") == "message",
        "id": str(_get(value, "id")).startswith("msg_"),
        "content": isinstance(_get(value, "content"), list),
        "stop_reason": isinstance(_get(value, "stop_reason"), str),
        "usage": counted is not None and counted == (chat.prompt_tokens or counted),
    }
    wrong = [name for name, is_so in claims.items() if not is_so]
    return _found(not wrong, f"wrong: {', '.join(wrong)}" if wrong else "a message")


@_needs_answer
def _is_message_stream(reply: Reply) -> Finding:
    """The order of docs/dialects.md 1.9, with names of events, and usage at both ends."""
    kinds = [str(frame.get("type")) for frame in reply.frames if frame.get("type") != "ping"]
    if kinds[:1] != ["message_start"] or kinds[-2:] != ["message_delta", "message_stop"]:
        return Finding("no", f"events: {', '.join(kinds[:2] + kinds[-2:]) or 'none'}")
    if reply.body.count(b"event:") < len(kinds):
        return Finding("no", "events without names")
    started = _get(_get(reply.frames[0], "message"), "usage")
    ended = next(f for f in reply.frames[::-1] if f.get("type") == "message_delta")
    told = type(_get(started, "input_tokens")) is int and "usage" in ended
    return _found(told, f"{len(kinds)} events" if told else "usage is missing")


def _tool_use(reply: Reply) -> dict[str, Any]:
    content = _get(reply.json, "content")
    blocks = (
        [b for b in content if _get(b, "type") == "tool_use"] if isinstance(content, list) else []
    )
    return blocks[0] if blocks else {}


def _is_tool_use(replies: tuple[Reply, ...]) -> Finding:
    """Whole and streamed; in a stream the block begins with an empty ``input``, or SDKs stumble."""
    whole, stream = replies
    if whole.status != 200 or stream.status != 200:
        refused = whole if whole.status != 200 else stream
        return Finding("no" if refused.status >= 400 else "unsure", refused.refusal)
    block, reason = _tool_use(whole), _get(whole.json, "stop_reason")
    if not block:
        return Finding("unsure" if reason == "max_tokens" else "no", "no tool_use block")
    begun = [_get(frame, "content_block") for frame in stream.frames]
    start = next((b for b in begun if _get(b, "type") == "tool_use"), None)
    if not isinstance(block.get("input"), dict) or reason != "tool_use":
        return Finding("no", f"called {block.get('name')}, {reason}")
    if start is None or start.get("input") != {}:
        return Finding("no", "a streamed tool_use block begins without an empty input")
    return Finding("yes", f"called {block.get('name')}")


@_needs_answer
def _tells_stop_sequence(reply: Reply) -> Finding:
    reason, hit = _get(reply.json, "stop_reason"), _get(reply.json, "stop_sequence")
    if reason == "max_tokens":
        return Finding("unsure", "it was not hit")
    return _found(reason == "stop_sequence" and hit == " ", f"{reason}, {hit!r}")


def _is_response(replies: tuple[Reply, ...]) -> Finding:
    """All of the prompt is in the usage, also where a part of it was cached."""
    chat, _, reply = replies
    if reply.status != 200:
        return Finding("no" if reply.status >= 400 else "unsure", reply.refusal)
    wrong = response_shapes.response_faults(reply.json, chat.prompt_tokens)
    return _found(not wrong, _told(wrong, "a response"))


@_needs_answer
def _is_response_stream(reply: Reply) -> Finding:
    wrong = response_shapes.stream_faults(reply.frames)
    return _found(not wrong, _told(wrong, f"{len(reply.frames)} events"))


def _told(wrong: list[str], otherwise: str) -> str:
    return f"wrong: {', '.join(wrong[:4])}" if wrong else otherwise


def _is_function_call(replies: tuple[Reply, ...]) -> Finding:
    """Whole and streamed, with arguments that are an object."""
    whole, stream = replies
    if whole.status != 200 or stream.status != 200:
        refused = whole if whole.status != 200 else stream
        return Finding("no" if refused.status >= 400 else "unsure", refused.refusal)
    streamed = _get(stream.frames[-1], "response") if stream.frames else None
    for response in (whole.json, streamed):
        call = response_shapes.call_in(response)
        if not call:
            is_cut = _get(response, "status") == "incomplete"
            return Finding("unsure" if is_cut else "no", "no function_call")
        if not isinstance(decoded(str(call.get("arguments")).encode()), dict):
            return Finding("unsure", "its arguments are no object")
    wrong = response_shapes.response_faults(whole.json)
    wrong += response_shapes.stream_faults(stream.frames)
    return _found(not wrong, _told(wrong, "called get_weather"))


@_needs_answer
def _response_obeys(reply: Reply) -> Finding:
    output = _get(reply.json, "output")
    texts = [response_shapes.text_of(item) for item in output if _get(item, "type") == "message"]
    value = decoded("".join(texts).encode())
    if isinstance(value, dict):
        is_so = isinstance(value.get("city"), str) and type(value.get("degrees")) is int
        return _found(is_so, "".join(texts)[:60])
    may_be = _get(reply.json, "status") == "incomplete" and "".join(texts).lstrip().startswith("{")
    return Finding("unsure" if may_be else "no", repr("".join(texts)[:60]))


def _response_thinks(replies: tuple[Reply, ...]) -> Finding:
    """Takes an effort, and reads the reasoning that comes back: the prompt is longer with it."""
    effort, plain, thinking = replies
    if plain.status != 200:
        return Finding("unsure", plain.refusal)
    for reply in (effort, thinking):
        if reply.status != 200:
            return Finding("no" if reply.status >= 400 else "unsure", reply.refusal)
    before, after = (_get(_get(r.json, "usage"), "input_tokens") for r in (plain, thinking))
    if type(before) is not int or type(after) is not int:
        return Finding("unsure", "the usage does not tell whether the model sees it")
    if after > before:
        return Finding("yes", f"the prompt has {after - before:+d} tokens with it")
    return Finding("unsure", "accepted; the prompt is as long as without it")


def _is_list(replies: tuple[Reply, ...]) -> Finding:
    found = items(replies[0].json)
    return _found(bool(found), f"{len(found)} listed" if found else replies[0].refusal)


# --------------------------------------------------------------------------- the table

_THINKING_CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "get_weather", "arguments": '{"city":"Oslo"}'},
}
_CALLED = {"role": "assistant", "content": "", "tool_calls": [_THINKING_CALL]}
_RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "Rain."}
_THOUGHT = "They want the weather of Oslo, so the tool has to be called first of all."
_NOTE = {"role": "system", "content": "From now on be very brief, please."}
_TALK = (
    WEATHER,
    _CALLED,
    _RESULT,
    {"role": "assistant", "content": "It rains in Oslo."},
    {"role": "user", "content": "Thanks. Will it rain tomorrow, too?"},
)
_NOTED: Final = {
    "behind a user turn": 1,
    "behind a result": 3,
    "in front of a user turn": 4,
    "at the end": 5,
}
"""Places of a system turn, and how much of ``_TALK`` stands in front of it."""


def _systems_inside() -> tuple[Ask, ...]:
    """The talk; with a note at each place; and its beginning, itself and itself with a note at the end
    as prompts: that note must come behind more of the talk than its beginning."""
    noted = [(*_TALK[:at], _NOTE, *_TALK[at:]) for at in _NOTED.values()]
    talks = [_chat(*talk, tools=(_tool(),), max_tokens=1) for talk in (_TALK, *noted)]
    rendered = [_chat(*talk, tools=(_tool(),)) for talk in (_TALK[:1], _TALK, noted[-1])]
    routes = ("/apply-template", "/tokenize")  # llama.cpp, vLLM
    return (*talks, *(Ask(path=route, body=ask.body) for route in routes for ask in rendered))


def _replay(key: str) -> tuple[Ask, ...]:
    tools = (_tool(),)
    plain = _chat(WEATHER, _CALLED, _RESULT, tools=tools)
    return (plain, _chat(WEATHER, {**_CALLED, key: _THOUGHT}, _RESULT, tools=tools))


def _bounded(keywords: Mapping[str, Any], kind: str = "string") -> tuple[Ask, ...]:
    value = {"type": kind, **keywords}
    schema = {"type": "object", "properties": {"city": value}, "required": ["city"]}
    plain = {"type": "object", "properties": {"city": {"type": kind}}, "required": ["city"]}
    return (
        _calling("required", _tool(schema=plain)),
        _calling("required", _tool(schema=schema)),
    )


_DEGREES = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "degrees": {"type": "integer"}},
    "required": ["city", "degrees"],
    "additionalProperties": False,
}
_SCHEMA = {"type": "json_schema", "json_schema": {"name": "w", "schema": _DEGREES, "strict": True}}
_IMAGE = {"type": "image_url", "image_url": {"url": PIXEL}}
_SEEN = {"role": "user", "content": [{"type": "text", "text": "What is this?"}, _IMAGE]}

_ASKED: Final = {"type": "message", **WEATHER}
_THINKS = {
    "id": "rs_1",
    "type": "reasoning",
    "summary": [],
    "content": [{"type": "reasoning_text", "text": _THOUGHT}],
}
_CALLS = {
    "id": "fc_1",
    "type": "function_call",
    "call_id": "call_1",
    "name": "get_weather",
    "arguments": '{"city":"Oslo"}',
}
_CALLS_RESULT = {"type": "function_call_output", "call_id": "call_1", "output": "Rain."}
_RESPONSE_SCHEMA = {"type": "json_schema", "name": "w", "schema": _DEGREES, "strict": True}


def _response(input_: Any = "Say hello.", **fields: Any) -> Ask:
    body = {"input": input_, "max_output_tokens": SHORT, "temperature": 0, "store": False}
    return Ask(path="/v1/responses", body={**body, **fields})


def _response_with_tool(*items: Mapping[str, Any], **fields: Any) -> Ask:
    tool = {"type": "function", **_tool()["function"]}
    return _response([_ASKED, *items], tools=[tool], **fields)


def _response_call(**fields: Any) -> Ask:
    return _response_with_tool(tool_choice="required", max_output_tokens=CALL, **fields)


_COUNTED = _chat(HELLO, max_tokens=1)
_LONG = {"role": "user", "content": "Count from one to a thousand, one number a line."}

PROBES: Final[tuple[Probe, ...]] = (
    Probe("system_inside", "system turn in the middle", _systems_inside(), _system_inside),
    Probe("tool_choice_auto", "tool_choice auto", (_calling("auto"),), _auto),
    Probe("tool_choice_required", "tool_choice required", (_calling("required"),), _required),
    Probe("tool_choice_none", "tool_choice none", (_calling("none"),), _none),
    Probe(
        "tool_choice_named",
        "tool_choice naming a tool",
        (
            _calling(
                {"type": "function", "function": {"name": "get_time"}}, _tool(), _tool("get_time")
            ),
        ),
        _named,
    ),
    Probe(
        "parallel_tool_calls",
        "parallel_tool_calls is taken",
        (_chat(WEATHER, tools=(_tool(),), parallel_tool_calls=False),),
        _accepted,
    ),
    Probe(
        "schema",
        "response_format json_schema is obeyed",
        (_chat(WEATHER, response_format=_SCHEMA, max_tokens=CALL),),
        _obeyed,
    ),
    Probe(
        "schema_max_length",
        "tools survive a large maxLength",
        _bounded({"maxLength": 100_000}),
        _survives,
    ),
    Probe(
        "schema_min_length",
        "tools survive a large minLength",
        _bounded({"minLength": 2500}),
        _survives,
    ),
    Probe(
        "schema_pattern",
        "tools survive pattern",
        _bounded({"pattern": "^(?!x)[A-Z]\\w+$"}),
        _survives,
    ),
    Probe(
        "schema_bounds",
        "tools survive numeric bounds",
        _bounded({"exclusiveMinimum": 0.5, "maximum": 1e18}, "number"),
        _survives,
    ),
    Probe("image", "image in a user turn", (_chat(_SEEN),), _sees),
    Probe(
        "image_in_tool",
        "image in a tool result",
        (_chat(_SEEN), _chat(WEATHER, _CALLED, {**_RESULT, "content": [_IMAGE]}, tools=(_tool(),))),
        _image_in_tool,
    ),
    Probe(
        "reasoning_content",
        "replayed reasoning_content is read",
        _replay("reasoning_content"),
        _replayed,
    ),
    Probe("reasoning", "replayed reasoning is read", _replay("reasoning"), _replayed),
    Probe(
        "reasoning_effort", "reasoning_effort is taken", (_chat(reasoning_effort="low"),), _accepted
    ),
    Probe(
        "template_kwargs",
        "chat_template_kwargs is taken",
        (_chat(chat_template_kwargs={"enable_thinking": False}),),
        _accepted,
    ),
    Probe("top_k", "top_k is taken", (_chat(top_k=20),), _accepted),
    Probe(
        "stream_usage",
        "usage in a stream",
        (_chat(stream=True, stream_options={"include_usage": True}),),
        _stream_usage,
    ),
    Probe(
        "count_chat_input_tokens",
        "exact count: /v1/chat/completions/input_tokens",
        (_COUNTED, Ask(path="/v1/chat/completions/input_tokens", body=_COUNTED.body)),
        _counted("input_tokens"),
    ),
    Probe(
        "count_tokenize",
        "exact count: /tokenize",
        (_COUNTED, Ask(path="/tokenize", body=_COUNTED.body)),
        _counted("count"),
    ),
    Probe("stop", "stops at a stop string", (_chat(stop=[" "]),), _stops),
    Probe("stop_told", "tells which stop string", (_chat(stop=[" "]),), _stop_told),
    Probe(
        "abort",
        "a closed connection frees the engine",
        (
            Ask(body={"messages": [_LONG], "max_tokens": 2000, "stream": True}, leave=True),
            Ask(path="/slots"),
            _chat(max_tokens=1),
        ),
        _freed,
    ),
    Probe(
        "messages",
        "/v1/messages answers in Anthropic's shape",
        (_chat(), _messages(), _messages()),
        _is_message,
    ),
    Probe(
        "messages_stream", "… streams in its order", (_messages(stream=True),), _is_message_stream
    ),
    Probe(
        "messages_tools",
        "… calls a tool that it must call",
        (_messages_call(), _messages_call(stream=True)),
        _is_tool_use,
    ),
    Probe(
        "messages_stop",
        "… tells which stop sequence",
        (_messages(stop_sequences=[" "]),),
        _tells_stop_sequence,
    ),
    Probe(
        "responses",
        "/v1/responses answers in OpenAI's shape",
        (_chat(), _response(), _response()),
        _is_response,
    ),
    Probe(
        "responses_stream",
        "… streams in its order",
        (_response(stream=True),),
        _is_response_stream,
    ),
    Probe(
        "responses_tools",
        "… calls a tool that it must call",
        (_response_call(), _response_call(stream=True)),
        _is_function_call,
    ),
    Probe(
        "responses_schema",
        "… obeys a schema",
        (_response(WEATHER["content"], text={"format": _RESPONSE_SCHEMA}, max_output_tokens=CALL),),
        _response_obeys,
    ),
    Probe(
        "responses_reasoning",
        "… takes an effort, reads replayed reasoning",
        (
            _response(reasoning={"effort": "low"}),
            _response_with_tool(_CALLS, _CALLS_RESULT),
            _response_with_tool(_THINKS, _CALLS, _CALLS_RESULT),
        ),
        _response_thinks,
    ),
    Probe("models", "/v1/models lists models", (Ask(path="/v1/models"),), _is_list),
)
"""In the order in which they run; ``abort`` leaves work behind, so what follows it is short."""


def probes_for(dialect: UpstreamDialect) -> tuple[Probe, ...]:
    """Those that an upstream of this dialect can be asked."""
    if dialect == "openai_chat":
        return PROBES
    return tuple(probe for probe in PROBES if probe.feature.startswith(("messages", "models")))
