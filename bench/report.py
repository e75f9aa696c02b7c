"""From samples to a table, ratios and targets.

A figure is the median of its samples. A ratio is the median of the ratios taken round by round, so
that a machine which gets slower half way through a run does not move it. A target is judged on what
it names (a ratio, a time, a size) at each load level it was measured at: the worst one counts.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.suites import Samples

NGINX, LITELLM = "nginx/chat", "litellm/chat"
PASSED, TRANSLATED = "homeport/chat", "homeport/messages"
ENGINE, BY_HAND = "llamacpp/direct", "llamacpp/by hand"
STORE, NO_STORE = "homeport/with a store", "homeport/store: off"
STORE_COST = "homeport/the difference"


@dataclass(frozen=True)
class Target:
    """`metrics` of `lane`, over those of `base` if one is given, must keep to `limit`.

    `base` may itself be what is divided by us (`inverse`): "80 times less than LiteLLM".
    """

    title: str
    metrics: tuple[str, ...]
    lane: str
    limit: float
    base: str | None = None
    inverse: bool = False
    unit: str = ""


REQUESTS = ("request.c1", "request.c8", "request.c32")
CHUNKS = ("chunk.s1", "chunk.s8")
COUNT_CPU = tuple(f"count.{size}.cpu_ms" for size in ("5KB", "20KB", "60KB"))
COUNT_TIME = tuple(f"count.{size}.wall_ms" for size in ("5KB", "20KB", "60KB"))
RECORD = ("record.chat", "record.messages")

TARGETS = (
    Target("request passed through: CPU ÷ nginx", REQUESTS, PASSED, 9.0, NGINX, unit="×"),
    Target("request translated: CPU ÷ nginx", REQUESTS, TRANSLATED, 12.0, NGINX, unit="×"),
    Target("streamed chunk relayed: CPU ÷ nginx", CHUNKS, PASSED, 2.5, NGINX, unit="×"),
    Target("streamed chunk translated: CPU ÷ nginx", CHUNKS, TRANSLATED, 3.5, NGINX, unit="×"),
    Target("request: LiteLLM's CPU ÷ homeport's", REQUESTS, PASSED, 80.0, LITELLM, True, "×"),
    Target("added latency, 1 KB, p50", ("latency.1KB.p50_ms",), PASSED, 0.5, unit=" ms"),
    Target("start to listening", ("startup.listen_s",), "homeport", 1.0, unit=" s"),
    Target("memory after load", ("memory.rss_mb",), PASSED, 80.0, unit=" MB"),
    Target(
        "25 counts at once: CPU ÷ the engine's own", COUNT_CPU, TRANSLATED, 1.3, ENGINE, unit="×"
    ),
    Target(
        "25 counts at once: time ÷ the engine's own", COUNT_TIME, TRANSLATED, 1.3, ENGINE, unit="×"
    ),
    Target(
        "switch of models: time ÷ stop, cold start and first token by hand",
        ("switch.512MB.first_token_s",),
        PASSED,
        1.1,
        BY_HAND,
        unit="×",
    ),
    Target("a request's record, CPU", RECORD, STORE_COST, 20.0, unit=" µs"),
    Target("a request's record: CPU ÷ store: off", RECORD, STORE, 1.2, NO_STORE, unit="×"),
)

#: How a metric is introduced in the table.
UNITS = (
    ("request.", "CPU per request, µs"),
    ("chunk.", "CPU per streamed event, µs"),
    ("latency.", "added latency, ms"),
    ("startup.", "start-up, s"),
    ("memory.", "memory, MB"),
    ("count.", "25 counts at once, ms"),
    ("switch.", "switch of models, s"),
    ("record.", "CPU per request with and without its record, µs (serving thread; all threads)"),
)


@dataclass(frozen=True)
class Verdict:
    """A target, what was measured, and whether that is good enough."""

    title: str
    value: float
    limit: float
    at_least: bool
    unit: str
    worst_at: str

    @property
    def is_met(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit


def figure(samples: Samples, metric: str, lane: str) -> float | None:
    """The median, or None if this was not measured."""
    found = samples.get(metric, {}).get(lane)
    return statistics.median(found) if found else None


def ratio(samples: Samples, metric: str, lane: str, base: str) -> float | None:
    """The median over the rounds of `lane` ÷ `base`; None if either was not measured."""
    tops, bottoms = (samples.get(metric, {}).get(name, []) for name in (lane, base))
    ratios = [top / bottom for top, bottom in zip(tops, bottoms, strict=False) if bottom > 0]
    return statistics.median(ratios) if ratios else None


def verdicts(samples: Samples) -> list[Verdict]:
    """The targets of which anything was measured."""
    found = (_verdict(samples, target) for target in TARGETS)
    return [verdict for verdict in found if verdict is not None]


def _verdict(samples: Samples, target: Target) -> Verdict | None:
    values = {metric: _value(samples, target, metric) for metric in target.metrics}
    known = {metric: value for metric, value in values.items() if value is not None}
    if not known:
        return None
    worst: Callable[..., str] = min if target.inverse else max
    worst_at = worst(known, key=lambda metric: known[metric])
    value = known[worst_at]
    return Verdict(target.title, value, target.limit, target.inverse, target.unit, worst_at)


def _value(samples: Samples, target: Target, metric: str) -> float | None:
    if target.base is None:
        return figure(samples, metric, target.lane)
    if target.inverse:
        return ratio(samples, metric, target.base, target.lane)
    return ratio(samples, metric, target.lane, target.base)


def as_text(samples: Samples, skipped: Sequence[str] = ()) -> str:
    """The table for people."""
    lines = []
    for prefix, title in UNITS:
        metrics = [metric for metric in samples if metric.startswith(prefix)]
        if metrics:
            lines += [title, *_table(samples, prefix, metrics), ""]
    lines += ["targets", *_target_lines(verdicts(samples))]
    lines += [f"skipped: {reason}" for reason in skipped]
    return "\n".join(lines)


def as_value(samples: Samples, skipped: Sequence[str] = ()) -> dict[str, Any]:
    """The same for machines."""
    figures = {
        metric: {lane: statistics.median(values) for lane, values in lanes.items()}
        for metric, lanes in samples.items()
    }
    ratios = {
        metric: {lane: ratio(samples, metric, lane, NGINX) for lane in lanes if lane != NGINX}
        for metric, lanes in samples.items()
        if metric in REQUESTS + CHUNKS and NGINX in lanes
    }
    targets = [{**asdict(verdict), "is_met": verdict.is_met} for verdict in verdicts(samples)]
    return {
        "figures": figures,
        "ratios_to_nginx": ratios,
        "targets": targets,
        "skipped": list(skipped),
    }


def _table(samples: Samples, prefix: str, metrics: list[str]) -> list[str]:
    lanes = list(dict.fromkeys(lane for metric in metrics for lane in samples[metric]))
    with_ratio = metrics[0] in REQUESTS + CHUNKS
    rows = [["", *(metric.removeprefix(prefix) for metric in metrics)]]
    for lane in lanes:
        cells = [_cell(samples, metric, lane, with_ratio) for metric in metrics]
        rows.append([lane, *cells])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [_row(row, widths) for row in rows]


def _row(row: list[str], widths: list[int]) -> str:
    cells = [row[0].ljust(widths[0])]
    cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
    return ("  " + "  ".join(cells)).rstrip()


def _cell(samples: Samples, metric: str, lane: str, with_ratio: bool) -> str:
    value = figure(samples, metric, lane)
    if value is None:
        return "-"
    times = ratio(samples, metric, lane, NGINX) if with_ratio and lane != NGINX else None
    return _number(value) + (f" ({_number(times)}×)" if times is not None else "")


def _number(value: float) -> str:
    """Three digits that mean something."""
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace(",", " ")
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _target_lines(found: Sequence[Verdict]) -> list[str]:
    lines = []
    for verdict in found:
        mark = "ok  " if verdict.is_met else "MISS"
        sign = "≥" if verdict.at_least else "≤"
        lines.append(
            f"  {mark} {verdict.title}: {_number(verdict.value)}{verdict.unit}"
            f" (target {sign} {verdict.limit:g}{verdict.unit}; worst at {verdict.worst_at})"
        )
    return lines or ["  nothing measured that has one"]
