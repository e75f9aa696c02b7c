"""The wheel that the gateway's image is built from, judged by the tools that install wheels."""

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import homeport
from homeport.stack.installing import wheel


def test_pip_installs_it_and_it_runs(tmp_path: Path) -> None:
    name, data = wheel.packed()
    (tmp_path / name).write_bytes(data)
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    quiet = ["-q", "--no-index", "--no-deps"]
    install = [str(python), "-m", "pip", "install", *quiet, str(tmp_path / name)]
    subprocess.run(install, check=True, capture_output=True, timeout=120)
    installed = next((tmp_path / "venv").glob("lib/python*/site-packages/homeport/__init__.py"))
    assert installed.is_file()
    # What homeport needs is ours; homeport itself must be the installed one.
    said = subprocess.run(
        [sys.executable, "-I", "-c", RUN, installed.parent.parent],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert said.stdout.split() == [str(installed), homeport.__version__], said.stderr
    assert (tmp_path / "venv" / "bin" / "homeport").is_file()


RUN = """
import sys; sys.path.insert(0, sys.argv[1])
import homeport; print(homeport.__file__, homeport.__version__)
"""


def test_holds_all_of_the_package(tmp_path: Path) -> None:
    _, data = wheel.packed()
    (tmp_path / "w.zip").write_bytes(data)
    names = set(zipfile.ZipFile(tmp_path / "w.zip").namelist())
    assert {
        "homeport/demo/demo.gguf",
        "homeport/litellm/requirements.txt",
        "homeport/stack/files/compose.yaml",
        "homeport/config/schema.json",
    } <= names
    assert not any(name.endswith(".pyc") for name in names)


def test_equal_code_is_equal_bytes() -> None:
    assert wheel.packed() == wheel.packed()
