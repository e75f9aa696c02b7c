"""A container stack of its own: its folder, its name among Docker's, its ports; nothing of it is left.

    with Stack(folder) as stack:
        stack.homeport("install")
        stack.homeport("proxy", "start")

Where no Docker answers, `needs_docker()` skips, with the reason. Images are built with the network of
this machine, since packages may have to come from a mirror that only it reaches.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.request import Request, urlopen

import pytest

from homeport.runtime.process import free_port
from homeport.stack import env_file

COMMAND_S = 300.0
UNTIL_S = 60.0


def needs_docker() -> None:
    if shutil.which("docker") is None:
        pytest.skip("no docker on the PATH")
    answer = subprocess.run(["docker", "info"], capture_output=True, timeout=60)
    if answer.returncode != 0:
        pytest.skip(f"Docker does not answer: {answer.stderr.decode().strip()}")


def docker(*words: str, check: bool = True) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, timeout=120)
    assert done.returncode == 0 or not check, done.stderr.decode()
    return done.stdout.decode().strip()


class Stack:
    def __init__(self, folder: Path, name: str = "") -> None:
        self.home = folder / "config"
        self.home.mkdir(parents=True, exist_ok=True)
        self.project = f"homeport-test-{name or 'stack'}-{os.getpid()}"
        self.port = free_port()
        self.env = {
            **{key: value for key, value in os.environ.items() if not key.startswith("HOMEPORT_")},
            "HOMEPORT_CONFIG": str(self.home),
            "HOMEPORT_PORT": str(self.port),
            "HOMEPORT_BUILD_NETWORK": "host",
            "COMPOSE_PROJECT_NAME": self.project,
            "XDG_STATE_HOME": str(folder / "state"),
        }

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def values(self) -> dict[str, str]:
        return env_file.read(self.home / "services" / ".env")

    @property
    def key(self) -> str:
        return self.values["HOMEPORT_MASTER_KEY"]

    def homeport(
        self, *words: str, status: int | None = 0, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """The command, to its end. `status` is the one that it must have; None takes any."""
        done = subprocess.run(
            [sys.executable, "-m", "homeport", *words],
            env={**self.env, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
        )
        if status is not None:
            assert done.returncode == status, done.stdout + done.stderr
        return done

    def asked(self, path: str, body: Any = None, port: int | None = None) -> Any:
        """The answer to a request with the key."""
        request = Request(
            f"http://127.0.0.1:{port or self.port}{path}",
            None if body is None else json.dumps(body).encode(),
            {"authorization": f"Bearer {self.key}", "content-type": "application/json"},
        )
        with urlopen(request, timeout=UNTIL_S) as answer:
            return json.loads(answer.read())

    def chat(self, text: str = "hello") -> str:
        """What Chat Completions answer."""
        messages = [{"role": "user", "content": text}]
        body = {"model": "homeport-demo", "messages": messages, "max_tokens": 20}
        answer = self.asked("/v1/chat/completions", body)
        return str(answer["choices"][0]["message"]["content"])

    def message(self, text: str = "hello") -> str:
        """What Anthropic's Messages answer."""
        messages = [{"role": "user", "content": text}]
        body = {"model": "claude-sonnet-4-5", "messages": messages, "max_tokens": 20}
        answer = self.asked("/v1/messages", body)
        return str(answer["content"][0]["text"])

    def container(self, service: str) -> str:
        label = "label=com.docker.compose."
        found = docker(
            *("ps", "--all", "--quiet", "--filter", f"{label}project={self.project}"),
            *("--filter", f"{label}service={service}"),
        ).split()
        assert len(found) == 1, (service, found)
        return found[0]

    def inspected(self, service: str, field: str) -> str:
        return docker("inspect", "--format", "{{" + field + "}}", self.container(service))

    def sql(self, query: str) -> list[str]:
        """Rows of the database; columns are parted by `|`."""
        said = docker("exec", self.container("timescaledb"), *PSQL, query)
        return said.splitlines()

    def left(self) -> dict[str, list[str]]:
        """What Docker has of it, by kind."""
        mine = f"label=com.docker.compose.project={self.project}"
        return {
            "containers": docker("ps", "--all", "--quiet", "--filter", mine).split(),
            "networks": docker("network", "ls", "--quiet", "--filter", mine).split(),
            "volumes": docker("volume", "ls", "--quiet", "--filter", mine).split(),
        }

    def __enter__(self) -> Stack:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        left = self.left()
        if left["containers"]:
            docker("rm", "--force", "--volumes", *left["containers"])
        if left["networks"]:
            docker("network", "rm", *left["networks"])
        if left["volumes"]:
            docker("volume", "rm", "--force", *left["volumes"])
        images = docker("images", "--quiet", "--filter", f"reference={self.project}-*").split()
        if images:
            docker("rmi", "--force", *images)


PSQL = ("psql", "--username=homeport", "--host=127.0.0.1", "--dbname=homeport", "-tAc")


def until(what: Any, why: str, within_s: float = UNTIL_S) -> Any:
    """What `what()` returns, once that is something."""
    deadline = time.monotonic() + within_s
    while not (found := what()):
        assert time.monotonic() < deadline, why
        time.sleep(0.2)
    return found
