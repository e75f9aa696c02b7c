"""The dashboards against Grafana's own types: `@grafana/schema`, by TypeScript.

The judge is the package that Grafana's front end is built with (12.3.3). Each dashboard is checked as
its `Dashboard`; each panel as its `Panel` *with the options and field options of its kind*, which
`Dashboard` alone leaves open. Literals are written out, so that a field which a type does not have is
an error as well as a wrong value. What it does not judge: whether a query is right (other tests ask
Prometheus and PostgreSQL), and what the picture looks like.

Takes three seconds, and npm. Where there is none it is skipped.
"""

from __future__ import annotations

import copy
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import grafana
from tests.support.npm_client import NpmClient, NpmMissingError

SCHEMA = NpmClient("grafana-schema", "@grafana/schema")
KINDS = {  # type of a panel → the file of its types, and whether it has options for fields
    "stat": ("stat/panelcfg/x/StatPanelCfg_types.gen", False),
    "state-timeline": ("statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen", True),
    "table": ("table/panelcfg/x/TablePanelCfg_types.gen", True),
    "timeseries": ("timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen", True),
}
TYPES = "@grafana/schema/dist/types"

PLAIN = """
// In JSON an enum is its value, and what is optional may be left out but not null.
type Plain<T> = T extends string ? `${T}`
  : T extends number | boolean | null | undefined ? T
  : T extends (infer U)[] ? Plain<U>[]
  : T extends object ? { [K in keyof T]: Plain<T[K]> }
  : T;
type Of<O, F> = Plain<Omit<Panel, 'options' | 'fieldConfig'>>
  & { options: Plain<O>; fieldConfig: Plain<Omit<FieldConfigSource<F>, 'defaults'>>
      & { defaults: Plain<Omit<FieldConfig, 'custom'>> & { custom?: Plain<Partial<F>> } } };
"""


@pytest.fixture(scope="module")
def installed() -> Path:
    try:
        return SCHEMA.installed()
    except NpmMissingError as missing:
        pytest.skip(str(missing))


def program(dashboards: dict[str, dict[str, Any]]) -> str:
    """All of it as TypeScript."""
    lines = [
        "import type { Dashboard, FieldConfig, FieldConfigSource, Panel, RowPanel } "
        f"from '{TYPES}/veneer/dashboard.types';",
        f"import type {{ VariableModel }} from '{TYPES}/veneer/dashboard.types';",
    ]
    for kind, (module, _) in KINDS.items():
        lines.append(f"import type * as {name_of(kind)} from '{TYPES}/raw/composable/{module}';")
    lines.append(PLAIN)
    lines.append("type Nothing = Record<string, never>;")
    count = 0
    for name, dashboard in dashboards.items():
        whole = {**dashboard, "panels": [], "templating": {"list": []}}
        checked = [("Plain<Dashboard>", whole)]
        checked += [("Plain<VariableModel>", each) for each in dashboard["templating"]["list"]]
        checked += [(type_of(panel), panel) for panel in dashboard["panels"]]
        for type_, value in checked:
            count += 1
            what = f"// {name}: {value.get('title', value.get('name', ''))}"
            text = json.dumps(value, indent=1, ensure_ascii=False)
            lines.append(f"{what}\nexport const it{count}: {type_} = {text};")
    return "\n".join(lines)


def type_of(panel: dict[str, Any]) -> str:
    if panel["type"] == "row":
        return "Plain<RowPanel>"
    module = name_of(panel["type"])
    has_fields = KINDS[panel["type"]][1]
    return f"Of<{module}.Options, {module + '.FieldConfig' if has_fields else 'Nothing'}>"


def name_of(kind: str) -> str:
    return kind.replace("-", "_")


def judged(installed: Path, folder: Path, dashboards: dict[str, dict[str, Any]]) -> str:
    """What TypeScript has to say; nothing where all is well."""
    (folder / "node_modules").symlink_to(installed / "node_modules")
    (folder / "dashboards.ts").write_text(program(dashboards), "utf-8")
    compiler = ["node", "node_modules/typescript/bin/tsc"]
    options = ["--noEmit", "--strict", "--skipLibCheck", "--target", "es2020"]
    done = subprocess.run(
        [*compiler, *options, "--moduleResolution", "node", "dashboards.ts"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode in (0, 1, 2), done.stderr
    assert (done.returncode == 0) == (not done.stdout)
    return done.stdout


def test_they_are_what_grafana_says_a_dashboard_is(installed: Path, tmp_path: Path) -> None:
    assert judged(installed, tmp_path, grafana.documents()) == ""


def panel_of(dashboard: dict[str, Any], kind: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in dashboard["panels"] if each["type"] == kind)
    return found


def fields(dashboard: dict[str, Any], kind: str) -> dict[str, Any]:
    found: dict[str, Any] = panel_of(dashboard, kind)["fieldConfig"]["defaults"]["custom"]
    return found


MISTAKES: dict[str, Callable[[dict[str, Any]], object]] = {
    "refesh": lambda it: it.update(refesh="30s"),
    "gridPosition": lambda it: panel_of(it, "stat").update(gridPosition={}),
    "colourMode": lambda it: panel_of(it, "stat")["options"].update(colourMode="value"),
    "lineWith": lambda it: fields(it, "timeseries").update(lineWith=1),
    "sideways": lambda it: panel_of(it, "timeseries")["options"]["legend"].update(
        placement="sideways"
    ),
    "rowHeight": lambda it: panel_of(it, "state-timeline")["options"].pop("rowHeight"),
    "showHeader": lambda it: panel_of(it, "table")["options"].pop("showHeader"),
}
"""A word of the complaint, and the mistake."""


def test_the_judge_sees_mistakes(installed: Path, tmp_path: Path) -> None:
    """All in one go, each in a copy: one run of the compiler."""
    original = grafana.documents()["homeport-overview"]
    made = {f"copy-{number}": copy.deepcopy(original) for number in range(len(MISTAKES))}
    for dashboard, mistake in zip(made.values(), MISTAKES.values(), strict=True):
        mistake(dashboard)
    said = judged(installed, tmp_path, made)
    assert [word for word in MISTAKES if word not in said] == [], said
