"""LiteLLM's proxy as an engine: what it is installed from, and what runs in its process.

Nothing here is imported by homeport but this page. ``requirements.txt`` is its lock, with hashes
(``scripts/lock`` makes it); ``child.py`` installs and starts it, in a process of its own;
``callback.py`` is loaded by LiteLLM itself, in LiteLLM's Python.
"""

from pathlib import Path
from typing import Final

VERSION: Final = "1.109.1"
"""The locked one, on which everything here was seen."""

_HERE: Final = Path(__file__).parent
LOCK: Final = _HERE / "requirements.txt"
CHILD: Final = _HERE / "child.py"
CALLBACK: Final = _HERE / "callback.py"
