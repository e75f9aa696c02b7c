"""The fake engine from a test's side: start it, script it, ask what it saw, end it.

`fake_engine` is the process; this is its handle. Control calls are plain blocking HTTP, quick
and on loopback; the one that waits has an async twin, so that a test's own client keeps running.

    with FakeEngine() as engine:
        engine.script(Answer(text="hi"), Answer(then="cut", at=3))
        ...
        await engine.happens("disconnect")
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.fake_engine.script import CHAT_PATH, Answer, ToolCall, When

__all__ = ["Answer", "FakeEngine", "ToolCall", "When"]

PROGRAM = Path(__file__).with_name("fake_engine")
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 5.0
WAIT_S = 15.0
"""How long a test waits for what should happen at once, on a machine that may be busy."""

_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class FakeEngine:
    """One fake engine process. `options` are its command line's, as keywords."""

    def __init__(self, **options: str | float | bool) -> None:
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._output = bytearray()
        self._reader: threading.Thread | None = None
        self.port = 0
        self.grandchild_pid: int | None = None

    def __repr__(self) -> str:
        code = self._process.poll() if self._process else "not started"
        state = "running" if code is None else f"ended ({code})"
        return f"<FakeEngine port={self.port} {state}>"

    # life

    def start(self) -> Self:
        command = [sys.executable, str(PROGRAM), "--until-stdin-eof", *self._arguments()]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe)
        self.greet(json.loads(self._first_line()))
        self._reader = threading.Thread(target=self._read_on, daemon=True)
        self._reader.start()
        return self

    @classmethod
    def running_at(cls, hello_file: Path) -> Self:
        """A handle to one that somebody else started with `--hello-file` (and ends)."""
        engine = cls()
        engine.greet(json.loads(hello_file.read_text()))
        return engine

    def greet(self, hello: dict[str, int]) -> None:
        self.port = hello["port"]
        self.grandchild_pid = hello.get("grandchild")

    def stop(self, patience_s: float = STOP_TIMEOUT_S) -> int:
        """End the process (and its grandchild), gently first. Returns its exit status.

        Twice is harmless."""
        process = self._running()
        self._end_grandchild()
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            process.kill()
        code = process.wait(STOP_TIMEOUT_S)
        if self._reader:
            self._reader.join(STOP_TIMEOUT_S)
        for pipe in (process.stdin, process.stdout):
            if pipe:
                pipe.close()
        return code

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def wait_end(self) -> int:
        """Wait until the process ends by itself; its exit status."""
        return self._running().wait(WAIT_S)

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def base_url(self) -> str:
        """What a gateway takes as its upstream."""
        return f"http://127.0.0.1:{self.port}/v1"

    def output(self) -> str:
        """What the engine wrote to its standard output after the first line, so far."""
        return self._output.decode("utf-8", "replace")

    # control

    def script(self, *answers: Answer) -> None:
        """Queue answers; each chat request takes the first one that fits."""
        self._call("POST", "/_fake/script", [answer.to_json() for answer in answers])

    def reset(self) -> None:
        self._call("POST", "/_fake/reset")

    def requests(self, path: str = "") -> list[dict[str, Any]]:
        """All requests so far, oldest first; only those whose path ends with `path`."""
        found = self._call("GET", "/_fake/requests")["requests"]
        return [request for request in found if request["path"].endswith(path)]

    def chats(self) -> list[dict[str, Any]]:
        return self.requests(CHAT_PATH)

    def wait(
        self, event: str, count: int = 1, *, timeout_s: float = WAIT_S, path: str = CHAT_PATH
    ) -> None:
        """Block until `count` requests carry the mark `event`; raises `AssertionError`."""
        query = f"event={event}&count={count}&timeout={timeout_s}&path={path}"
        answer = self._call("GET", f"/_fake/wait?{query}", timeout_s=timeout_s + 5)
        if not answer["ok"]:
            seen = [(r["path"], r["marks"]) for r in self.requests()]
            raise AssertionError(
                f"no {count} x {event!r} within {timeout_s} s, but {answer['count']}; seen: {seen}"
            )

    async def happens(
        self, event: str, count: int = 1, *, timeout_s: float = WAIT_S, path: str = CHAT_PATH
    ) -> None:
        """`wait` without blocking the event loop."""
        await asyncio.to_thread(self.wait, event, count, timeout_s=timeout_s, path=path)

    # inside

    def _arguments(self) -> list[str]:
        arguments = []
        for name, value in self._options.items():
            flag = "--" + name.replace("_", "-")
            if value is True:
                arguments.append(flag)
            elif value is not False:
                arguments += [flag, str(value)]
        return arguments

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the fake engine has not been started")
        return self._process

    def _first_line(self) -> bytes:
        """Bounded by the process: it prints, or a timer ends it and the read returns."""
        process = self._running()
        timer = threading.Timer(START_TIMEOUT_S, process.kill)
        timer.start()
        try:
            line = process.stdout.readline() if process.stdout else b""
        finally:
            timer.cancel()
        if not line:
            raise RuntimeError(f"the fake engine did not start: exit status {process.wait()}")
        return line

    def _read_on(self) -> None:
        stdout = self._running().stdout
        while stdout and (data := stdout.read1(65536)):  # type: ignore[attr-defined]  # buffered
            self._output += data

    def _end_grandchild(self) -> None:
        if self.grandchild_pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.grandchild_pid, signal.SIGKILL)

    def _call(
        self, method: str, path: str, value: object = None, timeout_s: float = WAIT_S
    ) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self.port}{path}"
        data = json.dumps(value).encode() if method == "POST" else None
        request = urllib.request.Request(url, data, method=method)
        with _opener.open(request, timeout=timeout_s) as response:
            answer: dict[str, Any] = json.load(response)
        return answer
