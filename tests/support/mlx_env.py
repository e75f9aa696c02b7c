"""mlx-lm in an environment of its own, hash-locked (`requirements/mlx.txt`).

`python()` installs it once, 350 MB in half a minute, into the cache folder of the tests, as npm's
clients are. Nothing of it is a dependency of homeport.
"""

from __future__ import annotations

import hashlib
import platform
import subprocess
import sys
import tempfile
import venv
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.npm_client import cache_root

LOCK = Path(__file__).resolve().parents[2] / "requirements" / "mlx.txt"
PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
INSTALL_TIMEOUT_S = 600
HERE = (platform.system(), platform.machine())
PLACES = {("Linux", "x86_64"), ("Linux", "aarch64"), ("Darwin", "arm64")}
"""Where there are wheels of MLX."""


def python() -> Path:
    """The Python of the environment, installed now if need be. Fails the test when it cannot be."""
    if HERE not in PLACES:
        pytest.skip(f"there is no MLX for {' '.join(HERE)}")
    tag = f"{sys.version_info.major}.{sys.version_info.minor}"
    lock_hash = hashlib.sha256(LOCK.read_bytes()).hexdigest()[:16]
    root = cache_root() / f"mlx-{tag}-{lock_hash}"
    program = root / "bin" / "python"
    if not program.exists():
        install_into(root)
    return program


def install_into(root: Path) -> None:
    """Beside the place, and renamed then: another test run sees all of it or nothing. (It has no
    scripts that would name the old place.)"""
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root.parent, ignore_cleanup_errors=True) as folder:
        draft = Path(folder) / "env"
        venv.create(draft, with_pip=False, symlinks=True)
        (packages,) = draft.glob("lib/python3*/site-packages")
        words = ["--require-hashes", "--no-deps", "--only-binary", ":all:", "-r", str(LOCK)]
        found = subprocess.run(
            [*PIP, "install", *words, "--target", str(packages)],
            capture_output=True,
            text=True,
            timeout=INSTALL_TIMEOUT_S,
            check=False,
        )
        if found.returncode:
            pytest.fail(f"mlx-lm could not be installed:\n{found.stderr}")
        with suppress(OSError):  # someone else was first
            draft.rename(root)
