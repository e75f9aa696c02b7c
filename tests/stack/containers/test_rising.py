"""A start that is watched: what is a failure of its own, and what it leaves when it fails.

Docker is a script here that writes down what it is asked; tests/e2e/test_stack.py has a real one.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from homeport.errors import StackError
from homeport.stack.containers.docker_client import Docker
from homeport.stack.containers.inspected import Container, container
from homeport.stack.containers.rising import Rise, TakenAwayError
from homeport.stack.layout import Layout
from tests.stack.containers.test_inspected import inspected

found = container(inspected())
assert found is not None
GATEWAY = replace(found, since=datetime.now(UTC) + timedelta(days=1))
DATABASE = replace(GATEWAY, id="db", name="homeport-timescaledb-1", service="timescaledb")
CRASHING = replace(GATEWAY, status="restarting", exit_status=2, restarts=3)
RUNS_ONCE_MORE = replace(CRASHING, status="running", health="starting")
UNHEALTHY = replace(GATEWAY, health="unhealthy")
FAILED = StackError("it failed", hint="look", said=("a line",))


class Watched:
    """Looks at one list of containers after the other; the last one stays."""

    def __init__(self, folder: Path) -> None:
        self.asked, self.done = folder / "asked", folder / "done"
        (folder / "docker").write_text(f'#!/bin/sh\necho "$@" >>{self.asked}\n')
        (folder / "docker").chmod(0o755)
        layout = Layout(folder)
        layout.services.mkdir()
        self._docker = Docker(layout, {"PATH": str(folder)})
        self._seen: Iterator[Sequence[Container]] = iter(())
        self._last: Sequence[Container] = ()

    def rise(self, *seen: Sequence[Container], before: Sequence[Container] = ()) -> Rise:
        self._seen = iter(seen)
        return Rise(self._docker, self._look, ["gateway", "timescaledb"], before)

    def _look(self) -> list[Container]:
        try:
            self._last = next(self._seen)
        except StopIteration:
            self.done.touch()
        return list(self._last)

    @property
    def stops(self) -> list[str]:
        lines = self.asked.read_text().splitlines() if self.asked.exists() else []
        return [line for line in lines if line.startswith("stop ")]


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


# --- while it goes on ---------------------------------------------------------------------------


def wait(rise: Rise, script: str = "exit 0") -> list[str]:
    told: list[str] = []
    words = ["sh", "-c", script]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as compose:
        rise.wait(compose, ExitStack(), told.append)
    return told


def test_a_container_that_another_one_takes_the_place_of_has_not_failed(watched: Watched) -> None:
    """A restart with another password for the database: Compose ends the one that runs. Docker calls
    it unhealthy then."""
    going = replace(DATABASE, status="removing", health="unhealthy", exit_status=0)
    gone = replace(DATABASE, status="exited", health="unhealthy", exit_status=0)
    new = replace(DATABASE, id="new")
    rise = watched.rise([gone], [going], [GATEWAY, new], before=[DATABASE])
    wait(rise, f"until [ -e {watched.done} ]; do sleep 0.05; done")  # Compose is at work


def test_one_that_ran_and_was_stopped_by_somebody_is_told_when_compose_is_done(
    watched: Watched,
) -> None:
    gone = replace(DATABASE, status="exited", exit_status=0)
    with pytest.raises(TakenAwayError, match="timescaledb: stopped by another command"):
        wait(watched.rise([GATEWAY, gone], before=[DATABASE]))


def test_one_that_crashes_does_not_stay_up(watched: Watched) -> None:
    """Though Docker calls it unhealthy."""
    crashing = replace(CRASHING, health="unhealthy")
    with pytest.raises(StackError, match="gateway does not stay up: it exited with status 2"):
        wait(watched.rise([crashing, DATABASE]))


# --- when it has failed -------------------------------------------------------------------------


@pytest.mark.parametrize("crashing", [CRASHING, RUNS_ONCE_MORE], ids=["waits", "runs once more"])
def test_what_crashes_is_stopped_and_the_rest_is_told(
    watched: Watched, crashing: Container
) -> None:
    stopped = replace(crashing, status="exited")
    rise = watched.rise([crashing, DATABASE], [stopped, DATABASE], before=[stopped, DATABASE])
    error = rise.given_up(FAILED)
    assert watched.stops == ["stop --time=10 f00d"]
    assert (error.message, error.said) == ("it failed", ("a line",))
    assert error.hint == (
        "look; gateway is stopped now; timescaledb goes on, until `homeport proxy stop --stop-db`"
    )


def test_what_ran_before_is_never_stopped(watched: Watched) -> None:
    """Nor what crashed before: somebody may wait for it to find what it lacks."""
    error = watched.rise([CRASHING], before=[CRASHING]).given_up(FAILED)
    assert watched.stops == []
    assert error.hint == "look; gateway goes on, until `homeport proxy stop`"


def test_what_is_unhealthy_goes_on_and_can_be_looked_into(watched: Watched) -> None:
    error = watched.rise([UNHEALTHY, DATABASE]).given_up(FAILED)
    assert watched.stops == []
    assert "gateway, timescaledb go on, until `homeport proxy stop --stop-db`" in error.hint


def test_where_nothing_runs_there_is_nothing_to_tell(watched: Watched) -> None:
    assert watched.rise([]).given_up(FAILED).hint == "look"
