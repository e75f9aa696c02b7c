"""The spare shim: it is there for the next engine, is nobody's before, and outlives nobody."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil
import pytest

from homeport.facts import Command
from homeport.runtime import shim
from homeport.runtime.process import EngineProcess
from homeport.runtime.shims import Shims
from tests.runtime.conftest import survivors, until

HOLDER = """
import asyncio, sys
from homeport.facts import Command
from homeport.runtime.process import EngineProcess
from homeport.runtime.shims import Shims

async def main():
    spares = Shims()
    await EngineProcess.spawn(Command(argv=("sleep", "120")), spares=spares)
    await asyncio.sleep(120)

run = asyncio.run if sys.argv[1] == "asyncio" else __import__("uvloop").run
run(main())
"""
SAYS = (
    "import os; print(os.environ.get('MARK'), os.getcwd(), sorted(map(int, os.listdir('/dev/fd'))))"
)


def holder(loop: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", HOLDER, loop])


def waiting() -> list[psutil.Process]:
    """Shims of ours that have no engine."""
    children = psutil.Process().children()
    return [one for one in children if shim.__file__ in one.cmdline() and not one.children()]


@asynccontextmanager
async def with_a_spare() -> AsyncIterator[tuple[Shims, psutil.Process]]:
    """After a first engine, which has ended."""
    spares = Shims()
    try:
        first = await EngineProcess.spawn(Command(argv=("true",)), spares=spares)
        await first.wait()
        await until(lambda: "None" not in repr(spares))
        (spare,) = waiting()
        yield spares, spare
    finally:
        await spares.close()
        assert waiting() == []


async def test_the_next_engine_gets_the_spare_and_there_is_another() -> None:
    async with with_a_spare() as (spares, spare):
        for _ in range(2):
            async with await EngineProcess.spawn(Command(argv=("cat",)), spares=spares) as engine:
                assert engine.pid == spare.pid
                assert await engine.wait() == 0
            await until(lambda: "None" not in repr(spares))
            (spare,) = waiting()


async def test_its_engine_is_as_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the environment of now and no more open files; its end is told."""
    command = Command(argv=(sys.executable, "-I", "-c", SAYS + "; raise SystemExit(7)"))
    async with with_a_spare() as (spares, spare):
        monkeypatch.setenv("MARK", "seen")
        async with (
            await EngineProcess.spawn(command, spares=spares) as one,
            await EngineProcess.spawn(command) as other,
        ):
            assert await one.wait() == await other.wait() == 7
            assert one.pid == spare.pid != other.pid
            assert one.tail() == other.tail()
            assert one.tail().startswith(f"seen {os.getcwd()} [0, 1, 2, ")


async def test_several_at_once_do_not_wait_for_each_other() -> None:
    async with with_a_spare() as (spares, spare):
        command = Command(argv=("sleep", "60"))
        engines = [await EngineProcess.spawn(command, spares=spares) for _ in range(3)]
        assert len({engine.pid for engine in engines}) == 3
        assert engines[0].pid == spare.pid
        for engine in engines:
            await engine.stop()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_spare_that_has_died_is_no_loss(number: signal.Signals) -> None:
    async with with_a_spare() as (spares, spare):
        spare.send_signal(number)
        await until(lambda: not spare.is_running())
        async with await EngineProcess.spawn(Command(argv=("true",)), spares=spares) as engine:
            assert engine.pid != spare.pid
            assert await engine.wait() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
async def test_a_spare_holds_nothing_but_its_pipes() -> None:
    async with with_a_spare() as (_, spare):
        # While Python starts, it has files of its own open.
        await until(lambda: sorted(os.listdir(f"/proc/{spare.pid}/fd")) == ["0", "1", "2"])


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_it_ends_with_the_gateway(number: signal.Signals, loop: str) -> None:
    gateway = holder(loop)

    def tree() -> list[psutil.Process]:
        return psutil.Process(gateway.pid).children(recursive=True)

    with gateway:
        try:
            await until(lambda: len(tree()) == 3)  # an engine, its shim and the spare
            everybody = tree()
            gateway.send_signal(number)
            killed_at = time.monotonic()
            gateway.wait(10)
        finally:
            gateway.kill()
    assert survivors(everybody) == []
    assert time.monotonic() - killed_at < shim.GRACE_S + 2.0


async def test_nothing_is_kept_before_the_first_start() -> None:
    spares = Shims()
    assert waiting() == []
    await spares.close()


async def test_closed_while_the_spare_starts() -> None:
    spares = Shims()
    async with await EngineProcess.spawn(Command(argv=("sleep", "60")), spares=spares) as engine:
        await spares.close()
        assert {one.pid for one in waiting()} <= {engine.pid}, (
            "which may not have read its order yet"
        )
