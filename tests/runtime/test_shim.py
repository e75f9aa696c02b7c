"""The shim, held by its lifeline: its order, its end command, and its way on other systems than Linux.

That way is run here with the flag off, on whatever system this is. On macOS it has never been run.
"""

import ast
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from homeport.runtime import shim
from tests.runtime.conftest import STUB, Pids, survivors, until

SHIM = [sys.executable, "-I", "-S", shim.__file__]
ELSEWHERE = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("shim", {shim.__file__!r})
shim = importlib.util.module_from_spec(spec)
spec.loader.exec_module(shim)
shim._ON_LINUX = False
del shim.os.waitid  # macOS has had it since Python 3.13 only
sys.exit(shim.main())
"""


@contextmanager
def waiting(by: list[str] = SHIM) -> Iterator[subprocess.Popen[bytes]]:
    """A shim that has no order yet, and whose lifeline is here."""
    with subprocess.Popen(by, stdin=subprocess.PIPE, start_new_session=True) as process:
        try:
            yield process
        finally:
            assert process.stdin is not None
            process.stdin.close()


def tell(process: subprocess.Popen[bytes], data: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(data)
    process.stdin.flush()


@contextmanager
def held(
    *argv: str, at_end: tuple[str, ...] = (), by: list[str] = SHIM
) -> Iterator[subprocess.Popen[bytes]]:
    """A shim that has been told to start ``argv``."""
    with waiting(by) as process:
        tell(process, shim.order(argv, os.environ, at_end))
        yield process


def cut(process: subprocess.Popen[bytes]) -> int:
    """What the death of the gateway does; returns the shim's exit status."""
    assert process.stdin is not None
    process.stdin.close()
    return process.wait(shim.GRACE_S + shim.AT_END_S + 5)


def stub(*options: str) -> tuple[str, ...]:
    return (sys.executable, "-S", str(STUB), "--port", "1", *options)


def writing(path: Path) -> tuple[str, ...]:
    """An end command that notes that it ran, and who was there then."""
    return ("sh", "-c", f"echo ended >> {path}")


# --------------------------------------------------------------------------- the order


def test_a_shim_without_an_order_ends_with_the_gateway() -> None:
    with waiting() as process:
        assert cut(process) == 0


def test_an_order_that_is_not_whole_is_none(tmp_path: Path) -> None:
    """The gateway was killed while it wrote."""
    done = tmp_path / "done"
    with waiting() as process:
        tell(process, shim.order(("touch", str(done)), os.environ)[:-1])
        assert cut(process) == 0
    assert not done.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG")
def test_a_signal_before_the_order_ends_it() -> None:
    with waiting() as process:
        process.terminate()
        assert process.wait(10) == -signal.SIGTERM


def test_the_order_is_all_that_the_engine_gets(tmp_path: Path) -> None:
    """Its environment is not the shim's; it may be larger than a pipe; any byte goes through."""
    said, big = tmp_path / "said", "x" * 100_000
    code = "import os, sys; print(ascii((sys.argv[2:], dict(os.environ))), file=open(sys.argv[1], 'w'))"
    argv = (sys.executable, "-I", "-S", "-c", code, str(said), "", "ä\udcff\n")
    env = {"ONE": big, "TWO": big, "THREE": "\udcfe="}
    with waiting() as process:
        tell(process, shim.order(argv, env))
        assert process.wait(10) == 0
    words, got = ast.literal_eval(said.read_text())
    assert words == ["", "ä\udcff\n"]
    assert {name: got[name] for name in env} == env
    assert set(got) - set(env) <= {"LC_CTYPE"}, "Python's own"


def test_the_end_command_has_the_environment_too(tmp_path: Path) -> None:
    """Where Docker's daemon is, may stand in it."""
    done = tmp_path / "done"
    env = {"DOCKER_HOST": "there", "PATH": os.environ["PATH"]}
    at_end = ("sh", "-c", f"echo $DOCKER_HOST > {done}")
    with waiting() as process:
        tell(process, shim.order(("sh", "-c", "exit 0"), env, at_end))
        assert process.wait(10) == 0
    assert done.read_text() == "there\n"


# --------------------------------------------------------------------------- the end command


@pytest.mark.parametrize("sleeper", ["sleep 60", "trap '' TERM; sleep 60 & wait; wait"])
def test_the_end_command_runs_when_the_gateway_has_gone(tmp_path: Path, sleeper: str) -> None:
    done = tmp_path / "done"
    with held("sh", "-c", sleeper, at_end=writing(done)) as process:
        assert cut(process) in (128 + signal.SIGTERM, 128 + signal.SIGKILL)
    assert done.read_text() == "ended\n" * 2, "again, for what came true too late"


