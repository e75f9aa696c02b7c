"""MLX: facts of ``mlx_lm.server``, and how it is started. Seen on mlx-lm 0.29 (Linux, CPU); flags of
0.32.2.

It loads what a request names. So it is asked by the very path or hub name that it was started with,
and not by its list, which has all models of the download cache first. With a path it is kept offline:
it would look up online any name that it does not know.

It takes no API key, has no limit of context, and no container: a container cannot reach Metal.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from homeport.engines import flags
from homeport.engines.commands import Group, Place, Start
from homeport.engines.vllm import is_hugging_face
from homeport.errors import ConfigError
from homeport.spec import EngineFacts, Machine, ModelFiles, ModelSettings

FACTS = EngineFacts(
    engine="mlx",
    routes=frozenset({"completions"}),
    reasoning_key="reasoning",
    named_tool_choice=False,
    tool_choice=False,  # ignored
    parallel_tool_calls=False,
    strict_tools=False,
    reasoning_effort=False,
    extensions=frozenset({"top_k", "min_p", "repetition_penalty"}),
)


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
    if model.slots is not None:
        yield "--decode-concurrency", str(model.slots)


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
)
