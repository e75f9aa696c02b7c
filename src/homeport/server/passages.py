"""Routes that pass to the engine as they are, where it has them.

``/v1/completions``, ``/v1/embeddings``, ``/v1/rerank`` and llama.cpp's ``/infill`` exist in one dialect
only, so there is nothing to translate: the model's name is swapped both ways, usage is counted, errors
are said in OpenAI's words. ``PASSAGES`` is the table; which engine has which is in its facts.
"""

import base64
import struct
from typing import Any, Final, NamedTuple

import msgspec

from homeport.errors import ClientError, RequestFault
from homeport.facts import Endpoint
from homeport.routing.catalog import RequestKind
from homeport.wire import faults, sse
from homeport.wire.events import Usage
from homeport.wire.faults import Dialect, invalid_body
from homeport.wire.openai_chat import StreamOptions
from homeport.wire.passthrough import ChatRelay, relay_body
from homeport.wire.stream import StreamTranslation


class Passage(NamedTuple):
    """``name`` as in ``EngineFacts.routes``; ``path`` below the engine's root."""

    name: str
    path: str
    kind: RequestKind
    field: str
    """What a request must have."""


PASSAGES: Final = {
    "/v1/completions": Passage("completions", "/v1/completions", "completions", "prompt"),
    "/v1/embeddings": Passage("embeddings", "/v1/embeddings", "embeddings", "input"),
    "/v1/rerank": Passage("rerank", "/v1/rerank", "embeddings", "documents"),
    "/infill": Passage("infill", "/infill", "completions", "input_prefix"),
}


class _Request(msgspec.Struct):
    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    encoding_format: str | None = None


_decode = msgspec.json.Decoder(_Request).decode
_raw_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.encode


class PassageCall:
    """One such request, behind ``calls.Call``."""

    dialect: Dialect = "openai_chat"
    grace_s = 5.0
    wants_count = False
    has_tools = False
    first_user_text = ""

    def __init__(self, passage: Passage, body: bytes) -> None:
        try:
            self._request = request = _decode(body)
            self._fields = _raw_fields(body)
        except faults.BAD_BODY as error:
            raise invalid_body(error) from None
        if passage.field not in self._fields:
            raise ClientError(
                "invalid_request", f"{passage.field}: Field required", param=passage.field
            )
        self._passage = passage
        self._request_id = ""
        self.path, self.kind = passage.path, passage.kind
        self.model = request.model or ""
        self.stream = bool(request.stream)

    def engine_body(self, endpoint: Endpoint) -> bytes:
        engine, name = endpoint.engine, self._passage.name
        if name not in engine.routes:
            raise ClientError(
                "not_found",
                f"the engine of '{endpoint.model.name}' ({engine.engine}) has no {name}",
            )
        fields = self._fields | {"model": msgspec.Raw(_encode(endpoint.model.name))}
        if self.stream and name == "completions" and engine.stream_usage and not self._wants_usage:
            fields["stream_options"] = msgspec.Raw(b'{"include_usage":true}')
        return _encode(fields)

    def whole(self, body: bytes, endpoint: Endpoint) -> tuple[bytes, Usage | None]:
        answer, usage = relay_body(body, self.model or endpoint.model.name)
        if self._passage.name == "embeddings" and self._request.encoding_format == "base64":
            answer = _in_base64(answer)
        return answer, usage

    @property
    def is_unfinished(self) -> bool:
        return False

    async def go_on(self) -> bytes:
        return b""

    def prepare(self, request_id: str) -> None:
        self._request_id = request_id

    def translation(self, endpoint: Endpoint) -> StreamTranslation:
        return ChatRelay(
            model=self.model or endpoint.model.name,
            wants_usage=self._wants_usage,
            request_id=self._request_id,
        )

    def opening(self, prompt_tokens: int) -> bytes:
        return b""

    def sign_of_life(self) -> bytes:
        return b": still working\n\n"

    def failure(self, fault: RequestFault) -> bytes:
        return sse.encode(faults.body_of(fault, self.dialect, self._request_id))

    @property
    def _wants_usage(self) -> bool:
        options = self._request.stream_options
        return options is not None and bool(options.include_usage)


def _in_base64(answer: bytes) -> bytes:
    """Embeddings as little-endian float32 in base64, for an engine that sent lists all the same.

    The ``openai`` SDK asks for base64 by default; other clients that do cannot read lists.
    """
    value: dict[str, Any] = msgspec.json.decode(answer)
    for item in value.get("data") or ():
        vector = item.get("embedding")
        if isinstance(vector, list) and all(isinstance(x, int | float) for x in vector):
            item["embedding"] = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
    return _encode(value)
