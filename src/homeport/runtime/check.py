"""Probes, sent to a running engine one after the other: what ``homeport check`` does.

``engines.probes`` says what to ask and judges the replies; here is only the asking. Nothing is asked
beside a probe, so that its times and the engine's slots mean what they say.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Final, Protocol

import msgspec

from homeport.engines.anthropic_messages import VERSION, auth_headers
from homeport.engines.findings import Ask, Finding, Probe, Reply
from homeport.engines.probes import probes_for
from homeport.errors import RequestFault, UpstreamError
from homeport.facts import Endpoint

REPLY_TIMEOUT_S: Final = 120.0
"""For one answer of at most 200 tokens; a big model on a CPU is slow."""
SETTLE_S: Final = 0.5
"""Between leaving and looking: engines notice a closed connection at their next token."""


class Exchange(Protocol):
    """A request under way; ``upstream.Exchange`` is one."""

    @property
    def status(self) -> int: ...

    async def send(self) -> None: ...

    async def wait_head(self, timeout_s: float | None = None) -> bool: ...

    async def read(self) -> bytes | None: ...

    def close(self) -> None: ...


class Asker(Protocol):
    """HTTP towards the engine; ``upstream.Client`` is one."""

    async def fetch(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 5.0,
        *,
        method: str = "GET",
        body: bytes = b"",
    ) -> tuple[int, Mapping[str, str], bytes]: ...

    def exchange(
        self,
        url: str,
        *,
        method: str = "POST",
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
    ) -> Exchange: ...


async def findings(
    endpoint: Endpoint, asker: Asker, probes: Iterable[Probe] | None = None
) -> AsyncIterator[tuple[Probe, Finding]]:
    """Run the probes; yield each with what it found. Nothing that an engine answers is an error."""
    for probe in probes_for(endpoint.dialect) if probes is None else probes:
        replies = tuple([await _reply(endpoint, ask, asker) for ask in probe.asks])
        try:
            finding = probe.judge(replies)
        except (AttributeError, KeyError, TypeError, ValueError) as error:  # nonsense, of any shape
            finding = Finding("unsure", f"the answer cannot be read: {error!r}")
        yield probe, finding


async def _reply(endpoint: Endpoint, ask: Ask, asker: Asker) -> Reply:
    url = endpoint.base_url.removesuffix("/v1") + ask.path
    headers = {
        "content-type": "application/json",
        "anthropic-version": VERSION,
        **auth_headers(endpoint.api_key, endpoint.dialect),
    }
    body = b""
    if ask.body is not None:
        body = msgspec.json.encode({"model": endpoint.model.name, **ask.body})
    began = time.monotonic()
    try:
        if ask.leave:
            return await _left(asker.exchange(url, headers=headers.items(), body=body))
        method = "POST" if body else "GET"
        status, _, answer = await asker.fetch(
            url, headers, REPLY_TIMEOUT_S, method=method, body=body
        )
    except RequestFault as fault:
        return Reply(body=fault.message.encode())
    return Reply(status=status, body=answer, took_s=time.monotonic() - began)


async def _left(exchange: Exchange) -> Reply:
    """Leave when the answer has begun."""
    try:
        async with asyncio.timeout(REPLY_TIMEOUT_S):
            await exchange.send()
            await exchange.wait_head()
            status, data = exchange.status, await exchange.read()
    except TimeoutError:
        raise UpstreamError("timeout", "no answer in time") from None
    finally:
        exchange.close()
    await asyncio.sleep(SETTLE_S)
    return Reply(status=status, body=data or b"")
