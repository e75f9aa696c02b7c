"""What is measured. Each suite yields samples; contestants take turns inside every
round, one right after the other, so that a ratio can be taken round by round.

- **request**: CPU time per request without streaming, 1 KB body, at 1, 8 and 32 connections.
- **stream**: CPU time per upstream SSE event. Taken as a slope (a stream of many events minus one
  of few, divided by the difference), so that what a request costs by itself is out.
- **latency**: what a contestant adds to the time of a request on one connection, body 1, 100 and
  500 KB: the quantile through it minus the quantile without it. Direct and through take turns
  request by request.
- **startup**: spawn to the first accepted connection, and to the first 200 of the health path.
- **memory**: resident memory of the process tree after the load of this run.
- **count**: 25 `count_tokens` at once, on the real llama.cpp: CPU and time (see count.py).
- **switch**: from one model to another, to the first token, on the real llama.cpp (see switch.py).
- **record**: CPU per request with and without the store of usage (see record.py).

A sample is one number; a metric collects the samples of all rounds, and ``report`` takes medians.
"""

from __future__ import annotations

import itertools
import math
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench import contestants, load, processes
from bench.bodies import request
from bench.contestants import Kind, Lane
from bench.processes import Child

CONNECTIONS = (1, 8, 32)
STREAMS = (1, 8)
SIZES = {"1KB": 1024, "100KB": 100 * 1024, "500KB": 500 * 1024}
MAX_REQUESTS = 200_000

#: metric -> lane -> samples
Samples = dict[str, dict[str, list[float]]]


@dataclass(frozen=True)
class Effort:
    """How much of everything. A slow contestant gets the small figures: it needs no more."""

    rounds: int = 9
    slow_rounds: int = 3
    window_s: float = 0.4
    slow_window_s: float = 1.5
    few_events: int = 20
    many_events: int = 500
    latency_requests: int = 400
    slow_latency_requests: int = 40
    starts: int = 5
    slow_starts: int = 1


QUICK = Effort(
    rounds=3,
    slow_rounds=1,
    window_s=0.25,
    slow_window_s=1.0,
    many_events=300,
    latency_requests=120,
    slow_latency_requests=15,
    starts=3,
)


@dataclass
class Bench:
    """One run: the engine, the lanes in front of it, and the samples so far."""

    engine: Child
    effort: Effort
    lanes: list[Lane] = field(default_factory=list)
    samples: Samples = field(default_factory=dict)

    def record(self, metric: str, lane: str, value: float) -> None:
        self.samples.setdefault(metric, {}).setdefault(lane, []).append(value)

    def rounds(self, what: str) -> Iterator[list[Lane]]:
        """The lanes of each round: all of them at first, without the slow ones later."""
        for turn in range(self.effort.rounds):
            talk(f"{what}: round {turn + 1} of {self.effort.rounds}")
            yield [lane for lane in self.lanes if not lane.slow or turn < self.effort.slow_rounds]


