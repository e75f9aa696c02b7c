"""TensorRT-LLM: facts, and how it is started, from its sources (it needs a GPU; not run yet).

It answers 400 to every field that it does not know: what is not stated here must not be sent.

``trtllm-serve serve MODEL``, where MODEL is a folder of engines that were built with ``trtllm-build``,
or one as Hugging Face has it, or a name on the hub. Flags and parsers from the sources of winter
2025/26 (``commands/serve.py``); it takes no API key. The name that it lists is its own choice: the
folder's, without the path.
"""

from collections.abc import Iterator
from typing import Any, Final

from homeport.engines.commands import Group, Image, Place, Start
from homeport.engines.parsers import parsers
from homeport.errors import ConfigError
from homeport.facts import EngineFacts, Machine, ModelFiles
from homeport.settings import ModelSettings

FACTS = EngineFacts(
    engine="trtllm",
    routes=frozenset({"completions"}),
    named_tool_choice=False,  # taken, but the call then comes without parsed arguments
    parallel_tool_calls=False,  # unknown before autumn 2026, not enforced since
    template_kwargs=False,  # a template that does not read the key makes it a 400
    extensions=frozenset({"top_k", "min_p", "repetition_penalty"}),
    max_tokens_over_context=False,
)


def recognises(files: ModelFiles, machine: Machine) -> bool:
    """What ``trtllm-build`` writes: an engine for each rank, and how it was built."""
    config: Any = files.config or {}
    names = {name for name, _ in files.names}
    return files.is_folder and "rank0.engine" in names and "build_config" in config


def arguments(
    model: ModelSettings, files: ModelFiles | None, machine: Machine, place: Place
) -> Iterator[Group]:
    if model.embeddings:
        raise ConfigError(
            "trtllm-serve has no embeddings",
            key=f"models.{model.id}.embeddings",
            hint="use llamacpp, vllm or sglang for this model",
        )
    yield (place.model,)
    yield "--host", place.host
    yield "--port", str(place.port)
    if files is not None and recognises(files, machine):
        yield "--backend", "tensorrt"  # the default is PyTorch since 1.0, which builds nothing
    if model.ctx is not None:
        yield "--max_seq_len", str(model.ctx)
    if model.slots is not None:
        yield "--max_batch_size", str(model.slots)
    calls, thoughts = parsers(model, files)
    if calls.trtllm is not None:
        yield "--tool_parser", calls.trtllm
    if thoughts.trtllm is not None:
        yield "--reasoning_parser", thoughts.trtllm


IMAGE: Final = Image(
    # nvidia.github.io/TensorRT-LLM, "Quick Start Guide" (2026-11): these options.
    name="nvcr.io/nvidia/tensorrt-llm/release",
    version="1.2.1",
    entry=("trtllm-serve", "serve"),
    options=("--ipc=host", "--ulimit", "memlock=-1", "--ulimit", "stack=67108864"),
)

START: Final = Start(
    engine="trtllm",
    recognises=recognises,
    arguments=arguments,
    script="trtllm-serve",
    words=("serve",),
    install="install TensorRT-LLM, which brings trtllm-serve, and put its folder on the PATH, "
    "or give it as binary",
    known_as=lambda model, place: None,
    image=IMAGE,
)
