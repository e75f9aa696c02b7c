"""Tool calls that are printed as Python: ``[get(city='Paris', days=3), get_all()]``.

Nothing is ever evaluated. ``PythonScan`` finds where the calls end, ``python_calls`` reads them token
by token: a declared name, and named arguments whose values are literals, which become JSON. Anything
else (an operator, a variable, an argument without a name) means that it is no call, but code.
"""

import json
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec

from homeport.wire.call_text import DeclaredTools, Found, fit_literal
from homeport.wire.faults import BAD_BODY

_raw_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

_SIGNS: Final = re.compile(r"""["'()\[\]{}<]""")
_IN_STRING: Final = {
    quote: re.compile(rf"\\|{quote}") for sign in "\"'" for quote in (sign, 3 * sign)
}


class PythonScan:
    """Finds the end of the list that starts at ``start``, reading no character twice; where there is
    no list, the calls go up to ``close``."""

    def __init__(self, start: int, close: str) -> None:
        self._start = self._at = start
        self._close = close
        self._depth = 0
        self._quote = ""
        """That of the string inside of which ``_at`` stands."""

    def end(self, text: str) -> int | None:
        """None: it needs more text."""
        is_list = text.startswith("[", self._start)
        while True:
            if self._quote:
                if not self._leave_string(text):
                    return None
                continue
            mark = _SIGNS.search(text, self._at)
            if mark is None:
                self._at = len(text)
                return None
            at, sign = mark.start(), mark.group()
            self._at = at
            if sign in "\"'":
                if len(text) - at < 3:  # one quote or three?
                    return None
                self._quote = 3 * sign if text.startswith(3 * sign, at) else sign
                self._at = at + len(self._quote)
            elif sign == "<":
                verdict = fit_literal(self._close, text, at) if self._close else "no"
                if verdict != "no":
                    return at if verdict == "yes" else None
                self._at = at + 1
            else:
                self._at = at + 1
                self._depth += 1 if sign in "([{" else -1
                if is_list and self._depth <= 0:
                    return self._at

    def _leave_string(self, text: str) -> bool:
        """False: its end has not come yet."""
        while (mark := _IN_STRING[self._quote].search(text, self._at)) is not None:
            if mark.group() != "\\":
                self._at, self._quote = mark.end(), ""
                return True
            self._at = mark.end() + 1  # behind what is escaped, which may not be there yet
        self._at = max(self._at, len(text) - len(self._quote) + 1)
        return False


_TOKEN: Final = re.compile(
    r"""
      (?P<space>[ \t\r\n]+)
    | (?P<text>\"\"\"(?:[^\\]|\\.)*?\"\"\" | '''(?:[^\\]|\\.)*?'''
             | "[^"\\]*(?:\\.[^"\\]*)*" | '[^'\\]*(?:\\.[^'\\]*)*')
    | (?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
    | (?P<word>[A-Za-z_][\w.-]*)
    | (?P<sign>[\[\]{}():=,;])
    """,
    re.VERBOSE | re.DOTALL,
)

_WORDS: Final = {
    "True": "true",
    "False": "false",
    "None": "null",
    **{word: word for word in ("true", "false", "null")},  # Olmo 3
}


class _Token(NamedTuple):
    kind: str
    text: str


class _NoCallError(Exception):
    pass


def python_calls(body: str, name: str, tools: DeclaredTools, is_marked: bool) -> list[Found] | None:
    """Calls in brackets, or one after the other. All of them must be calls of declared tools."""
    try:
        return list(_Reader(body, tools).calls())
    except (_NoCallError, *BAD_BODY):
        return None


class _Reader:
    def __init__(self, body: str, tools: DeclaredTools) -> None:
        self._tools = tools
        self._tokens = [token for token in _tokens(body) if token.kind != "space"]
        self._at = 0

    def calls(self) -> Iterator[Found]:
        is_list = self._takes("[")
        while self._at < len(self._tokens) and not (is_list and self._sees("]")):
            yield self._call()
            if not (self._takes(",") or self._takes(";") or not is_list or self._sees("]")):
                raise _NoCallError
        if is_list and not self._takes("]"):
            raise _NoCallError
        if self._at < len(self._tokens):
            raise _NoCallError

    def _call(self) -> Found:
        name = self._take("word")
        if name not in self._tools or not self._takes("("):
            raise _NoCallError
        arguments: list[str] = []
        while not self._takes(")"):
            key = self._take("word")
            if not self._takes("="):
                raise _NoCallError
            arguments.append(f"{json.dumps(key)}: {self._value()}")
            if not (self._takes(",") or self._sees(")")):
                raise _NoCallError
        text = f"{{{', '.join(arguments)}}}"
        _raw_object(text)
        return Found(name, text)

    def _value(self) -> str:
        """The literal that ends before the next comma or bracket of the call."""
        parts: list[str] = []
        depth = 0
        is_behind_literal = False
        while depth or not (self._sees(",") or self._sees(")")):
            kind, text = self._next()
            if text in ("(", ")", "=", ";") or (is_behind_literal and kind != "sign"):
                raise _NoCallError
            is_behind_literal = kind != "sign"
            if kind == "sign":
                depth += (text in "[{") - (text in "]}")
                parts.append(f"{text} " if text in ",:" else text)
            else:
                parts.append(_literal(kind, text))
        return "".join(parts)

    def _sees(self, sign: str) -> bool:
        return self._tokens[self._at : self._at + 1] == [("sign", sign)]

    def _takes(self, sign: str) -> bool:
        found = self._sees(sign)
        self._at += found
        return found

    def _take(self, kind: str) -> str:
        token = self._next()
        if token.kind != kind:
            raise _NoCallError
        return token.text

    def _next(self) -> _Token:
        if self._at == len(self._tokens):
            raise _NoCallError
        self._at += 1
        return self._tokens[self._at - 1]


def _tokens(body: str) -> Iterator[_Token]:
    at = 0
    while at < len(body):
        found = _TOKEN.match(body, at)
        if found is None:
            raise _NoCallError
        yield _Token(found.lastgroup or "", found.group())
        at = found.end()


def _literal(kind: str, text: str) -> str:
    if kind == "number":
        return text
    if kind == "word" and text in _WORDS:
        return _WORDS[text]
    if kind != "text":
        raise _NoCallError
    quotes = 3 if text[:3] in ('"""', "'''") and len(text) >= 6 else 1
    value = _ESCAPE.sub(_unescaped, text[quotes:-quotes])
    # Two halves of a character, as JSON escapes them, become one.
    whole = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return json.dumps(whole, ensure_ascii=False)


_ESCAPE: Final = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U000[0-9a-fA-F]{5}|.)", re.DOTALL)
_ESCAPED: Final = {
    "n": "\n",
    "t": "\t",
    "r": "\r",
    "b": "\b",
    "f": "\f",
    "v": "\v",
    "a": "\a",
    "0": "\0",
    "\\": "\\",
    "'": "'",
    '"': '"',
    "/": "/",
    "\n": "",
}


def _unescaped(found: re.Match[str]) -> str:
    code = found[1]
    if len(code) > 1:
        return chr(int(code[1:], 16))
    return _ESCAPED.get(code, found[0])  # as Python: an unknown escape stays as it is
