"""homeport as a systemd user unit: what is asked of systemd, and what of it runs.

There is no systemd where tests run; `tests/support/fake_systemd.py` says what it does instead.
"""

from __future__ import annotations

import json
import os
import signal
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from homeport.errors import ConfigError, StackError
from homeport.runtime import identity
from homeport.stack import answers
from homeport.stack.background import nearby
from homeport.stack.background.unit import Unit
from homeport.stack.chosen import chosen
from homeport.stack.proxy import Wanted
from tests.support.engine import FakeEngine
from tests.support.fake_systemd import FakeSystemd
from tests.support.gateway import free_port
from tests.support.stack import until

PLAIN = Wanted()
DEBUG = Wanted(debug=True)
WITHIN_S = 60.0
STRANGE = "a \"b\" $HOME `c` \\d 'e' 100%"


class Home:
    def __init__(self, folder: Path, engine: FakeEngine) -> None:
        self.folder = folder
        self.systemd = FakeSystemd(folder / "fake systemd")
        self.state = folder / "state home"
        self.env = {
            "PATH": self.systemd.path,
            "HOME": str(folder),
            "XDG_STATE_HOME": str(self.state),
            "HOMEPORT_PORT": str(free_port()),
            "PROVIDERS_KEY": STRANGE,
            "SOMETHING_ELSE": "not for homeport",
        }
        self.config = folder / ".config/homeport/config.yaml"
        self.config.parent.mkdir(parents=True)
        model = {"upstream": engine.base_url, "api_key": "${PROVIDERS_KEY}"}
        self.config.write_text(json.dumps({"models": {"m": model}}))
        self.told: list[str] = []

    @property
    def file(self) -> Path:
        return self.folder / ".config/systemd/user/homeport.service"

    @property
    def environment(self) -> Path:
        return self.state / "homeport/proxy/environment"

    def unit(self, **env: str) -> Unit:
        return Unit({**self.env, **env})

    def start(self, wanted: Wanted = PLAIN, **env: str) -> str:
        return self.unit(**env).start(wanted, self.told.append).url


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    with FakeEngine() as engine:
        yield engine


@pytest.fixture
def home(tmp_path: Path, engine: FakeEngine) -> Iterator[Home]:
    home = Home(tmp_path, engine)
    yield home
    with suppress(FileNotFoundError, psutil.NoSuchProcess):
        psutil.Process(home.systemd.pid).kill()


def test_a_life(home: Home) -> None:
    unit = home.unit()
    assert unit.is_possible
    assert not unit.was_started
    assert unit.stop(home.told.append) is False
    assert not unit.status().is_running

    url = home.start()
    assert url == f"http://127.0.0.1:{home.env['HOMEPORT_PORT']}"
    assert home.systemd.calls() == [
        "daemon-reload",
        "reset-failed homeport.service",
        "enable homeport.service",
        "start homeport.service",
    ]
    assert home.told[0] == "starting homeport as the systemd user unit homeport.service"
    (gateway,) = home.unit().status().members
    assert (gateway.state, gateway.health) == ("running", "healthy")
    assert gateway.ports == (url.removeprefix("http://"),)
    assert gateway.detail == f"pid {home.systemd.pid}"
    assert gateway.since is not None
    assert home.unit().health().is_healthy

    who = identity.of(home.systemd.pid)
    assert home.unit().stop(home.told.append) is True
    assert who is not None
    assert who.fate == "gone"
    assert not home.systemd.is_enabled
    assert not home.file.exists()
    assert not home.environment.exists()
    assert not home.unit().was_started


def test_a_database_that_takes_nothing_is_a_warning(home: Home) -> None:
    config = json.loads(home.config.read_text())
    home.config.write_text(json.dumps({**config, "store": {"url": str(home.folder)}}))
    home.start()
    (check,) = until(lambda: [c for c in home.unit().health().checks if c.warnings], "it was tried")
    assert check.is_healthy
    (gateway,) = home.unit().status().members
    assert (gateway.health, gateway.warnings) == ("healthy", check.warnings)


def test_the_unit_says_what_systemd_has_to_know(home: Home) -> None:
    home.start(DEBUG)
    text = home.file.read_text()
    for line in (
        "Type=exec",
        "ExecReload=/bin/kill -HUP $MAINPID",
        "Restart=on-failure",
        "RestartPreventExitStatus=2",
        "KillMode=mixed",
        "TimeoutStopSec=50",  # the drain timeout, and time for engines to end
        "WantedBy=default.target",
        f"EnvironmentFile={home.environment}",
    ):
        assert f"\n{line}\n" in text
    assert '"--log-level" "debug"\n' in text
    assert STRANGE not in text


