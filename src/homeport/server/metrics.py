"""Counters and times for Prometheus (``/metrics``).

Names are ``homeport_<thing>_<unit>[_total]``. Labels are bounded by construction: model labels are
ids of the catalog, never what a client sent.

What every request adds to is kept in plain numbers and becomes metrics when somebody asks
(``Metrics.collect``): the client library locks and validates at each step, which was a tenth of a short
request. What happens rarely is the library's own.
"""

import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from homeport.errors import RequestFault
from homeport.wire.ending import Ending
from homeport.wire.events import Progress, Usage
from homeport.wire.rounds import summed

CONTENT_TYPE: Final = b"text/plain; version=0.0.4; charset=utf-8"
_FIRST_TOKEN_S: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_DURATION_S: Final = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)


@dataclass(slots=True, eq=False)
class Outcome:
    """What is known of one request as it goes on. Times are monotonic."""

    dialect: str
    model: str
    stream: bool
    began: float = field(default_factory=time.monotonic)
    first_sent: float | None = None
    usage: Usage | None = None
    fault: RequestFault | None = None
    progress: Progress | None = None
    """How much of the prompt is read, as far as the engine has told."""
    ending: Ending | None = None
    """None where nobody wants to know how the answer ended."""

    def answered(self, body: bytes) -> None:
        """The whole answer, where it is none of the streams."""
        if self.ending is not None:
            self.ending.take(body)

    def sent(self, now: float, data: bytes) -> None:
        """A piece of the answer's stream, in whole SSE events."""
        if self.first_sent is None:
            self.first_sent = now
        if self.ending is not None:
            self.ending.feed(data)


class Times:
    """A histogram of one series."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum_s = 0.0

    def observe(self, seconds: float) -> None:
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum_s += seconds

    def add_to(self, family: HistogramMetricFamily, model: str) -> None:
        names = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        buckets = list(zip(names, accumulate(self._counts), strict=True))
        family.add_metric([model], buckets, self._sum_s)


class _Series:
    """One model's numbers."""

    def __init__(self) -> None:
        self.duration, self.first_token = Times(_DURATION_S), Times(_FIRST_TOKEN_S)
        self.prompt = self.cached = self.completion = 0

    def count(self, usage: Usage) -> None:
        usage = summed(usage)
        # An engine says these; a counter may not fall.
        self.prompt += max(0, usage.prompt_tokens)
        self.completion += max(0, usage.completion_tokens)
        self.cached += max(0, usage.cached_tokens or 0)


class Metrics(Collector):
    """One registry per gateway, so that tests and embedders do not share numbers."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # one more series for each, which nobody asks for
        self.registry = registry = CollectorRegistry()
        self.under_way: dict[Outcome, None] = {}
        """Requests that have not ended, the oldest first."""
        self._ended: dict[tuple[str, str, str], int] = defaultdict(int)
        """By dialect, model and outcome."""
        self._series: dict[str, _Series] = defaultdict(_Series)
        """By model."""
        self.prefill_speeds: dict[str, float] = {}
        """How fast an engine read its last long prompt, in tokens per second, by model; also for
        whoever wants to know what tokens cost."""
        registry.register(self)
        self.resends = Counter(
            "homeport_resends_total",
            "Requests that were sent again and followed the answer that ran already",
            registry=registry,
        )
        self._prefix_breaks = Counter(
            "homeport_prefix_breaks_total",
            "Conversations whose prompt changed before its end, so that cached tokens were lost",
            ("model",),
            registry=registry,
        )
        self._lost_tokens = Counter(
            "homeport_prefix_lost_tokens_total",
            "Tokens (estimated) that such changes made the engine compute again",
            ("model",),
            registry=registry,
        )
        self.litellm_lookups = Counter(
            "homeport_litellm_lookups_total",
            "Names that LiteLLM, which runs beside homeport, has asked the meaning of",
            registry=registry,
        )
        self.litellm_calls = Counter(
            "homeport_litellm_calls_total",
            "Calls that LiteLLM has reported, by who asked it (relayed by homeport, or direct) and "
            "how they ended",
            ("asked", "outcome"),
            registry=registry,
        )
        self.telemetry = Counter(
            "homeport_telemetry_events_total",
            "Client telemetry batches that were answered and discarded",
            registry=registry,
        )

    def begin(self, dialect: str, model: str, *, stream: bool) -> Outcome:
        outcome = Outcome(dialect, model, stream)
        self.under_way[outcome] = None
        return outcome

    def end(self, outcome: Outcome, *, status: int, has_left: bool) -> None:
        self.under_way.pop(outcome, None)
        ended = "left" if has_left else outcome.fault.kind if outcome.fault else "ok"
        self._ended[outcome.dialect, outcome.model, ended] += 1
        series = self._series[outcome.model]
        series.duration.observe(time.monotonic() - outcome.began)
        if outcome.first_sent is not None:
            series.first_token.observe(outcome.first_sent - outcome.began)
        if outcome.usage is not None:
            series.count(outcome.usage)
            if (speed := outcome.usage.prefill_tokens_per_s) is not None and speed > 0:
                self.prefill_speeds[outcome.model] = speed

    def prefix_broken(self, model: str, lost_tokens: int) -> None:
        self._prefix_breaks.labels(model).inc()
        self._lost_tokens.labels(model).inc(lost_tokens)

    def collect(self) -> Iterator[Metric]:
        """What is counted here, as the registry asks for it."""
        requests = CounterMetricFamily(
            "homeport_requests_total",
            "Inference requests by dialect, model and how they ended",
            labels=("dialect", "model", "outcome"),
        )
        for labels, count in self._ended.items():
            requests.add_metric(labels, count)
        yield requests
        yield GaugeMetricFamily(
            "homeport_requests_in_flight", "Requests leased and not finished", len(self.under_way)
        )
        yield from self._by_model()
        prefill = GaugeMetricFamily(
            "homeport_prefill_tokens_per_second",
            "How fast the engine read the last long prompt, its cached part left out",
            labels=("model",),
        )
        for model, speed in self.prefill_speeds.items():
            prefill.add_metric([model], speed)
        yield prefill

    def _by_model(self) -> Iterator[Metric]:
        tokens = CounterMetricFamily(
            "homeport_tokens_total",
            "Tokens by kind: prompt (cached ones included), cached, completion",
            labels=("model", "kind"),
        )
        first_token = HistogramMetricFamily(
            "homeport_first_token_seconds",
            "From a streamed request's arrival to its first token",
            labels=("model",),
        )
        duration = HistogramMetricFamily(
            "homeport_request_duration_seconds",
            "From a request's arrival to its end",
            labels=("model",),
        )
        for model, series in self._series.items():
            for kind in ("prompt", "cached", "completion"):
                tokens.add_metric([model, kind], getattr(series, kind))
            series.first_token.add_to(first_token, model)
            series.duration.add_to(duration, model)
        yield from (tokens, first_token, duration)

    def exposition(self) -> bytes:
        return generate_latest(self.registry)
