"""The Anthropic event stream as a machine that cannot emit an illegal sequence.

The grammar (docs/dialects.md 1.9; both official SDKs rely on it)::

    message_start (block_start delta* block_stop)* message_delta message_stop

with ``ping`` anywhere after the start, and ``error`` in place of the rest at any point. Blocks are
numbered 0, 1, 2 … without gaps and never overlap. ``NEXT`` is that grammar as a table; every event
goes through ``_emit``, which looks the state up, so a wrong caller gets an exception and the client
never a wrong event.

Engines overlap tool calls; Anthropic's blocks cannot: ``serial_calls`` holds a call back until the one
before it is complete.
"""

from typing import Any, Literal

import msgspec

from homeport.errors import InternalError, RequestFault, UpstreamError
from homeport.wire import faults
from homeport.wire.anthropic_answer import (
    CALLER,
    NULLS,
    SIGNATURE,
    message_usage_of,
    prewarmed,
    search_blocks,
    searched,
    stop_reason_of,
    usage_of,
)
from homeport.wire.events import (
    End,
    Event,
    Failure,
    Finish,
    Start,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallStart,
    Usage,
    UsageReport,
    WebSearch,
)
from homeport.wire.serial_calls import SerialCalls

State = Literal["new", "between", "in_block", "closing", "done"]

NEXT: dict[tuple[State, str], State] = {
    ("new", "message_start"): "between",
    ("new", "error"): "done",
    ("between", "ping"): "between",
    ("between", "content_block_start"): "in_block",
    ("between", "message_delta"): "closing",
    ("between", "error"): "done",
    ("in_block", "ping"): "in_block",
    ("in_block", "content_block_delta"): "in_block",
    ("in_block", "content_block_stop"): "between",
    ("in_block", "error"): "done",
    ("closing", "ping"): "closing",
    ("closing", "message_stop"): "done",
    ("closing", "error"): "done",
}

_encode = msgspec.json.Encoder().encode
PING = b'event: ping\ndata: {"type":"ping"}\n\n'

Kind = Literal["text", "thinking", "tool"]

_STARTS: dict[Kind, bytes] = {
    "text": b'{"type":"text","text":"","citations":[]}',
    "thinking": b'{"type":"thinking","thinking":"","signature":""}',
}

_FIELDS: dict[Kind, bytes] = {
    "text": b'text_delta","text"',
    "thinking": b'thinking_delta","thinking"',
    "tool": b'input_json_delta","partial_json"',
}
_DELTAS: dict[Kind, bytes] = {
    kind: b"event: content_block_delta\n"
    b'data: {"type":"content_block_delta","index":%%d,"delta":{"type":"%b:' % head
    for kind, head in _FIELDS.items()
}


