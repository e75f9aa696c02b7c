"""``/v1/responses``: an OpenAI Responses client, and the responses kept for it.

``ResponsesCall`` is the dialect as ``proxy`` sees it; ``Responses`` are the routes. The store is read
before a request is decoded (what it continues) and written before the client learns that its answer
is complete, so that its next request finds it.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from homeport.errors import ClientError, RequestFault
from homeport.facts import Endpoint
from homeport.routing.catalog import RequestKind
from homeport.server.calls import CHAT_PATH, refuse_images
from homeport.server.http import Http, new_id
from homeport.server.mending import Mending
from homeport.server.proxy import Proxy
from homeport.server.response_store import ResponseStore, Segment, Stored
from homeport.server.web_search import WebSearcher
from homeport.settings import Limits
from homeport.wire import openai_responses, responses_relay
from homeport.wire.events import Usage
from homeport.wire.faults import Dialect
from homeport.wire.openai_responses import Entry, ResponsesRequest
from homeport.wire.openai_responses_answer import Profile
from homeport.wire.openai_responses_stream import KEEP_ALIVE, ResponsesStream, encode_response
from homeport.wire.responses_relay import RESPONSES_PATH, ResponsesRelay
from homeport.wire.rounds import usage_in
from homeport.wire.stages import Stages
from homeport.wire.stream import EventDecoder, FromChat, StreamTranslation
from homeport.wire.upstream_dialects import SPOKEN

MAX_PAGE: Final = 100
DEFAULT_PAGE: Final = 20
"""Of input items, as OpenAI has them."""


def _clock() -> int:
    return int(time.time())


class ResponsesCall:
    """An OpenAI Responses client."""

    dialect: Dialect = "openai_responses"
    path = CHAT_PATH
    kind: RequestKind = "chat"
    grace_s = 0.25  # then 200 and response.created; an overflow is told in either way
    wants_count = False

    def __init__(
        self,
        body: bytes,
        store: ResponseStore,
        key: str,
        searcher: WebSearcher | None = None,
        *,
        counting: bool = False,
    ) -> None:
        """``counting``: only its tokens shall be counted, which engines do of chats."""
        self._body, self._store, self._key = body, store, key
        self._wire = wire = openai_responses.decode(body)
        self._history = _history(wire, store, key)
        self._entries = openai_responses.entries_of(
            wire, lambda item_id: store.find_item(key, item_id)
        )
        decoded = openai_responses.neutral(
            wire,
            self._entries,
            _entries_in(self._history),
            can_search=searcher is not None,
        )
        self._request, self._callees = decoded.request, decoded.callees
        self._mending = Mending(self._request, searcher)
        self._counting = counting
        self._is_native = self._is_opened = False
        self._out: ResponsesStream | None = None
        self.model = wire.model
        self.stream = self._request.stream

    @property
    def has_tools(self) -> bool:
        return bool(self._request.tools)

    @property
    def first_user_text(self) -> str:
        return self._request.first_user_text

    def engine_body(self, endpoint: Endpoint) -> bytes:
        if self._request.has_images:
            refuse_images(endpoint, "input")
        self._is_native = self._may_pass(endpoint)
        if self._is_native:
            self.path = RESPONSES_PATH
            return responses_relay.relay_request(self._body, endpoint.model)
        spoken = SPOKEN[endpoint.dialect]
        self.path = spoken.path
        return spoken.encode(self._mending.asked(endpoint), endpoint.engine, endpoint.model)

    def _may_pass(self, endpoint: Endpoint) -> bool:
        """Whether the bytes go to an engine's own ``/v1/responses``, which is right in all they ask.
        An opened stream has an id and numbers of ours."""
        right = endpoint.engine.native_responses
        if right is None or self._counting or self._is_opened:
            return False
        if self._mending.searches or self._mending.slims(endpoint):
            return False
        needed = responses_relay.needs(self._wire, self._entries, self._request)
        return needed is not None and needed <= right

    def whole(self, body: bytes, endpoint: Endpoint) -> tuple[bytes, Usage | None]:
        if self._is_native:
            answer = responses_relay.relay_body(body, self._profile(), self.model, _clock)
            self._keep_native(answer)
            return answer.response, answer.usage
        events = self._mending.events_of(body, endpoint)
        if self._mending.is_broken:
            return b"", None
        out = self._encoder()
        response = encode_response([*self._mending.shown, *events], out)
        self.keep(out)
        return response, usage_in(events)

    def prepare(self, request_id: str) -> None:
        self._out = self._encoder()

    def translation(self, endpoint: Endpoint) -> StreamTranslation:
        assert self._out is not None, "prepared"
        if self._is_native:
            keep = self._keep_native
            return ResponsesRelay(self._profile(), self.model, _clock, out=self._out, keep=keep)
        decoder = SPOKEN[endpoint.dialect].decoder()
        return _Kept(self, self._out, self._mending.stages(endpoint), decoder)

    @property
    def is_unfinished(self) -> bool:
        return self._mending.is_broken

    async def go_on(self) -> bytes:
        told = await self._mending.go_on()
        return b"".join(map(self._out.feed, told)) if self._out is not None else b""

    def opening(self, prompt_tokens: int) -> bytes:
        assert self._out is not None, "prepared"
        if self._is_native:
            return b""  # the engine's own response.created comes with its answer
        self._is_opened = True
        return self._out.start()

    def sign_of_life(self) -> bytes:
        assert self._out is not None, "prepared"
        return KEEP_ALIVE if self._is_native else self._out.keep_alive()

    def failure(self, fault: RequestFault) -> bytes:
        assert self._out is not None, "prepared"
        return self._out.fail(fault)

    def keep(self, out: ResponsesStream) -> None:
        """Stores the answer, unless the client did not want that or there is none."""
        if out.response is not None and out.failure is None:
            self._put(out.response_id, out.response, out.output)

    def _keep_native(self, answer: responses_relay.Whole) -> None:
        """The engine's answer, under its own id: what continues it is translated, and finds it here."""
        self._put(answer.id, answer.response, answer.output)

    def _put(self, response_id: str, response: bytes, output: list[bytes]) -> None:
        if self._wire.store is False:
            return
        input_ = Segment([_with_id(entry) for entry in self._entries])
        items = Segment([_with_id(openai_responses.entry_of_stored(raw)) for raw in output])
        self._store.put(self._key, response_id, Stored(response, self._history, input_, items))

    def _encoder(self) -> ResponsesStream:
        return ResponsesStream(
            self._profile(),
            callees=self._callees,
            clock=_clock,
            single_call=self._request.parallel_tool_calls is False,
        )

    def _profile(self) -> Profile:
        return Profile(
            self._body,
            response_id=new_id("resp_"),
            model=self.model,
            created_at_s=_clock(),
        )