def test_it_gets_the_variables_that_it_needs_and_no_others(home: Home) -> None:
    services = home.config.parent / "services"
    services.mkdir()
    (services / ".env").write_text("FOR_PLUGINS=from the stack\nGRAFANA_ADMIN_PASSWORD=secret\n")
    home.start()
    seen = psutil.Process(home.systemd.pid).environ()
    assert seen["PROVIDERS_KEY"] == STRANGE, "the configuration asks for it"
    assert seen["FOR_PLUGINS"] == "from the stack"
    assert seen["PATH"] == home.systemd.path
    assert not {"SOMETHING_ELSE", "GRAFANA_ADMIN_PASSWORD"} & seen.keys()
    assert stat.S_IMODE(home.environment.stat().st_mode) == 0o600


def test_a_second_start_finds_the_first(home: Home) -> None:
    url = home.start()
    again = home.unit().start(PLAIN, home.told.append)
    assert (again.url, again.was_running) == (url, True)
    with pytest.raises(StackError, match=r"runs already .*without --debug"):
        home.start(DEBUG)


def test_a_restart_runs_as_before_or_as_wanted(home: Home) -> None:
    home.start(DEBUG)
    first = home.systemd.pid
    home.unit().restart(None, home.told.append)
    second = home.systemd.pid
    assert second != first
    assert "debug" in psutil.Process(second).cmdline()
    home.unit().restart(PLAIN, home.told.append)
    assert "debug" not in psutil.Process(home.systemd.pid).cmdline()
    home.config.write_text("models: 7")
    with pytest.raises(ConfigError):
        home.unit().restart(None, home.told.append)
    assert home.unit().health().is_healthy


def test_one_that_died_is_told_and_started_again(home: Home) -> None:
    home.start()
    process = psutil.Process(home.systemd.pid)
    process.kill()
    process.wait(WITHIN_S)
    while home.unit().status().is_running:  # until the stand-in has noticed
        pass
    (gateway,) = home.unit().status().members
    assert (gateway.state, gateway.detail) == ("died", "systemd: signal, status 9")
    assert [check.why for check in home.unit().health().checks] == ["it died"]
    home.start()
    assert home.unit().status().is_running


def test_one_that_dies_at_once_shows_why(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    url = home.start()
    home.file.rename(home.file.with_suffix(".away"))  # so that it is started a second time
    (home.systemd.folder / "pid").rename(home.systemd.folder / "first")
    monkeypatch.setattr(nearby, "refuse_taken", lambda port, places: None)
    try:
        with pytest.raises(StackError, match="systemd: exit-code, status 2") as refused:
            home.start()
        assert any("a homeport runs on" in line for line in refused.value.said)
        assert not home.unit().was_started
    finally:  # the fixture ends the one whose pid stands there
        (home.systemd.folder / "first").replace(home.systemd.folder / "pid")
    assert answers.why_silent(url) == "", "the other one is none of its business"


def test_what_systemd_refuses_is_told_and_leaves_nothing(home: Home) -> None:
    home.systemd.refuses("enable")
    with pytest.raises(StackError, match="systemctl --user enable homeport") as no:
        home.start()
    assert no.value.said == ("Failed to enable unit: refused by the test",)
    assert not home.unit().was_started


def test_its_log_is_the_journal(home: Home) -> None:
    url = home.start()
    said = list(home.unit().logs(lines=100, follow=False))
    assert any(f"homeport listens on {url}" in line for line in said)
    follower = home.unit().logs(lines=1, follow=True)
    assert next(follower) == said[-1]
    os.kill(home.systemd.pid, signal.SIGTERM)
    assert next(line for line in follower if line == "stopped")
    follower.close()  # type: ignore[attr-defined]  # it is a generator


@pytest.mark.parametrize(
    ("state", "is_possible"),
    [("running", True), ("degraded", True), ("starting", True), ("offline", False), ("", False)],
)
def test_whether_systemd_answers(home: Home, state: str, is_possible: bool) -> None:
    home.systemd.says(state)
    assert home.unit().is_possible is is_possible
    assert home.unit(PATH="/nowhere").is_possible is False


def test_what_proxy_means_here(home: Home) -> None:
    env = home.env
    assert chosen(env)[1].kind == "unit"
    home.systemd.says("offline")
    proxy, choice = chosen(env)
    assert (proxy.kind, choice.kind) == ("process", "process")
    assert "`homeport install` has not been run" in choice.why
    home.start()
    assert chosen(env)[0].kind == "unit", "what was started is meant"
