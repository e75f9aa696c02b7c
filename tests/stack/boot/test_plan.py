"""What a container's environment asks for, as a plan: order, commands, keys, files."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import yaml

from homeport.errors import ConfigError
from homeport.facts import Command
from homeport.stack.boot import litellm_config
from homeport.stack.boot.plan import (
    EXIT_GATEWAY,
    EXIT_LITELLM,
    EXIT_LLAMA,
    Findings,
    LiteLLM,
    Llama,
    Member,
    Plan,
    Wishes,
    plan,
    wishes,
)

LLAMA = Llama(
    model_id="coder",
    model="/models/coder.gguf",
    command=Command(argv=("llama-server", "-m", "/models/coder.gguf"), env=(("A", "1"),)),
    context_tokens=4096,
)
OWN_FILE = litellm_config.read(b"model_list: [{model_name: mine}]", "own.yaml")
LITELLM = LiteLLM(argv=("litellm",), installs=False, config="/etc/litellm.yaml", file=OWN_FILE)
NO_FILE = msgspec.structs.replace(LITELLM, file=None)
ON = {"AUTO_INFER_LLAMA_CPP_ON_BOOT": "1", "AUTO_INFER_LLAMA_CPP_MODEL": "/models/coder.gguf"}


def found(**more: Any) -> Findings:
    return Findings(python="python", state="/state", hostname="box", **more)


def planned(env: dict[str, str] | None = None, **more: Any) -> Plan:
    return plan(Wishes(), found(**more), env or {}, "sk-new")


def env_of(member: Member) -> dict[str, str]:
    assert not member.command.inherits_env
    return dict(member.command.env)


# --- what is wanted -------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["1", "true", "Yes", "ON", " on "])
def test_words_for_on(word: str) -> None:
    assert wishes({**ON, "AUTO_INFER_LITELLM_ON_BOOT": word}).litellm


@pytest.mark.parametrize("word", ["0", "false", "No", "off", "", " "])
def test_words_for_off(word: str) -> None:
    assert not wishes({"AUTO_INFER_LITELLM_ON_BOOT": word}).litellm


@pytest.mark.parametrize(
    ("env", "where", "words"),
    [
        ({"AUTO_INFER_LITELLM_ON_BOOT": "perhaps"}, "AUTO_INFER_LITELLM_ON_BOOT", "on or off"),
        ({"AUTO_INFER_LLAMA_CPP_ON_BOOT": "2"}, "AUTO_INFER_LLAMA_CPP_ON_BOOT", "is '2'"),
        ({"AUTO_INFER_LLAMA_CPP_ON_BOOT": "1"}, "AUTO_INFER_LLAMA_CPP_ON_BOOT", "no model"),
        (
            {**ON, "AUTO_INFER_LLAMA_CPP_CONFIG": "/models"},
            "AUTO_INFER_LLAMA_CPP_MODEL",
            "does so too",
        ),
        ({"HOMEPORT_PORT": "70000"}, "HOMEPORT_PORT", "is no port"),
        ({"LLAMA_PORT": "http"}, "LLAMA_PORT", "is no port"),
        ({"LITELLM_PORT": "11899"}, "LLAMA_PORT, LITELLM_PORT, HOMEPORT_PORT", "one port"),
    ],
)
def test_what_cannot_be_wanted(env: dict[str, str], where: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as raised:
        wishes(env)
    assert raised.value.where == where
    assert raised.value.hint


# --- the chain ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chosen", "names", "ports", "codes"),
    [
        ({}, ["gateway"], [11899], [EXIT_GATEWAY]),
        ({"llama": LLAMA}, ["llama", "gateway"], [8080, 11899], [EXIT_LLAMA, EXIT_GATEWAY]),
        (
            {"litellm": LITELLM},
            ["litellm", "gateway"],
            [8000, 11899],
            [EXIT_LITELLM, EXIT_GATEWAY],
        ),
        (
            {"llama": LLAMA, "litellm": LITELLM},
            ["llama", "litellm", "gateway"],
            [8080, 8000, 11899],
            [EXIT_LLAMA, EXIT_LITELLM, EXIT_GATEWAY],
        ),
    ],
    ids=["nothing", "llama", "litellm", "both"],
)
def test_order_and_ports(
    chosen: dict[str, Any], names: list[str], ports: list[int], codes: list[int]
) -> None:
    members = planned(**chosen).members
    assert [m.name for m in members] == names
    assert [m.port for m in members] == ports
    assert [m.exit_code for m in members] == codes
    paths = {"llama": "/health", "litellm": "/health/liveliness", "gateway": "/health"}
    assert [m.ready_url for m in members] == [
        f"http://127.0.0.1:{port}{paths[name]}" for name, port in zip(names, ports, strict=True)
    ]


def test_the_gateway_alone_is_left_to_its_configuration() -> None:
    (gateway,) = planned({"AUTO_INFER_LITELLM_CONFIG": "/etc/litellm.yaml"}).members
    assert gateway.command.argv == (
        *("python", "-P", "-m", "homeport", "serve", "--host", "0.0.0.0", "--port", "11899"),
    )
    env = env_of(gateway)
    assert "HOMEPORT_UPSTREAM" not in env
    assert env["AUTO_INFER_LITELLM_CONFIG"] == "/etc/litellm.yaml", "which it reads by itself"


def test_in_front_of_llama_server() -> None:
    llama, gateway = planned({"HOMEPORT_UPSTREAM": "http://other:1/v1"}, llama=LLAMA).members
    assert env_of(gateway)["HOMEPORT_UPSTREAM"] == "http://127.0.0.1:8080,http://other:1/v1"
    assert "--config" not in gateway.command.argv
    assert llama.command.argv == LLAMA.command.argv
    assert env_of(llama)["A"] == "1"


def test_in_front_of_litellm() -> None:
    env = {"AUTO_INFER_LITELLM_CONFIG": "/etc/litellm.yaml"}
    it = planned(env, llama=LLAMA, litellm=LITELLM)
    _, litellm, gateway = it.members
    assert litellm.command.argv == (
        *("litellm", "--config", "/etc/litellm.yaml", "--host", "127.0.0.1", "--port", "8000"),
        *("--num_workers", "1"),
    )
    assert gateway.command.argv[-2:] == ("--config", "/state/gateway.yaml")
    assert "AUTO_INFER_LITELLM_CONFIG" not in env_of(gateway), "that one is LiteLLM's here"
    assert "HOMEPORT_UPSTREAM" not in env_of(gateway), "llama-server is not asked by a short cut"
    (file,) = it.files
    assert file.path == "/state/gateway.yaml"


# --- keys -----------------------------------------------------------------------------------------

HOMEPORT = {"HOMEPORT_MASTER_KEY": "sk-homeport"}
BOTH = {**HOMEPORT, "LITELLM_MASTER_KEY": "sk-litellm"}


@pytest.mark.parametrize(
    ("env", "findings", "key_from", "key"),
    [
        (BOTH, {"own_key": "sk-own"}, "HOMEPORT_MASTER_KEY", "sk-homeport"),
        ({"LITELLM_MASTER_KEY": "sk-l"}, {"own_key": "sk-own"}, "LITELLM_MASTER_KEY", "sk-l"),
        ({}, {"own_key": "sk-own"}, "saved", "sk-own"),
        ({}, {}, "new", "sk-new"),
        ({}, {"has_keys": True, "own_key": "sk-own"}, "configuration", None),
        (HOMEPORT, {"has_keys": True}, "HOMEPORT_MASTER_KEY", "sk-homeport"),
    ],
)
def test_the_key_of_clients(
    env: dict[str, str], findings: dict[str, Any], key_from: str, key: str | None
) -> None:
    it = planned(env, **findings)
    assert it.key_from == key_from
    assert env_of(it.members[-1]).get("HOMEPORT_MASTER_KEY") == key


@pytest.mark.parametrize(
    ("env", "file_key", "expected"),
    [
        (BOTH, None, "sk-litellm"),
        (HOMEPORT, None, "sk-homeport"),
        ({}, None, "sk-new"),
        (BOTH, "sk-in-the-file", "sk-in-the-file"),
        ({**BOTH, "MINE": "sk-mine"}, "os.environ/MINE", "sk-mine"),
        (HOMEPORT, "os.environ/LITELLM_MASTER_KEY", "sk-homeport"),
    ],
)
def test_the_key_of_litellm(env: dict[str, str], file_key: str | None, expected: str) -> None:
    file = msgspec.structs.replace(OWN_FILE, key=file_key)
    litellm, gateway = planned(env, litellm=msgspec.structs.replace(LITELLM, file=file)).members
    assert env_of(litellm)["LITELLM_MASTER_KEY"] == expected
    assert env_of(gateway)[litellm_config.KEY_VARIABLE] == expected


def test_each_has_only_its_own_secrets_and_none_is_on_a_command_line() -> None:
    env = {**BOTH, "HOMEPORT_STORE_URL": "postgresql://x:pw@db", "LLAMA_API_KEY": "k", "PATH": "/b"}
    it = planned({**env, "OPENAI_API_KEY": "sk-openai"}, llama=LLAMA, litellm=NO_FILE)
    llama, litellm, gateway = it.members
    assert env_of(llama).keys() == {"PATH", "A", "OPENAI_API_KEY"}
    assert not {"HOMEPORT_MASTER_KEY", "HOMEPORT_STORE_URL"} & env_of(litellm).keys()
    assert env_of(litellm)["OPENAI_API_KEY"] == "sk-openai"
    assert env_of(gateway)["HOMEPORT_STORE_URL"] == "postgresql://x:pw@db"
    shown = [word for m in it.members for word in m.command.argv] + [f.text for f in it.files]
    assert not [text for text in shown if "sk-" in text or "pw" in text]


def test_its_own_name_is_allowed() -> None:
    (gateway,) = planned({"HOMEPORT_ALLOWED_HOSTS": "models.lan,box"}).members
    assert env_of(gateway)["HOMEPORT_ALLOWED_HOSTS"] == "box,models.lan"


def test_proxies_are_not_asked_for_this_machine_and_settings_of_the_user_win() -> None:
    env = {"HTTPS_PROXY": "http://proxy", "NO_PROXY": "lan", "LITELLM_MODE": "DEV"}
    litellm, _ = planned(env, litellm=LITELLM).members
    assert env_of(litellm)["NO_PROXY"].split(",") == ["lan", "127.0.0.1", "localhost", "::1"]
    assert env_of(litellm)["LITELLM_MODE"] == "DEV"
    assert env_of(litellm)["LITELLM_TELEMETRY"] == "False"


# --- LiteLLM's file -------------------------------------------------------------------------------


def test_what_is_written_where_there_is_none() -> None:
    it = planned(llama=LLAMA, litellm=NO_FILE)
    file, gateway = it.files
    assert (file.path, file.is_users) == ("/etc/litellm.yaml", True)
    config = yaml.safe_load(file.text)
    at_llama = {"model": "hosted_vllm/coder", "api_base": "http://127.0.0.1:8080/v1"}
    assert [(m["model_name"], m["litellm_params"]) for m in config["model_list"]] == [
        ("coder", at_llama),
        ("claude-*", at_llama),
    ]
    assert config["general_settings"]["master_key"] == "os.environ/LITELLM_MASTER_KEY"
    settings = yaml.safe_load(gateway.text)
    assert settings["default_model"] == "coder"
    assert settings["aliases"] == {"claude-*": "claude"}
    assert settings["models"]["claude"]["upstream_model"] == "claude-*"
    assert {model["ctx"] for model in settings["models"].values()} == {4096}


def test_a_file_that_is_there_is_left_alone() -> None:
    assert not [f for f in planned(llama=LLAMA, litellm=LITELLM).files if f.is_users]


def test_without_a_file_and_without_a_model_there_is_nothing_to_write() -> None:
    with pytest.raises(ConfigError, match=r"there is no /etc/litellm\.yaml") as raised:
        planned(litellm=NO_FILE)
    assert "AUTO_INFER_LLAMA_CPP_ON_BOOT=1" in raised.value.hint


FILE = b"""
model_list:
  - {model_name: claude-*, litellm_params: {model: hosted_vllm/x, api_base: "http://localhost:8080/v1"}}
  - {model_name: claude, litellm_params: {model: openai/gpt-5}}
  - {model_name: embed, litellm_params: {model: openai/e}, model_info: {mode: embedding}}
  - {model_name: twice, litellm_params: {model: a/b, api_base: "http://127.0.0.1:8080/v1"}}
  - {model_name: twice, litellm_params: {model: a/b, api_base: "http://elsewhere:8080/v1"}}
  - {model_name: "*", litellm_params: {model: "openai/*"}}
