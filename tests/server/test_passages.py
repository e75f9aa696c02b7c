"""Passages: the model's name both ways, embeddings in the encoding asked for, refusals by name."""

import base64
import json
import struct

import pytest

from homeport.engines import mlx
from homeport.errors import ClientError
from homeport.facts import Endpoint, EngineFacts, ModelFacts
from homeport.server.passages import PASSAGES, PassageCall


def endpoint(engine: EngineFacts) -> Endpoint:
    return Endpoint(base_url="http://x/v1", engine=engine, model=ModelFacts(name="real"))


def call(route: str, **fields: object) -> PassageCall:
    return PassageCall(PASSAGES[route], json.dumps(fields).encode())


def test_the_models_name_is_swapped_and_all_else_stays() -> None:
    asked = call("/v1/embeddings", model="emb", input=["a"], dimensions=2, odd={"x": 1})
    sent = json.loads(asked.engine_body(endpoint(EngineFacts())))
    assert sent == {"model": "real", "input": ["a"], "dimensions": 2, "odd": {"x": 1}}
    answer = json.dumps({"model": "real", "data": [], "usage": {"prompt_tokens": 3}})
    body, usage = asked.whole(answer.encode(), endpoint(EngineFacts()))
    assert json.loads(body)["model"] == "emb"
    assert usage is not None
    assert usage.prompt_tokens == 3


@pytest.mark.parametrize("encoding", ["base64", "float", None])
def test_lists_become_base64_only_when_asked_for(encoding: str | None) -> None:
    asked = call("/v1/embeddings", model="e", input="a", encoding_format=encoding)
    vector = [0.5, -2.0, 3.25]
    answer = json.dumps({"model": "r", "data": [{"index": 0, "embedding": vector}]}).encode()
    body, _ = asked.whole(answer, endpoint(EngineFacts()))
    got = json.loads(body)["data"][0]["embedding"]
    if encoding == "base64":
        got = list(struct.unpack("<3f", base64.b64decode(got)))
    assert got == vector


def test_a_packed_embedding_passes_as_it_is() -> None:
    asked = call("/v1/embeddings", model="e", input="a", encoding_format="base64")
    answer = json.dumps({"model": "r", "data": [{"embedding": "AAAAPw=="}]}).encode()
    body, _ = asked.whole(answer, endpoint(EngineFacts()))
    assert json.loads(body)["data"][0]["embedding"] == "AAAAPw=="


def test_an_engine_without_the_route_is_named() -> None:
    with pytest.raises(ClientError) as caught:
        call("/v1/rerank", model="e", documents=["a"]).engine_body(endpoint(mlx.FACTS))
    assert caught.value.kind == "not_found"
    assert "mlx" in caught.value.message
    assert "rerank" in caught.value.message


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"input": "a", "model": 3}'])
def test_a_wrong_body_is_the_clients_fault(body: bytes) -> None:
    with pytest.raises(ClientError):
        PassageCall(PASSAGES["/v1/embeddings"], body)
