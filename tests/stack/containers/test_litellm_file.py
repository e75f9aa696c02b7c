"""LiteLLM in the stack: its configuration, and what the stack's files say of it."""

from __future__ import annotations

import json
import os
import re
import stat
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml

from homeport.config.problems import CollectedConfigError
from homeport.engines import litellm_proxy
from homeport.errors import StackError
from homeport.stack.containers import litellm_file
from homeport.stack.installing import variables
from homeport.stack.layout import Layout

FILES = resources.files("homeport.stack") / "files"
ENV = f"""\
HOMEPORT_MASTER_KEY=sk-master
LITELLM_MASTER_KEY=sk-there
HOMEPORT_INTERNAL_KEY=sk-here
HOMEPORT_LITELLM_URL={litellm_file.URL}
"""
CONFIG = """\
models:
  small: {path: /models/only-in-the-container.gguf}
  cloud:
    via: litellm
    upstream_model: azure/mine
    litellm_params: {api_base: "https://mine", api_key: sk-azure}
"""


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path)
    layout.services.mkdir()
    layout.env_file.write_text(ENV)
    (tmp_path / "config.yaml").write_text(CONFIG)
    return layout


def brought_up_to_date(layout: Layout) -> bool:
    """Whether there was anything to write."""
    news = litellm_file.news(layout, {})
    if news is not None:
        litellm_file.write(layout, news)
    return news is not None


def written(layout: Layout) -> Any:
    return yaml.safe_load(layout.litellm_config.read_text())


def test_it_is_what_litellm_is_told_beside_homeport(layout: Layout) -> None:
    assert brought_up_to_date(layout)
    config = written(layout)
    models = {entry["model_name"]: entry["litellm_params"] for entry in config["model_list"]}
    assert list(models) == ["local-model", "small", "cloud", "*"]
    for name in ("local-model", "small", "*"):
        assert models[name]["api_base"] == "os.environ/HOMEPORT_URL_V1"
        assert models[name]["api_key"] == "os.environ/HOMEPORT_INTERNAL_KEY"
    assert models["cloud"]["model"] == "azure/mine"
    assert models["cloud"]["extra_headers"] == {litellm_proxy.HOP: "litellm"}, "no circles"
    listed = json.loads(config["environment_variables"]["HOMEPORT_LISTED"])
    assert listed == ["local-model", "small", "cloud"]
    assert config["general_settings"]["custom_auth"] == "callback.admit"


def test_only_its_reader_sees_it(layout: Layout) -> None:
    brought_up_to_date(layout)
    found = layout.litellm_config.stat()
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert "sk-azure" in layout.litellm_config.read_text(), "which is why"
    if os.getuid() == 0:
        assert found.st_uid == litellm_file.USER


def test_it_follows_config_yaml_until_somebody_changes_it(layout: Layout) -> None:
    assert brought_up_to_date(layout)
    assert not brought_up_to_date(layout)
    config = layout.home / "config.yaml"
    config.write_text(CONFIG + "  more: {upstream: http://host.docker.internal:8000/v1}\n")
    assert brought_up_to_date(layout)
    assert "more" in layout.litellm_config.read_text()
    mine = layout.litellm_config.read_text().replace("num_retries: 0", "num_retries: 1")
    layout.litellm_config.write_text(mine)
    config.write_text(CONFIG)
    assert not brought_up_to_date(layout)
    assert layout.litellm_config.read_text() == mine


@pytest.mark.parametrize("text", ["model_list: []\n", "", "# Written by homeport: 00\n", "\0\xff"])
def test_a_file_of_the_users_is_never_touched(text: str, layout: Layout) -> None:
    layout.litellm_config.write_text(text, "latin-1")
    assert not brought_up_to_date(layout)
    assert layout.litellm_config.read_text("latin-1") == text


def test_a_profile_has_its_say(layout: Layout) -> None:
    profiles = layout.home / "profiles"
    profiles.mkdir()
    (profiles / "coding.yaml").write_text("models: {coder: {path: /models/coder.gguf}}\n")
    assert "coder" not in (litellm_file.news(layout, {}) or "")
    assert "coder" in (litellm_file.news(layout, {"HOMEPORT_PROFILE": "coding"}) or "")


def test_it_is_removed_while_it_is_as_it_was_written(layout: Layout) -> None:
    assert litellm_file.removed(layout) == ()
    brought_up_to_date(layout)
    assert litellm_file.removed(layout) == ("litellm_config.yaml",)
    brought_up_to_date(layout)
    layout.litellm_config.write_text(layout.litellm_config.read_text() + "# mine\n")
    assert litellm_file.removed(layout) == ()
    assert layout.litellm_config.exists()


def test_a_config_yaml_with_errors_is_told(layout: Layout) -> None:
    (layout.home / "config.yaml").write_text("modles: {}\n")
    with pytest.raises(CollectedConfigError, match="modles"):
        litellm_file.news(layout, {})
    assert not layout.litellm_config.exists()


def test_without_a_word_of_litellm_to_the_gateway_there_is_nothing_to_write(
    layout: Layout,
) -> None:
    layout.env_file.write_text(ENV.replace(litellm_file.URL, ""))
    with pytest.raises(StackError) as told:
        litellm_file.news(layout, {})
    assert "HOMEPORT_LITELLM_URL" in told.value.hint


# ------------------------------------------------------------------------ the stack's files


def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((FILES / "compose.yaml").read_text())["services"])


def test_what_its_image_says_is_what_homeport_says_where_it_starts_it() -> None:
    dockerfile = (FILES / "litellm" / "Dockerfile").read_text()
    for name, value in litellm_proxy.FIXED.items():
        assert f"{name}={value}" in dockerfile
    assert litellm_proxy.READY_PATH in dockerfile
    assert f"USER {litellm_file.USER}:" in dockerfile
    copied = set(re.findall(r"^COPY (?!--)(\S+)", dockerfile, re.MULTILINE))
    shipped = {"Dockerfile", "database.txt"} | {Path(p).name for p in litellm_file.image_files()}
    assert copied == shipped - {"Dockerfile"}


def test_the_lock_of_its_database_agrees_with_its_own() -> None:
    own = litellm_file.image_files()["litellm/requirements.txt"].decode()
    for line in (FILES / "litellm" / "database.txt").read_text().splitlines():
        name = line.partition("==")[0]
        if not line.startswith(" ") and (known := re.search(f"^{name}==.*$", own, re.MULTILINE)):
            assert line == known[0]


def test_it_gets_no_secret_of_the_others() -> None:
    known = [variable.name for variable in variables.wanted({}, (), user=None, has_gpu=False)]
    secrets = {name for name in known if re.search("_(KEY|PASSWORD|TOKEN)$", name)}
    environment = compose()["litellm"]["environment"]
    its_own = {"LITELLM_MASTER_KEY", "HOMEPORT_INTERNAL_KEY"}
    assert {name for name in secrets if environment.get(name) != ""} == its_own
    given = {name for name in secrets for value in environment.values() if f"${{{name}" in value}
    assert given == its_own | {"LITELLM_DB_PASSWORD"}, "that one is in an address"
    assert environment[litellm_proxy.URL] + "/v1" == environment[f"{litellm_proxy.URL}_V1"]


def test_the_gateway_does_not_wait_for_it() -> None:
    services = compose()
    assert "litellm" not in services["gateway"]["depends_on"]
    assert services["litellm"]["depends_on"]["gateway"] == {"condition": "service_healthy"}
    assert litellm_file.URL.removeprefix("http://") == "litellm:4444"
    assert services["litellm"]["ports"] == ["127.0.0.1:${LITELLM_PORT:-4444}:4444"]
