"""What a relayed request asks of an engine: its answer, and before that how long its prompt is.

``proxy`` and ``answer_stream`` build on this; nothing here knows how an answer reaches the client.
"""

import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec

from homeport.engines.anthropic_messages import auth_headers
from homeport.errors import InternalError, RequestFault, UpstreamError
from homeport.facts import Endpoint, UpstreamDialect
from homeport.routing.affinity import AGENT_HEADERS, SESSION_HEADERS
from homeport.runtime.instance import Instance, Lease
from homeport.server import context_fit
from homeport.server.answer_limit import capped
from homeport.server.calls import CHAT_PATH, Call
from homeport.server.http import Http
from homeport.server.request_defaults import filled
from homeport.upstream import Client, Exchange, Head, LostError, head_of
from homeport.wire import anthropic_upstream, faults
from homeport.wire.anthropic_upstream import MESSAGES_PATH
from homeport.wire.tool_faults import with_offender

COUNT_TIMEOUT_S: Final = 0.08
"""How long a stream's opening waits for the engine's tokenizer; an estimate stands in after that."""

MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
"""A whole, unstreamed answer."""

MESSAGES_COUNT_PATH: Final = "/v1/messages/count_tokens"

COUNT_ROUTES: Final = {
    "chat_input_tokens": ("/v1/chat/completions/input_tokens", "input_tokens"),  # llama.cpp
    "tokenize": ("/tokenize", "count"),  # vLLM
    "messages": (MESSAGES_COUNT_PATH, "input_tokens"),  # asked in Anthropic's dialect
}


class Asking:
    """Engines, as requests ask them."""

    def __init__(self, client: Client, max_tokens: int | None) -> None:
        """``max_tokens`` is the longest answer there is (``answer_limit``)."""
        self._client, self._max_tokens = client, max_tokens

    def exchange(self, http: Http, call: Call, endpoint: Endpoint, body: bytes) -> Exchange:
        more = passed_headers(http, call)
        if endpoint.engine.engine == "litellm":
            more |= conversation_headers(http)
        if more:
            url = endpoint.base_url.removesuffix("/v1") + call.path
            head = head_of(url, (_headers(_known(endpoint)) | more).items())
        else:
            head = _head(endpoint.base_url, call.path, _known(endpoint))
        return self._client.exchange_of(head, body, endpoint.timeout_s)

    async def fitted(
        self, http: Http, call: Call, endpoint: Endpoint, body: bytes, timeout_s: float
    ) -> tuple[bytes, int | None]:
        """The engine's body, its ``max_tokens`` cut where need be, and the prompt's exact count where
        that had to be found out. Raises the overflow (``context_fit``)."""
        if endpoint.request_defaults:
            body = filled(body, call.path, endpoint.request_defaults)
        tokens = cut = None
        if self._max_tokens is not None:
            body, cut = capped(body, call.path, endpoint, self._max_tokens)
        if call.path == CHAT_PATH:
            context_fit.refuse_impossible(body, endpoint)
            if context_fit.is_worth_counting(body, endpoint):
                tokens = await self.prompt_tokens(endpoint, body, timeout_s)
        if tokens is not None:
            fit = context_fit.fitted(body, endpoint, tokens)
            body, cut = fit.body, fit.max_tokens or cut
        if cut is not None:
            http.notes.append((b"x-homeport-max-tokens", b"%d" % cut))
        return body, tokens

    async def prompt_tokens(
        self, endpoint: Endpoint, body: bytes, timeout_s: float = COUNT_TIMEOUT_S
    ) -> int | None:
        """The prompt's exact count, or None when it is not to be had in time."""
        if endpoint.engine.token_count is None:
            return None
        try:
            return await self.count(endpoint, body, timeout_s)
        except RequestFault:
            return None

    async def count(
        self,
        endpoint: Endpoint,
        body: bytes,
        timeout_s: float,
        passed: Mapping[str, str] = MappingProxyType({}),
    ) -> int:
        path, field = COUNT_ROUTES[endpoint.engine.token_count or ""]
        url = endpoint.base_url.removesuffix("/v1") + path
        if path == MESSAGES_COUNT_PATH:
            body = anthropic_upstream.counting(body)
        status, _, answer = await self._client.fetch(
            url, _headers(_known(endpoint)) | {**passed}, timeout_s, method="POST", body=body
        )
        if status != 200:
            raise faults.fault_from_engine(status, answer)
        try:
            count = msgspec.json.decode(answer, type=dict[str, Any])[field]
            return int(count)
        except (msgspec.MsgspecError, KeyError, TypeError, ValueError):
            raise UpstreamError("upstream", "the engine's token count is not a number") from None


