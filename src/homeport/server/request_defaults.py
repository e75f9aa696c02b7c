"""Fields that a request is given when it does not name them: a model's ``request_defaults``.

They are written as Chat Completions have them; ``NAMES`` says how each route calls them. What a route
has no word for is left out there.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from homeport.wire.anthropic_upstream import MESSAGES_PATH

_SAMPLING: Final = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
_PENALTIES: Final = ("presence_penalty", "frequency_penalty", "seed")


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


NAMES: Final[Mapping[str, Mapping[str, str]]] = {
    "/v1/chat/completions": _same(
        *("max_tokens", "max_completion_tokens", "reasoning_effort"), *_SAMPLING, *_PENALTIES
    ),
    "/v1/completions": _same("max_tokens", *_SAMPLING, *_PENALTIES)
    | {"max_completion_tokens": "max_tokens"},
    "/v1/responses": {
        **_same("temperature", "top_p"),
        "max_tokens": "max_output_tokens",
        "max_completion_tokens": "max_output_tokens",
    },
    MESSAGES_PATH: {
        **_same("temperature", "top_p", "top_k", "max_tokens"),
        "max_completion_tokens": "max_tokens",
    },
}
_LIMITS: Final = ("max_tokens", "max_completion_tokens")
"""Two words for one thing: where a request has one, it does not get the other."""

_raw_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def filled(body: bytes, path: str, defaults: Iterable[tuple[str, str | int | float]]) -> bytes:
    """The engine's body with the defaults that it lacks; null counts as lacking."""
    names = NAMES.get(path, {})
    known = [(names[name], value) for name, value in defaults if name in names]
    if not known:
        return body
    fields: dict[str, Any] = dict(_raw_fields(body))
    written = {name for name, raw in fields.items() if bytes(raw) != b"null"}
    if written & {*_LIMITS}:
        written |= {*_LIMITS}
    missing: dict[str, str | int | float] = {}
    for name, value in known:
        if name not in written:
            missing.setdefault(name, value)
    return msgspec.json.encode(fields | missing) if missing else body
