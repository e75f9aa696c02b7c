"""Passthrough of OpenAI Responses: client and engine both speak them, and bytes flow through.

Three things decide whether a request may pass: what it asks of the dialect (``needs``; the engine's
record says what is right), that nothing in it needs the gateway (tools that are no functions, items
that it keeps), and that the stream has not been opened in the gateway's own words.

Changed in a request: the model's name, and ``store``: responses are kept by the gateway, so that an
engine need not. Changed in an answer: the model's name and that echo. Supplied where the engine leaves
it out, because strict readers want it: the other echoes, nulls, details of the usage, ``logprobs`` of
text, names of events; and ``response.incomplete`` is called so (vLLM 0.32 ends every stream with
``response.completed``). Ids are the engine's.

Usage is read on the way, a stream that breaks off says so, and an error of any shape becomes
``response.failed`` with a code that Codex knows (docs/dialects.md 2.5).
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from homeport.errors import ClientError, RequestFault, UpstreamError
from homeport.facts import Feature, ModelFacts
from homeport.wire import faults, sse
from homeport.wire.events import Request, Usage
from homeport.wire.features import features_of
from homeport.wire.openai_responses import Entry, Item, ResponsesRequest
from homeport.wire.openai_responses_answer import Profile, error_of, usage_of
from homeport.wire.openai_responses_stream import ResponsesStream
from homeport.wire.openai_responses_tools import ToolChoiceParam

Raw = msgspec.Raw
_encode = msgspec.json.Encoder().encode
_raw_fields = msgspec.json.Decoder(dict[str, Raw]).decode

RESPONSES_PATH: Final = "/v1/responses"

# --------------------------------------------------------------------------- a request


def needs(
    wire: ResponsesRequest, entries: Sequence[Entry], request: Request
) -> frozenset[Feature] | None:
    """What an engine must be right in for this request to pass; None: it cannot pass at all."""
    if wire.previous_response_id is not None or any(entry.is_reference for entry in entries):
        return None
    if any(tool.type != "function" for tool in wire.tools or ()):
        return None
    choice = wire.tool_choice
    if isinstance(choice, ToolChoiceParam) and (choice.type != "function" or choice.namespace):
        return None
    items = [entry.item for entry in entries]
    if not all(map(_is_plain, items)):
        return None
    used: set[Feature] = set(features_of(request))
    if any(item.kind == "reasoning" for item in items):
        used.add("thinking")
    heads = [item.role in ("system", "developer") for item in items]
    if any(heads[0 if wire.instructions else 1 :]):
        used.add("system_inside")  # one that is not the first
    return frozenset(used)


def _is_plain(item: Item) -> bool:
    """Of the kinds that every engine with this route means to know."""
    match item.kind:
        case "message" | "reasoning" | "function_call_output":
            return True
        case "function_call":  # arguments as an object are taken by us, and by nobody else
            return item.namespace is None and bytes(item.arguments).startswith(b'"')
        case _:
            return False


def relay_request(body: bytes, model: ModelFacts) -> bytes:
    """The engine's body; ``body`` is valid."""
    fields = _raw_fields(body)
    fields["model"] = Raw(_encode(model.name))
    fields["store"] = Raw(b"false")
    return _encode(fields)


# --------------------------------------------------------------------------- a response


class _Cached(msgspec.Struct):
    cached_tokens: int | None = None


class _Reasoned(msgspec.Struct):
    reasoning_tokens: int | None = None


class _WireUsage(msgspec.Struct):
    input_tokens: int
    output_tokens: int
    input_tokens_details: _Cached | None = None
    output_tokens_details: _Reasoned | None = None

    @property
    def neutral(self) -> Usage:
        cached, reasoned = self.input_tokens_details, self.output_tokens_details
        return Usage(
            self.input_tokens,
            self.output_tokens,
            cached.cached_tokens if cached else None,
            reasoned.reasoning_tokens if reasoned else None,
        )


class Whole(NamedTuple):
    """A response that is complete."""

    id: str
    response: bytes
    output: list[bytes]
    usage: Usage | None


