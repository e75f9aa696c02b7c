"""A call is one inference request in its client's dialect: what the relay asks of each dialect.

``proxy`` moves bytes and knows no dialect; all that depends on one stands here, behind ``Call``.
"""

import time
from typing import Protocol

import msgspec

from homeport.errors import ClientError, RequestFault
from homeport.facts import Endpoint
from homeport.routing.catalog import RequestKind
from homeport.server.http import new_id
from homeport.server.mending import Mending
from homeport.server.web_search import WebSearcher
from homeport.wire import (
    anthropic,
    anthropic_answer,
    faults,
    messages_relay,
    openai_chat,
    openai_chat_neutral,
    openai_chat_upstream,
    slimming,
    sse,
    web_search,
)
from homeport.wire.anthropic_blocks import PdfText, no_pdf
from homeport.wire.anthropic_stream import AnthropicStream, PrewarmStream
from homeport.wire.anthropic_upstream import MESSAGES_PATH
from homeport.wire.chat_guard import GuardedRelay, rescued_body
from homeport.wire.events import Event, Request, Usage
from homeport.wire.faults import Dialect
from homeport.wire.features import features_of
from homeport.wire.messages_relay import MessagesRelay
from homeport.wire.openai_chat_stream import ChatStream, encode_completion
from homeport.wire.passthrough import ChatRelay, relay_body
from homeport.wire.rounds import usage_in
from homeport.wire.stream import FromChat, StreamTranslation
from homeport.wire.upstream_dialects import SPOKEN

CHAT_PATH = "/v1/chat/completions"

_raw_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_raw_list = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Call(Protocol):
    """One request, decoded and valid."""

    dialect: Dialect
    path: str
    """The engine's route, below its root; known for sure once there is an ``engine_body``."""
    kind: RequestKind
    model: str
    """The name that the client asked for, echoed in the answer."""
    stream: bool
    grace_s: float
    """How long the engine's own status is waited for before the client's stream opens."""
    wants_count: bool
    """Whether the opening of a stream names the prompt's token count."""

    @property
    def has_tools(self) -> bool: ...

    @property
    def first_user_text(self) -> str: ...

    def engine_body(self, endpoint: Endpoint) -> bytes:
        """The request in the engine's words. Raises ``ClientError`` for what it cannot do."""
        ...

    def whole(self, body: bytes, endpoint: Endpoint) -> tuple[bytes, Usage | None]:
        """A whole engine answer in the client's words. Raises ``RequestFault``."""
        ...

    def translation(self, endpoint: Endpoint) -> StreamTranslation:
        """The translation of the engine's stream; called once for each time it is asked."""
        ...

    @property
    def is_unfinished(self) -> bool:
        """Whether the engine's answer asked something of the gateway itself, or was no use: ``go_on``
        then, and ask the engine once more. No use it is once at most, and only if nothing visible has
        been sent."""
        ...

    async def go_on(self) -> bytes:
        """Does what the answer asked for, which may take seconds; what the client is sent of it.
        ``engine_body`` is another one then."""
        ...

    def prepare(self, request_id: str) -> None:
        """Makes the stream's client side, which may have to speak before an endpoint is known."""
        ...

    def opening(self, prompt_tokens: int) -> bytes:
        """What the client is sent first of all."""
        ...

    def sign_of_life(self) -> bytes:
        """What keeps a waiting client from giving up."""
        ...

    def failure(self, fault: RequestFault) -> bytes:
        """The in-stream error of a stream that has been opened but not translated yet."""
        ...


