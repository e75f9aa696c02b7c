"""The boot chain at work: each member is started when the one before it is ready, watched, restarted,
and ended in the reverse order.

A chain is a list of ``Member``, and each of them has a task that owns it (``_Keeper``). What that does:

1. It waits for the member before it to have been ready once. Later restarts of that one do not concern
   it: the gateway answers 503 while llama-server is away, which is better than no gateway.
2. It starts the process and asks ``ready_url`` until that says 200; then it waits for the end.
3. Whatever the end was, it is a death. It is told with the last lines of output, and the member is
   started again after a delay that grows (``lifecycle.machine.backoff_s``). One that was ready for
   ``STABLE_S`` had no trouble starting: its restarts count anew.
4. When no restart is left, or its exit status says that none would help, the keeper ends: the member is
   given up, and with it the chain. Its exit code tells which one it was.

A process is an ``EngineProcess``: its shim ends all of its descendants, however it or we end. A member
is asked to end by a SIGTERM to the process itself and not to its tree: the gateway may have engines of
its own, which it needs until the answers under way are finished. SIGHUP goes to the gateway alone: it
reads its configuration anew.

What members say goes to the narrator line by line as it comes, none left out: who reads our output
slowly holds up the member that writes, and nothing is lost.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple, Protocol

import psutil
import structlog

from homeport.errors import UpstreamError
from homeport.lifecycle.machine import backoff_s
from homeport.runtime.output import Output
from homeport.runtime.probe import STARTUP_TIMEOUT_S, Fetch, StartError
from homeport.runtime.process import EngineProcess, port_is_free
from homeport.runtime.terminal import Terminal
from homeport.stack.boot.plan import EXIT_CUT, Member, Plan

log = structlog.get_logger()

STABLE_S: Final = 60.0
TELL_EVERY_S: Final = 10.0
"""How often is told what is still waited for."""
TAIL_LINES: Final = 10
"""Of a member's last words, which its output has had already."""
PROBE_TIMEOUT_S: Final = 5.0
_FIRST_POLL_S, _LAST_POLL_S, _POLL_SHARE = 0.02, 0.5, 0.03
"""Between questions: a small share of the time that has been waited already."""

Backoff = Callable[[int], float | None]


class Narrator(Protocol):
    """Hears what happens, and all that members say. Must return soon."""

    def line(self, member: Member, text: str) -> None: ...

    def starting(self, member: Member) -> None: ...

    def waiting(self, member: Member, waited_s: float) -> None: ...

    def ready(self, member: Member, took_s: float) -> None: ...

    def died(
        self, member: Member, reason: str, last_lines: list[str], retry_s: float | None
    ) -> None:
        """It is started again after ``retry_s``; None: it is given up."""

    def complete(self) -> None:
        """All members are ready, for the first time."""

    def stopping(self) -> None: ...

    def killed(self, member: Member, after_s: float) -> None: ...

    def stopped(self, exit_code: int) -> None: ...


