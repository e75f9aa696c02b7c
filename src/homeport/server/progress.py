"""How far a load, unload or restart is, in steps that a person understands.

What the fleet tells (who is stopped to make room) comes from its news; the rest is looked up, since a
snapshot cannot be missed: wherever the model stands, that is the step.
"""

from typing import Literal

import msgspec

from homeport.runtime.fleet import Fleet
from homeport.runtime.instance import Instance
from homeport.runtime.managed import ManagedInstance
from homeport.server.news import Event, Listener

StepName = Literal[
    "queued",  # wanted; others go first, or room is being made
    "evicting",  # another model is stopped to make room
    "starting",  # its turn has come
    "waiting_for_memory",  # what others have left is not free yet
    "loading",  # the engine runs, and is not ready
    "backoff",  # it has ended by itself, and is started again soon
    "draining",  # it shall stop, and finishes its requests
    "stopping",
    "ready",
    "asking",  # a server that is not ours
]


class Step(msgspec.Struct, frozen=True, omit_defaults=True):
    step: StepName
    model: str | None = None
    """The one that is evicted."""
    line: str | None = None
    """The last thing that the engine said."""
    in_flight: int = 0
    """Requests that are waited for."""
    reason: str | None = None


class Progress:
    def __init__(self, fleet: Fleet, instance: Instance, heard: Listener) -> None:
        self._fleet, self._instance, self._heard = fleet, instance, heard
        self._told: Step | None = None

    def steps(self) -> list[Step]:
        """What is new since this was last asked."""
        _, events = self._heard.take()
        found = [step for event in events if (step := self._of(event)) is not None]
        now = self._now()
        if now != self._told:
            found.append(now)
            self._told = now
        return found

    def _of(self, event: Event) -> Step | None:
        match event.event:
            case "stopping" if event.why == "evicted" and event.model != self._instance.id:
                return Step("evicting", model=event.model)
            case "starting" if event.model == self._instance.id:
                return Step("starting")
            case "down" if event.model == self._instance.id:
                return Step("backoff", reason=event.reason)
        return None

    def _now(self) -> Step:
        it = self._instance
        if not isinstance(it, ManagedInstance):
            return Step("ready" if it.state == "ready" else "asking")
        does = self._fleet.residency(it)
        match does.state:
            case "starting" if it.state == "starting":
                return Step("loading", line=it.output.last_line or None)
            case "starting":
                return Step("waiting_for_memory")
            case "draining":
                return Step("draining", in_flight=does.in_flight)
            case "backoff" | "stopping" | "ready" as state:
                return Step(state)
            case _:
                return Step("queued")
