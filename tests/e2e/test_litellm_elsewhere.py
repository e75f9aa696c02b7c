"""A gateway that uses a LiteLLM which it has not started; a scripted server plays that LiteLLM.

The real one in a container of its own: `test_stack_litellm.py`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.raw_client import ask
from tests.support.engine import FakeEngine
from tests.support.gateway import Gateway, free_port

INTERNAL, THERE = "sk-internal", "sk-there"
CONFIG = """\
models:
  native: {{upstream: "{native}", upstream_model: fake}}
  beyond: {{via: litellm, upstream_model: bedrock/somebody}}
default_model: native
"""
CHAT = "/v1/chat/completions"
WITHIN_S = 20.0


@pytest.fixture(scope="module")
def native() -> Iterator[FakeEngine]:
    with FakeEngine() as engine:
        yield engine


@pytest.fixture(scope="module")
def litellm() -> Iterator[FakeEngine]:
    with FakeEngine() as engine:
        yield engine


@pytest.fixture(scope="module")
def gateway(
    native: FakeEngine, litellm: FakeEngine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    with started(tmp_path_factory.mktemp("elsewhere"), native, litellm.base_url) as gateway:
        yield gateway
    gateway.assert_no_internal_error()


def started(folder: Path, native: FakeEngine, url: str) -> Gateway:
    file = folder / "config.yaml"
    file.write_text(CONFIG.format(native=native.base_url), "utf-8")
    env = {
        "HOMEPORT_LITELLM_URL": url.removesuffix("/v1"),
        "LITELLM_MASTER_KEY": THERE,
        "HOMEPORT_INTERNAL_KEY": INTERNAL,
    }
    return Gateway(folder, "--config", str(file), env=env)


async def chat(gateway: Gateway, model: str, key: str = THERE) -> tuple[int, Any]:
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
    headers = {"authorization": f"Bearer {key}"}
    async with await ask(gateway.base_url, "POST", CHAT, body, headers) as exchange:
        return exchange.status, await exchange.json()


async def test_it_is_asked_for_what_only_it_reaches(
    gateway: Gateway, native: FakeEngine, litellm: FakeEngine
) -> None:
    status, answer = await chat(gateway, "beyond")
    assert (status, answer["model"]) == (200, "beyond")
    (request,) = litellm.chats()
    assert request["body"]["model"] == "beyond"
    assert request["headers"]["authorization"] == f"Bearer {THERE}"
    assert request["headers"]["x-homeport-request"], "homeport counts this one itself"
    assert (await chat(gateway, "native"))[0] == 200
    assert len(litellm.chats()) == 1
    assert len(native.chats()) == 1


async def test_its_key_opens_the_desk_and_leads_to_no_circle(gateway: Gateway) -> None:
    desk = "/internal/litellm/model"
    headers = {"authorization": f"Bearer {INTERNAL}"}
    async with await ask(gateway.base_url, "POST", desk, {"model": "x"}, headers) as exchange:
        assert await exchange.json() == {"model": "native", "is_native": True}
    headers = {"authorization": f"Bearer {THERE}"}
    async with await ask(gateway.base_url, "POST", desk, {"model": "x"}, headers) as exchange:
        assert exchange.status == 401
    status, answer = await chat(gateway, "beyond", INTERNAL)
    assert status == 400
    assert "round in circles" in answer["error"]["message"]


async def test_the_default_model_has_its_name_there(gateway: Gateway) -> None:
    status, answer = await chat(gateway, "local-model")
    assert (status, answer["model"]) == (200, "local-model")


async def test_one_that_is_down_is_asked_again(native: FakeEngine, tmp_path: Path) -> None:
    port = free_port()
    with started(tmp_path, native, f"http://127.0.0.1:{port}") as gateway:
        assert (await chat(gateway, "beyond"))[0] in (502, 503)
        assert (await chat(gateway, "native"))[0] == 200, "nobody else needs it"
        with FakeEngine(port=port):
            deadline = time.monotonic() + WITHIN_S
            while (await chat(gateway, "beyond"))[0] != 200:
                assert time.monotonic() < deadline
