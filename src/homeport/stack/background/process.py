"""homeport as a process of its own in the background: without containers, and without systemd.

Three things say which process it is, and none of them is a pid alone:

* ``process.json`` in ``proxy/`` of the state folder: its identity (``runtime.identity``: pid, start,
  boot) and how it was called. It is written by ``start`` and removed by ``stop``. So a record whose
  process has gone means: it died.
* ``lock`` beside it, which commands hold while they change something (``alone``): of two starts at
  once the second finds what the first has started.
* the file in which each homeport tells where it listens, with its pid (``runtime.running``).

It is signalled by a descriptor of the process where the system has such (Linux), and only after it was
seen to be the one of the record.

Between its birth and the record of it there is a moment. Whoever is killed with ``kill -9`` just then
leaves a homeport that runs and is not known here; the next ``start`` finds it at its port, and says so.
"""

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

import msgspec

from homeport.config import load
from homeport.errors import StackError
from homeport.runtime import identity, log_file, running
from homeport.runtime.identity import Identity
from homeport.stack import answers, staged
from homeport.stack.alone import alone
from homeport.stack.background import nearby
from homeport.stack.background.serving import Run, Serving, as_it_ran, command, serving
from homeport.stack.proxy import (
    GATEWAY,
    Check,
    Health,
    Kind,
    Member,
    Started,
    Status,
    Tell,
    Wanted,
)

SAID_LINES: Final = 12
"""Of a process that died, shown with the error: a traceback's end."""
KILLED_S: Final = 10.0
"""Until the kernel has ended a killed process; more only if it hangs in a driver."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What was started, and not stopped since."""

    process: Identity
    started_at: datetime
    run: Run
    url: str | None = None
    """Where it listens, once it has answered there."""


