"""The Responses event stream as a machine that cannot emit an illegal sequence.

The grammar (docs/dialects.md 2.4, 3.7)::

    created in_progress item* (completed | incomplete | failed)

    item      = output_item.added, its events, output_item.done
    message   : content_part.added output_text.delta* output_text.done content_part.done
    reasoning : content_part.added reasoning_text.delta* reasoning_text.done content_part.done
    function  : function_call_arguments.delta* function_call_arguments.done
    custom    : custom_tool_call_input.delta* custom_tool_call_input.done
    search    : web_search_call.in_progress web_search_call.searching web_search_call.completed

Items are numbered 0, 1, 2 … and never overlap; ``failed`` may stand in place of the rest at any
point. ``NEXT`` is that grammar as a table; every event goes through ``_emit``, which looks the state
up, so a wrong caller gets an exception and the client never a wrong event.

Codex lives on ``output_item.done`` and ``response.completed`` alone: what is missing there is lost
for it, whatever the deltas said. An item that a failure cuts off is not ``done``: Codex would act on
it, and then repeat the request.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final, Literal

import msgspec

from homeport.errors import InternalError, RequestFault, UpstreamError
from homeport.wire import openai_responses_answer as shapes
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
from homeport.wire.openai_responses_answer import ItemStatus, Profile
from homeport.wire.openai_responses_tools import Callee
from homeport.wire.serial_calls import SerialCalls

_encode = msgspec.json.Encoder().encode

Kind = Literal["", "message", "reasoning", "function", "custom", "search"]
"""Of the open item; empty between items."""

State = Literal["new", "created", "between", "item", "part", "said", "whole", "done"]

CREATED: Final = "response.created"
IN_PROGRESS: Final = "response.in_progress"
ADDED: Final = "response.output_item.added"
PART_ADDED: Final = "response.content_part.added"
PART_DONE: Final = "response.content_part.done"
DONE: Final = "response.output_item.done"

SAID: dict[Kind, str] = {
    "message": "response.output_text",
    "reasoning": "response.reasoning_text",
    "function": "response.function_call_arguments",
    "custom": "response.custom_tool_call_input",
}
"""The events that carry an item's text, less ``.delta`` and ``.done``."""

NEXT: dict[tuple[State, Kind, str], State] = {
    ("new", "", CREATED): "created",
    ("created", "", IN_PROGRESS): "between",
    ("between", "message", ADDED): "item",
    ("item", "message", PART_ADDED): "part",
    ("part", "message", "response.output_text.delta"): "part",
    ("part", "message", "response.output_text.done"): "said",
    ("said", "message", PART_DONE): "whole",
    ("whole", "message", DONE): "between",
    ("between", "reasoning", ADDED): "item",
    ("item", "reasoning", PART_ADDED): "part",
    ("part", "reasoning", "response.reasoning_text.delta"): "part",
    ("part", "reasoning", "response.reasoning_text.done"): "said",
    ("said", "reasoning", PART_DONE): "whole",
    ("whole", "reasoning", DONE): "between",
    ("between", "function", ADDED): "item",
    ("item", "function", "response.function_call_arguments.delta"): "item",
    ("item", "function", "response.function_call_arguments.done"): "whole",
    ("whole", "function", DONE): "between",
    ("between", "custom", ADDED): "item",
    ("item", "custom", "response.custom_tool_call_input.delta"): "item",
    ("item", "custom", "response.custom_tool_call_input.done"): "whole",
    ("whole", "custom", DONE): "between",
    ("between", "search", ADDED): "item",
    ("item", "search", "response.web_search_call.in_progress"): "part",
    ("part", "search", "response.web_search_call.searching"): "said",
    ("said", "search", "response.web_search_call.completed"): "whole",
    ("whole", "search", DONE): "between",
    ("between", "", "response.completed"): "done",
    ("between", "", "response.incomplete"): "done",
    ("between", "", "response.failed"): "done",
    ("item", "message", "response.failed"): "done",
    ("item", "reasoning", "response.failed"): "done",
    ("item", "function", "response.failed"): "done",
    ("item", "custom", "response.failed"): "done",
    ("part", "message", "response.failed"): "done",
    ("part", "reasoning", "response.failed"): "done",
}

KEEP_ALIVE: Final = b": still working\n\n"
"""Codex and the official SDKs read past comments; an event of its own would have to mean something."""

PREFIXES: dict[Kind, str] = {
    "message": "msg",
    "reasoning": "rs",
    "function": "fc",
    "custom": "ctc",
    "search": "ws",
}


