"""vLLM: facts, and how it is started. Seen on 0.32.0 (CPU build); 0.33 from its sources.

``vllm serve MODEL``. Tools have to be switched on, and the form of the calls named
(``engines.parsers``); images work by themselves where the model sees. Without ``ctx`` it takes the
model's own context, and does not start where a request of that length would not fit into the card's
memory: its message says how many tokens do.
"""

from collections.abc import Iterator
from typing import Final

from homeport.engines.commands import Group, Image, Place, Start
from homeport.engines.parsers import parsers
from homeport.facts import EngineFacts, Machine, ModelFiles
from homeport.settings import ModelSettings

FACTS = EngineFacts(
    engine="vllm",
    routes=frozenset({"completions", "embeddings", "rerank"}),
    reasoning_key="reasoning",  # the only name from 0.33 on; earlier ones know it too
    thinking_budget_key="thinking_token_budget",
    extensions=frozenset({"top_k", "min_p", "repetition_penalty"}),
    top_efforts=("xhigh", "max"),
    prefill=(("continue_final_message", True), ("add_generation_prompt", False)),
    token_count="tokenize",
    max_tokens_over_context=False,  # 400 "cannot be greater than max_model_len" (0.32)
)


def recognises(files: ModelFiles, machine: Machine) -> bool:
    """Weights as Hugging Face has them, and a CUDA device. (A CPU build has to be asked for.)"""
    return bool(machine.gpus) and is_hugging_face(files)


def is_hugging_face(files: ModelFiles) -> bool:
    names = {name for name, _ in files.names}
    has_weights = any(name.endswith(".safetensors") for name in names)
    return files.is_folder and has_weights and "config.json" in names


def arguments(
    model: ModelSettings, files: ModelFiles | None, machine: Machine, place: Place
) -> Iterator[Group]:
    yield (place.model,)
    yield "--host", place.host
    yield "--port", str(place.port)
    yield "--served-model-name", model.id
    if model.ctx is not None:
        yield "--max-model-len", str(model.ctx)
    if model.slots is not None:
        yield "--max-num-seqs", str(model.slots)
    if model.sleep is not None:
        yield ("--enable-sleep-mode",)
    if model.embeddings:
        yield "--runner", "pooling"
        return
    yield ("--enable-prompt-tokens-details",)  # else the usage does not tell cached tokens
    calls, thoughts = parsers(model, files)
    if calls.vllm is not None:
        yield ("--enable-auto-tool-choice",)
        yield "--tool-call-parser", calls.vllm
    if thoughts.vllm is not None:
        yield "--reasoning-parser", thoughts.vllm


def _env(model: ModelSettings) -> dict[str, str]:
    env = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}  # else it reports its use to its makers
    if model.sleep is not None:
        env["VLLM_SERVER_DEV_MODE"] = "1"  # /sleep and /wake_up are development routes (0.32)
    return env


IMAGE: Final = Image(
    # docs.vllm.ai, "Using Docker" (2026-11): --ipc=host or --shm-size, for PyTorch shares memory
    # between its processes. The tag is the version whose flags and answers we know.
    name="vllm/vllm-openai",
    version="v0.32.0",
    entry=("vllm", "serve"),
    # docs.vllm.ai, "CPU" (2026-11). The tag was not looked up.
    cpu=("public.ecr.aws/q9t5s3a7/vllm-cpu-release-repo", "v0.32.0"),
    options=("--ipc=host",),
)

START: Final = Start(
    engine="vllm",
    recognises=recognises,
    arguments=arguments,
    script="vllm",
    words=("serve",),
    module="vllm.entrypoints.cli.main",
    module_words=("serve",),
    install="install vLLM (pip install vllm) and put its folder on the PATH, or give it as binary",
    key_env="VLLM_API_KEY",
    env=_env,
    image=IMAGE,
)
