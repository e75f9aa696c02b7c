"""``homeport proxy start``: what it tells to clients is so."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.stack.installing.test_install import User


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


def test_so_it_is_where_the_stack_has_a_master_key(user: User) -> None:
    """That one is for /admin, and for who comes from elsewhere."""
    user.install()
    port, key = started(user)
    assert key.startswith("any word")
    assert status(port, "any") == 200
    assert status(port, "any", "/admin/models") == 401
    assert status(port, user.values["HOMEPORT_MASTER_KEY"], "/admin/models") == 200
