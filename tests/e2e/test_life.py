"""The life of a ``homeport serve``: how it starts, refuses to start, drains, is forced, and dies.

Everything here is a real process, started for one test. Waits are bounded polls of what can only be
polled: other processes.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from homeport.demo import demo_model_path
from tests.e2e.dialects import ANTHROPIC, OPENAI
from tests.e2e.raw_client import ask, send
from tests.support.engine import Answer, FakeEngine
from tests.support.gateway import Gateway, free_port

DEMO = Path(demo_model_path()).read_bytes()
STARTS_WITHIN_S = 1.0
BUSY_FACTOR = 4
"""This is measured beside other tests on whatever machine there is."""
ENDS_WITHIN_S = 20.0


class Serve:
    """One ``homeport serve``, and what it says. (``Gateway`` waits until it is up; here the way there
    is what matters.)"""

    def __init__(self, folder: Path, *arguments: str) -> None:
        home = folder / "home"
        home.mkdir(exist_ok=True)
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "HOMEPORT_HOME": str(home / "homeport"),
        }
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "homeport", "serve", "--no-discover", *arguments],
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,  # what a buffer holds, select does not see
        )

    def line(self, timeout_s: float = ENDS_WITHIN_S) -> str:
        """The next line of stdout."""
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], timeout_s)
        assert ready, "nothing was said"
        return self.process.stdout.readline().decode()

    def event(self, name: str) -> dict[str, Any]:
        """The next ``--json`` event with this name; others are skipped."""
        while line := self.line():
            event: dict[str, Any] = json.loads(line)
            if event["event"] == name:
                return event
        raise AssertionError(f"it ended without {name}: {self.end()}")

    def end(self) -> tuple[int, str, str]:
        """Waits for the end; exit status, stdout (what was not read of it), stderr."""
        out, err = self.process.communicate(timeout=ENDS_WITHIN_S)
        return self.process.returncode, (out or b"").decode(), err.decode()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


@contextmanager
def serve(folder: Path, *arguments: str) -> Iterator[Serve]:
    served = Serve(folder, *arguments)
    try:
        yield served
    finally:
        if served.process.poll() is None:
            served.process.kill()
        served.end()


def gone(pids: list[int]) -> bool:
    """Waits until all have ended (a zombie has), at most ``ENDS_WITHIN_S``."""
    deadline = time.monotonic() + ENDS_WITHIN_S
    while any(map(is_alive, pids)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def get(url: str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


# --- starting -------------------------------------------------------------------------------


def test_listens_soon(tmp_path: Path) -> None:
    """Also when the upstream is down: the best of three, for a busy machine's sake."""
    took = []
    for _ in range(3):
        with serve(tmp_path, "--port", "0", "--json", "--upstream", "http://127.0.0.1:9/v1") as it:
            it.event("listening")
            took.append(time.monotonic() - it.began)
    assert min(took) < STARTS_WITHIN_S * BUSY_FACTOR, took


def test_json_lines(tmp_path: Path) -> None:
    with FakeEngine() as engine:
        arguments = ("--port", "0", "--json", "--upstream", engine.base_url)
        with serve(tmp_path, *arguments) as it:
            said = it.event("listening")
            assert said["url"] == f"http://127.0.0.1:{said['port']}"
            assert get(said["url"] + "/health") == (200, {"status": "ok"})
            assert get(said["url"] + "/readyz")[0] == 200
            it.signal(signal.SIGTERM)
            assert it.event("draining") == {"event": "draining", "requests": 0}
            assert it.event("stopped") == {"event": "stopped"}
            assert it.end() == (0, "", "")


def test_reader_of_json_lines_may_leave(tmp_path: Path) -> None:
    """A program that has read the port has what it wanted; the gateway lives on."""
    arguments = ("--port", "0", "--json", "--upstream", "http://127.0.0.1:9/v1")
    with serve(tmp_path, *arguments) as it:
        url = it.event("listening")["url"]
        assert it.process.stdout is not None
        it.process.stdout.close()
        it.process.stdout = None
        assert get(url + "/health")[0] == 200
        it.signal(signal.SIGTERM)
        status, _, err = it.end()
        assert (status, err) == (0, "")


