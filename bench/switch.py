"""What a switch of models costs: from a request for a model that is not loaded to its first token.

Two copies of the demo model on real llama.cpp, of which one may run at a time. Through homeport they
are asked in turn, so that each request evicts one and starts the other. Beside each switch the same is
done by hand, without a gateway: the engine of the one is ended, the other's started cold with the same
command line, asked until it is healthy, and asked for its first token. The sum of these three is what
no gateway can be faster than; ``min_dwell_s`` is 0, since waiting is policy and no cost.

The demo model alone is up in less than a tenth of a second, as no real model ever is: there a switch
shows what the gateway adds. With half a gigabyte of context to be laid out it takes about as long as a
small real model from the page cache; the target is judged there.
"""

from __future__ import annotations

import http.client
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import contestants, processes
from bench.processes import BenchError, Child
from bench.suites import Effort, Samples, talk
from homeport.demo import demo_model_path

SWITCHES = 20
START_S = 60.0
MODELS = ("one", "two")
BY_HAND, THROUGH = "llamacpp/by hand", "homeport/chat"
CONTEXTS = {"demo": 4096, "512MB": 131072}
"""Per slot; two slots."""
CONFIG = """
lifecycle:
  min_dwell_s: 0
  groups: {only: {}}
models:
"""


def measure(effort: Effort) -> Samples:
    switches = SWITCHES if effort.rounds > 3 else 6
    return {
        f"switch.{label}.first_token_s": _measured(label, ctx, switches)
        for label, ctx in CONTEXTS.items()
    }


def _measured(label: str, ctx: int, switches: int) -> dict[str, list[float]]:
    through, by_hand = list[float](), list[float]()
    with tempfile.TemporaryDirectory(prefix="homeport-bench-") as name:
        folder = Path(name)
        with _gateway(folder, ctx) as gateway:
            for model in MODELS:  # files in the page cache, for both alike
                _first_token(gateway.port, model)
            hand = _start(folder, MODELS[0], ctx)
            try:
                for turn in range(switches):
                    talk(f"switching, {label}: {turn + 1} of {switches}")
                    model = MODELS[turn % 2]
                    through.append(_first_token(gateway.port, model))
                    began = time.perf_counter()
                    processes.stop(hand)
                    hand = _start(folder, model, ctx)
                    _first_token(hand.port, model)
                    by_hand.append(time.perf_counter() - began)
            finally:
                processes.stop(hand)
    return {BY_HAND: by_hand, THROUGH: through}


def _first_token(port: int, model: str) -> float:
    """Ask for a stream; return the seconds until its first token."""
    messages = [{"role": "user", "content": "Say hello."}]
    body = {"model": model, "max_tokens": 1, "stream": True, "messages": messages}
    began = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=START_S)
    try:
        headers = {"content-type": "application/json", "authorization": "Bearer bench"}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        answer = connection.getresponse()
        for line in answer:
            if b'"content":"' in line and b'"content":""' not in line:
                return time.perf_counter() - began
        raise BenchError(f"{model} on port {port} gave no token (status {answer.status})")
    finally:
        connection.close()


def _start(folder: Path, model: str, ctx: int) -> Child:
    """The engine alone, as homeport starts it."""
    port = processes.free_port()
    command = [sys.executable, "-m", "homeport.runtime.llamacpp_child"]
    command += ["-m", str(_path(folder, model)), "--port", str(port), "--alias", model]
    command += ["-c", str(2 * ctx), "-np", "2"]
    engine = processes.spawn(f"llamacpp-{model}", command, port, folder)
    processes.wait_healthy(engine, "/health", START_S)
    return engine


@contextmanager
def _gateway(folder: Path, ctx: int) -> Iterator[Child]:
    for model in MODELS:
        _path(folder, model).write_bytes(demo_model_path().read_bytes())
    rows = [f"  {m}: {{path: {_path(folder, m)}, ctx: {ctx}, group: only}}\n" for m in MODELS]
    config = folder / "homeport.yaml"
    config.write_text(CONFIG + "".join(rows))
    port = processes.free_port()
    (folder / "home").mkdir()
    env = dict.fromkeys(contestants.HOMES, f"{folder}/home")
    command = [sys.executable, "-m", "homeport", "serve", "--config", str(config)]
    gateway = processes.spawn("homeport", [*command, "--port", str(port)], port, folder, env)
    try:
        processes.wait_healthy(gateway, "/health", START_S)
        yield gateway
    finally:
        processes.stop(gateway)


def _path(folder: Path, model: str) -> Path:
    return folder / f"{model}.gguf"