Keep = Callable[[Whole], None]
Clock = Callable[[], int]
"""Seconds since the epoch."""
NULLS: Final = ("completed_at", "error", "incomplete_details", "usage")


class _Restoring:
    """Responses of an engine as the client is to have them."""

    def __init__(self, profile: Profile, model: str, clock: Clock) -> None:
        self._model, self._clock = Raw(_encode(model)), clock
        self._echo = {key: Raw(value) for key, value in profile.echo.items()}

    def fields(self, raw: bytes) -> dict[str, Raw]:
        fields = _raw_fields(raw)
        fields["model"], fields["store"] = self._model, self._echo["store"]
        for key in NULLS:
            fields.setdefault(key, Raw(b"null"))
        for key, value in self._echo.items():
            if not _is_given(fields.get(key)):
                fields[key] = value
        return fields

    def whole(self, fields: dict[str, Raw]) -> Whole:
        """Raises ``UpstreamError`` for what is none."""
        if not is_cut(fields) and not _is_given(fields["completed_at"]):
            fields["completed_at"] = Raw(b"%d" % self._clock())
        try:
            usage = msgspec.json.decode(fields["usage"], type=_WireUsage | None)
            output = msgspec.json.decode(fields["output"], type=list[Raw])
            msgspec.json.decode(fields["output"], type=list[Item])  # it may come back
            id_ = msgspec.json.decode(fields["id"], type=str)
            if usage is not None:
                fields["usage"] = _full_usage(fields["usage"], usage.neutral)
        except (*faults.BAD_BODY, KeyError) as error:
            raise UpstreamError(
                "upstream", f"the engine sent what is no response: {error}"
            ) from None
        neutral = usage.neutral if usage is not None else None
        return Whole(id_, _encode(fields), [bytes(item) for item in output], neutral)


def _full_usage(raw: Raw, usage: Usage) -> Raw:
    """With what the engine left out."""
    given = {key: value for key, value in _raw_fields(raw).items() if bytes(value) != b"null"}
    for key, value in usage_of(usage).items():
        inner = given.get(key)
        if isinstance(value, dict) and inner is not None:
            given[key] = Raw(_encode({**value, **_raw_fields(inner)}))
        else:
            given.setdefault(key, Raw(_encode(value)))
    return Raw(_encode(given))


def is_cut(response: dict[str, Raw]) -> bool:
    return bytes(response.get("status", b"")) == b'"incomplete"'


def relay_body(body: bytes, profile: Profile, model: str, clock: Clock) -> Whole:
    """A whole answer under the client's model name. Raises ``RequestFault``."""
    restoring = _Restoring(profile, model, clock)
    try:
        fields = restoring.fields(body)
    except faults.BAD_BODY as error:
        raise UpstreamError("upstream", f"the engine sent what is no response: {error}") from None
    if _is_given(fields["error"]):
        raise fault_in(body)
    return restoring.whole(fields)


def fault_in(data: bytes) -> RequestFault:
    """What an error inside an event or a response means."""
    fault = faults.fault_in_stream(data)
    message, details = faults.engine_message(data)
    if details.get("code") == "context_length_exceeded" and isinstance(fault, UpstreamError):
        return ClientError("context_overflow", message)
    return fault


def _is_given(raw: Raw | None) -> bool:
    return raw is not None and bytes(raw) not in (b"", b"null")


# --------------------------------------------------------------------------- its stream

DELTAS: Final = tuple(
    f"event: response.{name}.delta\n".encode()
    for name in ("output_text", "reasoning_text", "function_call_arguments")
)
TEXT: Final = ("response.output_text.delta", "response.output_text.done")