class _Kept(FromChat):
    """A translation whose answer is stored before its last bytes go out."""

    def __init__(
        self,
        call: ResponsesCall,
        out: ResponsesStream,
        stages: Stages | None,
        decoder: EventDecoder,
    ) -> None:
        super().__init__(out, stages, decoder)
        self._call: ResponsesCall | None = call
        self._response = out

    def feed(self, data: bytes) -> bytes:
        out = super().feed(data)
        self._keep()
        return out

    def finish(self) -> bytes:
        out = super().finish()
        self._keep()
        return out

    def _keep(self) -> None:
        if self._call is not None and self._response.is_done:
            self._call.keep(self._response)
            self._call = None


def _history(wire: ResponsesRequest, store: ResponseStore, key: str) -> tuple[Segment, ...]:
    if wire.previous_response_id is None:
        return ()
    stored = store.get(key, wire.previous_response_id)
    if stored is None:
        raise ClientError(
            "not_found",
            f"Previous response with id '{wire.previous_response_id}' not found.",
            param="previous_response_id",
        )
    return stored.segments


def _entries_in(segments: tuple[Segment, ...]) -> list[Entry]:
    return [
        openai_responses.entry_of_stored(raw) for segment in segments for _, raw in segment.items
    ]


ID_PREFIXES: Final = {
    "message": "msg_",
    "reasoning": "rs_",
    "function_call": "fc_",
    "function_call_output": "fco_",
    "custom_tool_call": "ctc_",
    "custom_tool_call_output": "ctco_",
}


