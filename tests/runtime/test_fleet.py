"""The fleet: what the scheduler decides happens to real processes, and every lease ends.

The decisions themselves are tested in ``tests/lifecycle``; here it is shown that effects reach
engines, that what happens to engines reaches the scheduler, and that nobody waits in vain.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from homeport.errors import ClientError, RequestFault, UpstreamError
from homeport.facts import Command, Endpoint
from homeport.lifecycle.scheduler import Policy, Terms
from homeport.runtime.fleet import Fleet
from homeport.runtime.managed import ManagedInstance
from homeport.runtime.process import free_port
from homeport.settings import ModelSettings
from tests.runtime.conftest import Pids, fetch, stub_command, survivors, until

ONE = Policy(budget_bytes=10, min_dwell_s=0.0)
"""Room for one of the engines that follow."""


class Engines:
    """A fleet of stub engines: ``await engines.add("a")``."""

    def __init__(self, policy: Policy, pids_file: Path) -> None:
        self.fleet = Fleet(policy)
        self._pids_file = pids_file

    def add(
        self,
        name: str,
        *options: str,
        terms: Terms | None = None,
        port: int | None = None,
        **given: Any,
    ) -> Any:
        def command_for(model: ModelSettings, port: int, api_key: str) -> Command:
            return stub_command(port, "--pids", str(self._pids_file), *options)

        settings = {"command_for": command_for, "backoff": lambda _: 0.05, **given}
        model = ModelSettings(id=name, path=f"{name}.gguf", port=port)
        instance = ManagedInstance(model, fetch, keeper=self.fleet, **settings)
        self.fleet.add(instance, terms or Terms(need_bytes=10))
        return instance

    def pids(self) -> list[int]:
        """Of all engines that were ever started, in order."""
        text = self._pids_file.read_text() if self._pids_file.exists() else ""
        return [int(pid) for pid in text.split()]

    def is_idle(self) -> bool:
        """Nothing is held and nobody waits."""
        rows = self.fleet.snapshot().values()
        return not self.fleet.waiting and not any(row.in_flight or row.queued for row in rows)


@asynccontextmanager
async def engines(pids_file: Path, policy: Policy = ONE) -> AsyncIterator[Engines]:
    made = Engines(policy, pids_file)
    try:
        yield made
    finally:
        await made.fleet.close()
        living = [psutil.Process(pid) for pid in made.pids() if psutil.pid_exists(pid)]
        assert not survivors(living)


async def ask(instance: ManagedInstance, hold_s: float = 0.0) -> Endpoint:
    """One request: a lease, and a question to the engine."""
    with instance.lease() as lease:
        endpoint = lease.endpoint or await lease.ready()
        await fetch(endpoint.base_url + "/models", {}, 5.0)
        await asyncio.sleep(hold_s)
        return endpoint


async def test_a_request_starts_the_engine_and_the_next_finds_it(pids_file: Path) -> None:
    async with engines(pids_file) as made:
        it = made.add("it")
        assert it.state == "stopped"
        first = await ask(it)
        with it.lease() as lease:
            assert lease.endpoint is first
            assert it.in_flight == 1
        assert it.in_flight == 0
        assert made.is_idle()


async def test_room_is_made_for_another_when_the_first_is_idle(pids_file: Path) -> None:
    async with engines(pids_file) as made:
        one, two = made.add("one"), made.add("two")
        await ask(one)
        held = asyncio.create_task(ask(one, hold_s=0.3))
        await until(lambda: one.in_flight == 1)
        other = asyncio.create_task(ask(two))
        await asyncio.sleep(0.1)
        assert (one.state, two.state) == ("ready", "stopped")  # in flight: not touched
        await held
        await other
        assert (one.state, two.state) == ("stopped", "ready")
        assert made.is_idle()


async def test_many_in_any_order_are_all_answered(pids_file: Path) -> None:
    async with engines(pids_file) as made:
        three = [made.add(name) for name in "abc"]
        answers = await asyncio.gather(*(ask(three[n * 7 % 3]) for n in range(30)))
        assert len(answers) == 30
        assert made.is_idle()
        assert sum(row.reserved_bytes for row in made.fleet.snapshot().values()) == 10
        assert len(made.pids()) == 3, "each model is started once for all that wait for it"


async def test_who_leaves_while_it_loads_leaves_nothing_behind(pids_file: Path) -> None:
    async with engines(pids_file) as made:
        it = made.add("it", "--ready-after", "0.3")
        waiting = [asyncio.create_task(ask(it)) for _ in range(5)]
        await until(lambda: made.fleet.waiting == 5)
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        assert made.is_idle()
        await ask(it)  # and it can still be used


async def test_a_failed_start_is_told_with_the_engines_words(pids_file: Path) -> None:
    async with engines(pids_file) as made:
        it = made.add("it", "--say", "no such tensor", "--exit", "1", backoff=lambda _: None)
        with pytest.raises(UpstreamError, match="no such tensor"):
            await ask(it)
        with pytest.raises(UpstreamError) as raised:  # at once, without another start
            await ask(it)
        assert raised.value.retry_after_s
        assert made.is_idle()
        assert sum(row.reserved_bytes for row in made.fleet.snapshot().values()) == 0


async def test_a_crash_is_waited_out(pids_file: Path, noted: Pids) -> None:
    async with engines(pids_file) as made:
        it = made.add("it")
        await ask(it)
        (process,) = await noted(1)
        process.kill()
        await until(lambda: it.state != "ready")
        await ask(it)
        assert made.is_idle()


async def test_a_request_whose_engine_dies_is_given_the_next_one(
    pids_file: Path, noted: Pids
) -> None:
    async with engines(pids_file) as made:
        it = made.add("it")
        with it.lease() as lease:
            first = await lease.ready()
            (process,) = await noted(1)
            process.kill()
            assert await lease.lost()
            second = await lease.ready()
            assert second.base_url != first.base_url
            assert it.in_flight == 1
        assert made.is_idle()


async def test_a_living_engine_is_not_lost(pids_file: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("homeport.runtime.scheduled_lease.LOST_S", 0.05)
    async with engines(pids_file) as made:
        it = made.add("it")
        with it.lease() as lease:
            await lease.ready()
            assert not await lease.lost()
            assert lease.endpoint is not None
        assert made.is_idle()


async def test_a_full_queue_refuses_in_the_dialects_overload(pids_file: Path) -> None:
    async with engines(pids_file) as made:
        it = made.add("it", "--ready-after", "0.3", terms=Terms(need_bytes=10, max_queue=1))
        first = asyncio.create_task(ask(it))
        await until(lambda: made.fleet.waiting == 1)
        with pytest.raises(UpstreamError) as raised:
            await ask(it)
        assert raised.value.kind == "overloaded"
        assert raised.value.retry_after_s
        await first


async def test_waiting_ends_after_max_wait(pids_file: Path) -> None:
    async with engines(pids_file) as made:
        it = made.add("it", "--ready-after", "5", terms=Terms(need_bytes=10, max_wait_s=0.2))
        with pytest.raises(UpstreamError, match="in time"):
            await ask(it)
        assert made.is_idle()


async def test_what_cannot_fit_says_so(pids_file: Path) -> None:
    async with engines(pids_file) as made:
        it = made.add("it", terms=Terms(need_bytes=11))
        with pytest.raises(RequestFault, match="needs about 0 MiB"):
            await ask(it)


async def test_idle_for_its_ttl_it_is_stopped(pids_file: Path) -> None:
    async with engines(pids_file) as made:
        it = made.add("it", terms=Terms(need_bytes=10, ttl_s=0.2))
        await ask(it)
        assert it.state == "ready"
        await until(lambda: it.state == "stopped")
        assert sum(row.reserved_bytes for row in made.fleet.snapshot().values()) == 0


async def test_load_and_unload_by_hand(pids_file: Path) -> None:
    async with engines(pids_file) as made:
        it = made.add("it")
        assert await made.fleet.load(it) is it.endpoint
        assert made.is_idle()
        made.fleet.unload(it)
        await until(lambda: it.state == "stopped")
        await ask(it)


async def test_a_retired_instance_finishes_and_is_forgotten(pids_file: Path) -> None:
    async with engines(pids_file) as made:
        old = made.add("it")
        held = asyncio.create_task(ask(old, hold_s=0.3))
        await until(lambda: old.in_flight == 1)
        made.fleet.retire(old)
        with pytest.raises(ClientError, match="taken out"):
            await ask(old)
        await held
        await until(lambda: old.state == "stopped")
        assert made.fleet.snapshot() == {}
        with pytest.raises(ClientError, match="taken out"):
            await ask(old)


async def test_who_waits_for_a_retired_instance_gets_the_new_one(pids_file: Path) -> None:
    async with engines(pids_file) as made:
        old = made.add("it", "--ready-after", "60")
        waiting = asyncio.create_task(ask(old))
        await until(lambda: made.fleet.waiting == 1)
        new = made.add("it")
        made.fleet.retire(old)
        late = asyncio.create_task(ask(old))  # looked it up before, asks after
        await asyncio.gather(waiting, late)
        assert (old.state, new.state) == ("stopped", "ready")
        assert made.is_idle()
        assert len(made.fleet.snapshot()) == 1


async def test_a_new_engine_waits_for_the_port_of_the_old_one(pids_file: Path) -> None:
    """Both would fit; but two cannot listen in one place."""
    async with engines(pids_file, Policy()) as made:
        port = free_port()
        old = made.add("it", port=port)
        held = asyncio.create_task(ask(old, hold_s=0.5))
        await until(lambda: old.in_flight == 1)
        new = made.add("it", port=port, backoff=lambda _: None)
        made.fleet.retire(old)
        endpoint = await ask(new)
        assert held.done()
        assert str(port) in endpoint.base_url
        await held


async def test_a_load_by_hand_tries_again_at_once(pids_file: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.touch()
    async with engines(pids_file) as made:

        def command_for(model: ModelSettings, port: int, api_key: str) -> Command:
            options = ("--exit", "1") if broken.exists() else ("--pids", str(pids_file))
            return stub_command(port, *options)

        it = made.add("it", command_for=command_for, backoff=lambda _: None)
        with pytest.raises(UpstreamError, match="status 1"):
            await made.fleet.load(it)
        broken.unlink()
        with pytest.raises(UpstreamError, match="not available"):
            await ask(it)
        await made.fleet.load(it)
        assert it.state == "ready"


class Heard:
    """A narrator that keeps what it hears."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def starting(self, instance: ManagedInstance) -> None:
        self.words.append(f"starting {instance.id}")

    def ready(self, instance: ManagedInstance, endpoint: Endpoint) -> None:
        self.words.append(f"ready {instance.id}")

    def down(self, instance: ManagedInstance, *, retry_s: float | None) -> None:
        self.words.append(f"down {instance.id} {retry_s}")

    def stopping(self, instance: ManagedInstance, why: str) -> None:
        self.words.append(f"stopping {instance.id} {why}")

    def stopped(self, instance: ManagedInstance) -> None:
        self.words.append(f"stopped {instance.id}")

    def waited(self, instance: ManagedInstance, seconds: float) -> None:
        self.words.append(f"waited {instance.id}")


