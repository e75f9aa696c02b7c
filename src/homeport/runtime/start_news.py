"""Which engines of ours cannot start, told once each, and that one is there after all.

``StartNews`` is one of the fleet's narrators, so that a model that is started on demand is told like
one that is started at the beginning. A crash of an engine that was ready is none of this: the log has
it, and its next start is tried in silence, unless that fails.
"""

from collections.abc import Callable
from typing import NamedTuple
from weakref import WeakKeyDictionary

from homeport.engines import last_words
from homeport.facts import Endpoint
from homeport.runtime.instance import LAST_OUTPUT, Instance
from homeport.runtime.managed import ManagedInstance


class Failure(NamedTuple):
    reason: str
    hint: str
    """What to do; may be empty."""
    after: str
    """What becomes of requests meanwhile, and when it is looked at again."""


class StartNews:
    """Follows ``runtime.fleet.Narrator``."""

    def __init__(
        self, failed: Callable[[str, Failure], None], ready: Callable[[str, Endpoint], None]
    ) -> None:
        self._failed, self._ready = failed, ready
        self._told: WeakKeyDictionary[Instance, Failure] = WeakKeyDictionary()
        """The last one of each that is not there yet. One that is configured anew is another."""

    def has_told(self, instance: Instance) -> bool:
        return instance in self._told

    def starting(self, instance: ManagedInstance) -> None: ...

    def ready(self, instance: ManagedInstance, endpoint: Endpoint) -> None:
        if self._told.pop(instance, None) is not None:
            self._ready(instance.id, endpoint)

    def down(self, instance: ManagedInstance, *, retry_s: float | None) -> None:
        if instance.was_ready:
            return
        failure = failure_of(instance, retry_s)
        if self._told.get(instance) != failure:
            self._told[instance] = failure
            self._failed(instance.id, failure)

    def stopping(self, instance: ManagedInstance, why: str) -> None: ...

    def stopped(self, instance: ManagedInstance) -> None:
        self._told.pop(instance, None)

    def waited(self, instance: ManagedInstance, seconds: float) -> None: ...


def failure_of(instance: ManagedInstance, retry_s: float | None) -> Failure:
    """1. Nothing was started, and nothing will be before something is changed.
    2. The engine has ended: it is started again, or (``retry_s`` is None) that is given up."""
    name, wrong = instance.id, instance.misconfigured
    refused = f"requests for {name} get a 503"
    if wrong is not None:  # 1.
        where = f"{wrong.where}: " if wrong.where else ""
        again = f"the next one looks again, and so does `homeport load {name}`"
        return Failure(f"{name}: {where}{wrong.message}", wrong.hint, f"{refused}; {again}")
    text, _, tail = (instance.last_error or "").partition(LAST_OUTPUT)  # 2.
    reason, _, hint = text.partition("\n  hint: ")
    if line := last_words.last(tail):
        reason, hint = f"{reason}: {line}", f"all that it said: homeport logs {name}"
    if retry_s is None:
        after = f"{refused}; after half a minute one tries again, `homeport load {name}` at once"
    else:
        after = f"{refused} until it starts; it is tried again"
    return Failure(f"{name}: {reason}", hint, after)