def test_talk_for_people(tmp_path: Path) -> None:
    with (
        FakeEngine() as engine,
        serve(tmp_path, "--port", "0", "--upstream", engine.base_url) as it,
    ):
        assert it.process.stderr is not None
        first = it.process.stderr.readline().decode()
        assert re.match(r"homeport listens on http://127\.0\.0\.1:\d+  \(Ctrl-C stops\)", first)
        it.signal(signal.SIGINT)
        status, out, err = it.end()
        assert (status, out) == (0, "")
        assert err.splitlines()[-1] == "stopped"
        assert "Traceback" not in err


# --- refusing to start ----------------------------------------------------------------------


def refusal(folder: Path, *arguments: str) -> str:
    """What it says before it ends with status 2."""
    with serve(folder, *arguments) as it:
        status, out, err = it.end()
    assert status == 2, (out, err)
    assert out == ""
    assert "Traceback" not in err
    return err


def test_port_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refusal(tmp_path, "--port", str(port))
    assert f"port {port} on 127.0.0.1 is taken" in said
    assert "hint: stop that process" in said


def test_port_of_another_gateway(tmp_path: Path) -> None:
    with FakeEngine() as engine, Gateway(tmp_path, "--upstream", engine.base_url) as gateway:
        said = refusal(tmp_path, "--port", str(gateway.port))
    assert f"a homeport runs on {gateway.base_url} already (pid " in said


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_beyond_loopback_without_a_key(tmp_path: Path, host: str) -> None:
    said = refusal(tmp_path, "--port", "0", "--host", host)
    assert "no key is set" in said
    assert "hint: make a key" in said


def test_address_of_another_machine(tmp_path: Path) -> None:
    config = tmp_path / "homeport.yaml"
    config.write_text(f"server:\n  keys: [{{name: me, sha256: {'0' * 64}}}]\n")
    said = refusal(tmp_path, "--port", "0", "--host", "192.0.2.1", "--config", str(config))
    assert "no address 192.0.2.1" in said


def test_a_log_file_needs_its_folder(tmp_path: Path) -> None:
    said = refusal(tmp_path, "--port", "0", "--log-file", str(tmp_path / "nope" / "x.log"))
    assert f"there is no folder {tmp_path / 'nope'}" in said
    assert not (tmp_path / "nope").exists()


async def test_a_log_file_leaves_the_talk_where_it_is(tmp_path: Path) -> None:
    """Events go to the file alone; the address, and what follows, to the person as well."""
    log = tmp_path / "x.log"
    with FakeEngine() as engine:
        arguments = ("--port", "0", "--log-file", str(log), "--upstream", engine.base_url)
        with serve(tmp_path, *arguments, "--log-level", "debug", "--json") as it:
            url = it.event("listening")["url"]
            assert it.event("model_ready")["model"]
            async with await send(url, "POST", OPENAI.path, OPENAI.request(stream=True)) as answer:
                await answer.body()
            it.signal(signal.SIGTERM)
            status, out, err = await asyncio.to_thread(it.end)
    assert (status, err) == (0, f"logs go to {log}\n")
    assert '"stopped"' in out
    logged = log.read_text()
    assert "debug" in logged
    assert '"listening"' in logged, "who reads the log later wants to know it, too"


def test_talk_that_leads_into_the_log_is_there_once(tmp_path: Path) -> None:
    """As `homeport proxy start --local` starts it: whatever is printed before is in the log."""
    log = tmp_path / "x.log"
    command = [sys.executable, "-m", "homeport", "serve", "--port", "0", "--no-discover"]
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "HOMEPORT_HOME": str(tmp_path / "h")}
    with log.open("ab") as end:
        process = subprocess.Popen(
            [*command, "--upstream", "http://127.0.0.1:9/v1", "--log-file", str(log)],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=end,
            stderr=end,
        )
    try:
        deadline = time.monotonic() + ENDS_WITHIN_S
        while "is asked every two seconds" not in log.read_text():
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
    finally:
        process.terminate()
        process.wait(ENDS_WITHIN_S)
    assert log.read_text().count("homeport listens on") == 1


