"""From a model's settings to a command: what is looked up on the way."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from homeport.errors import ConfigError
from homeport.facts import Command, Gpu, Machine
from homeport.runtime import identity
from homeport.runtime.container import OWNER
from homeport.runtime.starting import (
    command_for,
    container_name,
    engine_of,
    hub_cache,
    installed,
    python_of,
)
from homeport.settings import ModelSettings
from tests.support.gguf import SHORTEST

PLAIN = Machine()
CUDA = Machine(gpus=(Gpu(total_bytes=1, free_bytes=1),))


@pytest.fixture
def gguf(tmp_path: Path) -> ModelSettings:
    file = tmp_path / "m.gguf"
    file.write_bytes(SHORTEST)
    return ModelSettings(id="m", path=str(file))


@pytest.fixture
def hugging_face(tmp_path: Path) -> ModelSettings:
    folder = tmp_path / "hf"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "qwen3"}')
    (folder / "model.safetensors").touch()
    return ModelSettings(id="m", path=str(folder))


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def executable(folder: Path, name: str) -> str:
    file = folder / name
    file.write_text("#!/bin/sh\n")
    file.chmod(0o755)
    return str(file)


def start(model: ModelSettings, machine: Machine = PLAIN, **changes: object) -> Command:
    given = {name: getattr(model, name) for name in model.__struct_fields__} | changes
    return command_for(ModelSettings(**given), machine, 4711, "k")


def test_llamacpp_is_embedded_unless_there_is_a_llama_server(
    gguf: ModelSettings, path: Path
) -> None:
    assert start(gguf).argv[1:3] == ("-m", "homeport.runtime.llamacpp_child")
    server = executable(path, "llama-server")
    assert start(gguf).argv[0] == server
    assert start(gguf, binary="/opt/llama-server").argv[0] == "/opt/llama-server"


def test_each_engine_is_found_on_the_path(hugging_face: ModelSettings, path: Path) -> None:
    for engine, script in (
        ("vllm", "vllm"),
        ("sglang", "sglang"),
        ("trtllm", "trtllm-serve"),
        ("mlx", "mlx_lm.server"),
    ):
        with pytest.raises(ConfigError, match=f"{script} was not found"):
            start(hugging_face, engine=engine)
        assert engine not in installed()
        file = executable(path, script)
        assert start(hugging_face, engine=engine).argv[0] == file
        assert engine in installed()
    assert start(hugging_face, CUDA).engine == "vllm"


def test_an_engine_beside_homeport_is_run_by_its_python(
    hugging_face: ModelSettings, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site" / "mlx_lm").mkdir(parents=True)
    (tmp_path / "site" / "mlx_lm" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path / "site")
    made = start(hugging_face, engine="mlx")
    assert made.argv[0] == sys.executable
    assert made.argv[1].endswith("mlx_child.py")
    assert made.argv[3] == "--model"


@pytest.mark.parametrize(
    "head",
    [
        "#!{0}\n# -*- coding: utf-8 -*-\n",
        "#!{0} -I\n",
        "#!/usr/bin/env python3\n",
        "#!/bin/sh\n'''exec' \"{0}\" \"$0\" \"$@\"\n' '''\nimport re\n",  # where it is long
        "#!/bin/sh\n'''exec' {0} \"$0\" \"$@\"\n' '''\n",
    ],
)
def test_the_python_of_a_script(head: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = executable(path, "python3")
    monkeypatch.setenv("PATH", str(path))
    script = Path(executable(path, "mlx_lm.server"))
    script.write_text(head.format(python))
    assert python_of("mlx_lm.server") == python
    assert python_of(python) == python


def test_what_is_no_python_script_is_started_as_it_is(
    hugging_face: ModelSettings, path: Path
) -> None:
    script = Path(executable(path, "mlx_lm.server"))
    script.write_text("#!/bin/sh\nexec python -m mlx_lm server\n")
    assert python_of(str(script)) is None
    made = start(hugging_face, engine="mlx", binary=str(script))
    assert made.argv[:2] == (str(script), "--model")
    assert made.api_key is None


def test_what_is_wrong_is_said_with_its_key(gguf: ModelSettings, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"models\.m\.path: cannot read the model: No such file"):
        start(gguf, path=str(tmp_path / "gone"))
    Path(str(gguf.path)).write_bytes(b"PK\x03\x04")
    with pytest.raises(ConfigError, match="not a GGUF"):
        start(gguf)
    Path(str(gguf.path)).write_bytes(SHORTEST)
    with pytest.raises(ConfigError, match="hint: set binary"):
        start(gguf, args=("--foo",))


def test_the_engine_alone(hugging_face: ModelSettings, gguf: ModelSettings) -> None:
    assert engine_of(gguf, PLAIN) == "llamacpp"
    assert engine_of(hugging_face, CUDA) == "vllm"
    with pytest.raises(ConfigError, match="no CUDA device"):
        engine_of(hugging_face, PLAIN)


def test_a_custom_command_may_make_of_its_path_what_it_likes() -> None:
    model = ModelSettings(id="m", path="/nowhere", command=("serve", "{model}", "{port}"))
    assert command_for(model, PLAIN, 4711, "k").argv == ("serve", "/nowhere", "4711")


def test_containers_need_docker(gguf: ModelSettings, path: Path) -> None:
    with pytest.raises(ConfigError, match=r"models\.m\.runner: docker was not found"):
        start(gguf, runner="container")
    docker = executable(path, "docker")
    made = start(gguf, runner="container")
    assert made.argv[:2] == (docker, "run")
    assert made.container is not None
    assert made.container.startswith("homeport-m-4711-")
    assert f"{OWNER}={identity.own()}" in made.argv


def test_container_names_are_what_docker_takes() -> None:
    name = container_name(ModelSettings(id="org/näme: 7b"), 1)
    assert re.fullmatch(r"homeport-org-n-me-7b-1-[0-9a-f]{6}", name)
    assert name != container_name(ModelSettings(id="org/näme: 7b"), 1)


def test_the_download_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/you")
    monkeypatch.delenv("HF_HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert hub_cache() == "/home/you/.cache/huggingface"
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert hub_cache() == "/cache/huggingface"
    monkeypatch.setenv("HF_HOME", "~/hf")
    assert hub_cache() == "/home/you/hf"


def test_a_model_on_the_hub_is_started_from_the_cache(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    server = executable(path, "llama-server")
    model = ModelSettings(id="org/it", hub="org/it:Q4_K_M")
    snapshot = tmp_path / "hub" / "models--org--it" / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "it-Q8_0.gguf").write_bytes(SHORTEST)
    chosen = snapshot / "it-Q4_K_M.gguf"
    assert str(snapshot) not in " ".join(start(model, engine="llamacpp").argv)
    chosen.write_bytes(SHORTEST)
    assert engine_of(model, PLAIN) == "llamacpp"
    argv = start(model).argv
    assert argv[0] == server
    assert argv[argv.index("-m") + 1] == str(chosen)
