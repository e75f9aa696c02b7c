"""Whether a request fits the model's context, before the engine is asked to read it.

1. A body so long that no tokenizer could make it fit is refused at once.
2. Where it may not fit, and the engine counts exactly, it is counted first: an overflow is refused, and
   ``max_tokens`` is cut to what is left where the engine would refuse more.
3. All else goes its way: what is not known for sure is the engine's to refuse.

Nothing that might fit is refused here.
"""

from typing import Any, Final, NamedTuple

import msgspec

from homeport.errors import ClientError
from homeport.facts import Endpoint

MAX_BYTES_PER_TOKEN: Final = 256
"""No token of a known vocabulary is longer: the longest are runs of 128 spaces (Llama 3, Qwen, GPT)."""

MIN_BYTES_PER_TOKEN: Final = 2
"""Text with fewer bytes per token is rare (Chinese has 3 and more bytes a character). Only decides
whether counting is worth it."""


class Limits(msgspec.Struct):
    """What a body for an engine says about the length of its answer."""

    max_tokens: int | None = None
    max_completion_tokens: int | None = None


_limits = msgspec.json.Decoder(Limits)
_raw_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Fit(NamedTuple):
    """A body that fits as far as is known; ``max_tokens`` is set where it was cut."""

    body: bytes
    max_tokens: int | None = None


def refuse_impossible(body: bytes, endpoint: Endpoint) -> None:
    """Case 1. Raises the overflow. Bodies with images are left alone: a megabyte of one is a few
    hundred tokens."""
    limit = endpoint.model.context_tokens
    if limit is None or len(body) <= limit * MAX_BYTES_PER_TOKEN or b'"image_url"' in body:
        return
    least = -(-_text_bytes(msgspec.json.decode(body)) // MAX_BYTES_PER_TOKEN)
    if least > limit:
        raise overflow(least, limit)


def _text_bytes(body: Any) -> int:
    """Bytes of what the prompt certainly holds: the messages' texts. (Templates may leave out
    reasoning and tools.)"""
    total = 0
    for message in body.get("messages", ()):
        content = message.get("content")
        for part in content if isinstance(content, list) else (content,):
            text = part.get("text") if isinstance(part, dict) else part
            total += len(text.encode()) if isinstance(text, str) else 0
    return total


def is_worth_counting(body: bytes, endpoint: Endpoint) -> bool:
    """Whether case 2 may apply."""
    limit = endpoint.model.context_tokens
    if limit is None or endpoint.engine.token_count is None:
        return False
    most = len(body) // MIN_BYTES_PER_TOKEN
    if most > limit:
        return True
    return not endpoint.engine.max_tokens_over_context and most + _asked(body) > limit


def fitted(body: bytes, endpoint: Endpoint, prompt_tokens: int) -> Fit:
    """Case 2, for an exact count. Raises the overflow."""
    limit = endpoint.model.context_tokens
    if limit is None:
        return Fit(body)
    if prompt_tokens > limit:
        raise overflow(prompt_tokens, limit)
    left = limit - prompt_tokens
    if endpoint.engine.max_tokens_over_context or left < 1 or _asked(body) <= left:
        return Fit(body)
    fields = _raw_fields.decode(body)
    for key in Limits.__struct_fields__:
        if key in fields:
            fields[key] = msgspec.Raw(b"%d" % left)
    return Fit(msgspec.json.encode(fields), left)


def overflow(prompt_tokens: int, limit: int) -> ClientError:
    return ClientError("context_overflow", "the prompt is too long", tokens=(prompt_tokens, limit))


def _asked(body: bytes) -> int:
    try:
        limits = _limits.decode(body)
    except msgspec.MsgspecError:
        return 0
    return limits.max_completion_tokens or limits.max_tokens or 0
