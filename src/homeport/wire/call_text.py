"""Reading a tool call that stands in text: does it begin, where does it end, what does it say.

The forms themselves are a table, ``call_forms``; here is what reads any row of it. A head is a
pattern in a small language of its own, because it must also answer "not yet"::

    ~    any white space, or none            @    the name of a declared tool
    #    one or more letters and digits      ^    here the body begins (matches nothing)
    «x»  x or nothing                        anything else stands for itself

Every answer is final: a text that fits, or cannot fit any more, stays so whatever follows. That is
what makes the result independent of where the network cut the text.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple

import msgspec

from homeport.wire.events import Tool
from homeport.wire.faults import BAD_BODY

MAX_HEAD_CHARS: Final = 512
"""Until the tool's name is known. The longest head has about 100 characters, a name at most 128
(OpenAI: 64, Anthropic: 128)."""

MAX_CALL_CHARS: Final = 256 * 1024
"""One call. Files written by a tool call are seldom over 100 KB; a model at 50 tokens a second
needs half an hour for this much."""

MAX_HELD_CHARS: Final = MAX_CALL_CHARS + MAX_HEAD_CHARS + 64
"""All that is ever held back: a call, what stands behind it, and a mark."""

_SPACE: Final = " \t\r\n"
_SPACES: Final = re.compile(f"[{_SPACE}]*")


class Found(NamedTuple):
    """A call: its tool, and its arguments as JSON text (broken text is kept as it is)."""

    name: str
    arguments: str


class DeclaredTools:
    """The tools that the client declared: the only names that are ever recognised."""

    def __init__(self, tools: Sequence[Tool]) -> None:
        self._schemas = {tool.name: tool.schema for tool in tools if tool.name}
        self.names = sorted(self._schemas, key=len, reverse=True)  # the longest fit counts

    def __contains__(self, name: object) -> bool:
        return name in self._schemas

    def __bool__(self) -> bool:
        return bool(self._schemas)

    def types(self, tool: str, parameter: str) -> frozenset[str]:
        """The JSON types that the parameter's schema names; empty where it names none."""
        return _types(self._schemas[tool]).get(parameter, frozenset())


@lru_cache(maxsize=512)
def _types(schema: bytes) -> dict[str, frozenset[str]]:
    try:
        properties = msgspec.json.decode(schema)["properties"].items()
    except (*BAD_BODY, KeyError, TypeError, AttributeError):
        return {}
    return {name: frozenset(_types_of(node)) for name, node in properties}


def _types_of(node: Any) -> Iterable[str]:
    if not isinstance(node, dict):
        return
    named = node.get("type")
    yield from (named if isinstance(named, list) else [named] if isinstance(named, str) else [])
    for key in ("anyOf", "oneOf"):
        choices = node.get(key)
        for choice in choices if isinstance(choices, list) else []:
            if isinstance(choice, dict) and isinstance(choice.get("type"), str):
                yield choice["type"]
    if isinstance(node.get("enum"), list) and any(isinstance(v, str) for v in node["enum"]):
        yield "string"


# --------------------------------------------------------------------------- heads


class Fit(NamedTuple):
    """Whether a text fits a pattern: ``more`` means that it may yet, with more text."""

    verdict: Literal["yes", "no", "more"]
    end: int = 0
    body: int = 0
    name: str = ""


_NO: Final = Fit("no")
_MORE: Final = Fit("more")

Head = tuple[str, ...]


def compile_head(pattern: str) -> list[Head]:
    """The pattern's alternatives, each as literals and one-character signs."""
    before, opened, rest = pattern.partition("«")
    if opened:
        option, _, after = rest.partition("»")
        return compile_head(before + option + after) + compile_head(before + after)
    return [tuple(piece for piece in re.split(r"([~@#^])", pattern) if piece)]


def fit(head: Head, text: str, at: int, names: Sequence[str]) -> Fit:
    """How ``text`` from ``at`` on fits ``head``."""
    name, body = "", at
    for i, piece in enumerate(head):
        if piece == "~":
            at = skip_space(text, at)
        elif piece == "^":
            body = at
        elif piece == "#":
            start = at
            while at < len(text) and text[at].isalnum():
                at += 1
            if at == start:
                return _NO if at < len(text) else _MORE
        elif piece == "@":
            return _fit_name(head[i + 1 :], text, at, body, names)
        else:
            verdict = fit_literal(piece, text, at)
            if verdict != "yes":
                return _NO if verdict == "no" else _MORE
            at += len(piece)
    return Fit("yes", at, body, name)


