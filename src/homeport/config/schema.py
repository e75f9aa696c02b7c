"""Every configuration key, once: the table is the program.

``config.nodes`` reads a file by this table, ``config.load`` checks flags by it, and
``scripts/make_config_docs.py`` writes the reference page from it. A new key is a new row here and a
field of the same name in ``homeport.spec``; there is no other place.

A row's ``read`` (in ``config.values``) is the check; its ``doc`` is the manual.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from homeport.config import values
from homeport.spec import SMALL_MODELS, LifecycleSettings, Limits, ServerSettings
from homeport.wire.search_services import SERVICES

FILE_BYTES: Final = 1024 * 1024
"""Largest configuration file: a few thousand models; anything bigger is the wrong file."""


class Scalar(msgspec.Struct, frozen=True):
    """One value: what the reference calls it, and the reader that checks it."""

    says: str
    read: Callable[[str, values.Place], object]


class ListOf(msgspec.Struct, frozen=True):
    """A list; with ``one_ok`` a single value may stand for a list of one."""

    item: "Kind"
    one_ok: bool = False


class MapOf(msgspec.Struct, frozen=True):
    """A mapping whose keys the user chooses; read as ``(key, value)`` pairs in file order."""

    key: Scalar
    item: "Kind"


class Words(msgspec.Struct, frozen=True):
    """A command line: a list, or one text that is split as a shell would. With ``flags`` also a
    mapping of flags to values, as ``models.yaml`` files have it: ``true`` is the flag alone,
    ``false`` leaves it out."""

    flags: bool = False


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """One row: a key of a section."""

    name: str
    kind: "Kind"
    doc: str
    default: str = ""
    """As the reference shows it; the value itself is in ``homeport.spec``."""
    example: str = ""
    also: str = ""
    """A second spelling."""
    required: bool = False
    only_with: tuple[str, ...] = ()
    """Sibling keys; without one of them this one means nothing."""


class Section(msgspec.Struct, frozen=True):
    """A mapping with known keys."""

    keys: tuple[Key, ...]
    one_of: tuple[str, ...] = ()
    """At least one of these has to be there."""

    def key(self, name: str) -> Key | None:
        return next((k for k in self.keys if name in (k.name, k.also)), None)

    def names(self) -> list[str]:
        return [k.name for k in self.keys] + [k.also for k in self.keys if k.also]


Kind = Scalar | ListOf | MapOf | Words | Section

TEXT: Final = Scalar("text", values.text)
ANY_TEXT: Final = Scalar("text", values.any_text)
WORDS: Final = Scalar("command line", values.words)
FLAG: Final = Scalar("flag", values.flag)
BOOLEAN: Final = Scalar("true or false", values.boolean)
PORT: Final = Scalar("number, 1 to 65535", values.port)
COUNT: Final = Scalar("whole number", values.count)
SECONDS: Final = Scalar("seconds", values.seconds)
SECONDS_OR_ZERO: Final = Scalar("seconds", values.seconds_or_zero)
SIZE: Final = Scalar("bytes, or a size as 64MiB", values.size)
SIZE_OR_ZERO: Final = Scalar("bytes, or a size as 64MiB, or 0", values.size_or_zero)
HOST: Final = Scalar("address or host name", values.host)
ORIGIN: Final = Scalar("origin", values.origin)
URL: Final = Scalar("http:// or https:// address", values.base_url)
SITE: Final = Scalar("http:// or https:// address", values.site)
SHA256: Final = Scalar("64 hexadecimal digits", values.sha256)
SECRET: Final = Scalar("text, ${NAME} or os.environ/NAME", values.secret)
PATH: Final = Scalar("file or folder", values.path)
HUB_ID: Final = Scalar("ORG/NAME or ORG/NAME:QUANT", values.hub_id)
EXECUTABLE: Final = Scalar("name on PATH, or file", values.executable)
ENGINE: Final = Scalar("engine", values.engine)
BACKEND: Final = Scalar("backend", values.backend)
DIALECT: Final = Scalar("dialect", values.dialect)
RUNNER: Final = Scalar("process or container", values.runner)
IMAGE: Final = Scalar("container image", values.image)
IMAGE_TYPE: Final = Scalar("prebuilt or build", values.image_type)
IMAGE_TAG: Final = Scalar("image tag", values.image_tag)
SLEEP_LEVEL: Final = Scalar("1 or 2", values.sleep_level)
MODEL_ID: Final = Scalar("model", values.model_id)
GROUP_NAME: Final = Scalar("group", values.model_id)
PATTERN: Final = Scalar("name or pattern", values.alias_pattern)
VARIABLE: Final = Scalar("variable", values.variable_name)

OURS: Final = ("path", "hub", "command")
"""Where a model that we start an engine for comes from."""

_LIMITS: Final = Limits()
_SERVER: Final = ServerSettings()
_LIFECYCLE: Final = LifecycleSettings()

LIMITS: Final = Section(
    (
        Key(
            name="body_bytes",
            kind=SIZE,
            default=f"{_LIMITS.body_bytes // 1024**2}MiB",
            doc="Largest request body. A larger one is answered with 413.",
            example="64MiB",
        ),
        Key(
            name="connect_timeout_s",
            kind=SECONDS,
            default=f"{_LIMITS.connect_timeout_s:g}",
            doc="Longest wait for a connection to an upstream.",
        ),
        Key(
            name="idle_timeout_s",
            kind=SECONDS,
            default=f"{_LIMITS.idle_timeout_s:g}",
            doc="Longest silence of an upstream inside one answer. Reading a long prompt on a slow "
            "machine is silence too, so leave it high.",
        ),
        Key(
            name="drain_timeout_s",
            kind=SECONDS,
            default=f"{_LIMITS.drain_timeout_s:g}",
            doc="How long a stopping gateway waits for answers under way.",
        ),
        Key(
            name="resend_grace_s",
            kind=SECONDS_OR_ZERO,
            default=f"{_LIMITS.resend_grace_s:g}",
            doc=(
                "How long a streamed answer is held after its client has left, if the client named "
                "a session: the same request, sent again, goes on with it. 0 holds nothing."
            ),
        ),
        Key(
            name="max_tokens",
            kind=COUNT,
            default="the model's own limit",
            doc="The longest answer in tokens, thinking included. A request that asks for more, or "
            "names no limit, gets this one, and `x-homeport-max-tokens` tells it.",
            example="8192",
        ),
    )
)

KEY: Final = Section(
    (
        Key(
            name="name",
            kind=TEXT,
            required=True,
            doc="What logs and metrics call the holder of the key.",
            example="laptop",
        ),
        Key(
            name="sha256",
            kind=SHA256,
            required=True,
            doc="SHA-256 of the key. `homeport key new` makes a key and prints these lines; the "
            "key itself is kept nowhere.",
        ),
    )
)

SERVER: Final = Section(
    (
        Key(
            name="host",
            kind=HOST,
            default=_SERVER.host,
            doc="Address to listen on. Anything but a loopback address needs at least one key "
            "under `keys`; homeport does not start without.",
            example="0.0.0.0",
        ),
        Key(name="port", kind=PORT, default=str(_SERVER.port), doc="Port to listen on."),
        Key(
            name="keys",
            kind=ListOf(KEY),
            default="none: whoever reaches the port may use it",
            doc="API keys that clients may present, as `Authorization: Bearer KEY` or `x-api-key: "
            "KEY`. With at least one key here, every request needs one.",
        ),
        Key(
            name="master_key",
            kind=SECRET,
            default="one is made at each start, for commands on this machine",
            doc="The key that opens `/admin`, by which models are loaded and stopped; see "
            "[running.md](running.md). It is good for everything that a client's key is good for, but "
            "does not make clients need one: that is what `keys` does.",
            example="${HOMEPORT_MASTER_KEY}",
        ),
        Key(
            name="allowed_hosts",
            kind=ListOf(HOST, one_ok=True),
            default="loopback names only",
            doc="More host names that requests may be addressed to while no key is configured; for "
            "`/admin` that holds with keys as well. "
            "This keeps web pages from reaching the gateway through a name of their own.",
            example="[workstation.lan]",
        ),
        Key(
            name="allowed_origins",
            kind=ListOf(ORIGIN, one_ok=True),
            default="none",
            doc="Origins of web pages whose scripts may call the gateway.",
            example="[https://chat.example.org]",
        ),
        Key(name="limits", kind=LIMITS, doc="Bounds on requests and waiting."),
    )
)

MODEL: Final = Section(
    one_of=(*OURS, "upstream"),
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
            only_with=("upstream",),
            default="the upstream's first model",
            doc="The name that the upstream knows the model by.",
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
            "`mlx` or `custom` (a `command` of your own); for an upstream also `ollama` or "
            "`openai_compatible`.",
            example="vllm",
        ),
        Key(
            name="dialect",
            kind=DIALECT,
            only_with=("upstream",),
            default="openai_chat",
            doc="What the upstream is asked in: `openai_chat`, or `anthropic` for one that has "
            "`/v1/messages` and no `/v1/chat/completions`. Clients of both APIs can use either.",
            example="anthropic",
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
            only_with=OURS,
            default="32768, or the model's own where that is less",
            doc="Context of one request, in tokens, that the engine is started with.",
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
            "holds for each of its models that does not say otherwise; and `litellm`, which is read "
            "and not used yet. The layout of `models.yaml` files.",
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


def _account(service: str, url: str) -> Section:
    return Section(
        (
            Key(
                name="api_key",
                kind=SECRET,
                required=True,
                doc=f"Key of your account at {service}. `${{NAME}}` or `os.environ/NAME` takes it from "
                "the environment.",
                example="${SEARCH_KEY}",
            ),
            Key(
                name="url",
                kind=SITE,
                default=url,
                doc="Base URL of its API, for a proxy in between.",
            ),
        )
    )


WEB_SEARCH: Final = Section(
    (
        Key(
            name="searxng",
            kind=SITE,
            default="none",
            doc="A SearXNG server that runs the searches. Its `settings.yml` must have `json` under "
            "`search.formats`.",
            example="http://127.0.0.1:8888",
        ),
        Key(
            name="brave",
            kind=_account("Brave Search", SERVICES["brave"].url),
            doc="Searches by the Brave Search API. One service is enough: naming two is an error.",
        ),
        Key(
            name="tavily",
            kind=_account("Tavily", SERVICES["tavily"].url),
            doc="Searches by the Tavily Search API.",
        ),
    )
)

ROOT: Final = Section(
    (
        Key(name="server", kind=SERVER, doc="Where the gateway listens and whom it answers."),
        Key(
            name="models",
            kind=MapOf(MODEL_ID, MODEL),
            default="none",
            doc="The models, by the id that clients ask for.",
        ),
        Key(
            name="defaults",
            kind=DEFAULTS,
            doc="What holds for all models of an engine.",
        ),
        Key(
            name="lifecycle",
            kind=LIFECYCLE,
            doc="When engines are started and stopped, and which live side by side.",
        ),
        Key(
            name="aliases",
            kind=MapOf(PATTERN, MODEL_ID),
            default="none",
            doc="More names for models, with `*` for any text. An id comes before an alias, an "
            "alias before a pattern; of several matching patterns the one with the longest text "
            "before its first `*` is taken, of equally long ones the first. YAML wants quotes around "
            "a pattern that begins with `*`.",
            example='{"claude-*": qwen3-8b}',
        ),
        Key(
            name="default_model",
            kind=MODEL_ID,
            default="none",
            doc="The model for requests that name none, or one that is not known here.",
        ),
        Key(
            name="autocomplete_model",
            kind=MODEL_ID,
            default="default_model",
            doc="The model for `/v1/completions` and `/infill` requests that name none, or one that is "
            "not known here: a small one for an editor's completions, beside the default model.",
        ),
        Key(
            name="strict_models",
            kind=BOOLEAN,
            default="false",
            doc="Answer 404 to an unknown model name instead of using `default_model`.",
        ),
        Key(
            name="discover",
            kind=BOOLEAN,
            default="true",
            doc="Where no model is named, here or on the command line: look for servers that run on "
            "this machine already, and use their models.",
            example="false",
        ),
        Key(
            name="small_models",
            kind=ListOf(PATTERN, one_ok=True),
            default=", ".join(f'"{pattern}"' for pattern in SMALL_MODELS),
            doc="Names, or patterns, by which clients ask for the model of their small jobs. A request "
            "by such a name and without tools never takes the slot of a conversation, however long it "
            "is. What is listed here takes the place of the default; `[]` is none. The names lead to "
            "models as all others do.",
            example='["*claude*haiku*", claude-sonnet-5]',
        ),
        Key(
            name="web_search",
            kind=WEB_SEARCH,
            doc="Web search for clients that leave it to the server: Claude Code's WebSearch, Codex's "
            "`web_search`. What models search for goes to the service named here.",
        ),
    )
)


def sections(kind: Kind = ROOT, path: str = "") -> list[tuple[str, Section]]:
    """Every section with its dotted place (``models.ID`` for each model), parents first."""
    match kind:
        case Section():
            below = [(f"{path}.{k.name}" if path else k.name, k.kind) for k in kind.keys]
            return [(path, kind)] + [found for place, k in below for found in sections(k, place)]
        case ListOf():
            return sections(kind.item, f"{path}[]")
        case MapOf():
            return sections(kind.item, f"{path}.{kind.key.says.upper()}")
        case Scalar() | Words():
            return []


def homes(name: str) -> list[str]:
    """The sections that have a key of this name, the top level left out."""
    return [path for path, section in sections() if path and section.key(name)]


EXAMPLE: Final = """\
server:
  host: 127.0.0.1
  port: 11899
  limits:
    body_bytes: 64MiB

models:
  qwen3-8b:
    path: ~/models/qwen3-8b-q4_k_m.gguf
    alias: qwen
    ctx: 32768
  big-coder:
    upstream: http://127.0.0.1:8000/v1
    engine: vllm
    api_key: ${UPSTREAM_KEY}
  nomic-embed:
    path: ~/models/nomic-embed-text-v1.5.gguf
    embeddings: true
  small-coder:
    hub: unsloth/Qwen2.5-Coder-3B-GGUF:Q4_K_M
    ttl: 10m

aliases:
  claude-*: qwen3-8b
  claude-opus-*: big-coder

default_model: qwen3-8b
autocomplete_model: small-coder
"""
"""The example on the reference page; a test reads it."""
