"""The container stack's commands on a real Docker: two at once, with mistakes, and from outside."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support.stack import Stack, docker, needs_docker, until

pytestmark = [pytest.mark.docker, pytest.mark.slow_containers, pytest.mark.timeout(600)]
NEVER_HEALTHY = 'services: {gateway: {healthcheck: {test: [CMD, "false"], start_period: 20m}}}\n'


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    needs_docker()
    with Stack(tmp_path_factory.mktemp("stack"), "commands") as stack:
        stack.homeport("install")
        yield stack


@pytest.fixture
def running(stack: Stack) -> Stack:
    stack.homeport("proxy", "start")
    return stack


def begun(stack: Stack, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "homeport", *words], env=stack.env, stderr=subprocess.PIPE, text=True
    )


def test_two_starts_at_once_start_it_once(stack: Stack) -> None:
    stack.homeport("proxy", "stop", "--stop-db")
    with begun(stack, "proxy", "start") as one, begun(stack, "proxy", "start") as other:
        said = [one.communicate()[1], other.communicate()[1]]
    assert (one.returncode, other.returncode) == (0, 0), said
    assert sum("another homeport command is at work" in each for each in said) == 1


def test_a_stop_is_let_in_by_a_start_that_waits_for_health(stack: Stack) -> None:
    stack.homeport("proxy", "stop")
    own = stack.home / "services" / "compose.override.yaml"
    own.write_text(NEVER_HEALTHY)
    try:
        with begun(stack, "proxy", "start") as start:
            assert start.stderr is not None
            while "gateway (starting)" not in start.stderr.readline():
                assert start.poll() is None
            assert "stopped" in stack.homeport("proxy", "stop").stderr
            said = start.communicate()[1]
        assert start.returncode == 1
        assert "stopped by another command" in said
    finally:
        own.unlink()


def test_ctrl_c_ends_the_waiting_and_says_what_goes_on(stack: Stack) -> None:
    stack.homeport("proxy", "stop")
    own = stack.home / "services" / "compose.override.yaml"
    own.write_text(NEVER_HEALTHY)
    try:
        with begun(stack, "proxy", "start") as start:
            assert start.stderr is not None
            while "gateway (starting)" not in start.stderr.readline():
                assert start.poll() is None
            start.send_signal(signal.SIGINT)
            said = start.communicate()[1]
        assert start.returncode != 0
        assert "goes on" in said
        assert stack.inspected("gateway", ".State.Status") == "running"
    finally:
        own.unlink()
        stack.homeport("proxy", "stop")


@pytest.mark.parametrize(
    ("config", "words", "status", "told"),
    [
        ("server: {prot: 1}\n", (), 1, "nothing was stopped"),
        ("{}\n", ("--profile", "nope"), 2, "there is no profile 'nope'"),
    ],
    ids=["configuration", "profile"],
)
def test_a_restart_into_an_error_stops_nothing(
    running: Stack, config: str, words: tuple[str, ...], status: int, told: str
) -> None:
    before = running.container("gateway")
    file = running.home / "config.yaml"
    file.write_text(config)
    try:
        said = running.homeport("proxy", "restart", *words, status=status).stderr
    finally:
        file.unlink()
    assert told in said
    assert running.container("gateway") == before
    assert running.chat().startswith("Hello")


def test_a_port_that_is_none_is_told_with_its_file(stack: Stack) -> None:
    said = stack.homeport("proxy", "start", status=1, env={"HOMEPORT_PORT": "abc"}).stderr
    assert "abc" in said
    assert str(stack.home / "services" / ".env") in said


def test_a_name_that_brings_no_service_is_told_with_those_that_do(stack: Stack) -> None:
    stack.homeport("proxy", "stop")
    services = stack.home / "services"
    file, own = services / ".env", services / "compose.override.yaml"
    before = file.read_text()
    chosen = "COMPOSE_PROFILES='monitorng, mine'"
    file.write_text(before.replace("COMPOSE_PROFILES=", chosen))
    own.write_text("services: {own: {image: homeport-test/no-such-image:1, profiles: [mine]}}\n")
    try:
        said = stack.homeport("proxy", "start").stderr
        stack.homeport("proxy", "stop")
    finally:
        file.write_text(before)
        own.unlink()
    assert f"COMPOSE_PROFILES in {file} has 'monitorng', which brings no service" in said
    assert "there are litellm, llama, mine, monitoring\n" in said
    assert "has 'mine'" not in said


def test_logs_of_a_service_that_is_none(running: Stack) -> None:
    said = running.homeport("proxy", "logs", "--service", "gatway", status=1).stderr
    assert "there is no service 'gatway'" in said
    assert "gateway, " in said
    assert "\x1b" not in running.homeport("proxy", "logs").stdout
    assert running.homeport("proxy", "logs", "--service", "grafana").stdout == "", "it has not run"


def test_after_an_update_the_next_step_is_a_restart(running: Stack) -> None:
    assert "next: homeport proxy start" in running.homeport("install", "--no-images").stderr
    (running.home / "services" / "gateway" / "requirements.txt").unlink()
    assert "next: homeport proxy restart" in running.homeport("install", "--no-images").stderr


def test_it_is_found_from_this_machine(running: Stack) -> None:
    assert "homeport-demo" in running.homeport("ps").stdout
    assert running.homeport("reload").returncode == 0
    with_url = running.homeport("ps", "--json", env={"HOMEPORT_URL": running.url}).stdout
    assert "homeport-demo" in with_url, "its key is found, too"


def test_usage_is_read_from_the_database_of_the_stack(running: Stack) -> None:
    running.chat()
    count = "SELECT count(*) FROM homeport_usage"
    until(lambda: running.sql(count) != ["0"], "the record is in the database")
    rows = json.loads(running.homeport("usage", "--by", "model", "--json").stdout)
    assert rows[0]["name"] == "homeport-demo"
    assert [str(rows[0]["requests"])] == running.sql(count)
    running.homeport("proxy", "stop")
    said = running.homeport("usage").stderr
    assert "does not run" in said


def test_reached_by_every_address(stack: Stack) -> None:
    stack.homeport("proxy", "stop")
    open_ = {"HOMEPORT_BIND": "0.0.0.0"}
    assert stack.url in stack.homeport("proxy", "start", env=open_).stderr
    assert f"gateway at {stack.url}" in stack.homeport("proxy", "health").stdout
    assert docker("port", stack.container("gateway")).startswith("11899/tcp -> 0.0.0.0:")
    stack.homeport("proxy", "stop")
