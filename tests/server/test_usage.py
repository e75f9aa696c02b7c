"""The record of a request: each field from where it belongs. Fields are given by position, so that two
of one type could change places unseen."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from homeport.engines import llamacpp
from homeport.errors import ClientError
from homeport.facts import Endpoint, ModelFacts
from homeport.routing.affinity import Key
from homeport.runtime.instance import Instance
from homeport.server.calls import Call
from homeport.server.http import Http
from homeport.server.metrics import Outcome
from homeport.server.usage import record_of
from homeport.store.base import MAX_TEXT, UsageRecord
from homeport.wire.ending import ending_of
from homeport.wire.events import Usage

ENDPOINT = Endpoint(
    base_url="http://e/v1", engine=llamacpp.FACTS, model=ModelFacts(name="m"), dialect="anthropic"
)
SESSION = Key("the session", "the agent")


def http(**fields: Any) -> Http:
    values: dict[str, Any] = {
        "request_id": "req_1",
        "key_name": "the key",
        "headers": {b"user-agent": b"the-client/1.2.3"},
        "model_id": "the model",
        "waited_s": 0.25,
        "status": 201,
        "has_left": False,
        "raw_body": b"x" * 11,
        "sent_bytes": 22,
        "dialect": "openai_chat",
        **fields,
    }
    return cast(Http, SimpleNamespace(**values))


def call(**fields: Any) -> Call:
    values: dict[str, Any] = {
        "model": "what was asked",
        "dialect": "openai_chat",
        "stream": True,
        **fields,
    }
    return cast(Call, SimpleNamespace(**values))


def instance(endpoint: Endpoint | None = ENDPOINT) -> Instance:
    return cast(Instance, SimpleNamespace(id="the deployment", endpoint=endpoint))


def outcome(**fields: Any) -> Outcome:
    made = Outcome("openai_chat", "the model", stream=True, began=time.monotonic() - 4.0)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def near(seconds: float) -> float:
    return cast(float, pytest.approx(seconds, abs=0.5))


def test_a_stream() -> None:
    of = outcome(usage=Usage(100, 30, 60), ending=ending_of("openai_chat", has_tools=True))
    of.first_sent = of.began + 1.0
    assert of.ending is not None
    of.ending.feed(
        b'{"tool_calls":[{"name":"a"},{"name":"b"}]}{"choices":[{"finish_reason":"tool_calls"}]}'
    )
    found = record_of(http(), call(), instance(), of, SESSION)
    assert msgspec.structs.asdict(found) == {
        "at_us": pytest.approx((time.time() - 4.0) * 1e6, abs=500_000),
        "request_id": "req_1",
        "key": "the key",
        "client": "the-client",
        "client_version": "1.2.3",
        "session": "the session",
        "agent": "the agent",
        "asked_model": "what was asked",
        "model": "the model",
        "deployment": "the deployment",
        "engine": "llamacpp",
        "dialect": "openai_chat",
        "engine_dialect": "anthropic",
        "stream": True,
        "prompt_tokens": 100,
        "cached_tokens": 60,
        "completion_tokens": 30,
        "duration_s": near(4.0),
        "waited_s": 0.25,
        "first_token_s": near(1.0),
        "tokens_per_s": pytest.approx(10.0, rel=0.2),
        "status": 201,
        "stop_reason": "tool_calls",
        "tool_calls": 2,
        "error": None,
        "bytes_in": 11,
        "bytes_out": 22,
    }


def test_an_answer_that_came_at_once_has_no_speed() -> None:
    of = outcome(usage=Usage(100, 30, 60))
    of.first_sent = time.monotonic()
    found = record_of(http(), call(), instance(), of, SESSION)
    assert (found.completion_tokens, found.tokens_per_s) == (30, None)
    assert found.first_token_s == near(4.0)


def test_nothing_is_known_of_it() -> None:
    """A whole answer, that nobody has looked through, of a request without a session."""
    found = record_of(
        http(headers={}, key_name=""), call(stream=False), instance(), outcome(), None
    )
    expected = UsageRecord(
        found.at_us,
        "req_1",
        asked_model="what was asked",
        model="the model",
        deployment="the deployment",
        engine="llamacpp",
        dialect="openai_chat",
        engine_dialect="anthropic",
        duration_s=found.duration_s,
        waited_s=0.25,
        status=201,
        bytes_in=11,
        bytes_out=22,
    )
    assert found == expected


def test_a_failure_before_an_engine() -> None:
    """Its answer goes out after the record: what its status will be."""
    fault = ClientError("rate_limit", "wait")
    found = record_of(http(status=0), call(), instance(None), outcome(fault=fault), None)
    assert (found.status, found.error) == (429, "rate_limit")
    assert (found.engine, found.engine_dialect) == (None, None)


def test_a_client_that_left() -> None:
    fault = ClientError("rate_limit", "wait")
    found = record_of(http(status=0, has_left=True), call(), instance(), outcome(fault=fault), None)
    assert (found.status, found.error) == (0, "left")


def test_names_that_clients_make_up() -> None:
    odd = "x\0" * MAX_TEXT
    found = record_of(http(), call(model=odd), instance(), outcome(), Key(odd, odd))
    for text in (found.asked_model, found.session, found.agent):
        assert text == "x" * (MAX_TEXT // 2)
