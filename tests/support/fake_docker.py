"""A scripted Docker: a daemon that owns the containers, and a client that only waits for them.

What matters about containers here is whose children they are. So there is a daemon, a process of its
own, and `docker` is a small client that talks to it over a socket: kill the client, and the container
goes on. Standard library only. What the client says, in which words and with which status, follows
Docker 26.

    with FakeDocker(folder) as docker:   # docker.program stands in for `docker`
        ...

The image decides what happens: `stub:…` runs `stub_server.py` with the words behind the image;
`missing`, `no-network`, `no-program`, `no-gpu` fail as Docker would; `slow-pull` pulls for a minute.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

STUB = Path(__file__).with_name("stub_server.py")
ERROR = "docker: Error response from daemon: "
FAILURES = {
    "missing": (
        f"Unable to find image 'missing:1' locally\n{ERROR}pull access denied for missing, "
        "repository does not exist or may require 'docker login'.\n",
        125,
    ),
    "no-network": (
        f"Unable to find image 'no-network:1' locally\n{ERROR}Get "
        '"https://registry.invalid/v2/": dial tcp: lookup registry.invalid: no such host.\n',
        125,
    ),
    "no-program": (
        f"{ERROR}failed to create task for container: exec: \"x\": executable file not found in "
        "$PATH: unknown.\n",
        127,
    ),
    "no-gpu": (f'{ERROR}could not select device driver "" with capabilities: [[gpu]].\n', 125),
}  # fmt: skip
FLAGS = ("--rm", "--init")
"""Of `docker run`, without a value."""

Json = dict[str, Any]


# --- the test's side ------------------------------------------------------------------------


class FakeDocker:
    """The daemon, and `program`, the client's path."""

    def __init__(self, folder: Path) -> None:
        self._socket = folder / "docker.sock"
        self.program = folder / "docker"
        words = f"{sys.executable} -S {__file__} {self._socket}"
        self.program.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        self.program.chmod(0o755)

    def __enter__(self) -> Self:
        command = [sys.executable, "-S", __file__, str(self._socket), "daemon"]
        self._daemon = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._daemon.stdout is not None
        assert self._daemon.stdout.readline(), "the daemon did not start"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """The daemon ends, and its containers with it."""
        assert self._daemon.stdin is not None
        self._daemon.stdin.close()
        self._daemon.wait(10)
        assert self._daemon.stdout is not None
        self._daemon.stdout.close()

    def containers(self) -> dict[str, Json]:
        """By name: `pid`, `labels` and the `env` that was seen."""
        found: dict[str, Json] = asked(self._socket, "list")
        return found

    def calls(self) -> list[list[str]]:
        """What the client has been asked so far."""
        made: list[list[str]] = asked(self._socket, "calls")
        return made

    def run(self, name: str, *labels: str) -> None:
        """A container that somebody has started, and that goes on."""
        words = [word for label in labels for word in ("--label", label)]
        command = [
            str(self.program),
            "run",
            "--rm",
            "--name",
            name,
            *words,
            "stub:1",
            "--port",
            "0",
        ]
        client = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while name not in self.containers():
            time.sleep(0.01)
        client.kill()
        client.wait()


def asked(path: Path, op: str) -> Any:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        sock.sendall(json.dumps({"op": op}).encode() + b"\n")
        with sock.makefile("r") as lines:
            return json.loads(lines.readline())["value"]


# --- the client -----------------------------------------------------------------------------


def client(path: str, words: list[str]) -> int:
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.connect(path)
    except OSError:
        what = "docker: " if words[0] == "run" else ""
        print(
            f"{what}Cannot connect to the Docker daemon at unix://{path}. "
            "Is the docker daemon running?",
            file=sys.stderr,
        )
        return 125 if words[0] == "run" else 1
    env = dict(os.environ)
    sock.sendall(json.dumps({"op": words[0], "words": words[1:], "env": env}).encode() + b"\n")
    signal.signal(signal.SIGTERM, lambda *_: sock.sendall(b"TERM\n"))
    with sock.makefile("r") as lines:
        for line in lines:
            said = json.loads(line)
            if "status" in said:
                return int(said["status"])
            stream = sys.stderr if said.get("err") else sys.stdout
            stream.write(said["text"])
            stream.flush()
    return 125  # the daemon has gone


# --- the daemon -----------------------------------------------------------------------------


