"""`scripts/install-homeport`: what it refuses, before it asks any network. That it installs is shown in
containers (`tests/e2e/test_boot_container.py`)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "install-homeport"


def run(folder: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(SCRIPT), *words],
        env={"PATH": os.environ["PATH"], "HOMEPORT_PREFIX": str(folder / "prefix"), **env},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("words", "env", "message"),
    [
        (["a", "b"], {}, "takes one argument: a wheel, or a folder"),
        (["/no/such/folder"], {}, "is no wheel, and no folder with one"),
        ([], {"HOMEPORT_PREFIX": "soft/app"}, "HOMEPORT_PREFIX must begin with /: soft/app"),
        ([], {"WITH_LITELLM": "yes"}, "WITH_LITELLM must be 0 or 1"),
    ],
)
def test_what_it_refuses(
    tmp_path: Path, words: list[str], env: dict[str, str], message: str
) -> None:
    done = run(tmp_path, *words, **env)
    assert done.returncode == 1
    assert message in done.stderr
    assert not (tmp_path / "prefix").exists()


def test_two_wheels_are_one_too_many(tmp_path: Path) -> None:
    for version in ("0.1.0", "0.2.0"):
        (tmp_path / f"homeport-{version}-py3-none-any.whl").touch()
    done = run(tmp_path, str(tmp_path))
    assert done.returncode == 1
    assert "several wheels" in done.stderr


@pytest.mark.parametrize("version", ["3, 10", "3, 9"])
def test_a_python_that_is_too_old(tmp_path: Path, version: str) -> None:
    python = tmp_path / "python3"
    python.write_text(f'#!/bin/sh\n[ "$1" = -V ] && echo "Python {version}"; exit 1\n')
    python.chmod(0o755)
    done = run(tmp_path, str(tmp_path), PYTHON=str(python))
    assert done.returncode == 1
    assert f"is Python {version}, and homeport needs 3.11" in done.stderr


def test_it_explains_itself(tmp_path: Path) -> None:
    done = run(tmp_path, "--help")
    assert done.returncode == 0
    assert "install-homeport [WHEEL | FOLDER]" in done.stdout
    assert "set -euo" not in done.stdout
