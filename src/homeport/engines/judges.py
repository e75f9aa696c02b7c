"""Reading the replies to probes. A small model may fail where its engine does not, so a judge says
``no`` only to what the engine did, and ``unsure`` to what the model may have failed at.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from homeport.engines import questions, response_shapes
from homeport.engines.answers import decoded, items
from homeport.engines.findings import Finding, Judge, Reply, found, get
from homeport.wire.anthropic_upstream_answer import UsageSum, WireUsage


def accepted(replies: tuple[Reply, ...]) -> Finding:
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


def system_inside(replies: tuple[Reply, ...]) -> Finding:
    """Taken wherever a client may put it, seen by the model, and left in its place: what moves to the
    front changes the head of the prompt, and the cached prefix is lost. Only a route that renders the
    prompt tells that."""
    count = 1 + len(questions.NOTED)
    without, *within = replies[:count]
    if without.status != 200:
        return Finding("unsure", without.refusal)
    for place, reply in zip(questions.NOTED, within, strict=True):
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
            return found(is_there, "it stays in its place" if is_there else "it is moved forward")
    return Finding("unsure", "accepted; where it stands cannot be seen")


def _rendered(reply: Reply) -> str | list[Any] | None:
    """The prompt: llama.cpp's as text, vLLM's as tokens."""
    shown = get(reply.json, "prompt") or get(reply.json, "tokens")
    return shown if reply.status == 200 and isinstance(shown, str | list) else None


def _shared(a: str | list[Any], b: str | list[Any]) -> int:
    """How long the two are the same."""
    pairs = enumerate(zip(a, b, strict=False))
    return next((i for i, (x, y) in pairs if x != y), min(len(a), len(b)))


@_needs_answer
def auto(reply: Reply) -> Finding:
    called = ", ".join(reply.calls)
    return Finding("yes", f"called {called}" if called else "accepted; no call was made")


@_needs_answer
def required(reply: Reply) -> Finding:
    if reply.calls:
        return Finding("yes", f"called {', '.join(reply.calls)}")
    if reply.choice.get("finish_reason") == "length":
        return Finding("unsure", "cut at the limit before a call")
    return Finding("no", f"no call: {reply.text[:60]!r}")


@_needs_answer
def none(reply: Reply) -> Finding:
    return found(not reply.calls, f"called {reply.calls[0]}" if reply.calls else "no call")


@_needs_answer
def named(reply: Reply) -> Finding:
    """The question is about the weather, the tool that must be called is the other one."""
    if reply.calls:
        return found(set(reply.calls) == {"get_time"}, f"called {', '.join(reply.calls)}")
    if reply.choice.get("finish_reason") == "length":
        return Finding("unsure", "cut at the limit before a call")
    return Finding("no", f"no call: {reply.text[:60]!r}")


@_needs_answer
def obeyed(reply: Reply) -> Finding:
    """Whole, or a beginning that no free text has."""
    value = decoded(reply.text.encode())
    if isinstance(value, dict):
        is_so = isinstance(value.get("city"), str) and type(value.get("degrees")) is int
        return found(is_so, reply.text[:60])
    is_cut = reply.choice.get("finish_reason") == "length"
    may_be = is_cut and reply.text.lstrip().startswith("{")
    return Finding("unsure" if may_be else "no", repr(reply.text[:60]))


def survives(replies: tuple[Reply, ...]) -> Finding:
    """The plain tool works, the one with the keyword too: then the keyword breaks nothing."""
    plain, bounded = replies
    if plain.status != 200:
        return Finding("unsure", f"a plain tool fails already: {plain.refusal}")
    if bounded.status != 200:
        return Finding("no", bounded.refusal)
    if plain.calls and not bounded.calls and bounded.choice.get("finish_reason") != "length":
        return Finding("no", "no call is made any more")
    return Finding("yes", "the tool works")


def sees(replies: tuple[Reply, ...]) -> Finding:
    """llama.cpp refuses an image with a 500; the words tell."""
    reply = replies[-1]
    if reply.status == 200:
        return Finding("yes", "accepted")
    is_about = any(word in reply.refusal.lower() for word in ("image", "vision", "modal"))
    return Finding("no" if is_about or 400 <= reply.status < 500 else "unsure", reply.refusal)


def image_in_tool(replies: tuple[Reply, ...]) -> Finding:
    by_user, by_tool = replies
    if by_user.status != 200:
        return Finding("unsure", "the model takes no images at all")
    return sees((by_tool,))


def replayed(replies: tuple[Reply, ...]) -> Finding:
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
def stream_usage(reply: Reply) -> Finding:
    usages = [frame["usage"] for frame in reply.frames if isinstance(frame.get("usage"), dict)]
    if not reply.frames:
        return Finding("no", "no stream")
    return found(bool(usages), f"{len(usages)} report" + "s" * (len(usages) != 1))


def counted(key: str) -> Judge:
    """A count that is the prompt's in the usage of the same request."""

    def judged(replies: tuple[Reply, ...]) -> Finding:
        asked, counted = replies
        count = get(counted.json, key)
        if counted.status != 200 or type(count) is not int:
            return Finding("no", counted.refusal)
        if asked.prompt_tokens is None:
            return Finding("unsure", f"{count} tokens; the usage does not tell")
        return found(count == asked.prompt_tokens, f"{count}, the usage says {asked.prompt_tokens}")

    return judged


