"""Writes src/homeport/config/schema.json from the table in ``homeport.config.schema``.

Run it after a change of the table: ``python scripts/make_config_schema.py``. A test compares the two.
"""

import json
from pathlib import Path
from typing import Final

from homeport.config.json_schema import json_schema

FILE: Final = Path(__file__).resolve().parent.parent / "src/homeport/config/schema.json"


def text() -> str:
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