general_settings: {master_key: os.environ/MINE}
"""


def test_names_of_a_file_become_the_gateways() -> None:
    file = litellm_config.read(FILE, "x.yaml")
    context = litellm_config.Context(port=8080, tokens=2048)
    settings = litellm_config.gateway_models(file, "http://127.0.0.1:8000/v1", context)
    models = settings["models"]
    assert {name: model["upstream_model"] for name, model in models.items()} == {
        "claude-2": "claude-*",
        "claude": "claude",
        "embed": "embed",
        "twice": "twice",
        "any": "*",
    }
    assert settings["aliases"] == {"claude-*": "claude-2", "*": "any"}
    assert settings["default_model"] == "claude"
    assert [name for name, model in models.items() if model.get("listed", True)] == [
        *("claude", "embed", "twice"),
    ]
    assert [name for name, model in models.items() if model.get("embeddings")] == ["embed"]
    assert [name for name, model in models.items() if "ctx" in model] == ["claude-2"]
    assert {model["engine"] for model in models.values()} == {"litellm"}


def test_a_default_of_patterns_only() -> None:
    file = litellm_config.read(b"model_list: [{model_name: claude-*}]", "x.yaml")
    settings = litellm_config.gateway_models(file, "http://127.0.0.1:8000/v1")
    assert settings["default_model"] == "claude", "LiteLLM knows it by the pattern itself"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"model_list: [", "is no YAML"),
        (b"- a", "no configuration of LiteLLM's"),
        (b"model_list: {a: b}", "is no list"),
        (b"model_list: [{litellm_params: {}}]", "no model_name"),
    ],
)
def test_files_that_are_none(data: bytes, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as raised:
        litellm_config.read(data, "x.yaml")
    assert raised.value.where == "x.yaml"


def test_a_file_without_models() -> None:
    file = litellm_config.read(b"general_settings: {}", "x.yaml")
    with pytest.raises(ConfigError, match="names no model"):
        planned(litellm=msgspec.structs.replace(LITELLM, file=file))


def test_included_files_add_names_and_win_otherwise() -> None:
    first = litellm_config.read(b"{include: [b.yaml], model_list: [{model_name: a}]}", "a.yaml")
    other = litellm_config.read(FILE, "b.yaml")
    assert first.includes == ("b.yaml",)
    both = litellm_config.joined(first, [other])
    assert [name.name for name in both.names][:2] == ["a", "claude-*"]
    assert both.key == "os.environ/MINE"


# --- the gateway's own settings -------------------------------------------------------------------


def test_other_sections_of_its_configuration_hold_in_front_of_litellm() -> None:
    config = {"server": {"limits": {"body_bytes": "1MiB"}}}
    (file,) = planned(litellm=LITELLM, config=config).files
    assert yaml.safe_load(file.text)["server"] == config["server"]
