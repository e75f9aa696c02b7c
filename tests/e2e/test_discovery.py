"""`homeport serve` without a word: servers on this machine's usual ports are found and served.

These tests listen on the usual ports themselves, and are skipped where one of them is taken: whoever
listens there would be found as well.
"""

from __future__ import annotations

import json
import socket
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from homeport.runtime.discovery import PORTS
from tests.e2e.dialects import OPENAI
from tests.e2e.raw_client import ask
from tests.support.engine import FakeEngine
from tests.support.gateway import Gateway
from tests.support.plain_server import PlainServer, Reply

LOADING = Reply({"error": {"code": 503, "message": "Loading model"}}, 503)
LISTED = Reply({"object": "list", "data": [{"id": "slow", "owned_by": "llamacpp"}]})
READY_WITHIN_S = 20.0


@pytest.fixture(autouse=True)
def usual_ports_are_free() -> None:
    for port in PORTS:
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                pytest.skip(f"something listens on port {port}")


def models_of(gateway: Gateway) -> list[str]:
    with urllib.request.urlopen(gateway.base_url + "/v1/models", timeout=10) as answer:
        return [model["id"] for model in json.load(answer)["data"]]


def events(gateway: Gateway) -> list[dict[str, Any]]:
    lines = gateway.output().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


async def answer_to(gateway: Gateway, model: str) -> str | None:
    """Which model answered."""
    request = OPENAI.request("Hello!", stream=False, model=model)
    async with await ask(gateway.base_url, "POST", OPENAI.path, request) as exchange:
        assert exchange.status == 200
        return exchange.headers.get("x-homeport-model")


async def test_what_runs_is_served_in_place_of_the_demo(tmp_path: Path) -> None:
    """The first chat model of the first port is the default."""
    with (
        FakeEngine(port=PORTS[1], model="second-model"),
        FakeEngine(port=PORTS[3], model="nomic-embed-text"),
        Gateway(tmp_path, discover=True) as gateway,
    ):
        assert models_of(gateway) == ["second-model", "nomic-embed-text"]
        assert await answer_to(gateway, "claude-whatever") == "second-model"
        said = gateway.output()
    assert f"on port {PORTS[1]}: second-model (" in said
    assert f"on port {PORTS[3]}: nomic-embed-text (" in said
    assert "demo" not in said
    assert "ANTHROPIC_BASE_URL=" in said


async def test_an_embedding_model_is_not_the_default(tmp_path: Path) -> None:
    with (
        FakeEngine(port=PORTS[0], model="nomic-embed-text"),
        FakeEngine(port=PORTS[4], model="chat-model"),
        Gateway(tmp_path, discover=True) as gateway,
    ):
        assert await answer_to(gateway, "claude-whatever") == "chat-model"


def test_a_server_that_loads_is_waited_for(tmp_path: Path) -> None:
    with (
        PlainServer({"/v1/models": LOADING}, port=PORTS[0]) as server,
        Gateway(tmp_path, "--json", discover=True, wait_ready=False) as gateway,
    ):
        assert models_of(gateway) == []
        (found,) = (event for event in events(gateway) if event["event"] == "found")
        assert (found["state"], found["upstream"]) == ("loading", f"http://127.0.0.1:{PORTS[0]}")
        server.replies["/v1/models"] = LISTED
        deadline = time.monotonic() + READY_WITHIN_S
        while models_of(gateway) != ["slow"]:
            assert time.monotonic() < deadline, gateway.output()
            time.sleep(0.05)


@pytest.mark.llamacpp
@pytest.mark.parametrize("flags", [["--no-discover"], ["--demo"]])
def test_discovery_can_be_left_out(flags: list[str], tmp_path: Path) -> None:
    with FakeEngine(port=PORTS[0]), Gateway(tmp_path, *flags, discover=True) as gateway:
        assert models_of(gateway) == ["homeport-demo"]
        assert "found" not in gateway.output()


def test_two_without_a_word_do_not_find_each_other(tmp_path: Path) -> None:
    """One of them on a usual port; the demo model of either is its own."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with (
        Gateway(tmp_path / "one", port=PORTS[0], wait_ready=False),
        Gateway(tmp_path / "two", discover=True, wait_ready=False) as two,
    ):
        assert models_of(two) == ["homeport-demo"]
        assert "found" not in two.output()
