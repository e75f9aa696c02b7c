"""The rows of docs/dialects.md chapter 3, the tests that show them, and what switches each rule off.

``page_rows`` reads the tables of the page, ``cases`` the tests marked
``@pytest.mark.row("3.1 top_k")``, and ``ROWS`` has for every row one or more mutations: small changes
of the source under which a case of that row must fail. ``test_rows`` compares the three;
``python -m tests.wire.mutate`` runs the mutants.

A row's name is its section and its first cell less the marks of code; where the cell continues the one
above ("… empty"), that one's first word stands in front.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.wire import answer_rows, anthropic_rows, engine_rows, openai_rows, text_rows
from tests.wire.mutations import Mutation

TESTS = Path(__file__).parent.parent
PAGE = TESTS.parent / "docs" / "dialects.md"
SECTIONS = ("3.1", "3.2", "3.3", "3.4", "3.5", "3.6", "3.7", "3.10", "3.11", "3.12", "3.13", "3.14")

# --------------------------------------------------------------------------- the page


@dataclass(frozen=True)
class PageRow:
    name: str
    is_open: bool
    """Whether the page says that something of it is not done."""


def page_rows() -> list[PageRow]:
    """The rows of the tables. A section without a table is one row, which must say "not done"."""
    text = PAGE.read_text("utf-8")
    return [row for section in SECTIONS for row in _rows_of(section, text)]


def _rows_of(section: str, text: str) -> Iterator[PageRow]:
    found = re.search(rf"^### {re.escape(section)} .*?(?=^##)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, f"docs/dialects.md has no section {section}"
    lines = [line for line in found[0].splitlines() if line.startswith("|")][2:]
    base = ""
    for line in lines:
        name = line.split("|")[1].strip().replace("`", "")
        if name.startswith("…"):
            name = f"{base} {name}"
        else:
            base = name.split()[0].strip(",:")
        yield PageRow(f"{section} {name}", "**not done" in line.lower())
    if not lines:  # a list: the name of a point goes up to its first arrow, colon, or full stop
        for point in re.findall(r"^- .*(?:\n  .*)*", found[0], re.MULTILINE):
            name = re.split(r" → | = |[:;]|\.(?:\s|$)", point[2:].replace("\n ", ""))[0]
            yield PageRow(f"{section} {re.sub('[`*]', '', name)}", "**not done" in point.lower())


# --------------------------------------------------------------------------- the cases


def cases() -> dict[str, list[str]]:
    """Row → the tests marked with it, as ``path::function``."""
    found: dict[str, list[str]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        source = path.read_text("utf-8")
        if "mark.row(" not in source:
            continue
        for function in ast.walk(ast.parse(source)):
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            case = f"{path.relative_to(TESTS.parent).as_posix()}::{function.name}"
            for row in _marks(function):
                found.setdefault(row, []).append(case)
    return found


def _marks(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    for decorator in function.decorator_list:
        for node in ast.walk(decorator):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.row":
                yield from (ast.literal_eval(argument) for argument in node.args)


# --------------------------------------------------------------------------- the rows

ROWS: dict[str, tuple[Mutation, ...]] = {
    **anthropic_rows.ROWS,  # 3.1
    **answer_rows.ROWS,  # 3.2 to 3.4
    **openai_rows.ROWS,  # 3.6, 3.7
    **text_rows.ROWS,  # 3.5, 3.10 to 3.12
    **engine_rows.ROWS,  # 3.13, 3.14
}
