"""The prefix guardian: does a conversation's next prompt extend the last one, and if not, where?

An engine reuses its KV cache for the bytes that two prompts share from the start. A conversation
should therefore only ever grow at its end. When a client changes something earlier (a time stamp in
the system prompt, a tool inserted in the middle, an edited turn), everything after the change is
computed again, and nobody notices but by the wait. So the blocks of each request are fingerprinted,
and the first one that differs from the last request's is named.

Blocks are taken from the engine's request, in the order in which templates render them: tools, system
prompt, messages. Only hashes, names and sizes are kept, never text.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, Final

import msgspec

BYTES_PER_TOKEN: Final = 4
"""For estimates of what was lost; the exact count is not worth a tokenizer call."""

_GENERATION: Final = 1
"""Blocks at the end that a client may rewrite without harm: the last turn is replaced when a client
retries, and its cache was never extended."""


class Block(msgspec.Struct, frozen=True):
    """One tool or message of a rendered prompt."""

    name: str
    digest: bytes
    size_bytes: int


class Divergence(msgspec.Struct, frozen=True):
    """Where a prompt leaves the path of the one before.

    ``block`` names the first block that differs as it is now (``messages.4 (user)``), or that is
    missing; ``lost_tokens`` estimates what of the old prompt cannot be reused.
    """

    block: str
    lost_tokens: int
    kept_tokens: int


class _Turn(msgspec.Struct):
    role: str | None = None
    type: str | None = None


class _Body(msgspec.Struct):
    """A chat, a message of Anthropic's (``system``), or a response of OpenAI's. Where bytes pass
    through they are the client's, so that anything optional may be null."""

    tools: list[msgspec.Raw] | None = None
    system: msgspec.Raw = msgspec.Raw()
    instructions: msgspec.Raw = msgspec.Raw()
    messages: list[msgspec.Raw] | None = None
    input: str | list[msgspec.Raw] | None = None


_decode_body = msgspec.json.Decoder(_Body).decode
_decode_turn = msgspec.json.Decoder(_Turn).decode


class _Function(msgspec.Struct):
    name: str | None = None


class _Tool(msgspec.Struct):
    name: str | None = None
    function: _Function | None = None


_decode_tool = msgspec.json.Decoder(_Tool).decode


def blocks_of(body: bytes) -> tuple[Block, ...]:
    """The blocks of a request as it goes to the engine."""
    request = _decode_body(body)
    blocks = [
        _block(f"tools.{i}", _tool_name(raw), raw) for i, raw in enumerate(request.tools or ())
    ]
    for place, head in (("system", request.system), ("instructions", request.instructions)):
        if bytes(head):
            blocks.append(_block(place, "", head))
    for i, raw in enumerate(request.messages or ()):
        blocks.append(_block(f"messages.{i}", _decode_turn(raw).role or "", raw))
    if isinstance(request.input, list):  # a text alone is a conversation's first turn
        for i, raw in enumerate(request.input):
            turn = _decode_turn(raw)
            blocks.append(_block(f"input.{i}", turn.role or turn.type or "", raw))
    return tuple(blocks)


def _tool_name(raw: msgspec.Raw) -> str:
    tool = _decode_tool(raw)
    return (tool.function.name if tool.function else tool.name) or ""


def _block(place: str, what: str, raw: Any) -> Block:
    data = bytes(raw)
    name = f"{place} ({what})" if what else place
    return Block(name, hashlib.blake2b(data, digest_size=8).digest(), len(data))


def divergence(before: Sequence[Block], now: Sequence[Block]) -> Divergence | None:
    """The first block of ``before`` that ``now`` does not continue; None when all is kept.

    A prompt may be shorter than the last one (a client went back some turns): what it has is cached.
    """
    for i, (old, new) in enumerate(zip(before, now, strict=False)):
        if old.digest != new.digest:
            if i >= len(before) - _GENERATION and i >= len(now) - _GENERATION:
                return None  # only the last turn was rewritten: a retry
            return Divergence(new.name, _tokens(before[i:]), _tokens(before[:i]))
    return None


def _tokens(blocks: Sequence[Block]) -> int:
    return sum(block.size_bytes for block in blocks) // BYTES_PER_TOKEN
