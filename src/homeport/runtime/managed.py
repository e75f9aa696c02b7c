"""An engine that we start, restart after crashes, and stop, as an instance."""

import asyncio
import math
import secrets
import time
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from homeport.engines import last_words
from homeport.errors import ConfigError, UpstreamError
from homeport.facts import Command, Endpoint, Machine
from homeport.lifecycle.machine import backoff_s
from homeport.runtime import liveness, recycling, starting
from homeport.runtime.instance import (
    LAST_OUTPUT,
    Base,
    Learned,
    Lease,
    nothing_learned,
    with_settings,
)
from homeport.runtime.launcher import Engine, Launcher
from homeport.runtime.liveness import Patience, Silence
from homeport.runtime.output import Output
from homeport.runtime.probe import STARTUP_TIMEOUT_S, Fetch, StartError, ready_endpoint
from homeport.runtime.process import STOP_GRACE_S, free_port, port_is_free
from homeport.runtime.sleeping import Sleeper
from homeport.runtime.slot_files import SlotFiles
from homeport.settings import ModelSettings

RETRY_FAILED_S = 30.0
"""How long after giving up a request may try a start again."""
LOOK_AGAIN_S = 1.0
"""The same where nothing was started, because of what the user can change: looking costs little."""
STABLE_S = 60.0
"""An engine that was ready for so long had no trouble starting: its restarts count anew."""
PULL_FACTOR = 4
"""So much longer may a container take: its first start pulls an image, of ten gigabytes or more."""
PORT_TRIES = 3
"""Another process may take our port between our choice and the engine's bind; seldom once."""

CommandFor = Callable[[ModelSettings, int, str], Command]
"""How to start a model on a port with a key. Called in a thread, since it reads files; raises
``ConfigError``."""


def _command_for(model: ModelSettings, port: int, api_key: str) -> Command:
    return starting.command_for(model, Machine(), port, api_key)


class PortTakenError(Exception):
    """Someone else listens on the port that we chose."""


class Keeper(Protocol):
    """Who decides when an engine runs, and hears what becomes of it.

    The calls come from the owner's task and must return at once.
    """

    def lease(self, instance: "ManagedInstance", *, takes_slot: bool) -> Lease: ...

    def became_ready(self, instance: "ManagedInstance", endpoint: Endpoint) -> None: ...

    def went_down(
        self, instance: "ManagedInstance", *, retry_s: float | None, was_ready: bool
    ) -> None:
        """It ended by itself; it is started again after ``retry_s``, or not at all (None)."""


class NoKeeper:
    """Whoever wants it to run starts it: the way of one engine alone."""

    def lease(self, instance: "ManagedInstance", *, takes_slot: bool) -> Lease:
        return Lease(instance)

    def became_ready(self, instance: "ManagedInstance", endpoint: Endpoint) -> None:
        pass

    def went_down(
        self, instance: "ManagedInstance", *, retry_s: float | None, was_ready: bool
    ) -> None:
        pass


