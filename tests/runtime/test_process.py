"""Engine processes: no orphan, no block, no unbounded memory, whoever dies first."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import uvloop

from homeport.facts import Command
from homeport.runtime import shim
from homeport.runtime.output import KEPT_BYTES, Output
from homeport.runtime.process import EngineProcess, free_port, port_is_free
from tests.runtime.conftest import Pids, fetch, stub_command, survivors, until

HOLDER = """
import asyncio, sys
from homeport.facts import Command
from homeport.runtime.process import EngineProcess

async def main():
    first = await EngineProcess.spawn(Command(argv=tuple(sys.argv[2:])))
    second = await EngineProcess.spawn(Command(argv=("sleep", "120")))
    print(first.pid, second.pid, flush=True)
    await asyncio.sleep(120)

run = asyncio.run if sys.argv[1] == "asyncio" else __import__("uvloop").run
run(main())
"""


def python(code: str) -> Command:
    return Command(argv=(sys.executable, "-S", "-c", code))


def started(argv: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(argv, stdout=subprocess.PIPE)


def pids_in(path: Path) -> list[int]:
    return [int(pid) for pid in path.read_text().split()]


async def is_serving(port: int) -> None:
    async def answers() -> bool:
        try:
            return (await fetch(f"http://127.0.0.1:{port}/health", {}, 1.0))[0] == 200
        except Exception:
            return False

    for _ in range(500):
        if await answers():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("the stub does not serve")


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_killed_gateway_leaves_nothing_behind(
    number: signal.Signals, loop: str, pids_file: Path, noted: Pids
) -> None:
    """The engine ignores SIGTERM, and two daemons of its have fled into other sessions.

    A second engine shows that the lifeline of the first is held by nobody else.
    """
    command = stub_command(
        free_port(), "--ignore-sigterm", "--grandchildren", "2", "--pids", str(pids_file)
    )
    argv = [sys.executable, "-c", HOLDER, loop, *command.argv]
    gateway = started(argv)
    assert gateway.stdout is not None
    with gateway:
        shims = [psutil.Process(int(pid)) for pid in gateway.stdout.readline().split()]
        tree = [*shims, *await noted(3), *shims[1].children()]
        gateway.send_signal(number)
        killed_at = time.monotonic()
        gateway.wait()
    assert survivors(tree) == []
    assert time.monotonic() - killed_at < shim.GRACE_S + 2.0


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG")
async def test_a_killed_shim_takes_the_engine_with_it(pids_file: Path, noted: Pids) -> None:
    command = stub_command(free_port(), "--ignore-sigterm", "--pids", str(pids_file))
    async with await EngineProcess.spawn(command) as process:
        engine = await noted(1)
        psutil.Process(process.pid).kill()
        assert survivors(engine) == []
        assert await process.wait() == -signal.SIGKILL


async def test_stop_ends_the_whole_tree(pids_file: Path, noted: Pids) -> None:
    command = stub_command(free_port(), "--grandchildren", "2", "--pids", str(pids_file))
    process = await EngineProcess.spawn(command)
    tree = [psutil.Process(process.pid), *await noted(3)]
    await process.stop(grace_s=5)
    assert survivors(tree) == []


async def test_an_engine_that_ends_on_sigterm_is_not_waited_for() -> None:
    port = free_port()
    process = await EngineProcess.spawn(stub_command(port))
    await is_serving(port)
    began = time.monotonic()
    assert await process.stop(grace_s=30) == 128 + signal.SIGTERM
    assert time.monotonic() - began < 3


async def test_an_engine_that_ignores_sigterm_is_killed_after_the_grace() -> None:
    port = free_port()
    process = await EngineProcess.spawn(stub_command(port, "--ignore-sigterm"))
    await is_serving(port)
    began = time.monotonic()
    assert await process.stop(grace_s=0.3) == 128 + signal.SIGKILL
    assert 0.3 <= time.monotonic() - began < 3


async def test_a_cancelled_stop_kills_without_grace(pids_file: Path, noted: Pids) -> None:
    port = free_port()
    command = stub_command(port, "--ignore-sigterm", "--pids", str(pids_file))
    process = await EngineProcess.spawn(command)
    engine = await noted(1)
    stop = asyncio.create_task(process.stop(grace_s=60))
    await asyncio.sleep(0.05)
    stop.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stop
    assert survivors(engine) == []
    await process.stop()


async def test_stop_may_be_called_again_and_after_the_end() -> None:
    process = await EngineProcess.spawn(python("raise SystemExit(7)"))
    assert await process.wait() == 7
    assert await process.stop() == 7
    assert await process.stop() == 7
    assert repr(process) == f"EngineProcess(pid={process.pid}, exited 7)"


async def test_what_an_engine_leaves_behind_when_it_ends_is_ended(pids_file: Path) -> None:
    command = stub_command(1, "--grandchildren", "1", "--pids", str(pids_file), "--exit", "3")
    async with await EngineProcess.spawn(command) as process:
        assert await process.wait() == 3
    assert len(pids_in(pids_file)) == 2
    assert not any(psutil.pid_exists(pid) for pid in pids_in(pids_file))


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("raise SystemExit(0)", 0),
        ("raise SystemExit(42)", 42),
        ("import os; os.kill(os.getpid(), 9)", 137),
        ("import os; os.abort()", 134),
    ],
)
async def test_the_exit_status_is_passed_on(code: str, status: int) -> None:
    async with await EngineProcess.spawn(python(code)) as process:
        assert await process.wait() == status


async def test_an_engine_that_does_not_exist() -> None:
    async with await EngineProcess.spawn(Command(argv=("no-such-engine-binary",))) as process:
        assert await process.wait() == 127
        assert process.tail() == "cannot start no-such-engine-binary: No such file or directory"


async def test_the_engine_gets_the_environment_and_no_stdin() -> None:
    code = "import os, sys; print(os.environ['MARK'], repr(sys.stdin.read()))"
    command = Command(argv=python(code).argv, env=(("MARK", "seen"),))
    async with await EngineProcess.spawn(command) as process:
        await process.wait()
        assert process.tail() == "seen ''"


async def test_what_opens_homeport_is_not_for_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = ("MASTER_KEY", "INTERNAL_KEY", "METRICS_TOKEN", "DB_PASSWORD", "STORE_URL")
    for name in (*secrets, "HOME"):
        monkeypatch.setenv(f"HOMEPORT_{name}", "x")
    monkeypatch.setenv("HF_TOKEN", "y")
    code = "import os; print(sorted(n for n in os.environ if n.startswith(('HOMEPORT_', 'HF_'))))"
    command = Command(argv=python(code).argv, env=(("HOMEPORT_ENGINE_KEY", "its own"),))
    async with await EngineProcess.spawn(command) as process:
        await process.wait()
        assert process.tail() == "['HF_TOKEN', 'HOMEPORT_ENGINE_KEY', 'HOMEPORT_HOME']"


async def test_ctrl_c_does_not_reach_the_engine() -> None:
    code = "import os; print(os.getpgid(0) == os.getpid(), os.getsid(0))"
    async with await EngineProcess.spawn(python(code)) as process:
        await process.wait()
        own_group, session = process.tail().split()
        assert own_group == "True"
        assert int(session) == process.pid  # the shim's, not the terminal's


async def test_a_flood_blocks_nothing_and_is_not_kept() -> None:
    port, output = free_port(), Output()
    async with await EngineProcess.spawn(stub_command(port, "--flood"), output):
        await is_serving(port)
        await until(lambda: output.since(1).dropped > 0)
        enough = await flooded(port) + 4 * KEPT_BYTES  # far beyond any pipe
        while await flooded(port) < enough:
            pass
        assert sum(map(len, output.since(1).texts)) <= KEPT_BYTES


async def flooded(port: int) -> int:
    _, _, body = await fetch(f"http://127.0.0.1:{port}/whoami", {}, 5.0)
    return int(json.loads(body)["flooded_bytes"])


async def test_tail_is_the_end_of_stdout_and_stderr() -> None:
    code = (
        "import os; [os.write(1 + i % 2, b'%d\\n' % i) for i in range(100)]; os.write(1, b'\\xff')"
    )
    async with await EngineProcess.spawn(python(code)) as process:
        await process.wait()
        assert process.tail(3) == "98\n99\n\ufffd"


async def test_one_output_for_one_engine_after_the_other() -> None:
    output = Output()
    for word in ("one", "two"):
        async with await EngineProcess.spawn(python(f"print('{word}', end='')"), output) as process:
            await process.wait()
            assert process.tail() == word
    assert output.since(1).texts == ("one", "two")


def test_all_the_same_on_uvloop(pids_file: Path) -> None:
    async def main() -> tuple[int, int, str]:
        command = stub_command(free_port(), "--ignore-sigterm", "--say", "hello")
        process = await EngineProcess.spawn(command)
        await until(lambda: process.tail() == "hello")
        ended = await EngineProcess.spawn(python("raise SystemExit(5)"))
        status = await ended.wait()
        await ended.stop()
        return await process.stop(grace_s=0.1), status, process.tail()

    assert uvloop.run(main()) == (128 + signal.SIGKILL, 5, "hello")


def test_free_port() -> None:
    port = free_port()
    assert port_is_free(port)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        assert not port_is_free(port)