async def test_narrators_hear_all_of_it(pids_file: Path) -> None:
    async with engines(pids_file) as made:
        narrators = Heard(), Heard()
        for narrator in narrators:
            made.fleet.observe(narrator)
        one, two = made.add("one"), made.add("two")
        await ask(one)
        await ask(one)  # at once: nothing to tell
        await ask(two)
        assert narrators[0].words == narrators[1].words
        assert narrators[0].words == [
            *("starting one", "ready one", "waited one"),
            *("stopping one evicted", "stopped one", "starting two", "ready two", "waited two"),
        ]


async def test_closing_ends_what_is_loading(pids_file: Path, noted: Pids) -> None:
    async with engines(pids_file) as made:
        it = made.add("it", "--ready-after", "60")
        waiting = asyncio.create_task(ask(it))
        await noted(1)
        await made.fleet.close()
        with pytest.raises(UpstreamError):
            await waiting


async def test_memory_is_measured_again_after_a_while(pids_file: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("homeport.runtime.fleet.MEASURE_EVERY_S", 0.0)

    class Growing:
        used = 4

        async def until_free(self, need_bytes: int) -> None:
            pass

        async def used_bytes(self, instance: ManagedInstance) -> int:
            self.used += 1
            return self.used

    made = Engines(ONE, pids_file)
    made.fleet = Fleet(ONE, memory=Growing())
    it = made.add("it")
    try:
        await ask(it)
        await until(lambda: made.fleet.snapshot()["it"].reserved_bytes == 6)
        await ask(it)
        await until(lambda: made.fleet.snapshot()["it"].reserved_bytes == 7)
    finally:
        await made.fleet.close()


async def test_after_closing_nothing_is_started(pids_file: Path) -> None:
    made = Engines(ONE, pids_file)
    one, two = made.add("one"), made.add("two")
    with one.lease() as lease:
        await lease.ready()
        waiting = asyncio.create_task(ask(two))
        await until(lambda: made.fleet.waiting == 1)
        await made.fleet.close()
    with pytest.raises(UpstreamError, match="stopping"):
        await waiting
    await asyncio.sleep(0.05)
    assert (one.state, two.state) == ("stopped", "stopped")
    assert len(made.pids()) == 1


async def test_memory_that_cannot_be_looked_at_keeps_nobody_waiting(pids_file: Path) -> None:
    class Blind:
        async def until_free(self, need_bytes: int) -> None:
            raise OSError("no such file")

        async def used_bytes(self, instance: ManagedInstance) -> None:
            return None

    made = Engines(ONE, pids_file)
    made.fleet = Fleet(ONE, memory=Blind())
    try:
        await ask(made.add("it"))
    finally:
        await made.fleet.close()