class Daemon:
    def __init__(self) -> None:
        self.containers: dict[str, Json] = {}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.calls: list[list[str]] = []
        self.lock = threading.Lock()

    def serve(self, path: str) -> None:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen()
        print("ready", flush=True)
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=self.handle, args=(connection,), daemon=True).start()

    def handle(self, connection: socket.socket) -> None:
        lines = connection.makefile("r")
        request = json.loads(lines.readline())
        words = request.get("words", [])

        def tell(**said: Any) -> None:
            with contextlib.suppress(OSError):  # a client that was killed changes nothing
                connection.sendall(json.dumps(said).encode() + b"\n")

        match request["op"]:
            case "list":
                tell(value=self.containers)
            case "calls":
                tell(value=self.calls)
            case op:
                self.calls.append([op, *words])
                tell(status=getattr(self, op)(words, request["env"], lines, tell))
        lines.close()
        connection.close()

    def run(self, words: list[str], env: Json, lines: Any, tell: Any) -> int:
        options, image, command = parsed(words)
        name, kind = options["--name"][0], image.partition(":")[0]
        failure = FAILURES.get(kind)
        if failure is None and name in self.containers:
            failure = (
                f'{ERROR}Conflict. The container name "/{name}" is already in use by container "x".\n',
                125,
            )
        if failure is not None:
            tell(text=failure[0], err=True)
            return failure[1]
        if kind == "slow-pull":
            tell(
                text=f"Unable to find image '{image}' locally\n1: Pulling from slow-pull\n",
                err=True,
            )
            return 130 if lines.readline() else 125  # a signal ends the client
        given = [word.partition("=")[::2] for word in options.get("--env", [])]
        inside = {key: value or env.get(key, "") for key, value in given}
        with self.lock:
            process = subprocess.Popen(
                [sys.executable, "-S", str(STUB), *command],
                env={"PATH": os.environ["PATH"], **inside},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self.processes[name] = process
            labels = dict(label.partition("=")[::2] for label in options.get("--label", []))
            self.containers[name] = {
                "pid": process.pid,
                "id": secrets.token_hex(32),
                "labels": labels,
                "env": inside,
            }
        threading.Thread(target=pass_signals, args=(lines, process), daemon=True).start()
        assert process.stdout is not None
        for line in process.stdout:
            tell(text=line.decode(errors="replace"))
        status = process.wait()
        self.removed(name)
        return 128 - status if status < 0 else status

    def removed(self, name: str) -> None:
        with self.lock:
            self.containers.pop(name, None)
            self.processes.pop(name, None)

    def stop(self, words: list[str], env: Json, lines: Any, tell: Any) -> int:
        *_, patience_s, name = words
        process = self.processes.get(name)
        if process is None:
            tell(text=f"Error response from daemon: No such container: {name}\n", err=True)
            return 1
        process.terminate()
        try:
            process.wait(float(patience_s))
        except subprocess.TimeoutExpired:
            end(process)
        return 0

    def rm(self, words: list[str], env: Json, lines: Any, tell: Any) -> int:
        wanted = words[-1]
        for name, container in list(self.containers.items()):
            if wanted in (name, container["id"]):
                end(self.processes[name])
                self.removed(name)
                return 0
        tell(text=f"Error response from daemon: No such container: {wanted}\n", err=True)
        return 1

    def inspect(self, words: list[str], env: Json, lines: Any, tell: Any) -> int:
        container = self.containers.get(words[-1])
        if container is None:
            tell(text=f"Error: No such object: {words[-1]}\n", err=True)
            return 1
        tell(text=f"{container['pid']} {container['id']}\n")
        return 0

    def ps(self, words: list[str], env: Json, lines: Any, tell: Any) -> int:
        for name, container in self.containers.items():
            labels = container["labels"]
            if "homeport.owner" in labels:
                shown = (name, labels.get("homeport.instance", ""), labels["homeport.owner"])
                tell(text="\t".join((container["id"], *shown)) + "\n")
        return 0


def parsed(words: list[str]) -> tuple[dict[str, list[str]], str, list[str]]:
    """Options with their values, the image, the words behind it."""
    options: dict[str, list[str]] = {}
    rest = list(words)
    while rest[0].startswith("--"):
        flag = rest.pop(0)
        options.setdefault(flag, []).append("" if flag in FLAGS else rest.pop(0))
    return options, rest[0], rest[1:]


def pass_signals(lines: Any, process: subprocess.Popen[bytes]) -> None:
    """What reaches the client reaches the container (`--sig-proxy`)."""
    with contextlib.suppress(OSError, ValueError):
        for _ in lines:
            process.terminate()


def end(process: subprocess.Popen[bytes]) -> None:
    """A container ends with all that is in it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def main(path: str, words: list[str]) -> int:
    if words != ["daemon"]:
        return client(path, words)
    daemon = Daemon()
    threading.Thread(target=daemon.serve, args=(path,), daemon=True).start()
    sys.stdin.read()
    for process in list(daemon.processes.values()):
        end(process)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