class ChatCall:
    """An OpenAI Chat Completions client."""

    dialect: Dialect = "openai_chat"
    path = CHAT_PATH
    kind: RequestKind = "chat"
    grace_s = 5.0  # its stream has no opening event: nothing is gained by an early 200
    wants_count = False

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._request = openai_chat.decode(body)
        self._request_id = ""
        self._translated: TranslatedChat | None = None
        self.model = self._request.model or ""
        self.stream = bool(self._request.stream)

    def engine_body(self, endpoint: Endpoint) -> bytes:
        if (at := self._request.image_at) is not None:
            refuse_images(endpoint, at)
        if endpoint.dialect != "openai_chat":
            self.path = SPOKEN[endpoint.dialect].path
            self._translated = self._translated or TranslatedChat(
                openai_chat_neutral.neutral(self._body)
            )
            return self._translated.engine_body(endpoint)
        body = openai_chat.relay_request(self._body, self._request, endpoint.engine, endpoint.model)
        if self._translated is None and (request := self._too_many_tools(endpoint)) is not None:
            self._translated = TranslatedChat(request)
        return body if self._translated is None else self._translated.slimmed(body, endpoint)

    def _too_many_tools(self, endpoint: Endpoint) -> Request | None:
        """The request, where the model shall be shown fewer tools. Only one whose answer can be
        translated: with what needs the engine's own (several answers, logprobs) all tools go on."""
        limit = endpoint.max_tools
        if limit is None or len(self._request.tools or ()) <= limit:
            return None
        try:
            request = openai_chat_neutral.neutral(self._body)
        except ClientError:
            return None
        return request if slimming.is_slimmed(request, limit) else None

    @property
    def has_tools(self) -> bool:
        return bool(self._request.tools)

    @property
    def first_user_text(self) -> str:
        return self._request.first_user_text

    def whole(self, body: bytes, endpoint: Endpoint) -> tuple[bytes, Usage | None]:
        if self._translated is not None:
            return self._translated.whole(body, endpoint)
        if endpoint.rescue and (tools := self._request.callable_tools):
            body = rescued_body(body, tools)
        return relay_body(body, self.model or endpoint.model.name)

    @property
    def is_unfinished(self) -> bool:
        return self._translated is not None and self._translated.mending.is_broken

    async def go_on(self) -> bytes:
        assert self._translated is not None
        await self._translated.mending.go_on()  # a search for tools: the client is told nothing
        return b""

    def prepare(self, request_id: str) -> None:
        self._request_id = request_id

    def translation(self, endpoint: Endpoint) -> StreamTranslation:
        if self._translated is not None:
            wants_usage = self._request.wants_usage
            return self._translated.translation(endpoint, self._request_id, wants_usage)
        relay = ChatRelay(
            model=self.model or endpoint.model.name,
            wants_usage=self._request.wants_usage,
            wants_progress=self._request.wants_progress,
            request_id=self._request_id,
        )
        tools = self._request.callable_tools if endpoint.rescue else ()
        return GuardedRelay(relay, tools) if tools else relay

    def opening(self, prompt_tokens: int) -> bytes:
        return b""

    def sign_of_life(self) -> bytes:
        return b": still working\n\n"

    def failure(self, fault: RequestFault) -> bytes:
        return sse.encode(faults.body_of(fault, self.dialect, self._request_id))


class AnthropicCall:
    """An Anthropic Messages client."""

    dialect: Dialect = "anthropic"
    path = CHAT_PATH
    kind: RequestKind = "chat"
    grace_s = 0.1  # then 200 and message_start: clients give up on silence
    wants_count = True

    def __init__(
        self,
        body: bytes,
        *,
        counting: bool = False,
        pdf_text: PdfText = no_pdf,
        searcher: WebSearcher | None = None,
    ) -> None:
        self._body, self._counting = body, counting
        self.refusal: ClientError | None = None
        """Why it cannot be translated. Whoever is asked in Anthropic's dialect may know better."""
        try:
            self._request = anthropic.decode(body, counting=counting, pdf_text=pdf_text)
        except ClientError as refusal:
            if (outlined := messages_relay.outlined(body)) is None:
                raise
            self._request, self.refusal = outlined, refusal
        self._request_id = ""
        self._is_native = self._is_opened = False
        self._mending = Mending(self._request, searcher)
        self._out: AnthropicStream | None = None
        self.model = self._request.model
        self.stream = self._request.stream

    def engine_body(self, endpoint: Endpoint) -> bytes:
        if self._request.has_images:
            refuse_images(endpoint, "messages")
        if self._may_pass(endpoint):
            self._is_native, self.wants_count, self.path = True, False, MESSAGES_PATH
            return messages_relay.relay_request(self._body, endpoint.engine, endpoint.model)
        if self.refusal is not None:
            raise self.refusal
        self._is_native, self.path = False, CHAT_PATH
        return openai_chat_upstream.encode(
            self._mending.asked(endpoint), endpoint.engine, endpoint.model
        )

    def _may_pass(self, endpoint: Endpoint) -> bool:
        """Whether the bytes go to an engine's own ``/v1/messages``, which is right in all they ask.
        Engines count the tokens of chats."""
        right = endpoint.engine.native_messages
        return endpoint.dialect == "anthropic" or (
            right is not None
            and self.refusal is None
            and not self._counting
            and not self._mending.searches
            and not self._mending.slims(endpoint)
            and features_of(self._request) <= right
        )

    @property
    def has_tools(self) -> bool:
        return bool(self._request.tools)

    @property
    def first_user_text(self) -> str:
        return self._request.first_user_text

    def whole(self, body: bytes, endpoint: Endpoint) -> tuple[bytes, Usage | None]:
        if self._is_native:
            return messages_relay.relay_body(body, self.model)
        events = self._mending.events_of(body, endpoint)
        if self._mending.is_broken:
            return b"", None
        if endpoint.engine.repeats_prefill and (prefill := self._request.prefill):
            events = anthropic_answer.continued(events, prefill)
        if self._is_prewarming:
            events = anthropic_answer.prewarmed(events)
        message = self._message([*self._mending.shown, *events], endpoint.model.context_tokens)
        return message, usage_in(events)

    def _message(self, events: list[Event], context_tokens: int | None = None) -> bytes:
        return anthropic_answer.encode_message(
            events,
            message_id=new_id("msg_"),
            model=self.model,
            context_tokens=context_tokens,
            single_call=self._single_call,
        )

    @property
    def wants_only_search(self) -> bool:
        return self._request.web_search is not None and not self._request.tools

    def without_search(self) -> bytes:
        """The answer to such a request where nobody can search."""
        events = web_search.refused(self._request, new_id("srvtoolu_"))
        if self._out is None:
            return self._message(events)
        return b"".join(map(self._out.feed, events))

    def prepare(self, request_id: str) -> None:
        self._request_id = request_id
        stream = PrewarmStream if self._is_prewarming else AnthropicStream
        self._out = stream(
            message_id=new_id("msg_"),
            model=self.model,
            request_id=request_id,
            single_call=self._single_call,
        )

    def translation(self, endpoint: Endpoint) -> StreamTranslation:
        assert self._out is not None
        if self._is_native:
            return MessagesRelay(
                model=self.model, request_id=self._request_id, is_opened=self._is_opened
            )
        self._out.context_tokens = endpoint.model.context_tokens
        return FromChat(self._out, self._mending.stages(endpoint))

    @property
    def is_unfinished(self) -> bool:
        return self._mending.is_broken

    async def go_on(self) -> bytes:
        told = await self._mending.go_on()
        return b"".join(map(self._out.feed, told)) if self._out is not None else b""

    def opening(self, prompt_tokens: int) -> bytes:
        assert self._out is not None
        if self._is_native:
            return b""  # the engine's own message_start comes with its answer
        self._is_opened = True
        return self._out.start(prompt_tokens)

    def sign_of_life(self) -> bytes:
        assert self._out is not None
        return messages_relay.PING if self._is_native else self._out.ping()

    def failure(self, fault: RequestFault) -> bytes:
        assert self._out is not None
        if self._is_native:
            return messages_relay.failed(fault, self._request_id)
        return self._out.fail(fault)

    @property
    def _single_call(self) -> bool:
        return self._request.parallel_tool_calls is False

    @property
    def _is_prewarming(self) -> bool:
        return self._request.max_tokens == 0


