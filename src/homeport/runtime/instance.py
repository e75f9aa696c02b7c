"""Instances: what requests ask for an endpoint and lease.

``Instance`` is the interface, told call by call. Two kinds follow it: ``managed.ManagedInstance``
starts an engine itself, ``remote.RemoteInstance`` watches a server that someone else runs; here is
what both have in common.

One task owns the state of an instance (``lifecycle.machine`` has the states). Everyone else reads
it, to inform; only the owner changes it. Those who wait for a start wait on a future that the owner
resolves, so that a waiter who leaves disturbs neither the start nor the other waiters.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

import msgspec
import structlog

from homeport.errors import UpstreamError
from homeport.facts import Endpoint, UpstreamDialect
from homeport.lifecycle.machine import Event, State, transition
from homeport.settings import ModelSettings

log = structlog.get_logger()

Learned = Callable[[Endpoint], Endpoint]
"""What is known of this very engine beside its kind's facts (``engines.records``)."""


LAST_OUTPUT = "; its last output:\n"
"""Between the reason why an engine is down and the end of what it said."""


def nothing_learned(endpoint: Endpoint) -> Endpoint:
    return endpoint


class Instance(Protocol):
    """One engine, ours or somebody else's, as requests see it.

    All calls belong to the thread of the event loop.
    """

    @property
    def id(self) -> str: ...

    @property
    def dialect(self) -> UpstreamDialect:
        """What it is asked in; known before it has ever answered."""

    @property
    def state(self) -> State:
        """A snapshot, to show; it may be outdated after the next ``await``."""

    @property
    def endpoint(self) -> Endpoint | None:
        """Where it answers while it is ready, else None."""

    @property
    def last_error(self) -> str | None:
        """Why it last failed, with the engine's last lines. Kept after it has recovered."""

    @property
    def in_flight(self) -> int:
        """Leases out now."""

    def start(self) -> None:
        """Begin to start (or to ask a remote server), and return at once.

        Does nothing when that is under way, done, or about to be done after a backoff.
        """

    async def ensure_ready(self) -> Endpoint:
        """Return the endpoint, after starting the engine or joining a start under way.

        May wait for minutes while a model loads; cancelling it disturbs nobody else. Raises
        ``UpstreamError("unavailable")`` when the start fails, when a restart is pending, when it
        has failed and when it is about to stop.
        """

    def lease(self, *, takes_slot: bool = True) -> "Lease":
        """Return the right to use it for one request: ``with instance.lease() as lease: …``.

        Held from before the upstream is opened until the last byte; a drain waits for it. A request
        that the engine answers beside its slots (a token count) does not take one.
        """

    def report_down(self, reason: str) -> None:
        """Tell that a request found nobody at the endpoint."""

    def report_left(self) -> None:
        """Tell that a client has left in mid-request: its engine may go on all the same."""

    def configure(self, model: ModelSettings) -> None:
        """Take up settings that its engine need not know; an endpoint that is given out keeps its
        own."""

    async def stop(self, *, drain_s: float = 0.0) -> None:
        """Let leases finish for ``drain_s``, then stop; returns when it is stopped.

        A later ``ensure_ready`` starts it anew.
        """


class Lease:
    """The right to use an instance for one request, counted as in flight while it is held."""

    __slots__ = ("_of", "waited_s")

    def __init__(self, of: "Base") -> None:
        self._of = of
        self.waited_s = 0.0
        """How long ``ready`` has kept the request waiting."""

    @property
    def endpoint(self) -> Endpoint | None:
        """Where the request may go now; None while it has to wait for that."""
        return self._of.endpoint

    async def ready(self) -> Endpoint:
        """Wait until the request may go, and return where. Raises like ``Instance.ensure_ready``."""
        began = time.monotonic()
        try:
            return await self._of.ensure_ready()
        finally:
            self.waited_s += time.monotonic() - began

    async def lost(self) -> bool:
        """Whether the engine has died under the request and will be there again. If so, ``endpoint``
        and ``ready`` speak of the next one. Never for a server that is not ours."""
        return False

    async def why_lost(self) -> str | None:
        """Why the engine has died under the request; None if it has not, or is not ours."""
        return None

    def __enter__(self) -> "Lease":
        self._of.in_flight += 1
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._of.lease_ended()


