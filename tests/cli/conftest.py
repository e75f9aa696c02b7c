"""Commands that run inside the test's process leave nothing of theirs behind."""

import logging
from collections.abc import Iterator

import pytest
import structlog

from homeport.cli import serve_cmd


@pytest.fixture(autouse=True)
def logs_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A command sets logging up for its process, for good: later tests would see no log."""

    def for_this_test(level: str, *, dated: bool = False) -> None:
        number = getattr(logging, level.upper())
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(number))

    monkeypatch.setattr(serve_cmd, "set_up_logs", for_this_test)
    yield
    structlog.reset_defaults()
