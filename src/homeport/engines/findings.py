"""What is asked of a running engine and what comes of it: requests, replies, findings, as values.

``engines.questions`` has the requests, ``engines.judges`` reads the replies, ``engines.probes`` is the
table of both.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

from homeport.engines.answers import decoded

Result = Literal["yes", "no", "unsure"]


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """One request; ``model`` is filled in by who sends it. Without a body it is a GET.

    ``leave`` closes the connection as soon as the answer has begun.
    """

    path: str = "/v1/chat/completions"
    body: Mapping[str, Any] | None = None
    leave: bool = False


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """Status 0: no answer came."""

    status: int = 0
    body: bytes = b""
    took_s: float = 0.0

    @property
    def json(self) -> Any:
        return decoded(self.body)

    @property
    def message(self) -> dict[str, Any]:
        """The first choice's message, or nothing."""
        choice = self.choice
        message = choice.get("message")
        return message if isinstance(message, dict) else {}

    @property
    def choice(self) -> dict[str, Any]:
        choices = get(self.json, "choices")
        first = choices[0] if isinstance(choices, list) and choices else None
        return first if isinstance(first, dict) else {}

    @property
    def text(self) -> str:
        content = self.message.get("content")
        return content if isinstance(content, str) else ""

    @property
    def calls(self) -> list[str]:
        """The names of the tools that it calls."""
        calls = self.message.get("tool_calls")
        names = [get(get(c, "function"), "name") for c in calls] if isinstance(calls, list) else []
        return [name for name in names if isinstance(name, str)]

    @property
    def prompt_tokens(self) -> int | None:
        count = get(get(self.json, "usage"), "prompt_tokens")
        return count if type(count) is int else None

    @property
    def frames(self) -> list[dict[str, Any]]:
        """The data of its events, where it is a stream."""
        lines = self.body.split(b"\n")
        found = [decoded(line[5:]) for line in lines if line.startswith(b"data:")]
        return [value for value in found if isinstance(value, dict)]

    @property
    def refusal(self) -> str:
        """What it says instead of an answer."""
        error = get(self.json, "error")
        words = get(error, "message") or (error if isinstance(error, str) else None)
        words = words or get(self.json, "message")
        text = words if isinstance(words, str) else self.body[:200].decode("utf-8", "replace")
        head = f"status {self.status}" if self.status else "no answer"
        return f"{head}: {' '.join(text.split())[:120]}" if text else head


class Finding(msgspec.Struct, frozen=True):
    """What a probe found: the result, and what was seen."""

    result: Result
    seen: str


Judge = Callable[[tuple[Reply, ...]], Finding]


class Probe(msgspec.Struct, frozen=True):
    feature: str
    says: str
    """The claim, for people."""
    asks: tuple[Ask, ...]
    judge: Judge


def get(value: object, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None


def found(is_so: bool, seen: str, otherwise: Result = "no") -> Finding:
    return Finding("yes" if is_so else otherwise, seen)