class TranslatedChat:
    """A Chat Completions client's request to an engine that is asked in another dialect, or whose
    answer may call ``find_tools``, which the gateway answers itself."""

    def __init__(self, request: Request) -> None:
        self.mending = Mending(request)
        self._request = request
        self._model = request.model
        self._single_call = request.parallel_tool_calls is False
        self._out: ChatStream | None = None

    def engine_body(self, endpoint: Endpoint) -> bytes:
        return self._encoded(self.mending.asked(endpoint), endpoint)

    def slimmed(self, relayed: bytes, endpoint: Endpoint) -> bytes:
        """The client's own body, but for its tools and, behind its messages, what the model was told
        about others: fields that a translation would lose (seed, penalties) stay."""
        asked, before = (
            _raw_fields(self._encoded(request, endpoint))
            for request in (self.mending.asked(endpoint), self._request)
        )
        fields = _raw_fields(relayed)
        messages = [
            *_raw_list(fields["messages"]),
            *_raw_list(asked["messages"])[len(_raw_list(before["messages"])) :],
        ]
        fields["messages"] = msgspec.Raw(msgspec.json.encode(messages))
        fields["tools"] = asked.get("tools", fields["tools"])
        return msgspec.json.encode(fields)

    def _encoded(self, request: Request, endpoint: Endpoint) -> bytes:
        return SPOKEN[endpoint.dialect].encode(request, endpoint.engine, endpoint.model)

    def whole(self, body: bytes, endpoint: Endpoint) -> tuple[bytes, Usage | None]:
        events = self.mending.events_of(body, endpoint)
        if self.mending.is_broken:
            return b"", None
        answer = encode_completion(
            [*self.mending.shown, *events],
            completion_id=new_id("chatcmpl-"),
            model=self._model or endpoint.model.name,
            created_at_s=int(time.time()),
            single_call=self._single_call,
        )
        return answer, usage_in(events)

    def translation(
        self, endpoint: Endpoint, request_id: str, wants_usage: bool
    ) -> StreamTranslation:
        self._out = self._out or ChatStream(
            completion_id=new_id("chatcmpl-"),
            model=self._model or endpoint.model.name,
            created_at_s=int(time.time()),
            request_id=request_id,
            wants_usage=wants_usage,
            single_call=self._single_call,
        )
        decoder = SPOKEN[endpoint.dialect].decoder()
        return FromChat(self._out, self.mending.stages(endpoint), decoder)


def refuse_images(endpoint: Endpoint, path: str) -> None:
    """Raises ``ClientError`` when the model is known to be blind; unknown means: let it try.

    "Could not process image" are the words upon which Claude Code takes the image out of the
    conversation and goes on; with others every later turn of it would be refused, too.
    """
    if endpoint.model.vision is False:
        raise ClientError(
            "invalid_request",
            f"{path}: Could not process image: the model '{endpoint.model.name}' cannot see images; "
            "remove them, or serve a model with vision",
            param=path,
        )
