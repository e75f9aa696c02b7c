"""The dialects that engines are asked in, as a table: path, request, stream and whole answer."""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from homeport.facts import EngineFacts, ModelFacts, UpstreamDialect
from homeport.wire import (
    anthropic_upstream,
    anthropic_upstream_answer,
    openai_chat_answer,
    openai_chat_upstream,
)
from homeport.wire.events import Event, Request
from homeport.wire.stream import EventDecoder


class Spoken(NamedTuple):
    path: str
    """The route, below the server's root."""
    encode: Callable[[Request, EngineFacts, ModelFacts], bytes]
    decoder: Callable[[], EventDecoder]
    decode_body: Callable[[bytes], list[Event]]


SPOKEN: Final[Mapping[UpstreamDialect, Spoken]] = {
    "openai_chat": Spoken(
        "/v1/chat/completions",
        openai_chat_upstream.encode,
        openai_chat_answer.Decoder,
        openai_chat_answer.decode_body,
    ),
    "anthropic": Spoken(
        anthropic_upstream.MESSAGES_PATH,
        anthropic_upstream.encode,
        anthropic_upstream_answer.Decoder,
        anthropic_upstream_answer.decode_body,
    ),
}
