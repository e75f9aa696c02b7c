"""A profile over the configuration, in a gateway that runs: who answers, and what a reload changes."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine import FakeEngine
from tests.support.gateway import Gateway

MASTER = "the-master-key"
CONFIG = """\
models:
  big: {{upstream: {big}}}
  small: {{upstream: {small}}}
aliases: {{claude-*: big}}
default_model: big
"""
FRUGAL = "description: little\naliases: {claude-haiku-*: small}\n"


class Place:
    """A gateway with two engines behind it, and the user's folder."""

    def __init__(self, gateway: Gateway, folder: Path, engines: dict[str, FakeEngine]) -> None:
        self.gateway, self.folder, self._engines = gateway, folder, engines

    def profile(self, text: str) -> None:
        (self.folder / "profiles" / "frugal.yaml").write_text(text)

    def answering(self, model: str) -> str:
        """The engine that gets a request for this name."""
        before = {name: len(engine.chats()) for name, engine in self._engines.items()}
        body = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
        self._ask("/v1/chat/completions", body)
        (found,) = [
            name for name, engine in self._engines.items() if len(engine.chats()) > before[name]
        ]
        return found

    def reload(self) -> tuple[int, dict[str, object]]:
        return self._ask("/admin/reload", {})

    def _ask(self, path: str, body: object) -> tuple[int, dict[str, object]]:
        headers = {"authorization": f"Bearer {MASTER}", "content-type": "application/json"}
        request = urllib.request.Request(
            self.gateway.base_url + path, json.dumps(body).encode(), headers
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)


@pytest.fixture(params=["flag", "variable"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    folder = tmp_path / "config"
    (folder / "profiles").mkdir(parents=True)
    (folder / "profiles" / "frugal.yaml").write_text(FRUGAL)
    env = {"HOMEPORT_CONFIG": str(folder), "HOMEPORT_MASTER_KEY": MASTER}
    words: tuple[str, ...] = ("--profile", "frugal")
    if request.param == "variable":
        env, words = {**env, "HOMEPORT_PROFILE": "frugal"}, ()
    with FakeEngine() as big, FakeEngine() as small:
        config = CONFIG.format(big=big.base_url, small=small.base_url)
        (folder / "config.yaml").write_text(config)
        with Gateway(tmp_path, *words, env=env) as gateway:
            yield Place(gateway, folder, {"big": big, "small": small})
        gateway.assert_no_internal_error()


def test_a_profile_over_the_configuration(place: Place) -> None:
    assert f"profile frugal ({place.folder / 'profiles/frugal.yaml'})" in place.gateway.output()
    assert place.answering("claude-haiku-4-5") == "small"
    assert place.answering("claude-opus-4-6") == "big"
    assert place.answering("nobody-knows-this") == "big"

    place.profile(FRUGAL + "default_model: small\n")
    status, done = place.reload()
    assert (status, done["settings"]) == (200, ["default_model"])
    assert place.answering("nobody-knows-this") == "small"

    place.profile("aliases: {claude-haiku-*: smal}\n")
    status, told = place.reload()
    assert status == 400
    assert "profiles/frugal.yaml:1" in json.dumps(told)
    assert "did you mean 'small'?" in json.dumps(told)
    assert place.answering("claude-haiku-4-5") == "small", "everything goes on as before"


def test_a_profile_that_there_is_not(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="there is no profile 'coding'"):
        Gateway(tmp_path, "--profile", "coding").start()
