"""The boot chain in a container: an image that `scripts/install-homeport` adds homeport to, and the
real Claude Code CLI outside as its client. Skipped, with the reason, where no Docker answers.

The base image is `python:3.13-slim`, which has no uv: the script takes venv and pip. On top of that it
runs once more: with uv there, which takes the place of what pip has done; and for the real LiteLLM.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from homeport.demo import demo_model_path
from tests.e2e.dialects import BOTH
from tests.e2e.raw_client import ask
from tests.e2e.test_claude_code import SMALL_MODEL, assert_good_run
from tests.e2e.test_litellm import HELLO
from tests.support.boot import KEY
from tests.support.claude_code import ClaudeCode
from tests.support.gateway import free_port

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1800)]

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "homeport-test-boot"
WITHIN_S = 120.0
STOP_S = 30

DOCKERFILE = """\
FROM python:3.13-slim
RUN apt-get update -q && apt-get install -y -q --no-install-recommends libgomp1
COPY install-homeport homeport-*.whl /tmp/homeport/
ARG PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_DEFAULT_TIMEOUT
RUN --mount=type=secret,id=ca PIP_CERT=/run/secrets/ca /tmp/homeport/install-homeport /tmp/homeport
ENV PATH=/soft/app/homeport/bin:$PATH
ENTRYPOINT ["/soft/app/homeport/bin/homeport", "boot"]
"""
WITH_UV = """\
FROM homeport-test-boot:plain
ARG PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_DEFAULT_TIMEOUT
RUN --mount=type=secret,id=ca PIP_CERT=/run/secrets/ca pip install --quiet --root-user-action=ignore uv
RUN --mount=type=secret,id=ca UV_DEFAULT_INDEX=$PIP_INDEX_URL SSL_CERT_FILE=/run/secrets/ca \\
    /tmp/homeport/install-homeport /tmp/homeport
RUN test -f /soft/app/homeport/tools/homeport/uv-receipt.toml
"""
WITH_LITELLM = """\
FROM homeport-test-boot:plain
ARG PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_DEFAULT_TIMEOUT
RUN --mount=type=secret,id=ca PIP_CERT=/run/secrets/ca WITH_LITELLM=1 \\
    /tmp/homeport/install-homeport /tmp/homeport
"""


def docker(*words: str, timeout_s: float = 120) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, timeout=timeout_s)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()[-6000:]
    return done.stdout.decode().strip()


def built(folder: Path, tag: str) -> str:
    """By this machine's settings of pip, which are in no file of the image."""
    names = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_DEFAULT_TIMEOUT")
    args = [
        word for n in names if n in os.environ for word in ("--build-arg", f"{n}={os.environ[n]}")
    ]
    authorities = next(
        (f for n in ("PIP_CERT", "SSL_CERT_FILE") if (f := os.environ.get(n))),
        "/etc/ssl/certs/ca-certificates.crt",
    )
    secret = ["--secret", f"id=ca,src={authorities}"]
    where = ["--network", "host", "--tag", f"{IMAGE}:{tag}", str(folder)]
    docker("build", *args, *secret, *where, timeout_s=1500)
    return f"{IMAGE}:{tag}"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> str:
    if shutil.which("docker") is None:
        pytest.skip("no docker on the PATH")
    answer = subprocess.run(["docker", "info"], capture_output=True, timeout=60)
    if answer.returncode != 0:
        pytest.skip(f"Docker does not answer: {answer.stderr.decode().strip()}")
    folder = tmp_path_factory.mktemp("image")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "-w", str(folder), str(ROOT)], check=True)
    shutil.copy(ROOT / "scripts" / "install-homeport", folder)
    (folder / "Dockerfile").write_text(DOCKERFILE)
    return built(folder, "plain")


MORE = {"uv": WITH_UV, "litellm": WITH_LITELLM}


def image_of(kind: str, folder: Path) -> str:
    if kind == "plain":
        return f"{IMAGE}:plain"
    (folder / "Dockerfile").write_text(MORE[kind])
    return built(folder, kind)


