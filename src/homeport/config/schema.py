"""Every configuration key, once: the table is the program.

``config.nodes`` reads a file by this table, ``config.load`` checks flags by it, and
``scripts/make_config_docs.py`` writes the reference page from it. A new key is a new row here and a
field of the same name in ``homeport.spec``; there is no other place.

A row's ``read`` (in ``config.values``) is the check; its ``doc`` is the manual.
"""

from collections.abc import Callable
from typing import Final, Literal

import msgspec

from homeport.config import values
from homeport.spec import Limits, ServerSettings
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
    only_with: Literal["", "path", "upstream"] = ""
    """The sibling key without which this one means nothing."""


class Section(msgspec.Struct, frozen=True):
    """A mapping with known keys."""

    keys: tuple[Key, ...]

    def key(self, name: str) -> Key | None:
        return next((k for k in self.keys if name in (k.name, k.also)), None)

    def names(self) -> list[str]:
        return [k.name for k in self.keys] + [k.also for k in self.keys if k.also]


Kind = Scalar | ListOf | MapOf | Section

TEXT: Final = Scalar("text", values.text)
ANY_TEXT: Final = Scalar("text", values.any_text)
BOOLEAN: Final = Scalar("true or false", values.boolean)
PORT: Final = Scalar("number, 1 to 65535", values.port)
COUNT: Final = Scalar("whole number", values.count)
SECONDS: Final = Scalar("seconds", values.seconds)
SECONDS_OR_ZERO: Final = Scalar("seconds", values.seconds_or_zero)
SIZE: Final = Scalar("bytes, or a size as 64MiB", values.size)
HOST: Final = Scalar("address or host name", values.host)
ORIGIN: Final = Scalar("origin", values.origin)
URL: Final = Scalar("http:// or https:// address", values.base_url)
SITE: Final = Scalar("http:// or https:// address", values.site)
SHA256: Final = Scalar("64 hexadecimal digits", values.sha256)
SECRET: Final = Scalar("text, ${NAME} or os.environ/NAME", values.secret)
PATH: Final = Scalar("file or folder", values.path)
EXECUTABLE: Final = Scalar("name on PATH, or file", values.executable)
ENGINE: Final = Scalar("engine", values.engine)
DIALECT: Final = Scalar("dialect", values.dialect)
MODEL_ID: Final = Scalar("model", values.model_id)
PATTERN: Final = Scalar("name or pattern", values.alias_pattern)
VARIABLE: Final = Scalar("variable", values.variable_name)

_LIMITS: Final = Limits()
_SERVER: Final = ServerSettings()

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
            name="allowed_hosts",
            kind=ListOf(HOST, one_ok=True),
            default="loopback names only",
            doc="More host names that requests may be addressed to while no key is configured. "
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
    (
        Key(
            name="path",
            kind=PATH,
            doc="The model's file or folder, for a model that homeport serves itself. A relative "
            "path starts at the configuration file; `~` is your home folder. Every model has "
            "either `path` or `upstream`.",
            example="~/models/qwen3-8b-q4_k_m.gguf",
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
            only_with="upstream",
            default="the upstream's first model",
            doc="The name that the upstream knows the model by.",
        ),
        Key(
            name="api_key",
            kind=SECRET,
            only_with="upstream",
            default="none",
            doc="Key for the upstream. `${NAME}` or `os.environ/NAME` takes it from the "
            "environment, so that it need not stand in the file.",
            example="${UPSTREAM_KEY}",
        ),
        Key(
            name="engine",
            kind=ENGINE,
            default="found out",
            doc="Which server software it is: `llamacpp`, `vllm`, `sglang`, `trtllm`, `mlx`, "
            "`ollama` or `openai_compatible`.",
            example="vllm",
        ),
        Key(
            name="dialect",
            kind=DIALECT,
            only_with="upstream",
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
            only_with="path",
            default="32768, or the model's own where that is less",
            doc="Context of one request, in tokens, that the engine is started with.",
            example="32768",
        ),
        Key(
            name="slots",
            kind=COUNT,
            only_with="path",
            default="2",
            doc=(
                "Requests that the engine computes side by side, each with its own context and its own "
                "cached prompt: one for each conversation and sub-agent, one for small requests beside."
            ),
            example="4",
        ),
        Key(
            name="args",
            kind=ListOf(ANY_TEXT),
            only_with="path",
            default="none",
            doc="More arguments for the engine's command line, one list item each.",
            example='["--threads", "8"]',
        ),
        Key(
            name="env",
            kind=MapOf(VARIABLE, ANY_TEXT),
            only_with="path",
            default="none",
            doc="More environment variables for the engine.",
            example="{CUDA_VISIBLE_DEVICES: 0}",
        ),
        Key(
            name="binary",
            kind=EXECUTABLE,
            only_with="path",
            default="a llama-server found on PATH, else the embedded engine",
            doc="The engine's executable.",
            example="/opt/llama.cpp/bin/llama-server",
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
            "which it can ask for others. For models that drown in tools; for Anthropic and "
            "Responses clients.",
            example="20",
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
            name="strict_models",
            kind=BOOLEAN,
            default="false",
            doc="Answer 404 to an unknown model name instead of using `default_model`.",
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
        case Scalar():
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

aliases:
  claude-*: qwen3-8b
  claude-opus-*: big-coder

default_model: qwen3-8b
"""
"""The example on the reference page; a test reads it."""
