"""Whether containers, a systemd user unit or a process of its own is meant by ``homeport proxy``.

Pure: facts in; out come the kind and, for the person, why.

1. What was started, and not stopped since, is meant by every verb, whatever else there would be: a stop
   stops what runs.
2. ``--local`` asks for no containers.
3. Where the stack is installed and Docker is, it is containers. That Docker does not answer just now
   changes nothing: a homeport beside the stack would have another usage store, and no database.
   It is told as an error.
4. Else it runs without containers: as a unit where systemd answers this user, since that one starts it
   again after a crash and with the machine; as a process in the background where not.
"""

import msgspec

from homeport.stack.proxy import Kind

WITHOUT: dict[bool, tuple[Kind, str]] = {
    True: ("unit", "a service of your systemd"),
    False: ("process", "a process in the background"),
}
"""By whether systemd answers."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    wants_local: bool = False
    """``--local``."""
    started: Kind | None = None
    """What was started without containers, and not stopped since."""
    is_installed: bool = False
    """``homeport install`` has written the stack."""
    has_docker: bool = False
    """There is a Docker client."""
    has_systemd: bool = False
    """It answers this user."""


class Choice(msgspec.Struct, frozen=True):
    kind: Kind
    why: str


def choice(facts: Facts) -> Choice:
    if facts.started is not None:  # 1.
        words = dict(WITHOUT.values())[facts.started]
        return Choice(facts.started, f"homeport was started as {words}")
    kind, words = WITHOUT[facts.has_systemd]
    if facts.wants_local:  # 2.
        return Choice(kind, f"--local: homeport as {words}")
    if facts.is_installed and facts.has_docker:  # 3.
        return Choice("containers", "the stack is installed: homeport in containers")
    if facts.is_installed:  # 4.
        return Choice(kind, f"there is no Docker here: homeport as {words}")
    return Choice(kind, f"`homeport install` has not been run: homeport as {words}")
