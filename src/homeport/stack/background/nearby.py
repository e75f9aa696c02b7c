"""A homeport on this machine, seen from outside: where it listens, and whether it answers.

It is found by the file in which it tells of itself (``runtime.running``), and that by its process; what
it says of itself is on routes that want no key.
"""

import http.client
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import psutil

from homeport.runtime import running
from homeport.stack import ports
from homeport.stack.background.serving import PORT, Run, differences
from homeport.stack.proxy import GATEWAY, Check, StackError, Started, Tell

ANSWER_S: Final = 5.0
"""For an answer that takes milliseconds."""
START_S: Final = 120.0
"""Until it listens and answers: a cold disk, a driver that is slow to name its cards. Models come
later, nobody waits for them here."""
LOOK_S: Final = 0.1
SETTLE_S: Final = 0.5
"""Asked to end, it closes idle connections first."""
TELL_S: Final = 10.0
"""How often it is said again what is waited for."""


def url_of(places: Iterable[Path], pid: int) -> str | None:
    """Where this process listens; None before it does."""
    return next((one.url for one in running.running(places) if one.pid == pid), None)


def why_silent(url: str) -> str:
    """Why it is not healthy; empty when it is."""
    try:
        status, _ = _ask(url, "/health")
    except (OSError, http.client.HTTPException) as error:
        return f"{url} does not answer: {_reason(error)}"
    return "" if status == 200 else f"{url}/health answers with {status}"


def check(name: str, url: str) -> Check:
    """Its health; with what its models are doing, where it is well."""
    if why := why_silent(url):
        return Check(name=name, is_healthy=False, why=why)
    return Check(name=name, is_healthy=True, why=", ".join(models(url)))


def models(url: str) -> list[str]:
    """The state of each model, in words."""
    try:
        _, body = _ask(url, "/readyz")
        found = json.loads(body)
        states = [f"{name} {model['state']}" for name, model in found["models"].items()]
        return states + [f"no answer from {upstream} yet" for upstream in found["waiting_for"]]
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError):
        return []


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
    waiting = _Repeated(tell)
    while True:
        number = pid()
        url = url_of(places, number) if number else None
        why = why_silent(url) if url else "it does not listen yet"
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
    for one in running.running(places):
        if urlsplit(one.url).port == port:
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
    why = why_silent(url) if url else "it does not listen"
    if url is None or why:
        raise StackError(
            f"homeport runs already (pid {pid}), but is not healthy: {why}",
            hint="`homeport proxy logs` shows what it says; `homeport proxy restart`",
        )
    return Started(url=url, was_running=True)


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


class _Repeated:
    """Tells what is waited for when it changes, and again after a while."""

    def __init__(self, tell: Tell) -> None:
        self._tell, self._last, self._at = tell, "", 0.0

    def __call__(self, text: str) -> None:
        now = time.monotonic()
        if text != self._last or now - self._at > TELL_S:
            self._tell(text)
            self._last, self._at = text, now


def _ask(url: str, path: str) -> tuple[int, Any]:
    parts = urlsplit(url)
    # Straight to it: no proxy of the environment is on the way to this machine.
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=ANSWER_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
