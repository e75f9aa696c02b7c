"""The keys of what holds for many models: the defaults of each engine, groups, memory and time.

A part of the table in ``config.schema``.
"""

from typing import Final

from homeport.config.kinds import (
    ANY_TEXT,
    BACKEND,
    BOOLEAN,
    COUNT,
    GROUP_NAME,
    IMAGE,
    IMAGE_TAG,
    IMAGE_TYPE,
    MODEL_ID,
    PORT,
    RUNNER,
    SECONDS,
    SECONDS_OR_ZERO,
    SIZE,
    SIZE_OR_ZERO,
    VARIABLE,
    Key,
    ListOf,
    MapOf,
    Section,
    Words,
)
from homeport.settings import LifecycleSettings

_LIFECYCLE: Final = LifecycleSettings()

BACKEND_DEFAULTS: Final = Section(
    (
        Key(
            name="version",
            kind=IMAGE_TAG,
            default="one that homeport was made for",
            doc="Tag of the container image; for `litellm` the version of LiteLLM.",
            example="v0.12.0",
        ),
        Key(
            name="image",
            kind=IMAGE,
            default="the engine's own",
            doc="The container image. Here it does not turn containers on: see `runner`.",
            example="vllm/vllm-openai",
        ),
        Key(
            name="image_type",
            kind=IMAGE_TYPE,
            default="prebuilt",
            doc="`models.yaml` files have it. It has no effect: homeport builds no images.",
        ),
        Key(
            name="runner",
            kind=RUNNER,
            default="process",
            doc="As the models' own `runner`.",
            example="container",
        ),
        Key(
            name="args",
            kind=Words(flags=True),
            default="none",
            doc="Arguments that come before each model's own `args`, written like those.",
            example="{gpu_memory_utilization: 0.95, max_model_len: 65536}",
        ),
        Key(
            name="env",
            kind=MapOf(VARIABLE, ANY_TEXT),
            default="none",
            doc="Environment variables of the engine. A model's own `env` wins.",
            example="{HF_HUB_OFFLINE: 1}",
        ),
        Key(
            name="port",
            kind=PORT,
            default="a free one",
            doc="Port of the first model that this engine serves and that names none.",
            example="8000",
        ),
        Key(name="ctx", kind=COUNT, default="as for models", doc="As the models' own `ctx`."),
        Key(name="slots", kind=COUNT, default="as for models", doc="As the models' own `slots`."),
        Key(
            name="ttl_s",
            kind=SECONDS,
            also="ttl",
            default="never",
            doc="As the models' own `ttl_s`.",
            example="30m",
        ),
        Key(
            name="alias",
            kind=MODEL_ID,
            default="none",
            doc="For `litellm` only: what LiteLLM calls the model.",
            example="local-model",
        ),
    )
)

DEFAULTS: Final = Section(
    (
        Key(
            name="backends",
            kind=MapOf(BACKEND, BACKEND_DEFAULTS),
            default="none",
            doc="By engine (`llamacpp` or `llama`, `vllm`, `sglang`, `trtllm`, `mlx`, `custom`), what "
            "holds for each of its models that does not say otherwise; and `litellm`: `version`, "
            "`image`, `runner`, `port`, `alias` and `env` of LiteLLM where the `litellm` section does "
            "not say them. The layout of `models.yaml` files.",
            example="{vllm: {version: v0.12.0, args: {max_model_len: 65536}}}",
        ),
    )
)

GROUP: Final = Section(
    (
        Key(
            name="together",
            kind=BOOLEAN,
            default="false",
            doc="Whether the group's models may run at the same time, as far as memory allows; else "
            "one at a time.",
            example="true",
        ),
        Key(
            name="apart_from",
            kind=ListOf(GROUP_NAME, one_ok=True),
            default="none",
            doc="Groups of which no model runs while one of this group does. It holds in both "
            "directions.",
            example="[small]",
        ),
    )
)

LIFECYCLE: Final = Section(
    (
        Key(
            name="memory_bytes",
            kind=SIZE,
            also="memory",
            default="what the machine has, measured",
            doc="Memory for all engines that homeport starts.",
            example="22GiB",
        ),
        Key(
            name="saved_slots_bytes",
            kind=SIZE_OR_ZERO,
            also="saved_slots",
            default="8GiB",
            doc="Disk space for the KV caches of llama.cpp models that were stopped to make room, so "
            "that long conversations go on where they were when the model is back. What the model has "
            "read lies there, for this user only, until homeport ends. 0 keeps nothing.",
        ),
        Key(
            name="min_dwell_s",
            kind=SECONDS_OR_ZERO,
            also="min_dwell",
            default=f"{_LIFECYCLE.min_dwell_s:g}",
            doc="A model that has just become ready is not stopped for another one any sooner.",
        ),
        Key(
            name="max_queue",
            kind=COUNT,
            default=str(_LIFECYCLE.max_queue),
            doc="So many requests may wait for one model; more are told to come back later.",
        ),
        Key(
            name="max_wait_s",
            kind=SECONDS,
            also="max_wait",
            default=f"{_LIFECYCLE.max_wait_s:g}",
            doc="A request waits no longer than this for its model. A big one from a slow disk takes "
            "minutes.",
            example="15m",
        ),
        Key(
            name="return_to_default_s",
            kind=SECONDS,
            also="return_to_default",
            default="never",
            doc="Start the default model again when the other ones have been idle for so long.",
            example="10m",
        ),
        Key(
            name="groups",
            kind=MapOf(GROUP_NAME, GROUP),
            default="none",
            doc="Which models may live side by side. A model names its group by `group`.",
            example="{big: {apart_from: small}, small: {together: true}}",
        ),
    )
)
