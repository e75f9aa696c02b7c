"""Writes the tables of docs/litellm.md from ``homeport.config.litellm_keys`` and the providers' table.

Run it after a change of those: ``python scripts/make_litellm_docs.py``. A test compares the page with
``page()``; the text around the tables is written by hand.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from homeport.config import litellm_keys
from homeport.config.kinds import Kind, ListOf, Section
from homeport.engines.litellm_providers import NATIVE

PAGE: Final = Path(__file__).resolve().parent.parent / "docs" / "litellm.md"


def page(text: str) -> str:
    """The page with its tables as they should be."""
    for name, table in (
        ("understood", understood()),
        ("not served", not_served()),
        ("providers", providers()),
    ):
        begin, end = f"<!-- table: {name} -->", "<!-- end -->"
        pattern = re.compile(f"({re.escape(begin)}\n).*?({re.escape(end)})", re.S)
        text, count = pattern.subn(lambda found, t=table: f"{found[1]}{t}{found[2]}", text)
        assert count == 1, f"docs/litellm.md has {count} tables '{name}'"
    return text


def understood() -> str:
    return "| Key | What homeport makes of it |\n|---|---|\n" + "".join(_rows(litellm_keys.ROOT))


def _rows(section: Section, path: str = "") -> Iterator[str]:
    for key in section.keys:
        place = f"{path}.{key.name}" if path else key.name
        also = f", `{key.also}`" if key.also else ""
        default = f" Default: {key.default}." if key.default else ""
        yield f"| `{place}`{also} | {key.doc}{default} |\n"
        if (inner := _section(key.kind)) is not None:
            yield from _rows(inner, f"{place}[]" if isinstance(key.kind, ListOf) else place)


def _section(kind: Kind) -> Section | None:
    match kind:
        case Section():
            return kind
        case ListOf(item=Section() as item):
            return item
        case _:
            return None


def not_served() -> str:
    rows = (
        f"| `{section}.{name}` | {what} |\n" if section else f"| `{name}` | {what} |\n"
        for section, keys in litellm_keys.NOT_SERVED.items()
        for name, what in keys.items()
    )
    return "| Key | Instead |\n|---|---|\n" + "".join(rows)


def providers() -> str:
    rows = (
        f"| `{name}/` | {_code(each.base_url)} | {_list(each.base_variables)} | "
        f"{_list(each.key_variables)} |\n"
        for name, each in NATIVE.items()
    )
    return "| Prefix | Address | else from | Key from |\n|---|---|---|---|\n" + "".join(rows)


def _code(text: str | None) -> str:
    return f"`{text}`" if text else "`api_base`"


def _list(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), encoding="utf-8")
