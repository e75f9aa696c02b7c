"""Many requests at once on the real llama.cpp, whose HTTP server gives a thread to each open
connection: one that is kept open without a request holds its thread, and a burst waits for it."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections.abc import Iterator

import psutil
import pytest

from tests.support.gateway import Gateway

pytestmark = pytest.mark.llamacpp

AT_ONCE = 25
BODY = json.dumps(
    {"model": "x", "max_tokens": 4, "messages": [{"role": "user", "content": "Hello there"}]}
).encode()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(tmp_path_factory.mktemp("gateway"), "--demo") as gateway:
        yield gateway


def ask(gateway: Gateway, path: str) -> dict[str, object]:
    request = urllib.request.Request(
        gateway.base_url + path, BODY, {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        answer: dict[str, object] = json.load(response)
        return answer


def engine_of(gateway: Gateway) -> psutil.Process:
    [engine] = [
        process
        for process in gateway.children()
        if process.cmdline()[1:3] == ["-m", "homeport.runtime.llamacpp_child"]
    ]
    return engine


def connections(engine: psutil.Process) -> list[object]:
    return [c for c in engine.net_connections("tcp") if c.status == psutil.CONN_ESTABLISHED]


def wait_none(engine: psutil.Process) -> None:
    """The engine notices a moment after its answer has gone; of a kept one it would let go itself, but
    after five seconds."""
    deadline = time.monotonic() + 3
    while found := connections(engine):
        assert time.monotonic() < deadline, found
        time.sleep(0.01)


async def test_no_connection_is_kept_after_a_burst(gateway: Gateway) -> None:
    alone = ask(gateway, "/v1/messages/count_tokens")
    counts = await asyncio.gather(
        *(asyncio.to_thread(ask, gateway, "/v1/messages/count_tokens") for _ in range(AT_ONCE))
    )
    assert counts == [alone] * AT_ONCE
    wait_none(engine_of(gateway))


def test_no_connection_is_kept_after_an_answer(gateway: Gateway) -> None:
    answer = ask(gateway, "/v1/messages")
    assert answer["type"] == "message"
    wait_none(engine_of(gateway))
