"""A boot chain as a process: `homeport boot` with nothing of this machine's set-up in it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from homeport.demo import demo_model_path
from tests.support.gateway import free_port

READY_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 30.0
POLL_S = 0.02
KEY = "sk-homeport-tests-0123456789abcdef"

MARKS = {"llama": "llamacpp_child", "litellm": "/bin/litellm", "gateway": " serve "}
"""What the command line of each member has, and no other."""


class Boot:
    """One `homeport boot` with the demo model; `variables` are more of its environment."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self._folder = folder
        self.port, self.llama_port, self.litellm_port = free_port(), free_port(), free_port()
        self.home = folder / "home" / "homeport"
        self.home.parent.mkdir(exist_ok=True)
        self.env = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(folder / "home"),
            "HOMEPORT_HOME": str(self.home),
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
            "HOMEPORT_PORT": str(self.port),
            "LLAMA_PORT": str(self.llama_port),
            "LITELLM_PORT": str(self.litellm_port),
            "AUTO_INFER_LLAMA_CPP_ON_BOOT": "1",
            "AUTO_INFER_LLAMA_CPP_MODEL": str(demo_model_path()),
            **variables,
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def output(self) -> str:
        return (self._folder / "boot-output.txt").read_text("utf-8", "replace")

    def start(self, *words: str) -> Self:
        with (self._folder / "boot-output.txt").open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "homeport", "boot", *words],
                cwd=self._folder,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        return self

    def wait_said(self, text: str, times: int = 1) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while len(re.findall(text, self.output())) < times:
            assert self.process.poll() is None, self.output()
            assert time.monotonic() < deadline, self.output()
            time.sleep(POLL_S)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def member(self, name: str) -> psutil.Process:
        """The member's own process."""
        found = [p for p in self.children() if MARKS[name] in " ".join(_words(p))]
        assert len(found) == 1, found
        return found[0]

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self) -> int:
        """SIGTERM; the exit status."""
        self.process.terminate()
        return self.process.wait(STOP_TIMEOUT_S)

    def __enter__(self) -> Self:
        self.start()
        try:
            self.wait_said(r"\[boot\] all is ready")
        except BaseException:
            self._give_up()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._give_up()
        if kind is not None:
            print(f"--- output of the boot\n{self.output()}")

    def _give_up(self) -> None:
        if self.process.poll() is None:
            self.process.kill()  # the shims end the rest
            self.process.wait(STOP_TIMEOUT_S)


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
