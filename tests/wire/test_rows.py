"""Every row of docs/dialects.md chapter 3 has a case and a mutation, and the page, the marks and the
table name the same rows. ``make test-mutations`` shows that each case fails under its mutations."""

import pytest

from tests.wire.mutations import Code
from tests.wire.rows import ROWS, cases, page_rows


def test_every_row_of_the_page_has_a_case() -> None:
    marked, rows = cases(), page_rows()
    open_rows = [row.name for row in rows if row.is_open]
    print(
        f"{len(rows)} rows, {sum(map(len, marked.values()))} marks, {len(open_rows)} with open ends:"
    )
    print("\n".join(open_rows))
    missing = [row.name for row in rows if row.name not in marked]
    assert [name for name in missing if not name.endswith("(no table)")] == []
    assert set(missing) <= set(open_rows), "a section without rows has to say that it is not done"


def test_no_mark_and_no_mutation_names_a_row_that_is_none() -> None:
    names = {row.name for row in page_rows()}
    assert sorted(set(cases()) - names) == []
    assert sorted(set(ROWS) - names) == []


def test_row_names_are_distinct() -> None:
    names = [row.name for row in page_rows()]
    assert len(names) == len(set(names))
    assert len(names) > 130


def test_every_row_with_a_case_has_a_mutation() -> None:
    assert sorted(set(cases()) - set(ROWS)) == []
    assert all(ROWS.values())


@pytest.mark.parametrize("row", ROWS)
def test_mutations_fit_the_source(row: str) -> None:
    for mutation in ROWS[row]:
        if isinstance(mutation, Code):
            assert mutation.mutated() is not None


def test_a_mutation_is_undone() -> None:
    for mutations in ROWS.values():
        for mutation in mutations:
            if isinstance(mutation, Code):
                before = mutation.plain.__code__
                with mutation.applied():
                    assert mutation.plain.__code__ is not before
                assert mutation.plain.__code__ is before
