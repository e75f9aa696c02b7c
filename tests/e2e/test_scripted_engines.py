"""SGLang, TensorRT-LLM, MLX and a server of one's own, as far as they can be had here: scripted.

The gateway starts each from a configuration, and clients of both dialects talk to it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.dialects import ANTHROPIC, BOTH, OPENAI, Dialect
from tests.e2e.raw_client import ask
from tests.support import scripted_engines
from tests.support.gateway import Gateway

PROGRAM = Path(scripted_engines.__file__)
ENGINES = tuple(scripted_engines.ENGINES)
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("scripted")
    weights = folder / "some-model"
    weights.mkdir()
    (weights / "config.json").write_text('{"model_type": "qwen3"}')
    (weights / "model.safetensors").touch()
    models: dict[str, Any] = {}
    for engine in ENGINES:
        binary = folder / engine
        binary.write_text(f'#!/bin/sh\nexec {sys.executable} -S {PROGRAM} {engine} "$@"\n')
        binary.chmod(0o755)
        models[engine] = {"path": str(weights), "engine": engine, "binary": str(binary)}
    del models["custom"]["binary"]
    models["custom"]["command"] = [str(folder / "custom"), "--port", "{port}", "{model}"]
    config = folder / "config.yaml"
    config.write_text(json.dumps({"models": models}))  # JSON is YAML
    with Gateway(folder, "--config", str(config)) as gateway:
        yield gateway
    gateway.assert_no_internal_error()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dialect", BOTH, ids=str)
async def test_whole_and_streamed(gateway: Gateway, engine: str, dialect: Dialect) -> None:
    request = dialect.request(stream=False, model=engine)
    async with await ask(gateway.base_url, "POST", dialect.path, request) as exchange:
        assert exchange.status == 200, await exchange.body()
        assert f"Hello from {engine}." in json.dumps(await exchange.json())
    request = dialect.request(stream=True, model=engine)
    async with await ask(gateway.base_url, "POST", dialect.path, request) as exchange:
        events = await exchange.all_events()
    assert dialect.text_of(events) == f"Hello from {engine}."
    assert dialect.ended_well(events)
    assert dialect.errors(events) == []


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_tool_is_called(gateway: Gateway, engine: str) -> None:
    tool = {"name": "get_weather", "description": "The weather.", "input_schema": WEATHER}
    request = {**ANTHROPIC.request("Weather?", stream=True, model=engine), "tools": [tool]}
    async with await ask(gateway.base_url, "POST", ANTHROPIC.path, request) as exchange:
        events = await exchange.all_events()
    assert ANTHROPIC.errors(events) == []
    starts = [e.json()["content_block"] for e in events if e.name == "content_block_start"]
    assert [(block["type"], block["name"]) for block in starts] == [("tool_use", "get_weather")]
    parts = [e.json()["delta"]["partial_json"] for e in events if e.name == "content_block_delta"]
    assert json.loads("".join(parts)) == {"city": "Oslo"}

    function = {"name": "get_weather", "parameters": WEATHER}
    request = OPENAI.request("Weather?", stream=False, model=engine)
    request["tools"] = [{"type": "function", "function": function}]
    async with await ask(gateway.base_url, "POST", OPENAI.path, request) as exchange:
        choice = (await exchange.json())["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    (call,) = choice["message"]["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {"city": "Oslo"}
