"""Making small models usable: stages between an engine's events and the client's encoder.

Each stage takes one neutral event and returns those that shall go on: ``ThinkSplitter`` moves
``<think>`` text into thinking, ``ArgumentRepair`` mends arguments that an engine sends twice over or
quotes twice, ``CallRescue`` turns a tool call that was printed as text into a call.

What a stage cannot decide yet it holds back, within bounds; a text that turns out to be nothing
goes on unchanged. ``Finish``, ``Failure`` and ``End`` let everything out first, so nothing is lost.
The outcome depends on the text alone, never on how it was cut. Nothing is raised, whatever comes.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol

from homeport.wire.argument_repair import ArgumentRepair
from homeport.wire.events import Event, Failure, TextDelta, Tool
from homeport.wire.rescue import CallRescue
from homeport.wire.thinking_tags import ThinkSplitter


class Stage(Protocol):
    @property
    def is_idle(self) -> bool:
        """Whether any text would go on as it is."""
        ...

    def feed(self, event: Event) -> list[Event]:
        """The events that go on now."""
        ...


class Stages:
    """Several stages, one behind the other."""

    def __init__(self, *stages: Stage) -> None:
        self._stages = stages
        self._is_idle = False

    def __repr__(self) -> str:
        return f"<Stages {' '.join(map(repr, self._stages))}>"

    @property
    def is_idle(self) -> bool:
        return self._is_idle

    def feed(self, event: Event) -> list[Event]:
        return self.feed_all([event])

    def feed_all(self, events: Iterable[Event]) -> list[Event]:
        out: list[Event] = []
        for event in events:
            if self._is_idle and type(event) is TextDelta:  # nearly all there is
                out.append(event)
            else:
                out += self._through(event)
        return out

    def let_out(self) -> list[Event]:
        """What is held back, when the answer is about to fail."""
        return [event for event in self.feed(Failure("")) if not isinstance(event, Failure)]

    def _through(self, event: Event) -> list[Event]:
        events = [event]
        for stage in self._stages:
            events = [out for item in events for out in stage.feed(item)]
        self._is_idle = all(stage.is_idle for stage in self._stages)
        return events


def stages(
    tools: Sequence[Tool], *, starts_inside: bool = False, last: Stage | None = None
) -> Stages:
    """What stands between an engine's events and a client that declared ``tools``.

    The order matters: a call may stand behind thinking; what the rescue makes needs no repair.
    ``last`` is one more stage, behind them all.
    """
    mending = (ThinkSplitter(starts_inside=starts_inside), ArgumentRepair(), CallRescue(tools))
    return Stages(*mending, last) if last is not None else Stages(*mending)
