"""What Docker tells of a container, and what that means; shapes recorded from Docker 26."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from homeport.stack.containers.inspected import container

NEVER = "0001-01-01T00:00:00Z"
THEN = "2026-11-21T06:01:05.123456789Z"
LATER = "2026-11-21T06:02:00.5Z"


def inspected(labels: dict[str, str] | None = None, **state: Any) -> dict[str, Any]:
    """As `docker inspect` shows a gateway that runs; `state` is what is different."""
    return {
        "Id": "f00d",
        "Name": "/homeport-gateway-1",
        "RestartCount": state.pop("restarts", 0),
        "State": {
            "Status": "running",
            "ExitCode": 0,
            "StartedAt": THEN,
            "FinishedAt": NEVER,
            "Health": {"Status": "healthy", "Log": [{"Output": ""}]},
            **state,
        },
        "Config": {"Labels": {"com.docker.compose.service": "gateway", **(labels or {})}},
        "HostConfig": {"RestartPolicy": {"Name": "unless-stopped"}},
        "NetworkSettings": {
            "Ports": {
                "11899/tcp": [{"HostIp": "127.0.0.1", "HostPort": "21899"}],
                "9/tcp": None,
            }
        },
    }


def test_one_that_is_healthy() -> None:
    found = container(inspected())
    assert found is not None
    assert found.is_up
    assert not found.has_failed
    assert found.ports == ("127.0.0.1:21899",)
    assert found.since == datetime(2026, 11, 21, 6, 1, 5, 123456, tzinfo=UTC)
    assert (found.member.state, found.member.health) == ("running", "healthy")
    assert found.check.is_healthy


UNHEALTHY = {"Status": "unhealthy", "Log": [{"Output": "a\nTraceback\nrefused\n"}]}
STARTING = {"Status": "starting", "Log": []}


@pytest.mark.parametrize(
    ("state", "is_up", "has_failed", "shown", "why"),
    [
        ({"Health": STARTING}, False, False, ("starting", "starting"), "starting"),
        ({"Health": UNHEALTHY}, False, True, ("running", "unhealthy"), "refused"),
        ({"Health": None}, True, False, ("running", "unknown"), ""),
        ({"Health": {"Status": "none"}}, True, False, ("running", "unknown"), ""),
        (
            {"Status": "created", "StartedAt": NEVER},
            False,
            False,
            ("starting", "unknown"),
            "starting",
        ),
        ({"Status": "exited", "FinishedAt": LATER}, False, True, ("stopped", "unknown"), "stopped"),
        (
            {"Status": "exited", "ExitCode": 137, "FinishedAt": LATER, "Health": UNHEALTHY},
            *(False, True, ("died", "unknown"), "exit status 137"),
        ),
        (
            {"Status": "restarting", "ExitCode": 1, "FinishedAt": LATER, "Health": UNHEALTHY},
            *(False, False, ("died", "unknown"), "exit status 1"),
        ),
        (
            {"Status": "restarting", "ExitCode": 1, "restarts": 1, "FinishedAt": LATER},
            *(False, False, ("died", "unknown"), "restarted once; exit status 1"),
        ),
        (
            {"Status": "restarting", "ExitCode": 1, "restarts": 4, "FinishedAt": LATER},
            *(False, True, ("died", "unknown"), "restarted 4 times; exit status 1"),
        ),
    ],
)
def test_states(
    state: dict[str, Any], is_up: bool, has_failed: bool, shown: tuple[str, str], why: str
) -> None:
    if state.get("Status") in ("created", "exited", "restarting"):
        state = {"Health": None, **state}
    found = container(inspected(**state))
    assert found is not None
    assert (found.is_up, found.has_failed) == (is_up, has_failed)
    assert (found.member.state, found.member.health) == shown
    assert (found.check.is_healthy, found.check.why) == (is_up, why)


def test_one_that_does_its_work_and_ends_is_well_then() -> None:
    done = container(inspected({"homeport.once": "true"}, Status="exited", FinishedAt=LATER))
    assert done is not None
    assert done.is_up
    assert not done.has_failed
    failed = container(
        inspected({"homeport.once": "true"}, Status="exited", ExitCode=2, FinishedAt=LATER)
    )
    assert failed is not None
    assert failed.has_failed


def test_a_command_in_a_services_place_is_none_of_it() -> None:
    assert container(inspected({"com.docker.compose.oneoff": "True"})) is None
    strange = inspected()
    strange["Config"]["Labels"] = None
    assert container(strange) is None


@pytest.mark.parametrize(
    ("policy", "status", "was_stopped"),
    [
        ("unless-stopped", "exited", True),
        ("no", "exited", False),
        ("unless-stopped", "running", False),
        ("unless-stopped", "restarting", False),
    ],
)
def test_who_is_started_again_by_docker_and_has_ended_was_stopped(
    policy: str, status: str, was_stopped: bool
) -> None:
    shown = inspected(Status=status, ExitCode=143)
    shown["HostConfig"]["RestartPolicy"]["Name"] = policy
    found = container(shown)
    assert found is not None
    assert found.was_stopped == was_stopped


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:21899"),
        ("0.0.0.0", "http://127.0.0.1:21899"),
        ("192.168.1.5", "http://192.168.1.5:21899"),
    ],
)
def test_where_it_is_reached_from_this_machine(host: str, url: str) -> None:
    shown = inspected()
    shown["NetworkSettings"]["Ports"]["11899/tcp"][0]["HostIp"] = host
    found = container(shown)
    assert found is not None
    assert found.urls == (url,)
