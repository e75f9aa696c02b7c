"""Passthrough of OpenAI Responses: what is changed, what is supplied, and how it ends.

The engine's stream is shaped as vLLM 0.33 sends it; the client's has to keep the second grammar of
`tests/support/responses_grammar.py`.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.errors import RequestFault, UpstreamError
from homeport.wire.events import Usage
from homeport.wire.openai_responses_answer import Profile
from homeport.wire.openai_responses_stream import ResponsesStream
from homeport.wire.responses_relay import ResponsesRelay, Whole, relay_body
from tests.support import responses_grammar as grammar

REQUEST = json.dumps({"model": "asked", "input": "hi", "stream": True, "metadata": {"a": "b"}})
PART = {"type": "output_text", "text": "Héllo.", "annotations": [], "logprobs": []}
MESSAGE: dict[str, Any] = {"id": "msg_e", "type": "message", "role": "assistant"}
WHOLE = {**MESSAGE, "status": "completed", "content": [PART]}
CALL = {
    "id": "fc_e",
    "type": "function_call",
    "call_id": "call_e",
    "name": "f",
    "arguments": '{"a":1}',
    "status": "completed",
}
USAGE = {
    "input_tokens": 9,
    "output_tokens": 4,
    "input_tokens_details": {"cached_tokens": 6, "per_turn": []},
}
RESPONSE = {"id": "resp_e", "object": "response", "created_at": 7, "model": "real", "output": []}
PLACE = {"item_id": "msg_e", "output_index": 0, "content_index": 0}


def events(status: str = "completed", **end: Any) -> list[dict[str, Any]]:
    """A text and a call, as an engine tells them; without what the relay supplies."""
    started = {**RESPONSE, "status": "in_progress"}
    ended = {**RESPONSE, "status": status, "output": [WHOLE, CALL], "usage": USAGE, **end}
    call_place = {"item_id": "fc_e", "output_index": 1}
    told: list[dict[str, Any]] = [
        {"type": "response.created", "response": started},
        {"type": "response.in_progress", "response": started},
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": {**MESSAGE, "status": "in_progress", "content": []},
        },
        {"type": "response.content_part.added", **PLACE, "part": {**PART, "text": ""}},
        {"type": "response.output_text.delta", **PLACE, "delta": "Hé"},
        {"type": "response.output_text.delta", **PLACE, "delta": "llo."},
        {"type": "response.output_text.done", **PLACE, "text": "Héllo."},
        {"type": "response.content_part.done", **PLACE, "part": PART},
        {"type": "response.output_item.done", "output_index": 0, "item": WHOLE},
        {
            "type": "response.output_item.added",
            "output_index": 1,
            "item": {**CALL, "arguments": "", "status": "in_progress"},
        },
        {"type": "response.function_call_arguments.delta", **call_place, "delta": '{"a":1}'},
        {"type": "response.function_call_arguments.done", **call_place, "arguments": '{"a":1}'},
        {"type": "response.output_item.done", "output_index": 1, "item": CALL},
        {"type": "response.completed", "response": ended},
    ]
    return [{**event, "sequence_number": n} for n, event in enumerate(told)]


def sse(told: list[dict[str, Any]], *, named: bool = True) -> bytes:
    return b"".join(
        (f"event: {e['type']}\n" if named else "").encode()
        + b"data: "
        + json.dumps(e).encode()
        + b"\n\n"
        for e in told
    )


def profile() -> Profile:
    return Profile(REQUEST.encode(), response_id="resp_ours", model="asked", created_at_s=3)


class Relayed:
    """A relay, what came out of it, and what was kept."""

    def __init__(self) -> None:
        self.kept: list[Whole] = []
        machine = ResponsesStream(profile(), callees={}, clock=lambda: 3)
        self.relay = ResponsesRelay(
            profile(), "asked", lambda: 8, out=machine, keep=self.kept.append
        )

    def run(self, *pieces: bytes) -> bytes:
        return b"".join(map(self.relay.feed, pieces)) + self.relay.finish()


@pytest.mark.row("3.13 the … what is missing")
@pytest.mark.parametrize("named", [True, False], ids=["named", "unnamed"])
def test_a_legal_stream_comes_out(named: bool) -> None:
    relayed = Relayed()
    answer = grammar.read(relayed.run(sse(events(), named=named), b"data: [DONE]\n\n"))
    assert answer.response["model"] == "asked"
    assert answer.response["metadata"] == {"a": "b"}
    assert answer.response["store"] is True
    assert [item["id"] for item in answer.items] == ["msg_e", "fc_e"]
    assert answer.response["usage"] == {
        "input_tokens": 9,
        "output_tokens": 4,
        "total_tokens": 13,
        "input_tokens_details": {"cached_tokens": 6, "cache_write_tokens": 0, "per_turn": []},
        "output_tokens_details": {"reasoning_tokens": 0},
    }
    assert relayed.relay.usage == Usage(9, 4, 6)
    assert relayed.relay.failure is None
    (kept,) = relayed.kept
    assert kept.id == "resp_e"
    assert json.loads(kept.response) == answer.response
    assert [json.loads(item) for item in kept.output] == [WHOLE, CALL]


@settings(deadline=None)
@given(st.lists(st.integers(0, 5000), max_size=8).map(sorted))
def test_any_cut_of_the_bytes(cuts: list[int]) -> None:
    data = sse(events())
    edges = [0, *(cut for cut in cuts if cut < len(data)), len(data)]
    pieces = [data[a:b] for a, b in itertools.pairwise(edges)]
    assert Relayed().run(*pieces) == Relayed().run(data)


@pytest.mark.row("3.13 the … cut")
def test_an_incomplete_response_is_called_so() -> None:
    told = events("incomplete", incomplete_details={"reason": "max_output_tokens"})
    answer = grammar.read(Relayed().run(sse(told)))
    assert answer.status == "incomplete"


OVERFLOW = (
    "This model's maximum context length is 100 tokens. However, your prompt contains 120 tokens"
)


@pytest.mark.row("3.13 error, response.failed, no end")
@pytest.mark.parametrize(
    ("at", "then", "code"),
    [
        (0, b"", "server_error"),
        (5, b"", "server_error"),
        (9, b"", "server_error"),
        (11, b'data: {"type":"error","message":"boom","sequence_number":11}\n\n', "server_error"),
        (5, b'data: {"error":{"message":"boom"}}\n\n', "server_error"),
        (5, b"data: nonsense\n\n", "server_error"),
        (
            5,
            b'event: response.failed\ndata: {"type":"response.failed","response":'
            b'{"error":{"code":"context_length_exceeded","message":"too much"}}}\n\n',
            "context_length_exceeded",
        ),
        (
            5,
            b'data: {"type":"response.failed","response":{"status":"failed","error":null}}\n\n',
            "server_error",
        ),
        (
            0,
            b'data: {"error":{"message":"%b"}}\n\n' % OVERFLOW.encode(),
            "context_length_exceeded",
        ),
        (2, b'data: {"type":"response.completed","response":{"id":4}}\n\n', "server_error"),
        (
            2,
            b'data: {"type":"response.completed","response":{"id":"r","output":[{"name":4}]}}\n\n',
            "server_error",
        ),
    ],
)
def test_a_failure_is_told_legally(at: int, then: bytes, code: str) -> None:
    relayed = Relayed()
    answer = grammar.read(
        relayed.run(sse(events()[:at]) + then, sse(events()[at:]) if then else b"")
    )
    assert answer.status == "failed"
    assert answer.response["error"]["code"] == code
    assert answer.response["id"] == ("resp_e" if at else "resp_ours")
    assert isinstance(relayed.relay.failure, RequestFault)
    assert relayed.kept == []
    assert relayed.relay.fail(UpstreamError("upstream", "again")) == b""


def test_a_half_event_at_the_end_counts_if_it_is_whole() -> None:
    data = sse(events())
    assert grammar.read(Relayed().run(data.removesuffix(b"\n\n"))).status == "completed"
    assert grammar.read(Relayed().run(data.removesuffix(b"}\n\n"))).status == "failed"


@pytest.mark.row("3.13 the … what is missing", "3.13 model, store")
def test_a_whole_answer() -> None:
    body = {**RESPONSE, "status": "completed", "output": [WHOLE], "usage": USAGE}
    answer = relay_body(json.dumps(body).encode(), profile(), "asked", lambda: 8)
    said = json.loads(answer.response)
    assert (said["id"], said["model"], said["tools"]) == ("resp_e", "asked", [])
    assert (said["error"], said["completed_at"]) == (None, 8)
    assert answer.usage == Usage(9, 4, 6)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"no json", "upstream"),
        (b"[]", "upstream"),
        (b'{"id":"resp_e"}', "upstream"),
        (b'{"error":{"message":"boom"}}', "upstream"),
        (b'{"error":{"message":"x","code":"context_length_exceeded"}}', "context_overflow"),
    ],
)
def test_what_is_no_answer(body: bytes, kind: str) -> None:
    with pytest.raises(RequestFault) as caught:
        relay_body(body, profile(), "asked", lambda: 8)
    assert caught.value.kind == kind


RECORDED = Path(__file__).parents[1] / "cases" / "native-responses"


@pytest.mark.parametrize(("what", "status"), [("text", "incomplete"), ("tool", "completed")])
def test_a_recorded_stream_becomes_a_legal_one(what: str, status: str) -> None:
    """Of vLLM 0.32, which ends what was cut with ``response.completed``, and tells null logprobs."""
    data = (
        (RECORDED / f"vllm-{what}.sse").read_bytes().replace(b'"logprobs":null', b'"logprobs":[]')
    )
    answer = grammar.read(Relayed().run(data))
    assert answer.status == status
    assert len(answer.items) == 1