def test_the_end_command_runs_when_the_engine_has_ended(tmp_path: Path) -> None:
    """A client of Docker that was killed leaves its container as well."""
    done = tmp_path / "done"
    with held("sh", "-c", "exit 7", at_end=writing(done)) as process:
        assert process.wait(10) == 7
    assert done.read_text() == "ended\n"


def test_the_end_command_comes_after_the_tree(tmp_path: Path, pids_file: Path) -> None:
    seen = tmp_path / "seen"
    script = f"for pid in $(cat {pids_file}); do kill -0 $pid && echo $pid; done > {seen} 2>&-; :"
    options = ("--exit", "3", "--grandchildren", "2", "--pids", str(pids_file))
    with held(*stub(*options), at_end=("sh", "-c", script)) as process:
        assert process.wait(10) == 3
    assert len(pids_file.read_text().split()) == 3
    assert seen.read_text() == ""


def test_an_end_command_that_does_not_exist_changes_nothing() -> None:
    with held("sh", "-c", "exit 4", at_end=("no-such-command",)) as process:
        assert process.wait(10) == 4


def test_an_end_command_that_hangs_is_killed(tmp_path: Path) -> None:
    script = "import importlib.util, sys; s = importlib.util.spec_from_file_location('shim', "
    script += f"{shim.__file__!r}); m = importlib.util.module_from_spec(s); "
    script += "s.loader.exec_module(m); m.AT_END_S = 0.2; sys.exit(m.main())"
    pid = tmp_path / "pid"
    hanging = ("sh", "-c", f"echo $$ > {pid}; exec sleep 60")
    by = [sys.executable, "-c", script]
    with held("sh", "-c", "exit 5", at_end=hanging, by=by) as process:
        assert process.wait(10) == 5
    assert not psutil.pid_exists(int(pid.read_text()))


# --------------------------------------------------------------------------- not on Linux

elsewhere = [sys.executable, "-c", ELSEWHERE]


async def test_elsewhere_the_group_ends_with_the_gateway(pids_file: Path, noted: Pids) -> None:
    """A child that stays in the group is ended, also where all of it ignores SIGTERM."""
    script = f"trap '' TERM; sleep 60 & echo $! $$ > {pids_file}; wait; wait"
    with held("sh", "-c", script, by=elsewhere) as process:
        tree = await noted(2)
        began = time.monotonic()
        assert cut(process) == 128 + signal.SIGKILL
        assert time.monotonic() - began < shim.GRACE_S + shim.FOREIGN_S + 1.0
    assert survivors(tree) == []


async def test_elsewhere_sigterm_ends_the_group(pids_file: Path, noted: Pids) -> None:
    with held("sh", "-c", f"sleep 60 & echo $! $$ > {pids_file}; wait", by=elsewhere) as process:
        tree = await noted(2)
        process.terminate()
        assert process.wait(10) == 128 + signal.SIGTERM
    assert survivors(tree) == []


async def test_elsewhere_what_an_engine_leaves_in_its_group_is_ended(
    pids_file: Path, noted: Pids
) -> None:
    with held("sh", "-c", f"sleep 60 & echo $! > {pids_file}; exit 6", by=elsewhere) as process:
        left = await noted(1)
        assert process.wait(10) == 6
    assert survivors(left) == []


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("kill -9 $$", 137)])
def test_elsewhere_the_status_is_passed_on(script: str, status: int) -> None:
    with held("sh", "-c", script, by=elsewhere) as process:
        assert process.wait(10) == status


def test_elsewhere_the_end_command_runs(tmp_path: Path) -> None:
    done = tmp_path / "done"
    with held("sh", "-c", "exit 1", at_end=writing(done), by=elsewhere) as process:
        assert process.wait(10) == 1
    assert done.read_text() == "ended\n"


async def test_elsewhere_a_killed_shim_is_the_end_of_nothing(pids_file: Path, noted: Pids) -> None:
    """Why engines are recorded: no signal of the kernel's there. (They are found at the next start.)"""
    script = f"echo $$ > {pids_file}; exec sleep 60"
    with held("sh", "-c", script, by=elsewhere) as process:
        (engine,) = await noted(1)
        process.kill()
        process.wait()
        assert engine.is_running()
        engine.kill()
    await until(lambda: not engine.is_running() or engine.status() == psutil.STATUS_ZOMBIE)
