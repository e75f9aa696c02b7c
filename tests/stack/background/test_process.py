"""homeport in the background: real processes, started, found again, raced for, killed and stopped."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from msgspec.structs import replace

from homeport.errors import ConfigError, StackError
from homeport.runtime import identity, log_file
from homeport.stack.background import nearby
from homeport.stack.background.process import Background, Record
from homeport.stack.background.serving import GRACE_S
from homeport.stack.proxy import Wanted
from tests.support.engine import Answer, FakeEngine
from tests.support.gateway import free_port

WITHIN_S = 60.0
DEBUG = Wanted(debug=True)
PLAIN = Wanted()

DRIVER = """
import json, os, sys
from homeport.stack.background.process import Background
from homeport.errors import StackError
from homeport.stack.proxy import Wanted
proxy = Background(os.environ)
tell = lambda text: print(text, file=sys.stderr, flush=True)
try:
    if sys.argv[1] == "start":
        done = proxy.start(Wanted(), tell)
        print(json.dumps({"url": done.url, "was_running": done.was_running}))
    else:
        print(json.dumps(proxy.stop(tell)))
except StackError as error:
    print(json.dumps({"error": str(error)}))
"""
"""One command, in a process of its own."""


class Home:
    """A user with a configuration, whose homeport listens on a port of its own."""

    def __init__(self, folder: Path, engine: FakeEngine) -> None:
        self.folder = folder
        self.config = folder / "config.yaml"
        self.env = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(folder),
            "HOMEPORT_HOME": str(folder),
            "HOMEPORT_PORT": "0",
            "LANG": "C.UTF-8",
        }
        self.told: list[str] = []
        self.configure({"m": {"upstream": engine.base_url}})

    def configure(self, models: dict[str, Any], **more: Any) -> None:
        self.config.write_text(json.dumps({"models": models, **more}))  # JSON is YAML

    def proxy(self, **env: str) -> Background:
        """As the next command sees it."""
        return Background({**self.env, **env})

    def tell(self, text: str) -> None:
        self.told.append(text)

    def start(self, wanted: Wanted = PLAIN, **env: str) -> str:
        return self.proxy(**env).start(wanted, self.tell).url

    def record(self) -> Record:
        found = self.proxy()._record()
        assert found is not None
        return found

    @property
    def process(self) -> psutil.Process:
        return psutil.Process(self.record().process.pid)

    def command(self, verb: str) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-c", DRIVER, verb]
        pipe = subprocess.PIPE
        return subprocess.Popen(words, env=self.env, stdout=pipe, stderr=pipe)

    def processes(self) -> list[psutil.Process]:
        """Every gateway of this user, known to a record or not."""
        mark = f"HOMEPORT_HOME={self.folder}"
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if "serve" in process.cmdline() and mark in self._environ(process):
                    found.append(process)
        return found

    @staticmethod
    def _environ(process: psutil.Process) -> list[str]:
        return [f"{name}={value}" for name, value in process.environ().items()]


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    with FakeEngine() as engine:
        yield engine


@pytest.fixture
def home(tmp_path: Path, engine: FakeEngine) -> Iterator[Home]:
    home = Home(tmp_path, engine)
    yield home
    for process in home.processes():
        process.kill()
        process.wait(WITHIN_S)


def get(url: str, path: str) -> Any:
    with urllib.request.urlopen(url + path, timeout=WITHIN_S) as answer:
        return json.load(answer)


def chat(url: str) -> int:
    body = json.dumps({"messages": [{"role": "user", "content": "hi"}]}).encode()
    try:
        with urllib.request.urlopen(f"{url}/v1/chat/completions", body, WITHIN_S) as answer:
            answer.read()
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


# --- its life ---------------------------------------------------------------------------------


def test_a_life(home: Home) -> None:
    proxy = home.proxy()
    assert not proxy.was_started
    assert not proxy.status().is_running
    assert proxy.stop(home.tell) is False

    url = home.start()
    assert get(url, "/health") == {"status": "ok"}
    assert home.told[0].startswith("starting homeport")
    assert home.told[-1] == "models: m ready"
    (gateway,) = home.proxy().status().members
    assert (gateway.name, gateway.state, gateway.health) == ("gateway", "running", "healthy")
    assert gateway.ports == (url.removeprefix("http://"),)
    assert gateway.since == home.record().started_at
    assert gateway.detail == f"pid {home.process.pid}"
    assert home.proxy().health().is_healthy
    assert home.process.terminal() is None
    assert home.process.cwd() == "/"
    assert os.getsid(home.process.pid) == home.process.pid

    assert home.proxy().stop(home.tell) is True
    assert home.processes() == []
    assert not home.proxy().was_started
    assert [check.why for check in home.proxy().health().checks] == ["it does not run"]


def test_a_second_start_finds_the_first(home: Home) -> None:
    url = home.start()
    again = home.proxy().start(PLAIN, home.tell)
    assert (again.url, again.was_running) == (url, True)
    assert len(home.processes()) == 1


@pytest.mark.parametrize(
    ("wanted", "env", "said"),
    [
        (Wanted(debug=True), {}, "without --debug"),
        (Wanted(no_db=True), {}, "with its usage store"),
        (PLAIN, {"HOMEPORT_PORT": "1234"}, "on 127.0.0.1:0, not on 127.0.0.1:1234"),
    ],
)
def test_a_start_that_wants_it_otherwise_says_restart(
    home: Home, wanted: Wanted, env: dict[str, str], said: str
) -> None:
    home.start()
    before = home.process
    with pytest.raises(StackError, match="runs already") as refused:
        home.start(wanted, **env)
    assert refused.value.message.endswith(said)
    assert "homeport proxy restart" in refused.value.hint
    assert before.is_running()


def test_a_restart_takes_up_other_wishes(home: Home) -> None:
    home.start()
    before = home.process
    url = home.proxy().restart(DEBUG, home.tell).url
    assert home.process.pid != before.pid
    assert home.processes() == [home.process]
    assert "--log-level debug" in " ".join(home.process.cmdline())
    assert get(url, "/health")["status"] == "ok"


def test_a_restart_into_a_broken_configuration_stops_nothing(home: Home) -> None:
    url = home.start()
    home.config.write_text("models: {m: {upstream: 7}}")
    with pytest.raises(ConfigError):
        home.proxy().restart(PLAIN, home.tell)
    assert get(url, "/health")["status"] == "ok"


def test_it_is_found_from_another_login(home: Home, tmp_path: Path) -> None:
    """A cron job has no folder for the time of a login."""
    url = home.start(XDG_RUNTIME_DIR=str(tmp_path / "run"))
    again = home.proxy().start(PLAIN, home.tell)
    assert (again.url, again.was_running) == (url, True)
    assert home.proxy().health().is_healthy


def test_another_profile_takes_a_restart(home: Home) -> None:
    (home.folder / "profiles").mkdir()
    (home.folder / "profiles/coding.yaml").write_text("server: {limits: {drain_timeout_s: 7}}")
    home.start()
    coding = Wanted(profile="coding")
    with pytest.raises(StackError, match="with no profile"):
        home.start(coding)
    home.proxy().restart(coding, home.tell)
    assert home.process.environ()["HOMEPORT_PROFILE"] == "coding"
    assert "profile coding" in home.proxy().status().members[0].detail
    assert home.record().run.drain_timeout_s == 7
    with pytest.raises(ConfigError, match="nowhere"):
        home.proxy().restart(Wanted(profile="nowhere"), home.tell)


def test_choices_of_the_stack_hold_here_too(home: Home) -> None:
    services = home.folder / "services"
    services.mkdir()
    (services / ".env").write_text(
        f"HOMEPORT_PORT={(port := free_port())}\nHOMEPORT_MASTER_KEY='its-own-master-key'\n"
        "HOMEPORT_DB_PASSWORD=secret\n"
    )
    del home.env["HOMEPORT_PORT"]
    assert home.start() == f"http://127.0.0.1:{port}"
    seen = home.process.environ()
    assert seen["HOMEPORT_MASTER_KEY"] == "its-own-master-key"
    assert "HOMEPORT_DB_PASSWORD" not in seen
    assert "its-own-master-key" not in " ".join(home.process.cmdline())


def test_without_usage_for_this_run(home: Home) -> None:
    url = home.start(Wanted(no_db=True))
    assert chat(url) == 200
    assert home.proxy().status().members[0].detail.endswith("no usage store")
    home.proxy().stop(home.tell)
    assert not list((home.folder / "state").rglob("*.db"))
    home.start()
    home.proxy().stop(home.tell)
    assert list((home.folder / "state").rglob("*.db"))


# --- races ------------------------------------------------------------------------------------


def test_two_starts_at_once_make_one_process(home: Home) -> None:
    commands = [home.command("start") for _ in range(3)]
    answers = [json.loads(c.communicate(timeout=WITHIN_S)[0]) for c in commands]
    assert len(home.processes()) == 1
    assert len({answer["url"] for answer in answers}) == 1
    assert sorted(answer["was_running"] for answer in answers) == [False, True, True]


def test_two_stops_at_once_are_fine(home: Home) -> None:
    home.start()
    commands = [home.command("stop") for _ in range(2)]
    answers = [json.loads(c.communicate(timeout=WITHIN_S)[0]) for c in commands]
    assert sorted(answers) == [False, True]
    assert home.processes() == []


def test_ctrl_c_takes_a_start_back(home: Home) -> None:
    seen: list[psutil.Process] = []

    def interrupted(text: str) -> None:
        if text.startswith("waiting"):
            seen.append(home.process)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        home.proxy().start(PLAIN, interrupted)
    assert len(seen) == 1
    assert home.processes() == []
    assert not home.proxy().was_started


# --- what goes wrong --------------------------------------------------------------------------


def test_killed_it_has_died_and_can_be_started(home: Home) -> None:
    home.start()
    killed = home.process
    killed.kill()
    killed.wait(WITHIN_S)
    (gateway,) = home.proxy().status().members
    assert gateway.state == "died"
    assert f"pid {killed.pid} has gone" in gateway.detail
    assert [check.why for check in home.proxy().health().checks] == ["it died"]
    home.start()
    assert home.proxy().status().is_running
    assert home.process.pid != killed.pid


def test_a_stop_of_one_that_died_touches_nobody(home: Home) -> None:
    home.start()
    home.process.kill()
    home.process.wait(WITHIN_S)
    record = home.record()
    # The pid has come again, as another process: this one.
    now = replace(record.process, pid=os.getpid())
    home.proxy()._write(replace(record, process=now))
    assert home.proxy().status().members[0].state == "died"
    assert home.proxy().stop(home.tell) is False
    assert not home.proxy().was_started


def test_a_taken_port_names_who_has_it(home: Home) -> None:
    listen = "import socket,sys; s = socket.create_server(('127.0.0.1', 0)); "
    listen += "print(s.getsockname()[1], flush=True); sys.stdin.read()"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", listen], stdin=pipe, stdout=pipe) as other:
        assert other.stdout is not None
        port = int(other.stdout.readline())
        with pytest.raises(StackError) as refused:
            home.start(HOMEPORT_PORT=str(port))
        assert f"port {port} is taken by " in refused.value.message
        assert f"(pid {other.pid})" in refused.value.message
        assert f"HOMEPORT_PORT={port + 1}" in refused.value.hint
        assert other.stdin is not None
        other.stdin.close()
    assert not home.proxy().was_started


def test_a_homeport_of_another_start_is_named_so(home: Home) -> None:
    """One whose start was killed before it could write down what it had started, too."""
    port = free_port()
    home.start(HOMEPORT_PORT=str(port))
    pid = home.process.pid
    (home.folder / "state/proxy/process.json").unlink()
    with pytest.raises(StackError, match="started otherwise") as refused:
        home.start(HOMEPORT_PORT=str(port))
    assert f"(pid {pid})" in refused.value.message
    assert f"kill {pid}" in refused.value.hint


def test_one_that_dies_at_once_shows_why(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when somebody takes the port in the last moment."""
    monkeypatch.setattr(nearby, "refuse_taken", lambda port, places: None)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(StackError, match="ended with status 2") as refused:
            home.start(HOMEPORT_PORT=str(port))
    assert any("is taken by another process" in line for line in refused.value.said)
    assert str(home.proxy().log) in refused.value.hint
    assert not home.proxy().was_started


