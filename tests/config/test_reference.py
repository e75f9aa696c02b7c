"""docs/configuration.md is what the table says, and says all of it."""

import runpy
from pathlib import Path

from homeport.config import schema
from homeport.config.model_keys import MODEL
from homeport.config.values import ENGINES

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_up_to_date() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "make_config_docs.py"))
    page = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    assert page == script["page"](), "run: python scripts/make_config_docs.py"


def test_every_key_has_a_heading() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    for path, section in schema.sections():
        for key in section.keys:
            place = f"{path}.{key.name}" if path else key.name
            assert f"\n### `{place}`\n" in page


def test_every_engine_is_named() -> None:
    engine = MODEL.key("engine")
    assert engine is not None
    for name in ENGINES:
        assert f"`{name}`" in engine.doc