@pytest.mark.parametrize(
    "flag", ["--model", "--download-model", "--upstream", "--default-model", "--autocomplete-model"]
)
def test_the_demo_stands_alone(tmp_path: Path, flag: str) -> None:
    """Who names a model wants to have it, and would never hear that it is not there."""
    said = refusal(tmp_path, "--port", "0", "--demo", flag, "org/good")
    assert "--demo" in said
    assert flag.replace("download-", "") in said
    assert "hint:" in said


def test_bad_config(tmp_path: Path) -> None:
    config = tmp_path / "homeport.yaml"
    config.write_text("servr:\n  port: 1\n")
    said = refusal(tmp_path, "--config", str(config))
    assert f"{config}:1" in said
    assert "servr" in said
    assert "hint:" in said


# --- draining -------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains(tmp_path: Path, number: signal.Signals) -> None:
    """The stream under way ends well, then the gateway ends; new clients are not let in."""
    with FakeEngine() as engine:
        engine.script(Answer(text="one two three four", fragment_chars=(4,), delay_between_s=0.2))
        arguments = ("--port", "0", "--json", "--upstream", engine.base_url)
        with serve(tmp_path, *arguments) as it:
            url = it.event("listening")["url"]
            request = ANTHROPIC.request(stream=True)
            async with await ask(url, "POST", ANTHROPIC.path, request) as exchange:
                await engine.happens("first")
                it.signal(number)
                said = await asyncio.to_thread(it.event, "draining")
                assert said["requests"] == 1
                events = await exchange.all_events()
            assert ANTHROPIC.ended_well(events)
            assert ANTHROPIC.text_of(events) == "one two three four"
            status, _, err = await asyncio.to_thread(it.end)
            assert (status, err) == (0, "")


async def test_an_idle_connection_does_not_hold_the_drain(tmp_path: Path) -> None:
    with FakeEngine() as engine:
        arguments = ("--port", "0", "--json", "--upstream", engine.base_url)
        with serve(tmp_path, *arguments) as it:
            url = it.event("listening")["url"]
            headers = {"Connection": "keep-alive"}
            async with await ask(url, "GET", "/health", headers=headers) as exchange:
                await exchange.body()
                it.signal(signal.SIGTERM)
                status, _, err = await asyncio.to_thread(it.end)
                assert (status, err) == (0, "")


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_twice_forces(tmp_path: Path, stream: bool) -> None:
    """Requests are cut on both sides, and nobody gets a traceback to read."""
    with FakeEngine() as engine:
        engine.script(
            Answer(text="one two", then="stall", at=2), Answer(then="stall", at="headers")
        )
        with serve(tmp_path, "--port", "0", "--json", "--upstream", engine.base_url) as it:
            url = it.event("listening")["url"]
            request = OPENAI.request(stream=stream)
            async with await send(url, "POST", OPENAI.path, request):
                await engine.happens("request")
                it.signal(signal.SIGINT)
                await asyncio.to_thread(it.event, "draining")
                assert it.process.poll() is None, "it waits for the request"
                it.signal(signal.SIGINT)
                forced = await asyncio.to_thread(it.event, "forced")
                assert forced["waited_s"] is None, "somebody wanted it so"
                await engine.happens("disconnect")
                status, _, err = await asyncio.to_thread(it.end)
                assert (status, err) == (1, ""), "the status tells that requests were cut"


async def test_the_time_to_finish_is_over(tmp_path: Path) -> None:
    """Nobody has pressed a key twice, and nobody is told so."""
    config = tmp_path / "config.yaml"
    with FakeEngine() as engine:
        config.write_text(
            "server: {limits: {drain_timeout_s: 0.2}}\n"
            f"models: {{slow: {{upstream: '{engine.base_url}', upstream_model: fake}}}}\n"
        )
        engine.script(Answer(text="one two", then="stall", at=2))
        with serve(tmp_path, "--port", "0", "--config", str(config), "--json") as it:
            url = it.event("listening")["url"]
            async with await send(url, "POST", OPENAI.path, OPENAI.request(stream=True)):
                await engine.happens("first")
                it.signal(signal.SIGINT)
                forced = await asyncio.to_thread(it.event, "forced")
                assert forced["waited_s"] == 0.2
                status, _, err = await asyncio.to_thread(it.end)
                assert (status, err) == (1, "")


