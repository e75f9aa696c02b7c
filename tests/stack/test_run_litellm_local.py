"""`scripts/run-litellm-local`: which LiteLLM it runs, with what. LiteLLM itself is a stub here."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from homeport import litellm

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts/run-litellm-local"
STUB = """#!/bin/sh
printf '%s\\n' "${0##*/}" "$@"
env | grep -E '^(LITELLM|ODD|TRICK|BARE|OPENAI|HOMEPORT_URL|PYTHONPATH)' | sort
"""
ENV_FILE = """\
# LITELLM_OFF=1
LITELLM_MASTER_KEY='sk-$not "expanded"'
LITELLM_PORT=4545   # of this machine
ODD_KEY="two words \\"quoted\\" # no comment"
export BARE=a=b#c
TRICK=$(touch executed)`touch executed`
"""


class Folder:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "config/homeport"
        (self.config / "services").mkdir(parents=True)
        (self.config / "litellm_config.yaml").write_text("model_list: []\n")
        (self.config / "services/.env").write_text(ENV_FILE)
        self.bin = folder / "bin"
        self.bin.mkdir()
        for name in ("bash", "sed", "cat", "dirname", "cut", "sha256sum", "env", "grep", "sort"):
            program = shutil.which(name)
            assert program is not None
            (self.bin / name).symlink_to(program)

    def add(self, program: Path) -> None:
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(STUB)
        program.chmod(0o755)

    def run(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        plain = {"HOME": str(self.folder), "PATH": str(self.bin)}
        plain["XDG_CONFIG_HOME"] = str(self.folder / "config")
        bash = shutil.which("bash")
        assert bash is not None
        return subprocess.run(
            [bash, str(SCRIPT), *words],
            env={**plain, **env},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
        )


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_by_uvx_in_the_version_that_homeport_pins(folder: Folder) -> None:
    folder.add(folder.bin / "uvx")
    done = folder.run("--detailed_debug", "two words")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        *("uvx", "--from", f"litellm[proxy]=={litellm.VERSION}", "litellm"),
        *("--host", "127.0.0.1", "--port", "4545"),
        *("--config", str(folder.config / "litellm_config.yaml"), "--detailed_debug", "two words"),
        "BARE=a=b#c",
        "HOMEPORT_URL=http://127.0.0.1:11899",
        "HOMEPORT_URL_V1=http://127.0.0.1:11899/v1",
        'LITELLM_MASTER_KEY=sk-$not "expanded"',
        "LITELLM_PORT=4545",
        'ODD_KEY=two words "quoted" # no comment',
        f"PYTHONPATH={folder.config}/services/litellm",
        "TRICK=$(touch executed)`touch executed`",
    ]
    assert "without homeport's lock" in done.stderr
    assert not (folder.folder / "executed").exists()


def test_the_locked_one_where_it_is_installed(folder: Folder) -> None:
    folder.add(folder.bin / "uvx")
    digest = hashlib.sha256(litellm.LOCK.read_bytes()).hexdigest()[:12]
    data = folder.folder / ".local/share/homeport"
    place = data / f"litellm-{litellm.VERSION}-{digest}-py311"
    folder.add(place / "bin/python")
    folder.add(place / "bin/litellm")
    assert folder.run().stdout.startswith("uvx\n"), "an installation that was broken off"
    (place / "installed").touch()
    said = folder.run().stdout.splitlines()
    assert said[:3] == ["python", "-s", str(place / "bin/litellm")]


def test_the_environment_wins_over_the_file(folder: Folder) -> None:
    folder.add(folder.bin / "uvx")
    said = folder.run(LITELLM_PORT="4646", LITELLM_MASTER_KEY="").stdout.splitlines()
    assert "4646" in said
    assert "LITELLM_MASTER_KEY=" in said


@pytest.mark.parametrize("variable", ["HOMEPORT_CONFIG", "HOMEPORT_HOME"])
def test_another_folder(folder: Folder, variable: str, tmp_path: Path) -> None:
    folder.add(folder.bin / "uvx")
    other = tmp_path / "elsewhere"
    shutil.move(folder.config, other)
    said = folder.run(**{variable: str(other)}).stdout.splitlines()
    assert str(other / "litellm_config.yaml") in said


def test_a_file_as_configuration_means_its_folder(folder: Folder) -> None:
    folder.add(folder.bin / "uvx")
    file = folder.config / "config.yaml"
    file.touch()
    done = folder.run(HOMEPORT_CONFIG=str(file))
    assert str(folder.config / "litellm_config.yaml") in done.stdout


@pytest.mark.parametrize(
    ("missing", "hint"),
    [
        ("litellm_config.yaml", "homeport config export litellm"),
        ("services/.env", "homeport install --with litellm"),
    ],
)
def test_what_is_missing_is_named_with_the_next_step(
    folder: Folder, missing: str, hint: str
) -> None:
    (folder.config / missing).unlink()
    done = folder.run()
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: there is no {folder.config / missing}\n  hint: ")
    assert hint in done.stderr


def test_without_litellm_and_uvx(folder: Folder) -> None:
    done = folder.run()
    assert done.returncode == 1
    assert "is not installed, and there is no uvx" in done.stderr


def test_help(folder: Folder) -> None:
    done = folder.run("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: scripts/run-litellm-local")
    assert os.access(SCRIPT, os.X_OK)


def test_shellcheck() -> None:
    program = shutil.which("shellcheck")
    if program is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run([program, str(SCRIPT)], capture_output=True, text=True, timeout=60)
    assert done.stdout == ""
