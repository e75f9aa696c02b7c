"""The hub: one neutral request, one neutral set of stream events.

Every dialect decodes to these and encodes from these, so that N dialects cost N modules. The words
are the field's; where the APIs disagree the wider meaning wins (``Turn`` may hold any mix of parts,
``Usage.prompt_tokens`` counts the whole prompt, cached part included).

Two conventions keep bytes stable, because one changed byte early in a prompt costs an engine its
KV cache: tool schemas travel as the raw JSON bytes that the client sent, and tool-call arguments as
the JSON *text* of the call, never parsed and dumped again.
"""

from typing import Literal

import msgspec

# --------------------------------------------------------------------------- requests


class Text(msgspec.Struct, frozen=True):
    text: str


class Image(msgspec.Struct, frozen=True):
    """An image by ``url`` (``data:`` URLs included)."""

    url: str


class Thinking(msgspec.Struct, frozen=True):
    """Replayed reasoning of the model. Signatures are not kept: local models have none."""

    text: str


class ToolCall(msgspec.Struct, frozen=True):
    """``arguments`` is JSON text, usually an object; broken text is kept as it is."""

    id: str
    name: str
    arguments: str


class ToolResult(msgspec.Struct, frozen=True):
    call_id: str
    content: tuple[Text | Image, ...] = ()
    is_error: bool = False


Part = Text | Image | Thinking | ToolCall | ToolResult


class Turn(msgspec.Struct, frozen=True):
    role: Literal["system", "user", "assistant"]
    parts: tuple[Part, ...]


class Tool(msgspec.Struct, frozen=True):
    """``schema`` is the raw JSON Schema of the arguments."""

    name: str
    schema: bytes
    description: str | None = None
    strict: bool | None = None


class ToolChoice(msgspec.Struct, frozen=True):
    """``any`` means: some tool must be called; ``named``: the tool ``name`` must be called."""

    mode: Literal["auto", "any", "none", "named"]
    name: str | None = None


class ResponseFormat(msgspec.Struct, frozen=True):
    """``schema`` is the raw JSON Schema that the answer must obey; None means: any JSON object."""

    schema: bytes | None
    name: str = "answer"


class ThinkingSwitch(msgspec.Struct, frozen=True):
    """Whether the model shall think, and for how many tokens at most."""

    enabled: bool
    budget_tokens: int | None = None


class SearchWish(msgspec.Struct, frozen=True):
    """The client wants the model to search the web, and somebody else to run it. Only pages of
    ``allowed`` domains are wanted where there are any, else none of ``blocked`` ones."""

    max_uses: int | None = None
    allowed: tuple[str, ...] = ()
    blocked: tuple[str, ...] = ()


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One inference request. ``turns[0]`` is the system prompt when its role says so."""

    model: str
    turns: tuple[Turn, ...]
    stream: bool = False
    max_tokens: int | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    stop: tuple[str, ...] = ()
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    thinking: ThinkingSwitch | None = None
    effort: str | None = None
    response_format: ResponseFormat | None = None
    web_search: SearchWish | None = None

    @property
    def first_user_text(self) -> str:
        """The text of the first user turn; it tells conversations apart."""
        for turn in self.turns:
            if turn.role == "user":
                return "".join(part.text for part in turn.parts if isinstance(part, Text))
        return ""

    @property
    def prefill(self) -> str:
        """What the client has put into the model's mouth: the answer goes on from there."""
        texts: list[str] = []
        for turn in reversed(self.turns):
            if turn.role != "assistant" or any(isinstance(part, ToolCall) for part in turn.parts):
                break
            texts += [part.text for part in reversed(turn.parts) if isinstance(part, Text)]
        return "".join(reversed(texts)).rstrip()

    @property
    def has_images(self) -> bool:
        for turn in self.turns:
            for part in turn.parts:
                # The type first: most parts are text, and each request asks this.
                if type(part) is not Text and _holds_image(part):
                    return True
        return False


def _holds_image(part: Part) -> bool:
    match part:
        case Image():
            return True
        case ToolResult(content=content):
            return any(isinstance(inner, Image) for inner in content)
        case _:
            return False


# --------------------------------------------------------------------------- answers


StopReason = Literal["end", "length", "context_length", "stop_sequence", "tool_use", "refusal"]


class Usage(msgspec.Struct, frozen=True):
    """Token counts. ``prompt_tokens`` includes ``cached_tokens``; None means: not reported."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    prefill_tokens_per_s: float | None = None
    """How fast the engine read what was not cached, where it tells and that was long enough."""
    earlier: "tuple[Usage, ...]" = ()
    """Of the rounds before, where the engine was asked more than once for an answer (``rounds``)."""


class Progress(msgspec.Struct, frozen=True):
    """How far the engine has read a prompt. ``processed`` includes what was ``cached``."""

    total: int = 0
    cached: int = msgspec.field(default=0, name="cache")
    processed: int = 0


class Start(msgspec.Struct, frozen=True):
    """The engine has begun to answer."""

    id: str | None = None


class TextDelta(msgspec.Struct, frozen=True):
    text: str


class ThinkingDelta(msgspec.Struct, frozen=True):
    text: str


class ToolCallStart(msgspec.Struct, frozen=True):
    """Call number ``call`` (0, 1, … in order of first appearance) begins; its name is complete."""

    call: int
    id: str
    name: str


class ToolCallDelta(msgspec.Struct, frozen=True):
    call: int
    arguments: str


class SearchHit(msgspec.Struct, frozen=True):
    """A page that was found; plain text."""

    url: str
    title: str
    extract: str = ""
    age: str | None = None


SearchError = Literal["unavailable", "too_many_requests", "max_uses_exceeded", "invalid_tool_input"]
"""Anthropic's names."""


class WebSearch(msgspec.Struct, frozen=True):
    """A search that the gateway ran inside an answer (no engine says this)."""

    id: str
    query: str
    hits: tuple[SearchHit, ...] = ()
    error: SearchError | None = None


class Finish(msgspec.Struct, frozen=True):
    """The engine's last word on why it stopped; usage may still follow."""

    reason: StopReason
    stop_sequence: str | None = None


class UsageReport(msgspec.Struct, frozen=True):
    usage: Usage


class Failure(msgspec.Struct, frozen=True):
    """The engine reported an error inside its answer, or broke off."""

    message: str
    kind: Literal["upstream", "context_overflow", "overloaded"] = "upstream"
    tokens: tuple[int, int] | None = None


class End(msgspec.Struct, frozen=True):
    """The engine's answer is complete."""


Event = (
    Start
    | TextDelta
    | ThinkingDelta
    | ToolCallStart
    | ToolCallDelta
    | WebSearch
    | Finish
    | UsageReport
    | Failure
    | End
)
