"""A stub of an engine as a process: answers like an idle llama.cpp, and misbehaves on demand.

Where ``fake_engine`` is about what an engine says, this is about how a process lives and dies.
Standard library only, one file, run by path.

``GET /die`` ends it with status 9, ``GET /hang`` lets it answer nobody any more, ``GET /whoami`` tells
its pid. ``GET /work?s=SECONDS`` keeps it at work, ``&drip`` with a piece of the answer now and then;
``--one-thread`` answers nobody else meanwhile, ``--chatty`` has it write a line now and then.
Children and itself write their pids to ``--pids FILE``, one per line.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer

FLOOD_LINE = b"x" * 1023 + b"\n"
FORGOTTEN_AFTER_S = 120
"""No stray process of a broken test lives longer."""


def main() -> int:
    options = _options()
    signal.alarm(FORGOTTEN_AFTER_S)
    if options.ignore_sigterm:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _note_pid(options.pids, os.getpid())
    for _ in range(options.grandchildren):
        _fork_daemon(options.pids)
    if options.say:
        print(options.say, flush=True)
    if options.exit is not None:
        return int(options.exit)
    if options.flood:
        threading.Thread(target=_flood, daemon=True).start()
    if options.chatty:
        threading.Thread(target=_chat, daemon=True).start()
    time.sleep(options.listen_after)
    _serve(options)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--listen-after", type=float, default=0.0, help="seconds without a port")
    parser.add_argument("--ready-after", type=float, default=0.0, help="seconds of 503")
    parser.add_argument("--ignore-sigterm", action="store_true")
    parser.add_argument("--flood", action="store_true", help="write to stdout without end")
    parser.add_argument("--chatty", action="store_true", help="write a line every 50 ms")
    parser.add_argument("--one-thread", action="store_true", help="one request after the other")
    parser.add_argument("--hang-after", type=float, help="answer nobody after so many seconds")
    parser.add_argument("--sleeps", action="store_true", help="has vLLM's routes for that")
    parser.add_argument("--grandchildren", type=int, default=0, help="daemons in other sessions")
    parser.add_argument("--pids", help="file that gets the pids")
    parser.add_argument("--say", help="text printed at the start")
    parser.add_argument("--exit", type=int, help="exit with this status at once")
    return parser.parse_args()


def _note_pid(path: str | None, pid: int) -> None:
    if path:
        with open(path, "a") as file:
            file.write(f"{pid}\n")


def _fork_daemon(pids: str | None) -> None:
    """Do what daemons do to escape: new session, parent gone, SIGTERM ignored."""
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        return
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if daemon := os.fork():
        _note_pid(pids, daemon)
        os._exit(0)
    time.sleep(FORGOTTEN_AFTER_S)
    os._exit(0)


flooded_bytes = 0


def _flood() -> None:
    global flooded_bytes
    with contextlib.suppress(OSError):
        while True:
            flooded_bytes += os.write(1, FLOOD_LINE)


def _chat() -> None:
    while True:
        print("still here", flush=True)
        time.sleep(0.05)


def _serve(options: argparse.Namespace) -> None:
    ready_at = time.monotonic() + options.ready_after
    model = {"id": "stub", "object": "model", "created": 1, "owned_by": "llamacpp"}
    settings = {"n_ctx": 4096}
    answers = {
        "/health": {"status": "ok"},
        "/v1/models": {"object": "list", "data": [{**model, "meta": {"n_ctx": 4096}}]},
        "/props": {"default_generation_settings": settings, "total_slots": 2},
    }

    told: list[str] = []
    hangs = threading.Event()
    if options.hang_after is not None:
        threading.Timer(options.hang_after, hangs.set).start()

    class Handler(BaseHTTPRequestHandler):
        server_version, sys_version = "llama.cpp", ""

        def do_GET(self) -> None:
            if self.path == "/hang":
                hangs.set()
            if hangs.is_set():
                threading.Event().wait()
            if self.path.startswith("/work"):
                self.work(float(re.findall(r"s=([\d.]+)", self.path)[0]), "drip" in self.path)
                return
            if self.path == "/die":
                os._exit(9)
            if self.path == "/told":
                self.reply(200, told)
            elif self.path == "/whoami":
                self.reply(200, {"pid": os.getpid(), "flooded_bytes": flooded_bytes})
            elif time.monotonic() < ready_at:
                self.reply(503, {"error": {"code": 503, "message": "Loading model"}})
            elif self.path in answers:
                self.reply(200, answers[self.path])
            else:
                self.reply(404, {"error": {"code": 404}})

        def do_POST(self) -> None:
            """vLLM's sleep; ``GET /told`` lists what it was told."""
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            told.append(f"{self.path} {body.decode()}".strip())
            self.reply(200 if options.sleeps else 404, {})

        def work(self, seconds: float, drips: bool) -> None:
            self.send_response(200)
            self.end_headers()
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                if drips:
                    self.wfile.write(b".")
                time.sleep(0.05)

        def reply(self, status: int, value: object) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    kind = HTTPServer if options.one_thread else ThreadingHTTPServer
    server = kind(("127.0.0.1", options.port), Handler)
    server.serve_forever()


if __name__ == "__main__":
    sys.exit(main())
