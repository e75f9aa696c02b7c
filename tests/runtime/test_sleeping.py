"""An engine that sleeps in place of being stopped keeps its process, and is woken for the next request.

The stub has the routes of vLLM's sleep mode; vLLM itself needs a GPU for it.
"""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import psutil
import pytest

from homeport.facts import Command
from homeport.lifecycle.scheduler import Policy, Terms
from homeport.runtime.fleet import Fleet
from homeport.runtime.managed import ManagedInstance
from homeport.runtime.sleeping import Sleeper
from homeport.settings import ModelSettings
from homeport.upstream import Client
from tests.runtime.conftest import Pids, is_gone, stub_command, survivors, until


class House:
    """Two engines of which one may be awake."""

    def __init__(self, pids_file: Path) -> None:
        self.fleet = Fleet(Policy(budget_bytes=10, min_dwell_s=0.0))
        self.client = Client()
        self._pids_file = pids_file

    def add(self, name: str, *options: str, sleep: Literal[1, 2] | None = None) -> ManagedInstance:
        def command_for(model: ModelSettings, port: int, api_key: str) -> Command:
            return stub_command(port, "--pids", str(self._pids_file), *options)

        instance = ManagedInstance(
            ModelSettings(id=name, path=f"{name}.gguf", sleep=sleep),
            self.client.fetch,
            command_for=command_for,
            keeper=self.fleet,
            sleeper=Sleeper(self.client.fetch),
            backoff=lambda _: 0.05,
        )
        self.fleet.add(instance, Terms(need_bytes=10))
        return instance

    async def ask(self, instance: ManagedInstance, path: str = "/whoami") -> Any:
        with instance.lease() as lease:
            endpoint = lease.endpoint or await lease.ready()
            url = endpoint.base_url.removesuffix("/v1") + path
            return json.loads((await self.client.fetch(url))[2])


def processes(pids_file: Path) -> list[psutil.Process]:
    pids = [int(pid) for pid in pids_file.read_text().split()]
    return [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]


@pytest.fixture
async def house(pids_file: Path) -> AsyncIterator[House]:
    made = House(pids_file)
    yield made
    await made.fleet.close()
    await made.client.close()
    assert not survivors(processes(pids_file))


async def test_it_sleeps_while_another_runs_and_wakes_in_the_same_process(house: House) -> None:
    one, two = house.add("one", "--sleeps", sleep=1), house.add("two")
    pid = (await house.ask(one))["pid"]
    await house.ask(two)
    assert (one.state, two.state) == ("asleep", "ready")
    assert house.fleet.snapshot()["one"].reserved_bytes == 0
    assert (await house.ask(one))["pid"] == pid
    assert (one.state, two.state) == ("ready", "stopped")
    assert await house.ask(one, "/told") == ["/sleep?level=1", "/wake_up"]


async def test_level_2_reads_the_weights_again(house: House) -> None:
    one, two = house.add("one", "--sleeps", sleep=2), house.add("two")
    await house.ask(one)
    await house.ask(two)
    assert await house.ask(one, "/told") == [
        "/sleep?level=2",
        "/wake_up?tags=weights",
        '/collective_rpc {"method":"reload_weights"}',
        "/wake_up?tags=kv_cache",
    ]


async def test_one_that_cannot_sleep_is_stopped(house: House) -> None:
    one, two = house.add("one", sleep=1), house.add("two")
    pid = (await house.ask(one))["pid"]
    await house.ask(two)
    assert (one.state, two.state) == ("stopped", "ready")
    assert (await house.ask(one))["pid"] != pid


async def test_one_that_dies_in_its_sleep_is_started_anew(house: House, noted: Pids) -> None:
    one, two = house.add("one", "--sleeps", sleep=1), house.add("two")
    await house.ask(one)
    (process,) = await noted(1)
    await house.ask(two)
    process.kill()
    await until(lambda: one.state == "stopped")
    assert (await house.ask(one))["pid"] != process.pid


async def test_a_sleeping_one_ends_with_the_others(house: House, noted: Pids) -> None:
    one, two = house.add("one", "--sleeps", sleep=1), house.add("two")
    await house.ask(one)
    await house.ask(two)
    assert len(await noted(2)) == 2
    assert one.state == "asleep"
    await house.fleet.close()
    assert (one.state, two.state) == ("stopped", "stopped")


async def test_unloading_a_sleeping_one_ends_it(house: House, noted: Pids) -> None:
    one, two = house.add("one", "--sleeps", sleep=1), house.add("two")
    await house.ask(one)
    (process,) = await noted(1)
    await house.ask(two)
    house.fleet.unload(one)
    await until(lambda: is_gone(process))
    assert (await house.ask(one))["pid"] != process.pid


async def test_a_sleeping_one_that_is_retired_ends(house: House, noted: Pids) -> None:
    one, two = house.add("one", "--sleeps", sleep=1), house.add("two")
    await house.ask(one)
    (process,) = await noted(1)
    await house.ask(two)
    house.fleet.retire(one)
    await until(lambda: is_gone(process) and one.state == "stopped")
