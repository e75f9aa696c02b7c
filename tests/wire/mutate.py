"""Shows that each case of tests/wire/rows.py fails when its rule is switched off.

``make test-mutations`` or ``python -m tests.wire.mutate [WORD…]``: only rows with one of the words in
their name. One pytest session runs every test that is marked with a row: once as it is, where it must
pass, and once under each mutation of its rows. A mutation that no case notices has survived; a case
that notices none of its row's mutations shows nothing. Either makes the run fail.
"""

from __future__ import annotations

import contextlib
import io
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

import pytest
from _pytest.runner import runtestprotocol

from tests.wire.mutations import Mutation
from tests.wire.rows import ROWS, TESTS, cases, page_rows

LIMIT_S = 20
"""For one test under one mutation; what hangs then has noticed it."""


class Mutator:
    """The pytest plugin: ``noticed`` has, for each row and mutation, the cases that failed."""

    def __init__(self, rows: Sequence[str]) -> None:
        self.rows = set(rows)
        self.noticed: dict[tuple[str, Mutation], set[str]] = defaultdict(set)
        self.cases: dict[str, set[str]] = defaultdict(set)
        self.broken: list[str] = []
        """Tests that fail as it is."""
        self.count = 0

    def pytest_sessionstart(self) -> None:
        """No shrinking and no database: whether a mutant is noticed is all that counts."""
        from hypothesis import Phase, settings  # pytest wants to be there first

        phases = [Phase.explicit, Phase.generate]
        settings.register_profile("mutants", database=None, derandomize=True, phases=phases)
        settings.load_profile("mutants")

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if self._rows_of(item)]

    def _rows_of(self, item: pytest.Item) -> list[str]:
        names = [name for mark in item.iter_markers("row") for name in mark.args]
        return [name for name in names if name in self.rows]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool:
        case = item.nodeid.partition("[")[0]
        if self._fails(item, nextitem, nullcontext()):
            self.broken.append(item.nodeid)
            return True
        for row in self._rows_of(item):
            self.cases[row].add(case)
            for mutation in ROWS[row]:
                if case in self.noticed[row, mutation]:
                    continue  # by another parameter
                if self._fails(item, nextitem, mutation.applied()):
                    self.noticed[row, mutation].add(case)
        return True

    def _fails(
        self, item: pytest.Item, nextitem: pytest.Item | None, change: AbstractContextManager[None]
    ) -> bool:
        self.count += 1
        with change:
            reports = runtestprotocol(item, log=False, nextitem=nextitem)
        return any(report.failed for report in reports)


def problems(mutator: Mutator) -> Iterator[str]:
    for test in mutator.broken:
        yield f"fails as it is: {test}"
    for row in sorted(mutator.rows):
        for mutation in ROWS[row]:
            if not mutator.noticed[row, mutation]:
                yield f"survived: {row}: {mutation}"
        noticing = {case for mutation in ROWS[row] for case in mutator.noticed[row, mutation]}
        for case in sorted(mutator.cases[row] - noticing):
            yield f"shows nothing: {row}: {case}"
        if not mutator.cases[row]:
            yield f"no case ran: {row}"


def main(words: list[str]) -> int:
    on_page = {row.name for row in page_rows()}
    rows = [row for row in ROWS if row in on_page and (not words or any(w in row for w in words))]
    marked = cases()
    files = sorted({case.partition("::")[0] for row in rows for case in marked.get(row, ())})
    mutator, start = Mutator(rows), time.monotonic()
    options = ["-p", "no:cacheprovider", "-q", "-m", "row", "-o", f"timeout={LIMIT_S}"]
    options += ["--rootdir", str(TESTS.parent), *(str(TESTS.parent / file) for file in files)]
    said = io.StringIO()  # pytest's own words: it believes that no test has run
    with contextlib.redirect_stdout(said):
        code = pytest.main(options, plugins=[mutator])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        print(said.getvalue())
    for row in rows:
        noticed = sum(bool(mutator.noticed[row, mutation]) for mutation in ROWS[row])
        shows = len(mutator.cases[row])
        print(f"{row[:76]:76} {noticed:2} of {len(ROWS[row]):2} mutations, {shows:2} cases")
    found = list(problems(mutator))
    for problem in found:
        print(problem)
    mutations = sum(len(ROWS[row]) for row in rows)
    print(
        f"{len(rows)} rows, {sum(map(len, mutator.cases.values()))} cases, {mutations} mutations, "
        f"{mutator.count} runs in {time.monotonic() - start:.0f} s, {len(found)} problems"
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
