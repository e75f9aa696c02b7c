"""The proxy's neighbours as fakes: an instance, and the client to its engine.

``FakeClient`` hands out exchanges that play a script; whatever the proxy does with them is recorded, so
that a test can ask what was sent, how far was read, and whether everything was closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import msgspec

from homeport.errors import UpstreamError
from homeport.facts import Endpoint, EngineFacts, ModelFacts, UpstreamDialect
from homeport.lifecycle.machine import State
from homeport.routing.catalog import Catalog, Entry
from homeport.runtime.instance import Instance
from homeport.server.asgi import Gateway
from homeport.server.directory import Directory
from homeport.server.metrics import Metrics
from homeport.server.usage import UsageLog
from homeport.settings import SMALL_MODELS, ServerSettings
from homeport.upstream import Client, Head, Sink

__all__ = ["FakeClient", "FakeInstance", "Plan", "World", "chunk", "said", "whole"]


# --- what an engine says --------------------------------------------------------------------


def chunk(text: str = "", finish: str | None = None, usage: tuple[int, int] | None = None) -> bytes:
    """One event of a chat stream."""
    delta = {"role": "assistant", "content": text}
    value: dict[str, Any] = {
        "id": "c",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "inner",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }
    if usage:
        value["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def said(text: str) -> tuple[bytes, ...]:
    """A whole chat stream."""
    return chunk(text), chunk("", "stop", (7, 3)), b"data: [DONE]\n\n"


def whole(text: str, **fields: Any) -> bytes:
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text},
        "finish_reason": "stop",
    }
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    return msgspec.json.encode({"id": "c", "choices": [choice], "usage": usage, **fields})


# --- the engine's client --------------------------------------------------------------------


@dataclass(kw_only=True)
class Plan:
    """How one exchange goes. ``pieces`` are read one by one; an exception among them is raised, an
    event is waited for, ``None`` is a tick of silence."""

    status: int = 200
    pieces: Sequence[bytes | Exception | asyncio.Event | None] = ()
    send: Exception | None = None
    head: Exception | asyncio.Event | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class FakeExchange:
    def __init__(self, plan: Plan, url: str, headers: dict[str, str], body: bytes) -> None:
        self._plan, self.url, self.request = plan, url, msgspec.json.decode(body)
        self.headers = headers
        self._left = list(plan.pieces)
        self.sent = self.closed = self.is_answered = False
        self.reads = 0

    async def send(self) -> None:
        if self._plan.send:
            raise self._plan.send
        self.sent = True

    async def wait_head(self, timeout_s: float | None = None) -> bool:
        head = self._plan.head
        if isinstance(head, Exception):
            raise head
        if head is not None:
            try:
                await asyncio.wait_for(head.wait(), timeout_s)
            except TimeoutError:
                return False
        return True

    @property
    def status(self) -> int:
        return self._plan.status

    def header(self, name: str) -> str | None:
        return self._plan.headers.get(name)

    async def read(self, sink: Sink | None = None) -> bytes | None:
        while self._left:
            self.reads += not isinstance(self._left[0], asyncio.Event)
            match self._left.pop(0):
                case asyncio.Event() as event:
                    await event.wait()
                case Exception() as error:
                    raise error
                case None:
                    return None
                case data:
                    left = sink(data) if sink is not None else data
                    if left is not None:
                        return left
        self.reads += 1
        return b""

    async def read_all(self, limit_bytes: int) -> bytes:
        pieces = []
        while (data := await self.read()) != b"":
            pieces.append(data or b"")
        return b"".join(pieces)

    def close(self) -> None:
        self.closed = True


class FakeClient:
    def __init__(self) -> None:
        self.plans: list[Plan] = []
        self.exchanges: list[FakeExchange] = []
        self.count: int | Exception | asyncio.Event | bytes = 7
        """The tokenizer's answer; an event never answers."""
        self.counted: list[Any] = []
        self.counted_with: list[Mapping[str, str]] = []

    def exchange_of(self, head: Head, body: bytes, idle_timeout_s: float | None) -> FakeExchange:
        host, port, _ = head.url.origin
        _, _, *lines = head.lines.decode().splitlines()  # a request line, and the host
        headers = dict(line.split(": ", 1) for line in lines)
        url = f"http://{host}:{port}{head.url.path.decode()}"
        exchange = FakeExchange(self.plans.pop(0), url, headers, body)
        self.exchanges.append(exchange)
        return exchange

    async def fetch(
        self,
        url: str,
        headers: Mapping[str, str],
        timeout_s: float,
        *,
        method: str,
        body: bytes,
    ) -> tuple[int, dict[str, str], bytes]:
        self.counted_with.append(headers)
        self.counted.append((url, msgspec.json.decode(body)))
        match self.count:
            case int():
                return 200, {}, b'{"input_tokens":%d}' % self.count
            case bytes():
                return 200, {}, self.count
            case asyncio.Event():
                try:
                    await asyncio.wait_for(self.count.wait(), timeout_s)
                except TimeoutError:
                    raise UpstreamError("timeout", "no count") from None
                return 200, {}, b'{"input_tokens":7}'
            case error:
                raise error


