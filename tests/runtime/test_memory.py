"""What process trees use, measured on real ones, and waiting for memory."""

import asyncio
import math
import os
import subprocess
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from structlog.testing import capture_logs

from homeport.demo import demo_model_path
from homeport.engines import needs
from homeport.facts import MIB, Gpu, Machine, ModelFiles
from homeport.runtime.managed import ManagedInstance
from homeport.runtime.memory import APPLE_SHARE, MEMORY_SHARE, Memory, budget_bytes
from homeport.runtime.nvml import Cards
from homeport.settings import ModelSettings
from tests.runtime.conftest import fetch

PYTHON_MIB = 25
"""More than two interpreters take."""

TREE = """
import mmap, subprocess, sys
own, of_child = int(sys.argv[1]), int(sys.argv[2])
held = bytearray(own * 2**20)
held[:: mmap.PAGESIZE] = bytes(b"x") * len(held[:: mmap.PAGESIZE])
child = None
if of_child:
    command = [sys.executable, "-c", sys.argv[3], str(of_child), "0", ""]
    child = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    child.stdout.readline()
print("ready", flush=True)
sys.stdin.read()
"""
SHARED = """
import mmap, os, sys
with open(sys.argv[1], "rb") as file:
    held = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    ends = os.pipe()
    pid = os.fork()
    touched = sum(held[:: mmap.PAGESIZE])
    if pid == 0:
        os.write(ends[1], b"x")
        sys.stdin.read()
        os._exit(0)
    os.read(ends[0], 1)
    print("ready", flush=True)
    sys.stdin.read()
"""


@contextmanager
def running(code: str, *args: str) -> Iterator[int]:
    """A program that says when it is ready, and ends (with its children) when its stdin does."""
    command = [sys.executable, "-S", "-c", code, *args]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process.pid
        process.stdin.close()


class Scripted(Cards):
    """Cards that say what a test wants: free memory, one reading after the other; and use."""

    def __init__(self, *free: int, used: int | None = None) -> None:
        super().__init__()
        self._free, self._used = list(free), used
        self.asked: set[int] = set()

    def gpus(self, shared_total: int = 0, shared_free: int = 0) -> tuple[Gpu, ...]:
        free = self._free.pop(0) if len(self._free) > 1 else self._free[0]
        return (Gpu(total_bytes=1000, free_bytes=free),)

    def used_by(self, pids: Collection[int]) -> int | None:
        self.asked |= set(pids)
        return self._used


# --------------------------------------------------------------------------- use


async def test_a_child_and_a_grandchild_in_a_session_of_its_own_are_both_seen() -> None:
    with running(TREE, "60", "90", TREE) as pid:
        used = await Memory(Cards()).used_bytes(pid)
    assert 150 * MIB <= used < (150 + PYTHON_MIB) * MIB


