"""A homeport on this machine, seen from outside: where it listens, and until when it is waited for.

It is found by the file in which it tells of itself (``runtime.running``), and that by its process.
"""

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import psutil

from homeport.errors import StackError
from homeport.runtime import running
from homeport.stack import answers, ports
from homeport.stack.background.serving import PORT, Run, differences
from homeport.stack.proxy import GATEWAY, Started, Tell
from homeport.stack.waiting import Repeated

START_S: Final = 120.0
"""Until it listens and answers: a cold disk, a driver that is slow to name its cards. Models come
later, nobody waits for them here."""
LOOK_S: Final = 0.1
SETTLE_S: Final = 0.5
"""Asked to end, it closes idle connections first."""


def url_of(places: Iterable[Path], pid: int) -> str | None:
    """Where this process listens; None before it does."""
    return next((one.url for one in running.running(places) if one.pid == pid), None)


def until_healthy(
    pid: Callable[[], int | None],
    why_ended: Callable[[], StackError | None],
    places: Iterable[Path],
    tell: Tell,
) -> str:
    """Blocks until the process answers; returns where. ``pid`` is its id, once there is one,
    ``why_ended`` tells when there will be no answer. Raises that, or ``StackError`` when it takes too
    long."""
    places, deadline = list(places), time.monotonic() + START_S
    waiting = Repeated(tell)
    while True:
        number = pid()
        url = url_of(places, number) if number else None
        why = answers.why_silent(url) if url else "it does not listen yet"
        if url and not why:
            return url
        if error := why_ended():
            raise error
        if time.monotonic() > deadline:
            raise StackError(
                f"homeport is not healthy after {START_S:.0f} s: {why}",
                hint="`homeport proxy logs` shows what it says; --debug makes it say more",
            )
        waiting(f"waiting for homeport: {why}")
        time.sleep(LOOK_S)


def refuse_taken(port: int, places: Iterable[Path]) -> None:
    """Raises ``StackError`` when somebody else listens on the port."""
    holder = ports.holder(port) if port else None
    if holder is None:
        return
    other = f"{PORT}={port + 1 if port < 65535 else port - 1} homeport proxy start"
    if (one := running.at(port, places)) is not None:
        raise StackError(
            f"a homeport that was started otherwise runs on {one.url} already (pid {one.pid})",
            hint=f"use that one; or end it (`kill {one.pid}`); or choose another port: {other}",
        )
    raise StackError(
        f"port {port} is taken by {holder}",
        hint=f"stop that, or choose another port: {other}, or server.port in config.yaml",
    )


def refuse_service(name: str | None) -> None:
    """Raises ``StackError`` for a member that there is in containers only."""
    if name not in (None, GATEWAY):
        raise StackError(
            f"there is no {name} here: homeport runs without containers",
            hint=f"`homeport logs {name}` shows what a model's engine says",
        )


def as_wanted(pid: int, url: str | None, runs: Run, wanted: Run) -> Started:
    """What a start says of one that runs. Raises ``StackError`` when it runs otherwise, or is not
    healthy: a start cuts nobody off."""
    if others := differences(runs, wanted):
        raise StackError(
            f"homeport runs already (pid {pid}), {', '.join(others)}",
            hint="to change that: `homeport proxy restart`, with the same options",
        )
    why = answers.why_silent(url) if url else "it does not listen"
    if url is None or why:
        raise StackError(
            f"homeport runs already (pid {pid}), but is not healthy: {why}",
            hint="`homeport proxy logs` shows what it says; `homeport proxy restart`",
        )
    return Started(url=url, was_running=True, warnings=answers.ready(url).warnings)


def until_ended(
    is_alive: Callable[[], bool], pid: int, url: str | None, runs: Run, tell: Tell
) -> bool:
    """Blocks until a homeport that was asked to end has ended, and tells what it waits for; False when
    it takes too long."""
    port = urlsplit(url).port if url else None
    begun, told = time.monotonic(), 0
    while is_alive():
        waited_s = time.monotonic() - begun
        if waited_s > runs.stop_timeout_s:
            return False
        count = _open_connections(pid, port) if port else 0
        if count != told and waited_s > SETTLE_S:
            told = count
            requests = f"{count} request{'s' * (count != 1)}"
            if count:
                tell(f"waiting for {requests} to finish, {runs.drain_timeout_s:.0f} s at most")
            else:
                tell("all requests have finished; its engines end")
        time.sleep(LOOK_S)
    return True


def _open_connections(pid: int, port: int) -> int:
    """Of clients, as far as that can be seen. While it drains, each is a request under way."""
    try:
        found = psutil.Process(pid).net_connections(kind="tcp")
    except psutil.Error:
        return 0
    return sum(
        c.status == psutil.CONN_ESTABLISHED and bool(c.laddr) and c.laddr.port == port
        for c in found
    )
