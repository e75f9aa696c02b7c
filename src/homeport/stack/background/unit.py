"""homeport as a systemd user unit: without containers, and as lasting as they are.

The unit file is what was started and not stopped since: ``start`` writes it, enables and starts the
unit; ``stop`` takes all that away again. So it comes back with the machine and after a crash, as
containers do that are restarted "unless stopped". How it was wanted stands in it as well, in a section
of ours: systemd passes over those whose names begin with ``X-`` (systemd.unit(5)).

A unit gets none of the variables of the user's shell. What it needs of them (``Serving.own_env``) is in
a file for its owner alone; the unit file itself is for everybody to read.

systemd's part is known from its manual, version 252: systemctl(1), systemd.service(5), systemd.exec(5),
systemd.syntax(7).
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from homeport.config import load
from homeport.errors import StackError
from homeport.runtime import running
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

NAME: Final = "homeport.service"
BRIEF_S: Final = 20.0
"""For a question to systemd."""
SAID_LINES: Final = 12
WRONG_CONFIGURATION: Final = 2
"""homeport's exit status for it (``cli.main``): another start would find the same."""

ANSWERS: Final = frozenset({"initializing", "starting", "running", "degraded", "maintenance"})
"""What ``is-system-running`` says where there is a systemd for this user; else ``offline`` or
``unknown``, or an error on the way there."""

STATES: Final[dict[str, Any]] = {
    "active": "running",
    "reloading": "running",
    "activating": "starting",
    "deactivating": "stopping",
    "failed": "died",
}
"""Of ``ActiveState``; anything else is stopped."""

FILE: Final = """\
# Written by `homeport proxy start`, and taken away by `homeport proxy stop`.

[Unit]
Description=homeport: one port for local models

[Service]
Type=exec
ExecStart={command}
ExecReload=/bin/kill -HUP $MAINPID
EnvironmentFile={environment}
WorkingDirectory=/
Restart=on-failure
RestartSec=2
RestartPreventExitStatus={wrong}
KillMode=mixed
TimeoutStopSec={stop_s:.0f}

[Install]
WantedBy=default.target

[X-Homeport]
Run={run}
"""


PROPERTIES: Final = tuple(
    f"--property={name}"
    for name in (
        *("ActiveState", "SubState", "MainPID", "Result", "ExecMainStatus", "NRestarts"),
        "ActiveEnterTimestampMonotonic",
    )
)


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """The unit, as systemd tells it."""

    active: str
    sub: str
    pid: int
    result: str
    exit_status: str
    restarts: int
    entered_us: int
    """When it became active, on the monotonic clock."""

    @property
    def is_alive(self) -> bool:
        return self.active in ("active", "activating", "reloading", "deactivating")


