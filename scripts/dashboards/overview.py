"""The first page: does it run, is anybody waiting, how fast is it, is anything being lost."""

from typing import Final

from scripts.dashboards.grafana import (
    BAD_FROM_ONE,
    Dashboard,
    Section,
    graph,
    prom,
    prom_now,
    prom_table,
    stat,
    states,
    table,
)
from scripts.dashboards.questions import (
    PER_MINUTE,
    STATES,
    TOKENS_PER_S,
    WINDOW,
    half_and_most,
    state_numbers,
)

ALL: Final = "sum(increase(homeport_requests_total[$__range]))"
FAILED: Final = 'sum(increase(homeport_requests_total{outcome!~"ok|left"}[$__range]))'


def tokens(kind: str, window: str) -> str:
    return f'sum(increase(homeport_tokens_total{{kind="{kind}"}}{window}))'


def token_rate(kind: str) -> str:
    return f'sum(rate(homeport_tokens_total{{kind="{kind}"}}{WINDOW}))'


NOW: Final = (
    stat(
        "homeport",
        "Whether Prometheus reached the gateway when it last asked.",
        prom_now('up{job="homeport"}'),
        texts={"1": ("up", "green"), "0": ("down", "red")},
        empty="never seen",
    ),
    stat(
        "Under way",
        "Requests that a model is working on, or that wait for one, now.",
        prom_now("sum(homeport_requests_in_flight)"),
    ),
    stat(
        "Waiting for a model",
        "Requests whose model is being loaded, or is full.",
        prom_now("sum(homeport_requests_queued)"),
        steps=((None, "green"), (1, "yellow"), (10, "orange")),
    ),
    stat(
        "Requests",
        "In the chosen time. Prometheus counts from the second sight of each kind on; the dashboard "
        "Usage counts every one.",
        prom_now(f"round({ALL})"),
        decimals=0,
    ),
    stat(
        "Failed",
        "Share of requests that ended with an error, clients that left not counted.",
        prom_now(f"({FAILED} or vector(0)) / ({ALL} > 0)"),
        unit="percentunit",
        decimals=1,
        steps=((None, "green"), (0.02, "yellow"), (0.1, "red")),
    ),
    stat(
        "Prompt from cache",
        "Share of all prompt tokens that engines did not have to read again. Agents that send the same "
        "conversation again and again should see 80 % and more.",
        prom_now(f"{tokens('cached', '[$__range]')} / ({tokens('prompt', '[$__range]')} > 0)"),
        unit="percentunit",
        decimals=0,
        steps=((None, "orange"), (0.3, "yellow"), (0.6, "green")),
    ),
)

WRONG: Final = table(
    "What is wrong",
    "Alerts of services/prometheus/rules.yml that fire now. Nobody is called: that takes an "
    "Alertmanager, or alerting in Grafana.",
    prom_table('ALERTS{alertstate="firing"}'),
    units={},
    height=4,
    empty="nothing",
    hidden=("Time", "Value", "__name__", "alertstate", "instance", "job"),
    columns={"alertname": "What", "model": "Model", "severity": "How bad"},
)

REQUESTS: Final = (
    graph(
        "Requests, by how they ended",
        "ok; left: the client did not wait for the end; else the kind of error.",
        prom(f"sum by (outcome) (rate(homeport_requests_total{WINDOW})) * 60", "{{outcome}}"),
        unit=PER_MINUTE,
        style="bars",
    ),
    graph(
        "Under way and waiting",
        "All requests under way, and those of them that wait for their model.",
        prom("sum(homeport_requests_in_flight)", "under way"),
        prom("sum by (model) (homeport_requests_queued) > 0", "waiting for {{model}}"),
        unit="short",
    ),
)