def test_a_wrong_configuration_is_told_before_anything_starts(home: Home) -> None:
    home.config.write_text("models: {m: {upstream: 7}}")
    with pytest.raises(ConfigError):
        home.start()
    assert home.told == []
    with pytest.raises(ConfigError, match="'x' is no port"):
        home.start(HOMEPORT_PORT="x")


# --- its end ----------------------------------------------------------------------------------


def test_a_stop_waits_for_requests_and_tells(home: Home, engine: FakeEngine) -> None:
    engine.script(Answer(text="one two", then="stall", at=1))
    url = home.start()
    asked = threading.Thread(target=chat, args=(url,), daemon=True)
    asked.start()
    engine.wait("first")
    told = []

    def tell(text: str) -> None:
        told.append(text)
        if text.startswith("waiting for 1 request to finish"):
            engine.stop()  # which ends the request

    assert home.proxy().stop(tell) is True
    asked.join(WITHIN_S)
    assert any(text.startswith("waiting for 1 request to finish, 30 s at most") for text in told)
    assert home.processes() == []


def test_who_does_not_end_is_killed(home: Home) -> None:
    home.start()
    record = home.record()
    os.kill(record.process.pid, signal.SIGSTOP)  # it cannot hear
    impatient = replace(record.run, drain_timeout_s=-GRACE_S)
    home.proxy()._write(replace(record, run=impatient))
    assert home.proxy().stop(home.tell) is True
    assert "is killed" in home.told[-1]
    assert identity.of(record.process.pid) is None