# --- the instance ---------------------------------------------------------------------------

READY = Endpoint(
    base_url="http://engine:1/v1",
    engine=EngineFacts(engine="llamacpp", token_count="chat_input_tokens"),
    model=ModelFacts(name="inner", context_tokens=1000, created_at_s=1_700_000_000),
)


class FakeInstance:
    """``ready`` at once, unless ``start_with`` makes a request wait for the start."""

    def __init__(self, name: str, endpoint: Endpoint | None = READY) -> None:
        self.id, self.endpoint = name, endpoint
        self.dialect: UpstreamDialect = endpoint.dialect if endpoint else "openai_chat"
        self.state: State = "ready" if endpoint else "stopped"
        self.last_error: str | None = None
        self.in_flight = 0
        self.waited_s = 0.0
        self.leases = 0
        self.downs: list[str] = []
        self.left = 0
        self.starting: asyncio.Future[Endpoint] | None = None

    async def ensure_ready(self) -> Endpoint:
        if self.starting is None:
            self.starting = asyncio.get_running_loop().create_future()
        return await asyncio.shield(self.starting)

    def lease(self, *, takes_slot: bool = True) -> FakeInstance:
        return self

    async def ready(self) -> Endpoint:
        return await self.ensure_ready()

    async def lost(self) -> bool:
        return False

    async def why_lost(self) -> str | None:
        return None

    def __enter__(self) -> FakeInstance:
        self.in_flight += 1
        self.leases += 1
        return self

    def __exit__(self, *_: object) -> None:
        self.in_flight -= 1

    def report_left(self) -> None:
        self.left += 1

    def report_down(self, reason: str) -> None:
        self.downs.append(reason)


class World:
    """A gateway with fakes around it; call it as the ASGI application."""

    def __init__(
        self,
        *instances: FakeInstance,
        server: ServerSettings | None = None,
        aliases: Sequence[tuple[str, str]] = (),
        strict: bool = False,
        small_models: tuple[str, ...] = SMALL_MODELS,
        usage: UsageLog | None = None,
    ) -> None:
        self.instances = instances or (FakeInstance("it"),)
        self.client, self.metrics, self.directory = FakeClient(), Metrics(), Directory()
        entries = [Entry(id=instance.id) for instance in self.instances]
        catalog = Catalog(
            entries, aliases=aliases, default=self.instances[0].id, strict_models=strict
        )
        self.directory.publish(
            catalog, {i.id: cast(Instance, i) for i in self.instances}, pending=()
        )
        self.app = Gateway(
            server or ServerSettings(),
            self.directory,
            cast(Client, self.client),
            self.metrics,
            started_at_s=1_600_000_000,
            small_models=small_models,
            usage=usage,
        )

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)

    @property
    def instance(self) -> FakeInstance:
        return self.instances[0]

    @property
    def outcomes(self) -> list[str]:
        """The kinds of ends that were counted."""
        lines = self.metrics.exposition().decode().splitlines()
        found = [line for line in lines if line.startswith("homeport_requests_total{")]
        return sorted(line.split('outcome="')[1].split('"')[0] for line in found)

    def assert_tidy(self) -> None:
        """Nothing is left of what requests took."""
        assert all(exchange.closed for exchange in self.client.exchanges)
        assert [instance.in_flight for instance in self.instances] == [0] * len(self.instances)
        assert b"homeport_requests_in_flight 0.0" in self.metrics.exposition()
