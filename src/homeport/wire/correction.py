"""One more try for a model whose answer was meant as a tool call and is none.

``CallCheck`` is the last stage. It holds back an answer that begins with a mark of a tool call, which
``rescue`` could not make a call of: the tool does not exist, or the text cannot be read. If the
answer ends so, nothing of it goes on, and ``corrected`` is the request that tells the model. That is
only of use before anything visible has been sent, and only done where the user asked for it: it costs
a second answer. Broken arguments are no case for it; those the client's model sees itself
(docs/dialects.md 3.5), and it knows the tool that was meant.
"""

from typing import Final

import msgspec

from homeport.wire.call_forms import FORMS
from homeport.wire.call_text import MAX_HELD_CHARS, fit_literal, skip_space
from homeport.wire.events import (
    End,
    Event,
    Failure,
    Finish,
    Request,
    Text,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
    Turn,
)
from homeport.wire.rescue import STOPPED_BY_ITSELF

MARKS: Final = tuple(
    sorted(
        {
            head[0]
            for form in FORMS
            if form.is_marked
            for head in form.compiled
            if head[0][0] in "<["
        }
    )
)
"""What nothing but a tool call begins with."""

MAX_NAMES: Final = 50
"""Tools that the correction names: a reminder, the prompt holds them all."""

CORRECTION: Final = (
    "Your last message was meant as a tool call, but it could not be read as one, or it names a tool "
    "that does not exist. The tools are: {}. Send the call again in the required format, or answer "
    "without a tool."
)


class CallCheck:
    """Holds back what looks like a broken call; ``broken`` is its text, when it was one."""

    def __init__(self) -> None:
        self.broken: str | None = None
        self._held: list[Event] = []
        self._text = ""
        self._is_marked = False
        self._is_passing = False

    def __repr__(self) -> str:
        return f"<CallCheck held={len(self._text)} broken={self.broken is not None}>"

    @property
    def is_idle(self) -> bool:
        return self._is_passing

    def feed(self, event: Event) -> list[Event]:
        if self._is_passing:
            return [event]
        if self.broken is not None:
            return []
        match event:
            case TextDelta(text=text):
                self._held.append(event)
                self._text += text
                return [] if self._may_be_call() else self._let_out()
            case ToolCallStart() | ToolCallDelta() | Failure() | End():
                return [*self._let_out(), event]
            case Finish(reason=reason):
                if not self._is_marked or reason not in STOPPED_BY_ITSELF:
                    return [*self._let_out(), event]
                self.broken, self._held = self._text, []
                return []
            case _ if self._held:
                self._held.append(event)
                return []
            case _:
                return [event]

    def _may_be_call(self) -> bool:
        if len(self._text) > MAX_HELD_CHARS:
            return False
        if not self._is_marked:
            at = skip_space(self._text, 0)
            verdicts = {fit_literal(mark, self._text, at) for mark in MARKS}
            self._is_marked = "yes" in verdicts
            return verdicts != {"no"}
        return True

    def _let_out(self) -> list[Event]:
        self._is_passing = True
        events, self._held = self._held, []
        return events


def corrected(request: Request, broken: str) -> Request:
    """The same request, continued by the broken call and what is wrong with it. It only grows, so
    that the engine's cache of the prompt holds."""
    names = ", ".join(tool.name for tool in request.tools[:MAX_NAMES])
    if len(request.tools) > MAX_NAMES:
        names += ", …"
    turns = (
        *request.turns,
        Turn("assistant", (Text(broken),)),
        Turn("user", (Text(CORRECTION.format(names)),)),
    )
    return msgspec.structs.replace(request, turns=turns)
