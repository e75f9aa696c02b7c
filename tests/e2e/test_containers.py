"""Engines in containers, with a real Docker, where one answers. Elsewhere skipped, with the reason.

The image is made here, from `python:3.13-slim`, with the fake engine as its program: what is looked at
is who starts and ends the container, and who is left. It has no GPU and none of the engines' images.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.e2e.dialects import BOTH, OPENAI
from tests.e2e.raw_client import ask
from tests.support.engine import PROGRAM
from tests.support.fake_engine.script import DEFAULT_TEXT
from tests.support.gateway import Gateway
from tests.support.gguf import SHORTEST

pytestmark = pytest.mark.docker

BASE = "python:3.13-slim"
IMAGE = "homeport-test-engine:1"
GONE_WITHIN_S = 4.0
"""The second that the shim gives, and what Docker takes to kill and remove on a busy machine."""
BACK_AGAIN_S = 60.0
UNCOMPILED = shutil.ignore_patterns("__pycache__")


def docker(*words: str) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    if shutil.which("docker") is None:
        pytest.skip("no docker on the PATH")
    answer = subprocess.run(["docker", "info"], capture_output=True, timeout=60)
    if answer.returncode != 0:
        pytest.skip(f"Docker does not answer: {answer.stderr.decode().strip()}")
    folder = tmp_path_factory.mktemp("image")
    shutil.copytree(PROGRAM, folder / "tests/support/fake_engine", ignore=UNCOMPILED)
    entry = '["python", "-S", "/tests/support/fake_engine"]'
    (folder / "Dockerfile").write_text(f"FROM {BASE}\nCOPY tests /tests\nENTRYPOINT {entry}\n")
    docker("build", "--quiet", "--tag", IMAGE, str(folder))
    return IMAGE


@contextmanager
def boxed(folder: Path, image: str, *args: str, wait_ready: bool = True) -> Iterator[Gateway]:
    model = folder / "boxed.gguf"
    model.write_bytes(SHORTEST)
    settings: dict[str, Any] = {
        "path": str(model),
        "engine": "llamacpp",
        "runner": "container",
        "image": image,
        "args": list(args),
    }
    config = folder / "config.yaml"
    config.write_text(json.dumps({"models": {"boxed": settings}}))
    env = {name: os.environ[name] for name in os.environ if name.startswith("DOCKER_")}
    with Gateway(folder, "--config", str(config), wait_ready=wait_ready, env=env) as gateway:
        yield gateway


def containers() -> list[str]:
    label = "label=homeport.instance=boxed"
    return docker("ps", "--all", "--no-trunc", "--quiet", "--filter", label).split()


def inspected(container: str, field: str) -> str:
    return docker("inspect", "--format", "{{" + field + "}}", container)


async def loaded(gateway: Gateway) -> str:
    """The container that answers, once it does."""
    request = OPENAI.request(stream=False, model="boxed")
    async with await ask(gateway.base_url, "POST", OPENAI.path, request) as exchange:
        assert exchange.status == 200, await exchange.body()
    (container,) = containers()
    return container


async def until_gone(pid: int) -> float:
    """Until no container is left and its process neither; how long that took."""
    began = time.monotonic()
    while containers() or psutil.pid_exists(pid):
        assert time.monotonic() - began < BACK_AGAIN_S, containers()
        await asyncio.sleep(0.05)
    return time.monotonic() - began


@pytest.fixture(autouse=True)
def nothing_left(image: str) -> Iterator[None]:
    assert containers() == []
    yield
    left = containers()
    if left:
        docker("rm", "--force", *left)
    assert left == []


async def test_it_answers_is_measured_and_is_gone_after_the_stop(
    tmp_path: Path, image: str
) -> None:
    with boxed(tmp_path, image) as gateway:
        for dialect in BOTH:
            request = dialect.request(stream=True, model="boxed")
            async with await ask(gateway.base_url, "POST", dialect.path, request) as exchange:
                events = await exchange.all_events()
            assert dialect.text_of(events) == DEFAULT_TEXT
            assert dialect.ended_well(events)
        (container,) = containers()
        owner = inspected(container, 'index .Config.Labels "homeport.owner"')
        assert owner.startswith(f"{gateway.pid}:")
        memory = tmp_path / "home" / "homeport" / "state" / "memory.json"
        deadline = time.monotonic() + BACK_AGAIN_S
        while not memory.exists():
            assert time.monotonic() < deadline, "its memory was not measured"
            await asyncio.sleep(0.05)
        (entry,) = json.loads(memory.read_text())["measured"].values()
        assert entry["model"] == "boxed"
        assert entry["used_bytes"] > 5_000_000, "a Python process, not nothing"
        assert gateway.stop() == 0
        assert containers() == []
        gateway.assert_no_internal_error()


async def test_it_is_started_anew_after_a_crash(tmp_path: Path, image: str) -> None:
    with boxed(tmp_path, image) as gateway:
        before = await loaded(gateway)
        os.kill(int(inspected(before, ".State.Pid")), signal.SIGKILL)
        deadline = time.monotonic() + BACK_AGAIN_S
        while before in containers():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        assert await loaded(gateway) != before


@pytest.mark.parametrize("args", [(), ("--ignore-sigterm", "--fork-grandchild")])
async def test_it_is_gone_soon_after_homeport_was_killed(
    tmp_path: Path, image: str, args: tuple[str, ...]
) -> None:
    with boxed(tmp_path, image, *args) as gateway:
        container = await loaded(gateway)
        pid = int(inspected(container, ".State.Pid"))
        os.kill(gateway.pid, signal.SIGKILL)
        took_s = await until_gone(pid)
    assert took_s < GONE_WITHIN_S


async def test_while_it_loads_too(tmp_path: Path, image: str) -> None:
    with boxed(tmp_path, image, "--ready-after", "600", wait_ready=False) as gateway:
        deadline = time.monotonic() + BACK_AGAIN_S
        while not containers():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
        os.kill(gateway.pid, signal.SIGKILL)
        assert await until_gone(0) < GONE_WITHIN_S + 1.0


async def test_if_its_shim_is_killed_too_the_next_start_ends_it(tmp_path: Path, image: str) -> None:
    with boxed(tmp_path, image) as gateway:
        container = await loaded(gateway)
        pid = int(inspected(container, ".State.Pid"))
        shims = psutil.Process(gateway.pid).children()
        for shim in shims:
            shim.suspend()
        os.kill(gateway.pid, signal.SIGKILL)
        for shim in shims:
            shim.kill()
        psutil.wait_procs(shims, 5)
    assert containers() == [container], "else there is nothing to show"
    with boxed(tmp_path, image) as gateway:
        assert container not in containers()
        assert not psutil.pid_exists(pid)
        assert "ended what a homeport has left that was killed: the container homeport-boxed-" in (
            gateway.output()
        )


async def test_an_image_that_cannot_be_had(tmp_path: Path, image: str) -> None:
    missing = "localhost:9/no-such-image:1"
    with boxed(tmp_path, missing, wait_ready=False) as gateway:
        request = OPENAI.request(stream=False, model="boxed")
        async with await ask(gateway.base_url, "POST", OPENAI.path, request) as exchange:
            assert exchange.status == 503
            message = OPENAI.error_in(await exchange.json())["message"]
    assert "Docker could not run the container" in message
    assert "could not be pulled" in message
