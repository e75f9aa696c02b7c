"""Models change places on real llama.cpp, and long prompts survive it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from homeport.demo import demo_model_path
from homeport.upstream import Client
from tests.support.gateway import Gateway

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
    client = Client()
    roles = ("user", "assistant")
    messages = [{"role": roles[n % 2], "content": text} for n, text in enumerate(turns)]
    body = {"model": model, "max_tokens": 8, "temperature": 0, "messages": messages}
    try:
        status, _, answer = await client.fetch(
            f"{gateway.base_url}/v1/chat/completions",
            {"content-type": "application/json", "x-session-id": "s", "authorization": "Bearer x"},
            120.0,
            method="POST",
            body=msgspec.json.encode(body),
        )
        assert status == 200, answer
        usage: dict[str, Any] = msgspec.json.decode(answer)["usage"]
        return usage
    finally:
        await client.close()


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
