"""How an answer ended, read off what the client is sent: its stop reason, and how many tools it calls.

Translations and relays need not tell; both are there in the client's own dialect. It is looked
through, a stream piece by piece, for byte patterns: a quote inside a JSON string is escaped, so that
``"stop_reason":"x"`` can only be a key and its value. That does not hold where a tool's input is no
string but JSON of the model's (Anthropic's whole answers), nor where an answer is told twice
(Responses): these are decoded, as far as that takes.
"""

import re
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import Final

import msgspec

from homeport.wire.faults import BAD_BODY, Dialect

MAX_REASON: Final = 40
_FINISH: Final = re.compile(rb'"finish_reason": ?"(\w+)"')
_STOP: Final = re.compile(rb'"stop_reason": ?"(\w+)"')
_NAME: Final = re.compile(rb'"name": ?"[^"]')
_TOOL_USE: Final = re.compile(rb'"type": ?"tool_use"')
_RESPONSE_ENDS: Final = re.compile(
    rb'^data: (\{.*"type": ?"response\.(?:completed|incomplete)".*\})\r?$', re.MULTILINE
)
_CALLS: Final = ("function_call", "custom_tool_call")


class Ending(ABC):
    """Of one answer (``ending_of``); ``feed`` pieces of a stream, or ``take`` a whole one.

    Every piece of every stream comes by here: patterns are for the few that have something.
    """

    __slots__ = ("_has_tools", "stop_reason", "tool_calls")

    def __init__(self, has_tools: bool) -> None:
        self._has_tools = has_tools
        self.stop_reason: str | None = None
        """In the dialect's own words."""
        self.tool_calls = 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.stop_reason} tool_calls={self.tool_calls}>"

    @abstractmethod
    def feed(self, data: bytes) -> None:
        """Whole SSE events."""

    def take(self, body: bytes) -> None:
        """A whole answer."""
        self.feed(body)

    def _stopped(self, at: int, data: bytes, pattern: re.Pattern[bytes]) -> None:
        """Takes the last value that is a word; ``at`` is where the last one of any kind stands."""
        if found := pattern.match(data, at):
            self.stop_reason = found[1][:MAX_REASON].decode()
        elif words := pattern.findall(data):  # null, or "", comes after it
            self.stop_reason = words[-1][:MAX_REASON].decode()

    def _take(self, body: bytes, kind: type["_Whole"]) -> None:
        with suppress(*BAD_BODY):  # an engine's own shape, which the client gets as it is
            self.stop_reason, self.tool_calls = msgspec.json.decode(body, type=kind).ending


class _ChatEnding(Ending):
    __slots__ = ()

    def feed(self, data: bytes) -> None:
        if self._has_tools and b'"tool_calls"' in data:
            self.tool_calls += len(_NAME.findall(data))
        # Most chunks have the key, and null.
        if b'"finish_reason":"' in data or b'"finish_reason": "' in data:
            self._stopped(data.rfind(b'"finish_reason":'), data, _FINISH)


class _MessagesEnding(Ending):
    __slots__ = ()

    def feed(self, data: bytes) -> None:
        if self._has_tools and b'"tool_use"' in data:
            self.tool_calls += len(_TOOL_USE.findall(data))
        if b'"stop_reason":"' in data or b'"stop_reason": "' in data:
            self._stopped(data.rfind(b'"stop_reason":'), data, _STOP)

    def take(self, body: bytes) -> None:
        if self._has_tools:
            self._take(body, _Message)
        else:
            self.feed(body)


class _ResponsesEnding(Ending):
    __slots__ = ()

    def feed(self, data: bytes) -> None:
        if b'"response.completed"' in data or b'"response.incomplete"' in data:
            for event in _RESPONSE_ENDS.findall(data):
                self._take(event, _ResponseEvent)

    def take(self, body: bytes) -> None:
        self._take(body, _Response)


_ENDINGS: Final[dict[Dialect, type[Ending]]] = {
    "openai_chat": _ChatEnding,
    "anthropic": _MessagesEnding,
    "openai_responses": _ResponsesEnding,
}


def ending_of(dialect: Dialect, *, has_tools: bool) -> Ending:
    """Of an answer in that dialect, to a request with tools or without."""
    return _ENDINGS[dialect](has_tools)


class _Whole(msgspec.Struct):
    @property
    def ending(self) -> tuple[str | None, int]:
        return None, 0


class _Typed(msgspec.Struct):
    type: str = ""


class _Message(_Whole):
    stop_reason: str | None = None
    content: list[_Typed] = []

    @property
    def ending(self) -> tuple[str | None, int]:
        calls = sum(block.type == "tool_use" for block in self.content)
        return self.stop_reason and self.stop_reason[:MAX_REASON], calls


class _Details(msgspec.Struct):
    reason: str | None = None


class _Response(_Whole):
    """Its status is the nearest thing to a stop reason that the dialect has."""

    status: str | None = None
    incomplete_details: _Details | None = None
    output: list[_Typed] = []

    @property
    def ending(self) -> tuple[str | None, int]:
        why = self.incomplete_details.reason if self.incomplete_details else None
        reason = why or self.status
        calls = sum(item.type in _CALLS for item in self.output)
        return reason and reason[:MAX_REASON], calls


class _ResponseEvent(_Whole):
    response: _Response

    @property
    def ending(self) -> tuple[str | None, int]:
        return self.response.ending
