"""When an engine that computes for nobody is ended: by what is measured of it, and by who uses it."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
from collections.abc import Iterable, Iterator

import pytest

from homeport.runtime.instance import Base
from homeport.runtime.recycling import LOOKS, cpu_s, until_abandoned
from homeport.settings import ModelSettings

BUSY, IDLE = True, False
LOOK_S = 0.001


class Used(Base):
    def start(self) -> None:
        raise AssertionError


class Looks:
    """What each look shall see, and how many measurements there were: two make a look, one where a
    request voids it."""

    def __init__(self, script: Iterable[bool]) -> None:
        self._script: Iterator[bool] = iter(script)
        self._cpu_s = 0.0
        self._loop, self._changed = asyncio.get_running_loop(), asyncio.Event()
        self.count = 0

    def __call__(self, pid: int) -> float:
        self.count += 1
        self._loop.call_soon_threadsafe(self._changed.set)
        if self.count % 2 == 0:
            self._cpu_s += LOOK_S * next(self._script)
        return self._cpu_s

    async def until(self, count: int) -> None:
        while self.count < count:
            self._changed.clear()
            await self._changed.wait()


@pytest.fixture
def instance() -> Base:
    return Used(ModelSettings(id="m"))


@pytest.fixture
def left() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


async def test_it_computes_on(instance: Base, left: asyncio.Event) -> None:
    looks = Looks([BUSY] * LOOKS)
    why = await until_abandoned(instance, left, 1, look_s=LOOK_S, measure=looks)
    assert why == "it computed on for a client that had left"
    assert looks.count == 2 * LOOKS


async def test_it_has_noticed(instance: Base, left: asyncio.Event) -> None:
    """Then nobody looks any more, until the next client leaves."""
    looks = Looks([BUSY] * (LOOKS - 1) + [IDLE] + [BUSY] * LOOKS)
    watch = until_abandoned(instance, left, 1, look_s=LOOK_S, measure=looks)
    watching = asyncio.ensure_future(watch)
    await looks.until(2 * LOOKS)
    left.set()
    await watching
    assert looks.count == 4 * LOOKS


async def test_nobody_is_disturbed(instance: Base, left: asyncio.Event) -> None:
    """As long as somebody uses it, looks are void."""
    instance.in_flight = 1
    looks = Looks(itertools.repeat(BUSY))
    watch = until_abandoned(instance, left, 1, look_s=LOOK_S, measure=looks)
    watching = asyncio.ensure_future(watch)
    await looks.until(4 * LOOKS)
    assert not watching.done()
    instance.lease_ended()
    assert await watching


async def test_a_request_that_came_and_went_counts(instance: Base, left: asyncio.Event) -> None:
    began = 0

    def measure(pid: int) -> float:
        nonlocal began
        began += 1
        if began < 3 * LOOKS:
            instance.leases_ended += 1
        return float(began)

    await until_abandoned(instance, left, 1, look_s=LOOK_S, measure=measure)
    assert began == 3 * LOOKS - 1 + 2 * LOOKS


def test_what_a_tree_has_used() -> None:
    burn = "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass\n"
    parent = (
        "import subprocess, sys; "
        f"subprocess.Popen([sys.executable, '-c', {burn + 'print(1, flush=True); input()'!r}]); "
        "input()"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", parent], stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"1\n"  # the grandchild's
        assert cpu_s(process.pid) >= 0.2  # the kernel counts in steps of 10 ms
        process.communicate(b"\n\n")
    assert cpu_s(process.pid) == 0.0
