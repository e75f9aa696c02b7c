"""A gateway with engines of its own: for each model a `llama-server` that is the fake engine.

    with OwnEngines(tmp_path, {"one": (), "two": ("--ignore-sigterm",)}).gateway() as gateway:
        ...

All models share one group, so that one runs at a time, unless they are to live side by side.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.support.engine import PROGRAM, FakeEngine
from tests.support.gateway import Gateway
from tests.support.gguf import SHORTEST

APPEARS_WITHIN_S = 30.0


class OwnEngines:
    def __init__(
        self,
        folder: Path,
        options: Mapping[str, Iterable[str]],
        *,
        prelude: str = "",
        slots: int = 2,
    ) -> None:
        """`options` of the fake engine, by model; `prelude` is shell before each start."""
        self._folder = folder
        models: dict[str, Any] = {}
        for name, words in options.items():
            weights, binary = folder / f"{name}.gguf", folder / f"{name}-server"
            weights.write_bytes(SHORTEST)
            hello = ["--hello-file", str(self._hello(name))]
            command = " ".join([sys.executable, str(PROGRAM), *hello, *words])
            binary.write_text(f'#!/bin/sh\n{prelude}\nexec {command} "$@"\n')
            binary.chmod(0o755)
            models[name] = {"path": str(weights), "engine": "llamacpp", "binary": str(binary)}
            models[name] |= {"group": "one at a time", "slots": slots}
        lifecycle = {"groups": {"one at a time": {}}, "min_dwell_s": 0}
        self.config = folder / "config.yaml"
        self.config.write_text(json.dumps({"lifecycle": lifecycle, "models": models}))

    @contextmanager
    def gateway(self) -> Iterator[Gateway]:
        with Gateway(self._folder, "--config", str(self.config), wait_ready=False) as gateway:
            yield gateway
        gateway.assert_no_internal_error()

    async def engine(self, name: str, *, other_than: psutil.Process | None = None) -> Own:
        """The running one, once it is there."""
        deadline = time.monotonic() + APPEARS_WITHIN_S
        while (found := self._found(name)) is None or found.process == other_than:
            assert time.monotonic() < deadline, f"{name} was not started"
            await asyncio.sleep(0.02)
        return found

    def _found(self, name: str) -> Own | None:
        hello = self._hello(name)
        for process in psutil.process_iter():
            try:
                if str(hello) in process.cmdline() and is_alive(process):
                    fake = FakeEngine.running_at(hello)
                    if f'"pid": {process.pid}' in hello.read_text():
                        return Own(process, fake)
            except (psutil.Error, OSError, ValueError, KeyError):
                continue
        return None

    def _hello(self, name: str) -> Path:
        return self._folder / f"{name}-hello.json"


class Own:
    """A running engine of the gateway's."""

    def __init__(self, process: psutil.Process, fake: FakeEngine) -> None:
        self.process, self.fake = process, fake

    def tree(self) -> list[psutil.Process]:
        """It, its shim, its children and the daemon that fled from it."""
        shim = self.process.parent()
        tree = {self.process, *self.process.children(recursive=True)}
        if shim is not None and "shim.py" in " ".join(shim.cmdline()):
            tree.add(shim)
        if self.fake.grandchild_pid is not None:
            tree.add(psutil.Process(self.fake.grandchild_pid))
        return list(tree)


def is_alive(process: psutil.Process) -> bool:
    """A zombie that nobody collects has ended."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def survivors(processes: list[psutil.Process], within_s: float) -> list[psutil.Process]:
    """Those that still live after so long."""
    deadline, left = time.monotonic() + within_s, processes
    while True:
        left = [process for process in left if is_alive(process)]
        if not left or time.monotonic() >= deadline:
            return left
        await asyncio.sleep(0.02)
