"""One request, told once: resolve, lease, open the engine, relay, finish.

The order, for a streamed request::

    the body is read, decoded and valid            else 4xx in the client's dialect
    the name resolves to a deployment              else 404
    its instance is leased
      [starting]  the client waits; after the grace its stream opens and pings go out
      the engine is asked, its prompt counted beside it
      [silent]    the same: grace, then an open stream and pings
      the engine's status                          an error keeps its status before the stream opens,
                                                   afterwards it becomes the in-stream error event
      each chunk: feed, send                       waiting while the client does not read
    finish; usage is recorded

A client that leaves cancels this task (``Http.watch``), wherever it stands: the exchange with the
engine is aborted on the way out, and the lease given back. Nothing is retried once the client has
been sent a part of the answer. Before that a stale connection is (``upstream``), and once a request
whose engine died under it: it waits for the restart like one that comes then (``Lease.lost``).
"""

import asyncio
import time
from typing import Final

import msgspec
import structlog

from homeport.errors import ClientError, RequestFault, UpstreamError
from homeport.facts import Endpoint
from homeport.routing.affinity import SmallModels, key_of
from homeport.routing.catalog import Resolution
from homeport.runtime.instance import Instance, Lease
from homeport.runtime.route import RouteInstance
from homeport.server.answer_stream import BYTES_PER_TOKEN, AnswerStream
from homeport.server.asking import (
    MAX_ANSWER_BYTES,
    Asking,
    explained,
    fault_of,
    passed_headers,
    report,
    unexpected,
    waited_for,
)
from homeport.server.attempts import Attempts
from homeport.server.cache_care import CacheCare, first_user_key
from homeport.server.calls import AnthropicCall, Call, ChatCall
from homeport.server.directory import Directory
from homeport.server.documents import Documents
from homeport.server.http import Http, header_value
from homeport.server.metrics import Metrics, Outcome
from homeport.server.overflow_guard import OverflowGuard
from homeport.server.passages import PASSAGES, PassageCall
from homeport.server.resend import Resends, resend_key
from homeport.server.usage import UsageLog
from homeport.server.web_search import WebSearcher
from homeport.settings import SMALL_MODELS, Limits
from homeport.upstream import Client, LostError
from homeport.wire import messages_relay
from homeport.wire.anthropic_blocks import may_hold_pdf

log = structlog.get_logger()

FIT_TIMEOUT_S: Final = 1.0
"""The same where an answer is sent whole and its prompt may not fit: nobody waits for an opening."""

COUNT_CALL_TIMEOUT_S: Final = 20.0
"""For ``count_tokens`` itself: Claude Code stalls on a hang, and estimates for itself on an error."""


