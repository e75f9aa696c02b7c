"""How Grafana says it: the classic dashboard model, schema version 42 (Grafana 12.3).

Panels are laid out by themselves: a dashboard is sections of lines of panels, a line is 24 wide.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any, Final, NamedTuple, TypeAlias

Json: TypeAlias = dict[str, Any]

PROMETHEUS: Final = {"type": "prometheus", "uid": "homeport-prometheus"}
DATABASE: Final = {"type": "grafana-postgresql-datasource", "uid": "homeport-database"}
"""The uids stand in provisioning/datasources/homeport.yaml."""

WIDTH: Final = 24
SCHEMA_VERSION: Final = 42
TAG: Final = "homeport"

Steps: TypeAlias = Sequence[tuple[float | None, str]]
"""Thresholds: from which value on which colour; the first has none."""
PLAIN: Final[Steps] = ((None, "text"),)
BAD_FROM_ONE: Final[Steps] = ((None, "green"), (1, "red"))


class Panel(NamedTuple):
    type: str
    title: str
    says: str
    width: int
    height: int
    targets: Sequence[Json]
    options: Json
    defaults: Json
    overrides: Sequence[Json] = ()
    transformations: Sequence[Json] = ()
    interval: str | None = None
    """No finer than that."""


class Section(NamedTuple):
    title: str
    lines: Sequence[Sequence[Panel]]


class Dashboard(NamedTuple):
    name: str
    """Of the file, and the uid."""
    title: str
    says: str
    since: str
    variables: Sequence[Json]
    sections: Sequence[Section]


# ----------------------------------------------------------------------- questions


def prom(expr: str, legend: str = "") -> Json:
    """A series over time."""
    return _prom(expr, legend, instant=False, format_="time_series")


def prom_now(expr: str, legend: str = "") -> Json:
    """One value each, as of the end of the chosen time."""
    return _prom(expr, legend, instant=True, format_="time_series")


def prom_table(expr: str) -> Json:
    return _prom(expr, "", instant=True, format_="table")


def _prom(expr: str, legend: str, *, instant: bool, format_: str) -> Json:
    return {
        "datasource": PROMETHEUS,
        "editorMode": "code",
        "expr": expr,
        "format": format_,
        "instant": instant,
        "legendFormat": legend or "__auto",
        "range": not instant,
    }


def sql_series(text: str) -> Json:
    """Columns: time, values; a text column ``metric`` makes a series of each of its values."""
    return _sql(text, "time_series")


def sql_table(text: str) -> Json:
    return _sql(text, "table")


def _sql(text: str, format_: str) -> Json:
    return {
        "datasource": DATABASE,
        "editorMode": "code",
        "format": format_,
        "rawQuery": True,
        "rawSql": text,
    }


# ----------------------------------------------------------------------- panels


def stat(
    title: str,
    says: str,
    target: Json,
    *,
    unit: str = "short",
    steps: Steps = PLAIN,
    width: int = 4,
    decimals: int | None = None,
    texts: Mapping[str, tuple[str, str]] | None = None,
    empty: str = "–",
    units: Mapping[str, str] | None = None,
) -> Panel:
    """Big numbers: one for each value that comes. ``texts``: words and colour instead of a value."""
    defaults: Json = {"unit": unit, "thresholds": _thresholds(steps), "noValue": empty}
    defaults["color"] = {"mode": "thresholds"}
    if decimals is not None:
        defaults["decimals"] = decimals
    if texts:
        defaults["mappings"] = [_texts(texts)]
    options = {
        "colorMode": "value",
        "graphMode": "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "percentChangeColorMode": "standard",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "showPercentChange": False,
        "textMode": "value_and_name" if units else "auto",
        "wideLayout": True,
    }
    overrides = [_unit(name, of) for name, of in (units or {}).items()]
    return Panel("stat", title, says, width, 4, [target], options, defaults, overrides)


def graph(
    title: str,
    says: str,
    *targets: Json,
    unit: str,
    style: str = "lines",
    width: int = 12,
    top: float | None = None,
    interval: str | None = None,
) -> Panel:
    """``style``: lines; area, for what adds up; bars, for counts; points, for what is rare."""
    adds_up = style in ("area", "bars")
    custom = {
        "drawStyle": {"bars": "bars", "points": "points"}.get(style, "line"),
        "fillOpacity": {"bars": 80, "area": 30}.get(style, 5),
        "lineInterpolation": "linear",
        "lineWidth": 1,
        "pointSize": 8 if style == "points" else 4,
        "showPoints": "auto",
        "spanNulls": False,
        "stacking": {"mode": "normal" if adds_up else "none", "group": "A"},
        "axisSoftMin": 0,
    }
    defaults: Json = {
        "unit": unit,
        "min": 0,
        "color": {"mode": "palette-classic-by-name"},
        "custom": custom,
    }
    if top is not None:
        defaults["max"] = top
    options = {
        "legend": {
            "calcs": [],
            "displayMode": "list",
            "placement": "bottom",
            "showLegend": True,
        },
        "tooltip": {"mode": "multi", "sort": "desc", "hideZeros": True},
    }
    return Panel("timeseries", title, says, width, 8, targets, options, defaults, interval=interval)


def states(
    title: str, says: str, target: Json, texts: Mapping[str, tuple[str, str]], *, width: int
) -> Panel:
    """What each thing was, over time."""
    defaults = {
        "color": {"mode": "thresholds"},
        "custom": {"fillOpacity": 80, "lineWidth": 0},
        "mappings": [_texts(texts)],
        "thresholds": _thresholds(PLAIN),
    }
    options = {
        "alignValue": "left",
        "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": True},
        "mergeValues": True,
        "rowHeight": 0.85,
        "showValue": "auto",
        "tooltip": {"mode": "single", "sort": "none"},
    }
    return Panel("state-timeline", title, says, width, 8, [target], options, defaults)


def table(
    title: str,
    says: str,
    *targets: Json,
    units: Mapping[str, str],
    width: int = 24,
    height: int = 8,
    empty: str = "nothing in this time",
    columns: Mapping[str, str] | None = None,
    hidden: Sequence[str] = (),
) -> Panel:
    """``columns`` renames what comes; of several questions Grafana calls the values ``Value #A``, …"""
    defaults = {
        "custom": {"align": "auto", "cellOptions": {"type": "auto"}, "inspect": False},
        "noValue": empty,
        "thresholds": _thresholds(PLAIN),
    }
    organize = {
        "excludeByName": dict.fromkeys(hidden, True),
        "indexByName": {},
        "renameByName": dict(columns or {}),
    }
    transformations: list[Json] = [{"id": "organize", "options": organize}]
    if len(targets) > 1:
        transformations.insert(0, {"id": "merge", "options": {}})
    return Panel(
        "table",
        title,
        says,
        width,
        height,
        targets,
        {"cellHeight": "sm", "frameIndex": 0, "showHeader": True},
        defaults,
        [_unit(name, unit) for name, unit in units.items()],
        transformations if columns or hidden else (),
    )


