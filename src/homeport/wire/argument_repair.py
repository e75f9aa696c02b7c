"""Arguments of tool calls that an engine sends in a way that no client expects: one of the ``stages``.

Fragments that each repeat all before them, and a JSON text that holds the object as a JSON text.
Arguments that are merely broken pass as they are (docs/dialects.md 3.5).
"""

from typing import Literal

from homeport.wire.call_text import MAX_CALL_CHARS, object_text
from homeport.wire.events import Event, Start, ToolCallDelta, ToolCallStart, UsageReport


class _Arguments:
    """One call's arguments as an engine sends them.

    1. The first character decides: a quote means a JSON string that should hold the object; that
       is held back to its end.
    2. A second fragment that repeats the first may mean that each repeats all before it. It is held
       back until the next one, or the end, tells: an object may hold a twin of its own beginning.
    3. Cumulative: only what is new goes on.
    4. Plain, which is nearly always: fragments pass as they are, broken or not (docs/dialects.md 3.5).
    """

    def __init__(self) -> None:
        self._state: Literal["first", "quoted", "second", "cumulative", "plain"] = "first"
        self._seen = ""
        self._repeats: list[str] = []

    def take(self, fragment: str) -> str:
        """What goes on now."""
        match self._state:
            case "plain":
                return fragment
            case "first" | "quoted":
                return self._first(fragment)
            case "second":
                return self._second(fragment)
            case "cumulative":
                if fragment.startswith(self._seen):
                    return self._new_part(fragment)
                self._seen += fragment
                return fragment

    def rest(self) -> str:
        """What goes on at the end."""
        if self._state == "quoted":  # case 1
            return object_text(self._seen) or self._seen
        if not self._repeats:
            return ""
        if object_text(self._repeats[-1]) is not None:  # case 2
            return self._new_part(self._repeats[-1])
        return "".join(self._repeats)

    def _first(self, fragment: str) -> str:
        self._seen += fragment
        start = self._seen.lstrip()[:1]
        if not start:  # white space
            self._seen = ""
            return fragment
        if start == '"' and len(self._seen) <= MAX_CALL_CHARS:
            self._state = "quoted"
            return ""
        self._state = "second" if start == "{" else "plain"
        return self._seen

    def _second(self, fragment: str) -> str:
        latest = self._repeats[-1] if self._repeats else self._seen
        if not fragment.startswith(latest) or len(self._repeats) * len(latest) > MAX_CALL_CHARS:
            self._state = "plain"
            held, self._repeats = self._repeats, []
            return "".join([*held, fragment])
        if self._repeats and len(fragment) > len(latest):
            self._state = "cumulative"
            return self._new_part(fragment)
        self._repeats.append(fragment)
        return ""

    def _new_part(self, whole: str) -> str:
        new, self._seen, self._repeats = whole[len(self._seen) :], whole, []
        return new


class ArgumentRepair:
    """Arguments that repeat themselves or are quoted twice, as plain fragments."""

    def __init__(self) -> None:
        self._calls: dict[int, _Arguments] = {}

    @property
    def is_idle(self) -> bool:
        return not self._calls

    def feed(self, event: Event) -> list[Event]:
        match event:
            case ToolCallDelta(call=call, arguments=fragment):
                if (arguments := self._calls.get(call)) is None:
                    return [event]
                out = arguments.take(fragment)
                if out == fragment:
                    return [event]
                return [ToolCallDelta(call, out)] if out else []
            case ToolCallStart(call=call):
                self._calls[call] = _Arguments()
                return [event]
            case Start() | UsageReport():
                return [event]
            case _:
                return [*self._let_out(), event] if self._calls else [event]

    def _let_out(self) -> list[Event]:
        rests = [(call, arguments.rest()) for call, arguments in self._calls.items()]
        self._calls = {}
        return [ToolCallDelta(call, rest) for call, rest in rests if rest]
