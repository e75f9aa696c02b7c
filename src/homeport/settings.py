"""What the user set: frozen values, with the defaults of what was not set.

``config.load`` makes them of files, environment and flags, paths absolute. What is not set but known,
of engines, models and the machine, is in ``homeport.facts``. Nothing here does I/O. Sizes carry their
unit in the name.
"""

from ipaddress import IPv6Address, ip_address
from typing import Literal

import msgspec

from homeport.facts import MIB, EngineName, UpstreamDialect

RunnerName = Literal["process", "container"]
BackendName = Literal["llamacpp", "vllm", "sglang", "trtllm", "mlx", "custom", "litellm"]
"""What ``defaults.backends`` speaks of: the engines that we start, and LiteLLM."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds on what a client may send and on how long we wait."""

    body_bytes: int = 64 * MIB
    """Largest request body. Claude Code's biggest seen is 144 KB of text; images add megabytes."""
    connect_timeout_s: float = 5.0
    """To open a connection to an upstream."""
    idle_timeout_s: float = 3600.0
    """Longest silence of an upstream inside one answer: a cold 100k-token prefill on a CPU is slow."""
    drain_timeout_s: float = 30.0
    """How long a stopping gateway waits for answers under way."""
    resend_grace_s: float = 3.0
    """How long a stream with a session id is held after its client has left; 0 holds nothing."""
    max_tokens: int | None = None
    """The longest answer, thinking included; the model's own limit when not set."""


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """A client's key; only its SHA-256 (hex) is kept."""

    name: str
    sha256: str


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``. Of names only ``localhost`` is taken at its
    word (RFC 6761, 6.3); others are what a resolver says today."""
    try:
        address = ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return host.casefold().removesuffix(".") == "localhost"
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped  # Python before 3.13 calls ::ffff:127.0.0.1 no loopback
    return address.is_loopback


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    host: str = "127.0.0.1"
    port: int = 11899
    keys: tuple[ApiKey, ...] = ()
    master_key: str | None = None
    """Opens ``/admin``, and all else; beside the one that homeport makes for itself at each start."""
    metrics_token: str | None = None
    """Opens ``/metrics`` and nothing else."""
    allowed_hosts: tuple[str, ...] = ()
    """Host names (beside loopback names) that requests may carry when no key is configured."""
    allowed_origins: tuple[str, ...] = ()
    """Origins (``https://name[:port]``) that browsers may call from."""
    limits: Limits = Limits()

    def __repr__(self) -> str:  # never shows the master key
        return f"ServerSettings({self.host!r}, {self.port}, keys={len(self.keys)})"

    @property
    def needs_key(self) -> bool:
        """Whether clients need a key: there are some for them, or other machines can come in."""
        return bool(self.keys) or not is_loopback(self.host)


class ModelSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One configured model: one that we start an engine for (``path``, ``hub`` or ``command``), or
    one that a running server offers (``upstream``).

    At most one of ``path``, ``hub`` and ``upstream`` is set; ``command`` stands beside the first two
    or alone. What ``defaults.backends`` says is merged in as soon as the engine is known
    (``engines.defaults``): where the configuration names it, that is when it is read.
    """

    id: str
    path: str | None = None
    """A file or folder."""
    hub: str | None = None
    """``org/name`` on the Hugging Face hub, ``org/name:Q4_K_M`` for one GGUF of it."""
    command: tuple[str, ...] = ()
    """The command line of a ``custom`` engine; ``{port}`` and ``{model}`` are put in."""
    upstream: str | None = None
    """Base URL of a running server, ``http://host:port/v1``."""
    upstream_model: str | None = None
    """The name that the upstream knows the model by; its first one when not set."""
    api_key: str | None = None
    engine: EngineName | None = None
    """Which server software it is; found out by asking when not set."""
    dialect: UpstreamDialect = "openai_chat"
    """``anthropic`` for an upstream that has ``/v1/messages`` only."""
    via: Literal["native", "litellm"] = "native"
    """``litellm``: only LiteLLM reaches its provider; ``upstream_model`` is LiteLLM's name for it."""
    litellm_params: tuple[tuple[str, str], ...] = ()
    """What LiteLLM needs to reach it beside its name: lists and numbers as JSON."""
    headers: tuple[tuple[str, str], ...] = ()
    """More headers for the upstream."""
    timeout_s: float | None = None
    """Longest silence of the upstream inside one answer; that of ``Limits`` when not set."""
    request_defaults: tuple[tuple[str, str | int | float], ...] = ()
    """Fields that a request gets which does not name them."""
    listed: bool = True
    """Named by ``/v1/models``."""
    aliases: tuple[str, ...] = ()
    ctx: int | None = None
    """Context per request in tokens that the engine is started with (the model's own when not set);
    of an upstream: what its context is where it does not tell."""
    slots: int | None = None
    """Requests that the engine computes side by side, each with ``ctx`` of its own (2 when not set)."""
    args: tuple[str, ...] = ()
    """More arguments for the engine's command line; not for the embedded llama.cpp."""
    env: tuple[tuple[str, str], ...] = ()
    binary: str | None = None
    """The engine's executable; the embedded one or one found on PATH when not set."""
    runner: RunnerName | None = None
    """A process when not set."""
    image: str | None = None
    """The container image; the engine's usual one when not set."""
    version: str | None = None
    """The image's tag; the one that ``image`` has, else the engine's usual one, when not set."""
    port: int | None = None
    """The engine's own port on loopback; a free one when not set."""
    group: str | None = None
    pinned: bool = False
    """Never stopped to make room."""
    preload: bool = False
    """Started when homeport starts."""
    ttl_s: float | None = None
    """Stopped after so many seconds without a request; never when not set."""
    max_queue: int | None = None
    """More requests than these do not wait for it; the ``lifecycle`` section's when not set."""
    max_wait_s: float | None = None
    memory_bytes: int | None = None
    """What it is said to need; the larger of this and our estimate is kept free for it."""
    sleep: Literal[1, 2] | None = None
    """Put to sleep (vLLM's levels) in place of stopped, to make room."""
    embeddings: bool = False
    """True for an embedding model; only such a model answers embeddings."""
    rescue: bool = True
    """Tool calls and thinking that arrive as text are recognised (``wire.rescue``)."""
    rescue_retry: bool = False
    """A text that was meant as a tool call and is none is asked for once more."""
    starts_thinking: bool = False
    """The model's template opens the thinking itself, so that answers begin inside it."""
    max_tools: int | None = None
    """So many tools are shown to the model at first; it can ask for the others."""

    @property
    def is_ours(self) -> bool:
        """Whether we start the engine."""
        return self.upstream is None and self.via == "native"

    def __repr__(self) -> str:  # never shows the key
        return f"ModelSettings({self.id!r}, {self.path or self.hub or self.upstream!r})"


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """A name for several models, its deployments: requests are shared between them, and go on to
    another one where one fails (``routing.selection``)."""

    id: str
    models: tuple[tuple[str, float], ...]
    """Their ids and weights; one of weight 0 is asked when no other can be."""
    fallbacks: tuple[str, ...] = ()
    """Names that are asked next, when these have failed."""
    retries: int = 2
    """So many more of its deployments are asked where one has failed."""
    cooldown_s: float = 5.0
    """One that has failed is left alone for so long, while there is another."""
    listed: bool = True


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Models that share a rule about living side by side."""

    name: str
    together: bool = False
    """Its members may run at the same time; else one at a time."""
    apart_from: tuple[str, ...] = ()
    """Groups of which no member runs while one of this does; holds in both directions."""


class LifecycleSettings(msgspec.Struct, frozen=True, kw_only=True):
    """When engines are started and stopped (``lifecycle.scheduler``)."""

    memory_bytes: int | None = None
    """For all engines that we start; measured when not set."""
    min_dwell_s: float = 2.0
    """A model that has just become ready is not stopped for another one any sooner."""
    max_queue: int = 100
    max_wait_s: float = 900.0
    """A big model read from a slow disk takes minutes."""
    return_to_default_s: float | None = None
    """The default model is started again when the others have been idle for so long."""
    groups: tuple[Group, ...] = ()
    saved_slots_bytes: int = 8 * 1024 * MIB
    """For the KV caches of stopped llama.cpp models, on disk; 0 keeps none."""


class BackendDefaults(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for every model of an engine that does not say otherwise."""

    version: str | None = None
    image: str | None = None
    image_type: Literal["prebuilt", "build"] = "prebuilt"
    """Read, and without effect: images are taken ready-made."""
    runner: RunnerName | None = None
    args: tuple[str, ...] = ()
    """Before the model's own, so that those win."""
    env: tuple[tuple[str, str], ...] = ()
    port: int | None = None
    """For the first model of the engine that has none of its own."""
    ctx: int | None = None
    slots: int | None = None
    ttl_s: float | None = None
    alias: str | None = None
    """LiteLLM's name for the model (only there)."""


class Defaults(msgspec.Struct, frozen=True, kw_only=True):
    backends: tuple[tuple[BackendName, BackendDefaults], ...] = ()


class LiteLLMElsewhere(msgspec.Struct, frozen=True, kw_only=True):
    """A LiteLLM that somebody else starts, by the rules of the one that homeport starts itself."""

    base_url: str
    api_key: str
    """homeport's key there."""
    internal_key: str
    """Its key here."""

    def __repr__(self) -> str:  # shows no key
        return f"LiteLLMElsewhere({self.base_url!r})"


class LiteLLMSettings(msgspec.Struct, frozen=True, kw_only=True):
    """LiteLLM's proxy beside homeport (``engines.litellm_proxy`` has what is not set)."""

    enabled: bool = False
    host: str = "127.0.0.1"
    port: int | None = None
    alias: str | None = None
    """Its name for the default model."""
    version: str | None = None
    """The locked one when not set; any other was not verified."""
    runner: RunnerName | None = None
    image: str | None = None
    env: tuple[tuple[str, str], ...] = ()
    elsewhere: LiteLLMElsewhere | None = None
    """Where it is not homeport that starts it; then only ``alias`` counts of the rest."""


class SearchAccount(msgspec.Struct, frozen=True, kw_only=True):
    """A search service that wants a key."""

    api_key: str
    url: str | None = None
    """Where its API is; the service's own address when not set."""

    def __repr__(self) -> str:  # never shows the key
        return f"SearchAccount(url={self.url!r})"


class WebSearchSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Who runs the searches that clients leave to the server: one of these, or nobody."""

    searxng: str | None = None
    """Root of a SearXNG server that answers in JSON."""
    brave: SearchAccount | None = None
    tavily: SearchAccount | None = None


class CaptureSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Which requests are kept with what was said in them: those that one of the three means."""

    keys: tuple[str, ...] = ()
    """Names of clients' keys, as the next two with ``*`` for any text."""
    models: tuple[str, ...] = ()
    sessions: tuple[str, ...] = ()
    max_bytes: int = 64 * 1024
    """Of a body, and of an answer; the rest is cut off."""
    keep_s: float = 7 * 86400.0
    max_requests: int = 1000
    """The oldest go first."""
    redact: tuple[str, ...] = ()
    """Regular expressions of what is hidden, beside what always is."""

    @property
    def is_on(self) -> bool:
        return bool(self.keys or self.models or self.sessions)


class StoreSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered of requests, and where (``store``)."""

    enabled: bool = True
    url: str | None = None
    """A file for SQLite, or ``postgresql://…``; a file in the state folder when not set."""
    retention_s: float = 90 * 86400.0
    spool_bytes: int = 64 * MIB
    """On disk, for records that the database cannot take now."""
    capture: CaptureSettings = CaptureSettings()

    def __repr__(self) -> str:  # never shows a password
        return f"StoreSettings(enabled={self.enabled})"


SMALL_MODELS = ("*claude*haiku*",)
"""Names by which clients ask for the model of their small jobs: Claude Code's, with or without a
provider in front."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the user decided."""

    server: ServerSettings = ServerSettings()
    models: tuple[ModelSettings, ...] = ()
    routes: tuple[Route, ...] = ()
    defaults: Defaults = Defaults()
    lifecycle: LifecycleSettings = LifecycleSettings()
    litellm: LiteLLMSettings = LiteLLMSettings()
    aliases: tuple[tuple[str, str], ...] = ()
    """``(pattern, model id)`` in file order; a pattern may hold ``*``."""
    default_model: str | None = None
    autocomplete_model: str | None = None
    """For completions and infill requests that name no model we know."""
    strict_models: bool = False
    discover: bool = True
    """Where no model is named: use the servers that run on this machine already."""
    small_models: tuple[str, ...] = SMALL_MODELS
    """Patterns; requests by such a name and without tools are background (``routing.affinity``)."""
    web_search: WebSearchSettings = WebSearchSettings()
    store: StoreSettings = StoreSettings()
    upstreams: tuple[str, ...] = ()
    """``--upstream`` servers: all their models are listed, the first is the default."""
    default_aliases: tuple[str, ...] = ()
    """``--alias``: more names of the default model."""

    @property
    def needs_key(self) -> bool:
        """Whether clients need a key, LiteLLM's port considered."""
        litellm = self.litellm
        return self.server.needs_key or (litellm.enabled and not is_loopback(litellm.host))