class Unit:
    """See ``stack.proxy.Proxy``."""

    kind: Kind = "unit"

    def __init__(self, env: Mapping[str, str]) -> None:
        """``env`` is what the user's command has."""
        state_home = load.state_home(env)
        self._env = dict(env)
        self._places = list(running.folders(env, state_home))
        self._folder = state_home / "proxy"
        self._environment = self._folder / "environment"
        self.file = load.xdg(env, "XDG_CONFIG_HOME", ".config") / "systemd" / "user" / NAME

    @property
    def was_started(self) -> bool:
        """And not stopped since: it runs, or has died."""
        return self.file.is_file()

    @property
    def is_possible(self) -> bool:
        """systemd answers this user."""
        if shutil.which("systemctl", path=self._env.get("PATH")) is None:
            return False
        return self._systemctl("is-system-running").stdout.strip() in ANSWERS

    # ------------------------------------------------------------------- start and stop

    def start(self, wanted: Wanted, tell: Tell) -> Started:
        call = serving(wanted, self._env)
        with alone(self._folder, tell):
            return self._start(call, tell)

    def stop(self, tell: Tell, *, stop_db: bool = False) -> bool:
        with alone(self._folder, tell):
            return self._stop(tell)

    def restart(self, wanted: Wanted | None, tell: Tell) -> Started:
        call = serving(as_it_ran(self._run()) if wanted is None else wanted, self._env)
        with alone(self._folder, tell):
            self._stop(tell)
            return self._start(call, tell)

    def _start(self, call: Serving, tell: Tell) -> Started:
        seen, runs = self._seen(), self._run()
        if seen.is_alive and runs is not None:
            return nearby.as_wanted(seen.pid, self._url(seen), runs, call.run)
        nearby.refuse_taken(call.run.port, self._places)
        tell(f"starting homeport as the systemd user unit {NAME}")
        try:
            self._write(call)
            self._do("daemon-reload")
            self._systemctl("reset-failed", NAME)  # else systemd may refuse after several crashes
            self._do("enable", NAME)
            self._do("start", NAME)
            url = nearby.until_healthy(
                lambda: self._seen().pid, self._why_ended, self._places, tell
            )
        except BaseException:  # Ctrl-C too: what was begun is taken back
            self._take_away()
            raise
        found = answers.settled(url)
        if found.in_words:
            tell(f"models: {', '.join(found.in_words)}")
        return Started(url=url, was_running=False, warnings=found.warnings)

    def _why_ended(self) -> StackError | None:
        seen = self._seen()
        if seen.is_alive and seen.sub != "auto-restart":
            return None
        return StackError(
            f"homeport ended before it was healthy (systemd: {seen.result}, "
            f"status {seen.exit_status})",
            said=tuple(line for line in self._journal("--lines", str(SAID_LINES)) if line.strip()),
            hint="`homeport config check` looks at the configuration; "
            f"`journalctl --user --unit {NAME}` has the whole log",
        )

    def _stop(self, tell: Tell) -> bool:
        if not self.was_started:
            return False
        seen, runs = self._seen(), self._run()
        if seen.is_alive and runs is not None:
            url = self._url(seen)
            self._do("stop", "--no-block", NAME)
            # systemd kills what does not end (TimeoutStopSec); for that we wait as well.
            patient = msgspec.structs.replace(runs, drain_timeout_s=runs.stop_timeout_s)
            if not nearby.until_ended(lambda: self._seen().is_alive, seen.pid, url, patient, tell):
                raise StackError(
                    f"{NAME} does not end, even killed",
                    hint=f"`systemctl --user status {NAME}` says what systemd is doing",
                )
        self._take_away()
        return seen.is_alive

    def _take_away(self) -> None:
        """Nothing of it is left; harmless where there is nothing."""
        self._systemctl("disable", "--now", NAME)
        self.file.unlink(missing_ok=True)
        self._environment.unlink(missing_ok=True)
        self._systemctl("daemon-reload")
        self._systemctl("reset-failed", NAME)

    def _write(self, call: Serving) -> None:
        text = FILE.format(
            command=" ".join(map(_word, command(sys.executable, call))),
            environment=str(self._environment).replace("%", "%%"),
            wrong=WRONG_CONFIGURATION,
            stop_s=call.run.stop_timeout_s,
            run=msgspec.json.encode(call.run).decode(),
        )
        try:
            own = "".join(map(_assignment, call.own_env.items()))
            staged.write(self._environment, os.fsencode(own))
            staged.write(self.file, text.encode(), staged.READABLE)
        except OSError as error:
            raise staged.unwritable(error.filename, error) from None

    # ------------------------------------------------------------------- looking

    def status(self) -> Status:
        return Status(kind=self.kind, members=(self._member(),))

    def _member(self) -> Member:
        if not self.was_started:
            return Member(name=GATEWAY, state="stopped")
        seen, runs = self._seen(), self._run()
        state = STATES.get(seen.active, "stopped")
        url = self._url(seen)
        why = answers.why_silent(url) if url else ""
        health: Any = "unhealthy" if why else "healthy" if url else "starting"
        details = [f"pid {seen.pid}" if seen.pid else ""]
        details += runs.details if runs is not None else ()
        if state == "died":
            details.append(f"systemd: {seen.result}, status {seen.exit_status}")
        times = f"{seen.restarts} times" if seen.restarts > 1 else "once"
        details.append(f"restarted {times}" if seen.restarts else "")
        return Member(
            name=GATEWAY,
            state=state,
            health=health if state in ("running", "starting") else "unknown",
            since=_time(seen.entered_us) if state == "running" else None,
            ports=(url.partition("//")[2],) if url else (),
            detail=", ".join(filter(None, (*details, why))),
            warnings=answers.ready(url).warnings if url and not why else (),
        )

    def health(self) -> Health:
        seen = self._seen() if self.was_started else None
        url = self._url(seen) if seen else None
        if url is not None:
            return Health(checks=(answers.check(GATEWAY, url),))
        state = STATES.get(seen.active, "stopped") if seen else "stopped"
        why = {"died": "it died", "stopped": "it does not run"}.get(state, "it does not listen")
        return Health(checks=(Check(name=GATEWAY, is_healthy=False, why=why),))

    def logs(self, *, lines: int, follow: bool, service: str | None = None) -> Iterator[str]:
        nearby.refuse_service(service)
        return self._journal("--lines", str(lines), *["--follow"] * follow)

    # ------------------------------------------------------------------- systemd

    def _run(self) -> Run | None:
        """How it was wanted."""
        try:
            found = re.search(r"^Run=(.*)$", self.file.read_text(), re.MULTILINE)
            return msgspec.json.decode(found[1], type=Run) if found else None
        except (OSError, msgspec.MsgspecError):
            return None

    def _seen(self) -> Seen:
        lines = self._systemctl("show", NAME, *PROPERTIES).stdout.splitlines()
        found = dict(line.partition("=")[::2] for line in lines)
        return Seen(
            active=found.get("ActiveState", ""),
            sub=found.get("SubState", ""),
            pid=_number(found.get("MainPID", "")),
            result=found.get("Result", ""),
            exit_status=found.get("ExecMainStatus", ""),
            restarts=_number(found.get("NRestarts", "")),
            entered_us=_number(found.get("ActiveEnterTimestampMonotonic", "")),
        )

    def _url(self, seen: Seen) -> str | None:
        return nearby.url_of(self._places, seen.pid) if seen.pid else None

    def _do(self, *words: str) -> None:
        """Raises ``StackError`` when systemd refuses."""
        done = self._systemctl(*words)
        if done.returncode:
            raise StackError(
                f"systemctl --user {' '.join(words)} failed",
                said=tuple(done.stderr.splitlines()[-SAID_LINES:]),
                hint="`homeport proxy start` needs no systemd where it is not there: "
                f"`systemctl --user status {NAME}` says what is wrong with it",
            )

    def _systemctl(self, *words: str) -> "subprocess.CompletedProcess[str]":
        try:
            return subprocess.run(
                ["systemctl", "--user", *words],
                env=self._env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=BRIEF_S,
            )
        except subprocess.TimeoutExpired:
            raise StackError(
                f"systemctl --user {words[0]} did not answer within {BRIEF_S:g} s",
                hint="look at systemd itself: `systemctl --user status`",
            ) from None

    def _journal(self, *words: str) -> Iterator[str]:
        """Its lines, as it wrote them."""
        process = subprocess.Popen(
            ["journalctl", "--user", f"--unit={NAME}", "--output=cat", "--no-pager", *words],
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            errors="replace",
        )
        with process:
            try:
                assert process.stdout is not None
                for line in process.stdout:
                    yield line.rstrip("\n")
            finally:
                if process.poll() is None:
                    process.terminate()


def _word(text: str) -> str:
    """One word of a command line in a unit file: no specifier, no variable in it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'


def _assignment(variable: tuple[str, str]) -> str:
    """One line of an environment file."""
    name, value = variable
    escaped = re.sub(r'(["\\`$])', r"\\\1", value)
    return f'{name}="{escaped}"\n'


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0


def _time(monotonic_us: int) -> datetime | None:
    if not monotonic_us:
        return None
    ago_s = time.clock_gettime(time.CLOCK_MONOTONIC) - monotonic_us / 1e6
    return datetime.now(UTC) - timedelta(seconds=ago_s)
