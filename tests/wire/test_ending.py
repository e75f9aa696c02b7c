"""How answers ended, against every recorded answer: read here by decoding everything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from homeport.wire.ending import ending_of
from homeport.wire.faults import Dialect
from homeport.wire.sse import Splitter, parse_block

CASES = Path(__file__).resolve().parents[1] / "cases"
ANSWERS = [
    *sorted(p for p in CASES.rglob("client*") if p.suffix in (".sse", ".json")),
    *sorted((CASES / "native-responses").glob("*.sse")),
]
DIALECTS: dict[str, Dialect] = {
    "anthropic": "anthropic",
    "openai": "openai_chat",
    "native": "openai_responses",
}
"""By the beginning of a folder's name."""


def dialect_of(path: Path) -> Dialect:
    return DIALECTS[path.relative_to(CASES).parts[0].partition("-")[0]]


def of_whole(dialect: Dialect, value: Any) -> tuple[str | None, int]:
    match dialect:
        case "anthropic":
            blocks = value.get("content", [])
            return value.get("stop_reason"), sum(b["type"] == "tool_use" for b in blocks)
        case "openai_responses":
            cut = (value.get("incomplete_details") or {}).get("reason")
            called = sum(i["type"].endswith("_call") for i in value.get("output", []))
            return cut or value.get("status"), called
        case _:
            choices = value.get("choices", [])
            calls = sum(len(c.get("message", {}).get("tool_calls") or []) for c in choices)
            return (choices[0]["finish_reason"] if choices else None), calls


def of_stream(dialect: Dialect, events: list[Any]) -> tuple[str | None, int]:
    reason, calls = None, set[Any]()
    for event in events:
        match dialect:
            case "anthropic":
                reason = event.get("delta", {}).get("stop_reason") or reason
                if event.get("content_block", {}).get("type") == "tool_use":
                    calls.add(event["index"])
            case "openai_responses":
                if event["type"] in ("response.completed", "response.incomplete"):
                    return of_whole(dialect, event["response"])
            case _:
                for choice in event.get("choices", []):
                    reason = choice.get("finish_reason") or reason
                    for call in choice["delta"].get("tool_calls") or []:
                        calls.add(call["index"])
    return reason, len(calls)


@pytest.mark.parametrize("path", ANSWERS, ids=lambda p: str(p.relative_to(CASES)))
def test_as_it_was_recorded(path: Path) -> None:
    dialect, data = dialect_of(path), path.read_bytes()
    ending = ending_of(dialect, has_tools=True)
    if path.suffix == ".json":
        ending.take(data)
        expected = of_whole(dialect, json.loads(data))
    else:
        blocks = Splitter().feed(data)
        for block in blocks:
            ending.feed(block)
        found = [event for block in blocks if (event := parse_block(block)) is not None]
        expected = of_stream(
            dialect, [json.loads(event.data) for event in found if event.data != b"[DONE]"]
        )
    assert (ending.stop_reason, ending.tool_calls) == expected
    pieces = ending_of(dialect, has_tools=True)
    if path.suffix == ".sse":
        pieces.feed(data)  # all in one piece
        assert (pieces.stop_reason, pieces.tool_calls) == expected


def test_there_are_answers_of_each_dialect() -> None:
    assert {dialect_of(path) for path in ANSWERS} == set(DIALECTS.values())


def test_what_a_model_says_is_not_taken_for_it() -> None:
    said = json.dumps({"text": '"stop_reason":"fake" {"type":"tool_use"}'})
    ending = ending_of("anthropic", has_tools=True)
    ending.feed(f"event: content_block_delta\ndata: {said}\n\n".encode())
    assert (ending.stop_reason, ending.tool_calls) == (None, 0)


def test_nonsense() -> None:
    for body in (b"", b"{", b"[]", b'{"choices":7}', b'{"choices":[{"finish_reason":5}]}'):
        ending = ending_of("openai_chat", has_tools=True)
        ending.take(body)
        ending.feed(body)
        assert (ending.stop_reason, ending.tool_calls) == (None, 0)


def test_an_empty_reason_is_none() -> None:
    """Some servers write one into each chunk."""
    ending = ending_of("openai_chat", has_tools=False)
    ending.feed(b'data: {"choices":[{"finish_reason":""}]}\n\n')
    assert ending.stop_reason is None
    ending.feed(b'data: {"choices":[{"finish_reason":"stop"}]}\n\n')
    ending.feed(b'data: {"choices":[{"finish_reason":""}]}\n\n')
    assert ending.stop_reason == "stop"


def test_the_last_reason_counts_however_it_is_spaced() -> None:
    first, last = b'{"finish_reason":"length"}', b'{"finish_reason": "stop"}'
    for data, expected in ((first + last, "stop"), (last + first, "length")):
        ending = ending_of("openai_chat", has_tools=False)
        ending.take(data)
        assert ending.stop_reason == expected


@pytest.mark.parametrize("reason", [b"a\0b", b"stop\n" + b"x" * 80, "größe".encode()])
def test_what_is_no_word_is_no_reason(reason: bytes) -> None:
    """It goes into databases, which do not take everything."""
    ending = ending_of("openai_chat", has_tools=False)
    ending.take(b'{"finish_reason":"' + reason + b'"}')
    assert ending.stop_reason is None
