"""The Docker client as a program: what of the user's shell reaches it. The stand-in prints it."""

from __future__ import annotations

from pathlib import Path

import pytest

from homeport.stack.containers.docker_client import Docker
from homeport.stack.layout import Layout

PRINTS = "#!/bin/sh\nexec /usr/bin/env\n"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path)
    layout.services.mkdir()
    (tmp_path / "docker").write_text(PRINTS)
    (tmp_path / "docker").chmod(0o755)
    return layout


def test_what_the_shell_says_of_other_stacks_does_not_reach_ours(layout: Layout) -> None:
    theirs = {
        "COMPOSE_PROJECT_NAME": "theirs",
        "COMPOSE_PROFILES": "theirs",
        "COMPOSE_FILE": "theirs.yaml",
        "COMPOSE_REMOVE_ORPHANS": "1",
    }
    ours = {"DOCKER_HOST": "unix:///x", "HOMEPORT_PORT": "1"}
    docker = Docker(layout, {"PATH": str(layout.home), **theirs, **ours})
    said = docker.composed("down", env={"COMPOSE_PROFILES": "asked for"})
    assert not [line for line in said if "theirs" in line or "ORPHANS" in line]
    assert {"DOCKER_HOST=unix:///x", "HOMEPORT_PORT=1", "COMPOSE_PROFILES=asked for"} <= set(said)


def test_a_command_that_ends_after_its_output_has_not_failed(layout: Layout) -> None:
    (layout.home / "docker").write_text("#!/bin/sh\necho said\nexec >&- 2>&-\n/bin/sleep 0.2\n")
    docker = Docker(layout, {"PATH": str(layout.home)})
    assert docker.composed("config") == ["said"]


def test_the_name_of_the_stack_is_that_of_its_folder(layout: Layout) -> None:
    assert layout.project == "homeport"
    layout.env_file.write_text("COMPOSE_PROJECT_NAME=box\n")
    assert layout.project == "box"
