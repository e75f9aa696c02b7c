"""docs/litellm.md has the tables that the code has."""

import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_tables_are_up_to_date() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "make_litellm_docs.py"))
    page = (ROOT / "docs" / "litellm.md").read_text("utf-8")
    assert page == script["page"](page), "run: python scripts/make_litellm_docs.py"