def fit_literal(literal: str, text: str, at: int) -> Literal["yes", "no", "more"]:
    if text.startswith(literal, at):
        return "yes"
    rest = text[at : at + len(literal)]
    return "more" if len(rest) < len(literal) and literal.startswith(rest) else "no"


def _fit_name(rest: Head, text: str, at: int, body: int, names: Sequence[str]) -> Fit:
    for name in names:
        verdict = fit_literal(name, text, at)
        if verdict == "more":
            return _MORE
        if verdict == "yes":
            found = fit(rest, text, at + len(name), names)
            if found.verdict == "more":
                return _MORE
            if found.verdict == "yes":
                start = found.body if "^" in rest else body
                return Fit("yes", found.end, start, name)
    return _NO


def skip_space(text: str, at: int) -> int:
    found = _SPACES.match(text, at)
    return found.end() if found else at


# --------------------------------------------------------------------------- where a body ends


class JsonScan:
    """Finds the end of the JSON value that starts at ``start``, reading no character twice.

    A closing mark outside a string ends the value too: it was broken off (a brace is missing).
    """

    def __init__(self, start: int, close: str) -> None:
        self._at, self._close = start, close
        self._depth = 0
        self._in_string = False

    def end(self, text: str) -> int | None:
        """None: it needs more text."""
        while True:
            mark = (_IN_STRING if self._in_string else _OUTSIDE).search(text, self._at)
            if mark is None:
                self._at = len(text)
                return None
            at, sign = mark.start(), mark.group()
            self._at = at + 1
            if sign == '"':
                self._in_string = not self._in_string
            elif sign == "\\":
                if at + 1 == len(text):
                    self._at = at
                    return None
                self._at = at + 2
            elif sign == "<":
                verdict = fit_literal(self._close, text, at) if self._close else "no"
                if verdict == "more":
                    self._at = at
                    return None
                if verdict == "yes":
                    return at
            else:
                self._depth += 1 if sign in "{[" else -1
                if self._depth <= 0:
                    return at + 1


_OUTSIDE: Final = re.compile(r'["{}\[\]<]')
_IN_STRING: Final = re.compile(r'["\\]')


class TagScan:
    """Finds the tag that ends a list of parameters. Within a parameter the same text may stand, so
    that only one counts which follows the end of a parameter, or the head itself."""

    def __init__(self, start: int, close: str, parameter_close: str) -> None:
        self._start = self._at = start
        self._close, self._parameter_close = close, parameter_close

    def end(self, text: str) -> int | None:
        while (at := text.find(self._close, self._at)) != -1:
            before = text[max(self._start, at - 128) : at].rstrip(_SPACE)
            if before.endswith(self._parameter_close) or (not before and at - self._start < 128):
                return at
            self._at = at + 1
        self._at = max(self._at, len(text) - len(self._close) + 1)
        return None


# --------------------------------------------------------------------------- what a body says

Read = Callable[[str, str, DeclaredTools, bool], list[Found] | None]
"""``(body, name, tools, is_marked)``: the calls, or None where it is no call. Where the form has
marks of its own, broken arguments are passed on as they are (docs/dialects.md 3.5: the client's
model sees its mistake); without marks, what is not whole is no call."""

_raw_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_raw_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_string = msgspec.json.Decoder(str).decode

_NAME_KEYS: Final = ("name", "tool_name")  # tool_name: Cohere
_ARGUMENT_KEYS: Final = ("arguments", "parameters", "input", "args")
_OTHER_KEYS: Final = frozenset({"id", "type", "tool_call_id", "function"})


def object_text(text: str) -> str | None:
    """``text`` if it is a JSON object; the object inside, if it is a string that holds one."""
    try:
        _raw_object(text)
        return text
    except BAD_BODY:
        pass
    try:
        inner = _string(text)
        _raw_object(inner)
        return inner
    except BAD_BODY:
        return None


