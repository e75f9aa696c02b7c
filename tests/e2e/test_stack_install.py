"""A stack's whole life on a real Docker: from an older layout, with an image that cannot be had, used,
taken away and put back with its data, taken away for good.

The images of this machine may be stand-ins with the official names, which the tests cannot tell. The
demo model answers.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.stack import Stack, docker, needs_docker, until

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

OLD_KEY = "sk-of-run-claude's"
DATABASE = "timescale/timescaledb:2.23.1-pg17"
NOWHERE = "localhost:1/no/such:image"
"""Nothing listens on port 1: whatever registries there are, this one is not."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    needs_docker()
    folder = tmp_path_factory.mktemp("stack")
    with Stack(folder, "install") as stack:
        old = folder / "old"
        old.mkdir()
        (old / ".env").write_text(f'LITELLM_MASTER_KEY="{OLD_KEY}"\nOPENAI_API_KEY=sk-1\n')
        stack.env["RUN_CLAUDE_CONFIG"] = str(old)
        yield stack


def images(stack: Stack) -> list[str]:
    return docker("images", "--quiet", f"--filter=reference={stack.project}-*").split()


def rows(stack: Stack) -> int:
    return int(stack.sql("SELECT count(*) FROM homeport_usage")[0])


@pytest.mark.slow_containers
def test_a_whole_life(stack: Stack) -> None:
    services = stack.home / "services"
    services.mkdir(mode=0o700)
    override = services / "compose.override.yaml"
    nowhere = {name: {"image": NOWHERE} for name in ("grafana", "llama")}
    override.write_text(json.dumps({"services": nowhere}))

    # Images that cannot be had.
    said = stack.homeport("install", "--with", "monitoring", "--with", "llama", status=1).stderr
    assert "  gateway: built" in said
    assert "  timescaledb: there" in said
    assert "  prometheus: there" in said
    assert "  grafana: failed" in said
    assert "  llama: failed" in said
    assert "error: the image of grafana could not be pulled: " in said
    assert "homeport install --without monitoring" in said
    assert "LITELLM_MASTER_KEY: it is homeport's master key, too" in said
    assert len(images(stack)) == 1
    said = stack.homeport("install", "--without", "monitoring", "--without", "llama").stderr
    assert said.endswith("next: homeport proxy restart\n")

    # Used, with the key that clients have had all the time.
    stack.homeport("proxy", "start")
    assert stack.key == OLD_KEY
    assert stack.chat().startswith("Hello")
    until(lambda: rows(stack) == 1, "usage is in the database")

    # Taken away, and put back.
    said = stack.homeport("uninstall").stderr
    left = stack.left()
    assert (left["containers"], left["networks"], images(stack)) == ([], [], [])
    assert len(left["volumes"]) >= 2
    for volume in left["volumes"]:
        assert volume in said
    assert docker("image", "inspect", "--format", "{{.Id}}", DATABASE), "it was not built here"
    kept = {".env", "manifest.json", "compose.override.yaml"}
    assert {path.name for path in services.iterdir()} == kept
    stack.homeport("install")
    stack.homeport("proxy", "start")
    assert stack.key == OLD_KEY
    assert rows(stack) == 1
    assert stack.chat().startswith("Hello")

    # For good.
    override.unlink()
    stack.homeport("uninstall", "--volumes", "--yes")
    assert not any(stack.left().values())
    assert images(stack) == []
    assert not services.exists()
    said = stack.homeport("uninstall").stderr
    assert said == f"nothing is installed in {services}\n"


@pytest.mark.slow_containers
def test_the_old_database_is_carried_over_as_the_documentation_says(tmp_path: Path) -> None:
    needs_docker()
    with Stack(tmp_path, "carried") as stack:
        stack.homeport("install", "--no-images", "--with", "litellm")
        old = f"{stack.project}-old"
        try:
            docker("run", "--detach", "--name", old, "--env=POSTGRES_PASSWORD=x", DATABASE)
            ready = ("exec", old, "pg_isready", "--host=127.0.0.1", "--username=postgres")
            until(lambda: "accepting" in docker(*ready, check=False), "the old database is up")
            docker("exec", old, "psql", "--username=postgres", "--command", LITELLMS_TABLES)
            commands = carried_over().replace("run-claude-timescaledb", old)
            commands = commands.replace("~/.config/homeport", str(stack.home))
            said = subprocess.run(
                ["sh", "-ec", commands],
                env={**stack.env, "HOME": str(tmp_path)},
                capture_output=True,
                text=True,
            )
            assert said.returncode == 0, said.stderr
            query = 'SELECT token, state FROM "LiteLLM_Token"'
            psql = ("psql", "--username=homeport", "--dbname=litellm", "-tAc")
            assert docker("exec", stack.container("timescaledb"), *psql, query) == "abc|ACTIVE"
            owner = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'"
            assert docker("exec", stack.container("timescaledb"), *psql, owner) == "litellm"
        finally:
            docker("rm", "--force", "--volumes", old)


LITELLMS_TABLES = """
CREATE TYPE "JobStatus" AS ENUM ('ACTIVE', 'INACTIVE');
CREATE TABLE "LiteLLM_Token" (id serial PRIMARY KEY, token text, state "JobStatus");
INSERT INTO "LiteLLM_Token" (token, state) VALUES ('abc', 'ACTIVE');
"""


def carried_over() -> str:
    """The commands."""
    text = (Path(__file__).parents[2] / "docs" / "stack.md").read_text("utf-8")
    (block,) = (b for b in re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S) if "pg_dump" in b)
    return str(block)


def test_a_gpu_is_asked_for_in_words_that_compose_knows(stack: Stack, tmp_path: Path) -> None:
    """Whether the toolkit then gives it, only a machine with one can show."""
    env = {"HOMEPORT_CONFIG": str(tmp_path), "COMPOSE_PROJECT_NAME": f"{stack.project}-gpu"}
    stack.homeport("install", "--no-images", "--with", "llama", env=env)
    said = subprocess.run(
        ["docker", "compose", "config", "--format=json"],
        cwd=tmp_path / "services",
        env={**os.environ, "COMPOSE_FILE": "compose.yaml:compose.gpu.yaml"},
        capture_output=True,
        text=True,
    )
    assert said.returncode == 0, said.stderr
    llama = json.loads(said.stdout)["services"]["llama"]
    (device,) = llama["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"capabilities": ["gpu"], "driver": "nvidia", "count": -1}
    assert "server-cuda-" in llama["image"]
    assert "--model" in llama["command"], "the rest is as it was"
