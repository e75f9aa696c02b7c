"""What LiteLLM is told and given, without LiteLLM."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from homeport.engines import litellm_proxy
from homeport.engines.litellm_proxy import DONE, Place, Plan, command, config, plan_for
from homeport.errors import ConfigError
from homeport.facts import Command
from homeport.litellm import VERSION
from homeport.settings import LiteLLMSettings, ModelSettings, Settings

PLACE = Place(
    url="http://127.0.0.1:11899",
    internal_key="hp-internal",
    folder="/state/litellm-4000",
    python="/python",
    child="/child.py",
    lock="/lock.txt",
    environments="/data",
    digest="abc",
    python_tag="py311",
    owner="1-2",
)
ON = LiteLLMSettings(enabled=True)
NATIVE = ModelSettings(id="qwen", path="/m.gguf")
BEYOND = ModelSettings(
    id="gpt",
    via="litellm",
    upstream_model="azure/gpt",
    litellm_params=(
        ("api_base", "https://mine.example"),
        ("api_key", "os.environ/MY_ODD_NAME"),
        ("api_version", "2024"),
        ("rpm", "10"),
        ("tags", '["a"]'),
    ),
)
AROUND = ModelSettings(id="around", path="/m.gguf", via="litellm")
ENV = {
    "PATH": "/bin",
    "HOME": "/home/you",
    "OPENAI_API_KEY": "sk-1",
    "AWS_PROFILE": "work",
    "MY_ODD_NAME": "odd",
    "SSH_AUTH_SOCK": "/sock",
    "GH_SECRET": "hidden",
    "ANTHROPIC_BASE_URL": "http://127.0.0.1:11899",
    "GROQ_API_BASE": "http://127.0.0.1:11899/v1",
    "PIP_INDEX_URL": "https://mirror.example",
    "NO_PROXY": ".corp",
}


def plan(**settings: Any) -> Plan:
    found = plan_for(Settings(litellm=replace(ON, **settings), models=(NATIVE, BEYOND, AROUND)))
    assert found is not None
    return found


def started(**settings: Any) -> Command:
    place = replace(PLACE, docker="/docker")
    return command(plan(**settings), place, ENV, 4000, "own-key")


def test_who_does_not_want_it_has_none() -> None:
    assert plan_for(Settings(models=(NATIVE, BEYOND))) is None


def test_models_of_ours_are_at_homeport_and_others_are_not() -> None:
    entries = {e["model_name"]: e for e in config(plan(alias="mine"))["model_list"]}
    assert list(entries) == ["mine", "qwen", "around", "gpt", "*"]
    for name in ("mine", "qwen", "around", "*"):
        params = entries[name]["litellm_params"]
        assert params["model"] == f"openai/{name}"
        assert params["api_base"] == "os.environ/HOMEPORT_URL_V1"
        assert "/v1/messages" in entries[name]["model_info"]["supported_endpoints"]
    assert entries["gpt"]["litellm_params"] == {
        "model": "azure/gpt",
        "api_base": "https://mine.example",
        "api_key": "os.environ/MY_ODD_NAME",
        "api_version": "2024",
        "rpm": 10,
        "tags": ["a"],
        "extra_headers": {"x-homeport-hop": "litellm"},
    }


def test_no_key_stands_in_its_file_or_on_its_command_line() -> None:
    text = str(config(plan())) + " ".join(started().argv)
    for secret in ("hp-internal", "own-key", "sk-1", "odd"):
        assert secret not in text


def test_it_gets_the_keys_of_providers_and_little_else() -> None:
    made = started(env=(("AWS_REGION", "eu"),))
    env = dict(made.env)
    assert not made.inherits_env
    for name in ("OPENAI_API_KEY", "AWS_PROFILE", "MY_ODD_NAME", "PATH"):
        assert env[name] == ENV[name]
    assert env["AWS_REGION"] == "eu"
    assert not {"SSH_AUTH_SOCK", "GH_SECRET"} & set(env)
    assert env["NO_PROXY"] == ".corp,127.0.0.1,localhost,::1"


def test_no_variable_leads_a_provider_back_here() -> None:
    assert not {"ANTHROPIC_BASE_URL", "GROQ_API_BASE"} & set(dict(started().env))


def test_the_verified_version_comes_from_the_lock() -> None:
    for version in (None, VERSION):
        argv = started(version=version).argv
        assert argv[3:5] == (f"/data/litellm-{VERSION}-abc-py311", DONE)
        assert argv[argv.index("--lock") + 1] == "/lock.txt"


def test_another_version_is_installed_beside_it() -> None:
    argv = started(version="1.100.0").argv
    assert argv[3] == "/data/litellm-1.100.0-py311"
    assert argv[argv.index("--version") + 1] == "1.100.0"


@pytest.mark.parametrize("version", sorted(litellm_proxy.TAMPERED))
def test_what_was_tampered_with_is_refused(version: str) -> None:
    for runner in ("process", "container"):
        with pytest.raises(ConfigError, match="tampered"):
            started(version=version, runner=runner)


def test_a_container_gets_its_variables_by_name() -> None:
    made = started(runner="container")
    argv = made.argv
    assert argv[:2] == ("/docker", "run")
    assert f"ghcr.io/berriai/litellm:main-v{VERSION}" in argv
    assert argv[argv.index("--network") + 1] == "host"
    named = {argv[i + 1] for i, word in enumerate(argv) if word == "--env"}
    assert {"HOMEPORT_INTERNAL_KEY", "OPENAI_API_KEY"} <= named
    assert not [name for name in named if "=" in name]
    assert made.container is not None
    assert made.container in argv
    other = command(plan(runner="container"), replace(PLACE, docker="d"), ENV, 4000, "next-key")
    assert other.container != made.container


def test_without_docker_a_container_is_an_error() -> None:
    with pytest.raises(ConfigError, match="docker was not found"):
        command(plan(runner="container"), PLACE, ENV, 4000, "key")