class Background:
    """See ``stack.proxy.Proxy``."""

    kind: Kind = "process"

    def __init__(self, env: Mapping[str, str]) -> None:
        """``env`` is what the user's command has."""
        state_home = load.state_home(env)
        self._env = env
        self._places = list(running.folders(env, state_home))
        self._folder = state_home / "proxy"
        self._file = self._folder / "process.json"
        self.log = self._folder / "proxy.log"

    def __repr__(self) -> str:
        return f"<Background {self._record()}>"

    @property
    def was_started(self) -> bool:
        """And not stopped since: it runs, or has died."""
        return self._record() is not None

    # ------------------------------------------------------------------- start and stop

    def start(self, wanted: Wanted, tell: Tell) -> Started:
        call = serving(wanted, self._env)
        with alone(self._folder, tell):
            return self._start(call, tell)

    def stop(self, tell: Tell, *, stop_db: bool = False) -> bool:
        with alone(self._folder, tell):
            return self._stop(tell)

    def restart(self, wanted: Wanted | None, tell: Tell) -> Started:
        record = self._record()
        ran = as_it_ran(record.run if record else None)
        call = serving(ran if wanted is None else wanted, self._env)
        with alone(self._folder, tell):
            self._stop(tell)
            return self._start(call, tell)

    def _start(self, call: Serving, tell: Tell) -> Started:
        """1. One runs that is as it is wanted: that is all.
        2. It is not, or does not answer: the user decides.
        3. None runs: it is started; one that died is forgotten."""
        record = self._record()
        if record is not None and record.process.fate == "alive":
            return nearby.as_wanted(record.process.pid, self._url(record), record.run, call.run)
        nearby.refuse_taken(call.run.port, self._places)
        tell(f"starting homeport; it says what it does in {self.log}")
        return self._born(call, tell)

    def _born(self, call: Serving, tell: Tell) -> Started:
        begun = log_file.place_of(self.log)
        process = self._spawn(call)
        try:
            record = self._noted(process.pid, call.run)
            url = nearby.until_healthy(
                lambda: process.pid, lambda: self._why_ended(process, begun), self._places, tell
            )
        except BaseException:  # Ctrl-C too: what was begun is taken back
            self._take_back(process)
            raise
        if record is not None:
            self._write(msgspec.structs.replace(record, url=url))
        found = answers.settled(url)
        if found.in_words:
            tell(f"models: {', '.join(found.in_words)}")
        process.returncode = 0  # it goes on without us, and nobody shall warn of that
        return Started(url=url, was_running=False, warnings=found.warnings)

    def _noted(self, pid: int, run: Run) -> Record | None:
        """None when it has ended already."""
        who = identity.of(pid)
        if who is None:
            return None
        record = Record(process=who, started_at=datetime.now(UTC), run=run)
        self._write(record)
        return record

    def _spawn(self, call: Serving) -> "subprocess.Popen[bytes]":
        try:
            log = log_file.opened(self.log)
        except OSError as error:
            raise staged.unwritable(self.log, error) from None
        try:
            head = (
                f"--- {datetime.now().astimezone():%Y-%m-%d %H:%M:%S}: started by homeport proxy\n"
            )
            os.write(log, head.encode())
            return subprocess.Popen(
                command(sys.executable, call, "--log-file", str(self.log)),
                cwd="/",  # no folder that somebody may want to unmount
                env=call.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # no terminal, and no Ctrl-C that is meant for the command
            )
        finally:
            os.close(log)

    def _why_ended(
        self, process: "subprocess.Popen[bytes]", begun: tuple[int, int]
    ) -> StackError | None:
        if (status := process.poll()) is None:
            return None
        said = log_file.since(self.log, begun, SAID_LINES)
        how = f"by signal {-status}" if status < 0 else f"with status {status}"
        return StackError(
            f"homeport ended {how} before it was healthy",
            said=tuple(line for line in said if line.strip() and not line.startswith("--- ")),
            hint=f"`homeport config check` looks at the configuration; the whole log is {self.log}",
        )

    def _take_back(self, process: "subprocess.Popen[bytes]") -> None:
        if process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(KILLED_S)
        if process.poll() is None:
            process.kill()
            process.wait()
        self._file.unlink(missing_ok=True)

    def _stop(self, tell: Tell) -> bool:
        record = self._record()
        if record is None:
            return False
        url = self._url(record)
        found = record.process.fate == "alive" and _signal(record.process, signal.SIGTERM)
        if found and not nearby.until_ended(
            lambda: record.process.fate == "alive",
            record.process.pid,
            url,
            record.run,
            tell,
        ):
            tell(f"it has not ended in {record.run.stop_timeout_s:.0f} s, and is killed")
            self._kill(record.process)
        self._file.unlink(missing_ok=True)
        return found

    def _kill(self, process: Identity) -> None:
        """Its engines end with it, whichever way it ends (``runtime.shim``)."""
        deadline = time.monotonic() + KILLED_S
        _signal(process, signal.SIGKILL)
        while process.fate == "alive":
            if time.monotonic() > deadline:
                raise StackError(
                    f"homeport (pid {process.pid}) does not end, even killed",
                    hint="it hangs in the kernel, mostly in a driver; look at `dmesg`",
                )
            time.sleep(nearby.LOOK_S)

    # ------------------------------------------------------------------- looking

    def status(self) -> Status:
        return Status(kind=self.kind, members=(self._member(),))

    def _member(self) -> Member:
        record = self._record()
        if record is None:
            return Member(name=GATEWAY, state="stopped")
        pid, fate = record.process.pid, record.process.fate
        if fate != "alive":
            return Member(name=GATEWAY, state="died", detail=self._epitaph(fate, pid))
        url = self._url(record)
        why = answers.why_silent(url) if url else ""
        state: Final = "running" if url else "starting"
        return Member(
            name=GATEWAY,
            state=state,
            health="starting" if url is None else "unhealthy" if why else "healthy",
            since=record.started_at,
            ports=(url.partition("//")[2],) if url else (),
            detail=", ".join(filter(None, (f"pid {pid}", *record.run.details, why))),
            warnings=answers.ready(url).warnings if url and not why else (),
        )

    def _epitaph(self, fate: str, pid: int) -> str:
        if fate == "unknown":
            return f"pid {pid}, of another machine or container, which cannot be seen from here"
        last = next((line for line in reversed(log_file.last(self.log, 50)) if line.strip()), "")
        return f"pid {pid} has gone" + (f"; the last that it said: {last.strip()}" if last else "")

    def health(self) -> Health:
        record = self._record()
        if record is None or record.process.fate != "alive":
            why = "it died" if record else "it does not run"
            return Health(checks=(Check(name=GATEWAY, is_healthy=False, why=why),))
        url = self._url(record)
        if url is None:
            why = "it does not listen yet"
            return Health(checks=(Check(name=GATEWAY, is_healthy=False, why=why),))
        return Health(checks=(answers.check(GATEWAY, url),))

    def logs(self, *, lines: int, follow: bool, service: str | None = None) -> Iterator[str]:
        nearby.refuse_service(service)
        if follow:
            return log_file.followed(self.log, lines)
        return iter(log_file.last(self.log, lines))

    # ------------------------------------------------------------------- notes

    def _url(self, record: Record) -> str | None:
        """Where it tells that it listens; who looks may have another ``XDG_RUNTIME_DIR``, or none, and
        not see it tell."""
        return nearby.url_of(self._places, record.process.pid) or record.url

    def _record(self) -> Record | None:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=Record)
        except (OSError, msgspec.MsgspecError):
            return None  # none, or of another version: then its port tells

    def _write(self, record: Record) -> None:
        try:
            staged.write(self._file, msgspec.json.encode(record))
        except OSError as error:
            raise staged.unwritable(self._file, error) from None


def _signal(process: Identity, number: signal.Signals) -> bool:
    """Whether it was there to hear it."""
    try:
        with _held(process.pid) as send:
            if process.fate != "alive":
                return False
            send(number)
            return True
    except ProcessLookupError:
        return False


@contextlib.contextmanager
def _held(pid: int) -> Iterator[Callable[[signal.Signals], None]]:
    """A way to signal whoever has the pid now, and nobody who has it later.

    Where there are no descriptors of processes (macOS; Linux before 5.3: ``ENOSYS``), or a sandbox
    refuses them (``EPERM``), it is the pid: who uses this has looked whose it is, and a moment is left
    in which that may change.
    """
    try:
        descriptor = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM):
            raise
        descriptor = None
    if descriptor is None:
        yield lambda number: os.kill(pid, number)
        return
    try:
        yield lambda number: signal.pidfd_send_signal(descriptor, number)
    finally:
        os.close(descriptor)
