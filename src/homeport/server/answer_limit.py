"""``server.limits.max_tokens``: no answer is longer, whatever the request says.

A small model that has lost its way writes until its context is full, and holds a slot for minutes; and
many clients ask for 32 000 tokens and more, or for no limit. ``LIMITS`` says how each route calls the
number. Where a request names none, it is given one.
"""

from typing import Any, Final, NamedTuple

import msgspec

from homeport.facts import Endpoint
from homeport.wire.anthropic_upstream import MESSAGES_PATH

LIMITS: Final = {
    "/v1/chat/completions": ("max_tokens", "max_completion_tokens"),
    "/v1/completions": ("max_tokens",),
    "/v1/responses": ("max_output_tokens",),
    "/infill": ("n_predict", "max_tokens"),
    MESSAGES_PATH: ("max_tokens",),
}
"""By the engine's route: the fields that limit an answer; the first is the one that is added."""

MIN_THINKING: Final = 1024
"""Anthropic's smallest ``budget_tokens``, which has to be below ``max_tokens``."""

_raw_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Capped(NamedTuple):
    body: bytes
    max_tokens: int | None = None
    """Set where the body was changed."""


def capped(body: bytes, path: str, endpoint: Endpoint, limit: int | None) -> Capped:
    """The engine's body with ``limit`` as its largest answer.

    1. It asks for no more than that: unchanged.
    2. It asks for more, or for as many as there are (llama.cpp: -1): cut.
    3. It names no limit: added; but not to an engine that would refuse one beyond its context, which
       is its limit then.
    """
    names = LIMITS.get(path)
    if limit is None or names is None:
        return Capped(body)
    fields = _raw_fields(body)
    asked = {name: msgspec.json.decode(fields[name]) for name in names if name in fields}
    asked = {name: number for name, number in asked.items() if number is not None}
    if asked and all(_is_within(number, limit) for number in asked.values()):
        return Capped(body)  # 1.
    context = endpoint.model.context_tokens
    is_refused = context is not None and not endpoint.engine.max_tokens_over_context
    if not asked and is_refused and limit > (context or 0):
        return Capped(body)  # 3.
    for name in asked or names[:1]:
        if name not in asked or not _is_within(asked[name], limit):
            fields[name] = msgspec.Raw(b"%d" % limit)
    if path == MESSAGES_PATH and "thinking" in fields:
        fields["thinking"] = msgspec.Raw(_thinking_below(limit, fields["thinking"]))
    return Capped(msgspec.json.encode(fields), limit)


def _is_within(number: Any, limit: int) -> bool:
    """What is no number is the engine's to refuse."""
    return not isinstance(number, int | float) or 0 <= number <= limit


def _thinking_below(limit: int, thinking: msgspec.Raw) -> bytes:
    value = msgspec.json.decode(thinking)
    budget = value.get("budget_tokens") if isinstance(value, dict) else None
    if isinstance(budget, int) and budget >= limit:
        if limit <= MIN_THINKING:
            value = {"type": "disabled"}
        else:
            value["budget_tokens"] = limit - 1
    return msgspec.json.encode(value)
