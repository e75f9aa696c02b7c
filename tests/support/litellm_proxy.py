"""The real LiteLLM proxy, in an environment of its own: installed once, below the user's cache folder.

It is installed from the lock by hashes, without dependencies of its own choice: the lock is complete.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
import urllib.request
import venv
from pathlib import Path
from types import TracebackType
from typing import Self

from homeport.litellm import LOCK
from tests.support.gateway import free_port

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "homeport-tests"
MASTER_KEY = "sk-" + hashlib.sha256(b"tests").hexdigest()
"""LiteLLM 1.109 starts with no weak one."""
READY_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 20.0
POLL_S = 0.1

_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def executable() -> Path:
    """The `litellm` of the environment; `subprocess.CalledProcessError` when it cannot be installed."""
    digest = hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]
    folder = CACHE / f"litellm-{digest}-py{sys.version_info[1]}"
    done = folder / "installed"
    if not done.exists():
        print(f"installing LiteLLM into {folder}", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "--quiet", "install"]
        subprocess.run([*pip, "--no-deps", "--require-hashes", "-r", str(LOCK)], check=True)
        done.touch()
    return folder / "bin" / "litellm"


class LiteLLM:
    """One proxy, by its own configuration file; nothing of this machine's set-up in it."""

    def __init__(self, folder: Path, config: str, env: dict[str, str]) -> None:
        self._folder, self._env = folder, env
        (folder / "litellm.yaml").write_text(config, "utf-8")
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def output(self) -> str:
        return (self._folder / "litellm.log").read_text("utf-8", "replace")

    def __enter__(self) -> Self:
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self._folder),
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_MASTER_KEY": MASTER_KEY,
            **self._env,
        }
        command = [str(executable()), "--config", str(self._folder / "litellm.yaml")]
        command += ["--host", "127.0.0.1", "--port", str(self.port)]
        with (self._folder / "litellm.log").open("wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self._folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            self._until_ready()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()
        if kind is not None:
            print(f"--- output of LiteLLM\n{self.output()[-8000:]}")

    def _until_ready(self) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline:
            assert self._process is not None
            assert self._process.poll() is None, self.output()[-4000:]
            try:
                with _opener.open(f"{self.base_url}/health/liveliness", timeout=5):
                    return
            except OSError:
                time.sleep(POLL_S)
        raise TimeoutError(f"LiteLLM is not ready:\n{self.output()[-4000:]}")

    def _stop(self) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(STOP_TIMEOUT_S)
