"""What we write has every field that the official types declare: what we do not have is null.

A strict reader (generated Rust, Go or Kotlin code, mostly) fails on a field that is missing; a null it
takes where the type says so. The SDKs' own classes are the list.
"""

import json
import types
import typing
from collections.abc import Iterator
from typing import Any

import anthropic.types as a
import pytest
from anthropic.types.shared import ErrorResponse
from pydantic import BaseModel

from homeport.errors import ClientError
from homeport.wire import faults
from homeport.wire.anthropic_answer import encode_message
from homeport.wire.anthropic_stream import AnthropicStream
from homeport.wire.events import (
    End,
    Event,
    Finish,
    Start,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallStart,
    Usage,
    UsageReport,
)

EVENTS: list[Event] = [
    Start("c"),
    ThinkingDelta("hm"),
    TextDelta("hi"),
    ToolCallStart(0, "a", "f"),
    ToolCallDelta(0, "{}"),
    Finish("tool_use"),
    UsageReport(Usage(5, 3, 1, 2)),
    End(),
]


def missing(annotation: Any, value: Any, path: str = "") -> Iterator[str]:
    """The paths of declared fields that ``value`` lacks."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            if name not in value:
                yield f"{path}.{name}"
            elif value[name] is not None:
                yield from missing(field.annotation, value[name], f"{path}.{name}")
    elif isinstance(value, list) and value:
        [item] = typing.get_args(annotation)
        for i, inner in enumerate(value):
            yield from missing(item, inner, f"{path}.{i}")
    elif isinstance(value, dict):
        for shape in shapes(annotation):
            if kind(shape) in (None, value.get("type")):
                yield from missing(shape, value, path)


def shapes(annotation: Any) -> Iterator[type[BaseModel]]:
    """The classes in a union, however deep."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif typing.get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated):
        for member in typing.get_args(annotation):
            yield from shapes(member)


def kind(shape: type[BaseModel]) -> str | None:
    field = shape.model_fields.get("type")
    found = typing.get_args(field.annotation) if field else ()
    return found[0] if found else None


def test_the_walk_finds_what_is_missing() -> None:
    body = json.loads(encode_message(EVENTS, message_id="m", model="x"))
    del body["container"], body["usage"]["speed"], body["content"][2]["caller"]
    assert sorted(missing(a.Message, body)) == [".container", ".content.2.caller", ".usage.speed"]


@pytest.mark.parametrize("events", [EVENTS, [Finish("end")]], ids=["full", "empty"])
def test_messages(events: list[Event]) -> None:
    body = json.loads(encode_message(events, message_id="m", model="x"))
    assert list(missing(a.Message, body)) == []


def test_no_null_where_the_ai_sdk_wants_the_thing_or_nothing() -> None:
    """Its schemas know `caller` and `citations` as optional, which to them is not null."""
    _, text, call = json.loads(encode_message(EVENTS, message_id="m", model="x"))["content"]
    assert (text["citations"], call["caller"]) == ([], {"type": "direct"})
    stream = AnthropicStream(message_id="m", model="x", request_id="r")
    frames = stream.start(5) + b"".join(map(stream.feed, EVENTS))
    assert b'"caller":{"type":"direct"}' in frames
    assert b'"citations":[]' in frames


@pytest.mark.parametrize("usage", [Usage(5, 3, 1, 2), None], ids=["usage", "none"])
def test_streams(usage: Usage | None) -> None:
    stream = AnthropicStream(message_id="m", model="x", request_id="r")
    frames = stream.start(5) + b"".join(
        stream.feed(event)
        for event in EVENTS
        if not isinstance(event, UsageReport) or usage is not None
    )
    union = a.RawMessageStreamEvent
    seen = set()
    for line in frames.decode().splitlines():
        if line.startswith("data: "):
            event = json.loads(line[6:])
            seen.add(event["type"])
            assert list(missing(union, event)) == [], event
    assert len(seen) == 6


def test_errors() -> None:
    fault = ClientError("not_found", "no")
    assert list(missing(ErrorResponse, json.loads(faults.body_of(fault, "anthropic", "r")))) == []
    body = json.loads(faults.body_of(fault, "openai_chat", "r"))["error"]
    assert set(body) == {"message", "type", "param", "code"}
