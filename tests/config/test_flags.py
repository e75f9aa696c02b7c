"""What flags and the environment put over the file. (The plain ones: test_load.py.)"""

from pathlib import Path
from typing import Any

import pytest

from homeport.config import load
from homeport.config.flags import Overrides
from homeport.config.problems import CollectedConfigError
from homeport.errors import ConfigError
from homeport.settings import ModelSettings, Settings

FILE = """\
models:
  a: {path: b.gguf, alias: x, engine: llamacpp, ctx: 512}
  e: {path: b.gguf, embeddings: true}
  r: {upstream: http://h}
autocomplete_model: a
server: {limits: {max_tokens: 7}}
"""


@pytest.fixture
def file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    path = folder / "config.yaml"
    path.write_text(FILE)
    return path


def by_id(settings: Settings) -> dict[str, ModelSettings]:
    return {model.id: model for model in settings.models}


def wrong(file: Path | None, env: dict[str, str] | None = None, **flags: Any) -> ConfigError:
    with pytest.raises(CollectedConfigError) as caught:
        load.settings(file, env or {"HOMEPORT_HOME": "/none"}, Overrides(**flags))
    (error,) = caught.value.errors
    return error


# ------------------------------------------------------------------------ models


def test_a_model_of_the_hub(file: Path) -> None:
    found = load.settings(file, {}, Overrides(models=("org/Name", "org/Big-GGUF:Q4_K_M")))
    assert found.models[:2] == (
        ModelSettings(id="org/Name", hub="org/Name"),
        ModelSettings(
            id="org/Big-GGUF", hub="org/Big-GGUF:Q4_K_M", aliases=("org/Big-GGUF:Q4_K_M",)
        ),
    )
    assert found.default_model == "org/Name"


def test_what_exists_is_no_model_of_the_hub(file: Path, folder: Path) -> None:
    (folder / "org").mkdir()
    (folder / "org" / "name").mkdir()
    found = load.settings(file, {}, Overrides(models=("org/name",)))
    assert found.models[0] == ModelSettings(id="name", path=str(folder / "org/name"))


@pytest.mark.parametrize("value", ["models/x.gguf", "./org/name", "~/x", "/org/name", "a/b/c"])
def test_what_looks_like_a_file_is_none_either(value: str) -> None:
    assert "no file or folder" in wrong(None, models=(value,)).message


@pytest.mark.parametrize("flags", [{"engine": "llamacpp"}, {"backend": "llama"},
                                   {"engine": "llama", "backend": "llamacpp"}])  # fmt: skip
def test_engine_and_runner_are_said_of_the_flags_models(flags: Any, file: Path) -> None:
    found = by_id(
        load.settings(file, {}, Overrides(models=("a.gguf",), runner="container", **flags))
    )
    assert (found["a"].engine, found["a"].runner) == ("llamacpp", "container")
    assert (found["a"].ctx, found["a"].aliases) == (512, ("x",))  # the file's model of that name
    assert found["e"].runner is None


def test_the_file_s_engine_stays_where_no_flag_names_one(file: Path) -> None:
    assert load.settings(file, {}, Overrides(models=("a.gguf",))).models[0].engine == "llamacpp"


def test_defaults_hold_for_the_engine_that_a_flag_names(file: Path) -> None:
    file.write_text("defaults: {backends: {vllm: {args: {x: 1}}}}")
    found = load.settings(file, {}, Overrides(models=("a.gguf",), engine="vllm"))
    assert found.models[0].args == ("-x", "1")


@pytest.mark.parametrize(
    ("flags", "where", "message", "hint"),
    [
        ({"engine": "vlm", "models": ("a.gguf",)}, "--engine", "'vlm'", "mean 'vllm'?"),
        ({"engine": "lama", "models": ("a.gguf",)}, "--engine", "'lama'", "mean 'llama'?"),
        ({"engine": "olama", "models": ("a.gguf",)}, "--engine", "'olama'", "mean 'llama'?"),
        ({"engine": "zz", "models": ("a.gguf",)}, "--engine", "'zz'",
         "known: llama, llama.cpp, llamacpp, mlx, sglang, trtllm, vllm"),
        ({"engine": "vllm", "backend": "mlx", "models": ("a.gguf",)}, "--backend",
         "--engine says vllm already", "one of them"),
        ({"engine": "vllm"}, "--engine", "there is none", "add --model"),
        ({"backend": "vllm"}, "--backend", "there is none", "write backend: there"),
        ({"runner": "container"}, "--runner", "there is none", "write runner: there"),
        ({"runner": "docker", "models": ("a.gguf",)}, "--runner", "'docker'", "container"),
        ({"engine": "ollama", "models": ("a.gguf",)}, "--model", "does not start ollama", "upstream"),
        ({"engine": "mlx", "models": ("a/b:Q4",)}, "--model", "a/b: ':Q4' picks a GGUF", "delete"),
        ({"models": ("a/b:Q4", "a/b:Q8")}, "--model", "would be called 'a/b'", "different names"),
        ({"max_tokens": 0}, "--max-tokens", "at least 1", "default"),
        ({"autocomplete_model": "nope"}, "--autocomplete-model", "no model 'nope'", "known: a, e"),
    ],
)  # fmt: skip
def test_wrong_flags(flags: Any, where: str, message: str, hint: str, file: Path) -> None:
    error = wrong(file, **flags)
    assert error.where == where
    assert message in error.message
    assert hint in error.hint


