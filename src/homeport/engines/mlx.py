"""MLX: facts of ``mlx_lm.server``, and how it is started. Seen on mlx-lm 0.32.2 (Linux, CPU).

It loads what a request names. So it is asked by the very path or hub name that it was started with,
and not by its list, which has all models of the download cache first. With a path it is kept offline:
it would look up online any name that it does not know.

By itself it takes no key, has no limit of context, counts no tokens, ignores ``tool_choice``, and goes
on computing for a client that has left, unless it happens to write to him. So ours is not started
plain, but by a program of ours in its own Python (``runtime.mlx_child``), which adds all that; what it
could add in the version that it found, its ``/props`` tells (``extended``). A server of others, or a
version that is too different, is what ``FACTS`` say.

There is no container: a container cannot reach Metal.
"""

import posixpath
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

import homeport
from homeport.engines import flags
from homeport.engines.answers import first_int, items
from homeport.engines.commands import Group, Place, Start
from homeport.engines.llamacpp import DEFAULT_CTX, SLOTS
from homeport.engines.openai_compatible import model_facts as listed_facts
from homeport.engines.vllm import is_hugging_face
from homeport.errors import ConfigError
from homeport.facts import EngineFacts, Machine, ModelFacts, ModelFiles
from homeport.settings import ModelSettings

FACTS = EngineFacts(
    engine="mlx",
    routes=frozenset({"completions"}),
    reasoning_key="reasoning",
    named_tool_choice=False,
    tool_choice=False,
    parallel_tool_calls=False,
    strict_tools=False,
    reasoning_effort=False,
    extensions=frozenset({"top_k", "min_p", "repetition_penalty"}),
    ignores=frozenset({"tool_choice", "schema", "n"}),
    stops_when_left=False,
)


def extended(facts: EngineFacts, props: Mapping[str, Any]) -> EngineFacts:
    """The facts of a server with our additions, by its ``/props``."""
    parts = props.get("homeport")
    if not isinstance(parts, Mapping):
        return facts
    forces = parts.get("forces_calls") is True
    return msgspec.structs.replace(
        facts,
        tool_choice=forces,
        named_tool_choice=forces,
        ignores=facts.ignores - {"tool_choice"} if forces else facts.ignores,
        token_count="chat_input_tokens" if parts.get("counts") is True else None,
        stops_when_left=parts.get("aborts") is True,
    )


def model_facts(models: object) -> tuple[ModelFacts, ...]:
    """With our additions it lists the one model that it was started with, and how many requests it
    computes side by side."""
    slots = [first_int(item, "slots") for item in items(models)]
    pairs = zip(listed_facts(models), slots, strict=True)
    return tuple(msgspec.structs.replace(model, slots=count) for model, count in pairs)


def context_tokens(model: ModelSettings, files: ModelFiles | None) -> int | None:
    """What the user wants, else what the model was made for. ``text_config`` is that of a model that
    sees."""
    config: Mapping[str, Any] = (files.config if files is not None else None) or {}
    trained = first_int(config, "max_position_embeddings")
    return model.ctx or trained or first_int(config.get("text_config"), "max_position_embeddings")


def recognises(files: ModelFiles, machine: Machine) -> bool:
    """Weights that MLX wrote, on any machine; on Apple silicon any weights as Hugging Face has
    them, for mlx-lm reads those too."""
    return is_hugging_face(files) and (is_mlx(files) or machine.is_apple_silicon)


def is_mlx(files: ModelFiles) -> bool:
    """mlx-lm notes ``mlx`` as the format in each file of weights (``utils.save_model``, 0.32.2).
    Files that were converted by others are known by their quantisation: Hugging Face's own stands
    under ``quantization_config`` with a ``quant_method``."""
    config: Mapping[str, Any] = files.config or {}
    quantised = config.get("quantization")
    is_quantised = isinstance(quantised, dict) and {"group_size", "bits"} <= quantised.keys()
    return files.format == "mlx" or is_quantised


def arguments(
    model: ModelSettings, files: ModelFiles | None, machine: Machine, place: Place
) -> Iterator[Group]:
    if model.embeddings:
        raise ConfigError(
            "mlx_lm.server has no embeddings",
            key=f"models.{model.id}.embeddings",
            hint="use llamacpp, with a GGUF of the model",
        )
    yield "--model", place.model
    yield "--host", place.host
    yield "--port", str(place.port)
    slots = str(model.slots or SLOTS)
    yield "--decode-concurrency", slots
    yield "--prompt-concurrency", slots
    # Who names no limit gets 512 tokens else, and an answer that ends in mid-sentence.
    yield "--max-tokens", str(context_tokens(model, files) or DEFAULT_CTX)


def _env(model: ModelSettings) -> dict[str, str]:
    return {"HF_HUB_OFFLINE": "1"} if model.hub is None else {}


def _known_as(model: ModelSettings, place: Place) -> str:
    """An adapter belongs to the name ``default_model`` alone (0.32.2)."""
    return "default_model" if flags.is_set(model.args, "--adapter-path") else place.model


START: Final = Start(
    engine="mlx",
    recognises=recognises,
    arguments=arguments,
    script="mlx_lm.server",
    module="mlx_lm",
    module_words=("server",),
    install="install mlx-lm (pip install mlx-lm; on Linux with mlx[cpu]) and put its folder on the "
    "PATH, or give its Python as binary",
    env=_env,
    known_as=_known_as,
    answers_busy=False,  # one Python for the server and the model
    key_env="HOMEPORT_ENGINE_KEY",
    child=posixpath.join(posixpath.dirname(homeport.__file__), "runtime", "mlx_child.py"),
    context=context_tokens,
)