class Chain:
    """One boot. ``run`` returns the exit code when everything has ended."""

    def __init__(
        self,
        plan: Plan,
        fetch: Fetch,
        narrator: Narrator,
        *,
        backoff: Backoff = backoff_s,
        startup_timeout_s: float = STARTUP_TIMEOUT_S,
    ) -> None:
        self._narrator = narrator
        self._keepers: list[_Keeper] = []
        for member in plan.members:
            before = self._keepers[-1] if self._keepers else None
            self._keepers.append(
                _Keeper(member, before, fetch, narrator, backoff, startup_timeout_s)
            )
        self._stop_asked, self._force_asked = asyncio.Event(), asyncio.Event()

    def __repr__(self) -> str:
        return f"Chain({self._keepers!r})"

    async def run(self) -> int:
        with self._signals():
            tasks = [keeper.begin() for keeper in self._keepers]
            complete = asyncio.ensure_future(self._complete())
            stop = asyncio.ensure_future(self._stop_asked.wait())
            try:
                await asyncio.wait({*tasks, stop}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                complete.cancel()
                stop.cancel()
                self._narrator.stopping()
                await self._end_all()
        code = self._exit_code()
        self._narrator.stopped(code)
        return code

    def stop(self) -> None:
        """Ask it to end; once more: to end at once."""
        if self._stop_asked.is_set():
            self._force_asked.set()
        self._stop_asked.set()

    async def _complete(self) -> None:
        for keeper in self._keepers:
            await keeper.was_ready.wait()
        self._narrator.complete()

    async def _end_all(self) -> None:
        """In the reverse order, each when the one behind it has ended; all at once if forced."""
        force = asyncio.ensure_future(self._force_asked.wait())
        try:
            for keeper in reversed(self._keepers):
                ending = asyncio.ensure_future(keeper.end())
                await asyncio.wait({ending, force}, return_when=asyncio.FIRST_COMPLETED)
                if force.done():
                    keeper.kill()
                await ending
        finally:
            force.cancel()

    def _exit_code(self) -> int:
        """1. Of a member that was given up. 2. That something was cut. 3. 0."""
        for keeper in self._keepers:
            if keeper.given_up is not None:
                return keeper.given_up
        was_cut = any(keeper.was_cut for keeper in self._keepers)
        return EXIT_CUT if was_cut else 0

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        loop, terminal = asyncio.get_running_loop(), Terminal()

        def on_hangup() -> None:
            if terminal.is_gone():
                terminal.let_go()
                self.stop()
            else:
                self._keepers[-1].send(signal.SIGHUP)

        handlers: Mapping[signal.Signals, Callable[[], None]] = {
            signal.SIGTERM: self._on_sigterm,
            signal.SIGINT: self.stop,
            signal.SIGHUP: on_hangup,
        }
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        try:
            yield
        finally:
            for number in handlers:
                loop.remove_signal_handler(number)

    def _on_sigterm(self) -> None:
        """A second one does nothing: supervisors send it to a process and again to its group, and
        have SIGKILL when they lose patience."""
        self._stop_asked.set()


class _Keeper:
    """Owns one member. Its calls belong to the thread of the event loop."""

    def __init__(
        self,
        member: Member,
        before: "_Keeper | None",
        fetch: Fetch,
        narrator: Narrator,
        backoff: Backoff,
        startup_timeout_s: float,
    ) -> None:
        self.member, self._before = member, before
        self._fetch, self._narrator = fetch, narrator
        self._backoff, self._startup_timeout_s = backoff, startup_timeout_s
        self.was_ready = asyncio.Event()
        """Once, at any time."""
        self.given_up: int | None = None
        """The chain's exit code then."""
        self.was_cut = False
        self._output = Output(heard=lambda text: narrator.line(member, text))
        self._process: EngineProcess | None = None
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<{self.member.name} {self._process!r}>"

    def begin(self) -> "asyncio.Task[None]":
        self._task = asyncio.create_task(self._keep_or_tell(), name=f"boot {self.member.name}")
        return self._task

    async def end(self) -> None:
        """Asks the member to end, and waits for it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def kill(self) -> None:
        """While ``end`` waits: it need not wait any longer."""
        if self._task is not None:
            self._task.cancel()

    def send(self, number: signal.Signals) -> None:
        """To the member's own process, not to its tree."""
        if self._process is not None and (pid := _leader(self._process.pid)) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    # What follows runs in the keeper's task only.

    async def _keep_or_tell(self) -> None:
        try:
            await self._keep()
        except Exception as error:  # a bug of ours: a chain that nobody watches is worse than none
            log.exception("boot.broken", member=self.member.name)
            self._narrator.died(self.member, f"is not watched any more: {error!r}", [], None)
            self.given_up = self.member.exit_code

    async def _keep(self) -> None:
        if self._before is not None:  # 1.
            await self._before.was_ready.wait()
        attempt = 0
        while True:
            first_line = self._output.next
            end = await self._run()  # 2.
            attempt = 1 if end.ready_s > STABLE_S else attempt + 1
            is_hopeless = end.status in self.member.hopeless
            retry_s = None if is_hopeless else self._backoff(attempt)
            last = list(self._output.since(first_line).texts[-TAIL_LINES:])
            self._narrator.died(self.member, end.reason, last, retry_s)  # 3.
            if retry_s is None:  # 4.
                self.given_up = end.status if is_hopeless else self.member.exit_code
                return
            await asyncio.sleep(retry_s)

    async def _run(self) -> "_End":
        """From its start to its end; if cancelled, it has been asked to end, and has."""
        self._narrator.starting(self.member)
        if not port_is_free(self.member.port):
            return _End(reason=f"did not start: port {self.member.port} is taken")
        began = time.monotonic()
        ready_at: float | None = None
        try:
            process = await EngineProcess.spawn(self.member.command, self._output)
        except OSError as error:  # no process or no memory left
            return _End(reason=f"did not start: {error.strerror}")
        self._process = process
        try:
            await self._until_ready(process, began)
            ready_at = time.monotonic()
            self._narrator.ready(self.member, ready_at - began)
            self.was_ready.set()
            await process.wait()
            reason = process.how_ended
        except StartError as error:
            reason = f"did not start: {error}"
        except asyncio.CancelledError:
            await self._wind_down(process)
            raise
        finally:
            await process.stop(0.0)
            self._process = None
        ready_s = 0.0 if ready_at is None else time.monotonic() - ready_at
        return _End(reason=reason, status=process.exit_status, ready_s=ready_s)

    async def _until_ready(self, process: EngineProcess, began: float) -> None:
        told = began
        while process.exit_status is None:
            if await self._answers():
                return
            waited_s = time.monotonic() - began
            if waited_s > self._startup_timeout_s:
                raise StartError(f"not ready after {self._startup_timeout_s:.0f} s")
            if time.monotonic() - told >= TELL_EVERY_S:
                told = time.monotonic()
                self._narrator.waiting(self.member, waited_s)
            await asyncio.sleep(min(max(_FIRST_POLL_S, waited_s * _POLL_SHARE), _LAST_POLL_S))
        await process.wait()  # its last output too
        raise StartError(process.how_ended)

    async def _answers(self) -> bool:
        try:
            status, _, _ = await self._fetch(self.member.ready_url, {}, PROBE_TIMEOUT_S)
        except UpstreamError:
            return False
        return status == 200

    async def _wind_down(self, process: EngineProcess) -> None:
        self.send(signal.SIGTERM)
        try:
            status = await asyncio.wait_for(process.wait(), self.member.grace_s)
            self.was_cut = status in self.member.cut
        except TimeoutError:
            self.was_cut = True
            self._narrator.killed(self.member, self.member.grace_s)
        except asyncio.CancelledError:  # ``kill``
            self.was_cut = True
            raise


class _End(NamedTuple):
    """How one run of a member has ended."""

    reason: str
    status: int | None = None
    ready_s: float = 0.0
    """How long it was ready."""


def _leader(shim: int) -> int | None:
    """The process that a shim has started: of its children the oldest, since it adopts later ones."""
    try:
        children = psutil.Process(shim).children()
        return min(children, key=lambda child: child.create_time()).pid if children else None
    except psutil.Error:
        return None
