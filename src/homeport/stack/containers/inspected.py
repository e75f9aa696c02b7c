"""The stack's containers, as Docker tells of them (``docker inspect``), and what that means. Pure.

Whose they are, and which service each one is, say the labels that Compose gives. The shapes are those
of Docker's API 1.45 (Docker 26).
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from homeport.stack.proxy import Check, Member

EVERYWHERE: Final = ("0.0.0.0", "::")
"""Addresses of no machine: what listens there is reached by any of this one."""


class Container(msgspec.Struct, frozen=True, kw_only=True):
    """A container of the stack, as ``docker inspect`` tells it."""

    id: str
    name: str
    service: str
    status: str
    """``created``, ``running``, ``restarting``, ``exited``, ``dead``, …"""
    health: str
    """``healthy``, ``unhealthy``, ``starting``; empty where there is no check."""
    exit_status: int
    restarts: int
    since: datetime | None
    ports: tuple[str, ...]
    wanted: str
    """What ``start`` was told, as JSON."""
    comes_back: bool
    """Docker starts it again, whatever it ends by, unless somebody has stopped it."""
    is_once: bool
    """It does something once, and has ended then."""
    last_check: str
    """What its health check said last."""

    @property
    def is_up(self) -> bool:
        if self.is_once:
            return self.status == "exited" and self.exit_status == 0
        return self.status == "running" and self.health in ("healthy", "")

    @property
    def is_alive(self) -> bool:
        """It runs, or will by itself."""
        return self.status in ("running", "restarting")

    @property
    def is_crashing(self) -> bool:
        """Docker starts it again and again; just now it may run."""
        return self.status == "restarting" or (
            self.is_alive and self.restarts > 0 and not self.is_up
        )

    @property
    def has_failed(self) -> bool:
        """It will not become healthy by itself. One that crashed for the first time may; Docker calls
        that unhealthy, too, as all that have ended."""
        crashed = self.restarts > 1 if self.status == "restarting" else self.status == "exited"
        if self.is_once and self.exit_status == 0:
            return False
        return self.is_unhealthy or self.status == "dead" or crashed

    @property
    def is_unhealthy(self) -> bool:
        """It runs, and its check says no."""
        return self.status == "running" and self.health == "unhealthy"

    @property
    def was_stopped(self) -> bool:
        """By somebody: what ends by itself Docker starts again."""
        return self.status == "exited" and self.comes_back

    @property
    def urls(self) -> tuple[str, ...]:
        """Where it is reached from this machine, should it speak HTTP."""
        parts = [port.rpartition(":") for port in self.ports]
        return tuple(
            f"http://{'127.0.0.1' if host in EVERYWHERE else host}:{port}"
            for host, _, port in parts
        )

    @property
    def member(self) -> Member:
        """The same in the words of ``proxy status``."""
        state: Any = {"running": "running", "created": "starting", "restarting": "died"}.get(
            self.status, "died" if self.exit_status else "stopped"
        )
        if self.status == "running" and self.health == "starting":
            state = "starting"
        health: Any = self.health if self.status == "running" and self.health else "unknown"
        return Member(
            name=self.service,
            state=state,
            health=health,
            since=self.since,
            ports=self.ports,
            detail="; ".join(self._details(state)),
        )

    def _details(self, state: str) -> Iterator[str]:
        if self.restarts:
            yield "restarted once" if self.restarts == 1 else f"restarted {self.restarts} times"
        if state == "died":
            yield f"exit status {self.exit_status}"
        if self.is_unhealthy and self.last_check:
            yield self.last_check

    @property
    def check(self) -> Check:
        member = self.member
        why = "" if self.is_up else member.detail or member.state
        return Check(name=self.service, is_healthy=self.is_up, why=why)

    @property
    def in_short(self) -> str:
        """How it is named while it is waited for."""
        if self.status == "created":
            return self.service
        health = self.health if self.status == "running" else ""
        return f"{self.service} ({health or self.status})"


def container(found: Mapping[str, Any]) -> Container | None:
    """Return one as ``docker inspect`` shows it; None for a single command in a service's place
    (``docker compose run``), which is no part of the stack."""
    state, labels = found["State"], found["Config"]["Labels"] or {}
    service = labels.get("com.docker.compose.service")
    if service is None or labels.get("com.docker.compose.oneoff") == "True":
        return None
    health = state.get("Health") or {}
    log = health.get("Log") or [{}]
    bindings = [
        b for each in (found["NetworkSettings"]["Ports"] or {}).values() for b in each or ()
    ]
    return Container(
        id=found["Id"],
        name=found["Name"].removeprefix("/"),
        service=service,
        status=state["Status"],
        health=health.get("Status", "").replace("none", ""),
        exit_status=state["ExitCode"],
        restarts=found["RestartCount"],
        since=_time(state["StartedAt" if state["Status"] == "running" else "FinishedAt"]),
        ports=tuple(sorted({f"{b['HostIp']}:{b['HostPort']}" for b in bindings})),
        wanted=labels.get("homeport.wanted", ""),
        comes_back=found["HostConfig"]["RestartPolicy"]["Name"] in ("always", "unless-stopped"),
        is_once=labels.get("homeport.once") == "true",
        last_check=str(log[-1].get("Output", "")).strip().rpartition("\n")[2],
    )


def _time(text: str) -> datetime | None:
    """RFC 3339 with nanoseconds; year 1 is Docker's word for never. Fractions count: what ended in the
    second in which a start began is judged by them."""
    return None if text.startswith("0001") else datetime.fromisoformat(text)
