"""The real gateway as a process: `homeport serve` with nothing of this machine's set-up in it.

The environment is made from scratch (no proxies, no keys, no user configuration), HOME and
HOMEPORT_HOME are throw-away folders, the port is free on loopback, output goes to a file. Started
means: `/readyz` says so. Stopped means: SIGTERM to its own process id, and if that is not enough,
SIGKILL.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
IDLE_TIMEOUT_S = 10.0
POLL_S = 0.05

_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Gateway:
    """One `homeport serve`. `arguments` follow the command as they are.

    >>> with Gateway(tmp_path, "--upstream", engine.base_url) as gateway:  # doctest: +SKIP
    ...     use(gateway.base_url)
    """

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        wait_ready: bool = True,
        discover: bool = False,
        port: int = 0,
        env: dict[str, str] | None = None,
    ) -> None:
        """Told of no model it serves the demo, whatever runs on this machine; unless `discover`."""
        self._folder = folder
        self._arguments = arguments if discover else ("--no-discover", *arguments)
        self._wait_ready = wait_ready
        self._extra_env = env or {}
        self._process: subprocess.Popen[bytes] | None = None
        self.port = port

    def __repr__(self) -> str:
        code = self._process.poll() if self._process else "not started"
        state = "running" if code is None else f"ended ({code})"
        return f"<Gateway port={self.port} {state} {' '.join(self._arguments)}>"

    # life

    def start(self) -> Self:
        self.port = self.port or free_port()
        command = [sys.executable, "-m", "homeport", "serve", "--host", "127.0.0.1"]
        command += ["--port", str(self.port), *self._arguments]
        with self._output_path.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                cwd=self._folder,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            self._until_up()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> int:
        """Returns the exit status. Its engines are its own business; see `children`."""
        process = self._running()
        if process.poll() is None:
            process.terminate()
        try:
            return process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait(STOP_TIMEOUT_S)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        if kind is not None:
            print(f"--- output of {self!r}\n{self.output()}")

    # looking

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def output(self) -> str:
        return self._output_path.read_text("utf-8", "replace")

    def rss_bytes(self) -> int:
        return int(psutil.Process(self.pid).memory_info().rss)

    def assert_no_internal_error(self) -> None:
        """Nothing that went wrong inside was merely papered over by a retry."""
        assert "request.failed" not in self.output(), self.output()

    def in_flight(self) -> int:
        """Requests that hold a lease now, of all models."""
        with _opener.open(self.base_url + "/readyz", timeout=5) as response:
            models = json.load(response)["models"].values()
        return sum(int(model["in_flight"]) for model in models)

    def metrics(self) -> list[str]:
        """The lines of `/metrics`."""
        with _opener.open(self.base_url + "/metrics", timeout=5) as response:
            return str(response.read().decode()).splitlines()

    def wait_idle(self) -> None:
        """Until every lease is given back; raises `AssertionError` if one is lost."""
        deadline = time.monotonic() + IDLE_TIMEOUT_S
        while count := self.in_flight():
            assert time.monotonic() < deadline, f"{count} requests are still in flight"
            time.sleep(POLL_S)

    def terminate(self) -> None:
        """Ask it to stop, and do not wait."""
        self._running().terminate()

    def wait_end(self) -> int:
        """Wait until it has stopped; its exit status."""
        return self._running().wait(STOP_TIMEOUT_S)

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.pid).children(recursive=True)

    # inside

    @property
    def _output_path(self) -> Path:
        return self._folder / "gateway-output.txt"

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the gateway has not been started")
        return self._process

    def _environment(self) -> dict[str, str]:
        home = self._folder / "home"
        home.mkdir(exist_ok=True)
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(home),
            "HOMEPORT_HOME": str(home / "homeport"),
            "XDG_CONFIG_HOME": str(home / "config"),
            "XDG_CACHE_HOME": str(home / "cache"),
            "XDG_DATA_HOME": str(home / "data"),
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
            **self._extra_env,
        }

    def _until_up(self) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not self._is_up():
            code = self._running().poll()
            if code is not None:
                raise RuntimeError(f"homeport serve ended with {code}:\n{self.output()}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"not up in {READY_TIMEOUT_S} s:\n{self.output()}")
            time.sleep(POLL_S)

    def _is_up(self) -> bool:
        """Ready; or merely answering, where the test wants a gateway that is not ready."""
        try:
            with _opener.open(self.base_url + "/readyz", timeout=5) as response:
                return bool(response.status == 200)
        except urllib.error.HTTPError as error:
            error.close()
            return not self._wait_ready
        except OSError:
            return False


def free_port() -> int:
    """A port that was free a moment ago: good enough where the loser of a race fails loudly."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
