"""Every configuration key, once: the table is the program.

``config.nodes`` reads a file by this table, ``config.load`` checks flags by it, and
``scripts/make_config_docs.py`` writes the reference page from it. A new key is a new row here and a
field of the same name in ``homeport.settings``; there is no other place.

Models and what holds for many of them have tables of their own, ``config.model_keys`` and
``config.lifecycle_keys``; what rows are made of is in ``config.kinds``. A row's reader (in
``config.values``) is the check; its ``doc`` is the manual.
"""

from typing import Final

from homeport.config import keys
from homeport.config.kinds import (
    BOOLEAN,
    COUNT,
    HOST,
    IMAGE,
    IMAGE_TAG,
    MODEL_ID,
    ORIGIN,
    PATTERN,
    PORT,
    RUNNER,
    SECONDS,
    SECONDS_OR_ZERO,
    SECRET,
    SHA256,
    SITE,
    SIZE,
    TEXT,
    VARIABLE,
    Key,
    Kind,
    ListOf,
    MapOf,
    Scalar,
    Section,
    Words,
)
from homeport.config.lifecycle_keys import DEFAULTS, LIFECYCLE
from homeport.config.model_keys import MODEL, ROUTE
from homeport.config.store_keys import STORE
from homeport.settings import SMALL_MODELS, Limits, LiteLLMSettings, ServerSettings
from homeport.wire.search_services import SERVICES

FILE_BYTES: Final = 1024 * 1024
"""Largest configuration file: a few thousand models; anything bigger is the wrong file."""


_LIMITS: Final = Limits()
_SERVER: Final = ServerSettings()
_LITELLM: Final = LiteLLMSettings()

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
    ),
    bare=keys.instead_of,
)

SERVER: Final = Section(
    (
        Key(
            name="host",
            kind=HOST,
            default=_SERVER.host,
            doc="Address to listen on. Anything but a loopback address needs at least one key "
            "under `keys`, or a `master_key`; homeport does not start without.",
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
            "does not make clients need one: that is what `keys` does. Only where other machines can "
            "come in and there are no `keys`, every client needs this one.",
            example="${HOMEPORT_MASTER_KEY}",
        ),
        Key(
            name="metrics_token",
            kind=SECRET,
            default="none",
            doc="A token that opens `/metrics` and nothing else, for Prometheus; send it as a key is "
            "sent. With it `/metrics` takes this token or a key, whatever host name it is asked by.",
            example="${HOMEPORT_METRICS_TOKEN}",
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

LITELLM: Final = Section(
    (
        Key(
            name="enabled",
            kind=BOOLEAN,
            default="false",
            doc="Run LiteLLM's proxy beside homeport, in an environment of its own; see "
            "[litellm.md](litellm.md). `--with-litellm` is the same.",
            example="true",
        ),
        Key(
            name="host",
            kind=HOST,
            default=_LITELLM.host,
            doc="Address that LiteLLM listens on. Who may come in is decided by homeport, as at its "
            "own port, so that anything but a loopback address needs a key here, too.",
        ),
        Key(name="port", kind=PORT, default="4000", doc="Port that LiteLLM listens on."),
        Key(
            name="alias",
            kind=MODEL_ID,
            default="local-model",
            doc="LiteLLM's name for the default model; homeport knows it as well.",
        ),
        Key(
            name="version",
            kind=IMAGE_TAG,
            default="the one that was verified",
            doc="Another version of LiteLLM. It is installed without a lock, and nothing of this "
            "page was verified with it.",
            example="1.108.0",
        ),
        Key(
            name="runner",
            kind=RUNNER,
            default="process",
            doc="`container` runs LiteLLM's image on the network of this machine (Linux).",
        ),
        Key(
            name="image",
            kind=IMAGE,
            default="LiteLLM's own",
            doc="The image, for `runner: container`.",
        ),
        Key(
            name="env",
            kind=MapOf(VARIABLE, SECRET),
            default="the keys of providers that homeport's environment has",
            doc="More variables for LiteLLM, which gets hardly any of homeport's environment.",
            example="{AWS_PROFILE: work}",
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
            name="routes",
            kind=MapOf(MODEL_ID, ROUTE),
            default="none",
            doc="Names behind which several models stand. A conversation stays with the model that "
            "answered it; others go to the least busy one, by weight. One that fails is left alone for "
            "a while, and the next is asked.",
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
        Key(name="litellm", kind=LITELLM, doc="LiteLLM's proxy as an engine beside the others."),
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
        Key(
            name="store",
            kind=STORE,
            doc="What is remembered of requests, for `homeport usage`; see [usage.md](usage.md). "
            "`store: off` remembers nothing.",
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