async def test_leaving_clients_leave_no_traceback(tmp_path: Path) -> None:
    with FakeEngine() as engine:
        engine.script(
            Answer(then="stall", at="headers"),
            Answer(text="one two", then="stall", at=2),
            Answer(flood_bytes=20_000_000),
        )
        with serve(tmp_path, "--port", "0", "--json", "--upstream", engine.base_url) as it:
            url = it.event("listening")["url"]
            for count, mark in enumerate(("request", "first", "blocked")):
                request = ANTHROPIC.request(stream=True)
                async with await send(url, "POST", ANTHROPIC.path, request) as exchange:
                    await engine.happens(mark, count + 1 if mark == "request" else 1)
                    await exchange.leave(reset=count == 1)
                await engine.happens("disconnect", count + 1)
            half = b'{"model": "fake", '
            headers = {"Content-Length": "1000"}
            async with await send(url, "POST", OPENAI.path, half, headers) as exchange:
                await exchange.leave()
            it.signal(signal.SIGTERM)
            status, _, err = await asyncio.to_thread(it.end)
            assert (status, err) == (0, "")


# --- engines of our own ---------------------------------------------------------------------


def descendants(pid: int) -> list[int]:
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


@pytest.mark.llamacpp
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_llamacpp_ends_with_the_gateway(tmp_path: Path, number: signal.Signals) -> None:
    with serve(tmp_path, "--port", "0", "--json") as it:
        assert it.event("model_ready")["engine"] == "llamacpp"
        engines = descendants(it.process.pid)
        assert engines
        it.signal(number)
        it.end()
        assert gone(engines), "an engine outlived the gateway"


@pytest.mark.llamacpp
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_ended_while_the_model_loads(tmp_path: Path, number: signal.Signals) -> None:
    with serve(tmp_path, "--port", "0", "--json") as it:
        it.event("model_loading")
        deadline = time.monotonic() + ENDS_WITHIN_S
        while not (engines := descendants(it.process.pid)):
            assert time.monotonic() < deadline, "no engine was started"
        it.signal(number)
        status, _, err = it.end()
        assert gone(engines), "an engine outlived the gateway"
        if number == signal.SIGTERM:
            assert (status, err) == (0, "")


@pytest.mark.llamacpp
async def test_a_second_model_starts_when_it_is_asked_for(tmp_path: Path) -> None:
    from homeport.demo import demo_model_path

    config = tmp_path / "homeport.yaml"
    path = demo_model_path()
    config.write_text(
        f"models:\n  one: {{path: {path}, ctx: 1024}}\n  two: {{path: {path}, ctx: 2048}}\n"
    )
    with serve(tmp_path, "--port", "0", "--json", "--config", str(config)) as it:
        url = it.event("listening")["url"]
        assert it.event("model_ready")["model"] == "one"
        assert get(url + "/readyz")[1]["models"]["two"]["state"] == "stopped"
        request = ANTHROPIC.request("Hello!", stream=True, model="two")
        async with await ask(url, "POST", ANTHROPIC.path, request) as exchange:
            assert ANTHROPIC.ended_well(await exchange.all_events())
        models = {
            model["id"]: model["context_length"] for model in get(url + "/v1/models")[1]["data"]
        }
        assert models == {"one": 1024, "two": 2048}
        it.signal(signal.SIGTERM)
        status, _, err = await asyncio.to_thread(it.end)
        assert (status, err) == (0, "")


async def test_model_that_cannot_start(tmp_path: Path) -> None:
    """It listens all the same; requests hear why, and readiness does not lie."""
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + b"\0" * 64)
    with serve(tmp_path, "--port", "0", "--json", "--model", str(broken)) as it:
        url = it.event("listening")["url"]
        said = await asyncio.to_thread(it.event, "model_failed")
        assert said["model"] == "broken"
        assert get(url + "/readyz")[0] == 503
        request = OPENAI.request(stream=True)
        async with await ask(url, "POST", OPENAI.path, request) as exchange:
            assert exchange.status == 503
            assert int(exchange.headers["retry-after"]) >= 1
            OPENAI.error_in(await exchange.json())


