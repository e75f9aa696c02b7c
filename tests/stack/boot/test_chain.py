"""The boot chain with small real processes as its members.

Each member is a little HTTP server, which says in a common journal what becomes of it; its ``/run``
makes it end, fork, or ignore signals.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from homeport.errors import UpstreamError
from homeport.facts import Command
from homeport.runtime.process import free_port
from homeport.stack.boot import init as boot_init
from homeport.stack.boot.chain import Chain
from homeport.stack.boot.plan import Member, Plan
from homeport.upstream import Client

WITHIN_S = 20.0

SERVER = textwrap.dedent("""
    import http.server, os, signal, sys, threading, time

    name, port, journal, *words = sys.argv[1:]

    def note(text):
        with open(journal, "a") as file:
            file.write(f"{name} {text}\\n")

    def on_signal(number, frame):
        note(signal.Signals(number).name)
        if number == signal.SIGTERM and "stubborn" not in words:
            os._exit(7 if "cuts" in words else 0)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, on_signal)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path == "/die":
                print("these are my last words", flush=True)
                os._exit(3)
            if not noted:
                noted.append(note("asked"))
            self.send_response(503 if "never" in words else 200)
            self.send_header("content-length", "0")
            self.end_headers()
        def log_message(self, *args):
            pass

    noted = []
    note("started")
    if "fails" in words:
        print("cannot", flush=True)
        sys.exit(int(words[words.index("fails") + 1]))
    if "child" in words:
        pid = os.fork()
        if pid == 0:
            os.setsid()
            time.sleep(600)
        note(f"child={pid}")
    if "flood" in words:
        for number in range(20000):
            print(f"line {number}")
        sys.stdout.write("ä" * 10 + "\\n")
        sys.stdout.flush()
    http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()
""")


class Heard:
    """What the narrator was told, in order."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.lines: list[str] = []
        self.waiting_for: list[tuple[Callable[[], bool], asyncio.Event]] = []

    def _tell(self, *event: Any) -> None:
        self.events.append(event)
        for is_so, news in self.waiting_for:
            if is_so():
                news.set()

    async def until(self, *event: Any, times: int = 1) -> None:
        news = asyncio.Event()

        def is_so() -> bool:
            return len([e for e in self.events if e[: len(event)] == event]) >= times

        self.waiting_for.append((is_so, news))
        if not is_so():
            await asyncio.wait_for(news.wait(), WITHIN_S)

    def line(self, member: Member, text: str) -> None:
        self.lines.append(f"[{member.name}] {text}")

    def starting(self, member: Member) -> None:
        self._tell("starting", member.name)

    def waiting(self, member: Member, waited_s: float) -> None:
        self._tell("waiting", member.name)

    def ready(self, member: Member, took_s: float) -> None:
        self._tell("ready", member.name)

    def died(self, member: Member, reason: str, last_lines: list[str], retry_s: Any) -> None:
        self._tell("died", member.name, reason, tuple(last_lines), retry_s)

    def complete(self) -> None:
        self._tell("complete")

    def stopping(self) -> None:
        self._tell("stopping")

    def killed(self, member: Member, after_s: float) -> None:
        self._tell("killed", member.name)

    def stopped(self, exit_code: int) -> None:
        self._tell("stopped", exit_code)


class Town:
    """A chain of such members, its narrator and its journal."""

    def __init__(self, folder: Path) -> None:
        self.heard, self._folder = Heard(), folder
        self.members: list[Member] = []

    def add(self, name: str, *words: str, **more: Any) -> Member:
        port = free_port()
        program = (sys.executable, "-S", "-c", SERVER)
        member = Member(
            name=name,
            title=f"the {name}",
            command=Command(argv=(*program, name, str(port), str(self._journal), *words)),
            port=port,
            ready_url=f"http://127.0.0.1:{port}/",
            exit_code=40 + len(self.members),
            **more,
        )
        self.members.append(member)
        return member

    @property
    def _journal(self) -> Path:
        return self._folder / "journal"

    def journal(self) -> list[str]:
        return self._journal.read_text().splitlines() if self._journal.exists() else []

    async def until_noted(self, line: str) -> None:
        """The journal is a file of other processes: there is no event to wait for."""
        deadline = time.monotonic() + WITHIN_S
        while line not in self.journal():
            assert time.monotonic() < deadline, self.journal()
            await asyncio.sleep(0.01)

    async def get(self, member: Member, path: str) -> None:
        with contextlib.suppress(UpstreamError):
            await self.client.fetch(f"http://127.0.0.1:{member.port}{path}")

    async def run(self, **more: Any) -> int:
        self.client = Client()
        plan = Plan(members=tuple(self.members), key_from="")
        options: dict[str, Any] = {"backoff": lambda attempt: 0.01 if attempt <= 3 else None}
        self.chain = Chain(plan, self.client.fetch, self.heard, **(options | more))
        try:
            return await self.chain.run()
        finally:
            await self.client.close()

    def begin(self, **more: Any) -> asyncio.Task[int]:
        return asyncio.create_task(self.run(**more))


