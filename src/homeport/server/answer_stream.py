"""One streamed answer, from the first wait to the last byte."""

import asyncio
import time
from typing import Final

import msgspec
import structlog

from homeport.errors import RequestFault, UpstreamError
from homeport.facts import Endpoint
from homeport.runtime.instance import Instance, Lease
from homeport.server import context_fit
from homeport.server.asking import (
    COUNT_TIMEOUT_S,
    MAX_ANSWER_BYTES,
    Asking,
    explained,
    fault_of,
    report,
    tell_wait,
    unexpected,
)
from homeport.server.cache_care import CacheCare
from homeport.server.calls import Call
from homeport.server.http import Http
from homeport.server.metrics import Outcome
from homeport.upstream import Exchange, LostError
from homeport.wire import sse
from homeport.wire.events import Progress
from homeport.wire.stream import StreamTranslation

log = structlog.get_logger()

PING_S: Final = 5.0
"""Silence after which a sign of life goes out. Claude Code gives up after 300 s, other clients and
proxies in between after 30 to 60; at most 10 are promised."""

BYTES_PER_TOKEN: Final = 4
"""For the estimate only: JSON and English are near four bytes a token."""


class AnswerStream:
    """One streamed answer, from the first wait to the last byte.

    The client's stream opens late, when the engine has answered or ``grace_s`` has passed, so that
    an error known by then keeps its real status.
    """

    def __init__(
        self,
        asking: Asking,
        care: CacheCare,
        http: Http,
        call: Call,
        instance: Instance,
        lease: Lease,
        outcome: Outcome,
    ) -> None:
        self._asking, self._care, self._http, self._call = asking, care, http, call
        self._instance, self._lease, self._outcome = instance, lease, outcome
        self._grace_ends = time.monotonic() + call.grace_s
        self._is_open = False
        self._tokens: int | None = None
        """The prompt's exact count, once it is known."""
        self._translation: StreamTranslation | None = None
        self._has_said = False
        """The client has had a part of an answer."""
        self._last_sent = 0.0
        self._progress: Progress | None = None

    async def run(self) -> None:
        self._call.prepare(self._http.request_id)
        try:
            await self._answer()
        except Exception as error:
            if not self._is_open:
                raise
            if isinstance(error, RequestFault):
                fault = error
            else:
                log.exception("request.failed", request=self._http.request_id)
                fault = unexpected(error)
            self._outcome.fault = fault
            await self._http.chunk(self._in_stream(fault))
        await self._http.end()

    async def _answer(self) -> None:
        may_repeat = True
        while True:
            endpoint = self._lease.endpoint or await self._started()
            try:
                with self._care.place(self._http, self._call, self._instance, endpoint) as body:
                    await self._exchange(endpoint, body)
            except LostError as error:
                if may_repeat and not self._has_said and await self._lease.lost():
                    may_repeat = False
                    continue
                raise await explained(error, self._lease) from error
            if not self._call.is_unfinished:
                return
            if told := await self._call.go_on():
                await self._http.chunk(told)

    async def _exchange(self, endpoint: Endpoint, body: bytes) -> None:
        body, self._tokens = await self._asking.fitted(
            self._http, self._call, endpoint, body, COUNT_TIMEOUT_S
        )
        count = (
            asyncio.ensure_future(self._asking.prompt_tokens(endpoint, body))
            if (self._call.wants_count and not self._is_open and self._tokens is None)
            else None
        )
        exchange = self._asking.exchange(self._http, self._call, endpoint, body)
        try:
            try:
                await exchange.send()
                if not await exchange.wait_head(max(0.0, self._grace_ends - time.monotonic())):
                    await self._open(endpoint, count, body)
                    while not await exchange.wait_head(PING_S):
                        await self._http.chunk(self._call.sign_of_life())
            except UpstreamError as error:
                report(self._instance, error)
                raise
            if exchange.status != 200:
                raise fault_of(exchange, await exchange.read_all(MAX_ANSWER_BYTES), body)
            await self._open(endpoint, count, body)
            await self._relay(exchange, endpoint)
        finally:
            exchange.close()
            if count is not None:
                count.cancel()

    async def _started(self) -> Endpoint:
        """Waits for the instance, with signs of life when it takes longer than the grace.

        The wait is a task of its own, so that a ping does not disturb it; the start itself belongs
        to the instance and goes on when this client leaves.
        """
        ready = asyncio.ensure_future(self._lease.ready())
        try:
            await asyncio.wait({ready}, timeout=max(0.0, self._grace_ends - time.monotonic()))
            if not ready.done():
                await self._open(None, None, b"")
                while not (await asyncio.wait({ready}, timeout=PING_S))[0]:
                    await self._http.chunk(self._call.sign_of_life())
            return ready.result()
        finally:
            ready.cancel()
            tell_wait(self._lease, self._http)

    async def _open(
        self, endpoint: Endpoint | None, count: "asyncio.Future[int | None] | None", body: bytes
    ) -> None:
        """200 and the opening, unless that has been done while the instance started. An exact count
        that shows an overflow is refused before that."""
        if self._is_open:
            return
        tokens = await count if count is not None else self._tokens
        limit = endpoint.model.context_tokens if endpoint else None
        if tokens is not None and limit is not None and tokens > limit:
            raise context_fit.overflow(tokens, limit)
        await self._http.open_stream()
        self._is_open = True
        estimate = max(1, (len(body) or len(self._http.raw_body)) // BYTES_PER_TOKEN)
        if opening := self._call.opening(tokens or estimate):
            await self._http.chunk(opening)
        self._last_sent = time.monotonic()

    async def _relay(self, exchange: Exchange, endpoint: Endpoint) -> None:
        """Piece by piece, until the answer is over. ``take`` is the short way, straight from the
        engine's socket to the client's; what it cannot take (the client does not read) and silence
        come to this task."""
        self._translation = translation = self._call.translation(endpoint)

        def take(data: bytes) -> bytes | None:
            if not self._http.may_push:
                return data
            if out := self._due(translation, data):
                self._http.push(out)
            return b"" if self._is_over(translation, data, exchange) else None

        try:
            while (data := await exchange.read(take)) != b"":
                if out := self._due(translation, data):
                    await self._http.chunk(out)
                if self._is_over(translation, data, exchange):
                    break
            if out := translation.finish():
                self._outcome.sent(time.monotonic(), out)
                await self._http.chunk(out)
        finally:
            self._outcome.usage = translation.usage
            self._outcome.fault = translation.failure

    def _due(self, translation: StreamTranslation, data: bytes | None) -> bytes:
        """What the client is sent for ``data``, or for silence."""
        out = translation.feed(data) if data is not None else b""
        if out:
            self._has_said = True
            self._last_sent = now = time.monotonic()
            self._outcome.sent(now, out)
        elif self._is_silent(translation):
            # Silence, or an engine's own keep-alive comments, which mean nothing to clients.
            self._last_sent = time.monotonic()
            out = self._call.sign_of_life()
        return out

    def _is_over(
        self, translation: StreamTranslation, data: bytes | None, exchange: Exchange
    ) -> bool:
        if translation.failure is not None:
            return True  # the engine talks nonsense; closing the exchange stops it
        if data is not None and data.endswith(sse.DONE):
            exchange.is_answered = True  # some engines take their time to end the body
            return True
        return False

    def _is_silent(self, translation: StreamTranslation) -> bool:
        """Whether it is time for a sign of life. Progress is for us alone, not for the client."""
        if translation.progress is not self._progress:
            self._progress = progress = translation.progress
            if progress is not None:
                self._outcome.progress = progress
                told = msgspec.structs.asdict(progress)
                log.debug("prompt.progress", request=self._http.request_id, **told)
        return time.monotonic() - self._last_sent >= PING_S * 0.9

    def _in_stream(self, fault: RequestFault) -> bytes:
        if self._translation is not None:
            return self._translation.fail(fault)
        return self._call.failure(fault)