# --- its log ----------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="this system has none of them")
@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM], ids=["old kernel", "sandbox"])
def test_without_descriptors_of_processes_it_is_stopped_all_the_same(
    home: Home, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refused(pid: int) -> int:
        raise OSError(number, os.strerror(number))

    home.start()
    monkeypatch.setattr(os, "pidfd_open", refused)
    assert home.proxy().stop(home.tell)
    assert home.processes() == []


def test_its_log_is_shown_and_followed(home: Home) -> None:
    url = home.start(DEBUG)
    proxy = home.proxy()
    said = list(proxy.logs(lines=100, follow=False))
    assert any("started by homeport proxy" in line for line in said)
    assert any(f"homeport listens on {url}" in line for line in said)
    assert list(proxy.logs(lines=1, follow=False)) == said[-1:]

    follower = proxy.logs(lines=0, follow=True)
    threading.Timer(0, home.process.terminate).start()
    for line in follower:
        if line == "stopped":
            break
    follower.close()  # type: ignore[attr-defined]  # it is a generator

    with pytest.raises(StackError, match="without containers"):
        proxy.logs(lines=1, follow=False, service="timescaledb")


def test_a_log_that_cannot_be_written_is_told(home: Home) -> None:
    home.proxy().log.parent.mkdir(parents=True)
    home.proxy().log.mkdir()
    with pytest.raises(StackError, match="cannot be written"):
        home.start()
    assert log_file.place_of(home.proxy().log.parent / "none") == (0, 0)


# --- as it is typed ---------------------------------------------------------------------------


def test_the_commands(home: Home) -> None:
    def typed(*words: str, status: int = 0) -> tuple[str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "homeport", "proxy", *words],
            env=home.env,
            capture_output=True,
            text=True,
            timeout=WITHIN_S,
        )
        assert done.returncode == status, done.stderr
        return done.stdout, done.stderr

    assert "it does not run" in typed("health", status=1)[0]
    out, err = typed("start", "--local", "--json")
    started = json.loads(out)
    assert started["was_running"] is False
    assert err.startswith("--local: homeport as a process in the background\n")
    out, err = typed("start")
    assert "homeport was started as a process in the background" in err
    assert f"homeport runs already: {started['url']}" in err
    (gateway,) = json.loads(typed("status", "--json")[0])["members"]
    assert (gateway["state"], gateway["health"]) == ("running", "healthy")
    assert "gateway" in typed("status")[0]
    assert typed("health")[0].startswith("healthy")
    assert f"homeport listens on {started['url']}" in typed("logs")[0]
    assert "homeport proxy restart" in typed("start", "--debug", status=1)[1]
    typed("restart", "--debug")
    typed("restart")
    assert "debug" in home.process.cmdline(), "without options it runs as it ran"
    assert typed("stop")[1].endswith("stopped\n")
    assert typed("stop")[1] == "nothing runs\n"
    home.config.write_text("models: 7")
    assert "error: " in typed("start", status=2)[1]
