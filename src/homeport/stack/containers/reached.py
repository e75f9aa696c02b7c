"""The stack's gateway as the commands of this machine find it: ``homeport ps``, ``homeport usage``.

A homeport that runs here tells so in a file (``runtime.running``); one in a container cannot. Docker is
asked instead, never ``services/.env`` alone: with the stack stopped, its port may be anybody's, who
would be sent the master key. The key is the one that the container was started with.
"""

import subprocess
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from homeport.errors import StackError
from homeport.stack.containers.docker_client import Docker
from homeport.stack.containers.inspected import container
from homeport.stack.layout import Layout
from homeport.stack.proxy import GATEWAY

LABEL: Final = "--filter=label=com.docker.compose."
KEY: Final = "HOMEPORT_MASTER_KEY="
PATIENCE_S: Final = 5.0
"""For a command that may do without the stack."""


class Reached(msgspec.Struct, frozen=True, kw_only=True):
    """It runs."""

    url: str
    key: str
    container: str

    def __repr__(self) -> str:  # never shows the key
        return f"Reached({self.url!r}, container={self.container!r})"


def is_installed(env: Mapping[str, str]) -> bool:
    return Layout.of(env).is_installed


def gateway(env: Mapping[str, str]) -> Reached | None:
    """The one of this user's stack; None where none runs, or Docker does not tell."""
    if not is_installed(env):
        return None
    layout = Layout.of(env)
    try:
        docker = Docker(layout, env)
        filters = (f"{LABEL}project={layout.project}", f"{LABEL}service={GATEWAY}")
        ids = docker.ask("ps", "--quiet", *filters, within_s=PATIENCE_S).split()
        found = (ids and docker.ask_json("inspect", *ids)) or []
    except StackError:
        return None
    return next(filter(None, map(reached, found)), None)


def reached(found: Mapping[str, Any]) -> Reached | None:
    """What ``docker inspect`` tells of it; None for one that is not reached from this machine."""
    gateway = container(found)
    if gateway is None or not gateway.urls:
        return None
    given = found["Config"].get("Env") or ()
    key = next((each.removeprefix(KEY) for each in given if each.startswith(KEY)), "")
    return Reached(url=gateway.urls[0], key=key, container=gateway.name)


def run(gateway: Reached, words: Sequence[str], *, has_terminal: bool) -> int:
    """A command of homeport's in there, on this one's terminal or pipes; its exit status."""
    tty = ["--tty"] * has_terminal
    return subprocess.call(["docker", "exec", *tty, gateway.container, "homeport", *words])
