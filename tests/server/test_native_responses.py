"""Passthrough per feature: which requests of a Responses client go to an engine's own /v1/responses."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from homeport.errors import UpstreamError
from homeport.facts import Endpoint, EngineFacts, Feature, ModelFacts
from homeport.server.calls import CHAT_PATH
from homeport.server.response_store import ResponseStore
from homeport.server.responses import ResponsesCall
from homeport.wire.responses_relay import RESPONSES_PATH
from tests.support import responses_grammar

TOOL = {"type": "function", "name": "f", "parameters": {"type": "object"}}
USER = {"type": "message", "role": "user", "content": "hi"}
NOTE = {"type": "message", "role": "developer", "content": "be kind"}
CALL = {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"}
RESULT = {"type": "function_call_output", "call_id": "a", "output": "x"}
IMAGE = {"type": "input_image", "image_url": "http://h/a.png"}
SEEN = {"type": "message", "role": "user", "content": [IMAGE]}
THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": []}
SCHEMA = {"format": {"type": "json_schema", "name": "s", "schema": {"type": "object"}}}
ALL: set[Feature] = {
    "stream",
    "tools",
    "tool_choice",
    "images",
    "tool_images",
    "thinking",
    "schema",
}
ALL |= {"system_inside", "prefill"}


def endpoint(right: set[Feature] | None, **fields: Any) -> Endpoint:
    facts = EngineFacts(native_responses=None if right is None else frozenset(right))
    model = ModelFacts(name="real")
    return Endpoint(base_url="http://h/v1", engine=facts, model=model, **fields)


def asked(right: set[Feature] | None, **fields: Any) -> tuple[str, Any]:
    """The route and the body for a request to an engine with such a record."""
    body = {"model": "m", "input": "hi", "odd": 1, **fields}
    call = ResponsesCall(json.dumps(body).encode(), ResponseStore(), "")
    sent = json.loads(call.engine_body(endpoint(right)))
    return call.path, sent


@pytest.mark.row(
    "3.13 what a request asks for", "3.13 a second system or developer message", "3.13 model, store"
)
@pytest.mark.parametrize(
    ("needed", "fields"),
    [
        (set(), {"input": [USER]}),
        (set(), {"instructions": "be kind"}),
        (set(), {"input": [NOTE, USER]}),
        ({"stream"}, {"stream": True}),
        ({"tools"}, {"tools": [TOOL]}),
        ({"tools"}, {"input": [USER, CALL, RESULT]}),
        ({"tools", "tool_choice"}, {"tools": [TOOL], "tool_choice": "required"}),
        (
            {"tools", "tool_choice"},
            {"tools": [TOOL], "tool_choice": {"type": "function", "name": "f"}},
        ),
        ({"tools", "tool_choice"}, {"tools": [TOOL], "parallel_tool_calls": False}),
        ({"schema"}, {"text": SCHEMA}),
        ({"thinking"}, {"reasoning": {"effort": "low"}}),
        ({"thinking"}, {"input": [USER, THOUGHT]}),
        ({"images"}, {"input": [SEEN]}),
        ({"tools", "tool_images"}, {"input": [USER, CALL, {**RESULT, "output": [IMAGE]}]}),
        ({"system_inside"}, {"input": [NOTE, NOTE, USER]}),
        ({"system_inside"}, {"instructions": "be kind", "input": [NOTE, USER]}),
    ],
)
def test_a_request_passes_only_where_all_that_it_asks_for_is_right(
    needed: set[Feature], fields: dict[str, Any]
) -> None:
    path, sent = asked(needed, **fields)
    assert path == RESPONSES_PATH
    assert sent == {"model": "real", "input": "hi", "odd": 1, "store": False, **fields}
    for missing in needed:
        assert asked(needed - {missing}, **fields)[0] == CHAT_PATH
    path, sent = asked(None, **fields)
    assert path == CHAT_PATH
    assert "odd" not in sent


@pytest.mark.row("3.13 tools that are no functions, their items, allowed_tools")
@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"type": "web_search"}]},
        {"tools": [TOOL, {"type": "namespace", "name": "n", "tools": [TOOL]}]},
        {"tools": [{"type": "custom", "name": "c"}]},
        {
            "tools": [TOOL],
            "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [TOOL]},
        },
        {"input": [USER, {**CALL, "namespace": "n"}, RESULT]},
        {"input": [USER, {**CALL, "arguments": {}}, RESULT]},
        {"input": [USER, {"type": "web_search_call", "id": "ws_1"}]},
        {"input": [USER, {"type": "additional_tools", "tools": [TOOL]}]},
        {"input": [USER, {**CALL, "type": "custom_tool_call", "input": "x"}]},
    ],
)
def test_what_only_the_gateway_knows_does_not_pass(fields: dict[str, Any]) -> None:
    assert asked(ALL, **fields)[0] == CHAT_PATH


@pytest.mark.row("3.13 searches, more tools than max_tools")
def test_too_many_tools_do_not_pass() -> None:
    body = {"model": "m", "input": "hi", "tools": [TOOL, {**TOOL, "name": "g"}]}
    call = ResponsesCall(json.dumps(body).encode(), ResponseStore(), "")
    call.engine_body(endpoint(ALL, max_tools=1))
    assert call.path == CHAT_PATH
    call.engine_body(endpoint(ALL, max_tools=2))
    assert call.path == RESPONSES_PATH


@pytest.mark.row("3.13 the number of a prompt's tokens")
def test_a_count_is_of_the_chat() -> None:
    call = ResponsesCall(b'{"model":"m","input":"hi"}', ResponseStore(), "", counting=True)
    assert "messages" in json.loads(call.engine_body(endpoint(ALL)))


@pytest.mark.row("3.13 a stream that is open already")
def test_a_stream_that_we_have_opened_is_translated() -> None:
    """The engine was loading: the client has an id of ours."""
    call = ResponsesCall(b'{"model":"m","input":"hi","stream":true}', ResponseStore(), "")
    call.prepare("req_1")
    assert b"response.created" in call.opening(1)
    assert "messages" in json.loads(call.engine_body(endpoint(ALL)))


RESPONSE: dict[str, Any] = {
    "id": "resp_engine",
    "object": "response",
    "created_at": 1,
    "status": "completed",
    "model": "real",
    "output": [
        {
            "id": "msg_engine",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Hello.", "annotations": []}],
        }
    ],
    "usage": {"input_tokens": 5, "output_tokens": 2, "total_tokens": 7},
}


@pytest.mark.row("3.13 the answer", "3.13 previous_response_id, item_reference")
@pytest.mark.parametrize("stream", [False, True])
def test_what_continues_a_passed_answer_finds_it(stream: bool) -> None:
    """It is kept under the engine's id; the request that names it needs us, and is translated."""
    store = ResponseStore()
    body = {"model": "m", "input": "hi", "stream": stream}
    call = ResponsesCall(json.dumps(body).encode(), store, "")
    call.prepare("req_1")
    call.engine_body(endpoint({"stream"}))
    if stream:
        relay = call.translation(endpoint({"stream"}))
        for n, name in enumerate(("response.created", "response.completed")):
            event = {"type": name, "sequence_number": n, "response": RESPONSE}
            assert b"resp_engine" in relay.feed(b"data: " + msgspec.json.encode(event) + b"\n\n")
    else:
        call.whole(json.dumps(RESPONSE).encode(), endpoint(set()))
    kept = store.get("", "resp_engine")
    assert kept is not None
    shown = json.loads(kept.response)
    assert (shown["model"], shown["store"], shown["output"][0]["id"]) == ("m", True, "msg_engine")
    following = {"model": "m", "input": "more", "previous_response_id": "resp_engine"}
    then = ResponsesCall(json.dumps(following).encode(), store, "")
    sent = json.loads(then.engine_body(endpoint(ALL)))
    assert then.path == CHAT_PATH
    assert [m["content"] for m in sent["messages"]] == ["hi", "Hello.", "more"]
    reference = [USER, {"type": "item_reference", "id": "msg_engine"}, USER]
    named = ResponsesCall(json.dumps({"model": "m", "input": reference}).encode(), store, "")
    named.engine_body(endpoint(ALL))
    assert named.path == CHAT_PATH


@pytest.mark.row("3.13 silence")
def test_before_the_engine_has_spoken_there_are_comments_only() -> None:
    call = ResponsesCall(b'{"model":"m","input":"hi","stream":true}', ResponseStore(), "")
    call.prepare("req_1")
    call.engine_body(endpoint({"stream"}))
    assert call.opening(1) == b""
    assert call.sign_of_life().startswith(b": ")
    fault = UpstreamError("upstream", "gone")
    assert responses_grammar.read(call.failure(fault)).status == "failed"


def test_a_passed_answer_that_shall_not_be_kept_is_not() -> None:
    store = ResponseStore()
    call = ResponsesCall(b'{"model":"m","input":"hi","store":false}', store, "")
    call.engine_body(endpoint(set()))
    answer, _ = call.whole(json.dumps(RESPONSE).encode(), endpoint(set()))
    assert json.loads(answer)["store"] is False
    assert len(store) == 0
