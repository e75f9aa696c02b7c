"""LiteLLM is installed once, whole, by an installer that sees no keys; then the process becomes it.

A script plays uv. It notes what it was told and given, and makes an environment with a "LiteLLM" in it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from homeport.litellm import CHILD

UV = """\
#!{python}
import json, os, sys
with open({log!r}, "a") as log:
    print(json.dumps([sys.argv[1:], dict(os.environ)]), file=log)
if os.path.exists({broken!r}):
    sys.exit(7)
if sys.argv[1] == "venv":
    os.makedirs(sys.argv[-1] + "/bin")
    os.symlink({python!r}, sys.argv[-1] + "/bin/python")
else:
    folder = sys.argv[sys.argv.index("--python") + 1].removesuffix("/bin/python")
    with open(folder + "/bin/litellm", "w") as script:
        script.write("import json, os, sys\\nprint(json.dumps([sys.argv[1:], dict(os.environ)]))\\n")
"""
ENV = {"PATH": "/bin", "OPENAI_API_KEY": "secret", "UV_INDEX": "mirror", "HTTPS_PROXY": "proxy"}


class Child:
    def __init__(self, folder: Path) -> None:
        self.environment, self.log = folder / "env", folder / "log"
        self.broken = folder / "broken"
        self._uv = folder / "uv"
        self._uv.write_text(
            UV.format(python=sys.executable, log=str(self.log), broken=str(self.broken))
        )
        self._uv.chmod(0o755)

    def run(self, *how: str) -> subprocess.CompletedProcess[str]:
        how = how or ("--lock", "/lock.txt")
        words = [str(self.environment), "installed", *how, "--uv", str(self._uv)]
        return subprocess.run(
            [sys.executable, "-I", str(CHILD), *words, "--", "--port", "4000"],
            env=ENV,
            capture_output=True,
            text=True,
            check=False,
        )

    def installs(self) -> list[tuple[list[str], dict[str, str]]]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [(words, env) for words, env in map(json.loads, lines)]


@pytest.fixture
def child(tmp_path: Path) -> Child:
    return Child(tmp_path)


def test_it_is_installed_from_the_lock_and_started(child: Child) -> None:
    found = child.run()
    assert found.returncode == 0, found.stderr
    _, (words, _) = child.installs()
    assert {"--no-deps", "--require-hashes", "/lock.txt", "--only-binary"} <= set(words)
    words, env = json.loads(found.stdout.splitlines()[-1])
    assert words == ["--port", "4000"]
    assert env["OPENAI_API_KEY"] == "secret"
    assert "UV_INDEX" not in env


def test_whoever_installs_sees_no_keys(child: Child) -> None:
    child.run()
    for _, env in child.installs():
        assert "OPENAI_API_KEY" not in env
        assert (env["UV_INDEX"], env["HTTPS_PROXY"]) == ("mirror", "proxy")


def test_it_is_installed_once(child: Child) -> None:
    child.run()
    before = len(child.installs())
    assert child.run().returncode == 0
    assert len(child.installs()) == before


def test_what_was_begun_is_begun_anew(child: Child) -> None:
    (child.environment / "bin").mkdir(parents=True)
    (child.environment / "half").touch()
    assert child.run().returncode == 0
    assert not (child.environment / "half").exists()


def test_a_failure_is_told_and_tried_again(child: Child) -> None:
    child.broken.touch()
    found = child.run()
    assert found.returncode == 7
    assert "could not be installed" in found.stdout
    child.broken.unlink()
    assert child.run().returncode == 0


def test_another_version_has_no_lock(child: Child) -> None:
    child.run("--version", "1.100.0")
    _, (words, _) = child.installs()
    assert "litellm[proxy]==1.100.0" in words
    assert "--require-hashes" not in words
