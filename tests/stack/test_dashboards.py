"""The dashboards and what provisions them, as files: made by the generator, whole, and consistent.

Whether Grafana's types agree is test_dashboard_schema.py's; whether the questions can be asked,
test_dashboard_metrics.py's, test_dashboard_sql.py's and test_prometheus.py's.
"""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from homeport.lifecycle.machine import TRANSITIONS
from scripts.dashboards import documents as generated
from scripts.dashboards.questions import NUMBERS, STATES
from tests.support import grafana
from tests.support.grafana import DASHBOARDS, PROVISIONING, STACK

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = grafana.documents()
by_dashboard = pytest.mark.parametrize("name", DOCUMENTS)


def loaded(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


def test_the_files_are_up_to_date() -> None:
    files = {path.name: path.read_text("utf-8") for path in DASHBOARDS.iterdir()}
    assert files == generated(), "run: python -m scripts.dashboards"


@by_dashboard
def test_a_dashboard_has_what_identifies_it(name: str) -> None:
    dashboard = DOCUMENTS[name]
    assert dashboard["uid"] == name, "the file's name is the uid, so that a link to it stays"
    assert 8 <= len(name) <= 40, "what Grafana takes as a uid"
    assert dashboard["id"] is None, "the database that it is read into gives it one"
    assert dashboard["title"]
    assert dashboard["description"]
    titles = [each["title"] for each in DOCUMENTS.values()]
    assert titles.count(dashboard["title"]) == 1


@by_dashboard
def test_panels_are_told_apart_and_explained(name: str) -> None:
    panels = DOCUMENTS[name]["panels"]
    ids = [panel["id"] for panel in panels]
    assert len(set(ids)) == len(ids)
    for panel in panels:
        assert panel["title"]
        if panel["type"] == "row":
            continue
        assert panel["description"].endswith("."), panel["title"]
        refs = [target["refId"] for target in panel["targets"]]
        assert refs
        assert len(set(refs)) == len(refs)
        unit = panel["fieldConfig"]["defaults"].get("unit")
        assert unit or panel["type"] in ("table", "state-timeline"), panel["title"]


@by_dashboard
def test_panels_do_not_overlap_and_no_row_is_empty(name: str) -> None:
    panels = DOCUMENTS[name]["panels"]
    taken = dict[tuple[int, int], str]()
    for panel in panels:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        for x, y in itertools.product(
            range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])
        ):
            assert (x, y) not in taken, (panel["title"], taken[x, y])
            taken[x, y] = panel["title"]
    kinds = [panel["type"] for panel in panels]
    assert kinds[-1] != "row"
    assert ("row", "row") not in itertools.pairwise(kinds)


@by_dashboard
def test_variables_that_are_used_exist_and_the_other_way_round(name: str) -> None:
    asked = [
        target.get("expr") or target["rawSql"]
        for panel in DOCUMENTS[name]["panels"]
        for target in panel.get("targets", ())
    ]
    used = set(re.findall(r"\$\{?([a-z]\w*)", " ".join(asked)))
    assert used == {each["name"] for each in DOCUMENTS[name]["templating"]["list"]}


def test_every_state_of_a_model_has_a_number_and_a_word() -> None:
    assert set(NUMBERS) | {"stopped"} == set(TRANSITIONS)
    assert [0, *NUMBERS.values()] == [int(number) for number in STATES]


# --- provisioning ---------------------------------------------------------------------------


def sources() -> dict[str, dict[str, Any]]:
    file = loaded(PROVISIONING / "datasources/homeport.yaml")
    assert file["apiVersion"] == 1
    return {source["uid"]: source for source in file["datasources"]}


def test_each_question_goes_to_a_data_source_that_is_provisioned() -> None:
    known = {uid: source["type"] for uid, source in sources().items()}
    for dashboard in DOCUMENTS.values():
        named = [variable["datasource"] for variable in dashboard["templating"]["list"]]
        for panel in dashboard["panels"]:
            if panel["type"] != "row":
                targets = [target["datasource"] for target in panel["targets"]]
                assert targets == [panel["datasource"]] * len(targets), panel["title"]
                named += targets
        assert named
        for source in named:
            assert known[source["uid"]] == source["type"]


def test_the_sources_are_those_of_the_stack() -> None:
    prometheus, database = sources()["homeport-prometheus"], sources()["homeport-database"]
    scraped = loaded(STACK / "prometheus/prometheus.yml")["global"]["scrape_interval"]
    assert prometheus["jsonData"]["timeInterval"] == scraped
    assert prometheus["isDefault"]
    assert database["url"] == "timescaledb:5432"
    assert database["jsonData"]["database"] == "homeport"
    assert database["user"] == "homeport_reader", "the owner could do anything"
    assert database["secureJsonData"] == {"password": "${HOMEPORT_DB_READER_PASSWORD}"}


def mounts_of(service: str) -> dict[str, str]:
    """By where the service finds them; what it may not write."""
    volumes = loaded(STACK / "compose.yaml")["services"][service]["volumes"]
    parts = [volume.split(":") for volume in volumes if volume.endswith(":ro")]
    return {where: what for what, where, _ in parts}


def test_files_lie_where_the_services_look_for_them() -> None:
    assert mounts_of("prometheus") == {"/etc/prometheus": "./prometheus"}
    config = loaded(STACK / "prometheus/prometheus.yml")
    assert config["rule_files"] == ["/etc/prometheus/rules.yml"]
    assert (STACK / "prometheus/rules.yml").exists()
    file = loaded(PROVISIONING / "dashboards/homeport.yaml")
    (provider,) = file["providers"]
    assert (file["apiVersion"], provider["type"]) == (1, "file")
    assert mounts_of("grafana") == {
        "/etc/grafana/provisioning": "./grafana/provisioning",
        provider["options"]["path"]: "./grafana/dashboards",
    }
    assert not provider["allowUiUpdates"], "or a new version of ours would undo the user's"


# --- the package ----------------------------------------------------------------------------


def test_a_wheel_has_all_of_it(tmp_path: Path) -> None:
    """Files without a line of Python go along because they lie in the package."""
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    done = subprocess.run(
        [*build, "--directory", str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    ours = [
        path.relative_to(ROOT / "src").as_posix()
        for part in ("grafana", "prometheus", "timescaledb")
        for path in (STACK / part).rglob("*")
        if path.is_file()
    ]
    assert len(ours) >= 8
    assert [name for name in ours if name not in packed] == []
