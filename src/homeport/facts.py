"""What is known of engines, models and the machine: frozen values.

``engines`` states what each engine does, and works out how it is started; ``runtime`` finds out what
lies at a path, what answers at a URL and what we run on. ``homeport.settings`` has what the user set,
and speaks of engines by the names below; nothing here imports it. Translation reads facts alone: the
few settings of a model that its requests need come along in its ``Endpoint``. Nothing here does I/O.
Sizes carry their unit in the name.
"""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

MIB = 1024 * 1024

EngineName = Literal[
    "llamacpp",
    "vllm",
    "sglang",
    "trtllm",
    "mlx",
    "ollama",
    "litellm",
    "openai_compatible",
    "custom",
]
"""``custom`` is any command line that starts an OpenAI-compatible server."""
UpstreamDialect = Literal["openai_chat", "anthropic"]
"""What an engine is asked in."""

Feature = Literal[
    "stream",
    "system_inside",
    "tools",
    "tool_choice",
    "tool_errors",
    "tool_images",
    "images",
    "thinking",
    "schema",
    "stop_sequences",
    "prefill",
]
"""What a request may ask of ``/v1/messages`` or ``/v1/responses`` beside plain text
(``wire.features``)."""


class EngineFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine's chat dialect does and does not do (docs/dialects.md 3.4, 3.9).

    The defaults describe a plain OpenAI-compatible server; each engine file states where its own
    engine differs, with the version on which that was seen.
    """

    engine: EngineName = "openai_compatible"
    version: str | None = None
    system_inside: bool = False
    """The model's template takes a system turn anywhere, and leaves it there; else it is folded into
    the turn beside it. A matter of the model, so that only a record can say it."""
    reasoning_key: Literal["reasoning_content", "reasoning"] = "reasoning_content"
    """The field in which replayed thinking is sent back; both are always understood in answers."""
    named_tool_choice: bool = True
    """Honours ``tool_choice: {type: function, …}``; else only that tool is sent, as ``required``."""
    tool_choice: bool = True
    """Honours ``tool_choice`` at all."""
    parallel_tool_calls: bool = True
    """Knows the ``parallel_tool_calls`` switch."""
    strict_tools: bool = True
    """Knows ``strict`` on a tool."""
    schema_bounds: bool = True
    """Survives ``pattern``, ``maxLength`` and numeric bounds in tool schemas."""
    template_kwargs: bool = True
    """Knows ``chat_template_kwargs`` (``enable_thinking``)."""
    thinking_budget_key: str | None = None
    """The field that limits thinking, in tokens."""
    reasoning_effort: bool = True
    top_efforts: tuple[str, str] = ("high", "high")
    """What ``xhigh`` and ``max`` are called there; the words below them are the same everywhere."""
    prefill: tuple[tuple[str, bool], ...] = ()
    """The fields that make it go on with a last message of the assistant's; none where it does so by
    itself, or does not do it at all."""
    repeats_prefill: bool = False
    """Its whole answers (not its streams) begin with the text that it was to go on from."""
    image_in_tool: bool = False
    """Takes images inside tool messages; else they follow in a user message."""
    extensions: frozenset[str] = frozenset({"top_k"})
    """Sampling fields beyond OpenAI's that it takes."""
    stream_usage: bool = True
    """Knows ``stream_options: {include_usage: true}``."""
    token_count: Literal["chat_input_tokens", "tokenize", "messages"] | None = None
    """The route that counts exactly what a chat request renders to:
    ``/v1/chat/completions/input_tokens`` or ``/tokenize``. A native ``/v1/messages/count_tokens``
    would count the engine's own translation of a request, not ours; ``messages`` is that one, for an
    upstream that is asked in Anthropic's dialect."""
    max_tokens_over_context: bool = True
    """Takes a ``max_tokens`` beyond its context without an error."""
    routes: frozenset[str] = frozenset({"completions", "embeddings"})
    """What it has beside chat: of ``completions``, ``embeddings``, ``rerank``, ``infill``."""
    id_slot: bool = False
    """Takes ``id_slot``: the slot, and with it the cached prompt, that a request shall use."""
    progress: bool = False
    """Knows ``return_progress``: a stream begins at once, and tells how far the prompt is read."""
    native_messages: frozenset[Feature] | None = None
    """What its own ``/v1/messages`` is known to do right: requests of Anthropic clients that ask for
    nothing else pass through. None: not even plain text."""
    native_responses: frozenset[Feature] | None = None
    """The same of its ``/v1/responses``, for Responses clients."""
    reads_billing_line: bool = False
    """Asked in Anthropic's dialect: wants Claude Code's first system line, which else is dropped."""
    replays_thinking: bool = True
    """Asked in Anthropic's dialect: takes thinking back that it has not signed."""
    ignores: frozenset[Literal["tool_choice", "schema", "n"]] = frozenset()
    """What it takes and does not do: a tool that must be called, an answer that obeys a schema, several
    answers. Who asks for it is refused: the answer would not be what was asked for."""
    stops_when_left: bool = True
    """Does not go on computing for a client that has left."""
    keeps_connections: bool = True
    """An idle connection costs it nothing; else each request has a connection of its own."""


class ModelFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a deployment was found to be."""

    name: str
    """The model's name at the upstream."""
    context_tokens: int | None = None
    """Context of one request (per slot)."""
    output_tokens: int | None = None
    """Longest answer, where the upstream has such a limit beside the context."""
    slots: int | None = None
    vision: bool | None = None
    """True/False where the engine tells, None where it does not."""
    aliases: tuple[str, ...] = ()
    created_at_s: int | None = None


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where a ready deployment answers: base URL without a trailing slash, ending in ``/v1``."""

    base_url: str
    engine: EngineFacts
    model: ModelFacts
    api_key: str | None = None
    dialect: UpstreamDialect = "openai_chat"
    rescue: bool = True
    """From the model's settings, as is what follows."""
    rescue_retry: bool = False
    starts_thinking: bool = False
    max_tools: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    timeout_s: float | None = None
    request_defaults: tuple[tuple[str, str | int | float], ...] = ()
    slots_restored: bool = False
    """It was stopped to make room, and its slots hold again what they held then."""

    def __repr__(self) -> str:  # never shows the key
        return f"Endpoint({self.base_url!r}, {self.engine.engine}, {self.model.name!r})"


class ModelFiles(msgspec.Struct, frozen=True, kw_only=True):
    """What lies at a model's path, read once; engines judge by it."""

    path: str
    is_folder: bool = False
    names: tuple[tuple[str, int], ...] = ()
    """Files (relative names) with their sizes in bytes; of a single file: itself and its
    neighbours."""
    head: bytes = b""
    """The first bytes of the file, enough for a GGUF's metadata; of a folder: of its first GGUF."""
    least_bytes: tuple[tuple[str, int], ...] = ()
    """Of the GGUFs that llama.cpp would load, by their names: how long a whole one is at least."""
    config: Mapping[str, Any] | None = None
    """``config.json`` of a folder."""
    chat_template: str | None = None
    """Of a folder: ``chat_template.jinja``, else what ``tokenizer_config.json`` has."""
    format: str | None = None
    """What wrote the first safetensors file of a folder, as it says itself: ``pt``, ``mlx``."""


class Gpu(msgspec.Struct, frozen=True, kw_only=True):
    total_bytes: int
    free_bytes: int


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What we run on."""

    system: Literal["linux", "darwin", "other"] = "linux"
    is_apple_silicon: bool = False
    gpus: tuple[Gpu, ...] = ()
    """CUDA devices."""
    memory_bytes: int = 0
    """Physical memory, or the limit of our control group."""
    engines: tuple[EngineName, ...] = ()
    """Those that are installed here, the embedded llama.cpp aside."""


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """How to start an engine: its command line, what is added to our environment, and how it will
    be spoken to."""

    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()
    inherits_env: bool = True
    """Else ``env`` is all that it gets."""
    engine: EngineName = "llamacpp"
    api_key: str | None = None
    """The key that it has been given; None where it takes none."""
    model: str | None = None
    """The name under which it will know the model; the first one that it lists when not set."""
    ready_path: str = "/health"
    """Answers 200 when the engine takes requests."""
    answers_busy: bool = True
    """Also while it computes: its server has a thread of its own."""
    context_tokens: int | None = None
    """The context that it has, for one that does not tell."""
    container: str | None = None
    """The name of the container that it starts."""

    def __repr__(self) -> str:  # never shows the environment: it may hold a key
        return f"Command({' '.join(self.argv)!r})"
