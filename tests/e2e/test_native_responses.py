"""From `homeport check` to passthrough: an engine whose own `/v1/responses` is right is asked there,
one that speaks it wrongly is not, and nobody is before the check."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.support import codex, responses_grammar
from tests.support.engine import Answer, FakeEngine, ToolCall, When
from tests.support.gateway import Gateway

CHAT, NATIVE = "/v1/chat/completions", "/v1/responses"
TOOL: Any = {
    "type": "function",
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
CALL = ToolCall(name="get_weather", arguments='{"city": "Oslo"}', id="call_weather")
DEGREES = '{"city": "Oslo", "degrees": 7}'
ALL_RIGHT = ["responses", "responses_stream", "responses_tools", "responses_schema"]
ALL_RIGHT += ["responses_reasoning"]


def checked(folder: Path, engine: FakeEngine) -> dict[str, str]:
    """`homeport check --save` into the home of the gateways below; what it found."""
    engine.script(
        Answer(when=When(contains="degrees"), text=DEGREES, repeat=True),
        Answer(when=When(has_tools=True), tool_calls=(CALL,), repeat=True),
    )
    home = folder / "home"
    home.mkdir(exist_ok=True)
    env = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(home), "LANG": "C.UTF-8"}
    command = [sys.executable, "-m", "homeport", "check", "--upstream", engine.base_url]
    answer = subprocess.run(
        [*command, "--json", "--save"],
        env={**env, "HOMEPORT_HOME": str(home / "homeport")},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    engine.reset()
    found: dict[str, Any] = json.loads(answer.stdout)["findings"]
    return {name: finding["result"] for name, finding in found.items()}


@contextmanager
def serving(folder: Path, engine: FakeEngine) -> Iterator[tuple[Gateway, openai.OpenAI]]:
    with (
        Gateway(folder, "--upstream", engine.base_url) as gateway,
        openai.OpenAI(base_url=f"{gateway.base_url}/v1", api_key="x", max_retries=0) as client,
    ):
        yield gateway, client
    gateway.assert_no_internal_error()


def streamed(gateway: Gateway) -> bytes:
    """The bytes of a streamed answer."""
    body = json.dumps({"model": "any", "input": "hi", "stream": True}).encode()
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(gateway.base_url + NATIVE, body, headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=60) as answer:
        return bytes(answer.read())


def asked(engine: FakeEngine) -> list[str]:
    """The routes of the inference requests so far."""
    return [r["path"] for r in engine.requests() if r["path"] in (CHAT, NATIVE)]


def test_from_check_to_passthrough(tmp_path: Path) -> None:
    with FakeEngine(responses="right") as engine:
        with serving(tmp_path, engine) as (_, client):
            client.responses.create(model="any", input="hi")
            assert asked(engine) == [CHAT]

        found = checked(tmp_path, engine)
        assert {name: found[name] for name in ALL_RIGHT} == dict.fromkeys(ALL_RIGHT, "yes")

        with serving(tmp_path, engine) as (gateway, client):
            usage: Any = {"prompt_tokens": 90, "completion_tokens": 8, "cached_tokens": 70}
            engine.script(Answer(text="Let me see.", tool_calls=(CALL,), **usage))
            with client.responses.stream(model="any", input="hi", tools=[TOOL]) as stream:
                first = stream.until_done().get_final_response()
            assert asked(engine) == [NATIVE]
            (sent,) = engine.requests(NATIVE)
            assert (sent["body"]["model"], sent["body"]["store"]) == ("fake", False)
            assert first.model == "any"
            assert first.output_text == "Let me see."
            assert first.output[1].call_id == CALL.id  # type: ignore[union-attr]
            assert first.usage is not None
            assert first.usage.input_tokens_details.cached_tokens == 70
            assert 'homeport_tokens_total{kind="prompt",model="fake"} 90.0' in gateway.metrics()

            # It is kept, and what continues it needs what is kept: that goes the translated way.
            kept = client.responses.retrieve(first.id)
            assert kept.output_text == first.output_text
            result: Any = {"type": "function_call_output", "call_id": CALL.id, "output": "Rain."}
            engine.reset()
            then = client.responses.create(
                model="any", previous_response_id=first.id, input=[result], tools=[TOOL]
            )
            assert asked(engine) == [CHAT]
            (chat,) = engine.chats()
            turns = chat["body"]["messages"]
            assert [turn["role"] for turn in turns] == ["user", "assistant", "tool"]
            assert turns[1]["tool_calls"][0]["id"] == turns[2]["tool_call_id"] == CALL.id
            assert then.output_text == "The tool said: Rain."
            client.responses.delete(first.id)
            with pytest.raises(openai.NotFoundError):
                client.responses.retrieve(first.id)


def test_what_is_wrong_is_not_passed(tmp_path: Path) -> None:
    """As llama.cpp has it: events without numbers and places."""
    with FakeEngine(responses="llamacpp") as engine:
        found = checked(tmp_path, engine)
        assert (found["responses"], found["responses_stream"]) == ("yes", "no")
        with serving(tmp_path, engine) as (gateway, client):
            client.responses.create(model="any", input="hi")
            assert responses_grammar.read(streamed(gateway)).status == "completed"
        assert asked(engine) == [CHAT, CHAT]


@pytest.fixture
def passing(tmp_path: Path) -> Iterator[tuple[FakeEngine, Gateway]]:
    """A gateway that knows that its engine is right."""
    with FakeEngine(responses="right") as engine:
        checked(tmp_path, engine)
        with serving(tmp_path, engine) as (gateway, _):
            yield engine, gateway


def test_streams_that_go_wrong(passing: tuple[FakeEngine, Gateway]) -> None:
    engine, gateway = passing
    message = "request (200000 tokens) exceeds the available context size (131072 tokens)"
    error = {"error": {"code": 400, "message": message, "type": "exceed_context_size_error"}}

    def told(*answers: Answer) -> responses_grammar.Answer:
        engine.reset()
        engine.script(*answers)
        answer = responses_grammar.read(streamed(gateway))
        assert asked(engine) == [NATIVE]
        return answer

    cut = told(Answer(text="Hello there, you.", then="cut", at=6))
    assert (cut.status, cut.response["error"]["code"]) == ("failed", "server_error")
    late = told(Answer(status=400, body=error, delay_headers_s=1.0))
    assert (late.status, late.response["error"]["code"]) == ("failed", "context_length_exceeded")
    short = told(Answer(text="Hello", finish_reason="length"))
    assert short.status == "incomplete"


def test_silence_is_bridged(passing: tuple[FakeEngine, Gateway]) -> None:
    """Before the engine's own response.created there can be no event, but there are comments."""
    engine, gateway = passing
    engine.script(Answer(text="At last.", delay_headers_s=5.5))
    answer = streamed(gateway)
    assert answer.startswith(b": ")
    events = answer[answer.index(b"event: ") :]
    assert responses_grammar.read(events).text_of("message") == "At last."
    assert asked(engine) == [NATIVE]


@pytest.mark.codex
@pytest.mark.timeout(900)
def test_codex_is_translated_still(passing: tuple[FakeEngine, Gateway], tmp_path: Path) -> None:
    """Its namespaces, its web search and its several developer messages are ours to deal with."""
    try:
        cli = codex.installed()
    except codex.NpmMissingError as missing:
        pytest.skip(str(missing))
    engine, gateway = passing
    run = cli.run("Hello", base_url=gateway.base_url, folder=tmp_path, model="fake")
    assert (run.exit_status, run.errors) == (0, [])
    assert asked(engine) == [CHAT]
