"""Which engine answers at a URL, and what it serves: judged over recorded answers."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.engines import detect
from homeport.engines.answers import decoded
from homeport.errors import ConfigError
from tests.engines.conftest import Answer

ENGINES = ["llamacpp", "vllm", "sglang", "trtllm", "mlx", "ollama"]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["data", "id", "owned_by", "meta", "n_ctx", "aliases", "architecture"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("engine", ENGINES)
def test_each_engine_is_recognised(engine: str, answer: Answer) -> None:
    found = detect.engine_of(
        answer(engine, "models"), answer(engine, "headers"), answer(engine, "api_version")
    )
    assert found == engine


@pytest.mark.parametrize("engine", ENGINES)
def test_facts_are_of_the_engine(engine: str) -> None:
    assert detect.FACTS[engine].engine == engine  # type: ignore[index]  # parametrised names


def test_an_unknown_server_is_not_guessed(answer: Answer) -> None:
    assert detect.engine_of(answer("lmstudio", "models"), answer("lmstudio", "headers")) is None


def test_llamacpp_is_known_by_its_header_when_it_lists_nothing() -> None:
    assert detect.engine_of({"data": []}, {"server": "llama.cpp"}) == "llamacpp"


def test_ollama_with_only_user_models_is_known_by_its_own_route(answer: Answer) -> None:
    models = {"data": [{"id": "someone/tuned", "owned_by": "someone"}]}
    assert detect.engine_of(models, {}) is None
    assert detect.engine_of(models, {}, answer("ollama", "api_version")) == "ollama"


def test_a_gateway_in_front_of_several_engines_is_not_one_of_them() -> None:
    models = {"data": [{"id": "a", "owned_by": "vllm"}, {"id": "b", "owned_by": "llamacpp"}]}
    assert detect.engine_of(models, {"server": "uvicorn"}) is None


def test_version() -> None:
    assert detect.version_of({"version": "0.32.0"}) == "0.32.0"
    assert detect.version_of({"version": 3}) is None
    assert detect.version_of({"detail": "Not Found"}) is None


def test_llamacpp_model(answer: Answer) -> None:
    (model,) = detect.model_facts(
        "llamacpp", answer("llamacpp", "models"), answer("llamacpp", "props")
    )
    assert model.name == "tiny"
    assert model.context_tokens == 2048
    assert model.slots == 2
    assert model.vision is False
    assert model.created_at_s == 1795196649


def test_llamacpp_model_without_props(answer: Answer) -> None:
    (model,) = detect.model_facts("llamacpp", answer("llamacpp", "models"))
    assert (model.context_tokens, model.slots, model.vision) == (2048, None, False)


def test_llamacpp_vision(answer: Answer) -> None:
    props = {**answer("llamacpp", "props"), "modalities": {"vision": True, "audio": False}}
    (model,) = detect.model_facts("llamacpp", answer("llamacpp", "models"), props)
    assert model.vision is True


def test_llamacpp_router_lists_all_and_takes_no_props(answer: Answer) -> None:
    models = {
        "data": [{"id": "a", "aliases": ["a", "x"]}, {"id": "b", "status": {"value": "idle"}}]
    }
    found = detect.model_facts("llamacpp", models, answer("llamacpp", "props"))
    assert [(m.name, m.aliases, m.slots) for m in found] == [("a", ("x",), None), ("b", (), None)]


@pytest.mark.parametrize(
    ("engine", "names", "context"),
    [
        ("vllm", ["tiny"], 2048),
        ("sglang", ["qwen3"], 40960),
        ("trtllm", ["TinyLlama-1.1B-Chat-v1.0"], None),
        ("mlx", ["/models/tiny-hf"], None),
        ("ollama", ["qwen3:8b", "someone/tuned:latest"], None),
    ],
)
def test_models_of_the_others(
    engine: Any, names: list[str], context: int | None, answer: Answer
) -> None:
    found = detect.model_facts(engine, answer(engine, "models"))
    assert [m.name for m in found] == names
    assert {m.context_tokens for m in found} == {context}
    assert {m.vision for m in found} == {None}  # they do not tell


@given(json_values, json_values)
def test_any_json_gives_facts_and_nothing_else(models: Any, props: Any) -> None:
    detect.engine_of(models, {}, props)
    for engine in detect.FACTS:
        for model in detect.model_facts(engine, models, props if isinstance(props, dict) else None):
            assert isinstance(model.name, str)
            assert model.context_tokens is None or model.context_tokens > 0


@given(st.binary(max_size=64))
def test_any_bytes_decode_or_are_none(body: bytes) -> None:
    decoded(body)


def test_deep_json_is_none() -> None:
    assert decoded(b"[" * 100_000) is None


def test_gguf_by_its_first_bytes() -> None:
    assert detect.is_gguf(b"GGUF\x03\x00\x00\x00")
    assert not detect.is_gguf(b"PK\x03\x04")
    assert not detect.is_gguf(b"")
    detect.check_gguf("m.gguf", b"GGUF\x03")


def test_no_gguf_says_what_where_and_what_next() -> None:
    with pytest.raises(ConfigError) as raised:
        detect.check_gguf("models/m.safetensors", b"\x10\x02\x00\x00")
    assert "not a GGUF model file" in str(raised.value)
    assert "models/m.safetensors" in str(raised.value)
    assert "hint: " in str(raised.value)


@pytest.mark.parametrize(
    ("name", "is_embedding"),
    [
        ("nomic-embed-text:latest", True),
        ("text-embedding-nomic", True),
        ("Qwen/Qwen3-Embedding-0.6B", True),
        ("BAAI/bge-m3", True),
        ("intfloat/multilingual-e5-large", True),
        ("bge-reranker-v2-m3", True),
        ("all-minilm:22m", True),
        ("qwen3:8b", False),
        ("gemma-3n-E4B-it", False),
        ("org/the-bigger-one", False),
        ("", False),
    ],
)
def test_embedding_models_by_their_names(name: str, is_embedding: bool) -> None:
    assert detect.is_embedding(name) == is_embedding
