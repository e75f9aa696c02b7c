"""By model: what it was doing, how often and how long it is loaded, who waits, how fast it is."""

from typing import Final

from scripts.dashboards.grafana import (
    PROMETHEUS,
    Dashboard,
    Section,
    graph,
    prom,
    prom_table,
    states,
    table,
    variable,
)
from scripts.dashboards.questions import (
    PER_MINUTE,
    STATES,
    TOKENS_PER_S,
    WINDOW,
    quantile,
    state_numbers,
)

CHOSEN: Final = '{model=~"$model"}'
RANGE: Final = "[$__range]"

MODEL: Final = variable(
    "model",
    "Model",
    PROMETHEUS,
    {
        "qryType": 1,  # label values
        "query": "label_values(homeport_model_state, model)",
        "refId": "models",
    },
    everything=".*",
)


def count(metric: str, window: str, matchers: str = CHOSEN) -> str:
    return f"sum by (model) (increase({metric}{matchers}{window}))"


def mean(metric: str, window: str) -> str:
    return f"{count(metric + '_sum', window)} / ({count(metric + '_count', window)} > 0)"


def rate_of(kind: str) -> str:
    labels = f'{{kind="{kind}", model=~"$model"}}'
    return f"sum by (model) (rate(homeport_tokens_total{labels}{WINDOW}))"


LOADS: Final = (
    (
        table(
            "Loads and switches in the chosen time",
            "Starts: restarts after a crash not counted. Evicted: stopped to make room for another. "
            "Crashed: ended by itself, or did not start. Prometheus counts from the second sight "
            "of each on, so that the first of all may be missing.",
            prom_table(f"round({count('homeport_model_starts_total', RANGE)})"),
            prom_table(mean("homeport_model_start_seconds", RANGE)),
            prom_table(f"round({count('homeport_model_evictions_total', RANGE)})"),
            prom_table(f"round({count('homeport_model_crashes_total', RANGE)})"),
            prom_table(mean("homeport_queue_wait_seconds", RANGE)),
            units={"Load time, mean": "s", "Wait, mean": "s"},
            columns={
                "model": "Model",
                "Value #A": "Starts",
                "Value #B": "Load time, mean",
                "Value #C": "Evicted",
                "Value #D": "Crashed",
                "Value #E": "Wait, mean",
            },
            hidden=("Time",),
            width=12,
        ),
        graph(
            "Load times",
            "From the decision to start to ready, waiting for memory included.",
            prom(mean("homeport_model_start_seconds", WINDOW), "{{model}}"),
            unit="s",
            style="points",
        ),
    ),
    (
        graph(
            "Starts and evictions",
            "Many of both at once: models push each other out. A longer min_dwell_s, or groups, help.",
            prom(count("homeport_model_starts_total", WINDOW) + " > 0", "{{model}} started"),
            prom(count("homeport_model_evictions_total", WINDOW) + " > 0", "{{model}} evicted"),
            unit="short",
            style="bars",
        ),
        graph(
            "Crashes",
            "Engines that ended by themselves, or did not start; homeport logs MODEL shows them.",
            prom(count("homeport_model_crashes_total", WINDOW) + " > 0", "{{model}}"),
            unit="short",
            style="bars",
        ),
    ),
)

WAITS: Final = (
    graph(
        "Waiting now",
        "Requests whose model is being loaded, or is full.",
        prom(f"sum by (model) (homeport_requests_queued{CHOSEN})", "{{model}}"),
        unit="short",
        style="area",
    ),
    graph(
        "Waits, 95 % are within",
        "Of requests that did not get a place at once.",
        prom(quantile(0.95, "homeport_queue_wait_seconds", CHOSEN, "model"), "{{model}}"),
        unit="s",
    ),
)

SPEED: Final = (
    (
        graph(
            "Time to the first token, 95 % are within",
            "Of streamed requests, from their arrival.",
            prom(quantile(0.95, "homeport_first_token_seconds", CHOSEN, "model"), "{{model}}"),
            unit="s",
        ),
        graph(
            "Time of a whole request, 95 % are within",
            "From arrival to end.",
            prom(quantile(0.95, "homeport_request_duration_seconds", CHOSEN, "model"), "{{model}}"),
            unit="s",
        ),
    ),
    (
        graph(
            "Answers",
            "Tokens of answers, all requests together; counted when a request ends.",
            prom(rate_of("completion"), "{{model}}"),
            unit=TOKENS_PER_S,
            width=8,
        ),
        graph(
            "Prompts, read",
            "Tokens of prompts, those from the cache left out.",
            prom(f"{rate_of('prompt')} - {rate_of('cached')}", "{{model}}"),
            unit=TOKENS_PER_S,
            width=8,
        ),
        graph(
            "Reading speed",
            "How fast the engine read its last long prompt; llama.cpp tells it.",
            prom(f"homeport_prefill_tokens_per_second{CHOSEN}", "{{model}}"),
            unit=TOKENS_PER_S,
            width=8,
        ),
    ),
)

REQUESTS: Final = (
    graph(
        "Requests",
        "Those that ended.",
        prom(f"sum by (model) (rate(homeport_requests_total{CHOSEN}{WINDOW})) * 60", "{{model}}"),
        unit=PER_MINUTE,
        style="bars",
    ),
    graph(
        "Failed",
        "By kind of error; clients that left are not among them.",
        prom(
            'sum by (model, outcome) (rate(homeport_requests_total{model=~"$model", '
            f'outcome!~"ok|left"}}{WINDOW})) * 60 > 0',
            "{{model}}: {{outcome}}",
        ),
        unit=PER_MINUTE,
        style="bars",
    ),
)

MEMORY: Final = (
    graph(
        "Memory kept",
        "From before an engine's start until it has ended.",
        prom(f"sum by (model) (homeport_reserved_bytes{CHOSEN}) > 0", "{{model}}"),
        unit="bytes",
        style="area",
    ),
    graph(
        "Prompts that changed before their end",
        "Conversations whose prompt changed before its end, so that cached tokens were lost.",
        prom(count("homeport_prefix_breaks_total", WINDOW) + " > 0", "{{model}}"),
        unit="short",
        style="bars",
    ),
)

DASHBOARD: Final = Dashboard(
    "homeport-models",
    "homeport: models",
    "What each model was doing, how often and how long it is loaded, who waits for it, how fast it is.",
    "now-6h",
    (MODEL,),
    (
        Section(
            "States",
            (
                (
                    states(
                        "Models",
                        "What each model was doing.",
                        prom(state_numbers(CHOSEN), "{{model}}"),
                        STATES,
                        width=24,
                    ),
                ),
            ),
        ),
        Section("Loads and switches", LOADS),
        Section("Waiting", (WAITS,)),
        Section("Speed", SPEED),
        Section("Requests", (REQUESTS,)),
        Section("Memory and prompt cache", (MEMORY,)),
    ),
)
