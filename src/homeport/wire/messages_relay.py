"""Passthrough of Anthropic Messages: client and engine both speak them, and bytes flow through.

Changed in a request: the model's name; and the billing line, where it would only void an engine's
cached prefix. What else is in it need not be known here: blocks and fields that we have never heard of
flow too, and what is wrong with a request is the upstream's to say (``outlined``).

Changed in an answer: the model's name, once. Usage is read on the way, a stream that breaks off says
so, an error of any shape becomes Anthropic's.
"""

from typing import Any

import msgspec

from homeport.errors import RequestFault, UpstreamError
from homeport.facts import EngineFacts, ModelFacts
from homeport.wire import faults, sse
from homeport.wire.anthropic import BILLING_MARK
from homeport.wire.anthropic_upstream_answer import Frame, UsageSum, WireUsage, failure_of
from homeport.wire.events import Request, Usage

Raw = msgspec.Raw
_encode = msgspec.json.Encoder().encode
_raw_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_frame = msgspec.json.Decoder(Frame).decode

PING = sse.encode(b'{"type":"ping"}', "ping")


class Outline(msgspec.Struct):
    model: str
    stream: bool | None = None


_decode_outline = msgspec.json.Decoder(Outline).decode


def outlined(body: bytes) -> Request | None:
    """What has to be known of a request that is handed on unread, without turns and tools. None where
    it is no request at all."""
    try:
        body.decode()
        outline = _decode_outline(body)
    except faults.BAD_BODY:
        return None
    return Request(model=outline.model, turns=(), stream=bool(outline.stream))


def relay_request(body: bytes, engine: EngineFacts, model: ModelFacts) -> bytes:
    """The engine's body; ``body`` is an object, at least."""
    fields = _raw_fields(body)
    fields["model"] = Raw(_encode(model.name))
    if not engine.reads_billing_line and "system" in fields:
        _drop_billing_line(fields)
    return _encode(fields)


def _drop_billing_line(fields: dict[str, Raw]) -> None:
    """As ``anthropic`` does it, in the first block of the system prompt and there only."""
    system = msgspec.json.decode(fields["system"])
    first = system[0] if isinstance(system, list) and system else None
    if isinstance(system, str) and system.startswith(BILLING_MARK):
        rest = system.partition("\n")[2].lstrip("\n")
        fields["system"] = Raw(_encode(rest))
    elif isinstance(first, dict) and str(first.get("text", "")).startswith(BILLING_MARK):
        rest = str(first["text"]).partition("\n")[2].lstrip("\n")
        blocks = [{**first, "text": rest}, *system[1:]] if rest else system[1:]
        fields["system"] = Raw(_encode(blocks))


class MessagesRelay:
    """Relays one streamed answer; the seam is ``stream.StreamTranslation``.

    ``is_opened`` says that the client has had a ``message_start`` of ours: the engine's is dropped.
    """

    def __init__(self, *, model: str, request_id: str, is_opened: bool = False) -> None:
        self.failure: RequestFault | None = None
        self.progress = None
        """Not told in this dialect."""
        self._splitter = sse.Splitter()
        self._model, self._request_id, self._is_opened = model, request_id, is_opened
        self._usage = UsageSum()
        self._has_finish = self._is_over = False

    @property
    def usage(self) -> Usage | None:
        return self._usage.neutral

    def feed(self, data: bytes) -> bytes:
        try:
            return b"".join(map(self._block, self._splitter.feed(data)))
        except UpstreamError as error:
            return self.fail(error)

    def finish(self) -> bytes:
        """The engine's bytes ended."""
        out = b""
        if (last := sse.parse_block(self._splitter.rest())) is not None:
            out = self._block(sse.encode(last.data, last.event))
        if self._is_over:
            return out
        if self._has_finish:
            self._is_over = True
            return out + sse.encode(b'{"type":"message_stop"}', "message_stop")
        fault = UpstreamError("upstream", "the engine broke off in the middle of its answer")
        return out + self.fail(fault)

    def fail(self, fault: RequestFault) -> bytes:
        """The error event, after which nothing comes."""
        if self._is_over:
            return b""
        self._is_over, self.failure = True, fault
        return failed(fault, self._request_id)

    def _block(self, block: bytes) -> bytes:
        """Deltas, which are nearly everything, are not looked into."""
        if self._is_over:
            return b""
        if block.startswith(b"event: content_block_") and b'"error"' not in block:
            return block
        event = sse.parse_block(block)
        if event is None:
            return block  # a comment
        try:
            frame = _decode_frame(event.data)
        except faults.BAD_BODY:
            return block if event.event != "error" else self._failed(event.data)
        if frame.error is not None or event.event == "error":
            return self._failed(event.data)
        match frame.type:
            case "message_start":
                return self._started(event.data, frame)
            case "message_delta":
                self._usage.take(frame.usage)
                self._has_finish = True
            case "message_stop":
                self._is_over = True
        return block

    def _started(self, data: bytes, frame: Frame) -> bytes:
        self._usage.take(frame.message.usage if frame.message else None)
        if self._is_opened:
            return b""
        self._is_opened = True
        value: dict[str, Any] = _raw_fields(data)
        message: dict[str, Any] = _raw_fields(value.get("message") or b"{}")
        message["model"] = self._model
        return sse.encode(_encode({**value, "message": message}), "message_start")

    def _failed(self, data: bytes) -> bytes:
        failure = failure_of(data)
        return self.fail(UpstreamError(failure.kind, failure.message, tokens=failure.tokens))


def failed(fault: RequestFault, request_id: str) -> bytes:
    """The error event of a stream."""
    return sse.encode(faults.body_of(fault, "anthropic", request_id), "error")


def relay_body(body: bytes, model: str) -> tuple[bytes, Usage | None]:
    """A whole answer under the client's model name, and its usage. Raises ``UpstreamError``."""
    try:
        fields = _raw_fields(body)
        usage = UsageSum()
        if "usage" in fields:
            usage.take(msgspec.json.decode(fields["usage"], type=WireUsage))
    except faults.BAD_BODY as error:
        raise UpstreamError("upstream", f"the engine sent what is no message: {error}") from None
    if "error" in fields:
        failure = failure_of(body)
        raise UpstreamError(failure.kind, failure.message, tokens=failure.tokens)
    fields["model"] = Raw(_encode(model))
    return _encode(fields), usage.neutral