@pytest.fixture
def town(tmp_path: Path) -> Town:
    return Town(tmp_path)


async def test_each_waits_for_the_one_before_and_ends_before_it(town: Town) -> None:
    for name in ("one", "two", "three"):
        town.add(name)
    running = town.begin()
    await town.heard.until("complete")
    os.kill(os.getpid(), signal.SIGTERM)
    assert await running == 0
    assert town.journal() == [
        *("one started", "one asked", "two started", "two asked", "three started", "three asked"),
        *("three SIGTERM", "two SIGTERM", "one SIGTERM"),
    ]
    assert town.heard.events[-2:] == [("stopping",), ("stopped", 0)]


async def test_one_that_dies_is_started_again_and_the_others_go_on(town: Town) -> None:
    first, second = town.add("one"), town.add("two")
    running = town.begin()
    await town.heard.until("complete")
    await town.get(first, "/die")
    await town.heard.until("ready", "one", times=2)
    town.chain.stop()
    assert await running == 0
    (died,) = [event for event in town.heard.events if event[0] == "died"]
    assert died[1:] == ("one", "exited with status 3", ("these are my last words",), 0.01)
    assert town.journal().count("one started") == 2
    assert town.journal().count("two started") == 1
    assert second.name == "two"


async def test_one_that_dies_too_often_ends_the_chain_with_its_code(town: Town) -> None:
    town.add("one")
    town.add("two", "fails", "9")
    assert await town.run() == 41
    died = [event for event in town.heard.events if event[0] == "died"]
    assert [event[4] for event in died] == [0.01, 0.01, 0.01, None]
    assert {event[2] for event in died} == {"did not start: exited with status 9"}
    assert {event[3] for event in died} == {("cannot",)}
    assert town.journal()[-1] == "one SIGTERM", "nobody is left behind"


async def test_a_status_that_no_start_would_change_ends_it_at_once(town: Town) -> None:
    town.add("one", "fails", "2", hopeless=(2,))
    assert await town.run() == 2
    assert town.journal() == ["one started"]


async def test_one_that_does_not_get_ready(town: Town) -> None:
    town.add("one", "never")
    assert await town.run(startup_timeout_s=0.2, backoff=lambda attempt: None) == 40
    (died,) = [event for event in town.heard.events if event[0] == "died"]
    assert died[2] == "did not start: not ready after 0 s"


async def test_a_port_that_is_taken(town: Town) -> None:
    member = town.add("one")
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", member.port)
    async with server:
        assert await town.run(backoff=lambda attempt: None) == 40
    (died,) = [event for event in town.heard.events if event[0] == "died"]
    assert died[2] == f"did not start: port {member.port} is taken"
    assert town.journal() == []


async def test_a_program_that_is_not_there(town: Town) -> None:
    member = town.add("one")
    command = Command(argv=("/no/such/program",))
    town.members = [Member(**{**_fields(member), "command": command})]
    assert await town.run() == 40
    assert "[one] cannot start /no/such/program: No such file or directory" in town.heard.lines


async def test_a_bug_of_ours_ends_the_chain_and_the_exit_code_tells(town: Town) -> None:
    town.add("one")

    async def broken(*args: Any) -> Any:
        raise RuntimeError("no such thing")

    assert (
        await Chain(Plan(members=tuple(town.members), key_from=""), broken, town.heard).run() == 40
    )
    (died,) = [event for event in town.heard.events if event[0] == "died"]
    assert died[2] == "is not watched any more: RuntimeError('no such thing')"


async def test_who_does_not_hear_is_killed_and_the_exit_code_tells(town: Town) -> None:
    town.add("one")
    town.add("two", "stubborn", grace_s=0.2)
    running = town.begin()
    await town.heard.until("complete")
    town.chain.stop()
    assert await running == 1
    assert ("killed", "two") in town.heard.events
    assert town.journal()[-2:] == ["two SIGTERM", "one SIGTERM"]


async def test_asked_twice_it_ends_at_once(town: Town) -> None:
    town.add("one", "stubborn", grace_s=600)
    running = town.begin()
    await town.heard.until("complete")
    os.kill(os.getpid(), signal.SIGINT)
    await town.heard.until("stopping")
    os.kill(os.getpid(), signal.SIGINT)
    assert await asyncio.wait_for(running, WITHIN_S) == 1


