"""An instance that is another one's, seen otherwise: who leases it leases that one.

All is passed on, but for what each kind of it says by itself: which instance it forwards to (``of``),
and how that one's endpoint is told to its own clients (``at``).
"""

from abc import ABC, abstractmethod
from types import TracebackType

from homeport.facts import Endpoint, UpstreamDialect
from homeport.lifecycle.machine import State
from homeport.runtime.instance import Instance, Lease
from homeport.settings import ModelSettings


class Forwarding(ABC):
    """An ``Instance``."""

    def __init__(self, model_id: str, dialect: UpstreamDialect) -> None:
        self.id, self.dialect = model_id, dialect
        self.in_flight = 0
        """Of its own leases; the other one has more, perhaps."""

    @property
    @abstractmethod
    def of(self) -> Instance:
        """The one that it forwards to now."""

    @abstractmethod
    def at(self, endpoint: Endpoint) -> Endpoint:
        """Where that one answers, as it is told here."""

    @property
    def state(self) -> State:
        return self.of.state

    @property
    def endpoint(self) -> Endpoint | None:
        found = self.of.endpoint
        return None if found is None else self.at(found)

    @property
    def last_error(self) -> str | None:
        return self.of.last_error

    def start(self) -> None:
        self.of.start()

    async def ensure_ready(self) -> Endpoint:
        return self.at(await self.of.ensure_ready())

    def lease(self, *, takes_slot: bool = True) -> Lease:
        return ForwardedLease(self, self.of.lease(takes_slot=takes_slot))

    def report_down(self, reason: str) -> None:
        self.of.report_down(reason)

    def report_left(self) -> None:
        self.of.report_left()

    def configure(self, model: ModelSettings) -> None:
        self.of.configure(model)

    async def stop(self, *, drain_s: float = 0.0) -> None:
        await self.of.stop(drain_s=drain_s)


class ForwardedLease(Lease):
    """The other one's lease, which tells of the endpoint as its holder is to see it."""

    __slots__ = ("_by", "_inner")

    def __init__(self, by: Forwarding, inner: Lease) -> None:
        self._by, self._inner = by, inner

    @property
    def waited_s(self) -> float:  # type: ignore[override]  # only read
        return self._inner.waited_s

    @property
    def endpoint(self) -> Endpoint | None:
        found = self._inner.endpoint
        return None if found is None else self._by.at(found)

    async def ready(self) -> Endpoint:
        return self._by.at(await self._inner.ready())

    async def lost(self) -> bool:
        return await self._inner.lost()

    async def why_lost(self) -> str | None:
        return await self._inner.why_lost()

    def __enter__(self) -> "ForwardedLease":
        self._inner.__enter__()
        self._by.in_flight += 1
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._by.in_flight -= 1
        self._inner.__exit__(kind, error, trace)
