"""A running homeport, seen and changed: by commands on the same machine, by a changed file, by signals.

The engines are fake ones, each with an executable of its own, so that a test can speak to them.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest

from tests.e2e.dialects import ANTHROPIC, OPENAI
from tests.e2e.raw_client import ask
from tests.support.engine import PROGRAM, Answer, FakeEngine
from tests.support.gateway import Gateway, free_port
from tests.support.gguf import SHORTEST
from tests.support.terminal import CTRL_C, Terminal

WITHIN_S = 20.0
WORDS = "one two three four five six seven eight nine ten"

OWNS_ITS_TERMINAL = (
    "import fcntl, os, sys, termios;"
    "fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    "os.execv(sys.argv[1], sys.argv[1:])"
)
"""What a shell sees to: only then the kernel tells of the terminal's end."""


class Home:
    """A configuration with fake engines, and commands that are typed beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "models.yaml"
        (folder / "m.gguf").write_bytes(SHORTEST)

    def engine_file(self, name: str, *options: str) -> Path:
        """An executable that is the fake engine."""
        path = self.folder / f"{quote(name, safe='')}-server"
        hello = self.folder / f"{quote(name, safe='')}.json"
        words = [sys.executable, str(PROGRAM), "--hello-file", str(hello), *options]
        path.write_text("#!/bin/sh\nexec " + " ".join(words) + ' "$@"\n')
        path.chmod(0o755)
        return path

    def configure(self, models: dict[str, dict[str, Any]], **more: Any) -> None:
        plain = {
            name: {"path": "m.gguf", "binary": str(self.engine_file(name)), **settings}
            for name, settings in models.items()
        }
        self.file.write_text(json.dumps({"models": plain, **more}))  # JSON is YAML

    def gateway(self, **options: Any) -> Gateway:
        return Gateway(self.folder, "--config", str(self.file), **options)

    def engine(self, name: str) -> FakeEngine:
        return FakeEngine.running_at(self.folder / f"{name}.json")

    def env(self, **more: str) -> dict[str, str]:
        """As `Gateway` has it: the same user at the same machine."""
        home = self.folder / "home"
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(home),
            "HOMEPORT_HOME": str(home / "homeport"),
            "LANG": "C.UTF-8",
            **more,
        }

    def serve(self) -> list[str]:
        (self.folder / "home").mkdir(exist_ok=True)
        owns = [sys.executable, "-c", OWNS_ITS_TERMINAL]
        return [*owns, sys.executable, "-m", "homeport", "serve", "--config", str(self.file)]

    def run(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "homeport", *words],
            cwd=self.folder,
            env=self.env(**env),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def ok(self, *words: str, **env: str) -> str:
        """What it wrote, of both kinds."""
        done = self.run(*words, **env)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def rows(self) -> dict[str, dict[str, Any]]:
        return {row["id"]: row for row in json.loads(self.run("ps", "--json").stdout)}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def until_said(gateway: Gateway, text: str) -> None:
    deadline = time.monotonic() + WITHIN_S
    while text not in gateway.output():
        assert time.monotonic() < deadline, f"no '{text}' in\n{gateway.output()}"
        time.sleep(0.05)


async def answer(gateway: Gateway, model: str) -> str:
    request = ANTHROPIC.request(stream=True, model=model)
    async with await ask(gateway.base_url, "POST", ANTHROPIC.path, request) as exchange:
        events = await exchange.all_events()
    assert ANTHROPIC.ended_well(events), events
    return ANTHROPIC.text_of(events)


# --- commands -------------------------------------------------------------------------------------


def test_see_load_and_stop(home: Home) -> None:
    home.configure({"small": {"alias": "s"}, "org/big": {"ttl": "1h"}})
    with home.gateway() as gateway:
        home.ok("load", "small")  # it has begun to load by itself
        table = home.ok("ps").splitlines()
        assert table[0].split()[:2] == ["MODEL", "STATE"]
        assert table[1].startswith("small *  ready")
        assert table[2].startswith("org/big  stopped")
        said = home.ok("load", "org/big")
        port = home.rows()["org/big"]["port"]
        assert f"org/big is ready (llamacpp, 32768 tokens of context, port {port})" in said
        assert "/1h00m" in home.ok("ps").splitlines()[2]
        pid = home.rows()["small"]["pid"]
        assert "small is ready" in home.ok("restart", "s")
        assert home.rows()["small"]["pid"] != pid
        assert "small is stopped" in home.ok("unload", "small")
        assert "org/big is stopped" in home.ok("unload", "--all")
        assert home.ok("unload", "--all") == "nothing is loaded\n"
    gateway.assert_no_internal_error()


def test_what_an_engine_says(home: Home) -> None:
    home.configure({"it": {}})
    home.engine_file("it").write_text(
        "#!/bin/sh\nfor n in 1 2 3; do echo line $n; done\n"
        'echo "\x1b[32mgreen\x1b[0m"\n'
        f'exec {sys.executable} {PROGRAM} --hello-file {home.folder / "it.json"} "$@"\n'
    )
    with home.gateway() as gateway:
        home.ok("load", "it")
        assert "line 3\n\x1b[32mgreen\x1b[0m\n" in home.run("logs", "it").stdout  # as it is
        assert len(home.run("logs", "--lines", "2", "it").stdout.splitlines()) == 2
        command = [sys.executable, "-m", "homeport", "logs", "-f", "it"]
        with Terminal(command, home.folder, home.env()) as terminal:
            terminal.until(r"line 3\s+green")
            home.ok("restart", "it")
            terminal.until(r"(?s)line 3.*line 3")
            gateway.terminate()
            assert terminal.wait_end() == 0
        assert gateway.wait_end() == 0, "nobody who follows is waited for"


def test_a_load_in_a_terminal_leaves_one_line(home: Home) -> None:
    home.configure({"small": {}, "slow": {}})
    home.engine_file("slow", "--ready-after", "1.5")
    command = [sys.executable, "-m", "homeport", "load", "slow"]
    with home.gateway(), Terminal(command, home.folder, home.env()) as terminal:
        terminal.until("slow: loading")
        terminal.until("slow is ready")
        assert terminal.wait_end() == 0
        assert len(str(terminal.screen).splitlines()) == 1


def test_a_load_that_fails(home: Home) -> None:
    home.configure({"small": {}, "broken": {}})
    home.engine_file("broken").write_text("#!/bin/sh\necho out of luck >&2\nexit 3\n")
    with home.gateway():
        done = home.run("load", "broken")
        assert done.returncode == 1
        assert "error: broken is not available" in done.stderr
        assert "  out of luck" in done.stderr.splitlines()
        listed = home.run("ps")
        assert "hint: homeport logs broken" in listed.stderr
        said = home.run("load", "nobody").stderr
        assert said.startswith("error: model 'nobody' is not known here; models here: ")
        assert home.run("unload").returncode == 2


def test_in_a_narrow_terminal_and_with_colour(home: Home) -> None:
    home.configure({"a-model-with-a-long-name": {}, "b": {}})
    command = [sys.executable, "-m", "homeport", "ps"]
    with home.gateway():
        home.ok("load", "a-model-with-a-long-name")
        with Terminal(command, home.folder, home.env(), columns=46) as terminal:
            terminal.wait_end()
            lines = str(terminal.screen).splitlines()
        assert lines[0].split() == ["MODEL", "STATE", "IN", "FLIGHT"]
        assert lines[1].startswith("a-model-with-a-long-name *  ready")
        assert len(lines) == 3
        assert "\x1b" not in home.run("ps").stdout


def test_which_one_is_meant(home: Home, tmp_path: Path) -> None:
    home.configure({"it": {}})
    done = home.run("ps")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: no homeport runs here\n  hint: start it with")
    with home.gateway() as one:
        file = home.folder / "home/homeport/state/running" / f"{one.port}.json"
        assert file.stat().st_mode & 0o777 == 0o600
        elsewhere = {"HOMEPORT_HOME": str(tmp_path / "another user")}
        done = home.run("ps", "--url", one.base_url, **elsewhere)
        assert "a master key is needed" in done.stderr
        assert "hint: set HOMEPORT_MASTER_KEY" in done.stderr
        done = home.run("ps", HOMEPORT_URL="http://127.0.0.1:1")
        assert "http://127.0.0.1:1 does not answer: Connection refused" in done.stderr
        with Gateway(home.folder, "--config", str(home.file)) as two:
            done = home.run("ps")
            assert "2 homeports run here" in done.stderr
            assert two.base_url in done.stderr
            assert one.base_url in done.stderr
            home.ok("ps", "--url", one.base_url)
            home.ok("ps", HOMEPORT_URL=f"localhost:{two.port}/v1")
            os.kill(two.pid, signal.SIGKILL)
            two.wait_end()
        home.ok("ps")
        assert [f.name for f in file.parent.iterdir()] == [file.name], "the other's is removed"
    assert not file.exists()


def test_a_master_key_that_stays(home: Home, tmp_path: Path) -> None:
    home.configure({"it": {}}, server={"master_key": "from-the-file"})
    with home.gateway() as gateway:
        env = {"HOMEPORT_HOME": str(tmp_path / "elsewhere"), "MLX_WRAPPER_URL": gateway.base_url}
        home.ok("ps", **env, LITELLM_MASTER_KEY="from-the-file")
        done = home.run("ps", **env, LITELLM_MASTER_KEY="wrong")
        assert "the key is no master key" in done.stderr
        home.ok("ps")  # by this run's own
        assert "from-the-file" not in gateway.output()


# --- other settings -------------------------------------------------------------------------------


async def test_a_reload_touches_only_what_has_changed(home: Home) -> None:
    home.configure({"same": {}, "changed": {}, "removed": {}, "adjusted": {}})
    with home.gateway() as gateway:
        for name in ("same", "changed", "removed", "adjusted"):
            await asyncio.to_thread(home.ok, "load", name)
        before = home.rows()
        running = []
        engines = {name: home.engine(name) for name in before}
        for name in ("same", "changed", "removed"):
            engines[name].script(Answer(text=WORDS, delay_between_s=0.15))
            running.append(asyncio.create_task(answer(gateway, name)))
        for name in ("same", "changed", "removed"):
            await engines[name].happens("first")

        home.configure(
            {"same": {}, "changed": {"ctx": 4096}, "added": {}, "adjusted": {"alias": "a"}},
            aliases={"gpt-*": "added"},
        )
        said = await asyncio.to_thread(home.ok, "reload")
        assert said == (
            "added added; changed, with a new engine: changed; "
            "changed, with the engine as it is: adjusted; removed removed; settings: aliases\n"
        )
        assert f"configuration read anew: {said}" in gateway.output()
        assert await asyncio.gather(*running) == [WORDS] * 3
        await answer(gateway, "gpt-5")
        await answer(gateway, "a")
        await asyncio.to_thread(home.ok, "load", "changed")
        after = home.rows()
        assert list(after) == ["same", "changed", "added", "adjusted"]
        assert after["same"]["pid"] == before["same"]["pid"]
        assert after["adjusted"]["pid"] == before["adjusted"]["pid"]
        assert after["changed"]["pid"] != before["changed"]["pid"]
        await asyncio.to_thread(gateway.wait_idle)
        left = {int(p.pid) for p in gateway.children()}
        assert before["changed"]["pid"] not in left
        assert before["removed"]["pid"] not in left
    gateway.assert_no_internal_error()


async def test_requests_during_reloads_find_the_old_or_the_new(home: Home) -> None:
    versions: list[dict[str, dict[str, Any]]] = [{"it": {"ctx": 4096}}, {"it": {"ctx": 8192}}]
    home.configure(versions[0])
    with home.gateway() as gateway:
        stop = asyncio.Event()

        async def client(stream: bool) -> int:
            count = 0
            while not stop.is_set():
                request = OPENAI.request(stream=stream, model="it")
                async with await ask(gateway.base_url, "POST", OPENAI.path, request) as exchange:
                    assert exchange.status == 200, await exchange.body()
                    await exchange.body()
                count += 1
            return count

        clients = [asyncio.create_task(client(stream=bool(n % 2))) for n in range(4)]
        for n in range(6):
            home.configure(versions[(n + 1) % 2])
            said = await asyncio.to_thread(home.ok, "reload")
            assert said == "changed, with a new engine: it\n"
            await answer(gateway, "it")
        stop.set()
        assert sum(await asyncio.gather(*clients)) > 6
        await asyncio.to_thread(gateway.wait_idle)
    gateway.assert_no_internal_error()


async def test_a_broken_file_changes_nothing(home: Home) -> None:
    home.configure({"it": {}})
    with home.gateway() as gateway:
        await asyncio.to_thread(home.ok, "load", "it")
        pid = home.rows()["it"]["pid"]
        home.file.write_text(
            "models:\n  it:\n    path: m.gguf\n    prot: 1\nserver: {port: 1000000}\n"
        )
        done = await asyncio.to_thread(home.run, "reload")
        assert done.returncode == 1
        assert f"error: {home.file}:4: models.it.prot: unknown key" in done.stderr
        assert "server.port" in done.stderr
        assert done.stderr.endswith("everything goes on as before\n")
        assert "models.it.prot: unknown key" in gateway.output()
        os.kill(gateway.pid, signal.SIGHUP)
        await asyncio.to_thread(until_said, gateway, "not taken up")
        await answer(gateway, "it")
        assert home.rows()["it"]["pid"] == pid


async def test_a_hangup_signal_reloads(home: Home) -> None:
    home.configure({"it": {}})
    with home.gateway() as gateway:
        home.configure({"it": {}, "more": {}}, server={"port": 1234, "allowed_hosts": ["box.lan"]})
        os.kill(gateway.pid, signal.SIGHUP)
        await asyncio.to_thread(until_said, gateway, "read anew: added more")
        assert "settings: server.allowed_hosts" in gateway.output()
        assert list(home.rows()) == ["it", "more"]


def test_an_address_needs_a_restart_and_is_said_so(home: Home) -> None:
    home.configure({"it": {}}, server={"port": free_port()})
    with Terminal(home.serve(), home.folder, home.env()) as terminal:
        terminal.until("it is ready")
        home.configure({"it": {}}, server={"port": free_port()}, discover=False)
        for _ in range(2):  # it is no secret the second time either
            said = home.ok("reload")
            assert said.startswith("only after a restart: server.port")
        terminal.until("only after a restart: server.port, discover")
        terminal.press(CTRL_C)
        assert terminal.wait_end() == 0


def test_a_terminal_that_goes_takes_homeport_with_it(home: Home) -> None:
    home.configure({"it": {}})
    with Terminal([*home.serve(), "--port", "0"], home.folder, home.env()) as terminal:
        terminal.until("it is ready")
        engine = home.rows()["it"]["pid"]
        terminal.hang_up()
        assert terminal.wait_end() == 0
    assert not psutil.pid_exists(engine)
