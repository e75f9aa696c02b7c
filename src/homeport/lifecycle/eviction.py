"""Which models have to go so that another one can run. Pure: residents in, victims out.

A *resident* is a model that takes memory: one that is starting, ready, or about to be started again.
A *newcomer* wants to be one. Two rules say who may live side by side (``Space``):

* the sizes of all residents add up to the budget at most;
* of one group only one member is resident, unless the group says ``together``; of two groups that are
  apart, only one group has residents.

If a newcomer breaks them, residents go: the *victims*. They are chosen in the order of ``GOES``: those
that nobody uses before those that somebody does, and among equals the least recently used. Nobody
goes for nothing: who turns out not to be needed when all are chosen is spared, the last chosen first.

Example: a budget of 10; idle since long ago ``a`` (2), idle since just now ``b`` (6); ``c`` (7) comes.
``a`` alone makes no room, ``a`` and ``b`` do, and then ``a`` can stay.

Whether a victim can be stopped now is the scheduler's business, not asked here.
"""

from collections.abc import Iterable, Sequence
from typing import Final, Literal

import msgspec

from homeport.settings import Group

Condition = Literal["idle", "fresh", "leaving", "busy", "starting", "kept"]
"""How much it would cost to lose a resident. ``fresh`` is idle too, but has become ready only just
now; ``leaving`` is busy, but is to be stopped anyhow; ``kept`` never goes: pinned, or promised."""

GOES: Final[tuple[Condition, ...]] = ("idle", "fresh", "leaving", "busy", "starting")
"""Who goes first. ``starting`` is last: all that it has loaded would be lost, to somebody's harm."""


class Resident(msgspec.Struct, frozen=True, kw_only=True):
    model: str
    size_bytes: int = 0
    group: str | None = None
    condition: Condition = "idle"
    used: int = 0
    """When it was last used: a number that grows."""


class Space(msgspec.Struct, frozen=True, kw_only=True):
    """Who may be resident side by side."""

    budget_bytes: int | None = None
    groups: tuple[Group, ...] = ()

    def has_room(self, newcomer: Resident, residents: Sequence[Resident]) -> bool:
        sizes = newcomer.size_bytes + sum(resident.size_bytes for resident in residents)
        if self.budget_bytes is not None and sizes > self.budget_bytes:
            return False
        return not any(self.are_apart(newcomer.group, resident.group) for resident in residents)

    def are_apart(self, one: str | None, other: str | None) -> bool:
        """Whether members of these groups may not run side by side. An unknown group has no
        ``together``: its members exclude each other."""
        if one is None or other is None:
            return False
        if one == other:
            return not any(group.together for group in self.groups if group.name == one)
        return any(
            (group.name == one and other in group.apart_from)
            or (group.name == other and one in group.apart_from)
            for group in self.groups
        )


def victims_for(
    newcomer: Resident, residents: Iterable[Resident], space: Space
) -> tuple[str, ...] | None:
    """Return who must go before ``newcomer`` can run; None when no eviction makes room for it."""
    kept = [resident for resident in residents if resident.condition == "kept"]
    if not space.has_room(newcomer, kept):
        return None
    staying, victims = list(residents), list[Resident]()
    for resident in in_order(staying):
        if space.has_room(newcomer, staying):
            break
        staying.remove(resident)
        victims.append(resident)
    for victim in reversed(victims):
        if space.has_room(newcomer, [*staying, victim]):
            staying.append(victim)
    return tuple(victim.model for victim in victims if victim not in staying)


def surplus(residents: Iterable[Resident], space: Space) -> tuple[str, ...]:
    """Return who shall go because residents have grown beyond the budget: idle ones only, until the
    rest fits or no other is idle.

    The last resident is left alone: it is in nobody's way, and would only have to come back.
    """
    staying, victims = list(residents), list[str]()
    for resident in in_order(staying):
        size_bytes = sum(resident.size_bytes for resident in staying)
        is_too_much = space.budget_bytes is not None and size_bytes > space.budget_bytes
        if not is_too_much or len(staying) == 1 or resident.condition not in ("idle", "fresh"):
            break
        staying.remove(resident)
        victims.append(resident.model)
    return tuple(victims)


def in_order(residents: Iterable[Resident]) -> list[Resident]:
    """Those who can go, who goes first first."""
    able = (resident for resident in residents if resident.condition != "kept")
    return sorted(able, key=lambda resident: (GOES.index(resident.condition), resident.used))