class _Known(NamedTuple):
    """What the headers that an engine gets with every request depend on."""

    api_key: str | None
    dialect: UpstreamDialect
    more: tuple[tuple[str, str], ...]
    keeps_connections: bool


def _known(endpoint: Endpoint) -> _Known:
    stays = endpoint.engine.keeps_connections
    return _Known(endpoint.api_key, endpoint.dialect, endpoint.headers, stays)


def _headers(known: _Known) -> dict[str, str]:
    headers = {"content-type": "application/json", "accept": "*/*"}
    if not known.keeps_connections:
        headers["connection"] = "close"
    headers |= auth_headers(known.api_key, known.dialect)
    return headers | {name.lower(): text for name, text in known.more}


@functools.lru_cache(maxsize=256)
def _head(base_url: str, path: str, known: _Known) -> Head:
    return head_of(base_url.removesuffix("/v1") + path, _headers(known).items())


PASSED: Final = ("anthropic-version", "anthropic-beta")
"""What says how the body of a request is meant; it passes where the body does."""


def passed_headers(http: Http, call: Call) -> dict[str, str]:
    if http.dialect != "anthropic" or call.path != MESSAGES_PATH:
        return {}
    said = ((name, http.headers.get(name.encode())) for name in PASSED)
    return {name: value.decode("latin-1") for name, value in said if value}


def conversation_headers(http: Http) -> dict[str, str]:
    """What says which conversation a request belongs to, for LiteLLM, which hands it back to us
    where the model is ours; and a mark, by which its report is known to be of a request that we
    have seen."""
    known = ((name, http.headers.get(name)) for name in (*SESSION_HEADERS, *AGENT_HEADERS))
    found = {name.decode(): value.decode("latin-1") for name, value in known if value}
    return found | {"x-homeport-request": http.request_id}


async def waited_for(lease: Lease, http: Http) -> Endpoint:
    """The lease's endpoint, after a wait that the client is told of."""
    endpoint = await lease.ready()
    tell_wait(lease, http)
    return endpoint


def tell_wait(lease: Lease, http: Http) -> None:
    http.waited_s = lease.waited_s
    http.notes.append((b"x-homeport-waited", b"%.3f" % lease.waited_s))


def report(instance: Instance, error: UpstreamError) -> None:
    """Tells the instance when nobody answers at its endpoint."""
    if error.kind == "unavailable":
        instance.report_down(error.message)


def fault_of(exchange: Exchange, body: bytes, request: bytes) -> RequestFault:
    fault = faults.fault_from_engine(
        exchange.status, body, retry_after=exchange.header("retry-after")
    )
    return with_offender(fault, request)


async def explained(lost: LostError, lease: Lease) -> LostError:
    """The same, with why the engine has gone where that is known."""
    why = await lease.why_lost()
    if why is None:
        return lost
    return LostError(lost.kind, f"{lost.message}: it {why}", retry_after_s=lost.retry_after_s)


def unexpected(error: Exception) -> InternalError:
    """What a client is told of a failure of ours: no details, they are in the log."""
    return InternalError("internal", f"homeport failed ({type(error).__name__}); see its log")