# ----------------------------------------------------------------------- variables


def variable(name: str, label: str, source: Json, query: object, *, everything: str) -> Json:
    """Several may be chosen. ``everything`` is put in for all of them, as it is."""
    return {
        "allValue": everything,
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "datasource": source,
        "hide": 0,
        "includeAll": True,
        "label": label,
        "multi": True,
        "name": name,
        "query": query,
        "refresh": 2,  # with the chosen time
        "regex": "",
        "sort": 5,  # by the alphabet, whatever the case
        "type": "query",
    }


# ----------------------------------------------------------------------- the document


def document(dashboard: Dashboard) -> Json:
    return {
        "annotations": {"list": []},
        "description": dashboard.says,
        "editable": True,
        "fiscalYearStartMonth": 0,
        "graphTooltip": 1,
        "id": None,
        "links": [_links()],
        "panels": list(_panels(dashboard.sections)),
        "refresh": "30s",
        "schemaVersion": SCHEMA_VERSION,
        "tags": [TAG],
        "templating": {"list": list(dashboard.variables)},
        "time": {"from": dashboard.since, "to": "now"},
        "timepicker": {},
        "timezone": "browser",
        "title": dashboard.title,
        "uid": dashboard.name,
        "version": 1,
    }


def _panels(sections: Sequence[Section]) -> Iterator[Json]:
    ids, y = count(1), 0
    for section in sections:
        yield {
            "collapsed": False,
            "gridPos": {"h": 1, "w": WIDTH, "x": 0, "y": y},
            "id": next(ids),
            "panels": [],
            "title": section.title,
            "type": "row",
        }
        y += 1
        for line in section.lines:
            assert sum(panel.width for panel in line) == WIDTH, [panel.title for panel in line]
            x = 0
            for panel in line:
                yield _panel(panel, next(ids), x, y)
                x += panel.width
            y += max(panel.height for panel in line)


def _panel(panel: Panel, number: int, x: int, y: int) -> Json:
    said: Json = {
        "datasource": panel.targets[0]["datasource"],
        "description": panel.says,
        "fieldConfig": {"defaults": panel.defaults, "overrides": list(panel.overrides)},
        "gridPos": {"h": panel.height, "w": panel.width, "x": x, "y": y},
        "id": number,
        "options": panel.options,
        "targets": [
            {**target, "refId": chr(ord("A") + index)} for index, target in enumerate(panel.targets)
        ],
        "title": panel.title,
        "type": panel.type,
    }
    if panel.transformations:
        said["transformations"] = list(panel.transformations)
    if panel.interval:
        said["interval"] = panel.interval
    return said


def _links() -> Json:
    """To the other dashboards, with the time that is chosen."""
    return {
        "asDropdown": False,
        "icon": "external link",
        "includeVars": False,
        "keepTime": True,
        "tags": [TAG],
        "targetBlank": False,
        "title": "homeport",
        "tooltip": "",
        "type": "dashboards",
        "url": "",
    }


def _thresholds(steps: Steps) -> Json:
    return {
        "mode": "absolute",
        "steps": [{"color": color, "value": value} for value, color in steps],
    }


def _texts(texts: Mapping[str, tuple[str, str]]) -> Json:
    return {
        "type": "value",
        "options": {
            value: {"text": text, "color": color, "index": index}
            for index, (value, (text, color)) in enumerate(texts.items())
        },
    }


def _unit(name: str, unit: str) -> Json:
    return {
        "matcher": {"id": "byName", "options": name},
        "properties": [{"id": "unit", "value": unit}],
    }
