"""Run by its path, also where it was copied to: its own folder gives way to that of `tests`."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[3])

from tests.support.fake_engine.process import main  # noqa: E402

if __name__ == "__main__":
    main()