class Base(ABC):
    """What both kinds have in common: the state, its log, and the leases."""

    def __init__(self, model: ModelSettings) -> None:
        self.id, self.model = model.id, model
        self.dialect: UpstreamDialect = "openai_chat"
        self.state: State = "stopped"
        self.endpoint: Endpoint | None = None
        self.last_error: str | None = None
        self.in_flight = 0
        self.leases_ended = 0
        self.clients_left = 0
        """In mid-request, since it exists; counted for engines of ours."""
        self._idle: asyncio.Event | None = None
        """Made by the first drain, which waits for it."""
        self._down = asyncio.Event()
        """Set while it does not answer."""
        self._down.set()
        self._started: asyncio.Future[Endpoint | None] | None = None
        self._retry_at = 0.0  # monotonic: a start is not tried before
        self._log = log.bind(instance=model.id)

    @abstractmethod
    def start(self) -> None: ...

    async def ensure_ready(self) -> Endpoint:
        if self.endpoint is not None:
            return self.endpoint
        if time.monotonic() >= self._retry_at:
            self.start()
        if self.state != "starting" or self._started is None:
            raise self.unavailable()
        endpoint = await asyncio.shield(self._started)
        if endpoint is None:
            raise self.unavailable()
        return endpoint

    def lease(self, *, takes_slot: bool = True) -> Lease:
        return Lease(self)

    def lease_ended(self) -> None:
        self.in_flight -= 1
        self.leases_ended += 1
        if self._idle is not None and not self.in_flight:
            self._idle.set()

    def report_left(self) -> None:
        """Only noted: nothing can be done about a server that is not ours."""
        self._log.debug("instance.client_left")

    def configure(self, model: ModelSettings) -> None:
        self.model = model
        if self.endpoint is not None:
            self.endpoint = with_settings(self.endpoint, model)

    async def goes_down(self, within_s: float) -> bool:
        """Whether it is down, or goes down so soon."""
        try:
            await asyncio.wait_for(self._down.wait(), within_s)
        except TimeoutError:
            return False
        return True

    async def _drained(self, drain_s: float) -> bool:
        """Wait until nothing is in flight, at most ``drain_s``; return whether that came true."""
        if not self.in_flight:
            return True
        self._idle = self._idle or asyncio.Event()
        self._idle.clear()
        try:
            await asyncio.wait_for(self._idle.wait(), drain_s)
        except TimeoutError:
            self._log.warning("instance.drain_timeout", in_flight=self.in_flight)
            return False
        return True

    def _begin(self) -> None:
        self._move("start")
        self._started = asyncio.get_running_loop().create_future()

    def _resolve(self, endpoint: Endpoint | None) -> None:
        if self._started is not None and not self._started.done():
            self._started.set_result(endpoint)

    def _end(self, event: Event, *, retry_s: float = 0.0) -> None:
        """It does not answer any more: who waits is told, and when a start is next tried."""
        self.endpoint = None
        self._down.set()
        self._retry_at = time.monotonic() + retry_s
        self._move(event)
        self._resolve(None)

    def _move(self, event: Event) -> None:
        before, self.state = self.state, transition(self.state, event)
        self._log.debug("instance.state", before=before, after=self.state, on=event)

    def _settle(self) -> None:
        """Become ``stopped`` from wherever a stop has found us, when nothing runs any more."""
        if self.state in ("starting", "ready", "draining"):
            self._move("stop")
        if self.state != "stopped":
            self._end("exited" if self.state == "stopping" else "stop")

    def unavailable(self) -> UpstreamError:
        """What a request is told that finds it so."""
        why = f": {self.last_error}" if self.state in ("backoff", "failed") else ""
        seconds = max(1, round(self._retry_at - time.monotonic()))
        message = f"{self.id} is not available ({self.state}){why}"
        return UpstreamError("unavailable", message, retry_after_s=seconds)

    @property
    def last_reason(self) -> str | None:
        """``last_error`` without the engine's own words."""
        return self.last_error and self.last_error.partition(LAST_OUTPUT)[0]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r}, {self.state}, in_flight={self.in_flight})"


def with_settings(endpoint: Endpoint, model: ModelSettings) -> Endpoint:
    """The endpoint with what the user decided about its model."""
    names = (
        *("rescue", "rescue_retry", "starts_thinking", "max_tools"),
        *("headers", "timeout_s", "request_defaults"),
    )
    chosen = {name: getattr(model, name) for name in names}
    if all(getattr(endpoint, name) == value for name, value in chosen.items()):
        return endpoint
    return msgspec.structs.replace(endpoint, **chosen)
