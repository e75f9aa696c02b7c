"""How far and how fast an engine reads a prompt: for the log and the metrics, not for the client."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine import Answer, FakeEngine
from tests.support.gateway import POLL_S, Gateway

READ = Answer(
    text="Hello",
    progress=(0, 200, 300),
    delay_between_s=0.05,
    prompt_tokens=300,
    prompt_per_second=50.0,
)
PATHS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hi"}]},
    "/v1/messages": {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 64},
    "/v1/responses": {"input": "Hi"},
}
by_path = pytest.mark.parametrize("path", PATHS)


@pytest.fixture
def gateway(engine: FakeEngine, tmp_path: Path) -> Iterator[Gateway]:
    with Gateway(tmp_path, "--upstream", engine.base_url, "--log-level", "debug") as gateway:
        yield gateway
        gateway.assert_no_internal_error()


def ask(
    gateway: Gateway, path: str, *, session: str | None = None, **fields: Any
) -> tuple[str, dict[str, str]]:
    body = {"model": "fake", "stream": True, **PATHS[path], **fields}
    headers = {"content-type": "application/json"}
    if session:
        headers["x-session-id"] = session
    request = urllib.request.Request(
        gateway.base_url + path, json.dumps(body).encode(), headers, method="POST"
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=20) as answer:
        return answer.read().decode(), {k.lower(): v for k, v in answer.headers.items()}


@by_path
def test_progress_is_for_the_log_and_speed_for_the_metrics(
    gateway: Gateway, engine: FakeEngine, path: str
) -> None:
    engine.script(READ)
    answer, _ = ask(gateway, path)
    assert "prompt_progress" not in answer
    assert "prompt.progress" in gateway.output()
    assert 'homeport_prefill_tokens_per_second{model="fake"} 50.0' in gateway.metrics()


def test_a_whole_answer_tells_the_speed_too(gateway: Gateway, engine: FakeEngine) -> None:
    engine.script(READ)
    ask(gateway, "/v1/chat/completions", stream=False)
    assert 'homeport_prefill_tokens_per_second{model="fake"} 50.0' in gateway.metrics()


def test_a_short_prompt_says_nothing_of_speed(gateway: Gateway, engine: FakeEngine) -> None:
    engine.script(Answer(text="Hello", prompt_tokens=20, prompt_per_second=3.0))
    ask(gateway, "/v1/messages")
    assert not any("prefill_tokens_per_second{" in line for line in gateway.metrics())


def test_a_client_that_asks_for_progress_gets_it(gateway: Gateway, engine: FakeEngine) -> None:
    engine.script(READ)
    answer, _ = ask(gateway, "/v1/chat/completions", return_progress=True)
    assert answer.count("prompt_progress") == 3


def test_a_broken_prefix_is_told_with_its_cost(gateway: Gateway, engine: FakeEngine) -> None:
    def say(system: str) -> dict[str, str]:
        _, headers = ask(
            gateway, "/v1/messages", session="s", system=system, tools=[TOOL], messages=TURNS
        )
        return headers

    engine.script(READ, Answer(text="Yes"))
    say("one " + "word " * 400)
    told = say("two " + "word " * 400)["x-homeport-prefix"]
    broken, _, cost = told.rpartition(", ")
    assert broken.startswith("broken at messages.0 (system); about ")
    lost = int(broken.split("about ")[1].split()[0])
    assert cost == f"{round(lost / 50.0, 1):g} s"
    assert "cost_s" in gateway.output()


TOOL = {"name": "f", "input_schema": {"type": "object"}}
TURNS = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Yes?"},
    {"role": "user", "content": "Go on"},
]


def test_a_long_wait_is_told_with_how_much_is_read(gateway: Gateway, engine: FakeEngine) -> None:
    engine.script(Answer(progress=(0, 100, 200, 400), then="stall", at=3))
    body = {"model": "fake", "stream": True, **PATHS["/v1/messages"]}
    request = urllib.request.Request(
        gateway.base_url + "/v1/messages", json.dumps(body).encode(), method="POST"
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=20):
        deadline = time.monotonic() + 20
        while "request.waits" not in gateway.output():
            assert time.monotonic() < deadline, gateway.output()
            time.sleep(POLL_S)
    assert "50 % of 400 tokens" in gateway.output()
