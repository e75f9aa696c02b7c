"""The Anthropic event stream as a machine that cannot emit an illegal sequence.

The grammar (docs/dialects.md 1.9; both official SDKs rely on it)::

    message_start (block_start delta* block_stop)* message_delta message_stop

with ``ping`` anywhere after the start, and ``error`` in place of the rest at any point. Blocks are
numbered 0, 1, 2 … without gaps and never overlap. ``NEXT`` is that grammar as a table; every event
goes through ``_emit``, which looks the state up, so a wrong caller gets an exception and the client
never a wrong event.

Engines overlap tool calls; Anthropic's blocks cannot. A call other than the open one is held back
until the open one is complete (docs/dialects.md 3.3, rule 7).
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


class _HeldCall:
    """A tool call that waits for its turn."""

    def __init__(self, start: ToolCallStart) -> None:
        self.start = start
        self.fragments: list[str] = []


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
        self.context_tokens, self._single_call = context_tokens, single_call
        self._estimate = 0
        self._deltas = 0
        self._index = -1
        self._kind: Kind | None = None
        self._delta_head = b""
        """The open block's delta frame up to its text."""
        self._call: int | None = None
        self._call_text: list[str] = []
        self._is_whole: bool | None = None
        """Whether the open call is complete; None where that has to be found out."""
        self._held: dict[int, _HeldCall] = {}
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
            case ToolCallStart():
                return self._tool_start(event)
            case ToolCallDelta():
                return self._tool_delta(event)
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
        opening = self._leave_tools() + self._close_block() + self._open_block(kind, _STARTS[kind])
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
        self._kind = self._call = None
        return signature + self._emit(
            "content_block_stop", b'{"type":"content_block_stop","index":%d}' % self._index
        )

    # ----------------------------------------------------------------- tool calls

    def _tool_start(self, start: ToolCallStart) -> bytes:
        if self._single_call and (self._called_tools or self._held):
            return b""
        self._held[start.call] = _HeldCall(start)
        return self._advance()

    def _tool_delta(self, delta: ToolCallDelta) -> bytes:
        """1. Of the open call: sent. 2. Of a held one: held. 3. Of one that was dropped, or white
        space after one that was closed: nothing. 4. Else the engine contradicts itself.
        """
        if not delta.arguments:
            return b""
        if delta.call == self._call:  # case 1
            self._deltas += 1
            self._call_text.append(delta.arguments)
            self._is_whole = None
            out = self._delta_head + _encode(delta.arguments) + b"}}\n\n"
            return out + self._advance() if self._held else out
        if delta.call in self._held:  # case 2
            self._deltas += 1
            self._held[delta.call].fragments.append(delta.arguments)
            return self._advance()
        if self._single_call or not delta.arguments.strip():  # case 3
            return b""
        return self.fail(  # case 4
            UpstreamError("upstream", "the engine went on with a tool call that it had completed")
        )

    def _search(self, search: WebSearch) -> bytes:
        """Two blocks. The query goes into a delta, as all input does; the result is whole at once."""
        self._searches = searched(self._searches, search)
        call, result = search_blocks(search)
        query = _encode(_encode(call["input"]).decode())
        opened = self._leave_tools() + self._close_block()
        opened += self._open_block("tool", _encode({**call, "input": {}}))
        asked = self._delta_head + query + b"}}\n\n" + self._close_block()
        return opened + asked + self._open_block("tool", _encode(result)) + self._close_block()

    def _advance(self) -> bytes:
        """Opens held calls, in order, as long as the open one is complete."""
        out = b""
        while self._held and (self._call is None or self._call_is_whole()):
            out += self._open_next()
        return out

    def _leave_tools(self) -> bytes:
        """Sends all held calls; what they lack now will not come."""
        out = b""
        while self._held:
            out += self._open_next()
        return out

    def _open_next(self) -> bytes:
        held = self._held.pop(next(iter(self._held)))
        closed = self._close_block()
        self._call, self._call_text, self._is_whole = held.start.call, held.fragments, None
        self._called_tools = True
        # Arguments go only into deltas: clients ignore an ``input`` that stands in the start.
        opened = self._open_block(
            "tool",
            b'{"type":"tool_use","id":%b,"name":%b,"input":{},%b'
            % (_encode(held.start.id), _encode(held.start.name), _encode(CALLER)[1:]),
        )
        if arguments := "".join(held.fragments):
            opened += self._delta_head + _encode(arguments) + b"}}\n\n"
        return closed + opened

    def _call_is_whole(self) -> bool:
        if self._is_whole is None:
            last = self._call_text[-1].rstrip() if self._call_text else ""
            # A whole object ends so; only then is it worth to parse it.
            self._is_whole = last.endswith("}") and _is_object("".join(self._call_text))
        return self._is_whole

    # ----------------------------------------------------------------- the end

    def _end(self) -> bytes:
        out = self.start(self._estimate) + self._leave_tools() + self._close_block()
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


def _is_object(text: str) -> bool:
    try:
        return isinstance(msgspec.json.decode(text), dict)
    except faults.BAD_BODY:
        return False


def _fault(failure: Failure) -> RequestFault:
    return UpstreamError(failure.kind, failure.message, tokens=failure.tokens)