def json_calls(body: str, name: str, tools: DeclaredTools, is_marked: bool) -> list[Found] | None:
    """The body is an object that names its tool, or a list of such objects."""
    try:
        items = _raw_list(body) if body.startswith("[") else [msgspec.Raw(body.encode())]
        objects = [_raw_object(item) for item in items]
    except BAD_BODY:
        return [Found(name, _broken_arguments(body))] if is_marked and name else None
    found = [_call_in(fields, tools, is_marked) for fields in objects]
    calls = [call for call in found if call is not None]
    return calls if calls and len(calls) == len(found) else None


def _call_in(fields: dict[str, msgspec.Raw], tools: DeclaredTools, is_marked: bool) -> Found | None:
    try:
        if "function" in fields and bytes(fields["function"]).startswith(b"{"):  # OpenAI's shape
            fields = _raw_object(fields["function"])
        name = next((_string(fields[key]) for key in _NAME_KEYS if key in fields), "")
    except BAD_BODY:
        return None
    if name not in tools:
        return None
    key = next((key for key in _ARGUMENT_KEYS if key in fields), None)
    raw = bytes(fields[key]).decode() if key else "null"
    arguments = object_text(raw)
    if arguments is not None:
        is_call = is_marked or not (set(fields) - {*_NAME_KEYS, *_OTHER_KEYS, key})
        return Found(name, arguments) if is_call else None
    if not is_marked:
        return None  # any JSON with a "name" that happens to be a tool's
    return Found(name, "{}" if raw == "null" else raw)


_ARGUMENTS: Final = re.compile(r'"(?:arguments|parameters)"\s*:\s*')


def _broken_arguments(body: str) -> str:
    """The arguments of an object that does not parse, as well as they can be cut out."""
    found = _ARGUMENTS.search(body)
    if found is None:
        return "{}"
    rest = body[found.end() :].rstrip(_SPACE)
    if body.startswith("["):
        rest = rest.removesuffix("]").rstrip(_SPACE)
    if object_text(rest) is not None:  # only the outer brace was missing
        return rest
    return rest[:-1].rstrip(_SPACE) if rest.endswith("}") else rest


def json_arguments(
    body: str, name: str, tools: DeclaredTools, is_marked: bool
) -> list[Found] | None:
    """The body is the arguments; the head had the name."""
    return [Found(name, object_text(body) or body)]


class Tags(NamedTuple):
    """How a form writes a parameter: ``open`` name ``name_end`` … ``value_open`` value ``close``."""

    open: str
    name_end: str
    value_open: str
    close: str

    def arguments(
        self, body: str, name: str, tools: DeclaredTools, is_marked: bool
    ) -> list[Found] | None:
        """The parameters, with the types that the tool's schema gives them."""
        values: dict[str, Any] = {}
        at, has_close = skip_space(body, 0), True
        while at < len(body):
            key_end = body.find(self.name_end, at + len(self.open))
            if not body.startswith(self.open, at) or key_end == -1:
                return None
            key = body[at + len(self.open) : key_end].strip()
            start = body.find(self.value_open, key_end + len(self.name_end))
            if start == -1:
                return None
            hint = body[key_end + len(self.name_end) : start].strip()
            start += len(self.value_open)
            end = body.find(self.close, start) if has_close else -1
            if end == -1:  # some models forget the end tags (qwen3-coder, small quantisations)
                has_close = False
                end = body.find(self.open, start)
                end = len(body) if end == -1 else end
                text, at = body[start:end].strip(), end
            else:
                text, at = _one_line_end_off(body[start:end]), end + len(self.close)
            values[key] = _typed(text, tools.types(name, key), hint)
            at = skip_space(body, at)
        try:
            return [Found(name, msgspec.json.encode(values).decode())]
        except BAD_BODY:
            return None


def _one_line_end_off(value: str) -> str:
    """Templates put values on lines of their own."""
    return value.removeprefix("\n").removesuffix("\n")


def _typed(text: str, types: frozenset[str], hint: str = "") -> Any:
    """A printed value as JSON's: a string where the schema allows one, else what it reads as."""
    if hint == 'string="true"' or ("string" in types and not hint):
        return text
    if "boolean" in types and text.strip().lower() in ("true", "false"):
        return text.strip().lower() == "true"  # Python's spelling is common
    try:
        value = msgspec.json.decode(text)
    except BAD_BODY:
        return text
    if types or hint or isinstance(value, dict | list):
        return value
    return text  # nothing is known: "5" may well be meant as a string
