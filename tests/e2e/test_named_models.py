"""The default and the autocomplete model side by side, on real llama.cpp: which answers what, on ports
of their own, no longer than they may."""

from __future__ import annotations

import shutil
import urllib.request
from collections.abc import Iterator

import openai
import pytest

from homeport.demo import demo_model_path
from tests.support.gateway import Gateway, free_port

pytestmark = pytest.mark.llamacpp

BIG_PORT, SMALL_PORT = "MLX_DYNAMIC_PORT", "MLX_AUTOCOMPLETE_PORT"
CONFIG = """
models:
  writer: {{path: {big}, ctx: 1024}}
defaults:
  backends:
    llama: {{ctx: 512}}
"""


@pytest.fixture(scope="module")
def env() -> dict[str, str]:
    ports = {BIG_PORT: str(free_port()), SMALL_PORT: str(free_port())}
    return {**ports, "MAX_TOKENS": "6"}


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory, env: dict[str, str]) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("gateway")
    for name in ("big.gguf", "small.gguf"):
        shutil.copy(demo_model_path(), folder / name)
    config = folder / "config.yaml"
    config.write_text(CONFIG.format(big=folder / "big.gguf"), "utf-8")
    flags = ("--config", str(config), "--autocomplete-model", "./small.gguf")
    with Gateway(folder, *flags, env=env) as gateway:
        yield gateway


@pytest.fixture
def client(real: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{real.base_url}/v1", api_key="dummy", max_retries=0) as client:
        yield client


@pytest.mark.parametrize(
    ("name", "served"),
    [
        ("gpt-any", "small"),
        ("writer", "writer"),
        ("openai/org/BIG", "writer"),
        ("big.gguf", "writer"),
    ],
)
def test_completions(name: str, served: str, client: openai.OpenAI) -> None:
    raw = client.completions.with_raw_response.create(model=name, prompt="Hello", max_tokens=500)
    assert raw.headers["x-homeport-model"] == served
    assert raw.headers["x-homeport-max-tokens"] == "6"
    usage = raw.parse().usage
    assert usage is not None
    assert usage.completion_tokens <= 6


def test_chat_stays_with_the_default(client: openai.OpenAI) -> None:
    turns: list[openai.types.chat.ChatCompletionMessageParam]
    turns = [{"role": "user", "content": "Hello!"}]
    raw = client.chat.completions.with_raw_response.create(model="gpt-any", messages=turns)
    assert raw.headers["x-homeport-model"] == "writer"
    assert raw.headers["x-homeport-max-tokens"] == "6"


def test_each_has_its_own_port_and_context(client: openai.OpenAI, env: dict[str, str]) -> None:
    client.completions.create(model="small", prompt="Hello")
    for name in (BIG_PORT, SMALL_PORT):
        with urllib.request.urlopen(f"http://127.0.0.1:{env[name]}/health") as answer:
            assert answer.status == 200
    contexts = {
        model.id: (model.model_extra or {})["context_length"] for model in client.models.list()
    }
    assert contexts == {"writer": 1024, "small": 512}
