"""Captures: what was said in a request, where the user asked for that, without secrets, and cut.

Nothing is captured unless ``store.capture`` names the request's key, model or session. Then its body
and its answer are redacted and cut *before* anything is written, in the recorder's thread:

- A body is JSON: it is decoded, each text in it redacted by itself (a secret may be spelled with
  escapes), and the values of keys that sound like secrets are hidden whole.
- A stream says a text in pieces, one token an event: redacted as bytes, no pattern would ever match.
  So what was said is put together first; the capture has it as a list of ``[kind, text]``.
- What is too long to be decoded is redacted as plain text.

Hidden are the key that the client came with, what looks like a key, a token, an ``Authorization`` line
or a private key, and what the user's own patterns match. Patterns are no proof: what a capture holds
is still to be treated as what was said.
"""

import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Any, Final

import msgspec

from homeport.settings import CaptureSettings
from homeport.store.base import Capture
from homeport.wire.faults import BAD_BODY
from homeport.wire.sse import Splitter, parse_block

HIDDEN: Final = "(hidden)"
CUT: Final = " … (cut)"
RAW_FACTOR: Final = 32
"""A stream takes some two hundred bytes for a token of four: so many times the limit is kept of it."""
MAX_DECODED_BYTES: Final = 4 * 1024 * 1024
"""A larger body (images) is not decoded."""

PATTERNS: Final = (
    r"(?i)\b(?:proxy-)?authorization\b\W{1,4}(?:bearer |basic )?[^\s\"',;]+",
    r"(?i)\b(?:x-)?api[-_]?key\b\W{1,4}[^\s\"',;]+",
    r"(?i)\bbearer\s+[\w.~+/=-]{8,}",
    r"(?i)\b(?:set-)?cookie\s*:\s*\S[^\r\n]*",
    # Prefixes of keys: OpenAI, Anthropic, Stripe, ours, Hugging Face, GitHub, GitLab, Slack.
    r"\b(?:sk|pk|rk|hp|hf|gh[pousr]|github_pat|glpat|xox[abeprs])[-_][\w-]{12,}",
    r"\bAKIA[0-9A-Z]{16}\b",  # Amazon
    r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*",  # a JSON web token
    r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    r"(?<=://)[^\s:/@]+:[^\s/@]+(?=@)",  # a password in a URL
)
_SECRET_NAME: Final = re.compile(
    r"(?i)(?:.*[-_])?(?:authorization|cookie|password|passwd|secret|api[-_]?key|access[-_]?key|token)"
)
_SPOKEN: Final = frozenset(
    {
        "content",
        "text",
        "thinking",
        "reasoning",
        "reasoning_content",
        "partial_json",
        "arguments",
        "name",
        "refusal",
    }
)
"""Keys of streamed events under which something is said; ``delta`` is a text in one dialect only."""


class CaptureRules:
    """Which requests are captured."""

    def __init__(self, settings: CaptureSettings) -> None:
        self._settings = settings

    def wants(self, *, key: str, model: str, session: str) -> bool:
        chosen = self._settings
        return (
            _is_among(key, chosen.keys)
            or _is_among(model, chosen.models)
            or _is_among(session, chosen.sessions)
        )


def _is_among(name: str, patterns: tuple[str, ...]) -> bool:
    """What has no name is meant by no pattern, ``*`` included."""
    return bool(name) and any(fnmatchcase(name, pattern) for pattern in patterns)


class Heard(msgspec.Struct):
    """A request that is to be captured: as it came, and as it is being answered."""

    settings: CaptureSettings
    request: bytes = b""
    secrets: tuple[str, ...] = ()
    """What the client came in with."""
    pieces: list[bytes] = []
    size_bytes: int = 0

    def hear(self, data: bytes) -> None:
        """A piece of the answer."""
        room = self.settings.max_bytes * RAW_FACTOR - self.size_bytes
        if room > 0:
            self.pieces.append(data[:room])
            self.size_bytes += len(data)


def capture_of(heard: Heard, blank: Capture, *, is_stream: bool) -> Capture:
    """``blank`` with what was said."""
    redactor = Redactor(heard.settings.redact, heard.secrets)
    limit = heard.settings.max_bytes
    answer = b"".join(heard.pieces)
    response = redactor.said(answer) if is_stream else redactor.body(answer)
    return msgspec.structs.replace(
        blank,
        request=cut(redactor.body(heard.request), limit),
        response=cut(response, limit),
    )


def cut(text: str, limit_bytes: int) -> str:
    """At most so many bytes of UTF-8."""
    data = text.encode()
    if len(data) <= limit_bytes:
        return text
    room = max(0, limit_bytes - len(CUT.encode()))
    return data[:room].decode(errors="ignore") + CUT


class Redactor:
    """Hides secrets. ``secrets`` are hidden literally, whatever they look like."""

    def __init__(self, patterns: Iterable[str], secrets: Iterable[str] = ()) -> None:
        self._patterns = [re.compile(each) for each in (*PATTERNS, *patterns)]
        self._secrets = [each for each in secrets if each]

    def text(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        for pattern in self._patterns:
            text = pattern.sub(HIDDEN, text)
        return text.replace("\0", "")  # PostgreSQL takes none

    def body(self, body: bytes) -> str:
        """A request or a whole answer."""
        if len(body) <= MAX_DECODED_BYTES:
            try:
                return msgspec.json.encode(self._value(msgspec.json.decode(body))).decode()
            except BAD_BODY:
                pass  # no JSON
        return self.text(body[:MAX_DECODED_BYTES].decode(errors="replace"))

    def said(self, stream: bytes) -> str:
        """What a stream said: ``[[kind, text], …]``, and errors as they came."""
        said: list[list[str]] = []
        for kind, text in _deltas(stream):
            if said and said[-1][0] == kind:
                said[-1][1] += text
            else:
                said.append([kind, text])
        for each in said:
            each[1] = self.text(each[1])
        return msgspec.json.encode(said).decode()

    def _value(self, value: Any) -> Any:
        match value:
            case str():
                return self.text(value)
            case list():
                return [self._value(each) for each in value]
            case dict():
                return {name: self._named(name, each) for name, each in value.items()}
            case _:
                return value

    def _named(self, name: str, value: Any) -> Any:
        is_secret = isinstance(value, str) and _SECRET_NAME.fullmatch(name)
        return HIDDEN if is_secret else self._value(value)


def _deltas(stream: bytes) -> Iterator[tuple[str, str]]:
    splitter = Splitter()
    for block in [*splitter.feed(stream), splitter.rest()]:
        event = parse_block(block)
        try:
            value = msgspec.json.decode(event.data) if event is not None else None
        except BAD_BODY:
            continue  # [DONE]; or cut off
        if not isinstance(value, dict):
            continue
        kind = str(value.get("type", ""))
        if kind.startswith(
            "response."
        ):  # each text comes again when it is complete, and at the end
            if isinstance(delta := value.get("delta"), str):
                yield kind.removeprefix("response.").removesuffix(".delta"), delta
        elif value.get("error") is not None:
            yield "error", msgspec.json.encode(value["error"]).decode()
        else:
            yield from _spoken(value)


def _spoken(value: Any) -> Iterator[tuple[str, str]]:
    match value:
        case dict():
            for name, each in value.items():
                if isinstance(each, str):
                    if name in _SPOKEN and each:
                        yield name, each
                else:
                    yield from _spoken(each)
        case list():
            for each in value:
                yield from _spoken(each)
