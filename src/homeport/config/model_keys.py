"""The keys of one model: a part of the table in ``config.schema``."""

from typing import Final

from homeport.config.kinds import (
    ANY_TEXT,
    BOOLEAN,
    COUNT,
    DIALECT,
    ENGINE,
    EXECUTABLE,
    GROUP_NAME,
    HEADER,
    HUB_ID,
    IMAGE,
    IMAGE_TAG,
    MODEL_ID,
    PATH,
    PORT,
    REQUEST_FIELD,
    REQUEST_VALUE,
    RUNNER,
    SECONDS,
    SECONDS_OR_ZERO,
    SECRET,
    SIZE,
    SLEEP_LEVEL,
    TEXT,
    TIMES,
    URL,
    VARIABLE,
    VIA,
    WEIGHT,
    Key,
    ListOf,
    MapOf,
    Section,
    Words,
)

OURS: Final = ("path", "hub", "command")
"""Where a model that we start an engine for comes from."""

ROUTE: Final = Section(
    (
        Key(
            name="models",
            kind=MapOf(MODEL_ID, WEIGHT),
            required=True,
            doc="The models that stand behind the name, its deployments, and their weights: shares of "
            "the requests. One of weight 0 is asked when no other can be.",
            example="{qwen-left: 2, qwen-right: 1}",
        ),
        Key(
            name="fallbacks",
            kind=ListOf(MODEL_ID, one_ok=True),
            default="none",
            doc="Models or routes that are asked when these have failed, in this order.",
            example="[small]",
        ),
        Key(
            name="retries",
            kind=TIMES,
            default="2",
            doc="So many more of its models are asked where one has failed before the first byte.",
            example="1",
        ),
        Key(
            name="cooldown_s",
            kind=SECONDS_OR_ZERO,
            also="cooldown",
            default="5",
            doc="A model that has failed is left alone for so long, while there is another.",
            example="30",
        ),
        Key(
            name="listed",
            kind=BOOLEAN,
            default="true",
            doc="Whether `/v1/models` names it.",
        ),
    )
)

