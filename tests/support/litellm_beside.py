"""A gateway with the real LiteLLM beside it, which finds LiteLLM installed already.

Where homeport would install it, a link leads to the installation that `litellm_proxy` keeps in the
cache folder of the tests: the same lock, the same place for the note that it is whole.
"""

from __future__ import annotations

import time
from pathlib import Path

import psutil

from homeport.engines.litellm_proxy import DONE, Plan
from homeport.runtime.litellm import LiteLLM
from homeport.settings import LiteLLMSettings
from tests.support.gateway import Gateway, free_port
from tests.support.litellm_proxy import executable

READY_TIMEOUT_S = 120.0
POLL_S = 0.05


class Beside:
    """One `homeport serve --with-litellm`. `port` is LiteLLM's."""

    def __init__(
        self, folder: Path, config: str, env: dict[str, str] | None = None, port: int = 0
    ) -> None:
        self.port = free_port()
        self._home = folder / "home" / "homeport"
        link_installation(self._home)
        file = folder / "config.yaml"
        file.write_text(config, "utf-8")
        words = ("--config", str(file), "--with-litellm", "--litellm-port", str(self.port))
        self.gateway = Gateway(folder, *words, env=env, port=port)

    def __enter__(self) -> Beside:
        self.gateway.start()
        try:
            self.wait_ready()
        except BaseException:
            self.gateway.stop()
            print(self.gateway.output())
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.gateway.stop()
        if error[0] is not None:
            print(f"--- output of the gateway\n{self.gateway.output()}")

    @property
    def base_url(self) -> str:
        """LiteLLM's own."""
        return f"http://127.0.0.1:{self.port}"

    def wait_ready(self) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not self.is_ready():
            assert time.monotonic() < deadline, self.gateway.output()
            time.sleep(POLL_S)

    def is_ready(self) -> bool:
        return f"LiteLLM is ready on {self.base_url}" in self.gateway.output()

    def processes(self) -> list[psutil.Process]:
        """LiteLLM's, less the shim."""
        return [p for p in self.gateway.children() if is_litellm(p)]

    def config_file(self) -> Path:
        return self._home / "state" / f"litellm-{self.port}" / "config.yaml"


def is_litellm(process: psutil.Process) -> bool:
    try:
        return any(word.endswith("/bin/litellm") for word in process.cmdline())
    except psutil.Error:
        return False


def link_installation(home: Path) -> None:
    """`home` is the gateway's HOMEPORT_HOME."""
    installed = executable().parent.parent
    assert (installed / DONE).exists()
    data = home / "data"
    data.mkdir(parents=True)
    of = LiteLLM(url="", internal_key="", state_home=home, data_home=data)
    of.where(Plan(settings=LiteLLMSettings())).symlink_to(installed)
