"""Tables for a terminal. Where it is narrow, columns that matter less are left out, then the first one
is shortened: a line that wraps is no row any more. Pure."""

from collections.abc import Sequence
from typing import Final, NamedTuple

GAP: Final = "  "
NARROWEST: Final = 8
"""The first column is not shortened beyond this."""


class Column(NamedTuple):
    title: str
    rank: int = 0
    """Columns with a higher one are left out first; 0 stays."""
    is_number: bool = False


def lines(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None
) -> list[list[str]]:
    """Return title and rows as padded cells; ``width`` is the terminal's, None where there is none."""
    shown = list(range(len(columns)))
    widths = [max(len(c.title), *(len(row[i]) for row in rows)) for i, c in enumerate(columns)]

    def excess() -> int:
        return sum(widths[i] + len(GAP) for i in shown) - len(GAP) - (width or 0)

    if width is not None:
        for least in sorted(shown, key=lambda i: -columns[i].rank):
            if excess() > 0 and columns[least].rank:
                shown.remove(least)
        widths[0] = max(NARROWEST, widths[0] - max(0, excess()))
    table = [[c.title for c in columns], *rows]
    return [[_cell(row[i], widths[i], columns[i]) for i in shown] for row in table]


def _cell(text: str, width: int, column: Column) -> str:
    if len(text) > width:
        text = text[: width - 1] + "…"
    return text.rjust(width) if column.is_number else text.ljust(width)