class Proxy:
    """The data plane: inference requests in both dialects."""

    def __init__(
        self,
        directory: Directory,
        client: Client,
        limits: Limits,
        metrics: Metrics,
        searcher: WebSearcher | None = None,
        small_models: tuple[str, ...] = SMALL_MODELS,
        usage: UsageLog | None = None,
    ) -> None:
        """``usage`` remembers requests; None: nobody does."""
        self._directory, self._client, self._metrics = directory, client, metrics
        self._usage = usage
        self.cache_care = CacheCare(metrics)
        self._resends = Resends()
        self.configure(limits, searcher, small_models)
        self._guard = OverflowGuard(time.monotonic)
        self._documents = Documents()

    def configure(
        self, limits: Limits, searcher: WebSearcher | None, small_models: tuple[str, ...]
    ) -> None:
        """For the requests that come from now on."""
        self._limits, self.searcher = limits, searcher
        self._asking = Asking(self._client, limits.max_tokens)
        self._resends.grace_s = limits.resend_grace_s
        self.cache_care.small = SmallModels(small_models)

    # ------------------------------------------------------------------- routes

    async def chat_completions(self, http: Http) -> None:
        await self.serve(http, ChatCall(await http.body(self._limits.body_bytes)))

    async def messages(self, http: Http) -> None:
        call = await self._anthropic(http)
        if call.wants_only_search and self.searcher is None:
            await self._without_search(http, call)
        else:
            await self.serve(http, call)

    async def _without_search(self, http: Http, call: AnthropicCall) -> None:
        """Claude Code's search is a request of its own. It is told that there is none, because a model
        without the tool would make up what it found."""
        if self._passes(http, call.model):
            await self.serve(http, call)  # that upstream may run it
            return
        self._resolve(http, call)
        if not call.stream:
            await http.answer(200, call.without_search())
            return
        call.prepare(http.request_id)
        await http.open_stream()
        await http.chunk(call.opening(len(http.raw_body) // BYTES_PER_TOKEN))
        await http.chunk(call.without_search())
        await http.end()

    async def _anthropic(self, http: Http, *, counting: bool = False) -> AnthropicCall:
        """The request, read; one that we cannot read only where it is handed on as it is."""
        body = await http.body(self._limits.body_bytes)
        if may_hold_pdf(body) and not self._passes_unread(http, body):
            pdf_text = self._documents.pdf_text
            with http.watch():
                call = await self._documents.beside(
                    lambda: AnthropicCall(
                        body, counting=counting, pdf_text=pdf_text, searcher=self.searcher
                    )
                )
        else:
            call = AnthropicCall(body, counting=counting, searcher=self.searcher)
        if call.refusal is not None and not self._passes(http, call.model):
            raise call.refusal
        return call

    def _passes(self, http: Http, model: str) -> bool:
        """Whether Messages for that model go to a server that is asked in them."""
        _, instance = self._directory.resolve(model, kind="chat", for_litellm=http.is_from_litellm)
        return instance.dialect == "anthropic"

    def _passes_unread(self, http: Http, body: bytes) -> bool:
        outlined = messages_relay.outlined(body)
        return outlined is not None and self._passes(http, outlined.model)

    async def passage(self, http: Http) -> None:
        """A request that the engine takes as it is, where it has the route."""
        passage = PASSAGES[http.path.rstrip("/")]
        await self.serve(http, PassageCall(passage, await http.body(self._limits.body_bytes)))

    async def count_tokens(self, http: Http) -> None:
        """Exact, by the engine's own tokenizer and template, or 404: never a guess."""
        count = await self.count(http, await self._anthropic(http, counting=True))
        await http.answer(200, msgspec.json.encode({"input_tokens": count}))

    async def count(self, http: Http, call: Call) -> int:
        """The call's exact token count. Raises ``ClientError("not_found")`` where there is none."""
        instance = self._resolve(http, call)
        instance = self._directory.native_of(instance.id) or instance  # LiteLLM counts nothing
        with http.watch(), instance.lease(takes_slot=False) as lease:
            try:
                async with asyncio.timeout(COUNT_CALL_TIMEOUT_S):  # a start of the engine included
                    return await self._exact_count(http, call, instance, lease)
            except TimeoutError:
                raise ClientError(
                    "not_found", f"'{instance.id}' takes too long to count; it may still be loading"
                ) from None

    async def _exact_count(self, http: Http, call: Call, instance: Instance, lease: Lease) -> int:
        endpoint = lease.endpoint or await lease.ready()
        if endpoint.engine.token_count is None:
            raise ClientError(
                "not_found", f"the engine of '{instance.id}' cannot count tokens exactly"
            )
        return await self._asking.count(
            endpoint,
            call.engine_body(endpoint),
            2 * COUNT_CALL_TIMEOUT_S,
            passed_headers(http, call),
        )

    # ------------------------------------------------------------------- the request

    def _resolve(self, http: Http, call: Call) -> Instance:
        return self._found(http, call)[1]

    def _found(self, http: Http, call: Call) -> tuple[Resolution, Instance]:
        resolution, instance = self._directory.resolve(
            call.model, kind=call.kind, for_litellm=http.is_from_litellm
        )
        http.model_id = resolution.model_id
        http.notes.append((b"x-homeport-model", header_value(resolution.model_id)))
        if resolution.how == "default" and call.model:
            http.notes.append((b"x-homeport-model-fallback", b"default"))
            log.debug("model.fallback", asked=call.model, served=resolution.model_id)
        return resolution, instance

    async def serve(self, http: Http, call: Call) -> None:
        """Answers a call, streamed or whole; a resent one by the answer that runs already."""
        key = resend_key(http) if call.stream else None
        if key is None:
            await self._serve(http, call)
            return
        if (tape := self._resends.find(key)) is not None:
            self._metrics.resends.inc()
            await tape.follow(http)
            return
        with self._resends.taped(key, http):
            await self._serve(http, call)

    async def _serve(self, http: Http, call: Call) -> None:
        session = key_of(http.headers)
        self._guard.check(session, http.raw_body)
        found = self._found(http, call)
        is_shared = isinstance(found[1], RouteInstance)
        conversation = session or (first_user_key(call) if is_shared else None)
        attempts = Attempts(self._directory, http, found, call.kind, conversation)
        outcome = self._metrics.begin(call.dialect, found[1].id, stream=call.stream)
        instance = found[1]
        if self._usage is not None:
            self._usage.begin(http, call, outcome, session)
        try:
            with http.watch():
                while True:
                    try:
                        with attempts.current as instance:
                            await self._try(http, call, instance, outcome)
                            attempts.current.broken_off = outcome.fault
                        break
                    except RequestFault as fault:  # the client has been sent nothing
                        if not attempts.go_on(fault):
                            raise
        except Exception as error:
            outcome.fault = error if isinstance(error, RequestFault) else unexpected(error)
            raise
        finally:
            if http.has_left:
                instance.report_left()
            self._guard.note(session, http.raw_body, outcome.fault)
            self._metrics.end(outcome, status=http.status, has_left=http.has_left)
            if self._usage is not None:
                self._usage.end(http, call, instance, outcome, session)

    async def _try(self, http: Http, call: Call, instance: Instance, outcome: Outcome) -> None:
        """Raises ``RequestFault`` only as long as the client has been sent nothing."""
        with instance.lease() as lease:
            if call.stream:
                care = self.cache_care
                await AnswerStream(self._asking, care, http, call, instance, lease, outcome).run()
            else:
                await self._whole(http, call, instance, lease, outcome)

    async def _whole(
        self, http: Http, call: Call, instance: Instance, lease: Lease, outcome: Outcome
    ) -> None:
        may_repeat = True
        while True:
            endpoint = lease.endpoint or await waited_for(lease, http)
            try:
                body = await self._asked(http, call, instance, endpoint)
            except LostError as error:
                if may_repeat and await lease.lost():
                    may_repeat = False
                    continue
                raise await explained(error, lease) from error
            answer, outcome.usage = call.whole(body, endpoint)
            if not call.is_unfinished:
                outcome.answered(answer)
                await http.answer(200, answer)
                return
            await call.go_on()

    async def _asked(self, http: Http, call: Call, instance: Instance, endpoint: Endpoint) -> bytes:
        """The engine's whole answer."""
        with self.cache_care.place(http, call, instance, endpoint) as request:
            request, _ = await self._asking.fitted(http, call, endpoint, request, FIT_TIMEOUT_S)
            exchange = self._asking.exchange(http, call, endpoint, request)
            try:
                try:
                    await exchange.send()
                    await exchange.wait_head()
                except UpstreamError as error:
                    report(instance, error)
                    raise
                body = await exchange.read_all(MAX_ANSWER_BYTES)
                if exchange.status != 200:
                    raise fault_of(exchange, body, request)
                return body
            finally:
                exchange.close()
