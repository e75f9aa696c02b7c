"""A real Prometheus, with the stack's own configuration, scrapes a real gateway.

The image is the stack's (`prom/prometheus:v3.0.0`, or what stands in for it here: its version is
printed). It runs on this machine's own network, so that `gateway` is this machine; of the configuration
are changed: the gateway's port, which is free here and there, and the interval, so that nobody waits.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.stack.test_dashboard_metrics import EXPRESSIONS
from tests.support import grafana
from tests.support.eventful import Eventful
from tests.support.gateway import free_port
from tests.support.grafana import STACK

pytestmark = pytest.mark.docker

IMAGE = "prom/prometheus:v3.0.0"
TOKEN = "scraped-with-this"
FILES = STACK / "prometheus"
SOON_S = 60.0
QUIET = {
    "homeport-overview: What is wrong: A",  # nothing is
    "homeport-overview: Under way and waiting: B",  # nobody waits at that moment
    "homeport-overview: Records: B",  # none is lost
}
"""Questions without an answer where all is well. All others must have one."""


def docker(*words: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["docker", *words], input=stdin, capture_output=True, timeout=120)


@pytest.fixture(scope="module", autouse=True)
def image() -> str:
    if shutil.which("docker") is None:
        pytest.skip("no docker on the PATH")
    if (answer := docker("info")).returncode:
        pytest.skip(f"Docker does not answer: {answer.stderr.decode().strip()}")
    if docker("image", "inspect", IMAGE).returncode and docker("pull", "--quiet", IMAGE).returncode:
        pytest.skip(f"{IMAGE} is not here and cannot be pulled")
    version = docker("run", "--rm", "--entrypoint", "prometheus", IMAGE, "--version")
    print((version.stdout or version.stderr).decode().splitlines()[0])
    return IMAGE


def promtool(folder: Path, *words: str) -> str:
    """Its verdict; the folder lies where the stack puts it."""
    mount = f"{folder}:/etc/prometheus:ro"
    done = docker("run", "--rm", "--volume", mount, "--entrypoint", "promtool", IMAGE, *words)
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, said
    return said


def folder_with(folder: Path, text: str) -> Path:
    """The stack's folder for Prometheus, as `homeport install` writes it, readable for its user."""
    folder.mkdir(mode=0o755)
    for name, said in (
        ("prometheus.yml", text),
        ("rules.yml", (FILES / "rules.yml").read_text("utf-8")),
        ("metrics_token", TOKEN),
    ):
        (folder / name).write_text(said, "utf-8")
        (folder / name).chmod(0o644)
    return folder


def test_promtool_finds_nothing_wrong(tmp_path: Path) -> None:
    written = folder_with(tmp_path / "prometheus", (FILES / "prometheus.yml").read_text("utf-8"))
    said = promtool(written, "check", "config", "/etc/prometheus/prometheus.yml")
    assert "SUCCESS: 5 rules found" in said


RULE_TESTS: dict[str, Any] = {
    "rule_files": ["rules.yml"],
    "evaluation_interval": "1m",
    "tests": [
        {
            "interval": "1m",
            "input_series": [
                {"series": 'up{job="homeport"}', "values": "1 1 0x20"},
                {"series": 'up{job="llama"}', "values": "0x20"},
                {"series": "homeport_store_up", "values": "1 0x30"},
                {
                    "series": 'homeport_model_state{model="a", state="failed"}',
                    "values": "0 0 1x20",
                },
                {"series": 'homeport_model_state{model="b", state="failed"}', "values": "0x30"},
                {
                    "series": 'homeport_requests_total{model="a", outcome="ok"}',
                    "values": "0+1x30",
                },
                {
                    "series": 'homeport_requests_total{model="a", outcome="unavailable"}',
                    "values": "0+1x30",
                },
                {"series": 'homeport_usage_dropped_total{why="spool"}', "values": "0x9 5x30"},
            ],
            "alert_rule_test": [
                {"eval_time": "3m", "alertname": "HomeportDown", "exp_alerts": []},
                {
                    "eval_time": "5m",
                    "alertname": "HomeportDown",
                    "exp_alerts": [{"exp_labels": {"severity": "critical", "job": "homeport"}}],
                },
                {
                    "eval_time": "4m",
                    "alertname": "HomeportModelFailed",
                    "exp_alerts": [{"exp_labels": {"severity": "critical", "model": "a"}}],
                },
                {"eval_time": "3m", "alertname": "HomeportRequestsFail", "exp_alerts": []},
                {
                    "eval_time": "20m",
                    "alertname": "HomeportRequestsFail",
                    "exp_alerts": [{"exp_labels": {"severity": "warning"}}],
                },
                {"eval_time": "9m", "alertname": "HomeportStoreDown", "exp_alerts": []},
                {
                    "eval_time": "12m",
                    "alertname": "HomeportStoreDown",
                    "exp_alerts": [{"exp_labels": {"severity": "warning"}}],
                },
                {"eval_time": "8m", "alertname": "HomeportRecordsLost", "exp_alerts": []},
                {
                    "eval_time": "12m",
                    "alertname": "HomeportRecordsLost",
                    "exp_alerts": [{"exp_labels": {"severity": "warning"}}],
                },
            ],
        }
    ],
}
"""Prometheus' own unit tests of rules: series by the minute, and which alerts fire when."""


