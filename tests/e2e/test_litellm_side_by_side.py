"""homeport and LiteLLM answer the same requests; the page in docs/ says where they differ."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.side_by_side import PAGE, page, results, ways

pytestmark = [pytest.mark.slow_litellm, pytest.mark.timeout(300)]


def test_the_page_says_what_happens(tmp_path: Path) -> None:
    with ways(tmp_path) as three:
        found = results(three)
    wrong = {case.name for case, each in found if each[0] is not None}
    assert wrong == {"Messages: `stop_sequences`"}, "homeport itself"
    assert PAGE.read_text("utf-8") == page(found), "make side-by-side"
