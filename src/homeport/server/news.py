"""What happens to engines, as events for whoever listens: a dashboard, or who waits for a load.

``News`` is one of the fleet's narrators. A listener that does not keep up loses the oldest events and
is told how many: what happens to engines never waits for who watches them.
"""

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal

import msgspec

from homeport.facts import Endpoint
from homeport.runtime.managed import ManagedInstance

MAX_WAITING: Final = 256
"""Events that are kept for one listener: some for each of a hundred models."""

EventName = Literal["starting", "ready", "down", "stopping", "stopped", "reloaded"]


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    event: EventName
    at_s: float
    """Seconds since 1970."""
    model: str | None = None
    took_s: float | None = None
    """``ready``: since ``starting``; not after a crash."""
    why: str | None = None
    """``stopping``: evicted, idle, asked, gone."""
    reason: str | None = None
    """``down``: how it ended, with the engine's last lines."""
    retry_s: float | None = None
    """``down``: when it is started again, if it is."""
    added: tuple[str, ...] = ()
    """``reloaded``: models, as is what follows."""
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


class Listener:
    """Hears from now on."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque()
        self._dropped = 0
        self._has_some = asyncio.Event()

    def hear(self, event: Event) -> None:
        if len(self._events) == MAX_WAITING:
            self._events.popleft()
            self._dropped += 1
        self._events.append(event)
        self._has_some.set()

    async def wait(self) -> None:
        """Returns when there is something to take."""
        await self._has_some.wait()

    def take(self) -> tuple[int, list[Event]]:
        """How many events were lost, and those that came after them."""
        taken = self._dropped, list(self._events)
        self._dropped = 0
        self._events.clear()
        self._has_some.clear()
        return taken


class News:
    """Follows ``runtime.fleet.Narrator``."""

    def __init__(self) -> None:
        self._listeners: set[Listener] = set()
        self._starts: dict[ManagedInstance, float] = {}
        """When those that are starting began to; monotonic."""

    @contextmanager
    def listen(self) -> Iterator[Listener]:
        listener = Listener()
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.remove(listener)

    def starting(self, instance: ManagedInstance) -> None:
        self._starts[instance] = time.monotonic()
        self._tell(Event(event="starting", at_s=time.time(), model=instance.id))

    def ready(self, instance: ManagedInstance, endpoint: Endpoint) -> None:
        began = self._starts.pop(instance, None)
        took_s = None if began is None else round(time.monotonic() - began, 3)
        self._tell(Event(event="ready", at_s=time.time(), model=instance.id, took_s=took_s))

    def down(self, instance: ManagedInstance, *, retry_s: float | None) -> None:
        self._starts.pop(instance, None)
        reason = "recycled" if instance.was_recycled else instance.last_error
        self._tell(
            Event(event="down", at_s=time.time(), model=instance.id, reason=reason, retry_s=retry_s)
        )

    def stopping(self, instance: ManagedInstance, why: str) -> None:
        self._starts.pop(instance, None)
        self._tell(Event(event="stopping", at_s=time.time(), model=instance.id, why=why))

    def stopped(self, instance: ManagedInstance) -> None:
        self._tell(Event(event="stopped", at_s=time.time(), model=instance.id))

    def waited(self, instance: ManagedInstance, seconds: float) -> None:
        """Of requests nothing is told here: there may be thousands."""

    def reloaded(
        self, added: tuple[str, ...], changed: tuple[str, ...], removed: tuple[str, ...]
    ) -> None:
        self._tell(
            Event(
                event="reloaded",
                at_s=time.time(),
                added=added,
                changed=changed,
                removed=removed,
            )
        )

    def _tell(self, event: Event) -> None:
        for listener in self._listeners:
            listener.hear(event)
