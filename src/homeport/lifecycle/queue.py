"""The requests of one model: those that wait for it, and those that use it (in flight).

First come, first served. A request waits until the model is ready, and then until one of the places
that the engine computes side by side (``limit``) is free. Requests that take no slot (a token count)
need no such place, but they are in flight like all others.

A model that has to go closes its queue. Requests have *places*: numbers in the order in which they
came, over all models. A queue ``closed_to`` place 7 grants what came before 7 and nothing that came
later. Those before it become no more, and those in flight finish, so that one day the model is *done*,
however much is asked of it.

Whether the model is ready, and what that means, is known to ``lifecycle.scheduler`` alone.
"""

from collections.abc import Iterator

import msgspec

Ticket = int
"""One request; made by the caller, unique."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    ticket: Ticket
    place: int
    """In the order of all requests, of whatever model."""
    arrived_at: float
    takes_slot: bool = True


class Queue:
    """Requests come in by ``join`` or, past all that wait, by ``grant``; they go by ``leave``."""

    def __init__(self) -> None:
        self.limit: int | None = None
        """Slot-taking requests in flight at most; None: any number."""
        self.closed_to: int | None = None
        """Requests from this place on are not granted; None: open."""
        self._waiting: dict[Ticket, Request] = {}  # in the order of their places
        self._granted: dict[Ticket, Request] = {}
        self._slots_taken = 0

    def __repr__(self) -> str:
        return f"<Queue {self.queued} waiting, {self.in_flight} in flight>"

    @property
    def queued(self) -> int:
        return len(self._waiting)

    @property
    def in_flight(self) -> int:
        return len(self._granted)

    @property
    def is_idle(self) -> bool:
        return not self._waiting and not self._granted

    @property
    def is_done(self) -> bool:
        """Nothing is in flight, and nobody waits whom it would still serve."""
        oldest = self.oldest
        return not self._granted and (oldest is None or not self._is_open_to(oldest))

    @property
    def waiting(self) -> list[Request]:
        """From the oldest to the youngest."""
        return list(self._waiting.values())

    @property
    def oldest(self) -> Request | None:
        """The first of those that wait."""
        return next(iter(self._waiting.values()), None)

    def join(self, request: Request) -> None:
        """It waits."""
        self._waiting[request.ticket] = request

    def can_serve_now(self, request: Request) -> bool:
        """Whether ``request``, which has just come, need not wait if the model is ready. It passes
        nobody: while others wait, no slot is free for it, or it is not open to it."""
        return self._is_open_to(request) and self._has_slot_for(request)

    def grant(self, request: Request) -> None:
        """It waits no more, or never did, and is in flight."""
        self._waiting.pop(request.ticket, None)
        self._granted[request.ticket] = request
        self._slots_taken += request.takes_slot

    def grant_waiting(self) -> Iterator[Request]:
        """Grant all that can be, and yield them."""
        for request in self.waiting:
            if not self._is_open_to(request):
                return
            if self._has_slot_for(request):
                self.grant(request)
                yield request

    def leave(self, ticket: Ticket) -> bool:
        """It has ended or does not want any more; return whether it was in flight."""
        if self._waiting.pop(ticket, None) is not None:
            return False
        self._slots_taken -= self._granted.pop(ticket).takes_slot
        return True

    def _is_open_to(self, request: Request) -> bool:
        return self.closed_to is None or request.place < self.closed_to

    def _has_slot_for(self, request: Request) -> bool:
        return not request.takes_slot or self.limit is None or self._slots_taken < self.limit
