"""Metrics of the engines: what each model is doing, how often and how long it starts, who waits.

States, queues and reservations are looked up when somebody asks for ``/metrics``; what happens in
between comes from the fleet, of which this is one of the narrators. What is counted of a model stays
when it is taken out of the configuration: counters do not go back.
"""

import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Final, get_args

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from homeport.facts import Endpoint
from homeport.lifecycle.machine import State
from homeport.runtime.fleet import Fleet
from homeport.runtime.managed import ManagedInstance
from homeport.server.directory import Directory
from homeport.server.metrics import Times
from homeport.server.overview import state_of

_START_S: Final = (0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 900)
"""From a small model in the page cache to a big one from a slow disk."""
_WAIT_S: Final = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900)
STATES: Final[tuple[State, ...]] = get_args(State)


class FleetMetrics(Collector):
    """Follows ``runtime.fleet.Narrator``."""

    def __init__(self, fleet: Fleet, directory: Directory, registry: CollectorRegistry) -> None:
        self._fleet, self._directory = fleet, directory
        self._began: dict[ManagedInstance, float] = {}
        self._starts: dict[str, int] = defaultdict(int)
        self._crashes: dict[str, int] = defaultdict(int)
        self._recycles: dict[str, int] = defaultdict(int)
        self._evictions: dict[str, int] = defaultdict(int)
        self._start_s: dict[str, Times] = defaultdict(lambda: Times(_START_S))
        self._wait_s: dict[str, Times] = defaultdict(lambda: Times(_WAIT_S))
        registry.register(self)

    # ------------------------------------------------------------------- what happens

    def starting(self, instance: ManagedInstance) -> None:
        self._starts[instance.id] += 1
        self._began[instance] = time.monotonic()

    def ready(self, instance: ManagedInstance, endpoint: Endpoint) -> None:
        if (began := self._began.pop(instance, None)) is not None:
            self._start_s[instance.id].observe(time.monotonic() - began)

    def down(self, instance: ManagedInstance, *, retry_s: float | None) -> None:
        counts = self._recycles if instance.was_recycled else self._crashes
        counts[instance.id] += 1
        self._began.pop(instance, None)

    def stopping(self, instance: ManagedInstance, why: str) -> None:
        self._began.pop(instance, None)
        if why == "evicted":
            self._evictions[instance.id] += 1

    def stopped(self, instance: ManagedInstance) -> None:
        """Its state tells that."""

    def waited(self, instance: ManagedInstance, seconds: float) -> None:
        self._wait_s[instance.id].observe(seconds)

    # ------------------------------------------------------------------- what is asked for

    def collect(self) -> Iterator[Metric]:
        yield from self._now()
        for name, says, counts in (
            ("starts", "Starts of a model's engine, restarts after a crash left out", self._starts),
            ("crashes", "Engines that ended by themselves, or did not start", self._crashes),
            (
                "recycles",
                "Engines replaced because they computed on for clients that had left",
                self._recycles,
            ),
            ("evictions", "Engines stopped to make room for another model", self._evictions),
        ):
            counter = CounterMetricFamily(f"homeport_model_{name}_total", says, labels=("model",))
            for model, count in counts.items():
                counter.add_metric([model], count)
            yield counter
        for name, says, series in (
            ("homeport_model_start_seconds", "From the decision to start to ready", self._start_s),
            ("homeport_queue_wait_seconds", "Waits of requests for their model", self._wait_s),
        ):
            histogram = HistogramMetricFamily(name, says, labels=("model",))
            for model, times in series.items():
                times.add_to(histogram, model)
            yield histogram

    def _now(self) -> Iterator[Metric]:
        labels = ("model",)
        states = GaugeMetricFamily(
            "homeport_model_state", "1 for the state that it is in", labels=("model", "state")
        )
        queued = GaugeMetricFamily(
            "homeport_requests_queued", "Requests that wait for their model", labels=labels
        )
        reserved = GaugeMetricFamily(
            "homeport_reserved_bytes", "Memory that is kept for the engine", labels=labels
        )
        for name, instance in self._directory.instances.items():
            state = instance.state
            if isinstance(instance, ManagedInstance):
                does = self._fleet.residency(instance)
                state = state_of(instance, does)
                queued.add_metric([name], does.queued)
                reserved.add_metric([name], does.reserved_bytes)
            for each in STATES:
                states.add_metric([name, each], each == state)
        yield from (states, queued, reserved)
