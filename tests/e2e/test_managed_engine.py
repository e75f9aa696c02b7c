"""The gateway starts the engine itself: loading, crashing and ending, as a client sees it.

The fake engine stands in for a `llama-server` executable. What it promises to the runtime is tested
there; here is what reaches clients meanwhile, and that nothing is left on the machine.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.e2e.dialects import ANTHROPIC, BOTH, Dialect
from tests.e2e.raw_client import SseEvent, ask, send
from tests.support.engine import PROGRAM, Answer, FakeEngine
from tests.support.fake_engine.script import DEFAULT_TEXT
from tests.support.gateway import Gateway
from tests.support.gguf import SHORTEST

both_dialects = pytest.mark.parametrize("dialect", BOTH, ids=str)
LOADING_S = 1.5
GONE_WITHIN_S = 10.0
BACK_AGAIN_S = 30.0


class Setup:
    """A folder with a model file and a `llama-server` that is the fake engine."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._folder = folder
        self.hello_file = folder / "hello.json"
        self.model = folder / "managed.gguf"
        self.model.write_bytes(SHORTEST)
        self.binary = folder / "llama-server"
        words = [sys.executable, str(PROGRAM), "--hello-file", str(self.hello_file), *options]
        self.binary.write_text("#!/bin/sh\nexec " + " ".join(words) + ' "$@"\n')
        self.binary.chmod(0o755)

    def breaks(self) -> None:
        """From now on the engine cannot start."""
        self.binary.write_text("#!/bin/sh\necho 'out of luck' >&2\nexit 3\n")

    @contextmanager
    def gateway(self, *, wait_ready: bool = True) -> Iterator[Gateway]:
        arguments = ("--model", str(self.model), "--llama-server", str(self.binary))
        with Gateway(self._folder, *arguments, wait_ready=wait_ready) as gateway:
            yield gateway
        gateway.assert_no_internal_error()

    async def engine(self) -> FakeEngine:
        """The running one, once it is there."""
        deadline = time.monotonic() + BACK_AGAIN_S
        while not self._has_hello():
            assert time.monotonic() < deadline, "the engine was not started"
            await asyncio.sleep(0.05)
        return FakeEngine.running_at(self.hello_file)

    def _has_hello(self) -> bool:
        return self.hello_file.exists() and self.hello_file.read_text().endswith("}")


async def events_from(gateway: Gateway, dialect: Dialect) -> list[SseEvent]:
    request = dialect.request(stream=True, model="managed")
    async with await ask(gateway.base_url, "POST", dialect.path, request) as exchange:
        assert exchange.status == 200, await exchange.body()
        return await exchange.all_events()


async def until_gone(processes: list[psutil.Process]) -> None:
    deadline = time.monotonic() + GONE_WITHIN_S
    while left := [p for p in processes if is_alive(p)]:
        assert time.monotonic() < deadline, f"still there: {left}"
        await asyncio.sleep(0.05)


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@both_dialects
async def test_streamed_request_while_loading(tmp_path: Path, dialect: Dialect) -> None:
    with Setup(tmp_path, "--ready-after", str(LOADING_S)).gateway() as gateway:
        events = await events_from(gateway, dialect)
    assert dialect.text_of(events) == DEFAULT_TEXT
    assert dialect.ended_well(events)
    assert dialect.errors(events) == []


@both_dialects
async def test_whole_request_while_loading(tmp_path: Path, dialect: Dialect) -> None:
    with Setup(tmp_path, "--ready-after", str(LOADING_S)).gateway() as gateway:
        request = dialect.request(stream=False, model="managed")
        async with await ask(gateway.base_url, "POST", dialect.path, request) as exchange:
            assert exchange.status == 200
            assert DEFAULT_TEXT in str(await exchange.json())


async def test_stream_starts_before_the_engine_has(tmp_path: Path) -> None:
    setup = Setup(tmp_path, "--ready-after", "600")
    with setup.gateway() as gateway:
        request = ANTHROPIC.request(stream=True, model="managed")
        async with await ask(gateway.base_url, "POST", ANTHROPIC.path, request) as exchange:
            first = await anext(exchange.events())
            assert first.name == "message_start"
            await exchange.leave()
        await asyncio.to_thread(gateway.wait_idle)


@both_dialects
async def test_engine_that_cannot_start(tmp_path: Path, dialect: Dialect) -> None:
    """Said with the engine's own last words; the gateway itself stays up."""
    setup = Setup(tmp_path)
    setup.breaks()
    with setup.gateway(wait_ready=False) as gateway:  # it is ready for a moment only, if at all
        request = dialect.request(stream=False, model="managed")
        async with await ask(gateway.base_url, "POST", dialect.path, request) as exchange:
            assert exchange.status == 503
            error = dialect.error_in(await exchange.json())
        assert "out of luck" in error["message"]


@both_dialects
async def test_crash_and_restart(tmp_path: Path, dialect: Dialect) -> None:
    """The one whose answer it was is told; the next one is served by a new engine."""
    setup = Setup(tmp_path)
    with setup.gateway() as gateway:
        await events_from(gateway, dialect)
        engine = await setup.engine()
        engine.script(Answer(text="one two", then="die", at=3))
        setup.hello_file.unlink()
        events = await events_from(gateway, dialect)
        assert len(dialect.errors(events)) == 1
        assert not dialect.ended_well(events)
        await setup.engine()
        deadline = time.monotonic() + BACK_AGAIN_S
        while (status := await status_of(gateway, dialect)) != 200:
            assert status == 503
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)


async def status_of(gateway: Gateway, dialect: Dialect) -> int:
    request = dialect.request(stream=False, model="managed")
    async with await ask(gateway.base_url, "POST", dialect.path, request) as exchange:
        return exchange.status


async def test_flooded_output_blocks_nobody(tmp_path: Path) -> None:
    with Setup(tmp_path, "--flood-stdout", "2000000").gateway() as gateway:
        for _ in range(3):
            assert ANTHROPIC.ended_well(await events_from(gateway, ANTHROPIC))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
async def test_no_process_is_left(tmp_path: Path, number: signal.Signals) -> None:
    setup = Setup(tmp_path, "--fork-grandchild")
    with setup.gateway() as gateway:
        await events_from(gateway, ANTHROPIC)
        engine = await setup.engine()
        assert engine.grandchild_pid
        tree = [*gateway.children(), psutil.Process(engine.grandchild_pid)]
        assert len(tree) >= 2
        os.kill(gateway.pid, number)
        await until_gone(tree)


async def test_no_process_is_left_by_a_kill_while_loading(tmp_path: Path) -> None:
    setup = Setup(tmp_path, "--ready-after", "600", "--ignore-sigterm", "--fork-grandchild")
    with setup.gateway() as gateway:
        request = ANTHROPIC.request(stream=True, model="managed")
        async with await send(gateway.base_url, "POST", ANTHROPIC.path, request):
            await setup.engine()
            tree = gateway.children()
            os.kill(gateway.pid, signal.SIGKILL)
            await until_gone(tree)