async def test_a_member_that_says_that_it_has_cut_something(town: Town) -> None:
    town.add("one", "cuts", cut=(7,))
    running = town.begin()
    await town.heard.until("complete")
    town.chain.stop()
    assert await running == 1


async def test_stopped_while_the_first_is_not_ready(town: Town) -> None:
    town.add("one", "never")
    town.add("two")
    running = town.begin()
    await town.heard.until("starting", "one")
    await town.until_noted("one asked")
    town.chain.stop()
    assert await running == 0
    assert town.journal()[-1] == "one SIGTERM"
    assert "two started" not in town.journal()


async def test_hangup_goes_to_the_last_one_alone(town: Town) -> None:
    town.add("one")
    town.add("two")
    running = town.begin()
    await town.heard.until("complete")
    os.kill(os.getpid(), signal.SIGHUP)
    await town.until_noted("two SIGHUP")
    town.chain.stop()
    assert await running == 0
    assert "one SIGHUP" not in town.journal()


async def test_a_detached_child_is_ended_with_its_member(town: Town) -> None:
    town.add("one", "child")
    running = town.begin()
    await town.heard.until("complete")
    (line,) = [line for line in town.journal() if "child=" in line]
    pid = int(line.partition("=")[2])
    assert psutil.pid_exists(pid)
    town.chain.stop()
    assert await running == 0
    assert not psutil.pid_exists(pid)


async def test_no_line_is_lost_or_mixed_with_another(town: Town) -> None:
    """More than is kept for anybody who asks later."""
    town.add("one", "flood")
    town.add("two", "flood")
    running = town.begin()
    await town.heard.until("complete")
    town.chain.stop()
    await running
    wanted = [*(f"line {number}" for number in range(20000)), "ä" * 10]
    for name in ("one", "two"):
        own = [line for line in town.heard.lines if line.startswith(f"[{name}] ")]
        assert own == [f"[{name}] {text}" for text in wanted]


def _fields(member: Member) -> dict[str, Any]:
    return {name: getattr(member, name) for name in member.__struct_fields__}


# --- process 1 ------------------------------------------------------------------------------------

INIT = textwrap.dedent("""
    import ctypes, os, signal, sys, time
    sys.path.insert(0, sys.argv[1])
    from homeport.stack.boot import init as boot_init

    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # orphans come here, as they do to process 1
    boot_init.split_off()

    def on_signal(number, frame):
        os.write(1, f"{signal.Signals(number).name}\\n".encode())  # print may be at work just now
        if number == signal.SIGTERM:
            os._exit(5)
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, on_signal)
    if os.fork() == 0:  # a parent that leaves its child behind
        orphan = os.fork()
        if orphan == 0:
            os.read(0, 1)
            os._exit(0)
        print(f"orphan {orphan}", flush=True)
        os._exit(0)
    os.wait()
    print("ready", flush=True)
    while True:
        signal.pause()
""")


@pytest.fixture
def init() -> Any:
    source = str(Path(boot_init.__file__).parents[3])
    with subprocess.Popen(
        [sys.executable, "-c", INIT, source], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        yield process
        process.kill()


def lines_until(process: Any, wanted: str) -> list[str]:
    found: list[str] = []
    while wanted not in found:
        line = process.stdout.readline()
        assert line, found
        found.append(line.decode().strip())
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="containers are Linux's")
def test_process_1_collects_orphans_and_hands_signals_on(init: Any) -> None:
    (orphan, *_) = [int(line.split()[1]) for line in lines_until(init, "ready") if "orphan" in line]
    assert psutil.Process(orphan).ppid() == init.pid, "else there is nothing to show"
    init.stdin.close()  # now it ends
    psutil.wait_procs([psutil.Process(orphan)] if psutil.pid_exists(orphan) else [], WITHIN_S)
    assert not psutil.pid_exists(orphan), "not even as a zombie"
    init.send_signal(signal.SIGHUP)
    lines_until(init, "SIGHUP")
    init.send_signal(signal.SIGTERM)
    lines_until(init, "SIGTERM")
    assert init.wait(WITHIN_S) == 5


@pytest.mark.skipif(sys.platform != "linux", reason="containers are Linux's")
def test_process_1_tells_which_signal_has_ended_the_work(init: Any) -> None:
    lines_until(init, "ready")
    init.send_signal(signal.SIGINT)
    assert init.wait(WITHIN_S) == 128 + signal.SIGINT
