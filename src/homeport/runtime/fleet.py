"""The engines that we start, and which of them run: the coat of ``lifecycle.scheduler``.

The scheduler decides; here its effects are carried out, and what happens to engines and requests is
told to it. Nothing here decides anything:

    a request takes a lease      → request    ┐                 ┌ Grant, Refuse → the lease
    a lease ends                 → leave      │                 │
    an engine is ready           → ready      ├─ Scheduler ─────┤
    an engine ended by itself    → down       │                 │
    an engine has been stopped   → stopped    │                 ├ Start → its memory is waited for, then
    time has passed              → tick       ┘                 │         the instance is started
                                                                └ Stop  → the instance is stopped

All of it runs in the thread of the event loop, event by event, so that two decisions never overlap.
"""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Protocol

import structlog

from homeport.errors import ClientError, InternalError, RequestFault, UpstreamError
from homeport.facts import MIB, Endpoint
from homeport.lifecycle.scheduler import (
    Effect,
    Grant,
    Policy,
    Refuse,
    Residency,
    Scheduler,
    Start,
    Stop,
    Terms,
    Ticket,
)
from homeport.runtime.instance import Lease
from homeport.runtime.managed import ManagedInstance
from homeport.runtime.scheduled_lease import ScheduledLease

log = structlog.get_logger()

Work = Callable[[], Awaitable[None]]

MEASURE_EVERY_S = 60.0
"""Between two looks at the memory of an engine, which come after a request."""


class Narrator(Protocol):
    """Hears of each change that a person would want to see."""

    def starting(self, instance: ManagedInstance) -> None: ...

    def ready(self, instance: ManagedInstance, endpoint: Endpoint) -> None: ...

    def down(self, instance: ManagedInstance, *, retry_s: float | None) -> None: ...

    def stopping(self, instance: ManagedInstance, why: str) -> None: ...

    def stopped(self, instance: ManagedInstance) -> None: ...

    def waited(self, instance: ManagedInstance, seconds: float) -> None:
        """A request, or who asked for a load, did so until it had a place or was refused. Not called
        of those that have one at once."""


class Memory(Protocol):
    """What engines use (``runtime.provision``)."""

    async def until_free(self, need_bytes: int) -> object:
        """Return when so much is really free, or when waiting for it makes no sense any more."""

    async def used_bytes(self, instance: ManagedInstance) -> int | None:
        """What it uses now, None where that is not known."""


class NoMemory:
    """For engines without a budget: nothing is waited for, nothing measured."""

    async def until_free(self, need_bytes: int) -> object:
        return None

    async def used_bytes(self, instance: ManagedInstance) -> int | None:
        return None


