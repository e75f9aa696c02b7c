"""What an unclean end leaves is ended at the next start; what is others' is not touched."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from homeport.facts import Command
from homeport.runtime import identity, leftovers
from homeport.runtime.launcher import Launcher
from homeport.runtime.ledger import MARK, Ledger, Record
from homeport.runtime.leftovers import Leftovers, reap
from homeport.runtime.output import Output
from tests.runtime.conftest import Pids, stub_command, survivors, until

HOLDER = """
import asyncio, sys
from pathlib import Path
from homeport.facts import Command
from homeport.runtime.launcher import Launcher
from homeport.runtime.ledger import Ledger
from homeport.runtime.output import Output

async def main():
    command = Command(argv=tuple(sys.argv[2:]))
    async with Launcher(Ledger(Path(sys.argv[1]))).running("m", command, Output()) as engine:
        print(engine.pid, flush=True)
        await asyncio.sleep(120)

asyncio.run(main())
"""


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "engines")


class Gateway:
    """What starts an engine and can be killed."""

    def __init__(self, ledger: Ledger, command: Command) -> None:
        argv = [sys.executable, "-c", HOLDER, str(ledger.folder), *command.argv]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        self.shim = psutil.Process(int(self.process.stdout.readline()))

    def kill(self, *, with_shim: bool) -> None:
        if with_shim:
            self.shim.suspend()  # it shall not do its work in the time between
        self.process.kill()
        if with_shim:
            self.shim.kill()
        self.process.communicate()


@pytest.fixture
def sleeper() -> Iterator[psutil.Process]:
    process = subprocess.Popen(["sleep", "60"])
    yield psutil.Process(process.pid)
    process.kill()
    process.wait()


def noted(ledger: Ledger, name: str = "1-x.json", **values: object) -> Path:
    """A note whose owner has gone, with these differences."""
    gone = msgspec.structs.replace(identity.own(), started="1")
    record = Record(model="m", mark="0" * 32, owner=gone, program="llama-server")
    path = ledger.folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(record, **values)))
    return path


def notes(ledger: Ledger) -> list[Path]:
    return [path for path, _ in ledger.read()]


async def look(ledger: Ledger) -> Leftovers:
    return await reap(ledger, uses_docker=False)


async def test_nothing_was_left(ledger: Ledger) -> None:
    assert not await look(ledger)


async def test_a_clean_end_leaves_no_note(ledger: Ledger) -> None:
    command = Command(argv=("sleep", "60"))
    async with Launcher(ledger).running("m", command, Output()) as engine:
        ((_, record),) = ledger.read()
        assert record is not None
        assert record.first == identity.of(engine.pid)
        assert not await look(ledger), "its owner lives"
        assert engine.exit_status is None
        assert len(notes(ledger)) == 1
    assert notes(ledger) == []


async def test_a_cancelled_owner_leaves_no_note(ledger: Ledger) -> None:
    async def own() -> None:
        async with Launcher(ledger).running("m", Command(argv=("sleep", "60")), Output()):
            await asyncio.sleep(60)

    task = asyncio.create_task(own())
    await until(lambda: any(record and record.first for _, record in ledger.read()))
    task.cancel()
    await asyncio.wait([task])
    assert notes(ledger) == []


async def test_the_shim_has_done_its_work(ledger: Ledger, pids_file: Path, noted: Pids) -> None:
    """All that is left of a killed homeport is the note."""
    gateway = Gateway(ledger, stub_command(1, "--pids", str(pids_file)))
    tree = [*await noted(1), gateway.shim]
    gateway.kill(with_shim=False)
    assert survivors(tree) == []
    assert len(notes(ledger)) == 1
    assert not await look(ledger)
    assert notes(ledger) == []


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG")
async def test_shim_and_gateway_killed_together(
    ledger: Ledger, pids_file: Path, noted: Pids
) -> None:
    """The kernel ends the engine. Its daemons in other sessions, deaf to SIGTERM, are found by their
    mark."""
    options = ("--ignore-sigterm", "--grandchildren", "2", "--pids", str(pids_file))
    gateway = Gateway(ledger, stub_command(1, *options))
    engine, *daemons = sorted(await noted(3), key=lambda p: p.ppid() != gateway.shim.pid)
    assert engine.ppid() == gateway.shim.pid
    gateway.kill(with_shim=True)
    assert survivors([engine]) == []
    assert all(daemon.is_running() for daemon in daemons)
    left = await look(ledger)
    assert left.processes == (("m", 2),)
    assert survivors(daemons) == []
    assert notes(ledger) == []


async def test_an_engine_without_a_mark_is_known_by_its_first_process(
    ledger: Ledger, sleeper: psutil.Process
) -> None:
    """Some write their title over their environment."""
    noted(ledger, first=identity.of(sleeper.pid))
    assert (await look(ledger)).processes == (("m", 1),)
    assert survivors([sleeper]) == []


async def test_a_pid_that_has_come_again_is_not_touched(
    ledger: Ledger, sleeper: psutil.Process
) -> None:
    first = identity.of(sleeper.pid)
    assert first is not None
    for n, change in enumerate(({"started": "1"}, {"boot": "before"}, {"pids": "1"})):
        noted(ledger, f"{n}-x.json", first=msgspec.structs.replace(first, **change))
    assert not await look(ledger)
    assert sleeper.is_running()
    assert notes(ledger) == []


@pytest.mark.parametrize("change", [{}, {"host": "another"}, {"pids": "1"}])
async def test_of_an_owner_who_may_live_nothing_is_touched(
    ledger: Ledger, sleeper: psutil.Process, change: dict[str, str]
) -> None:
    owner = msgspec.structs.replace(identity.own(), **change)
    path = noted(ledger, owner=owner, first=identity.of(sleeper.pid))
    assert not await look(ledger)
    assert sleeper.is_running()
    assert notes(ledger) == [path]


async def test_after_a_loss_of_power(ledger: Ledger) -> None:
    """Files that are cut, empty, or of another boot."""
    path = noted(ledger, owner=msgspec.structs.replace(identity.own(), boot="before"))
    whole = path.read_bytes()
    (ledger.folder / "2-y.json").write_bytes(whole[:40])
    (ledger.folder / "3-z.json").write_bytes(b"")
    assert not await look(ledger)
    assert notes(ledger) == []


async def test_homeport_itself_is_never_ended(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even if it has been started from within an engine."""
    code = (
        "import asyncio, sys; from pathlib import Path; from homeport.runtime.leftovers import reap;"
        "from homeport.runtime.ledger import Ledger;"
        "print(bool(asyncio.run(reap(Ledger(Path(sys.argv[1])), uses_docker=False))))"
    )
    noted(ledger)
    env = {**os.environ, MARK: "0" * 32}
    argv = [sys.executable, "-c", code, str(ledger.folder)]
    done = await asyncio.to_thread(subprocess.run, argv, env=env, stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout) == (0, b"False\n")


async def test_what_cannot_be_ended_keeps_its_note(
    ledger: Ledger, sleeper: psutil.Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "GRACE_S", 0.05)
    monkeypatch.setattr(leftovers, "GIVE_UP_S", 0.2)
    monkeypatch.setattr(leftovers, "_signal", lambda *_, kill: None)
    noted(ledger, first=identity.of(sleeper.pid))
    assert (await look(ledger)).processes == (("m", 1),)
    assert len(notes(ledger)) == 1


async def test_a_note_may_have_more_in_it_one_day(ledger: Ledger) -> None:
    path = noted(ledger)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"new": 1}))
    ((_, record),) = ledger.read()
    assert record is not None
