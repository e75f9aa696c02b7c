"""Commands that run inside the test's process leave nothing of theirs behind."""

import pytest

from homeport.cli import serve_cmd


@pytest.fixture(autouse=True)
def logs_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command sets logging up for its process, for good; later tests would see no log."""
    monkeypatch.setattr(serve_cmd, "set_up_logs", lambda level: None)