def _with_id(entry: Entry) -> tuple[str, bytes]:
    """The item as OpenAI would list it: with an id, its type, and a message's content in parts."""
    item = entry.item
    id_ = item.id or new_id(ID_PREFIXES.get(item.kind, "item_"))
    fields: dict[str, Any] = msgspec.json.decode(entry.raw, type=dict[str, msgspec.Raw])
    fields |= {"id": id_, "type": item.kind}
    content = bytes(item.content)
    if item.kind == "message" and content.startswith(b'"'):
        part = {"type": "input_text", "text": msgspec.Raw(content)}
        if item.role == "assistant":
            part |= {"type": "output_text", "annotations": []}
        fields["content"] = [part]
    if item.kind != "reasoning":
        fields.setdefault("status", "completed")
    return id_, msgspec.json.encode(fields)


class Responses:
    """The routes below ``/v1/responses``."""

    def __init__(self, proxy: Proxy, limits: Limits, store: ResponseStore) -> None:
        self._proxy, self._limits, self._store = proxy, limits, store

    def configure(self, limits: Limits) -> None:
        self._limits = limits

    def methods(self, rest: str) -> dict[str, Callable[[Http], Awaitable[None]]] | None:
        """The handlers of ``/v1/responses/REST`` by HTTP method; None where there is no route."""
        response_id, _, more = rest.partition("/")
        match more:
            case "":
                return {
                    "GET": lambda http: self.show(http, response_id),
                    "DELETE": lambda http: self.delete(http, response_id),
                }
            case "input_items":
                return {"GET": lambda http: self.input_items(http, response_id)}
            case "cancel":
                return {"POST": lambda http: self.cancel(http, response_id)}
            case _:
                return None

    async def create(self, http: Http) -> None:
        await self._proxy.serve(http, await self._call(http))

    async def input_tokens(self, http: Http) -> None:
        """Exact, by the engine's own tokenizer and template, or 404: never a guess."""
        count = await self._proxy.count(http, await self._call(http, counting=True))
        body = {"object": "response.input_tokens", "input_tokens": count}
        await http.answer(200, msgspec.json.encode(body))

    async def show(self, http: Http, response_id: str) -> None:
        if http.query("stream") == "true":
            raise ClientError("invalid_request", "stored responses cannot be streamed again")
        await http.answer(200, self._stored(http, response_id).response)

    async def delete(self, http: Http, response_id: str) -> None:
        if not self._store.delete(http.key_name, response_id):
            raise _unknown(response_id)
        body = {"id": response_id, "object": "response", "deleted": True}
        await http.answer(200, msgspec.json.encode(body))

    async def input_items(self, http: Http, response_id: str) -> None:
        """What the model was given, earlier turns included; latest first unless asked otherwise."""
        items = self._stored(http, response_id).input_items()
        if http.query("order") != "asc":
            items.reverse()
        if after := http.query("after"):
            ids = [id_ for id_, _ in items]
            if after not in ids:
                raise ClientError("not_found", f"Item with id '{after}' not found.", param="after")
            items = items[ids.index(after) + 1 :]
        page = items[: _limit(http)]
        body = {
            "object": "list",
            "data": [msgspec.Raw(raw) for _, raw in page],
            "first_id": page[0][0] if page else None,
            "last_id": page[-1][0] if page else None,
            "has_more": len(page) < len(items),
        }
        await http.answer(200, msgspec.json.encode(body))

    async def cancel(self, http: Http, response_id: str) -> None:
        self._stored(http, response_id)
        raise ClientError(
            "invalid_request",
            "Only responses in the background can be cancelled; to stop a stream, close it.",
        )

    async def _call(self, http: Http, *, counting: bool = False) -> ResponsesCall:
        body = await http.body(self._limits.body_bytes)
        searcher = self._proxy.searcher
        return ResponsesCall(body, self._store, http.key_name, searcher, counting=counting)

    def _stored(self, http: Http, response_id: str) -> Stored:
        stored = self._store.get(http.key_name, response_id)
        if stored is None:
            raise _unknown(response_id)
        return stored


def _unknown(response_id: str) -> ClientError:
    return ClientError("not_found", f"Response with id '{response_id}' not found.")


def _limit(http: Http) -> int:
    given = http.query("limit") or str(DEFAULT_PAGE)
    if not (given.isascii() and given.isdigit() and 1 <= int(given) <= MAX_PAGE):
        raise ClientError(
            "invalid_request", f"limit: '{given}' is no number from 1 to {MAX_PAGE}", param="limit"
        )
    return int(given)
