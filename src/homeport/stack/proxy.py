"""The one face of what ``homeport proxy`` starts and stops, whatever runs it.

Three kinds stand behind it: containers (``compose``), a systemd user unit (``unit``), and a process of
its own in the background (``background``). ``choosing`` decides which. The verbs mean the same for all:

* ``start`` returns when it is healthy, and says meanwhile what it waits for. What runs already as it is
  wanted is no error; what runs otherwise is, since a start cuts nobody off.
* ``stop`` lets requests finish, for as long as the drain timeout says.
* ``status`` and ``health`` never wait for a start or a stop, and never fail because nothing runs.

These are commands: the calls block. Whatever goes wrong for a reason that the person can change is a
``StackError``; a wrong configuration is a ``ConfigError``, as for every command.
"""

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Literal, Protocol

import msgspec

Kind = Literal["containers", "unit", "process"]
Tell = Callable[[str], None]
"""Hears in a few words what is going on, for a person."""

GATEWAY = "gateway"
"""The member that every kind has: homeport itself."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """How it shall run."""

    profile: str | None = None
    """A set of ``profiles/``; None is the user's configuration as it is."""
    no_db: bool = False
    """Without the usage store, and without the database where that is a container."""
    debug: bool = False
    """With everything in the log."""


class Warned(msgspec.Struct, frozen=True, kw_only=True):
    """It is healthy, and somebody should look all the same."""

    what: str
    hint: str
    """The next step."""


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """It runs, and is healthy."""

    url: str
    """Where clients of this machine reach it."""
    was_running: bool
    """It ran already, as it was wanted."""
    without: tuple[str, ...] = ()
    """Members that are wanted and not needed, and cannot be had."""
    warnings: tuple[Warned, ...] = ()


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One of those that run together: ``gateway``, and what belongs to it."""

    name: str
    state: Literal["running", "starting", "stopping", "stopped", "died"]
    health: Literal["healthy", "unhealthy", "starting", "unknown"] = "unknown"
    """``unknown`` for one that does not run, or has no check."""
    since: datetime | None = None
    """When it took its state, where that is known; aware."""
    ports: tuple[str, ...] = ()
    """Where it is reached on this machine: ``127.0.0.1:11899``."""
    detail: str = ""
    """What else is to be known: a pid, a profile, why it died."""
    warnings: tuple[Warned, ...] = ()


class Status(msgspec.Struct, frozen=True, kw_only=True):
    kind: Kind
    members: tuple[Member, ...]

    @property
    def is_running(self) -> bool:
        """The gateway is, at least."""
        return any(m.name == GATEWAY and m.state in ("running", "starting") for m in self.members)


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One member's health."""

    name: str
    is_healthy: bool
    why: str = ""
    """Why not; for one that is healthy whatever is worth a word."""
    warnings: tuple[Warned, ...] = ()


class Health(msgspec.Struct, frozen=True, kw_only=True):
    checks: tuple[Check, ...]

    @property
    def is_healthy(self) -> bool:
        return bool(self.checks) and all(check.is_healthy for check in self.checks)


class Proxy(Protocol):
    """See above. All calls but ``status``, ``health`` and ``logs`` exclude each other."""

    kind: Kind

    def start(self, wanted: Wanted, tell: Tell) -> Started:
        """Blocks until it is healthy. Raises ``StackError`` when it will not be, and when it runs
        otherwise than wanted; then the hint says ``restart``."""

    def stop(self, tell: Tell, *, stop_db: bool = False) -> bool:
        """Blocks until it has ended; False when nothing ran. ``stop_db`` stops the database, too,
        where that is a container."""

    def restart(self, wanted: Wanted | None, tell: Tell) -> Started:
        """``stop`` and ``start`` with nobody in between; a configuration with errors stops nothing.
        Without ``wanted`` it runs again as it ran."""

    def status(self) -> Status:
        """What runs now."""

    def health(self) -> Health:
        """Asks each member."""

    def logs(self, *, lines: int, follow: bool, service: str | None = None) -> Iterator[str]:
        """The last lines, each without its end; with ``follow`` those that come, until the iterator
        is closed. ``service`` is one member's name, None all of them."""
