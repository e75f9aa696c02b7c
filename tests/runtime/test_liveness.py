"""A ready engine that is stuck is killed and restarted; one that is busy is let alone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import psutil
import pytest

from homeport.errors import UpstreamError
from homeport.facts import Command
from homeport.runtime.liveness import Patience
from homeport.runtime.managed import ManagedInstance
from homeport.settings import ModelSettings
from homeport.upstream import Client
from tests.runtime.conftest import Pids, fetch, stub_command, survivors, until

STUB = ModelSettings(id="stub", path="stub.gguf")
PATIENCE = Patience(period_s=0.05, timeout_s=0.1, failures=3, busy_s=0.6, one_thread_busy_s=60.0)


@asynccontextmanager
async def watched(
    *options: str, answers_busy: bool = True, patience: Patience = PATIENCE
) -> AsyncIterator[tuple[ManagedInstance, Client]]:
    def command_for(model: ModelSettings, port: int, api_key: str) -> Command:
        return msgspec.structs.replace(stub_command(port, *options), answers_busy=answers_busy)

    client = Client()
    instance = ManagedInstance(
        STUB,
        client.fetch,
        command_for=command_for,
        backoff=lambda _: 0.05,
        silence=client.silence_s,
        patience=patience,
        stop_grace_s=0.2,
    )
    try:
        await instance.ensure_ready()
        yield instance, client
    finally:
        await instance.stop()
        await client.close()


async def ask(instance: ManagedInstance, client: Client, path: str) -> bytes:
    """A request with its lease, as the data plane makes them."""
    assert instance.endpoint is not None
    url = instance.endpoint.base_url.removesuffix("/v1") + path
    with instance.lease():
        exchange = client.exchange(url, method="GET")
        try:
            await exchange.send()
            await exchange.wait_head()
            return await exchange.read_all(1_000_000)
        except asyncio.CancelledError:
            instance.report_left()
            raise
        finally:
            exchange.close()


async def test_a_stuck_engine_is_killed_and_restarted(pids_file: Any, noted: Pids) -> None:
    options = ("--ignore-sigterm", "--grandchildren", "1", "--pids", str(pids_file))
    async with watched(*options) as (instance, client):
        first, tree = instance.endpoint, await noted(2)
        await hang(instance)
        await until(lambda: instance.endpoint not in (None, first))
        assert survivors(tree) == []
        assert str(instance.last_error).startswith("did not answer its liveness probe")
        assert b"pid" in await ask(instance, client, "/whoami")


async def hang(instance: ManagedInstance) -> None:
    assert instance.endpoint is not None
    with pytest.raises(UpstreamError):
        await fetch(instance.endpoint.base_url.removesuffix("/v1") + "/hang", {}, 0.05)


async def test_an_engine_that_hangs_by_itself() -> None:
    """With its last words in what people are told."""
    async with watched("--say", "last words", "--hang-after", "0.5") as (instance, _):
        await until(lambda: instance.last_error is not None)
        assert instance.last_error is not None
        assert "did not answer its liveness probe" in instance.last_error
        assert "last words" in instance.last_error


async def test_who_waits_for_a_stuck_engine_is_cut_off(pids_file: Any) -> None:
    """After the time that a busy one has."""
    async with watched() as (instance, client):
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(UpstreamError):
            await ask(instance, client, "/hang")
        assert loop.time() - began > PATIENCE.busy_s
        await until(lambda: "liveness" in str(instance.last_error))


@pytest.mark.parametrize(
    ("options", "path"),
    [
        (("--one-thread",), "/work?s=2"),  # silent, and nobody else is let in
        (("--one-thread", "--chatty"), "/work?s=2"),
        (("--one-thread",), "/work?s=2&drip"),
        ((), "/work?s=2"),  # probes are answered
    ],
)
async def test_a_busy_engine_is_let_alone(options: tuple[str, ...], path: str) -> None:
    """A request takes as long as some forty failed probes."""
    is_silent = options == ("--one-thread",) and "drip" not in path
    async with watched(*options, answers_busy=not is_silent) as (instance, client):
        before = psutil.Process(instance.pid)
        await ask(instance, client, path)
        await until(lambda: instance.in_flight == 0)
        assert before.is_running()
        assert (instance.state, instance.last_error) == ("ready", None)


async def test_a_client_that_left_does_not_make_a_busy_engine_stuck() -> None:
    async with watched("--one-thread", answers_busy=False) as (instance, client):
        asking = asyncio.create_task(ask(instance, client, "/work?s=2"))
        await until(lambda: instance.in_flight == 1)
        await asyncio.sleep(0.2)
        asking.cancel()
        assert b"pid" in await ask(instance, client, "/whoami")
        assert instance.last_error is None


async def test_work_that_was_done_gives_no_time() -> None:
    """It hangs right after an answer that was whole: nothing that it might still compute."""
    patience = PATIENCE._replace(busy_s=60.0)
    async with watched(patience=patience) as (instance, client):
        await ask(instance, client, "/whoami")
        await hang(instance)
        await until(lambda: "liveness" in str(instance.last_error))


async def test_an_engine_that_says_something_is_not_stuck() -> None:
    async with watched("--chatty", "--hang-after", "0.3") as (instance, _):
        await asyncio.sleep(1.5)
        assert instance.last_error is None
