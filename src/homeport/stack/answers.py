"""What a homeport answers on the routes that want no key: whether it is healthy, what its models do,
whether usage records wait.

That no model can answer, or the database takes no records, is a warning, and no reason to call the
gateway unhealthy: to start it again would mend neither. ``/readyz`` tells it, since whoever looks after
a homeport, in whatever way that runs, may ask there; ``/metrics`` would want a key, which is here or
there and may be another one by now. So why a model has failed is not told here: that may quote its
engine.
"""

import http.client
import time
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import msgspec

from homeport.stack.proxy import Check, Warned

ANSWER_S: Final = 5.0
"""For an answer that takes milliseconds."""
WHY: Final = (
    "`homeport usage` asks the database and says why, or `homeport proxy logs` (store.down)"
)


NO_MODEL: Final = "`homeport config check` shows what is configured; `homeport ps` what there is"
ANSWERING: Final = frozenset({"ready", "stopped", "asleep"})
"""Models in these states serve the next request, at once or after a start."""
BROKEN: Final = frozenset({"backoff", "failed"})
SETTLE_S: Final = 3.0
"""For models that are being started, after the gateway has: a file that is broken shows itself in that
time. What takes longer is told as it is."""
LOOK_S: Final = 0.1
NAMES: Final = 5
"""So many models are named in a warning."""


class Model(msgspec.Struct, frozen=True):
    state: str


class Usage(msgspec.Struct, frozen=True):
    """Of records and their database."""

    store: Literal["up", "down"]
    spooled_bytes: int

    @property
    def warning(self) -> Warned | None:
        if self.store == "up":  # what is on disk, if anything, is on its way
            return None
        what = "the database takes no usage records; they will wait on disk"
        if self.spooled_bytes:
            waiting = _size(self.spooled_bytes)
            what = f"{waiting} of usage records wait on disk: the database does not take them"
        return Warned(what=what, hint=WHY)


class Ready(msgspec.Struct, frozen=True):
    """What ``/readyz`` says; a homeport of another version may say less."""

    status: str = "ready"
    models: dict[str, Model] = {}
    waiting_for: tuple[str, ...] = ()
    usage: Usage | None = None

    @property
    def in_words(self) -> list[str]:
        """The state of each model."""
        states = [f"{name} {model.state}" for name, model in self.models.items()]
        return states + [f"no answer from {upstream} yet" for upstream in self.waiting_for]

    @property
    def is_settled(self) -> bool:
        """One can answer, or none will without somebody's doing."""
        states = {model.state for model in self.models.values()}
        if states & ANSWERING:
            return True
        return not self.waiting_for and states <= BROKEN

    @property
    def warnings(self) -> tuple[Warned, ...]:
        """The worst first."""
        usage = self.usage.warning if self.usage is not None else None
        return tuple(filter(None, (self._silence, usage)))

    @property
    def _silence(self) -> Warned | None:
        """No model can answer a request that comes now."""
        if self.status == "ready":
            return None
        if not self.in_words:
            return Warned(what="there is no model that could answer", hint=NO_MODEL)
        more = len(self.in_words) - NAMES
        named = ", ".join(self.in_words[:NAMES]) + (f", and {more} more" if more > 0 else "")
        hint = "`homeport ps` says why"
        if broken := [name for name, model in self.models.items() if model.state in BROKEN]:
            hint += f"; where homeport starts it, `homeport logs {broken[0]}` shows what it said"
        return Warned(what=f"no model can answer now: {named}", hint=hint)


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
    found = ready(url)
    return Check(name=name, is_healthy=True, why=", ".join(found.in_words), warnings=found.warnings)


def settled(url: str) -> Ready:
    """The same as ``ready`` of one that has just begun, after a moment for its models."""
    deadline = time.monotonic() + SETTLE_S
    while not (found := ready(url)).is_settled and time.monotonic() < deadline:
        time.sleep(LOOK_S)
    return found


def ready(url: str) -> Ready:
    """Empty where it does not say."""
    try:
        _, body = _ask(url, "/readyz")
        return msgspec.json.decode(body, type=Ready)
    except (OSError, http.client.HTTPException, msgspec.MsgspecError):
        return Ready()


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


def _size(size_bytes: int) -> str:
    kib = size_bytes / 1024
    return f"{max(kib, 1):.0f} KiB" if kib < 1000 else f"{kib / 1024:.0f} MiB"
