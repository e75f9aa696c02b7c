"""Whether what an engine says is a response of OpenAI's, and whether its events make one.

``probes`` asks, here is what the answers must be like so that a client of the official SDKs, or Codex,
can live on them (docs/dialects.md 2.4). What ``wire.responses_relay`` supplies on the way is not asked
for: fields that only echo the request, details of the usage, ``logprobs``, names of events.

All return what is wrong, in words; nothing means that all is right.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Final

ENDS: Final = ("response.completed", "response.incomplete")
TEXTS: Final[Mapping[str, tuple[str, str]]] = {
    "message": ("response.output_text", "text"),
    "reasoning": ("response.reasoning_text", "text"),
    "function_call": ("response.function_call_arguments", "arguments"),
}
"""Item → the events that carry its text, less ``.delta`` and ``.done``; and the text's name."""

Frame = Mapping[str, Any]


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


# --------------------------------------------------------------------------- a response


def response_faults(value: object, prompt_tokens: int | None = None) -> list[str]:
    """``prompt_tokens`` is what the same prompt has as a chat: clients compact by the usage."""
    response = _object(value)
    usage = _object(response.get("usage"))
    used = usage.get("input_tokens")
    claims = {
        "object": response.get("object") == "response",
        "id": str(response.get("id")).startswith("resp_"),
        "created_at": isinstance(response.get("created_at"), int | float),
        "status": response.get("status") in ("completed", "incomplete"),
        "output": isinstance(response.get("output"), list),
        "usage": type(used) is int and type(usage.get("output_tokens")) is int,
        "prompt in usage": prompt_tokens in (None, used),
    }
    wrong = [name for name, is_so in claims.items() if not is_so]
    items = _list(response.get("output"))
    wrong += [f"{name} of an item" for item in items for name in item_faults(item)]
    return list(dict.fromkeys(wrong))


def item_faults(value: object) -> list[str]:
    item = _object(value)
    claims = {"id": isinstance(item.get("id"), str) and bool(item.get("id"))}
    match item.get("type"):
        case "message":
            parts = [_object(part) for part in _list(item.get("content"))]
            texts = [part.get("text", part.get("refusal")) for part in parts]
            claims["role"] = item.get("role") == "assistant"
            claims["content"] = all(isinstance(text, str) for text in texts)
            claims["annotations"] = all(
                isinstance(p.get("annotations"), list) for p in parts if p.get("type") != "refusal"
            )
        case "reasoning":
            claims["summary"] = isinstance(item.get("summary"), list)
        case "function_call":
            for key in ("call_id", "name", "arguments"):
                claims[key] = isinstance(item.get(key), str)
        case _:
            claims["type"] = False
    return [name for name, is_so in claims.items() if not is_so]


def call_in(value: object) -> Mapping[str, Any]:
    """The first call of a response, or nothing."""
    items = map(_object, _list(_object(value).get("output")))
    return next((item for item in items if item.get("type") == "function_call"), {})


def text_of(item: Mapping[str, Any]) -> str:
    if item.get("type") == "function_call":
        return str(item.get("arguments"))
    parts = _list(item.get("content"))
    return "".join(str(_object(part).get("text", "")) for part in parts)


# --------------------------------------------------------------------------- its stream


def stream_faults(frames: Sequence[Frame]) -> list[str]:
    """The events begin and end it, are numbered, and say where they belong; every item of the whole is
    ``done`` and holds what its deltas said."""
    kinds = [str(frame.get("type")) for frame in frames]
    if kinds[:1] != ["response.created"] or kinds[-1] not in ENDS:
        return [f"events: {', '.join(kinds[:1] + kinds[-1:]) or 'none'}"]
    numbers = [n for frame in frames if type(n := frame.get("sequence_number")) is int]
    whole = _object(frames[-1].get("response"))
    claims = {
        "sequence_number": len(numbers) == len(frames)
        and all(a < b for a, b in itertools.pairwise(numbers)),
        "output_index": all(
            type(f.get("output_index")) is int for f in frames if "response" not in f
        ),
        "id": _object(frames[0].get("response")).get("id") == whole.get("id"),
    }
    wrong = [name for name, is_so in claims.items() if not is_so]
    return wrong + response_faults(whole) + _items_faults(frames, _list(whole.get("output")))


def _items_faults(frames: Sequence[Frame], output: Sequence[object]) -> list[str]:
    wrong: list[str] = []
    for kind in ("added", "done"):
        told = [f.get("item") for f in frames if f.get("type") == f"response.output_item.{kind}"]
        if [_object(item).get("id") for item in told] != [_object(i).get("id") for i in output]:
            wrong.append(f"output_item.{kind}")
    for item in map(_object, output):
        events, name = TEXTS.get(str(item.get("type")), ("", ""))
        own = [f for f in frames if f.get("item_id") == item.get("id")]
        said = "".join(str(f.get("delta")) for f in own if f.get("type") == f"{events}.delta")
        done = [f.get(name) for f in own if f.get("type") == f"{events}.done"]
        text = text_of(item)
        if text and (said != text or done != [text]):
            wrong.append(f"deltas of a {item.get('type')}")
    return wrong