class Fleet:
    """A ``Keeper`` (``runtime.managed``) of all engines that are ours.

    ``add`` and ``retire`` change which there are; requests come in by ``instance.lease()``.
    """

    def __init__(self, policy: Policy, *, memory: Memory | None = None) -> None:
        self._policy, self._scheduler = policy, Scheduler(policy)
        self._narrators: list[Narrator] = []
        self._memory = memory or NoMemory()
        self._members: dict[str, ManagedInstance] = {}
        self._keys: dict[ManagedInstance, str] = {}
        """By what the scheduler knows them: ids, but an old instance of a model that has been
        configured anew lives on beside the new one until it is idle."""
        self._terms: dict[str, Terms] = {}
        self._leases: dict[Ticket, ScheduledLease] = {}
        self._measure_at: dict[str, float] = {}
        """When an engine's memory is next looked at: prompts make some grow (MLX has no bound)."""
        self._numbers = itertools.count(1)
        self._timer: asyncio.TimerHandle | None = None
        self._work: dict[str, asyncio.Task[None]] = {}
        """What is being done to an engine: one thing at a time."""
        self._is_closed = False

    def __repr__(self) -> str:
        return f"Fleet({list(self._members.values())!r}, waiting={self.waiting})"

    def observe(self, narrator: Narrator) -> None:
        """From now on it hears of everything."""
        self._narrators.append(narrator)

    # ------------------------------------------------------------------- who there is

    def add(self, instance: ManagedInstance, terms: Terms) -> None:
        key = instance.id
        if key in self._members:
            key = f"{instance.id}@{next(self._numbers)}"
        self._members[key], self._keys[instance] = instance, key
        self._terms[key] = terms
        self._act(self._scheduler.add(key, terms, time.monotonic()))

    def terms_of(self, instance: ManagedInstance) -> Terms:
        return self._terms[self._keys[instance]]

    def set_terms(self, instance: ManagedInstance, terms: Terms) -> None:
        """It may do otherwise from now on; what runs goes on running."""
        key = self._keys[instance]
        self._terms[key] = terms
        self._act(self._scheduler.add(key, terms, time.monotonic()))

    def retire(self, instance: ManagedInstance) -> None:
        """It has left the configuration: requests under way finish, then it is stopped for good. Those
        that wait go over to the instance of the same id that has been added since, if there is one."""
        key = self._keys[instance]
        self._act(self._scheduler.retire(key, time.monotonic()))
        self._forget_if_gone(key)

    def set_policy(self, policy: Policy) -> None:
        self._policy = policy
        self._act(self._scheduler.set_policy(policy, time.monotonic()))

    def set_default(self, instance: ManagedInstance | None) -> None:
        key = None if instance is None else self._keys[instance]
        self._act(self._scheduler.set_default(key, time.monotonic()))

    # ------------------------------------------------------------------- by hand

    async def load(self, instance: ManagedInstance) -> Endpoint:
        """Start it as soon as there is room, and return where it answers.

        It is wanted as if by a request, for as long as this is awaited; but a start that has failed
        just now is no reason not to try another. Raises like ``Lease.ready``.
        """
        with ScheduledLease(self, instance, takes_slot=False, insists=True) as lease:
            return await lease.ready()

    def unload(self, instance: ManagedInstance) -> None:
        """Stop it when nothing is in flight any more; a later request starts it again."""
        key = self._keys[instance]
        if instance.state == "asleep":
            self._replace(key, partial(self._wake_to_end, instance))
        self._act(self._scheduler.unload(key, time.monotonic()))

    @property
    def waiting(self) -> int:
        """Requests that wait for a place."""
        return sum(not lease.is_granted for lease in self._leases.values())

    def snapshot(self) -> Mapping[str, Residency]:
        return self._scheduler.snapshot()

    def residency(self, instance: ManagedInstance) -> Residency:
        """What it is doing; one that is gone is stopped."""
        key = self._keys.get(instance, "")
        return self._scheduler.snapshot().get(key) or Residency(state="stopped")

    async def close(self) -> None:
        """Stop all engines, at once and side by side; nothing is started any more."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        for task in self._work.values():
            task.cancel()
        if self._work:
            await asyncio.wait(self._work.values())
        for lease in self._leases.values():
            if not lease.is_granted:
                lease.settle(UpstreamError("unavailable", "homeport is stopping", retry_after_s=5))
        stops = (instance.stop() for instance in self._members.values())
        await asyncio.gather(*stops, return_exceptions=True)

    # ------------------------------------------------------------------- the keeper

    def lease(self, instance: ManagedInstance, *, takes_slot: bool) -> Lease:
        return ScheduledLease(self, instance, takes_slot=takes_slot)

    def became_ready(self, instance: ManagedInstance, endpoint: Endpoint) -> None:
        key = self._keys[instance]
        for narrator in self._narrators:
            narrator.ready(instance, endpoint)
        limit = endpoint.model.slots
        self._act(self._scheduler.ready(key, time.monotonic(), limit=limit))
        self._start_to_measure(key, instance)

    def went_down(
        self, instance: ManagedInstance, *, retry_s: float | None, was_ready: bool
    ) -> None:
        for narrator in self._narrators:
            narrator.down(instance, retry_s=retry_s)
        key, now = self._keys[instance], time.monotonic()
        self._act(self._scheduler.down(key, now, retry_s=retry_s, was_ready=was_ready))
        self._forget_if_gone(key)

    # ------------------------------------------------------------------- leases

    def request(self, lease: ScheduledLease) -> None:
        lease.ticket = ticket = next(self._numbers)
        self._leases[ticket] = lease
        instance, now = lease.instance, time.monotonic()
        key = self._keys.get(instance)
        if key is None:
            self._act([Refuse(ticket, "gone")])
        elif not lease.insists and (why := instance.known_failure(now)) is not None:
            lease.settle(why)
        else:
            self._act(self._scheduler.request(ticket, key, now, takes_slot=lease.takes_slot))

    def leave(self, ticket: Ticket) -> None:
        lease, now = self._leases.pop(ticket), time.monotonic()
        self._act(self._scheduler.leave(ticket, now))
        key = self._keys.get(lease.instance)
        if key is not None and now >= self._measure_at.get(key, now + 1):
            self._start_to_measure(key, lease.instance)

    # ------------------------------------------------------------------- effects

    def _act(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            if self._is_closed:
                return  # who waits has been told; nothing is started any more
            match effect:
                case Grant(ticket):
                    self._leases[ticket].settle(None)
                case Refuse(ticket, reason, retry_after_s):
                    lease = self._leases[ticket]
                    heir = self._heir_of(lease.instance) if reason == "gone" else None
                    if heir is not None:
                        del self._leases[ticket]
                        lease.move_to(heir)
                    else:
                        lease.settle(self._refusal(reason, retry_after_s, lease.instance))
                case Start(key):
                    self._replace(key, partial(self._start, key, self._members[key]))
                case Stop(key, why):
                    self._replace(key, partial(self._stop, key, self._members[key], why))
        self._set_timer()

    def _replace(self, key: str, work: Work) -> None:
        """Do this to the engine in place of what was being done to it."""
        before = self._work.get(key)
        if before is asyncio.current_task():
            before = None  # it has done its work, and this comes of it

        async def after_that() -> None:
            if before is not None and not before.done():
                before.cancel()
                await asyncio.wait([before])
            await work()

        self._do(key, after_that)

    def _do(self, name: str, work: Work) -> None:
        async def guarded() -> None:
            try:
                await work()
            except Exception:
                log.exception("fleet.broken", work=name)

        task = asyncio.create_task(guarded(), name=f"fleet {name}")
        self._work[name] = task
        task.add_done_callback(lambda done: self._done(name, done))

    def _done(self, name: str, task: "asyncio.Task[None]") -> None:
        if self._work.get(name) is task:
            del self._work[name]

    async def _start(self, key: str, instance: ManagedInstance) -> None:
        for narrator in self._narrators:
            narrator.starting(instance)
        if need_bytes := self._terms[key].need_bytes:
            try:
                await self._memory.until_free(need_bytes)
            except Exception:  # not knowing is no reason to leave requests waiting
                log.exception("memory.unknown", instance=instance.id)
        for before in self._before_it_on_its_port(instance):
            await before.output.closed()
        instance.start()

    async def _stop(self, key: str, instance: ManagedInstance, why: str) -> None:
        for narrator in self._narrators:
            narrator.stopping(instance, why)
        await instance.stop(will_return=why in ("evicted", "idle"))
        for narrator in self._narrators:
            narrator.stopped(instance)
        self._act(self._scheduler.stopped(key, time.monotonic()))
        self._forget_if_gone(key)

    async def _wake_to_end(self, instance: ManagedInstance) -> None:
        """To the scheduler one that sleeps is stopped; its process is there all the same."""
        await instance.stop()
        for narrator in self._narrators:
            narrator.stopped(instance)
        if instance not in self._keys:
            instance.output.close()

    def _before_it_on_its_port(self, instance: ManagedInstance) -> list[ManagedInstance]:
        """Those that the last configuration gave the same port, and that finish their requests."""
        others = (member for member in self._members.values() if member is not instance)
        port = instance.model.port
        return [member for member in others if port is not None and member.model.port == port]

    def _heir_of(self, instance: ManagedInstance) -> ManagedInstance | None:
        """The one that has taken its place."""
        same = [member for member in self._members.values() if member.id == instance.id]
        return same[-1] if same and same[-1] is not instance else None

    def waited(self, instance: ManagedInstance, seconds: float) -> None:
        for narrator in self._narrators:
            narrator.waited(instance, seconds)

    def _start_to_measure(self, key: str, instance: ManagedInstance) -> None:
        self._measure_at[key] = time.monotonic() + MEASURE_EVERY_S
        self._do(f"measure {key}", partial(self._measure, key, instance))

    async def _measure(self, key: str, instance: ManagedInstance) -> None:
        used = await self._memory.used_bytes(instance)
        if used is not None and instance.endpoint is not None:
            self._act(self._scheduler.measured(key, used, time.monotonic()))

    def _refusal(
        self, reason: str, retry_after_s: float | None, instance: ManagedInstance
    ) -> RequestFault:
        name, seconds = instance.id, None if retry_after_s is None else max(1, round(retry_after_s))
        match reason:
            case "queue_full":
                message = f"too many requests wait for {name} already"
            case "waited_too_long":
                message = f"no place became free for {name} in time"
            case "failed":
                return instance.unavailable()
            case "gone":
                return ClientError("not_found", f"{name} has been taken out of the configuration")
            case "cannot_fit":
                return UpstreamError("unavailable", self._too_big(instance))
            case _:
                return InternalError("internal", f"{name}: {reason}")
        return UpstreamError("overloaded", message, retry_after_s=seconds)

    def _too_big(self, instance: ManagedInstance) -> str:
        need, budget = self._terms[self._keys[instance]].need_bytes, self._policy.budget_bytes
        if budget is not None and need > budget:
            return (
                f"{instance.id} needs about {need // MIB} MiB, and lifecycle.memory is "
                f"{budget // MIB} MiB; ask for less context (ctx), or allow more"
            )
        return (
            f"{instance.id} cannot run beside the models that are pinned; see pinned, groups and "
            "lifecycle.memory in the configuration"
        )

    def _forget_if_gone(self, key: str) -> None:
        if key not in self._scheduler.snapshot():
            instance = self._members.pop(key)
            del self._keys[instance], self._terms[key]
            self._measure_at.pop(key, None)
            if instance.state == "asleep":
                self._do(key, partial(self._wake_to_end, instance))
            else:
                instance.output.close()

    def _set_timer(self) -> None:
        if self._is_closed:
            return
        wake = self._scheduler.next_wake(time.monotonic())
        if self._timer is not None:
            if wake is not None and self._timer.when() <= wake:
                return  # too early does no harm, and is set anew then
            self._timer.cancel()
            self._timer = None
        if wake is not None:
            self._timer = asyncio.get_running_loop().call_at(wake, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._act(self._scheduler.tick(time.monotonic()))
