"""LiteLLM beside homeport, as flags, the configuration and `models.yaml` layouts ask for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from homeport.config import load
from homeport.config.flags import Overrides
from homeport.errors import ConfigError
from homeport.settings import LiteLLMSettings, Settings


def settings(folder: Path, text: str = "", **flags: Any) -> Settings:
    file = folder / "config.yaml"
    file.write_text(text, "utf-8")
    return load.settings(file, {"HOME": str(folder)}, Overrides(**flags))


def test_it_is_off(tmp_path: Path) -> None:
    assert settings(tmp_path).litellm == LiteLLMSettings()


def test_flags_before_the_section_before_the_defaults(tmp_path: Path) -> None:
    text = """\
defaults: {backends: {litellm: {version: "1.56.5", image: mine/litellm, port: 1, alias: a}}}
litellm: {enabled: true, port: 2, alias: b}
"""
    found = settings(tmp_path, text, litellm_port=3).litellm
    assert (found.port, found.alias, found.version, found.image) == (
        3,
        "b",
        "1.56.5",
        "mine/litellm",
    )
    assert settings(tmp_path, text).litellm.port == 2


def test_the_flag_turns_it_on(tmp_path: Path) -> None:
    found = settings(tmp_path, with_litellm=True, litellm_alias="mine", litellm_version="1.100.0")
    assert found.litellm == LiteLLMSettings(enabled=True, alias="mine", version="1.100.0")


@pytest.mark.parametrize("flag", ["litellm_port", "litellm_alias", "litellm_version"])
def test_its_flags_want_it(tmp_path: Path, flag: str) -> None:
    values: dict[str, Any] = {flag: 4000 if flag == "litellm_port" else "x1"}
    with pytest.raises(ConfigError) as found:
        settings(tmp_path, **values)
    assert "--with-litellm" in str(found.value) + str(getattr(found.value, "errors", ""))


def test_beyond_this_machine_it_wants_keys(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as found:
        settings(tmp_path, "litellm: {enabled: true, host: 0.0.0.0}\n")
    assert found.value.key == "litellm.host"
    digest = "0" * 64
    keys = f"server: {{keys: [{{name: a, sha256: '{digest}'}}]}}\n"
    assert settings(tmp_path, keys + "litellm: {enabled: true, host: 0.0.0.0}\n").litellm.enabled


def test_its_name_is_its_own(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    text = "models: {litellm: {path: m.gguf}}\n"
    assert settings(tmp_path, text).models
    with pytest.raises(ConfigError, match="called 'litellm'"):
        settings(tmp_path, text, with_litellm=True)


def test_a_model_that_only_litellm_reaches(tmp_path: Path) -> None:
    text = """\
models:
  far:
    via: litellm
    upstream_model: azure/far
    litellm_params: {api_key: os.environ/AZURE_API_KEY, api_version: "2024-10-21"}
"""
    [model] = settings(tmp_path, text).models
    assert (model.via, model.upstream_model, model.is_ours) == ("litellm", "azure/far", False)
    params = (("api_key", "os.environ/AZURE_API_KEY"), ("api_version", "2024-10-21"))
    assert model.litellm_params == params


@pytest.mark.parametrize(
    ("model", "key", "message"),
    [
        ("{via: litellm}", "models.far", "has no 'upstream_model'"),
        ("{via: native}", "models.far", "has no 'path'"),
        ("{via: elsewhere}", "models.far.via", "is not a way to a model"),
        (
            "{upstream: 'http://h/v1', litellm_params: {a: b}}",
            "models.far.litellm_params",
            "goes only with 'via'",
        ),
    ],
)
def test_what_is_wrong_with_one(tmp_path: Path, model: str, key: str, message: str) -> None:
    with pytest.raises(ConfigError) as found:
        settings(tmp_path, f"models: {{far: {model}}}\n")
    errors = getattr(found.value, "errors", (found.value,))
    assert any(e.key == key and message in e.message for e in errors), errors


def test_what_was_tampered_with_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="tampered"):
        settings(tmp_path, with_litellm=True, litellm_version="1.82.8")
