"""Responses for tests: the stream's encoder with everything that the caller need not care about, and
requests, as they are read."""

import json
from typing import Any

import pytest

from homeport.errors import ClientError
from homeport.facts import ModelFacts
from homeport.wire.events import Request, Turn
from homeport.wire.openai_responses import Decoded, Entry, decode, entries_of, neutral
from homeport.wire.openai_responses_answer import Profile
from homeport.wire.openai_responses_stream import ResponsesStream
from homeport.wire.openai_responses_tools import Callee

NOW_S = 1_800_000_000
CALLEES = {
    "f": Callee("function", "f"),
    "ns__g": Callee("function", "g", "ns"),
    "shout": Callee("custom", "shout"),
}
REQUEST = b'{"model":"tiny","input":"hi"}'


def responses_stream(request: bytes = REQUEST, **options: Any) -> ResponsesStream:
    profile = Profile(request, response_id="resp_1", model="tiny", created_at_s=NOW_S)
    options = {"callees": CALLEES, "clock": lambda: NOW_S + 5, **options}
    return ResponsesStream(profile, **options)


# --------------------------------------------------------------------------- requests

MODEL = ModelFacts(name="local", context_tokens=4096)
HELLO = {"role": "user", "content": "hi"}
F = {"type": "function", "name": "f", "parameters": {"type": "object"}}
G = {**F, "name": "g"}
SEARCH = {"type": "web_search"}


def decoded(body: dict[str, Any], history: list[Entry] | None = None) -> Decoded:
    wire = decode(json.dumps({"model": "local", **body}).encode())
    return neutral(wire, entries_of(wire, lambda item_id: STORED.get(item_id)), history or [])


def request(**body: Any) -> Request:
    return decoded({"input": "hi", **body}).request


def turns(*items: dict[str, Any], **body: Any) -> tuple[Turn, ...]:
    return request(input=list(items), **body).turns


def refusal(**body: Any) -> ClientError:
    with pytest.raises(ClientError) as caught:
        decoded({"input": "hi", **body})
    return caught.value


STORED = {"msg_9": b'{"type":"message","id":"msg_9","role":"user","content":"kept"}'}
