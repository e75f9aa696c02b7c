"""``homeport proxy``: what it tells of one without containers is so."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

import homeport.demo
from tests.stack.installing.test_install import User
from tests.support.stack import until

DEMO = Path(homeport.demo.__file__).with_name("demo.gguf")


@pytest.fixture
def user(tmp_path: Path) -> Iterator[User]:
    user = User(tmp_path / "you")
    user.env |= {"PATH": f"{user.env['PATH']}:{os.defpath}", "HOMEPORT_PORT": "0"}
    user.home.mkdir(parents=True)
    (user.home / "config.yaml").write_text(
        "{discover: false, models: {m: {upstream: http://127.0.0.1:1}}}"
    )
    yield user
    user.run("proxy", "stop", "--local")


def started(user: User) -> tuple[int, str]:
    """Its port, and what the key is said to be."""
    done = user.run("proxy", "start", "--local")
    assert done.returncode == 0, done.stderr
    port = re.search(r"is healthy: http://127\.0\.0\.1:(\d+)", done.stderr)
    key = re.search(r"KEY is (.*)", done.stderr)
    assert port
    assert key
    return int(port[1]), key[1]


def status(port: int, key: str, path: str = "/v1/models") -> int:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers={"authorization": f"Bearer {key}"})
        return connection.getresponse().status
    finally:
        connection.close()


def test_any_word_is_a_key_on_this_machine(user: User) -> None:
    port, key = started(user)
    assert key == "any word, unless you have configured keys"
    assert status(port, "any") == 200


def test_who_has_the_port_is_named_with_what_stops_it(user: User) -> None:
    port, _ = started(user)
    done = user.run("serve", "--port", str(port))
    assert done.returncode == 2
    own = f"a homeport runs on http://127.0.0.1:{port} already (pid "
    assert own in done.stderr
    assert "`homeport proxy stop`" in done.stderr
    assert "--port N" in done.stderr

    stranger = {"HOMEPORT_PORT": str(port), "HOMEPORT_HOME": str(user.folder / "other")}
    done = user.run("proxy", "start", "--local", env=stranger)
    assert done.returncode == 1
    assert f"port {port} is taken by homeport (pid " in done.stderr

    user.run("proxy", "stop", "--local")
    with socket.create_server(("127.0.0.1", 0)) as other:
        done = user.run("serve", "--port", str(other.getsockname()[1]))
    assert "is taken by another process" in done.stderr


@pytest.mark.parametrize("verb", ["start", "restart"])
def test_a_profile_that_is_not_there_is_blamed_on_its_flag(user: User, verb: str) -> None:
    (user.home / "profiles").mkdir()
    for name in ("work", "play"):
        (user.home / f"profiles/{name}.yaml").write_text("{}")
    done = user.run("proxy", verb, "--local", "--profile", "nope")
    assert done.returncode == 2
    assert done.stderr.startswith(
        "error: --profile: there is no profile 'nope'\n  hint: there are: play, work (in "
    )


def test_so_it_is_where_the_stack_has_a_master_key(user: User) -> None:
    """That one is for /admin, and for who comes from elsewhere."""
    user.install()
    port, key = started(user)
    assert key.startswith("any word")
    assert status(port, "any") == 200
    assert status(port, "any", "/admin/models") == 401
    assert status(port, user.values["HOMEPORT_MASTER_KEY"], "/admin/models") == 200


def test_records_that_wait_on_disk_are_a_warning_with_the_next_step(user: User) -> None:
    database = user.folder / "usage.db"
    database.mkdir()  # no database can be opened there
    models = {"m": {"upstream": "http://127.0.0.1:1"}, "other": {"path": str(DEMO)}}
    config = {"discover": False, "models": models, "store": {"url": str(database)}}
    (user.home / "config.yaml").write_text(json.dumps(config))
    port, _ = started(user)

    def warning(verb: str) -> str:
        """What it says on stderr; that all is well on stdout, and by its exit status."""
        done = user.run("proxy", verb, "--local")
        assert done.returncode == 0
        assert "unhealthy" not in done.stdout
        return done.stderr

    said = until(lambda: warning("health"), "it was tried")
    assert said.startswith("warning: the database takes no usage records; they will wait on disk\n")
    assert status(port, "any", "/v1/models/m") == 200
    assert ask(port) == 503
    waiting = "1 KiB of usage records wait on disk: the database does not take them"
    said = until(lambda: waiting in warning("health") and warning("health"), "a record waits")
    assert said == warning("status")
    assert said.startswith(f"warning: {waiting}\n  hint: `homeport usage` asks the database")
    shown = user.run("usage").stderr
    assert str(database) in shown, "as the hint says"
    (check,) = json.loads(user.run("proxy", "health", "--json").stdout)["checks"]
    (member,) = json.loads(user.run("proxy", "status", "--json").stdout)["members"]
    assert check["is_healthy"]
    assert check["warnings"] == member["warnings"]
    assert [each["what"] for each in check["warnings"]] == [waiting]

    database.rmdir()
    until(lambda: not warning("health"), "it is there, and has the record")


def test_a_model_that_cannot_load_is_told_by_start_too(user: User) -> None:
    """The gateway is healthy, and a model may come later: that is no exit status."""
    broken = user.folder / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(5000))
    config = {"discover": False, "models": {"it": {"path": str(broken)}}}
    (user.home / "config.yaml").write_text(json.dumps(config))
    what = "no model can answer now: it backoff"
    for verb in ("start", "start", "health", "status"):  # the second one finds it running
        done = user.run("proxy", verb, "--local")
        assert done.returncode == 0
        assert f"warning: {what}\n  hint: `homeport ps` says why" in done.stderr
    told = json.loads(user.run("proxy", "restart", "--local", "--json").stdout)
    assert [each["what"] for each in told["warnings"]] == [what]
    assert "`homeport logs it`" in told["warnings"][0]["hint"]
    assert "it: did not start" in user.run("ps").stderr, "as the hint says"


def ask(port: int) -> int:
    """A chat with a model that is not there; it leaves a record all the same."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hello"}]})
        headers = {"content-type": "application/json"}
        connection.request("POST", "/v1/chat/completions", body, headers)
        return connection.getresponse().status
    finally:
        connection.close()