class ManagedInstance(Base):
    """An engine that we start, restart after crashes, and stop.

    Its owner is the task that runs ``_own``; ``stop`` cancels it and awaits its end.
    """

    def __init__(
        self,
        model: ModelSettings,
        fetch: Fetch,
        *,
        command_for: CommandFor | None = None,
        backoff: Callable[[int], float | None] = backoff_s,
        retry_failed_s: float = RETRY_FAILED_S,
        startup_timeout_s: float = STARTUP_TIMEOUT_S,
        stop_grace_s: float = STOP_GRACE_S,
        learned: Learned = nothing_learned,
        keeper: Keeper | None = None,
        slot_files: SlotFiles | None = None,
        sleeper: Sleeper | None = None,
        launcher: Launcher | None = None,
        silence: Silence = liveness.unheard,
        patience: Patience = liveness.USUAL,
    ) -> None:
        super().__init__(model)
        self._fetch, self._learned = fetch, learned
        self._keeper = keeper or NoKeeper()
        self._slot_files, self._sleeper = slot_files, sleeper
        self._to_bed, self._in_bed, self._woken = asyncio.Event(), asyncio.Event(), asyncio.Event()
        """Of an engine that sleeps: it shall, it does (or will not), it shall not any more."""
        self._command_for = command_for or _command_for
        self._backoff, self._retry_failed_s = backoff, retry_failed_s
        self._startup_timeout_s, self._stop_grace_s = startup_timeout_s, stop_grace_s
        self._owner: asyncio.Task[None] | None = None
        self._launcher = launcher or Launcher()
        self._silence, self._patience = silence, patience
        self._engine: Engine | None = None
        self.output = Output()
        """What its engines have said, one after the other."""
        self._command: Command | None = None
        self._drain_s = 0.0
        self._will_return = False
        self._left = asyncio.Event()
        """A client has left, whose answer may still be computed."""
        self.was_recycled = False
        """Its last engine did not fail, but was ended because it worked for nobody (``recycling``)."""
        self.misconfigured: ConfigError | None = None
        """Why its last start was not even tried; it takes another file or setting."""
        self._ready_at = math.inf
        self.was_ready = False
        """In this run, or in the last one where it is down."""

    @property
    def pid(self) -> int | None:
        """Of the first process of its tree, while there is one."""
        return self._engine.pid if self._engine is not None else None

    async def measured_pid(self) -> int | None:
        """Of the first process that uses the memory, while there is one and it is known."""
        return await self._engine.measured_pid() if self._engine is not None else None

    def known_failure(self, now: float) -> UpstreamError | None:
        """What a request is told at once, because the last start failed and the next is to come."""
        if self.state not in ("failed", "backoff") or now >= self._retry_at:
            return None
        return None if self.was_ready and self.state == "backoff" else self.unavailable()

    def start(self) -> None:
        if self.state == "asleep":
            self._begin()
            self._woken.set()
        elif self.state in ("stopped", "failed") and (self._owner is None or self._owner.done()):
            self._begin()
            self._owner = asyncio.create_task(self._own(), name=f"instance {self.id}")

    def lease(self, *, takes_slot: bool = True) -> Lease:
        return self._keeper.lease(self, takes_slot=takes_slot)

    def report_down(self, reason: str) -> None:
        """Only noted: its owner knows better whether the process lives."""
        self._log.warning("instance.reported_down", reason=reason)

    def report_left(self) -> None:
        self.clients_left += 1
        if self.endpoint is not None and not self.endpoint.engine.stops_when_left:
            self._left.set()

    async def stop(self, *, drain_s: float = 0.0, will_return: bool = False) -> None:
        """``will_return``: it is stopped to make room, and what it has cached is worth keeping."""
        self._will_return = will_return
        if will_return and await self._sleeps():
            return
        if self._owner is not None and not self._owner.done():
            if not self._owner.cancelling():  # else it is stopping already
                self._drain_s = drain_s
                self._owner.cancel()
            await asyncio.wait([self._owner])
        self._settle()  # no owner now: it had given up, or was cancelled before its first step

    @property
    def _is_asleep(self) -> bool:
        return self.state == "asleep"

    async def _sleeps(self) -> bool:
        """Whether it has been put to sleep in place of being stopped."""
        if self._sleeper is None or self.model.sleep is None or self.state != "ready":
            return False
        self._in_bed.clear()
        self._to_bed.set()
        await self._in_bed.wait()
        return self._is_asleep

    # What follows runs in the owner's task only.

    async def _own(self) -> None:
        """Run the engine, again after each crash; ends when it gives up or is cancelled."""
        attempt = 0
        try:
            while True:
                self._ready_at, self.was_ready, self.was_recycled = math.inf, False, False
                self.misconfigured = None
                reason, may_retry = await self._run()
                if self.was_recycled:  # at once, and no reason to give up
                    self._end("exited")
                    self._keeper.went_down(self, retry_s=0.0, was_ready=True)
                    self._begin()
                    continue
                self.last_error = reason
                if self._is_asleep:
                    self._move("exited")
                    return
                attempt = 1 if time.monotonic() - self._ready_at > STABLE_S else attempt + 1
                delay_s = self._backoff(attempt) if may_retry else None
                if delay_s is None:
                    again_s = LOOK_AGAIN_S if self.misconfigured else self._retry_failed_s
                    self._end("gave_up", retry_s=again_s)
                else:
                    self._end("exited", retry_s=delay_s)
                self._keeper.went_down(self, retry_s=delay_s, was_ready=self.was_ready)
                if delay_s is None:
                    return
                await asyncio.sleep(delay_s)
                self._begin()
        except asyncio.CancelledError:  # asked to stop; the process has ended
            self._settle()

    async def _run(self) -> tuple[str, bool]:
        """Run the engine once; return why it ended, and whether another start may help."""
        try:
            for _ in range(PORT_TRIES):
                try:
                    return await self._run_on(self.model.port or free_port())
                except PortTakenError:
                    continue
            return f"port {self.model.port} is taken" if self.model.port else "no free port", True
        except ConfigError as error:
            self._log.info("instance.misconfigured", error=str(error))  # start_news tells it
            self.misconfigured = error
            return str(error), False
        except Exception as error:  # a bug of ours must not leave waiters waiting
            self._log.exception("instance.broken")
            return repr(error), False

    async def _run_on(self, port: int) -> tuple[str, bool]:
        began = time.monotonic()
        api_key = self.model.api_key or secrets.token_hex(16)
        command = await asyncio.to_thread(self._command_for, self.model, port, api_key)
        if self._slot_files is not None:
            command = self._slot_files.command(command)
        self._command = command
        self._log.info("instance.starting", port=port, command=command.argv[0])
        async with self._launcher.running(self.id, command, self.output) as engine:
            self._engine = engine
            try:
                return await self._live(engine, port, command, began)
            except asyncio.CancelledError:
                await self._wind_down()
                raise
            finally:
                await engine.stop(self._stop_grace_s)
                self._engine = None

    async def _live(
        self, engine: Engine, port: int, command: Command, began: float
    ) -> tuple[str, bool]:
        """From its start to its end; returns like ``_run``."""
        try:
            endpoint = await self._wait_ready(engine, port, command)
        except StartError as error:
            if engine.exit_status is not None and not port_is_free(port):
                raise PortTakenError from error
            self._log.info("instance.start_failed", error=str(error), output=engine.tail())
            return self._why_not(f"did not start: {error}", engine), True
        self._become_ready(await self._with_slots(endpoint, command), began)
        stuck = await self._until_over(engine, endpoint, command)
        while self._to_bed.is_set() and engine.exit_status is None:
            if (stuck := await self._night(engine, port, endpoint, command)) is None:
                stuck = await self._until_over(engine, endpoint, command)
        if self.was_recycled and stuck is not None:
            self._log.warning("instance.recycled", reason=stuck)
            return stuck, True  # it is stopped with patience, as always
        if stuck is not None:
            self._log.error("instance.stuck", reason=stuck, output=engine.tail())
            await engine.stop(0.0)  # it would not hear a SIGTERM
            return _with_tail(stuck, engine), True
        self._log.error("instance.exited", status=engine.exit_status, output=engine.tail())
        return _with_tail(engine.how_ended, engine), True

    def _why_not(self, reason: str, engine: Engine) -> str:
        """With the line that tells why, where one does; else with all the last ones."""
        words = last_words.telling(engine.tail())
        if words is None:
            return _with_tail(reason, engine)
        hint = f"{words.hint}; " if words.hint else ""
        log = f"all that it said: homeport logs {self.id}"
        return f"{reason}: {words.line}\n  hint: {hint}{log}"

    async def _until_over(self, engine: Engine, endpoint: Endpoint, command: Command) -> str | None:
        """Return None when it has ended or is to sleep, or why it has to be ended."""
        ended = asyncio.ensure_future(engine.wait())
        stuck = asyncio.ensure_future(
            liveness.until_stuck(
                self,
                endpoint,
                command,
                self.output,
                fetch=self._fetch,
                silence=self._silence,
                patience=self._patience,
            )
        )
        to_bed = asyncio.ensure_future(self._to_bed.wait())
        self._left.clear()
        abandoned = asyncio.ensure_future(recycling.until_abandoned(self, self._left, engine.pid))
        waiting: set[asyncio.Future[Any]] = {ended, stuck, to_bed, abandoned}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                return None
            if stuck.done():
                return stuck.result()
            if self._to_bed.is_set():
                return None
            self.was_recycled = True
            return abandoned.result()
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.wait(waiting)

    async def _night(
        self, engine: Engine, port: int, endpoint: Endpoint, command: Command
    ) -> str | None:
        """It shall sleep: until it is woken and ready again, or (returned as the reason to end it)
        will not be. One that does not fall asleep goes on, and is stopped by whoever wanted it to."""
        assert self._sleeper is not None
        assert self.model.sleep is not None
        self._to_bed.clear()
        self._woken.clear()
        self.endpoint = None  # no new requests
        self._down.set()
        is_asleep = await self._sleeper.put_to_sleep(endpoint, self.model.sleep)
        if is_asleep:
            self._move("sleep")
        self._in_bed.set()
        if not is_asleep:
            return None
        ended, woken = (
            asyncio.ensure_future(engine.wait()),
            asyncio.ensure_future(self._woken.wait()),
        )
        waiting: set[asyncio.Future[Any]] = {ended, woken}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.wait(waiting)
        if engine.exit_status is not None:
            return "it ended in its sleep"
        began = time.monotonic()
        if not await self._sleeper.wake(endpoint, self.model.sleep):
            return "it did not wake up"
        try:
            self._become_ready(await self._wait_ready(engine, port, command), began)
        except StartError as error:
            return f"it did not get ready after its sleep: {error}"
        return None

    async def _wait_ready(self, engine: Engine, port: int, command: Command) -> Endpoint:
        return await ready_endpoint(
            engine,
            f"http://127.0.0.1:{port}/v1",
            fetch=self._fetch,
            api_key=command.api_key,
            engine=None if command.engine == "custom" else command.engine,
            ready_path=command.ready_path,
            model=command.model,
            context_tokens=command.context_tokens,
            timeout_s=self._startup_timeout_s * (PULL_FACTOR if command.container else 1),
        )

    async def _with_slots(self, endpoint: Endpoint, command: Command) -> Endpoint:
        """The endpoint, after its slots have got back what was saved when it was stopped."""
        if self._slot_files is None:
            return endpoint
        is_restored = await self._slot_files.restore(self.id, command, endpoint)
        return msgspec.structs.replace(endpoint, slots_restored=is_restored)

    def _become_ready(self, endpoint: Endpoint, began: float) -> None:
        self._move("became_ready")
        self._ready_at = time.monotonic()
        self.was_ready = True
        self._down.clear()
        self.endpoint = endpoint = self._learned(with_settings(endpoint, self.model))
        self._resolve(endpoint)
        self._keeper.became_ready(self, endpoint)
        took_s = round(time.monotonic() - began, 3)
        self._log.info(
            "instance.ready",
            took_s=took_s,
            url=endpoint.base_url,
            ctx=endpoint.model.context_tokens,
        )

    async def _wind_down(self) -> None:
        """Let leases finish while the engine lives, then enter ``stopping``."""
        endpoint, self.endpoint = self.endpoint, None  # no new requests
        if self.state == "ready" and self.in_flight and self._drain_s > 0:
            self._move("drain")
            await self._drained(self._drain_s)
        self._move("stop")
        if endpoint is not None and self._will_return and self._slot_files is not None:
            assert self._command is not None
            await self._slot_files.save(self.id, self._command, endpoint)


def _with_tail(reason: str, engine: Engine) -> str:
    tail = engine.tail()
    return f"{reason}{LAST_OUTPUT}{tail}" if tail else reason
