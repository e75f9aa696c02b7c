"""What counting tokens costs: 25 ``count_tokens`` at once, as Claude Code's ``/context`` asks them.

The only suite with a real engine: ``homeport serve`` with the demo model on llama.cpp. Asked are the
gateway, in Anthropic's dialect, and the engine itself at its own port, with the very request that the
gateway makes of it; CPU is that of both processes in either case, so that the difference is what the
gateway adds. Direct and through take turns.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import contestants, load, processes
from bench.bodies import body, post
from bench.processes import BenchError, Child
from bench.suites import Effort, Samples, talk
from homeport.engines import llamacpp
from homeport.facts import ModelFacts
from homeport.wire import anthropic, openai_chat_upstream

AT_ONCE = 25
TRIES = 3
"""The least of so many counts in a round: the clock sees all else that the machine does."""
SIZES = {"5KB": 5 * 1024, "20KB": 20 * 1024, "60KB": 60 * 1024}
START_S = 60.0
COUNT_PATH = "/v1/messages/count_tokens"
ENGINE_PATH = "/v1/chat/completions/input_tokens"
DIRECT, THROUGH = "llamacpp/direct", "homeport/messages"
MODEL = "homeport-demo"


@dataclass(frozen=True)
class Served:
    """A gateway, and the port and key of the engine behind it."""

    gateway: Child
    engine_port: int
    key: str


def measure(effort: Effort) -> Samples:
    samples: Samples = {}
    with _served() as served:
        for label, size_bytes in SIZES.items():
            asked = _requests(served, size_bytes)
            for port, request in asked.values():  # warm
                load.drive(port, request, connections=AT_ONCE, seconds=START_S, limit=AT_ONCE)
            for turn in range(effort.rounds):
                talk(f"counting {label}: round {turn + 1} of {effort.rounds}")
                for lane, (port, request) in asked.items():
                    runs = [_once(served, port, request) for _ in range(TRIES)]
                    for metric, values in zip(
                        ("cpu", "wall"), zip(*runs, strict=True), strict=True
                    ):
                        name = f"count.{label}.{metric}_ms"
                        samples.setdefault(name, {}).setdefault(lane, []).append(min(values))
    return samples


def _once(served: Served, port: int, request: bytes) -> tuple[float, float]:
    """CPU and time of all counts, in ms."""
    before_s = served.gateway.cpu_s()
    done = load.drive(port, request, connections=AT_ONCE, seconds=START_S, limit=AT_ONCE)
    return (served.gateway.cpu_s() - before_s) * 1e3, done.seconds * 1e3


def _requests(served: Served, size_bytes: int) -> dict[str, tuple[int, bytes]]:
    ours = body("messages", size_bytes)
    request = anthropic.decode(ours, counting=True)
    theirs = openai_chat_upstream.encode(request, llamacpp.FACTS, ModelFacts(name=MODEL))
    return {
        DIRECT: (served.engine_port, post(ENGINE_PATH, theirs, key=served.key)),
        THROUGH: (served.gateway.port, post(COUNT_PATH, ours)),
    }


@contextmanager
def _served() -> Iterator[Served]:
    with tempfile.TemporaryDirectory(prefix="homeport-bench-") as folder:
        port = processes.free_port()
        (Path(folder) / "home").mkdir()
        env = dict.fromkeys(contestants.HOMES, f"{folder}/home")
        command = [sys.executable, "-m", "homeport", "serve", "--demo", "--port", str(port)]
        gateway = processes.spawn("homeport", command, port, Path(folder), env)
        try:
            processes.wait_healthy(gateway, "/health", START_S)
            first = post("/v1/messages", body("messages", 100))  # waits until the engine is there
            load.drive(port, first, connections=1, seconds=START_S, limit=1)
            yield Served(gateway, *_engine_of(gateway))
        finally:
            processes.stop(gateway)


def _engine_of(gateway: Child) -> tuple[int, str]:
    """Port and key, read off the engine's process."""
    for process in gateway.tree():
        words = process.cmdline()
        is_engine = "homeport.runtime.llamacpp_child" in words and "--port" in words
        if is_engine and "homeport.runtime.shim" not in words:
            port = int(words[words.index("--port") + 1])
            return port, process.environ().get("LLAMA_API_KEY", "")
    raise BenchError("the gateway has no llama.cpp")