# ------------------------------------------------------------------------ the two named models


def test_both_may_be_named_by_alias(file: Path) -> None:
    found = load.settings(file, {}, Overrides(default_model="r", autocomplete_model="x"))
    assert (found.default_model, found.autocomplete_model) == ("r", "a")


def test_a_model_that_is_only_named_is_added(file: Path, folder: Path) -> None:
    flags = Overrides(default_model="mlx-community/Big-8bit", autocomplete_model="./b.gguf")
    found = load.settings(file, {}, flags)
    assert found.models[-2:] == (
        ModelSettings(id="mlx-community/Big-8bit", hub="mlx-community/Big-8bit"),
        ModelSettings(id="b", path=str(folder / "b.gguf")),
    )
    assert (found.default_model, found.autocomplete_model) == ("mlx-community/Big-8bit", "b")


def test_one_that_is_there_already_is_not_added_twice(file: Path) -> None:
    flags = Overrides(models=("b.gguf",), default_model="./b.gguf", autocomplete_model="b.gguf")
    found = load.settings(file, {}, flags)
    assert [model.id for model in found.models] == ["b", "a", "e", "r"]
    assert found.default_model == found.autocomplete_model == "b"


def test_with_an_upstream_a_name_with_a_slash_is_its_own(file: Path) -> None:
    found = load.settings(file, {}, Overrides(default_model="org/name", upstreams=("http://h",)))
    assert found.default_model == "org/name"
    assert "org/name" not in by_id(found)


def test_where_models_are_discovered_any_name_may_be_one() -> None:
    found = load.settings(None, {"HOMEPORT_HOME": "/none"}, Overrides(default_model="qwen3:8b"))
    assert (found.default_model, found.models) == ("qwen3:8b", ())


# ------------------------------------------------------------------------ environment


@pytest.mark.parametrize(
    ("env", "flag", "expected"),
    [({}, None, 7), ({"MAX_TOKENS": "8"}, None, 8), ({"MAX_TOKENS": "8"}, 9, 9),
     ({"MAX_TOKENS": ""}, None, 7)],
)  # fmt: skip
def test_a_flag_before_the_environment_before_the_file(
    env: dict[str, str], flag: int | None, expected: int, file: Path
) -> None:
    assert load.settings(file, env, Overrides(max_tokens=flag)).server.limits.max_tokens == expected


@pytest.mark.parametrize(
    ("env", "expected"),
    [({}, "file-key"), ({"LITELLM_MASTER_KEY": "sk-1"}, "sk-1"),
     ({"LITELLM_MASTER_KEY": "sk-1", "HOMEPORT_MASTER_KEY": "hp"}, "hp"),
     ({"HOMEPORT_MASTER_KEY": ""}, "file-key")],
)  # fmt: skip
def test_the_master_key(env: dict[str, str], expected: str, folder: Path) -> None:
    file = folder / "c.yaml"
    file.write_text("server: {master_key: file-key}")
    server = load.settings(file, env).server
    assert server.master_key == expected
    assert expected not in repr(server)


FOR_CONTAINERS = """
server: {metrics_token: "${TOKEN}", allowed_hosts: [box.lan]}
store: {url: usage.db, retention: 1d}
"""


def test_variables_for_containers(folder: Path) -> None:
    file = folder / "c.yaml"
    file.write_text(FOR_CONTAINERS)
    env = {
        "TOKEN": "file-token",
        "HOMEPORT_METRICS_TOKEN": "token",
        "HOMEPORT_ALLOWED_HOSTS": " gateway, box.lan,,Other.lan",
        "HOMEPORT_STORE_URL": "postgresql://a:geheim@b/c",
        "HOMEPORT_UPSTREAM": "http://llama:8080, http://vllm:8000/v1",
    }
    found = load.settings(file, env)
    assert found.server.metrics_token == "token"
    assert found.server.allowed_hosts == ("box.lan", "gateway", "other.lan")
    assert (found.store.url, found.store.retention_s) == ("postgresql://a:geheim@b/c", 86400)
    assert found.upstreams == ("http://llama:8080/v1", "http://vllm:8000/v1")
    assert "token" not in repr(found.server)
    assert "geheim" not in repr(found.store)
    by_flag = load.settings(file, env, Overrides(upstreams=("http://h",)))
    assert by_flag.upstreams == ("http://h/v1",)


def test_the_store_may_be_off_by_the_environment(file: Path) -> None:
    assert load.settings(file, {"HOMEPORT_STORE_URL": ""}).store.enabled
    assert not load.settings(file, {"HOMEPORT_STORE_URL": "off"}).store.enabled


