"""Routes beside chat, on real llama.cpp: the demo as a chat model, as it is but for embeddings, and
with the pooling that an embedding model has."""

import base64
import json
import struct
import urllib.request
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from homeport.demo import demo_model_path
from tests.support.embedding_model import embedding_model
from tests.support.gateway import Gateway

pytestmark = pytest.mark.llamacpp

CONFIG = """
models:
  chatty:
    path: {path}
    ctx: 2048
  unpooled:
    path: {path}
    ctx: 2048
    embeddings: true
  vectors:
    path: {vectors}
    alias: text-embedding-mine
    ctx: 2048
    embeddings: true
"""
TEXTS = ["hello", "What is the weather in Paris?", "東京"]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("gateway")
    config = folder / "config.yaml"
    vectors = embedding_model(folder)
    config.write_text(CONFIG.format(path=demo_model_path(), vectors=vectors), "utf-8")
    with Gateway(folder, "--config", str(config)) as gateway:
        yield gateway


@pytest.fixture
def client(real: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{real.base_url}/v1", api_key="dummy", max_retries=0) as client:
        yield client


def test_completions_whole_and_streamed_are_the_same(client: openai.OpenAI) -> None:
    prompt = "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
    asked = {"model": "gpt-any", "prompt": prompt, "max_tokens": 12, "temperature": 0}
    whole = client.completions.create(**asked)  # type: ignore[call-overload]
    pieces = list(client.completions.create(**asked, stream=True))  # type: ignore[call-overload]
    assert whole.model == "gpt-any"
    assert whole.choices[0].text
    assert "".join(p.choices[0].text for p in pieces if p.choices) == whole.choices[0].text
    assert {p.model for p in pieces} == {"gpt-any"}


def test_a_model_without_pooling_says_so(client: openai.OpenAI) -> None:
    """In llama.cpp's own words."""
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model="unpooled", input="hello")
    assert "pooling" in caught.value.message.lower()


def asked_straight(gateway: Gateway, texts: list[str]) -> list[list[float]]:
    """The engine's own answer at its own port."""
    [engine] = [
        process
        for process in gateway.children()
        if (words := process.cmdline())[1:3] == ["-m", "homeport.runtime.llamacpp_child"]
        and any(word.endswith("vectors.gguf") for word in words)
    ]
    words, key = engine.cmdline(), engine.environ()["LLAMA_API_KEY"]
    request = urllib.request.Request(
        f"http://127.0.0.1:{words[words.index('--port') + 1]}/v1/embeddings",
        json.dumps({"input": texts, "encoding_format": "float"}).encode(),
        {"content-type": "application/json", "authorization": f"Bearer {key}"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return [item["embedding"] for item in json.load(answer)["data"]]


def test_embeddings_in_every_encoding_are_the_engines(client: openai.OpenAI, real: Gateway) -> None:
    """Floats, the SDK's default (base64, which it unpacks), base64 as it is, and the engine's own."""

    def create(**more: Any) -> Any:
        return client.embeddings.create(model="vectors", input=TEXTS, **more)

    floats, packed, default = (
        create(encoding_format="float"),
        create(encoding_format="base64"),
        create(),
    )
    vectors = [item.embedding for item in floats.data]
    own = asked_straight(real, TEXTS)
    assert [len(vector) for vector in vectors] == [len(own[0])] * len(TEXTS)
    assert len(own[0]) > 16
    for vector, straight in zip(vectors, own, strict=True):
        assert vector == pytest.approx(straight, rel=1e-5, abs=1e-7)
        assert sum(x * x for x in vector) == pytest.approx(1, rel=1e-4)  # llama.cpp normalises
    for item, vector in zip(packed.data, vectors, strict=True):
        data = base64.b64decode(item.embedding)
        assert list(struct.unpack(f"<{len(data) // 4}f", data)) == pytest.approx(vector, abs=1e-6)
    for item, vector in zip(default.data, vectors, strict=True):
        assert item.embedding == pytest.approx(vector, abs=1e-6)
    assert vectors[0] != pytest.approx(vectors[1], abs=1e-3)
    assert [item.index for item in floats.data] == [0, 1, 2]
    assert floats.object == "list"
    assert floats.model == packed.model == "vectors"
    assert floats.usage.prompt_tokens == floats.usage.total_tokens > len(TEXTS)


def test_embeddings_by_an_alias_and_of_one_text(client: openai.OpenAI) -> None:
    one = client.embeddings.create(model="text-embedding-mine", input=TEXTS[0])
    [item] = one.data
    [same, _] = client.embeddings.create(model="vectors", input=TEXTS[:2]).data
    assert one.model == "text-embedding-mine"
    assert item.embedding == pytest.approx(same.embedding, abs=1e-5)


def test_embeddings_never_fall_to_a_chat_model(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.embeddings.create(model="text-embedding-3-small", input="hello")
    assert caught.value.code == "model_not_found"


def test_infill_reaches_the_engine(client: openai.OpenAI) -> None:
    """The demo model has no fill-in-the-middle tokens, and llama.cpp says so in its own words."""
    with pytest.raises(openai.APIStatusError) as caught:
        client.with_options(base_url=str(client.base_url).removesuffix("v1/")).post(
            "/infill", body={"input_prefix": "a", "input_suffix": "b"}, cast_to=object
        )
    assert "infill" in caught.value.message.lower()


@pytest.mark.parametrize(
    ("route", "field"),
    [("completions", "prompt"), ("embeddings", "input"), ("rerank", "documents")],
)
def test_a_missing_field_is_named(client: openai.OpenAI, route: str, field: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.post(f"/{route}", body={"model": "vectors"}, cast_to=object)
    assert caught.value.param == field