async def test_pages_that_processes_share_are_counted_once(tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux tells the proportional set size")
    file = tmp_path / "weights"
    file.write_bytes(os.urandom(MIB) * 80)
    with running(SHARED, str(file)) as pid:
        tree = [psutil.Process(pid), *psutil.Process(pid).children()]
        used = await Memory(Cards()).used_bytes(pid)
        resident = sum(process.memory_info().rss for process in tree)
    assert len(tree) == 2
    assert resident > 160 * MIB
    assert 80 * MIB <= used < (80 + PYTHON_MIB) * MIB


async def test_who_may_not_be_asked_counts_with_the_resident_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def denied(process: psutil.Process) -> None:
        raise psutil.AccessDenied(process.pid)

    monkeypatch.setattr(psutil.Process, "memory_full_info", denied)
    with running(TREE, "60", "0") as pid:
        used = await Memory(Cards()).used_bytes(pid)
    assert 60 * MIB <= used < (60 + PYTHON_MIB) * MIB


async def test_who_has_ended_uses_nothing() -> None:
    with running(TREE, "1", "0") as pid:
        pass
    assert await Memory(Cards()).used_bytes(pid) == 0


async def test_on_cards_it_is_what_they_list_for_the_whole_tree() -> None:
    cards = Scripted(0, used=12345)
    with running(TREE, "1", "1", TREE) as pid:
        tree = {pid, *(child.pid for child in psutil.Process(pid).children())}
        assert await Memory(cards).used_bytes(pid) == 12345
    assert cards.asked == tree
    assert len(tree) == 2


async def test_an_engine_that_is_on_no_card_counts_with_the_machines_memory() -> None:
    with running(TREE, "40", "0") as pid:
        assert await Memory(Scripted(0, used=None)).used_bytes(pid) >= 40 * MIB


# --------------------------------------------------------------------------- estimate and truth


def is_llamacpp(process: psutil.Process) -> bool:
    return "homeport.runtime.llamacpp_child" in (process.info["cmdline"] or ())


@pytest.mark.llamacpp
@pytest.mark.parametrize(("ctx", "slots"), [(512, 1), (8192, 2), (32768, 2), (65536, 4)])
async def test_the_estimate_for_llamacpp_is_near_what_it_uses(ctx: int, slots: int) -> None:
    """Never more than a tenth too little, never more than two fifths too much."""
    if others := [p.pid for p in psutil.process_iter(["cmdline"]) if is_llamacpp(p)]:
        pytest.skip(f"llama.cpp runs already ({others}): what both have mapped is divided by two")
    path = demo_model_path()
    model = ModelSettings(id="demo", path=str(path), engine="llamacpp", ctx=ctx, slots=slots)
    head = path.read_bytes()
    files = ModelFiles(path=str(path), names=((path.name, len(head)),), head=head)
    memory = Memory(Cards())
    instance = ManagedInstance(model, fetch)
    try:
        await instance.ensure_ready()
        assert instance.pid is not None
        used = await memory.used_bytes(instance.pid)
    finally:
        await instance.stop()
    estimate = needs.estimate_bytes(model, files, await memory.machine())
    assert 0.9 * used <= estimate <= 1.4 * used


# --------------------------------------------------------------------------- free


async def test_the_wait_ends_when_the_memory_is_seen_to_be_free() -> None:
    cards = Scripted(100, 200, 700)
    with capture_logs() as logs:
        freed = await Memory(cards).until_free(600, 60)
    assert (freed.is_enough, freed.free_bytes, freed.need_bytes) == (True, 700, 600)
    assert freed.waited_s > 0
    assert [line["event"] for line in logs] == ["memory.free"]


async def test_the_wait_is_bounded_and_tells_what_it_saw() -> None:
    with capture_logs() as logs:
        freed = await Memory(Scripted(100)).until_free(600, 0.05)
    assert (freed.is_enough, freed.free_bytes) == (False, 100)
    assert 0.05 <= freed.waited_s < 30
    assert [(line["event"], line["log_level"]) for line in logs] == [("memory.not_free", "warning")]


async def test_a_timeout_of_nothing_asks_once() -> None:
    memory = Memory(Scripted(100, 700))
    assert not (await memory.until_free(600, 0)).is_enough
    assert (await memory.until_free(600, 0)).is_enough


async def test_a_wait_can_be_cancelled() -> None:
    wait = asyncio.create_task(Memory(Scripted(100)).until_free(600, math.inf))
    await asyncio.sleep(0)
    wait.cancel()
    with pytest.raises(asyncio.CancelledError):
        await wait


async def test_without_cards_it_is_the_machines_memory_that_is_free() -> None:
    memory = Memory(Cards())
    free = await memory.free_bytes()
    assert 0 < free < psutil.virtual_memory().total
    assert (await memory.until_free(1, 0)).is_enough
    assert not (await memory.until_free(psutil.virtual_memory().total + 1, 0)).is_enough


# --------------------------------------------------------------------------- budget


def test_the_budget_is_all_cards_else_a_share_of_the_memory() -> None:
    card = Gpu(total_bytes=24, free_bytes=3)
    assert budget_bytes(Machine(gpus=(card, card), memory_bytes=1000)) == 48
    assert budget_bytes(Machine(memory_bytes=1000)) == 1000 * MEMORY_SHARE
    apple = Machine(system="darwin", is_apple_silicon=True, memory_bytes=1000)
    assert budget_bytes(apple) == 1000 * APPLE_SHARE
