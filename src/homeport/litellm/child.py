"""Installs LiteLLM where it is not installed yet, and becomes it.

Run as a file by homeport's Python, below the shim like any engine::

    child.py FOLDER DONE --lock FILE|--version X [--uv UV] -- ARGUMENTS OF LITELLM

FOLDER is a virtual environment of its own, which holds nothing else. The file DONE in it says that
it is whole; a folder without it is what an installation left that was killed, and is made anew. Two
homeports that start at once wait for each other. So an installation can be watched (``homeport logs
litellm``), stopped, and killed, as an engine that loads.

Whoever installs does not see the keys of providers, and LiteLLM does not see the settings of pip. Only
wheels are taken: nothing of a package runs before LiteLLM does. Standard library only.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

INSTALLERS = ("PIP_", "UV_")
"""Variables that are for installing only."""
BOTH = frozenset(
    {
        *("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "TZ", "XDG_CACHE_HOME"),
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
        *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    }
)
"""Variables that both need."""


def main(argv: list[str]) -> None:
    at = argv.index("--")
    folder, done, *how = argv[:at]
    options = dict(zip(how[::2], how[1::2], strict=True))
    install(Path(folder), done, options)
    python, script = os.path.join(folder, "bin", "python"), os.path.join(folder, "bin", "litellm")
    env = {k: v for k, v in os.environ.items() if not k.startswith(INSTALLERS)}
    os.execve(python, [python, "-I", script, *argv[at + 1 :]], env)


def install(folder: Path, done: str, options: dict[str, str]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with open(f"{folder}.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / done).exists():
            return
        say(f"installing LiteLLM into {folder}; this takes a minute")
        shutil.rmtree(folder, ignore_errors=True)
        for step in steps(folder, options):
            say(" ".join(step))
            status = subprocess.run(step, env=environment(), check=False).returncode
            if status:
                say(f"LiteLLM could not be installed (status {status})")
                sys.exit(status)
        (folder / done).touch()
        say("LiteLLM is installed")


def steps(folder: Path, options: dict[str, str]) -> list[list[str]]:
    python = str(folder / "bin" / "python")
    if "--lock" in options:  # complete: what is not in it is not installed
        what = ["--no-deps", "--require-hashes", "-r", options["--lock"]]
    else:
        what = [f"litellm[proxy]=={options['--version']}"]
    what += ["--only-binary", ":all:"]
    if (uv := options.get("--uv")) is not None:
        return [
            [uv, "venv", "--python", sys.executable, str(folder)],
            [uv, "pip", "install", "--python", python, *what],
        ]
    pip = [python, "-m", "pip", "--disable-pip-version-check", "--no-input", "install"]
    return [[sys.executable, "-m", "venv", str(folder)], [*pip, *what]]


def environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k in BOTH or k.startswith(INSTALLERS)}


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