@_needs_answer
def stop_told(reply: Reply) -> Finding:
    """The stop string is a blank, which hardly any answer can do without."""
    hits = [reply.choice.get(key) for key in ("stop_reason", "matched_stop", "stopping_word")]
    hit = next((h for h in hits if isinstance(h, str) and h), None)
    if hit is not None:
        return Finding("yes", f"told: {hit!r}")
    if reply.choice.get("finish_reason") == "length":
        return Finding("unsure", "it was not hit")
    return Finding("no", f"only finish_reason {reply.choice.get('finish_reason')!r}")


@_needs_answer
def stops(reply: Reply) -> Finding:
    return found(" " not in reply.text, repr(reply.text[:40]))


BUSY_S: Final = 3.0
"""A short answer that takes longer than this waits for something."""


def freed(replies: tuple[Reply, ...]) -> Finding:
    """1. ``/slots`` says that nothing is computed. 2. Without it: a short request is answered."""
    left, slots, after = replies
    if left.status != 200:
        return Finding("unsure", left.refusal)
    busy = [get(slot, "is_processing") for slot in slots.json or ()] if slots.status == 200 else []
    if busy and all(type(is_busy) is bool for is_busy in busy):  # case 1
        return found(not any(busy), f"{sum(busy)} of {len(busy)} slots busy after it")
    if after.status != 200:  # case 2
        return Finding("unsure", after.refusal)
    took = f"the next answer took {after.took_s:.1f} s"
    return Finding("yes" if after.took_s < BUSY_S else "unsure", took)


def is_message(replies: tuple[Reply, ...]) -> Finding:
    """The shape that SDKs need (docs/dialects.md 1.8), and all of the prompt in the usage, also where a
    part of it was cached: clients compact by it."""
    chat, _, reply = replies
    if reply.status != 200:
        return Finding("no" if reply.status >= 400 else "unsure", reply.refusal)
    value = reply.json
    usage = UsageSum()
    if isinstance(get(value, "usage"), dict):
        usage.take(msgspec.convert(value["usage"], WireUsage, strict=False))
    counted = usage.neutral.prompt_tokens if usage.neutral is not None else None
    claims = {
        "type": get(value, "type") == "message",
        "id": str(get(value, "id")).startswith("msg_"),
        "content": isinstance(get(value, "content"), list),
        "stop_reason": isinstance(get(value, "stop_reason"), str),
        "usage": counted is not None and counted == (chat.prompt_tokens or counted),
    }
    wrong = [name for name, is_so in claims.items() if not is_so]
    return found(not wrong, f"wrong: {', '.join(wrong)}" if wrong else "a message")


@_needs_answer
def is_message_stream(reply: Reply) -> Finding:
    """The order of docs/dialects.md 1.9, with names of events, and usage at both ends."""
    kinds = [str(frame.get("type")) for frame in reply.frames if frame.get("type") != "ping"]
    if kinds[:1] != ["message_start"] or kinds[-2:] != ["message_delta", "message_stop"]:
        return Finding("no", f"events: {', '.join(kinds[:2] + kinds[-2:]) or 'none'}")
    if reply.body.count(b"event:") < len(kinds):
        return Finding("no", "events without names")
    started = get(get(reply.frames[0], "message"), "usage")
    ended = next(f for f in reply.frames[::-1] if f.get("type") == "message_delta")
    told = type(get(started, "input_tokens")) is int and "usage" in ended
    return found(told, f"{len(kinds)} events" if told else "usage is missing")


def _tool_use(reply: Reply) -> dict[str, Any]:
    content = get(reply.json, "content")
    blocks = (
        [b for b in content if get(b, "type") == "tool_use"] if isinstance(content, list) else []
    )
    return blocks[0] if blocks else {}


