"""How an answer ended, read off what the client is sent: its stop reason, and how many tools it calls.

Translations and relays need not tell; both are there in the client's own dialect. It is looked
through, a stream piece by piece, for byte patterns: a quote inside a JSON string is escaped, so that
``"stop_reason":"x"`` can only be a key and its value. That does not hold where a tool's input is no
string but JSON of the model's (Anthropic's whole answers), nor where an answer is told twice
(Responses): these are decoded, as far as that takes.
"""

import re
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


class Ending:
    """Of one answer; ``feed`` pieces of a stream, or ``take`` a whole one."""

    __slots__ = ("_dialect", "_has_tools", "stop_reason", "tool_calls")

    def __init__(self, dialect: Dialect, *, has_tools: bool) -> None:
        self._dialect, self._has_tools = dialect, has_tools
        self.stop_reason: str | None = None
        """In the dialect's own words."""
        self.tool_calls = 0

    def __repr__(self) -> str:
        return f"<Ending {self._dialect} {self.stop_reason} tool_calls={self.tool_calls}>"

    def feed(self, data: bytes) -> None:
        """Whole SSE events."""
        find = data.find  # patterns are for the few pieces that have something
        match self._dialect:
            case "openai_chat":
                if self._has_tools and find(b'"tool_calls"') >= 0:
                    self.tool_calls += len(_NAME.findall(data))
                if find(b'"finish_reason":"') >= 0 or find(b'"finish_reason": "') >= 0:
                    self._stopped(_FINISH.findall(data))
            case "anthropic":
                if self._has_tools and find(b'"tool_use"') >= 0:
                    self.tool_calls += len(_TOOL_USE.findall(data))
                if find(b'"stop_reason"') >= 0:
                    self._stopped(_STOP.findall(data))
            case "openai_responses":
                if find(b'"response.completed"') >= 0 or find(b'"response.incomplete"') >= 0:
                    for event in _RESPONSE_ENDS.findall(data):
                        self._take(event, _ResponseEvent)

    def take(self, body: bytes) -> None:
        """A whole answer."""
        if self._dialect == "openai_responses":
            self._take(body, _Response)
        elif self._dialect == "anthropic" and self._has_tools:
            self._take(body, _Message)
        else:
            self.feed(body)

    def _take(self, body: bytes, kind: type["_Whole"]) -> None:
        with suppress(*BAD_BODY):  # an engine's own shape, which the client gets as it is
            self.stop_reason, self.tool_calls = msgspec.json.decode(body, type=kind).ending

    def _stopped(self, reasons: list[bytes]) -> None:
        if reasons:
            self.stop_reason = reasons[-1][:MAX_REASON].decode()


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
