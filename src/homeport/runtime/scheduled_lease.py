"""The right to use an engine of ours, as a request holds it: granted at once or later, or refused.

    asked ──┬──→ granted ──→ given back
            │       │ its engine died: asked anew, ``MAX_RENEWALS`` times
            └──→ refused

Who grants and refuses is the fleet, by the scheduler's word; here is what a request waits on meanwhile.
"""

import asyncio
import time
from types import TracebackType
from typing import Final, Protocol

from homeport.errors import RequestFault
from homeport.facts import Endpoint
from homeport.lifecycle.scheduler import Ticket
from homeport.runtime.instance import Lease
from homeport.runtime.managed import ManagedInstance

MAX_RENEWALS: Final = 2
"""How often a request whose engine died under it asks for a place again."""

LOST_S: Final = 3.0
"""How long the end of an engine may take to be noticed after its connections have broken: what it
leaves behind has a second to end by itself (``shim.GRACE_S``)."""


class Grants(Protocol):
    """What a lease asks of the fleet."""

    def request(self, lease: "ScheduledLease") -> None:
        """Gives the lease a ticket, and settles it, now or later."""
        ...

    def leave(self, ticket: Ticket) -> None: ...

    def waited(self, instance: ManagedInstance, seconds: float) -> None: ...


class ScheduledLease(Lease):
    """A lease that the scheduler grants, at once or later, or refuses."""

    __slots__ = (
        "_fleet",
        "_refused",
        "_settled",
        "insists",
        "instance",
        "is_granted",
        "takes_slot",
        "ticket",
    )

    def __init__(
        self, fleet: Grants, instance: ManagedInstance, *, takes_slot: bool, insists: bool = False
    ) -> None:
        super().__init__(instance)
        self._fleet, self.instance, self.takes_slot = fleet, instance, takes_slot
        self.insists = insists
        self.is_granted = False
        self._refused: RequestFault | None = None
        self._settled: asyncio.Future[None] | None = None
        """For who waits."""
        self.ticket: Ticket = 0

    def settle(self, refused: RequestFault | None) -> None:
        """Granted, or why not; called once for each time of asking."""
        self._refused = refused
        if refused is None:
            self.is_granted = True
            self.instance.in_flight += 1
        if self._settled is not None and not self._settled.done():
            self._settled.set_result(None)

    def move_to(self, instance: ManagedInstance) -> None:
        """Ask another one: the first has been configured anew."""
        self.instance = self._of = instance
        self._fleet.request(self)

    @property
    def endpoint(self) -> Endpoint | None:
        return self.instance.endpoint if self.is_granted else None

    async def ready(self) -> Endpoint:
        began = time.monotonic()
        try:
            return await self._ready()
        finally:
            self.waited_s += time.monotonic() - began

    async def _ready(self) -> Endpoint:
        for _ in range(MAX_RENEWALS + 1):
            await self._wait()
            if (endpoint := self.endpoint) is not None:
                return endpoint
            # Granted, but its engine died before we looked: it is asked for anew.
            self._give_back()
            self._ask()
        raise self.instance.unavailable()

    async def lost(self) -> bool:
        if not await self.instance.goes_down(LOST_S):
            return False
        self._give_back()
        self._ask()
        return True

    async def why_lost(self) -> str | None:
        return self.instance.last_reason if await self.instance.goes_down(LOST_S) else None

    async def _wait(self) -> None:
        if not self.is_granted and self._refused is None:
            self._settled = asyncio.get_running_loop().create_future()
            began = time.monotonic()
            await self._settled
            self._fleet.waited(self.instance, time.monotonic() - began)
        if self._refused is not None:
            raise self._refused

    def __enter__(self) -> "ScheduledLease":
        self._ask()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._give_back()

    def _ask(self) -> None:
        self._refused = self._settled = None
        self._fleet.request(self)

    def _give_back(self) -> None:
        if self.is_granted:
            self.is_granted = False
            self.instance.lease_ended()
        self._fleet.leave(self.ticket)