class ResponsesRelay:
    """Relays one streamed answer; the seam is ``stream.StreamTranslation``.

    ``out`` is the machine that says what went wrong before the engine said anything. ``keep`` gets the
    response before the client hears that it is complete.
    """

    def __init__(
        self, profile: Profile, model: str, clock: Clock, *, out: ResponsesStream, keep: Keep
    ) -> None:
        self.usage: Usage | None = None
        self.failure: RequestFault | None = None
        self.progress = None
        """Not told in this dialect."""
        self._splitter = sse.Splitter()
        self._restoring = _Restoring(profile, model, clock)
        self._out, self._keep = out, keep
        self._created: dict[str, Raw] | None = None
        self._done: list[Raw] = []
        """Items that the client may have acted on."""
        self._last = b""
        self._is_over = False

    def __repr__(self) -> str:
        return f"<ResponsesRelay items={len(self._done)} over={self._is_over}>"

    def feed(self, data: bytes) -> bytes:
        try:
            return b"".join(map(self._block, self._splitter.feed(data)))
        except UpstreamError as error:
            return self.fail(error)

    def finish(self) -> bytes:
        """The engine's bytes ended."""
        rest = self._splitter.rest()
        out = self.feed(rest + b"\n\n") if rest else b""
        fault = UpstreamError("upstream", "the engine broke off in the middle of its answer")
        return out + self.fail(fault)

    def fail(self, fault: RequestFault) -> bytes:
        """``response.failed``, after which nothing comes; items that are not done stay so."""
        if self._is_over:
            return b""
        self._is_over, self.failure = True, fault
        if self._created is None:
            return self._out.fail(fault)
        response: dict[str, Any] = {
            **self._created,
            "status": "failed",
            "error": error_of(fault),
            "output": self._done,
        }
        name = "response.failed"
        event = {"type": name, "sequence_number": self._number + 1, "response": response}
        return sse.encode(_encode(event), name)

    @property
    def _number(self) -> int:
        """Of the last event."""
        event = sse.parse_block(self._last)
        try:
            return msgspec.json.decode(event.data, type=_Numbered).sequence_number if event else 0
        except faults.BAD_BODY:
            return 0

    def _block(self, block: bytes) -> bytes:
        """Deltas, which are nearly everything, are not looked into."""
        if self._is_over:
            return b""
        if block.startswith(DELTAS) and b'"error"' not in block:
            self._last = block
            if block.startswith(DELTAS[0]) and b'"logprobs"' not in block:
                return self._event(block)
            return block
        return self._event(block)

    def _event(self, block: bytes) -> bytes:
        event = sse.parse_block(block)
        if event is None or event.data == b"[DONE]":
            return b""  # no client of this dialect knows it
        try:
            fields = _raw_fields(event.data)
            name = msgspec.json.decode(fields.get("type", b'""'), type=str) or event.event
        except faults.BAD_BODY:
            return self.fail(fault_in(event.data))
        if name == "error" or _is_given(fields.get("error")):
            return self.fail(fault_in(event.data))
        if (response := fields.get("response")) is not None:
            return self._response(name, fields, bytes(response))
        if name == "response.output_item.done" and "item" in fields:
            self._done.append(fields["item"])
        if name in TEXT:
            fields.setdefault("logprobs", Raw(b"[]"))
        self._last = block
        return sse.encode(_encode(fields), name)

    def _response(self, name: str, fields: dict[str, Raw], raw: bytes) -> bytes:
        """An event that holds the response: the first ones, and the last."""
        try:
            response = self._restoring.fields(raw)
        except faults.BAD_BODY:
            return self.fail(UpstreamError("upstream", "the engine sent what is no response"))
        if name == "response.failed" or _is_given(response["error"]):
            return self.fail(fault_in(raw))
        if name in ("response.completed", "response.incomplete"):
            return self._ended(fields, response)
        self._created = self._created or response
        event = sse.encode(_encode({**fields, "response": response}), name)
        self._last = event
        return event

    def _ended(self, fields: dict[str, Raw], response: dict[str, Raw]) -> bytes:
        try:
            whole = self._restoring.whole(response)
        except UpstreamError as error:
            return self.fail(error)
        self.usage, self._is_over = whole.usage, True
        self._keep(whole)
        name = "response.incomplete" if is_cut(response) else "response.completed"
        event = {**fields, "type": name, "response": Raw(whole.response)}
        return sse.encode(_encode(event), name)


class _Numbered(msgspec.Struct):
    sequence_number: int = 0
