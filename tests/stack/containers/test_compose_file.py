"""The compose file as it is shipped: who gets which secret, and what is asked of whom."""

from __future__ import annotations

import re
from importlib import resources
from typing import Any

import pytest
import yaml

from homeport.stack.installing import variables

FILES = resources.files("homeport.stack") / "files"
SERVICES: dict[str, Any] = yaml.safe_load((FILES / "compose.yaml").read_text())["services"]
SECRETS = {
    variable.name
    for variable in variables.wanted({}, (), user=None, has_gpu=False)
    if re.search("_(KEY|PASSWORD|TOKEN)$", variable.name)
}


def test_the_gateway_gets_no_secret_that_is_not_its_own() -> None:
    """All of .env is there for config.yaml; what is of others is taken out."""
    gateway = SERVICES["gateway"]
    assert gateway["env_file"] == [".env"]
    blank = {name for name in SECRETS if gateway["environment"].get(name) == ""}
    assert SECRETS - blank == {
        "HOMEPORT_MASTER_KEY",
        "HOMEPORT_INTERNAL_KEY",
        "HOMEPORT_METRICS_TOKEN",
        "LITELLM_MASTER_KEY",
        "HOMEPORT_DB_PASSWORD",
    }


@pytest.mark.parametrize("name", sorted(set(SERVICES) - {"gateway", "litellm"}))
def test_others_get_what_they_are_given_and_nothing_else(name: str) -> None:
    assert "env_file" not in SERVICES[name]


def test_in_its_container_the_gateway_listens_where_it_is_looked_for() -> None:
    """``server.port`` of config.yaml is for a homeport without containers."""
    command = SERVICES["gateway"]["command"]
    port = command[command.index("--port") + 1]
    assert SERVICES["gateway"]["ports"] == [
        f"${{HOMEPORT_BIND:-127.0.0.1}}:${{HOMEPORT_PORT:-11899}}:{port}"
    ]
    assert f"'127.0.0.1', {port}," in (FILES / "gateway" / "Dockerfile").read_text()


@pytest.mark.parametrize("name", ["gateway", "litellm"])
def test_no_proxy_is_asked_whether_they_are_healthy(name: str) -> None:
    dockerfile = (FILES / name / "Dockerfile").read_text()
    check = dockerfile[dockerfile.index("HEALTHCHECK") :]
    assert "http.client" in check
    assert "urlopen" not in check, "that reads http_proxy"


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_only_the_gateway_may_be_published_beyond_this_machine(name: str) -> None:
    for port in SERVICES[name].get("ports", ()):
        assert port.startswith("127.0.0.1:") != (name == "gateway")


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_logs_do_not_fill_the_disk_where_a_service_goes_on(name: str) -> None:
    service = SERVICES[name]
    if service.get("restart"):
        assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}
    else:
        assert service["labels"] == {"homeport.once": "true"}
