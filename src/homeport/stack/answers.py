"""What a homeport answers on the routes that want no key: whether it is healthy, what its models do,
whether usage records wait.

That the database does not take them is a warning, and no reason to call anything unhealthy: requests
are served. ``/readyz`` tells it, since whoever looks after a homeport, in whatever way that runs, may
ask there; ``/metrics`` would want a key, which is here or there and may be another one by now.
"""

import http.client
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import msgspec

from homeport.stack.proxy import Check, Warned

ANSWER_S: Final = 5.0
"""For an answer that takes milliseconds."""
WHY: Final = (
    "`homeport usage` asks the database and says why, or `homeport proxy logs` (store.down)"
)


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

    models: dict[str, Model] = {}
    waiting_for: tuple[str, ...] = ()
    usage: Usage | None = None

    @property
    def in_words(self) -> list[str]:
        """The state of each model."""
        states = [f"{name} {model.state}" for name, model in self.models.items()]
        return states + [f"no answer from {upstream} yet" for upstream in self.waiting_for]

    @property
    def warning(self) -> Warned | None:
        return self.usage.warning if self.usage is not None else None


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
    return Check(name=name, is_healthy=True, why=", ".join(found.in_words), warning=found.warning)


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
