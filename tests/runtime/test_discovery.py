"""Looking around: real servers on loopback ports, some of which are no model servers."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from homeport.runtime.discovery import BUDGET_S, Found, look_around
from homeport.upstream import Client
from tests.support.gateway import free_port
from tests.support.plain_server import PlainServer, Reply

PATIENCE_S = 10.0
"""For servers that do answer, on a machine that may be busy."""

LISTED = {"object": "list", "data": [{"id": "some", "object": "model", "owned_by": "openai"}]}
LOADING = {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}

Look = Callable[..., Awaitable[tuple[Found, ...]]]


@pytest.fixture
async def look() -> AsyncIterator[Look]:
    client = Client()

    async def around(*ports: int, own: int = 0, budget_s: float = PATIENCE_S) -> tuple[Found, ...]:
        return await look_around(client.fetch, own_port=own, ports=ports, budget_s=budget_s)

    yield around
    await client.close()


@pytest.mark.parametrize(
    ("engine", "models"),
    [
        ("llamacpp", [("tiny", 2048)]),
        ("vllm", [("tiny", 2048)]),
        ("sglang", [("qwen3", 40960)]),
        ("trtllm", [("TinyLlama-1.1B-Chat-v1.0", None)]),
        ("mlx", [("/models/tiny-hf", None)]),
        ("ollama", [("qwen3:8b", None), ("someone/tuned:latest", None)]),
    ],
)
async def test_every_engine_is_found(
    engine: str, models: list[tuple[str, int | None]], look: Look
) -> None:
    with PlainServer(engine=engine) as server:
        (found,) = await look(server.port)
    assert (found.state, found.engine, found.port) == ("ready", engine, server.port)
    assert [(model.name, model.context_tokens) for model in found.models] == models
    assert found.is_taken


async def test_a_server_that_nobody_knows_is_found_by_its_list(look: Look) -> None:
    with PlainServer({"/v1/models": Reply(LISTED)}) as server:
        (found,) = await look(server.port)
    assert (found.state, found.engine) == ("ready", "openai_compatible")


async def test_the_order_is_that_of_the_ports(look: Look) -> None:
    with PlainServer(engine="vllm") as one, PlainServer(engine="llamacpp") as two:
        assert [f.port for f in await look(two.port, one.port)] == [two.port, one.port]
        assert [f.port for f in await look(one.port, two.port)] == [one.port, two.port]


@pytest.mark.parametrize(
    "replies",
    [
        {},
        {"/v1/models": Reply("<h1>Hello</h1>")},
        {"/v1/models": Reply({"models": ["a car", "a boat"]})},
        {"/v1/models": Reply({"object": "list", "data": None})},  # Ollama without a model
        {"/v1/models": Reply({"object": "list", "data": [{"name": "no id"}]})},
        {"/v1/models": Reply([1, 2])},
        {"/v1/models": Reply("<h1>Forbidden</h1>", 403)},
        {"/v1/models": Reply("<h1>Service unavailable</h1>", 503)},
        {"/v1/models": Reply({"status": 503, "error": "Service Unavailable"}, 503)},
        {"/v1/models": Reply({"error": {}}, 500)},
    ],
    ids=str,
)
async def test_what_is_no_model_server_is_passed_over(
    replies: dict[str, Reply], look: Look
) -> None:
    with PlainServer(replies) as server:
        assert await look(server.port) == ()
        assert server.paths == ["/v1/models"]


@pytest.mark.parametrize("status", [401, 403])
async def test_one_that_wants_a_key_is_told_and_not_taken(status: int, look: Look) -> None:
    with PlainServer({"/v1/models": Reply({"error": "Unauthorized"}, status)}) as server:
        (found,) = await look(server.port)
    assert (found.state, found.is_taken) == ("wants_key", False)


async def test_one_that_loads_is_taken(look: Look) -> None:
    with PlainServer({"/v1/models": Reply(LOADING, 503)}) as server:
        (found,) = await look(server.port)
    assert (found.state, found.is_taken, found.models) == ("loading", True, ())


@pytest.mark.parametrize(
    "models", [Reply(LISTED), Reply({"error": {"message": "a key is needed"}}, 401)], ids=str
)
async def test_another_homeport_is_passed_over(models: Reply, look: Look) -> None:
    replies = {"/v1/models": models, "/": Reply({"name": "homeport"})}
    with PlainServer(replies) as server:
        assert await look(server.port) == ()


async def test_litellm_may_lead_back_here(look: Look) -> None:
    alive = Reply(json.dumps("I'm alive!"))
    with PlainServer({"/v1/models": Reply(LISTED), "/health/liveliness": alive}) as server:
        (found,) = await look(server.port)
    assert (found.state, found.is_taken) == ("gateway", False)


async def test_our_own_port_is_not_asked(look: Look) -> None:
    with PlainServer(engine="llamacpp") as server:
        assert await look(server.port, own=server.port) == ()
        assert server.paths == []


async def test_refused_connections_cost_no_time(look: Look) -> None:
    began = time.monotonic()
    assert await look(free_port(), free_port(), budget_s=3600) == ()
    assert time.monotonic() - began < PATIENCE_S


async def test_a_silent_server_costs_the_budget_and_no_more(look: Look) -> None:
    """And the others are found all the same."""
    with socket.create_server(("127.0.0.1", 0)) as silent, PlainServer(engine="llamacpp") as server:
        port = silent.getsockname()[1]
        found = await look(port, server.port, budget_s=1.0)
        assert [f.port for f in found] == [server.port]
    assert BUDGET_S == 0.3


async def test_what_speaks_no_http_is_passed_over(look: Look) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:

        def hang_up() -> None:
            connection, _ = sock.accept()
            with connection:
                connection.sendall(b"SSH-2.0-OpenSSH_9.9\r\n")

        thread = threading.Thread(target=hang_up)
        thread.start()
        assert await look(sock.getsockname()[1]) == ()
        thread.join()