class AnthropicStream:
    """Neutral events in, Anthropic SSE bytes out.

    ``message_id`` and ``model`` (the name that the client asked for) go into ``message_start``;
    ``single_call`` drops all tool calls but the first; ``context_tokens`` tells a length stop at the
    context's end from one at ``max_tokens``.
    """

    def __init__(
        self,
        *,
        message_id: str,
        model: str,
        request_id: str,
        context_tokens: int | None = None,
        single_call: bool = False,
    ) -> None:
        self.usage: Usage | None = None
        self.failure: RequestFault | None = None
        self._state: State = "new"
        self._message_id, self._model, self._request_id = message_id, model, request_id
        self.context_tokens = context_tokens
        self._serial = SerialCalls(single_call=single_call)
        self._estimate = 0
        self._deltas = 0
        self._index = -1
        self._kind: Kind | None = None
        self._delta_head = b""
        """The open block's delta frame up to its text."""
        self._called_tools = False
        self._searches: int | None = None
        self._finish: Finish | None = None

    def __repr__(self) -> str:
        return f"<AnthropicStream {self._state} block={self._index} kind={self._kind}>"

    @property
    def is_done(self) -> bool:
        return self._state == "done"

    # ----------------------------------------------------------------- what callers may do

    def start(self, prompt_tokens: int) -> bytes:
        """``message_start``, once. ``prompt_tokens`` may be an estimate; the end corrects it."""
        if self._state != "new":
            return b""
        self._estimate = prompt_tokens
        message: dict[str, Any] = {
            "id": self._message_id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            **NULLS,
            "usage": message_usage_of(Usage(prompt_tokens, 0)),
        }
        return self._emit(
            "message_start", b'{"type":"message_start","message":%b}' % _encode(message)
        )

    def ping(self) -> bytes:
        """A sign of life; nothing before the start and after the end."""
        return PING if (self._state, "ping") in NEXT else b""

    def feed(self, event: Event) -> bytes:
        """What one neutral event becomes; nothing after the end. Where ``start`` was not called,
        the first content makes the start, with no estimate.
        """
        if self._state == "done":
            return b""
        match event:
            case TextDelta():
                return self._delta("text", event.text)
            case ThinkingDelta():
                return self._delta("thinking", event.text)
            case ToolCallDelta():
                self._deltas += 1 if event.arguments else 0
                return self._calls(self._serial.feed(event))
            case ToolCallStart():
                return self._calls(self._serial.feed(event))
            case WebSearch():
                return self._search(event)
            case Finish():
                self._finish = event
            case UsageReport(usage=usage):
                self.usage = usage
            case Failure():
                return self.fail(_fault(event))
            case End():
                return self._end()
            case Start():
                pass
        return b""

    def fail(self, fault: RequestFault) -> bytes:
        """The in-stream error: the open block is closed, no ``message_stop`` follows."""
        if self._state == "done":
            return b""
        self.failure = fault
        closed = self._close_block() if self._state == "in_block" else b""
        return closed + self._emit("error", faults.body_of(fault, "anthropic", self._request_id))

    # ----------------------------------------------------------------- blocks

    def _delta(self, kind: Kind, text: str) -> bytes:
        if not text:
            return b""  # an empty delta opens nothing
        self._deltas += 1
        if self._kind == kind:
            return self._delta_head + _encode(text) + b"}}\n\n"
        opening = self._leave_calls() + self._close_block() + self._open_block(kind, _STARTS[kind])
        return opening + self._delta_head + _encode(text) + b"}}\n\n"

    def _open_block(self, kind: Kind, block: bytes) -> bytes:
        """A block is open from here on, which makes its deltas legal: they are not looked up."""
        start = self.start(self._estimate)
        self._index += 1
        self._kind = kind
        self._delta_head = _DELTAS[kind] % self._index
        return start + self._emit(
            "content_block_start",
            b'{"type":"content_block_start","index":%d,"content_block":%b}' % (self._index, block),
        )

    def _close_block(self) -> bytes:
        """Closes the open block, if one is open."""
        if self._kind is None:
            return b""
        signature = b""
        if self._kind == "thinking":
            signature = self._emit(
                "content_block_delta",
                b'{"type":"content_block_delta","index":%d,"delta":'
                b'{"type":"signature_delta","signature":%b}}' % (self._index, _encode(SIGNATURE)),
            )
        self._kind = None
        return signature + self._emit(
            "content_block_stop", b'{"type":"content_block_stop","index":%d}' % self._index
        )

    # ----------------------------------------------------------------- tool calls

    def _calls(self, events: list[Event]) -> bytes:
        """Calls one after the other, each complete before the next begins."""
        if len(events) == 1:  # nearly always
            return self._call(events[0])
        return b"".join(map(self._call, events))

    def _call(self, event: Event) -> bytes:
        match event:
            case ToolCallDelta():
                return self._delta_head + _encode(event.arguments) + b"}}\n\n"
            case ToolCallStart():
                return self._close_block() + self._open_call(event)
            case Failure():
                return self.fail(_fault(event))
            case _:
                raise InternalError("internal", f"{type(event).__name__} is no tool call")

    def _leave_calls(self) -> bytes:
        """Sends all calls that are held back; what they lack now will not come."""
        return self._calls(self._serial.leave())

    def _open_call(self, start: ToolCallStart) -> bytes:
        self._called_tools = True
        # Arguments go only into deltas: clients ignore an ``input`` that stands in the start.
        return self._open_block(
            "tool",
            b'{"type":"tool_use","id":%b,"name":%b,"input":{},%b'
            % (_encode(start.id), _encode(start.name), _encode(CALLER)[1:]),
        )

    def _search(self, search: WebSearch) -> bytes:
        """Two blocks. The query goes into a delta, as all input does; the result is whole at once."""
        self._searches = searched(self._searches, search)
        call, result = search_blocks(search)
        query = _encode(_encode(call["input"]).decode())
        opened = self._leave_calls() + self._close_block()
        opened += self._open_block("tool", _encode({**call, "input": {}}))
        asked = self._delta_head + query + b"}}\n\n" + self._close_block()
        return opened + asked + self._open_block("tool", _encode(result)) + self._close_block()

    # ----------------------------------------------------------------- the end

    def _end(self) -> bytes:
        out = self.start(self._estimate) + self._leave_calls() + self._close_block()
        usage = self.usage or Usage(self._estimate, self._deltas)  # an engine that reports none
        stop_reason, stop_sequence = stop_reason_of(
            self._finish or Finish("end"),
            called_tools=self._called_tools,
            usage=self.usage,
            context_tokens=self.context_tokens,
        )
        body = {
            "type": "message_delta",
            "delta": {
                "stop_reason": stop_reason,
                "stop_sequence": stop_sequence,
                "stop_details": None,
                "container": None,
            },
            "usage": usage_of(usage, self._searches),
        }
        out += self._emit("message_delta", _encode(body))
        return out + self._emit("message_stop", b'{"type":"message_stop"}')

    def _emit(self, event: str, data: bytes) -> bytes:
        """The one way out: the grammar is checked, then the frame is made."""
        state = NEXT.get((self._state, event))
        if state is None:
            raise InternalError("internal", f"{event} is not legal in state {self._state}")
        self._state = state
        return b"event: %b\ndata: %b\n\n" % (event.encode(), data)


class PrewarmStream(AnthropicStream):
    """The stream for ``max_tokens: 0``: all that stands around an answer, and none."""

    def feed(self, event: Event) -> bytes:
        return b"".join(super(PrewarmStream, self).feed(kept) for kept in prewarmed([event]))


def _fault(failure: Failure) -> RequestFault:
    return UpstreamError(failure.kind, failure.message, tokens=failure.tokens)
