"""Tool calls that a model printed as text, as calls: one of the ``stages``.

The rescue is guarded (docs/dialects.md 3.10): only what the client declared as a tool counts, only
where nothing visible has been sent yet, and only a text that *begins* with a known form. Prose first
means that all of it stays prose. The forms are a table, ``call_forms``; ``call_text`` reads them.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from homeport.wire.call_forms import END_OF_TURN, FORMS, Form
from homeport.wire.call_python import PythonScan
from homeport.wire.call_text import (
    MAX_CALL_CHARS,
    MAX_HEAD_CHARS,
    MAX_HELD_CHARS,
    DeclaredTools,
    Fit,
    Found,
    JsonScan,
    TagScan,
    fit,
    fit_literal,
    skip_space,
)
from homeport.wire.events import (
    End,
    Event,
    Failure,
    Finish,
    Start,
    StopReason,
    TextDelta,
    ThinkingDelta,
    Tool,
    ToolCallDelta,
    ToolCallStart,
)

STOPPED_BY_ITSELF: Final[frozenset[StopReason]] = frozenset({"end", "tool_use", "stop_sequence"})


class CallRescue:
    """A text that is a tool call in a known form, as the call.

    1. Before anything visible: held back while it may still begin a call of a declared tool. That is
       decided within a few characters; prose passes with its first letter.
    2. A call has begun: held back up to its end. A marked form's call goes on at once, an unmarked
       one's waits until the answer has ended without anything else.
    3. Behind a call: another one, marks that are no text, or text, which ends the rescue.
    4. When the model stopped by itself, forgotten end tags do not count. Otherwise half a call is
       text, as it was.

    The finish reason becomes ``tool_use`` when there was a call and nothing was cut short.
    """

    def __init__(self, tools: Sequence[Tool], forms: tuple[Form, ...] = FORMS) -> None:
        self._tools = DeclaredTools(tools)
        self._forms = forms
        self._is_watching = bool(self._tools)
        self._held = ""
        self._kept = 0
        """Where the text begins that would be let out."""
        self._at = 0
        """Where reading goes on, outside of a call."""
        self._form: Form | None = None
        self._head = Fit("no")
        self._scan: JsonScan | TagScan | PythonScan | None = None
        """Set inside of a call."""
        self._waiting: list[Found] = []
        """Calls of an unmarked form."""
        self._seed = ""
        self.calls = 0
        """How many calls were made of text."""

    def __repr__(self) -> str:
        form = self._form.name if self._form else None
        return f"<CallRescue {form} held={len(self._held)} calls={self.calls}>"

    @property
    def is_idle(self) -> bool:
        return not self._is_watching

    def feed(self, event: Event) -> list[Event]:
        match event:
            case TextDelta(text=text) if self._is_watching:
                held, self._held = self._held, ""
                held += text  # in place, as long as this is the only reference
                self._held = held
                return self._decide(None)
            case Start(id=id_) if id_:
                self._seed = id_
            case ThinkingDelta() if self._held.strip():
                return [*self._let_out(), event]
            case ToolCallStart(call=call, id=id_, name=name):
                return [*self._let_out(), ToolCallStart(call + self.calls, id_, name)]
            case ToolCallDelta(call=call, arguments=arguments) if self.calls:
                return [ToolCallDelta(call + self.calls, arguments)]
            case Finish(reason=reason):
                events = self._decide(reason)
                is_call = self.calls and reason in STOPPED_BY_ITSELF
                return [*events, Finish("tool_use") if is_call else event]
            case Failure() | End():
                return [*self._let_out(), event]
        return [event]

    def _decide(self, reason: StopReason | None) -> list[Event]:
        """``reason``: why the engine stopped; None while more may come."""
        events: list[Event] = []
        while self._is_watching:
            step = self._in_call(reason) if self._scan else self._between(reason)
            if step is None:
                if len(self._held) - self._kept > MAX_HELD_CHARS:
                    step = self._let_out()
                else:
                    break
            events += step
        return events

    def _between(self, reason: StopReason | None) -> list[Event] | None:
        """None: more text is needed. (cases 1 and 3)"""
        at = skip_space(self._held, self._at)
        if at - self._at > MAX_HEAD_CHARS:
            return self._let_out()
        if at == len(self._held):
            return None if reason is None else self._end()
        found = self._first_fit(at, has_ended=reason is not None)
        if found is None:
            return None
        if found.verdict == "yes" and self._form is not None:
            self._head, self._scan = found, self._form.scan(found.body)
            return []
        if self._form is None:
            return self._let_out()
        for mark in (*self._form.after, *END_OF_TURN):
            verdict = fit_literal(mark, self._held, at)
            if verdict == "yes":
                self._at = at + len(mark)
                if self._form.is_marked:
                    self._kept = self._at
                return []
            if verdict == "more" and reason is None:
                return None
        return self._let_out()

    def _first_fit(self, at: int, *, has_ended: bool) -> Fit | None:
        """The first head that fits, which decides the answer's form; None while that is open."""
        for form in (self._form,) if self._form else self._forms:
            for head in form.compiled:
                found = fit(head, self._held, at, self._tools.names)
                end = len(self._held) if found.verdict == "more" else found.end
                if found.verdict == "no" or end - self._at > MAX_HEAD_CHARS:
                    continue
                if found.verdict == "yes":
                    self._form = form
                    return found
                if not has_ended:
                    return None
        return Fit("no")

    def _in_call(self, reason: StopReason | None) -> list[Event] | None:
        """None: more text is needed. (cases 2 and 4)"""
        assert self._scan is not None
        assert self._form is not None
        end = self._scan.end(self._held)
        if end is None:
            if reason is None or len(self._held) - self._kept > MAX_HELD_CHARS:
                return None
            end = self._late_end(reason)
        if end is None or end - self._kept > MAX_CALL_CHARS:
            return self._let_out()
        body = self._held[self._head.body : end]
        found = self._form.read(body, self._head.name, self._tools, self._form.is_marked)
        if found is None:
            return self._let_out()
        self._scan, self._at = None, end
        if not self._form.is_marked:
            self._waiting += found
            return []
        self._kept = end
        return self._calls(found)

    def _late_end(self, reason: StopReason) -> int | None:
        """Where a call ends whose end was not to be seen."""
        assert self._form is not None
        if reason not in STOPPED_BY_ITSELF:
            return None
        close = self._held.rfind(self._form.close, self._head.body) if self._form.close else -1
        if close == -1 and isinstance(self._scan, TagScan | PythonScan):
            return len(self._held)  # its end tags are forgotten, or eaten as stop tokens
        return None if close == -1 else close

    def _end(self) -> list[Event]:
        """The answer has ended behind a call, or was white space only."""
        if self._form is None:
            return self._let_out()
        self._is_watching, self._held = False, ""
        return self._calls(self._waiting)

    def _let_out(self) -> list[Event]:
        """Ends the rescue: what is held back is text."""
        if not self._is_watching:
            return []
        text = self._held[self._kept :]
        self._is_watching, self._held, self._scan = False, "", None
        return [TextDelta(text)] if text else []

    def _calls(self, found: Iterable[Found]) -> list[Event]:
        events: list[Event] = []
        seed = "".join(c for c in self._seed if c.isascii() and c.isalnum())[-32:]
        for name, arguments in found:
            number = self.calls
            events.append(ToolCallStart(number, f"toolu_{seed}t{number}", name))
            events.append(ToolCallDelta(number, arguments))
            self.calls += 1
        return events
