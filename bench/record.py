"""What it costs to remember requests: CPU per request with the store, and with ``store: off``.

Two gateways before one mock engine take turns; one keeps records in SQLite, as it does where nothing is
said. CPU is that of the thread that serves (``chat``, ``messages``): what a request waits for; and that
of the whole process, with the thread that writes (``… all``). The difference is taken round by round.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

import psutil

from bench import contestants, load
from bench.bodies import Dialect, request
from bench.processes import Child
from bench.report import NO_STORE as WITHOUT
from bench.report import STORE as WITH
from bench.report import STORE_COST as COST
from bench.suites import MAX_REQUESTS, Effort, Samples, talk

CONNECTIONS = 8
DIALECTS: Final[tuple[Dialect, ...]] = ("chat", "messages")
ROUNDS, TIMES = 4, 1.5
"""More and longer ones than elsewhere: a difference of a few µs wants that."""


def measure(effort: Effort) -> Samples:
    samples: Samples = {}
    with _gateways() as gateways:
        for name in gateways:
            for dialect in DIALECTS:
                _cpu_us(gateways[name], dialect, effort)  # warm
        for turn in range(ROUNDS * effort.rounds):
            talk(f"recording: round {turn + 1} of {ROUNDS * effort.rounds}")
            for dialect in DIALECTS:
                order = (WITH, WITHOUT) if turn % 2 else (WITHOUT, WITH)
                cpu_us = {name: _cpu_us(gateways[name], dialect, effort) for name in order}
                for at, metric in enumerate((f"record.{dialect}", f"record.{dialect} all")):
                    lanes = samples.setdefault(metric, {})
                    for name in (WITHOUT, WITH):
                        lanes.setdefault(name, []).append(cpu_us[name][at])
                    lanes.setdefault(COST, []).append(cpu_us[WITH][at] - cpu_us[WITHOUT][at])
    return samples


def _cpu_us(gateway: Child, dialect: Dialect, effort: Effort) -> tuple[float, float]:
    """Of a request: in the thread that serves, and in all."""
    before_s = _cpu_s(gateway)
    done = load.drive(
        gateway.port,
        request(dialect, 1024),
        connections=CONNECTIONS,
        seconds=effort.window_s * TIMES,
        limit=MAX_REQUESTS,
    )
    serving_s, all_s = (now - before for now, before in zip(_cpu_s(gateway), before_s, strict=True))
    each = 1e6 / max(done.answers, 1)
    return serving_s * each, all_s * each


def _cpu_s(gateway: Child) -> tuple[float, float]:
    """The first thread has the process's id."""
    process = psutil.Process(gateway.process.pid)
    threads = {thread.id: thread for thread in process.threads()}
    first = threads[process.pid]
    return first.user_time + first.system_time, gateway.cpu_s()


@contextmanager
def _gateways() -> Iterator[dict[str, Child]]:
    kind = contestants.homeport()
    off = replace(
        kind,
        command=(*kind.command, "--config", "{folder}/off.yaml"),
        files=(("off.yaml", "store: off\n"),),
    )
    with (
        contestants.engine_running() as engine,
        contestants.running(kind, engine) as remembers,
        contestants.running(off, engine) as forgets,
    ):
        yield {WITH: remembers, WITHOUT: forgets}
