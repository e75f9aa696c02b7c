"""Every metric and label that the dashboards and the rules name is in what a real gateway shows.

The gateway has been through everything that is counted (tests/support/eventful.py): a metric without
anything in it shows no labels. `up` and `ALERTS` are Prometheus' own.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any, get_args

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from homeport.errors import FaultKind
from homeport.lifecycle.machine import State
from tests.support import grafana, promql
from tests.support.eventful import Eventful
from tests.support.grafana import STACK

OWN = {
    "up": {"job", "instance"},
    "ALERTS": {"alertname", "alertstate", "severity", "model", "job", "instance"},
}
"""Of Prometheus itself: prometheus.io/docs, "Jobs and instances" and "Alerting rules"."""
VALUES: dict[str, frozenset[str]] = {
    "outcome": frozenset({"ok", "left", *get_args(FaultKind)}),
    "state": frozenset(get_args(State)),
    "kind": frozenset({"prompt", "cached", "completion"}),
    "job": frozenset({"homeport"}),
    "alertstate": frozenset({"firing", "pending"}),
}
"""Of labels by whose values something is chosen."""


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((STACK / "prometheus/rules.yml").read_text("utf-8"))["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def expressions() -> Iterator[tuple[str, str, str]]:
    """Where it stands, the expression, and text with labels in it that shall be there."""
    for question in grafana.questions("prometheus"):
        yield str(question), question.target["expr"], question.target["legendFormat"]
    for dashboard, variable in grafana.variables("prometheus"):
        found = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"])
        assert found is not None
        yield f"{dashboard}: ${variable['name']}", found[1], f"{{{{{found[2]}}}}}"
    for rule in rules():
        yield f"rule {rule['alert']}", rule["expr"], ""


EXPRESSIONS = list(expressions())


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Names of series, each with the names of its labels."""
    world = Eventful(tmp_path_factory.mktemp("eventful"))
    with world.gateway as gateway:
        asyncio.run(world.happen())
        lines = gateway.metrics()
        gateway.assert_no_internal_error()
    found = dict[str, set[str]]()
    for family in text_string_to_metric_families("\n".join(lines) + "\n"):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


@pytest.mark.parametrize(
    ("expression", "legend"),
    [pytest.param(text, legend, id=where) for where, text, legend in EXPRESSIONS],
)
def test_what_is_asked_for_is_there(
    shown: dict[str, set[str]], expression: str, legend: str
) -> None:
    asked = promql.asked(expression)
    assert asked.series
    known = set[str]()
    for name, matchers in asked.series:
        assert name in shown or name in OWN, f"no gateway shows {name}"
        labels = shown.get(name) or OWN.get(name, set())
        known |= labels
        for matcher in matchers:
            assert matcher.label in labels, f"{name} has no label {matcher.label}"
            if matcher.value == "$model":
                assert (matcher.label, matcher.sign) == ("model", "=~"), "several may be chosen"
            else:
                assert set(matcher.value.split("|")) <= VALUES[matcher.label], matcher
    assert asked.labels <= known
    in_legend = set(re.findall(r"\{\{(\w+)\}\}", legend))
    assert in_legend <= known
    if asked.labels:
        assert in_legend <= asked.labels - {"le"}, "the grouping has dropped it"


def test_a_counter_is_never_drawn_as_it_is() -> None:
    """It only grows, and begins anew with the gateway: what is shown is its growth."""
    for where, expression, _ in EXPRESSIONS:
        for name in re.findall(r"\w+_(?:total|bucket|sum|count)\b", expression):
            if name.startswith("homeport_"):
                used = re.findall(rf"(\w+)\({name}(?:{{[^}}]*}})?\[", expression)
                assert len(used) == expression.count(name), where
                assert set(used) <= {"rate", "increase"}, where


def test_the_reader_of_expressions() -> None:
    """Functions, keywords and labels are no metrics."""
    found = promql.asked(
        "histogram_quantile(0.9, sum by (le, model) (rate(a_bucket{model=~\"x|y\", b!='z'}[5m])))"
        " / on (model) group_left (c) (d > bool 1 or vector(0)) unless e offset 5m"
    )
    assert [name for name, _ in found.series] == ["a_bucket", "d", "e"]
    assert [(m.label, m.sign, m.value) for m in found.series[0][1]] == [
        ("model", "=~", "x|y"),
        ("b", "!=", "z"),
    ]
    assert found.labels == {"le", "model", "c"}