@pytest.mark.llamacpp
async def test_a_file_that_is_mended_is_found_by_the_next_request(tmp_path: Path) -> None:
    """One message, with the next step; and the terminal hears that it is there after all."""
    file = tmp_path / "m.gguf"
    file.write_bytes(DEMO[:3_000_000])
    with serve(tmp_path, "--port", "0", "--json", "--model", str(file)) as it:
        url = it.event("listening")["url"]
        said = await asyncio.to_thread(it.event, "model_failed")
        assert said["reason"] == f"m: {file}: m.gguf is cut off: 3.0 of at least 4.2 MB"
        assert "download it again" in said["hint"]
        assert "the next one looks again" in said["after"]
        file.write_bytes(DEMO)
        deadline = time.monotonic() + ENDS_WITHIN_S
        status = 503
        while status == 503:
            assert time.monotonic() < deadline
            async with await ask(
                url, "POST", OPENAI.path, OPENAI.request(stream=False)
            ) as exchange:
                status = exchange.status
            await asyncio.sleep(0.1)
        assert status == 200
        assert (await asyncio.to_thread(it.event, "model_ready"))["model"] == "m"
        it.signal(signal.SIGTERM)
        _, _, err = await asyncio.to_thread(it.end)
        assert err == ""


# --- upstreams ------------------------------------------------------------------------------


async def test_readiness_follows_an_upstream(tmp_path: Path) -> None:
    port = free_port()
    config = tmp_path / "homeport.yaml"
    config.write_text(f"models:\n  it: {{upstream: 'http://127.0.0.1:{port}/v1'}}\n")
    with serve(tmp_path, "--port", "0", "--json", "--config", str(config)) as it:
        url = it.event("listening")["url"]
        it.event("model_failed")
        assert get(url + "/readyz")[0] == 503
        with FakeEngine(port=port):
            deadline = time.monotonic() + ENDS_WITHIN_S
            while get(url + "/readyz")[0] != 200:  # nobody asks for the model
                assert time.monotonic() < deadline
                await asyncio.sleep(0.1)


async def test_two_upstreams_with_one_model_id(tmp_path: Path) -> None:
    """The first one given has the name."""
    with FakeEngine() as first, FakeEngine() as second:
        arguments = ("--upstream", first.base_url, "--upstream", second.base_url)
        with Gateway(tmp_path, *arguments) as gateway:
            (model,) = get(gateway.base_url + "/v1/models")[1]["data"]
            request = OPENAI.request(stream=False, model=model["id"])
            async with await ask(gateway.base_url, "POST", OPENAI.path, request) as exchange:
                assert exchange.status == 200
            assert len(first.chats()) == 1
            assert second.chats() == []


MANY = 2000
SLACK_BYTES = 8_000_000


async def test_many_requests_leak_nothing(tmp_path: Path) -> None:
    """After a warm-up the process stays as big as it is, whatever its requests were like."""
    with FakeEngine() as engine, Gateway(tmp_path, "--upstream", engine.base_url) as gateway:
        await burst(gateway, MANY // 4)
        engine.reset()
        before = gateway.rss_bytes()
        for _ in range(4):
            await burst(gateway, MANY // 4)
            engine.reset()  # its journal grows
        assert gateway.rss_bytes() - before < SLACK_BYTES
        gateway.wait_idle()


async def burst(gateway: Gateway, count: int) -> None:
    async def one(number: int) -> None:
        dialect = (OPENAI, ANTHROPIC)[number % 2]
        request = dialect.request(stream=number % 3 == 0, model=f"name-{number}")
        if number % 10 == 9:
            request["messages"] = "nonsense"
        async with await ask(gateway.base_url, "POST", dialect.path, request) as exchange:
            if number % 7:
                await exchange.body()

    for start in range(0, count, 10):
        await asyncio.gather(*(one(start + i) for i in range(10)))
