"""Which gateway of the stack a command of this machine finds, by what Docker tells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from homeport.stack.containers.reached import gateway, reached
from tests.stack.containers.test_inspected import inspected


def shown(env: list[str] | None = None) -> dict[str, Any]:
    found = inspected()
    found["Config"]["Env"] = env
    return found


def test_its_key_is_the_one_that_it_was_started_with() -> None:
    found = reached(shown(["PATH=/bin", "HOMEPORT_MASTER_KEY=sk-a=b"]))
    assert found is not None
    assert (found.url, found.key) == ("http://127.0.0.1:21899", "sk-a=b")
    assert found.container == "homeport-gateway-1"
    assert "sk-a" not in repr(found)


def test_one_without_a_port_is_not_reached() -> None:
    found = shown()
    found["NetworkSettings"]["Ports"] = {}
    assert reached(found) is None


def test_where_nothing_is_installed_docker_is_not_asked(tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    docker = tmp_path / "docker"
    docker.write_text(f"#!/bin/sh\n: > {asked}\n")
    docker.chmod(0o755)
    assert gateway({"HOMEPORT_CONFIG": str(tmp_path), "PATH": str(tmp_path)}) is None
    assert not asked.exists()
