"""Which engine answers at a URL, and what a model file is, judged from bytes alone.

How a server is recognised, in this order:

1. ``owned_by`` in its ``/v1/models``: most engines sign there.
2. The ``Server`` header: llama.cpp names itself; mlx_lm runs on Python's ``http.server``, which no
   other known engine does.
3. ``/api/version``: only Ollama has it (its ``owned_by`` is the namespace of the model's author).

What is not recognised is ``openai_compatible``: cautious facts, nothing breaks.
"""

import re
from collections.abc import Mapping
from typing import Any

from homeport.engines import (
    litellm_proxy,
    llamacpp,
    mlx,
    ollama,
    openai_compatible,
    sglang,
    trtllm,
    vllm,
)
from homeport.engines.answers import items
from homeport.errors import ConfigError
from homeport.facts import EngineFacts, EngineName, ModelFacts

FACTS: Mapping[EngineName, EngineFacts] = {
    module.FACTS.engine: module.FACTS
    for module in (llamacpp, vllm, sglang, trtllm, mlx, ollama, litellm_proxy, openai_compatible)
}

VERSION_PATH: Mapping[EngineName, str] = {
    "vllm": "/version",
    "trtllm": "/version",
    "ollama": "/api/version",
}
"""Where an engine tells its version as ``{"version": …}``, below the server's root."""

_OWNERS: Mapping[str, EngineName] = {
    "llamacpp": "llamacpp",
    "vllm": "vllm",
    "sglang": "sglang",
    "tensorrt_llm": "trtllm",
    "library": "ollama",
}

_GGUF_MAGIC = b"GGUF"


def engine_of(
    models: object, headers: Mapping[str, str], api_version: object = None
) -> EngineName | None:
    """Return the engine that gave these answers, or None when nothing tells.

    ``models`` is the decoded ``/v1/models`` answer with its ``headers`` (any case), ``api_version``
    the decoded answer of ``/api/version`` where that was asked for.
    """
    owners = {item.get("owned_by") for item in items(models)}
    signed = {_OWNERS[owner] for owner in owners if isinstance(owner, str) and owner in _OWNERS}
    if len(signed) == 1:  # 1.
        return signed.pop()
    server = next((value for name, value in headers.items() if name.lower() == "server"), "")
    if server == "llama.cpp":  # 2.
        return "llamacpp"
    if server.startswith("BaseHTTP"):
        return "mlx"
    if version_of(api_version):  # 3.
        return "ollama"
    return None


def version_of(answer: object) -> str | None:
    """Return the version in a ``{"version": …}`` answer."""
    version = answer.get("version") if isinstance(answer, dict) else None
    return version if isinstance(version, str) and version else None


def model_facts(
    engine: EngineName, models: object, props: Mapping[str, Any] | None = None
) -> tuple[ModelFacts, ...]:
    """Return the models that ``/v1/models`` lists; ``props`` is llama.cpp's ``/props``."""
    if engine == "llamacpp":
        return llamacpp.model_facts(models, props or {})
    if engine == "mlx":
        return mlx.model_facts(models)
    return openai_compatible.model_facts(models)


_TITLES: Mapping[EngineName | None, str] = {
    "llamacpp": "llama.cpp",
    "vllm": "vLLM",
    "sglang": "SGLang",
    "trtllm": "TensorRT-LLM",
    "mlx": "MLX",
    "ollama": "Ollama",
    "litellm": "LiteLLM",
}


def title(engine: EngineName | None) -> str:
    """What people call it."""
    return _TITLES.get(engine, "a model server")


_EMBEDDING = re.compile(
    r"embed|rerank|minilm|(?:^|[/_-])(?:multilingual[-_])?(?:bge|gte|e5)[-_]", re.IGNORECASE
)


def is_embedding(name: str) -> bool:
    """Whether a model that a server lists is for embeddings or reranking, by its name: no list in
    the shape of OpenAI's says it. A guess, by which no such model becomes the default."""
    return bool(_EMBEDDING.search(name))


def is_gguf(head: bytes) -> bool:
    """True for the first bytes of a GGUF file."""
    return head.startswith(_GGUF_MAGIC)


def check_gguf(path: str, head: bytes) -> None:
    """Raise ``ConfigError`` when ``head``, the file's first bytes, is not of a model we can start."""
    if is_gguf(head):
        return
    raise ConfigError(
        "not a GGUF model file",
        where=path,
        hint="llama.cpp reads GGUF files only; look for a download of the model named *.gguf",
    )