SPEED: Final = (
    (
        graph(
            "Time to the first token",
            "Of streamed requests, from their arrival: with waiting, loading and reading the prompt.",
            *half_and_most("homeport_first_token_seconds"),
            unit="s",
        ),
        graph(
            "Time of a whole request",
            "From arrival to end.",
            *half_and_most("homeport_request_duration_seconds"),
            unit="s",
        ),
    ),
    (
        graph(
            "Tokens",
            "Counted when a request ends, so that a long answer shows late. From cache: prompt tokens "
            "that the engine still had.",
            prom(token_rate("completion"), "answers"),
            prom(f"{token_rate('prompt')} - {token_rate('cached')}", "prompts, read"),
            prom(token_rate("cached"), "prompts, from cache"),
            unit=TOKENS_PER_S,
        ),
        graph(
            "Waits for a model",
            "Of requests that did not get a place at once: their model was being loaded, or full.",
            *half_and_most("homeport_queue_wait_seconds"),
            unit="s",
        ),
    ),
)

MODELS: Final = (
    states(
        "Models",
        "What each model was doing.",
        prom(state_numbers(), "{{model}}"),
        STATES,
        width=12,
    ),
    graph(
        "Memory kept for models",
        "From before an engine's start until it has ended; as expected first, as measured later.",
        prom("sum by (model) (homeport_reserved_bytes) > 0", "{{model}}"),
        unit="bytes",
        style="area",
    ),
)

CACHE: Final = (
    graph(
        "Prompts from cache",
        "Share of prompt tokens that engines did not have to read again.",
        prom(
            f'sum by (model) (rate(homeport_tokens_total{{kind="cached"}}{WINDOW})) / '
            f'(sum by (model) (rate(homeport_tokens_total{{kind="prompt"}}{WINDOW})) > 0)',
            "{{model}}",
        ),
        unit="percentunit",
        top=1,
    ),
    graph(
        "Tokens read again because a prompt changed",
        "Estimated: a client changed the head of a conversation's prompt, and the cache of what "
        "follows was lost. docs/claude-code.md tells how to find what changes.",
        prom(f"sum by (model) (rate(homeport_prefix_lost_tokens_total{WINDOW})) * 60", "{{model}}"),
        unit="suffix: tok/min",
        style="bars",
    ),
)

RECORDS: Final = (
    stat(
        "Database",
        "Whether the database of usage takes records.",
        prom_now("homeport_store_up"),
        texts={"1": ("up", "green"), "0": ("down", "red")},
        empty="no store",
    ),
    stat(
        "Waiting on disk",
        "Records that the database did not take yet. They are written when it is back.",
        prom_now("homeport_usage_spooled_bytes"),
        unit="bytes",
        steps=((None, "green"), (1, "yellow"), (50e6, "red")),
    ),
    stat(
        "Waiting in memory",
        "Records of the last moments, before their batch is written.",
        prom_now("homeport_usage_queued"),
        steps=((None, "green"), (1000, "yellow"), (5000, "red")),
    ),
    stat(
        "Lost",
        "Records and captures in the chosen time for which there was no room.",
        prom_now("round(sum(increase(homeport_usage_dropped_total[$__range])))"),
        steps=BAD_FROM_ONE,
        decimals=0,
    ),
    graph(
        "Records",
        "Taken by the database; and lost, by why.",
        prom(f"sum(rate(homeport_usage_written_total{WINDOW})) * 60", "written"),
        prom(
            f"sum by (why) (rate(homeport_usage_dropped_total{WINDOW})) * 60 > 0", "lost: {{why}}"
        ),
        unit=PER_MINUTE,
        width=8,
    )._replace(height=4),
)

DASHBOARD: Final = Dashboard(
    "homeport-overview",
    "homeport",
    "Does it run, is anybody waiting, how fast is it, is anything being lost.",
    "now-6h",
    (),
    (
        Section("Now", (NOW, (WRONG,))),
        Section("Requests", (REQUESTS,)),
        Section("Speed", SPEED),
        Section("Models and memory", (MODELS,)),
        Section("Prompt cache", (CACHE,)),
        Section("Records of usage", (RECORDS,)),
    ),
)
