"""PromQL that more than one dashboard asks, and words that they share.

Failed is what ended with a kind of error; clients that ``left`` did not wait, and are no failure.
"""

from typing import Final

from scripts.dashboards.grafana import Json, prom

TOKENS_PER_S: Final = "suffix: tok/s"
PER_MINUTE: Final = "suffix: /min"
WINDOW: Final = "[$__rate_interval]"

STATES: Final = {
    "0": ("stopped", "#6e7076"),
    "1": ("starting", "yellow"),
    "2": ("ready", "green"),
    "3": ("asleep", "blue"),
    "4": ("draining", "purple"),
    "5": ("stopping", "purple"),
    "6": ("restarts soon", "orange"),
    "7": ("failed", "red"),
}
"""Numbers for ``homeport_model_state``, since Grafana draws a state from a number."""
NUMBERS: Final = {
    "starting": 1,
    "ready": 2,
    "asleep": 3,
    "draining": 4,
    "stopping": 5,
    "backoff": 6,
    "failed": 7,
}


def quantile(share: float, metric: str, matchers: str = "", by: str = "") -> str:
    labels = f"le, {by}" if by else "le"
    buckets = f"rate({metric}_bucket{matchers}{WINDOW})"
    return f"histogram_quantile({share}, sum by ({labels}) ({buckets}))"


def half_and_most(metric: str) -> list[Json]:
    """Of all requests: the median, and what 95 of 100 do not exceed."""
    return [
        prom(quantile(0.5, metric), "half are within"),
        prom(quantile(0.95, metric), "95 % are within"),
    ]


def state_numbers(matchers: str = "") -> str:
    """One series for each model; 0, stopped, is what is left."""
    inner = matchers.strip("{}")
    more = f", {inner}" if inner else ""
    terms = (
        f'{number} * homeport_model_state{{state="{state}"{more}}}'
        for state, number in NUMBERS.items()
    )
    return f"sum by (model) ({' or '.join(terms)})"
