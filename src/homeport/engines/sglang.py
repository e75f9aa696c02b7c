"""SGLang: facts, and how it is started, from the sources of 0.5.23 (it needs a GPU; not run yet).

``python -m sglang.launch_server``. It finds out the form of tool calls and of thinking by itself
(``auto``: chat template, then architecture), and goes without where it cannot.

Nothing leads to it by itself: weights as Hugging Face has them go to vLLM, unless ``engine: sglang`` is
set.
"""

from collections.abc import Iterator
from typing import Final

from homeport.engines.commands import Group, Image, Place, Start
from homeport.facts import EngineFacts, Machine, ModelFiles
from homeport.settings import ModelSettings

FACTS = EngineFacts(
    engine="sglang",
    routes=frozenset({"completions", "embeddings", "rerank"}),
    extensions=frozenset({"top_k", "min_p", "repetition_penalty"}),
    top_efforts=("max", "max"),
    prefill=(("continue_final_message", True),),
    image_in_tool=True,
    max_tokens_over_context=False,  # refused unless started with --allow-auto-truncate
)


def recognises(files: ModelFiles, machine: Machine) -> bool:
    return False


def arguments(
    model: ModelSettings, files: ModelFiles | None, machine: Machine, place: Place
) -> Iterator[Group]:
    yield "--model-path", place.model
    yield "--host", place.host
    yield "--port", str(place.port)
    yield "--served-model-name", model.id
    if model.ctx is not None:
        yield "--context-length", str(model.ctx)
    if model.slots is not None:
        yield "--max-running-requests", str(model.slots)
    yield ("--enable-metrics",)
    if model.embeddings:
        yield ("--is-embedding",)
        return
    yield ("--enable-cache-report",)  # else the usage does not tell cached tokens
    yield "--tool-call-parser", "auto"
    yield "--reasoning-parser", "auto"


IMAGE: Final = Image(
    # docs.sglang.io, "Installation", and its compose file (2026-10): shared memory with the host,
    # memory that may be locked. Tags are v<version>; CUDA 13 from 0.5.20 on.
    name="lmsysorg/sglang",
    version="v0.5.23",
    entry=("python3", "-m", "sglang.launch_server"),
    options=(
        *("--ipc=host", "--shm-size=32g"),
        *("--ulimit", "memlock=-1", "--ulimit", "stack=67108864"),
    ),
)

START: Final = Start(
    engine="sglang",
    recognises=recognises,
    arguments=arguments,
    script="sglang",
    words=("serve",),  # takes the same arguments (cli/serve.py)
    module="sglang.launch_server",
    install="install SGLang (pip install sglang) and put its folder on the PATH, "
    "or give its Python as binary",
    key_flag="--api-key",  # it has no variable for it
    image=IMAGE,
)