def talk(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextmanager
def prepared(kinds: Sequence[Kind], effort: Effort) -> Iterator[Bench]:
    """Engine and contestants running, every lane warmed up."""
    with ExitStack() as stack:
        bench = Bench(stack.enter_context(contestants.engine_running()), effort)
        for kind in kinds:
            child = stack.enter_context(contestants.running(kind, bench.engine))
            bench.lanes += [
                Lane(f"{kind.name}/{dialect}", child, dialect, kind.slow)
                for dialect in kind.dialects
            ]
        for lane in bench.lanes:
            _window(bench, lane, 8)
        yield bench


def measure_requests(bench: Bench) -> None:
    for lanes in bench.rounds("CPU per request"):
        for connections, lane in itertools.product(CONNECTIONS, lanes):
            before_s = lane.child.cpu_s()
            done = _window(bench, lane, connections)
            cpu_us = (lane.child.cpu_s() - before_s) / max(done.answers, 1) * 1e6
            bench.record(f"request.c{connections}", lane.name, cpu_us)


def measure_streams(bench: Bench) -> None:
    effort = bench.effort
    for lanes in bench.rounds("CPU per streamed event"):
        for streams, lane in itertools.product(STREAMS, lanes):
            many = effort.many_events
            few_s = _stream_cpu_s(lane, streams, effort.few_events)
            many_s = _stream_cpu_s(lane, streams, many)
            events = streams * (many - effort.few_events)
            bench.record(f"chunk.s{streams}", lane.name, (many_s - few_s) / events * 1e6)


def measure_latency(bench: Bench) -> None:
    for label, size_bytes in SIZES.items():
        talk(f"added latency: {label}")
        fast = [lane for lane in bench.lanes if not lane.slow]
        slow = [lane for lane in bench.lanes if lane.slow]
        _measure_latency(bench, label, size_bytes, fast, bench.effort.latency_requests)
        _measure_latency(bench, label, size_bytes, slow, bench.effort.slow_latency_requests)


def measure_memory(bench: Bench) -> None:
    for lane in bench.lanes:
        bench.record("memory.rss_mb", lane.name, lane.child.rss_bytes() / 2**20)


def measure_startup(kinds: Sequence[Kind], effort: Effort) -> Samples:
    """Each contestant alone: spawned, timed and stopped."""
    with contestants.engine_running() as engine:
        bench = Bench(engine, effort)
        for turn in range(effort.starts):
            talk(f"start-up: round {turn + 1} of {effort.starts}")
            for kind in kinds:
                if not kind.slow or turn < effort.slow_starts:
                    listen_s, healthy_s = _start_times_s(kind, engine)
                    bench.record("startup.listen_s", kind.name, listen_s)
                    bench.record("startup.healthy_s", kind.name, healthy_s)
    return bench.samples


def _window(bench: Bench, lane: Lane, connections: int) -> load.Load:
    return load.drive(
        lane.child.port,
        request(lane.dialect, 1024),
        connections=connections,
        seconds=bench.effort.slow_window_s if lane.slow else bench.effort.window_s,
        limit=MAX_REQUESTS,
    )


def _stream_cpu_s(lane: Lane, streams: int, events: int) -> float:
    asked = request(lane.dialect, 1024, stream_events=events)
    before_s = lane.child.cpu_s()
    load.read_streams(lane.child.port, asked, streams=streams, expected=events)
    return lane.child.cpu_s() - before_s


def _measure_latency(
    bench: Bench, label: str, size_bytes: int, lanes: Sequence[Lane], count: int
) -> None:
    if not lanes:
        return
    took: dict[str, list[float]] = {}
    with ExitStack() as stack:
        ask = {"direct": _asker(stack, bench.engine.port, request("chat", size_bytes))}
        for lane in lanes:
            asked = request(lane.dialect, size_bytes)
            ask[lane.name] = _asker(stack, lane.child.port, asked)
        for _ in range(count):
            for name, round_trip_s in ask.items():
                took.setdefault(name, []).append(round_trip_s())
    for lane in lanes:
        for quantile in (0.5, 0.99):
            added_s = quantile_of(took[lane.name], quantile) - quantile_of(took["direct"], quantile)
            metric = f"latency.{label}.p{round(quantile * 100)}_ms"
            bench.record(metric, lane.name, added_s * 1e3)


def _asker(stack: ExitStack, port: int, asked: bytes) -> Callable[[], float]:
    connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), 60.0))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for _ in range(3):
        load.round_trip_s(connection, asked)
    return lambda: load.round_trip_s(connection, asked)


def _start_times_s(kind: Kind, engine: Child) -> tuple[float, float]:
    with tempfile.TemporaryDirectory(prefix="homeport-bench-") as folder:
        started = time.monotonic()
        child = contestants.launch(kind, engine, Path(folder))
        try:
            processes.wait_listening(child, kind.start_s)
            listen_s = time.monotonic() - started
            processes.wait_healthy(child, kind.health, kind.start_s)
            return listen_s, time.monotonic() - started
        finally:
            processes.stop(child)


def quantile_of(values: Sequence[float], quantile: float) -> float:
    """The nearest-rank quantile; for 0.5 the median."""
    if quantile == 0.5:
        return statistics.median(values)
    return sorted(values)[max(0, math.ceil(quantile * len(values)) - 1)]