class ResponsesStream:
    """Neutral events in, Responses SSE bytes out.

    ``callees`` says what the model's tool names stand for; ``single_call`` drops all tool calls but
    the first; ``clock`` gives the time of completion (seconds since the epoch). Once the stream has
    ended, ``response`` is the whole response object and ``output`` its items, each as JSON.
    """

    def __init__(
        self,
        profile: Profile,
        *,
        callees: dict[str, Callee],
        clock: Callable[[], int],
        single_call: bool = False,
    ) -> None:
        self.usage: Usage | None = None
        self.failure: RequestFault | None = None
        self.response: bytes | None = None
        self.output: list[bytes] = []
        self._profile, self._callees, self._clock = profile, callees, clock
        self._serial = SerialCalls(single_call=single_call)
        self._state: State = "new"
        self._sequence = 0
        self._kind: Kind = ""
        self._item_id = ""
        self._delta_head = self._delta_tail = b""
        """The open item's delta frame before and after its text."""
        self._text: list[str] = []
        self._call: tuple[str, Callee] = ("", Callee("function", ""))
        """The open call's id, and what it calls."""
        self._finish: Finish | None = None

    def __repr__(self) -> str:
        return f"<ResponsesStream {self._state} item={len(self.output)} kind={self._kind}>"

    @property
    def response_id(self) -> str:
        return self._profile.id

    @property
    def is_done(self) -> bool:
        return self._state == "done"

    # ----------------------------------------------------------------- what callers may do

    def start(self) -> bytes:
        """``created`` and ``in_progress``, once."""
        if self._state != "new":
            return b""
        response = b'"response":' + self._profile.body("in_progress", output=[])
        return self._emit(CREATED, response) + self._emit(IN_PROGRESS, response)

    def keep_alive(self) -> bytes:
        """A sign of life; nothing before the start and after the end."""
        return b"" if self._state in ("new", "done") else KEEP_ALIVE

    def feed(self, event: Event) -> bytes:
        """What one neutral event becomes; nothing after the end. Where ``start`` was not called,
        the first event makes it.
        """
        if self._state == "done":
            return b""
        if type(event) is TextDelta and self._kind == "message":  # by far the commonest
            return self._delta(event.text) if event.text else b""
        return b"".join(map(self._take, self._serial.feed(event)))

    def fail(self, fault: RequestFault) -> bytes:
        """``response.failed``; the open item stays open, its text so far stands in ``output``."""
        if self._state == "done":
            return b""
        self.failure = fault
        start = self.start()
        if self._kind and (self._text or self._kind in ("function", "custom")):
            self.output.append(self._item("incomplete"))
        return start + self._end_with("failed", error=fault)

    # ----------------------------------------------------------------- events

    def _take(self, event: Event) -> bytes:
        match event:
            case TextDelta():
                return self._say("message", event.text)
            case ThinkingDelta():
                return self._say("reasoning", event.text)
            case ToolCallStart():
                callee = self._callees.get(event.name) or Callee("function", event.name)
                closed = self._close()
                self._call = (event.id, callee)
                return closed + self._open(callee.kind)
            case ToolCallDelta():
                return self._say(self._kind, event.arguments)
            case WebSearch():
                return self._search(event)
            case Finish():
                self._finish = event
            case UsageReport(usage=usage):
                self.usage = usage
            case Failure():
                return self.fail(UpstreamError(event.kind, event.message, tokens=event.tokens))
            case End():
                return self._end()
            case Start():
                pass
        return b""

    def _say(self, kind: Kind, text: str) -> bytes:
        if not text:
            return b""  # an empty delta opens nothing
        opening = b"" if self._kind == kind else self._close() + self._open(kind)
        return opening + self._delta(text)

    def _delta(self, text: str) -> bytes:
        """An item is open from here on, which makes its deltas legal: they are not looked up."""
        self._text.append(text)
        if self._kind == "custom":
            return b""  # what stands inside the JSON can be told at its end only
        self._sequence += 1
        return self._delta_head + _encode(text) + self._delta_tail % (self._sequence - 1)

    # ----------------------------------------------------------------- items

    def _open(self, kind: Kind) -> bytes:
        out = self.start()
        self._kind, self._text = kind, []
        self._item_id = self._profile.item_id(PREFIXES[kind], len(self.output))
        place = b'"item_id":"%b","output_index":%d' % (self._item_id.encode(), len(self.output))
        is_call = kind in ("function", "custom")
        if not is_call:
            place += b',"content_index":0'
        name = f"{SAID[kind]}.delta".encode()
        self._delta_head = b'event: %b\ndata: {"type":"%b",%b,"delta":' % (name, name, place)
        self._delta_tail = b'%b,"sequence_number":%%d}\n\n' % (
            b',"logprobs":[]' if kind == "message" else b""
        )
        out += self._emit_item(ADDED, "in_progress")
        return out if is_call else out + self._emit_part(PART_ADDED, "")

    def _close(self, status: ItemStatus = "completed") -> bytes:
        """Ends the open item, if one is open."""
        kind = self._kind
        if not kind:
            return b""
        text = "".join(self._text)
        if kind == "custom":
            out = self._say_input(text)
        elif kind == "function":
            out = b"" if text else self._delta("{}")  # arguments are an object, if an empty one
            out += self._emit_said({"arguments": "".join(self._text)})
        else:
            said: dict[str, Any] = {"content_index": 0, "text": text}
            out = self._emit_said({**said, "logprobs": []} if kind == "message" else said)
            out += self._emit_part(PART_DONE, text)
        self.output.append(item := self._item(status))
        out += self._emit(DONE, b'"output_index":%d,"item":%b' % (len(self.output) - 1, item))
        self._kind = ""
        return out

    def _search(self, search: WebSearch) -> bytes:
        """A search is told once it has ended: all its events at once."""
        out = self.start() + self._close()
        self._kind = "search"
        id_ = self._profile.item_id(PREFIXES["search"], len(self.output))
        item = shapes.search_item(id_, search, is_done=True)
        place = b'"output_index":%d' % len(self.output)
        begun = shapes.search_item(id_, search, is_done=False)
        out += self._emit(ADDED, b'%b,"item":%b' % (place, begun))
        for state in ("in_progress", "searching", "completed"):
            fields = b'"item_id":"%b",%b' % (id_.encode(), place)
            out += self._emit(f"response.web_search_call.{state}", fields)
        self.output.append(item)
        out += self._emit(DONE, b'%b,"item":%b' % (place, item))
        self._kind = ""
        return out

    def _say_input(self, arguments: str) -> bytes:
        text = shapes.custom_input(arguments)
        delta = b""
        if text:
            delta = self._delta_head + _encode(text) + self._delta_tail % self._sequence
            self._sequence += 1
        return delta + self._emit_said({"input": text})

    def _item(self, status: ItemStatus) -> bytes:
        """The open item as JSON, with the text that it has by now."""
        is_new = status == "in_progress"
        text = "".join(self._text)
        match self._kind:
            case "message":
                return shapes.message_item(self._item_id, None if is_new else text, status)
            case "reasoning":
                return shapes.reasoning_item(self._item_id, None if is_new else text, status)
            case _:
                call_id, callee = self._call
                said = shapes.custom_input(text) if callee.kind == "custom" and text else text
                return shapes.call_item(self._item_id, call_id, callee, said, status)

    # ----------------------------------------------------------------- the end

    def _end(self) -> bytes:
        reason = INCOMPLETE.get(self._finish.reason) if self._finish else None
        out = self.start() + self._close("incomplete" if reason else "completed")
        if reason is not None:
            return out + self._end_with("incomplete", incomplete=reason)
        return out + self._end_with("completed", completed_at_s=self._clock())

    def _end_with(
        self, status: Literal["completed", "incomplete", "failed"], **details: Any
    ) -> bytes:
        self.response = self._profile.body(status, output=self.output, usage=self.usage, **details)
        return self._emit(f"response.{status}", b'"response":' + self.response)

    # ----------------------------------------------------------------- frames

    def _emit_item(self, event: str, status: ItemStatus) -> bytes:
        return self._emit(
            event, b'"output_index":%d,"item":%b' % (len(self.output), self._item(status))
        )

    def _emit_part(self, event: str, text: str) -> bytes:
        part = shapes.text_part if self._kind == "message" else shapes.reasoning_part
        return self._emit(
            event,
            b'"item_id":"%b","output_index":%d,"content_index":0,"part":%b'
            % (self._item_id.encode(), len(self.output), _encode(part(text))),
        )

    def _emit_said(self, fields: dict[str, Any]) -> bytes:
        place = {"item_id": self._item_id, "output_index": len(self.output)}
        return self._emit(f"{SAID[self._kind]}.done", _encode({**place, **fields})[1:-1])

    def _emit(self, event: str, fields: bytes) -> bytes:
        """The one way out: the grammar is checked, then the frame is made."""
        state = NEXT.get((self._state, self._kind, event))
        if state is None:
            raise InternalError(
                "internal", f"{event} is not legal in state {self._state} {self._kind}".rstrip()
            )
        self._state = state
        name = event.encode()
        frame = b'event: %b\ndata: {"type":"%b","sequence_number":%d,%b}\n\n' % (
            name,
            name,
            self._sequence,
            fields,
        )
        self._sequence += 1
        return frame


INCOMPLETE: dict[str, str] = {
    "length": "max_output_tokens",
    "context_length": "max_output_tokens",
    "refusal": "content_filter",
}
"""Why a response is not complete, by the neutral stop reason."""


def encode_response(events: Iterable[Event], out: ResponsesStream) -> bytes:
    """A whole answer as a response object, from the events of one (no ``Failure`` among them).

    Through the stream's machine, so that both have the same items.
    """
    for event in events:
        out.feed(event)
    if out.response is None:
        raise InternalError("internal", "the engine's answer has no end")
    return out.response