class Container:
    """One container of the chain with the demo model."""

    def __init__(self, image: str, **variables: str) -> None:
        self.port = free_port()
        self.name = f"homeport-test-boot-{self.port}"
        env = {
            "AUTO_INFER_LLAMA_CPP_ON_BOOT": "1",
            "AUTO_INFER_LLAMA_CPP_CONFIG": "/models",
            "HOMEPORT_MASTER_KEY": KEY,
            **variables,
        }
        settings = [word for name, value in env.items() for word in ("--env", f"{name}={value}")]
        model = f"type=bind,source={demo_model_path()},target=/models/demo.gguf,readonly"
        where = ["--publish", f"127.0.0.1:{self.port}:11899", "--mount", model]
        docker("run", "--detach", "--name", self.name, *where, *settings, image)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def logs(self) -> str:
        done = subprocess.run(["docker", "logs", self.name], capture_output=True, timeout=60)
        return (done.stdout + done.stderr).decode()

    def wait_said(self, text: str, times: int = 1) -> None:
        deadline = time.monotonic() + WITHIN_S
        while self.logs().count(text) < times:
            assert self.inspected(".State.Running") == "true", self.logs()
            assert time.monotonic() < deadline, self.logs()
            time.sleep(0.1)

    def inspected(self, field: str) -> str:
        return docker("inspect", "--format", "{{" + field + "}}", self.name)

    def processes(self) -> dict[int, str]:
        """Command lines by the pids that they have outside."""
        rows = docker("top", self.name, "-eo", "pid,args").splitlines()[1:]
        return {int(pid): words for pid, _, words in (row.strip().partition(" ") for row in rows)}

    def pid_of(self, mark: str) -> int:
        (pid,) = [pid for pid, words in self.processes().items() if mark in words]
        return pid


@pytest.fixture(params=["plain", "uv", pytest.param("litellm", marks=pytest.mark.slow_litellm)])
def container(
    request: pytest.FixtureRequest, plain: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Container]:
    image = image_of(request.param, tmp_path_factory.mktemp("image-of"))
    more = {"AUTO_INFER_LITELLM_ON_BOOT": "1"} if request.param == "litellm" else {}
    it = Container(image, **more)
    try:
        it.wait_said("[boot] all is ready")
        yield it
    finally:
        print(it.logs()[-8000:])
        docker("rm", "--force", "--volumes", it.name)


async def answers(container: Container) -> None:
    for dialect in BOTH:
        body: dict[str, Any] = dialect.request(stream=True, model="claude-opus-4-6")
        headers = {"authorization": f"Bearer {KEY}"}
        body |= {"temperature": 0, "max_tokens": 64}
        async with await ask(
            container.base_url, "POST", dialect.path, body, headers=headers
        ) as exchange:
            assert exchange.status == 200, await exchange.body()
            events = await exchange.all_events()
        assert dialect.text_of(events) == HELLO
        assert dialect.ended_well(events)


@pytest.mark.claude_code
async def test_a_container_from_its_boot_to_its_stop(
    container: Container, claude: ClaudeCode, tmp_path: Path
) -> None:
    await answers(container)
    run = claude.run(
        "Hello",
        base_url=container.base_url,
        folder=tmp_path,
        model="claude-haiku-4-5",
        options=["--bare"],
        env={**SMALL_MODEL, "ANTHROPIC_AUTH_TOKEN": KEY},
    )
    assert_good_run(run)
    assert run.text.strip()
    marks = {"llama-server": "llamacpp_child", "LiteLLM": "bin/litellm", "the gateway": " serve "}
    if "LiteLLM is ready" not in container.logs():
        del marks["LiteLLM"]
    else:
        assert "installing LiteLLM" not in container.logs(), "the image has it"
        assert '"POST /v1/chat/completions HTTP/1.1" 200' in container.logs()
    for title, mark in marks.items():
        os.kill(container.pid_of(mark), signal.SIGKILL)
        container.wait_said(f"{title} is ready", times=2)
        await answers(container)
    assert container.inspected(".RestartCount") == "0", "the chain has done it, not Docker"
    orphan = "import os, time; os.fork() and os._exit(0); os.setsid(); time.sleep(0.1)"
    docker("exec", container.name, "python", "-c", orphan)
    deadline = time.monotonic() + 20
    while any("<defunct>" in w or "os.setsid" in w for w in container.processes().values()):
        assert time.monotonic() < deadline, container.processes()
        await asyncio.sleep(0.05)
    began = time.monotonic()
    docker("stop", "--time", str(STOP_S), container.name)
    assert container.inspected(".State.ExitCode") == "0"
    assert time.monotonic() - began < STOP_S, "it was not killed"
    assert container.logs().rstrip().endswith("[boot] stopped (exit code 0)")


def test_a_container_that_is_told_nonsense(plain: str) -> None:
    done = subprocess.run(
        ["docker", "run", "--rm", "--env", "AUTO_INFER_LITELLM_ON_BOOT=maybe", plain],
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert b"AUTO_INFER_LITELLM_ON_BOOT: must be on or off" in done.stderr
