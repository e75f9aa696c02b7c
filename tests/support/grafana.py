"""The dashboards as Grafana reads them: panels, questions, variables, and what it makes of a question
before it asks.

Macros of its PostgreSQL data source and the forms of a variable are those of Grafana 12.3
(pkg/tsdb/grafana-postgresql-datasource/macros.go; "Template variables" of its documentation).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

STACK = Path(__file__).resolve().parents[2] / "src/homeport/stack/files"
DASHBOARDS = STACK / "grafana/dashboards"
PROVISIONING = STACK / "grafana/provisioning"

Kind = Literal["prometheus", "grafana-postgresql-datasource"]


@dataclass(frozen=True)
class Question:
    """One target of a panel, or a variable's query."""

    dashboard: str
    panel: str
    ref: str
    target: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.dashboard}: {self.panel}: {self.ref}"


def files() -> list[Path]:
    return sorted(DASHBOARDS.glob("*.json"))


def documents() -> dict[str, dict[str, Any]]:
    return {path.stem: json.loads(path.read_text("utf-8")) for path in files()}


def questions(kind: Kind) -> Iterator[Question]:
    """Those of all panels that ask this kind of data source."""
    for name, dashboard in documents().items():
        for panel in dashboard["panels"]:
            for target in panel.get("targets", ()):
                if target["datasource"]["type"] == kind:
                    yield Question(name, panel["title"], target["refId"], target)


def variables(kind: Kind) -> Iterator[tuple[str, dict[str, Any]]]:
    """By the dashboard's name."""
    for name, dashboard in documents().items():
        for variable in dashboard["templating"]["list"]:
            if variable["datasource"]["type"] == kind:
                yield name, variable


# --- PromQL ---------------------------------------------------------------------------------


def promql(text: str, *, range_: str = "1h", rate: str = "1m", model: str = ".*") -> str:
    """With the variables put in, for a choice of all models unless one is named."""
    values = {"$__range": range_, "$__rate_interval": rate, "$model": model}
    return re.sub(r"\$\w+", lambda found: values[found[0]], text)


# --- SQL ------------------------------------------------------------------------------------

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def quoted(values: list[str]) -> str:
    """Several values of a variable, as the PostgreSQL data source puts them in."""
    return ",".join("'" + value.replace("'", "''") + "'" for value in values)


def sql(
    text: str,
    *,
    since: str,
    until: str,
    timescale: bool,
    chosen: Mapping[str, str],
    interval: str = "10m",
) -> str:
    """Variables are put in first, by the browser; then macros, by the server."""
    values = {**chosen, "__interval": interval}
    text = re.sub(
        r"\$(\w+)(?!\w*\()",
        lambda found: values[found[1]] if found[1] in values else found[0],
        text,
    )

    def macro(found: re.Match[str]) -> str:
        name, args = found[1], [each.strip() for each in found[2].split(",")]
        if name == "__timeFilter":
            return f"{args[0]} BETWEEN '{since}' AND '{until}'"
        if name == "__timeGroupAlias":
            span = args[1].strip("'")
            seconds = int(span[:-1]) * UNITS_S[span[-1]]
            if timescale:
                return f"time_bucket('{seconds:.3f}s',{args[0]}) AS \"time\""
            return f'floor(extract(epoch from {args[0]})/{seconds})*{seconds} AS "time"'
        raise AssertionError(f"a macro that nobody has looked up: {found[0]}")

    text = re.sub(r"\$([_a-zA-Z0-9]+)\(([^)]*)\)", macro, text)
    assert "$" not in text, text
    return text
