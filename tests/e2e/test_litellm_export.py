"""The real LiteLLM proxy, started on what `homeport config export litellm` writes: every name answers
on both APIs, in front of a fake engine and in front of homeport with a real llama.cpp."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from homeport.demo import demo_model_path
from tests.e2e.dialects import BOTH, Dialect
from tests.e2e.raw_client import ask
from tests.support.engine import Answer, FakeEngine, ToolCall
from tests.support.gateway import Gateway, free_port
from tests.support.litellm_proxy import MASTER_KEY, LiteLLM

pytestmark = pytest.mark.slow_litellm

both_dialects = pytest.mark.parametrize("dialect", BOTH, ids=str)
streams = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])

CONFIG = """\
server:
  port: {port}
models:
  fake:
    upstream: {upstream}
    api_key: engine-key
    alias: other
    headers: {{X-Team: blue}}
  left: {{upstream: "{upstream}", upstream_model: fake, api_key: engine-key, listed: false}}
  right: {{upstream: "{upstream}", upstream_model: fake-right, api_key: engine-key, listed: false}}
  demo: {{path: "{demo}"}}
routes:
  both: {{models: {{left: 1, right: 1}}, fallbacks: fake}}
aliases:
  gpt-*: fake
default_model: fake
"""

NAMES = ("fake", "other", "gpt-5", "claude-opus-5", "both", "nobody-knows")


@pytest.fixture(scope="module")
def engine() -> Iterator[FakeEngine]:
    with FakeEngine() as engine:
        yield engine


@pytest.fixture(scope="module")
def chain(engine: FakeEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiteLLM]:
    folder = tmp_path_factory.mktemp("litellm")
    config = folder / "config.yaml"
    port = free_port()
    text = CONFIG.format(upstream=engine.base_url, demo=demo_model_path(), port=port)
    config.write_text(text, "utf-8")
    command = [sys.executable, "-m", "homeport", "config", "export", "litellm"]
    command += ["--config", str(config), "--claude"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert "engine-key" not in done.stdout
    names = ("FAKE_API_KEY", "LEFT_API_KEY", "RIGHT_API_KEY")
    assert all(name in done.stderr for name in names)
    env = dict.fromkeys(names, "engine-key")
    gateway = Gateway(folder, "--config", str(config), port=port)  # LiteLLM asks it for the demo
    with gateway, LiteLLM(folder, done.stdout, env) as proxy:
        yield proxy


async def answer(
    proxy: LiteLLM, dialect: Dialect, model: str, *, stream: bool, **more: Any
) -> tuple[int, str]:
    headers = {"Authorization": f"Bearer {MASTER_KEY}", "anthropic-version": "2023-06-01"}
    request = {**dialect.request(stream=stream, model=model), **more}
    async with await ask(proxy.base_url, "POST", dialect.path, request, headers) as exchange:
        if stream and exchange.status == 200:
            events = await exchange.all_events()
            assert dialect.ended_well(events)
            return 200, dialect.text_of(events)
        body = await exchange.json()
    if exchange.status != 200:
        return exchange.status, str(body)
    if dialect.name == "anthropic":
        return 200, "".join(part.get("text", "") for part in body["content"])
    return 200, body["choices"][0]["message"]["content"]


@both_dialects
@streams
@pytest.mark.parametrize("name", NAMES)
async def test_every_name_answers_on_both_apis(
    chain: LiteLLM, engine: FakeEngine, dialect: Dialect, stream: bool, name: str
) -> None:
    engine.reset()
    engine.script(Answer(text="Hello from here"))
    assert await answer(chain, dialect, name, stream=stream) == (200, "Hello from here")
    (request,) = engine.chats()
    assert request["headers"]["authorization"] == "Bearer engine-key"
    assert request["body"]["model"] in ("fake", "fake-right")


async def test_headers_go_to_the_engine(chain: LiteLLM, engine: FakeEngine) -> None:
    engine.reset()
    await answer(chain, BOTH[1], "fake", stream=False)
    assert engine.chats()[0]["headers"]["x-team"] == "blue"


@streams
async def test_tools_come_through(chain: LiteLLM, engine: FakeEngine, stream: bool) -> None:
    engine.reset()
    engine.script(Answer(tool_calls=(ToolCall(name="look", arguments='{"at": "it"}'),)))
    schema = {"type": "object", "properties": {"at": {"type": "string"}}}
    tool = {"name": "look", "input_schema": schema}
    request = {**BOTH[0].request(stream=stream, model="fake"), "tools": [tool]}
    headers = {"Authorization": f"Bearer {MASTER_KEY}", "anthropic-version": "2023-06-01"}
    async with await ask(chain.base_url, "POST", "/v1/messages", request, headers) as exchange:
        assert exchange.status == 200
        if stream:
            events = [event.json() for event in await exchange.all_events()]
            blocks = [e["content_block"] for e in events if e["type"] == "content_block_start"]
            assert [b["name"] for b in blocks if b["type"] == "tool_use"] == ["look"]
        else:
            (call,) = [b for b in (await exchange.json())["content"] if b["type"] == "tool_use"]
            assert (call["name"], call["input"]) == ("look", {"at": "it"})


@both_dialects
@streams
async def test_an_engine_of_ours_answers_through_homeport(
    chain: LiteLLM, dialect: Dialect, stream: bool
) -> None:
    status, text = await answer(chain, dialect, "demo", stream=stream)
    assert status == 200
    assert text
