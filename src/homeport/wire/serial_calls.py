"""Tool calls one after the other: for client dialects whose answers are blocks or items in a row.

Engines overlap calls (vLLM and TensorRT-LLM interleave fragments); a reader of blocks expects one to
be complete before the next begins. So a call other than the open one is held back until the open one
is whole (docs/dialects.md 3.3, rule 7).
"""

import msgspec

from homeport.wire.events import (
    End,
    Event,
    Failure,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallStart,
)
from homeport.wire.faults import BAD_BODY


class _HeldCall:
    """A tool call that waits for its turn."""

    def __init__(self, start: ToolCallStart) -> None:
        self.start = start
        self.fragments: list[str] = []


class SerialCalls:
    """Neutral events in, the same out, in an order in which calls do not overlap each other or text.

    A call is over where anything but its own delta follows. ``single_call`` drops all calls but the
    first.
    """

    def __init__(self, *, single_call: bool = False) -> None:
        self._single_call = single_call
        self._held: dict[int, _HeldCall] = {}
        self._open: int | None = None
        self._text: list[str] = []
        self._is_whole: bool | None = None
        """Whether the open call is complete; None where that has to be found out."""
        self._has_called = False

    def __repr__(self) -> str:
        return f"<SerialCalls open={self._open} held={list(self._held)}>"

    def feed(self, event: Event) -> list[Event]:
        if type(event) is ToolCallDelta:  # of calls, by far the commonest
            return self._delta(event)
        match event:
            case ToolCallStart():
                if self._single_call and self._has_called:
                    return []
                self._has_called = True
                self._held[event.call] = _HeldCall(event)
                return self._advance()
            case TextDelta() | ThinkingDelta() | End():
                events = self.leave()
                events.append(event)
                return events
            case Failure():
                self._held.clear()
                return [event]
            case _:
                return [event]

    def _delta(self, delta: ToolCallDelta) -> list[Event]:
        """1. Of the open call: passed on. 2. Of a held one: held. 3. Of one that was dropped, or
        white space after one that was left: nothing. 4. Else the engine contradicts itself.
        """
        if not delta.arguments:
            return []
        if delta.call == self._open:  # case 1
            self._text.append(delta.arguments)
            self._is_whole = None
            return [delta, *self._advance()] if self._held else [delta]
        if delta.call in self._held:  # case 2
            self._held[delta.call].fragments.append(delta.arguments)
            return self._advance()
        if self._single_call or not delta.arguments.strip():  # case 3
            return []
        return [Failure("the engine went on with a tool call that it had completed")]  # case 4

    def _advance(self) -> list[Event]:
        """Opens held calls, in order, as long as the open one is complete."""
        events: list[Event] = []
        while self._held and (self._open is None or self._open_is_whole()):
            events += self._open_next()
        return events

    def leave(self) -> list[Event]:
        """Something else follows: all held calls; what they lack now will not come."""
        events: list[Event] = []
        while self._held:
            events += self._open_next()
        self._open = None
        return events

    def _open_next(self) -> list[Event]:
        held = self._held.pop(next(iter(self._held)))
        self._open, self._text, self._is_whole = held.start.call, held.fragments, None
        arguments = "".join(held.fragments)
        return (
            [held.start, ToolCallDelta(held.start.call, arguments)] if arguments else [held.start]
        )

    def _open_is_whole(self) -> bool:
        if self._is_whole is None:
            last = self._text[-1].rstrip() if self._text else ""
            # A whole object ends so; only then is it worth to parse it.
            self._is_whole = last.endswith("}") and _is_object("".join(self._text))
        return self._is_whole


def _is_object(text: str) -> bool:
    try:
        return isinstance(msgspec.json.decode(text), dict)
    except BAD_BODY:
        return False