def test_rules_fire_when_they_should(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "prometheus", (FILES / "prometheus.yml").read_text("utf-8"))
    # Annotations are compared as well, so they are left out: their words are not what is tested.
    rules = yaml.safe_load((folder / "rules.yml").read_text("utf-8"))
    for rule in rules["groups"][0]["rules"]:
        rule.pop("annotations")
    (folder / "rules.yml").write_text(yaml.safe_dump(rules), "utf-8")
    (folder / "tests.yml").write_text(yaml.safe_dump(RULE_TESTS), "utf-8")
    assert "SUCCESS" in promtool(folder, "test", "rules", "/etc/prometheus/tests.yml")


class Prometheus:
    """One that runs, by its HTTP API."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def get(self, path: str, **query: str) -> Any:
        url = f"{self._url}{path}?{urllib.parse.urlencode(query)}"
        with self._opener.open(url, timeout=10) as answer:
            said = json.load(answer)
        assert said["status"] == "success", said
        return said["data"]

    def query(self, expression: str) -> list[Any]:
        found: list[Any] = self.get("/api/v1/query", query=expression)["result"]
        return found

    def until(self, expression: str) -> list[Any]:
        """Until there is an answer."""
        deadline = time.monotonic() + SOON_S
        while True:
            try:
                if found := self.query(expression):
                    return found
            except OSError:
                pass  # it is starting
            assert time.monotonic() < deadline, f"no answer: {expression}"
            time.sleep(0.1)


@pytest.fixture(scope="module")
def scraping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """After the gateway has been through everything, once before it was first seen and once after."""
    folder = tmp_path_factory.mktemp("scraped")
    world = Eventful(folder, {"HOMEPORT_METRICS_TOKEN": TOKEN})
    name = f"homeport-test-mon-{os.getpid()}"
    with world.gateway as gateway:
        text = (FILES / "prometheus.yml").read_text("utf-8")
        for from_, to in (
            ("gateway:11899", f"gateway:{gateway.port}"),
            ("scrape_interval: 15s", "scrape_interval: 1s"),
            ("scrape_timeout: 10s", "scrape_timeout: 1s"),
        ):
            assert from_ in text
            text = text.replace(from_, to)
        written, port = folder_with(folder / "prometheus", text), free_port()
        asyncio.run(world.happen())
        started = docker(
            *("run", "--detach", "--rm", "--name", name, "--network", "host"),
            *("--add-host", "gateway:127.0.0.1", "--volume", f"{written}:/etc/prometheus:ro"),
            *(IMAGE, "--config.file=/etc/prometheus/prometheus.yml"),
            *("--storage.tsdb.path=/prometheus", f"--web.listen-address=127.0.0.1:{port}"),
        )
        assert started.returncode == 0, started.stderr.decode()
        try:
            prometheus = Prometheus(port)
            prometheus.until("homeport_model_crashes_total > 0")
            asyncio.run(world.happen())
            prometheus.until("increase(homeport_model_crashes_total[1m]) > 0")
            prometheus.until("increase(homeport_queue_wait_seconds_count[1m]) > 0")
            prometheus.until('homeport_model_state{model="two", state="ready"} == 1')
            yield prometheus
        finally:
            docker("rm", "--force", "--volumes", name)
        gateway.assert_no_internal_error()


def test_it_reaches_the_gateway_with_the_token(scraping: Prometheus) -> None:
    (target,) = (
        each
        for each in scraping.get("/api/v1/targets")["activeTargets"]
        if each["labels"]["job"] == "homeport"
    )
    assert (target["health"], target["lastError"]) == ("up", "")
    assert target["labels"]["instance"] == "homeport"
    (up,) = scraping.query('up{job="homeport"}')
    assert up["value"][1] == "1"
    assert scraping.query("homeport_store_up")[0]["value"][1] == "1"


def test_a_service_that_does_not_run_is_no_target(scraping: Prometheus) -> None:
    """Of llama.cpp as a service, which is not here: nothing is down, so nothing is said to be."""
    assert scraping.query('up{job="llama"}') == []
    jobs = {each["labels"]["job"] for each in scraping.get("/api/v1/targets")["activeTargets"]}
    assert jobs == {"homeport", "prometheus"}


def test_its_rules_are_loaded_and_quiet(scraping: Prometheus) -> None:
    (group,) = scraping.get("/api/v1/rules")["groups"]
    assert len(group["rules"]) == 5
    assert [rule["name"] for rule in group["rules"] if rule["health"] == "err"] == []
    assert scraping.query('ALERTS{alertstate="firing", alertname!="HomeportRequestsFail"}') == []


@pytest.mark.parametrize(
    ("where", "expression"),
    [
        pytest.param(where, text, id=where)
        for where, text, _ in EXPRESSIONS
        if not where.startswith("rule ")
    ],
)
def test_every_question_has_an_answer(scraping: Prometheus, where: str, expression: str) -> None:
    found = scraping.query(grafana.promql(expression))
    assert bool(found) == (where not in QUIET)
    chosen = scraping.query(grafana.promql(expression, model="one|two"))
    assert bool(chosen) == bool(found)
    if "$model" in expression:
        assert scraping.query(grafana.promql(expression, model="nobody")) == []


def test_states_are_drawn_as_they_are(scraping: Prometheus) -> None:
    """The numbers of the panel against /metrics: one model is ready, the other is not there."""
    (expression,) = (
        text for where, text, _ in EXPRESSIONS if where == "homeport-overview: Models: A"
    )
    found = {each["metric"]["model"]: each["value"][1] for each in scraping.query(expression)}
    assert found == {"one": "0", "two": "2"}