def is_tool_use(replies: tuple[Reply, ...]) -> Finding:
    """Whole and streamed; in a stream the block begins with an empty ``input``, or SDKs stumble."""
    whole, stream = replies
    if whole.status != 200 or stream.status != 200:
        refused = whole if whole.status != 200 else stream
        return Finding("no" if refused.status >= 400 else "unsure", refused.refusal)
    block, reason = _tool_use(whole), get(whole.json, "stop_reason")
    if not block:
        return Finding("unsure" if reason == "max_tokens" else "no", "no tool_use block")
    begun = [get(frame, "content_block") for frame in stream.frames]
    start = next((b for b in begun if get(b, "type") == "tool_use"), None)
    if not isinstance(block.get("input"), dict) or reason != "tool_use":
        return Finding("no", f"called {block.get('name')}, {reason}")
    if start is None or start.get("input") != {}:
        return Finding("no", "a streamed tool_use block begins without an empty input")
    return Finding("yes", f"called {block.get('name')}")


@_needs_answer
def tells_stop_sequence(reply: Reply) -> Finding:
    reason, hit = get(reply.json, "stop_reason"), get(reply.json, "stop_sequence")
    if reason == "max_tokens":
        return Finding("unsure", "it was not hit")
    return found(reason == "stop_sequence" and hit == " ", f"{reason}, {hit!r}")


def is_response(replies: tuple[Reply, ...]) -> Finding:
    """All of the prompt is in the usage, also where a part of it was cached."""
    chat, _, reply = replies
    if reply.status != 200:
        return Finding("no" if reply.status >= 400 else "unsure", reply.refusal)
    wrong = response_shapes.response_faults(reply.json, chat.prompt_tokens)
    return found(not wrong, _told(wrong, "a response"))


@_needs_answer
def is_response_stream(reply: Reply) -> Finding:
    wrong = response_shapes.stream_faults(reply.frames)
    return found(not wrong, _told(wrong, f"{len(reply.frames)} events"))


def _told(wrong: list[str], otherwise: str) -> str:
    return f"wrong: {', '.join(wrong[:4])}" if wrong else otherwise


def is_function_call(replies: tuple[Reply, ...]) -> Finding:
    """Whole and streamed, with arguments that are an object."""
    whole, stream = replies
    if whole.status != 200 or stream.status != 200:
        refused = whole if whole.status != 200 else stream
        return Finding("no" if refused.status >= 400 else "unsure", refused.refusal)
    streamed = get(stream.frames[-1], "response") if stream.frames else None
    for response in (whole.json, streamed):
        call = response_shapes.call_in(response)
        if not call:
            is_cut = get(response, "status") == "incomplete"
            return Finding("unsure" if is_cut else "no", "no function_call")
        if not isinstance(decoded(str(call.get("arguments")).encode()), dict):
            return Finding("unsure", "its arguments are no object")
    wrong = response_shapes.response_faults(whole.json)
    wrong += response_shapes.stream_faults(stream.frames)
    return found(not wrong, _told(wrong, "called get_weather"))


@_needs_answer
def response_obeys(reply: Reply) -> Finding:
    output = get(reply.json, "output")
    texts = [response_shapes.text_of(item) for item in output if get(item, "type") == "message"]
    value = decoded("".join(texts).encode())
    if isinstance(value, dict):
        is_so = isinstance(value.get("city"), str) and type(value.get("degrees")) is int
        return found(is_so, "".join(texts)[:60])
    may_be = get(reply.json, "status") == "incomplete" and "".join(texts).lstrip().startswith("{")
    return Finding("unsure" if may_be else "no", repr("".join(texts)[:60]))


def response_thinks(replies: tuple[Reply, ...]) -> Finding:
    """Takes an effort, and reads the reasoning that comes back: the prompt is longer with it."""
    effort, plain, thinking = replies
    if plain.status != 200:
        return Finding("unsure", plain.refusal)
    for reply in (effort, thinking):
        if reply.status != 200:
            return Finding("no" if reply.status >= 400 else "unsure", reply.refusal)
    before, after = (get(get(r.json, "usage"), "input_tokens") for r in (plain, thinking))
    if type(before) is not int or type(after) is not int:
        return Finding("unsure", "the usage does not tell whether the model sees it")
    if after > before:
        return Finding("yes", f"the prompt has {after - before:+d} tokens with it")
    return Finding("unsure", "accepted; the prompt is as long as without it")


def is_list(replies: tuple[Reply, ...]) -> Finding:
    listed = items(replies[0].json)
    return found(bool(listed), f"{len(listed)} listed" if listed else replies[0].refusal)
