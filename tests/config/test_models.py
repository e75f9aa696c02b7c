"""How a model and what holds for its engine are written: sources, command lines, defaults."""

from typing import Any

import pytest

from homeport.config import load
from homeport.settings import BackendDefaults, Group, LifecycleSettings, ModelSettings
from tests.config.conftest import Read

MODELS_YAML = """\
defaults:
  backends:
    vllm:
      version: v0.12.0
      image_type: prebuilt
      args:
        gpu_memory_utilization: 0.95
        max_model_len: 65536
    llama:
      version: b7349
      image_type: build
      args:
        n_gpu_layers: 999
    trtllm:
      version: "0.18.0"
      image_type: prebuilt
    litellm:
      version: "1.56.5"
      image: "ghcr.io/berriai/litellm"
      port: 4000
      alias: "local-model"
"""


def test_a_models_yaml_is_read_as_it_is(read: Read) -> None:
    backends = dict(read(MODELS_YAML).defaults.backends)
    assert backends == {
        "vllm": BackendDefaults(
            version="v0.12.0",
            args=("--gpu-memory-utilization", "0.95", "--max-model-len", "65536"),
        ),
        "llamacpp": BackendDefaults(
            version="b7349", image_type="build", args=("--n-gpu-layers", "999")
        ),
        "trtllm": BackendDefaults(version="0.18.0"),
        "litellm": BackendDefaults(
            version="1.56.5", image="ghcr.io/berriai/litellm", port=4000, alias="local-model"
        ),
    }


def model(read: Read, text: str) -> ModelSettings:
    return read(f"models:\n  m: {text}\n").models[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[--threads, 8]", ("--threads", "8")),
        ("--threads 8 --grammar 'root ::= \"a b\"'", ("--threads", "8", "--grammar", 'root ::= "a b"')),
        ("--flash-attn", ("--flash-attn",)),
        ("''", ()),
        ("", ()),
        ("{n_gpu_layers: 99}", ("--n-gpu-layers", "99")),
        ("{enforce_eager: true, trust_remote_code:, no_x: false}",
         ("--enforce-eager", "--trust-remote-code")),
        ("{flash-attn: on}", ("--flash-attn", "on")),  # llama.cpp's own word, no YAML boolean
        ("{x: 'true', y: \"false\"}", ("-x", "true", "-y", "false")),
        ("{lora_modules: [a=1, b=2]}", ("--lora-modules", "a=1", "b=2")),
        ("{--tp_size: 2, -c: 5}", ("--tp_size", "2", "-c", "5")),
    ],
)  # fmt: skip
def test_args(text: str, expected: tuple[str, ...], read: Read) -> None:
    assert model(read, f"\n    path: a.gguf\n    args: {text}\n").args == expected


@pytest.mark.parametrize(
    "text", ["my-server --port {port} --name 'a b'", "[my-server, --port, '{port}', --name, a b]"]
)
def test_a_command(text: str, read: Read) -> None:
    found = model(read, f"\n    command: {text}\n")
    assert found.command == ("my-server", "--port", "{port}", "--name", "a b")
    assert found.is_ours


def test_every_key_of_a_model_that_is_started(read: Read) -> None:
    text = """
    hub: org/Name-GGUF:Q4_K_M
    backend: llama
    runner: container
    image: ghcr.io/x/y
    version: server-b1
    port: 9001
    group: big
    preload: yes
    pinned: yes
    ttl: 10m
    memory: 12GiB
    max_queue: 5
    max_wait: 1h
lifecycle:
  groups: {big: {}}
"""
    assert model(read, text) == ModelSettings(
        id="m",
        hub="org/Name-GGUF:Q4_K_M",
        engine="llamacpp",
        runner="container",
        image="ghcr.io/x/y",
        version="server-b1",
        port=9001,
        group="big",
        preload=True,
        pinned=True,
        ttl_s=600,
        memory_bytes=12 * 1024**3,
        max_queue=5,
        max_wait_s=3600,
    )
    assert model(read, "{hub: org/name, engine: vllm, sleep: 1}").sleep == 1


def test_lifecycle(read: Read) -> None:
    text = """\
lifecycle:
  memory: 22GiB
  min_dwell_s: 0
  max_queue: 9
  max_wait_s: 2m
  return_to_default: 500ms
  groups:
    big: {apart_from: small}
    small: {together: true}
    alone:
"""
    assert read(text).lifecycle == LifecycleSettings(
        memory_bytes=22 * 1024**3,
        min_dwell_s=0,
        max_queue=9,
        max_wait_s=120,
        return_to_default_s=0.5,
        groups=(
            Group(name="big", apart_from=("small",)),
            Group(name="small", together=True),
            Group(name="alone"),
        ),
    )


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 30), ("0.5", 0.5), ("30s", 30), ("1.5 h", 5400), ("2D", 172_800), ("250ms", 0.25)],
)
def test_times(text: str, seconds: float, read: Read) -> None:
    assert model(read, f"{{path: a.gguf, ttl_s: {text}}}").ttl_s == pytest.approx(seconds)


@pytest.mark.parametrize("word", ["llama", "llama.cpp", "llamacpp"])
def test_engines_have_other_spellings(word: str, read: Read) -> None:
    assert model(read, f"{{path: a.gguf, engine: {word}}}").engine == "llamacpp"


def test_defaults_are_merged_where_the_engine_is_named(folder: Any) -> None:
    """The others' follow as soon as somebody has looked at their files (tests/engines)."""
    file = folder / "config.yaml"
    file.write_text(
        "models:\n  a: {path: a.gguf, engine: llama, args: [-v]}\n  b: {path: b.gguf}\n"
        "  c: {command: 'x {port}'}\n"
        "defaults: {backends: {llama: {args: {threads: 8}, ttl: 1m}, custom: {env: {A: 1}}}}\n"
    )
    a, b, c = load.settings(file, {}).models
    assert (a.args, a.ttl_s) == (("--threads", "8", "-v"), 60)
    assert (b.args, b.ttl_s, b.engine) == ((), None, None)
    assert (c.env, c.engine) == ((("A", "1"),), "custom")


def test_discovered_models_may_be_named(read: Read) -> None:
    """A file without models leaves names to what is found running."""
    found = read("default_model: qwen3:8b\nautocomplete_model: tiny\naliases: {'gpt-*': big}\n")
    assert (found.default_model, found.autocomplete_model) == ("qwen3:8b", "tiny")
