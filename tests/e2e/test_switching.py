"""Models change places on real llama.cpp, and long prompts survive it."""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from homeport.demo import demo_model_path
from homeport.upstream import Client
from tests.support.gateway import Gateway
from tests.support.switching import Asked, starts_needed

pytestmark = pytest.mark.llamacpp

CONFIG = """
lifecycle:
  groups: {{demo: {{}}}}
  min_dwell_s: 0
  saved_slots: {saved}
models:
  one: {{path: {path}, ctx: 4096, group: demo, env: {{LLAMA_ARG_CACHE_RAM: "0"}}}}
  two: {{path: {path}, ctx: 4096, group: demo, env: {{LLAMA_ARG_CACHE_RAM: "0"}}}}
"""
LONG = "This sentence is one of many that the model has to read again when they are lost. " * 60


@pytest.fixture(params=["8GiB", "0"])
def gateway(tmp_path: Path, request: Any) -> Iterator[Gateway]:
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG.format(path=demo_model_path(), saved=request.param), "utf-8")
    with Gateway(tmp_path, "--config", str(config)) as gateway:
        yield gateway
        gateway.assert_no_internal_error()


async def ask(gateway: Gateway, model: str, *turns: str) -> dict[str, Any]:
    """A turn of a conversation; returns the engine's usage."""
    return (await asked(gateway, model, *turns))[0]


async def asked(gateway: Gateway, model: str, *turns: str) -> tuple[dict[str, Any], float]:
    """The same, and how long the request waited for its model."""
    client = Client()
    roles = ("user", "assistant")
    messages = [{"role": roles[n % 2], "content": text} for n, text in enumerate(turns)]
    body = {"model": model, "max_tokens": 8, "temperature": 0, "messages": messages}
    try:
        status, headers, answer = await client.fetch(
            f"{gateway.base_url}/v1/chat/completions",
            {"content-type": "application/json", "x-session-id": "s", "authorization": "Bearer x"},
            120.0,
            method="POST",
            body=msgspec.json.encode(body),
        )
        assert status == 200, answer
        usage: dict[str, Any] = msgspec.json.decode(answer)["usage"]
        return usage, float(headers.get("x-homeport-waited", 0.0))
    finally:
        await client.close()


THREE = """
lifecycle:
  memory: {budget}MiB
  min_dwell_s: 0.5
models:
  a: {{path: {path}, ctx: 2048}}
  b: {{path: {path}, ctx: 2048}}
  c: {{path: {path}, ctx: 2048}}
"""
CLIENTS = 16


@pytest.mark.parametrize(
    "requests", [60, pytest.param(200, marks=pytest.mark.slow_engines)], ids=["60", "200"]
)
async def test_three_models_with_room_for_one(tmp_path: Path, requests: int) -> None:
    """16 clients ask for three models in random order. Every one is answered; the number of starts
    is no more than the policy needs for these very arrivals, by a simulation that shares no code with
    the scheduler; and at the end there is one engine, and one reservation."""
    config = tmp_path / "config.yaml"
    config.write_text(THREE.format(path=demo_model_path(), budget=70), "utf-8")
    pick = random.Random(4)
    left = [pick.choice("abc") for _ in range(requests)]
    served: list[Asked] = []
    with Gateway(tmp_path, "--config", str(config), "--log-level", "info") as gateway:

        async def client() -> None:
            while left:
                model, began = left.pop(), time.monotonic()
                usage, waited_s = await asked(gateway, model, "Say hello.")
                assert usage["completion_tokens"]
                took_s = time.monotonic() - began
                served.append(Asked(began, model, max(0.0, took_s - waited_s)))

        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(client())
        gateway.assert_no_internal_error()
        said = gateway.output()
        starts, loads = said.count("instance.starting"), loading_times(said)
        state = await asyncio.to_thread(models, gateway)
        assert sorted(model["state"] for model in state.values()) == ["ready", "stopped", "stopped"]
        assert not any(model["in_flight"] for model in state.values())
        assert len(gateway.children()) == 3, "one engine, its shim and the spare one"
    assert len(served) == requests
    least = starts_needed(served, load_s=min(loads), min_dwell_s=0.5, slots=2)
    assert starts <= least


def models(gateway: Gateway) -> dict[str, Any]:
    with urllib.request.urlopen(f"{gateway.base_url}/readyz") as answer:
        found: dict[str, Any] = json.load(answer)["models"]
        return found


def loading_times(said: str) -> list[float]:
    return [float(found) for found in re.findall(r"instance\.ready.*?took_s=([0-9.]+)", said)]


def saved(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("slots/*/*") if path.is_file()]


async def test_a_long_prompt_survives_a_switch(gateway: Gateway, tmp_path: Path) -> None:
    is_kept = "8GiB" in (tmp_path / "config.yaml").read_text("utf-8")
    first = await ask(gateway, "one", LONG)
    assert first["prompt_tokens"] > 500
    await ask(gateway, "two", "hi")
    assert len(saved(tmp_path)) == is_kept
    back = await ask(gateway, "one", LONG, "Yes.", "Go on.")
    cached = back["prompt_tokens_details"]["cached_tokens"]
    if is_kept:
        assert cached > 0.95 * first["prompt_tokens"]
    else:
        assert cached == 0, "without saving there is nothing: else this test shows nothing"
    await asyncio.to_thread(gateway.stop)
    assert not saved(tmp_path)