ELSEWHERE = {
    "HOMEPORT_LITELLM_URL": "http://litellm:4444",
    "LITELLM_MASTER_KEY": "sk-there",
    "HOMEPORT_INTERNAL_KEY": "sk-here",
}


def test_a_litellm_that_somebody_else_starts(file: Path) -> None:
    found = load.settings(file, ELSEWHERE)
    elsewhere = found.litellm.elsewhere
    assert found.litellm.enabled
    assert elsewhere is not None
    assert elsewhere.base_url == "http://litellm:4444/v1"
    assert (elsewhere.api_key, elsewhere.internal_key) == ("sk-there", "sk-here")
    assert "sk-" not in repr(found.litellm)
    assert load.settings(file, {**ELSEWHERE, "HOMEPORT_LITELLM_URL": ""}).litellm.elsewhere is None


@pytest.mark.parametrize("missing", ["LITELLM_MASTER_KEY", "HOMEPORT_INTERNAL_KEY"])
def test_a_litellm_elsewhere_needs_both_keys(missing: str, file: Path) -> None:
    error = wrong(file, {name: value for name, value in ELSEWHERE.items() if name != missing})
    assert error.where == "HOMEPORT_LITELLM_URL"
    assert missing in error.message


def test_what_is_said_of_a_litellm_that_homeport_starts(file: Path) -> None:
    error = wrong(file, ELSEWHERE, litellm_port=4001)
    assert error.where == "--litellm-port"
    assert "HOMEPORT_LITELLM_URL" in error.message


def test_empty_variables_are_not_set(folder: Path) -> None:
    file = folder / "c.yaml"
    file.write_text(FOR_CONTAINERS)
    names = ("METRICS_TOKEN", "ALLOWED_HOSTS", "STORE_URL", "UPSTREAM", "MASTER_KEY", "CONFIG")
    env = {"TOKEN": "file-token"}
    empty = env | {f"HOMEPORT_{name}": "" for name in names}
    assert load.settings(file, empty) == load.settings(file, env)


def test_upstreams_of_the_environment_bring_names_too(folder: Path) -> None:
    file = folder / "c.yaml"
    file.write_text("default_model: of-the-upstream\nmodels: {a: {path: a.gguf}}")
    found = load.settings(file, {"HOMEPORT_UPSTREAM": "http://h"})
    assert found.default_model == "of-the-upstream"


def test_ports_of_the_two_named_models(file: Path) -> None:
    env = {"MLX_DYNAMIC_PORT": "9001", "MLX_AUTOCOMPLETE_PORT": "9002"}
    found = by_id(load.settings(file, env, Overrides(default_model="org/name")))
    assert (found["org/name"].port, found["a"].port, found["e"].port) == (9001, 9002, None)


def test_without_a_default_model_the_first_one_is_it(folder: Path) -> None:
    file = folder / "c.yaml"
    file.write_text("models: {e: {path: a.gguf, embeddings: on}, m: {path: b.gguf}}")
    found = by_id(load.settings(file, {"MLX_DYNAMIC_PORT": "9001"}))
    assert (found["e"].port, found["m"].port) == (None, 9001)


def test_an_upstream_has_no_port_of_ours(file: Path) -> None:
    found = load.settings(file, {"MLX_DYNAMIC_PORT": "9001"}, Overrides(default_model="r"))
    assert {model.port for model in found.models} == {None}


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"MAX_TOKENS": "many"}, "whole number, is 'many'"),
        ({"MLX_DYNAMIC_PORT": "0"}, "not a port: 0"),
        ({"MLX_DYNAMIC_PORT": "11899"}, "port 11899 is that of the gateway already"),
        ({"MLX_AUTOCOMPLETE_PORT": "9001", "MLX_DYNAMIC_PORT": "9001"}, "that of b already"),
        ({"LITELLM_MASTER_KEY": "a\nb"}, "characters that no key has"),
        ({"HOMEPORT_METRICS_TOKEN": "ä"}, "characters that no key has"),
        ({"HOMEPORT_ALLOWED_HOSTS": "a,http://b"}, "is 'http://b'"),
        ({"HOMEPORT_STORE_URL": "mysql://a:geheim@b/c"}, "no database that homeport knows"),
        ({"HOMEPORT_UPSTREAM": "llama:8080"}, "is not an http:// or https:// address"),
    ],
)
def test_a_wrong_variable(env: dict[str, str], message: str, file: Path) -> None:
    error = wrong(file, env, models=("b.gguf",))
    assert error.where in env
    assert message in error.message


# ------------------------------------------------------------------------ names of no single model


@pytest.mark.parametrize(("name", "expected"), [("both", "both"), ("other", "a"), ("x", "a")])
def test_the_default_may_be_a_route_or_an_alias(file: Path, name: str, expected: str) -> None:
    file.write_text(FILE + "routes: {both: {models: {a: 1, r: 1}}}\naliases: {other: a}\n")
    found = load.settings(file, {}, Overrides(default_model=name))
    assert found.default_model == expected
