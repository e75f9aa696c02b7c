"""Real processes for the runtime: a stub engine to start, HTTP to ask it, eyes on what lives."""

import asyncio
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import psutil
import pytest

from homeport.errors import UpstreamError
from homeport.facts import Command

STUB = Path(__file__).parents[1] / "support" / "stub_server.py"
GONE_WITHIN_S = 5.0


def stub_command(port: int, *options: str) -> Command:
    argv = (sys.executable, "-S", str(STUB), "--port", str(port), *options)
    return Command(argv=argv)


async def fetch(
    url: str, headers: Mapping[str, str], timeout_s: float
) -> tuple[int, Mapping[str, str], bytes]:
    """The simplest thing that follows ``probe.Fetch``."""

    def get() -> tuple[int, Mapping[str, str], bytes]:
        request = urllib.request.Request(url, headers=dict(headers))
        try:
            with urllib.request.urlopen(request, timeout=timeout_s) as answer:
                return answer.status, dict(answer.headers), answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, dict(error.headers), error.read()
        except OSError as error:
            raise UpstreamError("unavailable", str(error)) from error

    return await asyncio.to_thread(get)


def is_gone(process: psutil.Process) -> bool:
    """Ended; a zombie that nobody collects has ended too."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def survivors(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Wait until all have ended, at most ``GONE_WITHIN_S``; return those that have not."""
    deadline = time.monotonic() + GONE_WITHIN_S
    left = processes
    while left and time.monotonic() < deadline:
        left = [process for process in left if not is_gone(process)]
        time.sleep(0.02)
    return left


async def until(is_true: Callable[[], bool], within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while not is_true():
        assert time.monotonic() < deadline, "did not happen in time"
        await asyncio.sleep(0.01)


Pids = Callable[[int], Awaitable[list[psutil.Process]]]


@pytest.fixture
def pids_file(tmp_path: Path) -> Path:
    return tmp_path / "pids"


@pytest.fixture
def noted(pids_file: Path) -> Pids:
    """``await noted(n)``: the n processes that wrote their pids to ``pids_file``."""

    def lines() -> list[str]:
        return pids_file.read_text().split() if pids_file.exists() else []

    async def read(count: int) -> list[psutil.Process]:
        await until(lambda: len(lines()) >= count)
        return [psutil.Process(int(pid)) for pid in lines()]

    return read