MODEL: Final = Section(
    one_of=(*OURS, "upstream", "via"),
    keys=(
        Key(
            name="path",
            kind=PATH,
            doc="The model's file or folder, for a model that homeport serves itself. A relative "
            "path starts at the configuration file; `~` is your home folder. Every model has "
            "`path`, `hub`, `upstream` or `command`.",
            example="~/models/qwen3-8b-q4_k_m.gguf",
        ),
        Key(
            name="hub",
            kind=HUB_ID,
            doc="The model's name on the Hugging Face hub, instead of `path`. `:QUANT` behind it picks "
            "one GGUF file of a repository that has several.",
            example="unsloth/Qwen3-8B-GGUF:Q4_K_M",
        ),
        Key(
            name="command",
            kind=Words(),
            doc="The command line of a server that homeport starts, for an `engine: custom`; it must "
            "speak OpenAI's chat API. `{port}` becomes the port to listen on (on 127.0.0.1), "
            "`{model}` the `path` or `hub` beside it, else the model's id. No shell reads it.",
            example="my-server --port {port} --weights {model}",
        ),
        Key(
            name="upstream",
            kind=URL,
            doc="Base URL of a server that runs already. Without a path, `/v1` is added.",
            example="http://127.0.0.1:8080/v1",
        ),
        Key(
            name="upstream_model",
            kind=TEXT,
            only_with=("upstream", "via"),
            default="the upstream's first model",
            doc="The name that the upstream knows the model by; with `via: litellm` alone LiteLLM's "
            "name for it, with the provider in front.",
        ),
        Key(
            name="via",
            kind=VIA,
            default="native",
            doc="`litellm` sends requests for this model through LiteLLM's proxy (`litellm.enabled`). "
            "With `upstream_model` and no other source: a model that LiteLLM reaches and homeport does "
            "not. Beside a source: homeport serves it, and LiteLLM stands between.",
            example="litellm",
        ),
        Key(
            name="litellm_params",
            kind=MapOf(TEXT, ANY_TEXT),
            only_with=("via",),
            default="none",
            doc="More of what LiteLLM's own file has under `litellm_params`: an `api_base`, a region. "
            "`os.environ/NAME` is left to LiteLLM, which gets that variable.",
            example="{aws_region_name: eu-central-1}",
        ),
        Key(
            name="api_key",
            kind=SECRET,
            only_with=("upstream", "command"),
            default="none",
            doc="Key for the upstream, or for what `command` starts. `${NAME}` or `os.environ/NAME` "
            "takes it from the environment, so that it need not stand in the file.",
            example="${UPSTREAM_KEY}",
        ),
        Key(
            name="engine",
            kind=ENGINE,
            also="backend",
            default="found out: by the files of a model, by asking an upstream",
            doc="Which server software it is: `llamacpp` (or `llama`), `vllm`, `sglang`, `trtllm`, "
            "`mlx` or `custom` (a `command` of your own); for an upstream also `ollama`, "
            "`litellm` or `openai_compatible`.",
            example="vllm",
        ),
        Key(
            name="dialect",
            kind=DIALECT,
            only_with=("upstream", "via"),
            default="openai_chat",
            doc="What the upstream is asked in: `openai_chat`, or `anthropic` for one that has "
            "`/v1/messages` and no `/v1/chat/completions`. Clients of both APIs can use either. With "
            "`via: litellm` that is what LiteLLM is asked in.",
            example="anthropic",
        ),
        Key(
            name="headers",
            kind=MapOf(HEADER, SECRET),
            only_with=("upstream",),
            default="none",
            doc="More headers for the upstream. `${NAME}` or `os.environ/NAME` takes a value from the "
            "environment.",
            example="{X-Team: blue}",
        ),
        Key(
            name="timeout_s",
            kind=SECONDS,
            also="timeout",
            only_with=("upstream",),
            default="server.limits.idle_timeout_s",
            doc="Longest silence of the upstream inside one answer.",
            example="2m",
        ),
        Key(
            name="request_defaults",
            kind=MapOf(REQUEST_FIELD, REQUEST_VALUE),
            default="none",
            doc="Fields that a request is given when it does not name them: `max_tokens`, "
            "`temperature`, `top_p`, `top_k`, `min_p`, `presence_penalty`, `frequency_penalty`, "
            "`repetition_penalty`, `seed`, `reasoning_effort`.",
            example="{temperature: 0.7}",
        ),
        Key(
            name="listed",
            kind=BOOLEAN,
            default="true",
            doc="Whether `/v1/models` names it. `false` is for models that only a route shall lead to.",
            example="false",
        ),
        Key(
            name="aliases",
            kind=ListOf(MODEL_ID, one_ok=True),
            also="alias",
            default="none",
            doc="More names for this model. One name needs no list.",
            example="[qwen, coder]",
        ),
        Key(
            name="ctx",
            kind=COUNT,
            default="32768, or the model's own where that is less",
            doc="Context of one request, in tokens, that the engine is started with. Of an upstream: "
            "what its context is, where it does not tell.",
            example="32768",
        ),
        Key(
            name="slots",
            kind=COUNT,
            only_with=OURS,
            default="2",
            doc=(
                "Requests that the engine computes side by side, each with its own context and its own "
                "cached prompt: one for each conversation and sub-agent, one for small requests beside."
            ),
            example="4",
        ),
        Key(
            name="args",
            kind=Words(flags=True),
            only_with=OURS,
            default="none",
            doc="More arguments for the engine's command line: a list with one item each, one text "
            "that is split as a shell would, or a mapping: `max_model_len: 65536` is "
            "`--max-model-len 65536`, `true` the flag alone. A key that begins with `-` is taken as "
            "it is.",
            example='["--threads", "8"]',
        ),
        Key(
            name="env",
            kind=MapOf(VARIABLE, ANY_TEXT),
            only_with=OURS,
            default="none",
            doc="More environment variables for the engine.",
            example="{CUDA_VISIBLE_DEVICES: 0}",
        ),
        Key(
            name="binary",
            kind=EXECUTABLE,
            only_with=OURS,
            default="found on PATH; for llama.cpp else the embedded one",
            doc="The engine's executable.",
            example="/opt/llama.cpp/bin/llama-server",
        ),
        Key(
            name="runner",
            kind=RUNNER,
            only_with=OURS,
            default="container where image is set, else process",
            doc="Whether the engine runs as a process of this machine or in a container.",
            example="container",
        ),
        Key(
            name="image",
            kind=IMAGE,
            only_with=OURS,
            default="the engine's own",
            doc="The container image, with or without a tag.",
            example="vllm/vllm-openai",
        ),
        Key(
            name="version",
            kind=IMAGE_TAG,
            only_with=OURS,
            default="one that homeport was made for",
            doc="The image's tag. A process is not looked at.",
            example="v0.12.0",
        ),
        Key(
            name="port",
            kind=PORT,
            only_with=OURS,
            default="a free one",
            doc="The engine's own port, on 127.0.0.1.",
            example="8080",
        ),
        Key(
            name="group",
            kind=GROUP_NAME,
            only_with=OURS,
            default="none",
            doc="The group under `lifecycle.groups` whose rule about living side by side holds for "
            "this model. Without one only memory decides.",
            example="big",
        ),
        Key(
            name="preload",
            kind=BOOLEAN,
            only_with=OURS,
            default="false; the default model is always preloaded",
            doc="Start the engine when homeport starts, not with the first request.",
            example="true",
        ),
        Key(
            name="pinned",
            kind=BOOLEAN,
            only_with=OURS,
            default="false",
            doc="Never stop the engine to make room for another.",
            example="true",
        ),
        Key(
            name="ttl_s",
            kind=SECONDS,
            also="ttl",
            only_with=OURS,
            default="never",
            doc="Stop the engine when it has had no request for so long, counted from the end of the "
            "last one.",
            example="10m",
        ),
        Key(
            name="memory_bytes",
            kind=SIZE,
            also="memory",
            only_with=OURS,
            default="estimated, then measured",
            doc="What the engine needs. The larger of this and the estimate is kept free for it.",
            example="12GiB",
        ),
        Key(
            name="sleep",
            kind=SLEEP_LEVEL,
            only_with=OURS,
            default="stop it",
            doc="Put vLLM to sleep instead of stopping it to make room: level 1 keeps the weights in "
            "main memory, level 2 drops them. For vLLM only.",
            example="1",
        ),
        Key(
            name="max_queue",
            kind=COUNT,
            only_with=OURS,
            default="lifecycle.max_queue",
            doc="So many requests may wait for this model; more are told to come back later.",
            example="16",
        ),
        Key(
            name="max_wait_s",
            kind=SECONDS,
            also="max_wait",
            only_with=OURS,
            default="lifecycle.max_wait_s",
            doc="A request waits no longer than this for its model.",
            example="5m",
        ),
        Key(
            name="embeddings",
            kind=BOOLEAN,
            default="false",
            doc="Whether this is an embedding model. Only such a model is picked for an embeddings "
            "request that does not name its model exactly.",
        ),
        Key(
            name="rescue",
            kind=BOOLEAN,
            default="true",
            doc="Recognise tool calls of declared tools, and thinking, that the model prints as "
            "text because the engine does not parse them. `false` leaves every text as it is.",
            example="false",
        ),
        Key(
            name="rescue_retry",
            kind=BOOLEAN,
            default="false",
            doc="When an answer begins as a tool call, but cannot be read as one or names a tool that "
            "does not exist, tell the model and ask once more. The client sees only the second "
            "answer. For Anthropic and Responses clients; it costs a second answer.",
            example="true",
        ),
        Key(
            name="starts_thinking",
            kind=BOOLEAN,
            default="false",
            doc="The model's template opens `<think>` itself, so that an answer begins inside it and "
            "only `</think>` comes. For engines that do not separate thinking.",
        ),
        Key(
            name="max_tools",
            kind=COUNT,
            default="all",
            doc="Show the model at most so many of a request's tools, those that fit the "
            "conversation's first user turn best and those it has called, and a tool `find_tools` by "
            "which it can ask for others. For models that drown in tools. A Chat request that asks for "
            "several answers or log probabilities goes on with all of its tools.",
            example="20",
        ),
    ),
)
