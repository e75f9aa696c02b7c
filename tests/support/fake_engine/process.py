"""The fake engine as a process: its command line, its signals, its first line of output."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from tests.support.fake_engine.engine import Engine, Settings, write_log_lines
from tests.support.fake_engine.request import Inbox

GRANDCHILD_LIFE_S = 600


def fork_grandchild() -> int:
    """One that flees into a session of its own, and is deaf to SIGTERM."""
    program = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    program += f"time.sleep({GRANDCHILD_LIFE_S})"
    return subprocess.Popen([sys.executable, "-c", program], start_new_session=True).pid


def ending_signals(options: argparse.Namespace) -> asyncio.Event:
    """Set on SIGTERM and, if asked for, when our standard input is closed."""
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    if options.ignore_sigterm:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        loop.add_signal_handler(signal.SIGTERM, told.set)
    if options.until_stdin_eof:
        loop.add_reader(sys.stdin.fileno(), on_stdin, told)
    return told


def on_stdin(told: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 4096):
        told.set()
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())


async def run(options: argparse.Namespace) -> None:
    told = ending_signals(options)  # before anyone can know that we are here
    engine = Engine(settings_from(options))
    loop = asyncio.get_running_loop()
    server = await loop.create_server(connection_factory(engine), options.host, options.port)
    hello = {"port": server.sockets[0].getsockname()[1], "pid": os.getpid()}
    if options.fork_grandchild:
        hello["grandchild"] = fork_grandchild()
    print(json.dumps(hello), flush=True)
    if options.hello_file:
        options.hello_file.write_text(json.dumps(hello))
    write_log_lines(options.flood_stdout)
    await told.wait()


def connection_factory(engine: Engine) -> Callable[[], asyncio.StreamReaderProtocol]:
    """As `asyncio.start_server` does it, but with our reader."""

    def connection() -> asyncio.StreamReaderProtocol:
        inbox = Inbox()

        def connected(
            _: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> Coroutine[Any, Any, None]:
            return engine.serve_connection(inbox, writer)

        return asyncio.StreamReaderProtocol(inbox, connected)

    return connection


def settings_from(options: argparse.Namespace) -> Settings:
    return Settings(
        model=options.model,
        ctx=options.ctx // options.parallel,
        slots=options.parallel,
        ready_after_s=options.ready_after,
        die_after=options.die_after,
        flood_stdout_bytes=options.flood_stdout,
        api_key=options.api_key,
        has_token_count=not options.no_token_count,
        has_props=not options.no_props,
        has_vision=options.vision,
        responses=options.responses,
    )


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="A scripted engine for tests. Takes llama-server's options, too: those that it "
        "does not know are ignored, so that it can stand in for one.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1")
    add("--port", type=int, default=0, help="0 picks a free one; printed as JSON")
    add("--model", "--alias", default="fake")
    add("--ctx", "-c", type=int, default=131072, help="(pretended) tokens, for all slots together")
    add("--parallel", "-np", type=int, default=1, help="slots")
    add("--api-key", default=os.environ.get("LLAMA_API_KEY"))
    add("--ready-after", type=float, default=0.0, metavar="S", help="load for so long: 503")
    add("--die-after", type=int, metavar="N", help="exit 1 on the chat request after the Nth")
    add("--flood-stdout", type=int, default=0, metavar="BYTES", help="at start, per request")
    add("--fork-grandchild", action="store_true")
    add("--ignore-sigterm", action="store_true")
    add("--hello-file", type=Path, help="write the first line of our output there, too")
    add("--no-token-count", action="store_true")
    add("--no-props", action="store_true")
    add("--vision", action="store_true", help="say that the model sees images")
    add(
        "--responses",
        choices=["none", "right", "llamacpp"],
        default="none",
        help="its /v1/responses",
    )
    add("--until-stdin-eof", action="store_true", help="end when the starter is gone")
    return parser


def main() -> None:
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run(parser().parse_known_args()[0]))
