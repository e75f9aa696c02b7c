"""Which deployment of a route a request should use: health, cooldown, pick.

A route is one name for several deployments. The policy:

1. A conversation (``affinity.Key``) goes to the deployment that answered it last, as long as that one
   is available: its cache is warm there.
2. Everything else goes to the available deployment with the least work for its weight: requests under
   way first, then requests given out so far; of equals the first. Weight 0 comes after all others.
3. One that has failed is not available for ``cooldown_s``, or for as long as it asked for; a success
   ends that. What was under way there goes on.
4. When none is available, the one that soonest will be again is asked all the same: nobody is turned
   away for a failure that may be over.
5. A request is given each deployment once: ``tried`` ones are left out, and when all are tried there is
   none.

Pure: the caller says what begins, ends and fails, and what time it is.
"""

from collections.abc import Collection, Iterable
from typing import Final

from homeport.routing.affinity import MAX_KEYS, Key

MAX_COOLDOWN_S: Final = 60.0
"""A deployment may ask for a pause; a longer one is its own affair. LiteLLM's is 5 s, Envoy's outlier
detection begins with 30."""


class _Deployment:
    __slots__ = ("available_at", "given", "in_flight", "weight")

    def __init__(self, weight: float) -> None:
        self.weight = weight
        self.in_flight = self.given = 0
        self.available_at = 0.0

    def load(self) -> tuple[bool, float, float]:
        """To compare by; case 2."""
        if self.weight <= 0:
            return True, self.in_flight, self.given
        return False, self.in_flight / self.weight, self.given / self.weight


class Selection:
    """The deployments of one route. ``began`` and ``ended`` come in pairs."""

    def __init__(self, deployments: Iterable[tuple[str, float]], cooldown_s: float) -> None:
        self._deployments = {name: _Deployment(weight) for name, weight in deployments}
        self._cooldown_s = cooldown_s
        self._pins: dict[Key, str] = {}  # in order of last use, the latest at the end

    def __repr__(self) -> str:
        busy = {name: it.in_flight for name, it in self._deployments.items()}
        return f"<Selection {busy} pins={len(self._pins)}>"

    def pick(self, key: Key | None, now: float, tried: Collection[str] = ()) -> str | None:
        """The deployment for this request; None when all are ``tried``."""
        left = {n: it for n, it in self._deployments.items() if n not in tried}
        ready = {name: it for name, it in left.items() if it.available_at <= now}
        if key is not None and (pinned := self._pins.get(key)) in ready:  # case 1
            return pinned
        if ready:  # case 2
            return min(ready, key=lambda name: ready[name].load())
        soonest = sorted(left, key=lambda name: (left[name].available_at, left[name].load()))
        return soonest[0] if soonest else None  # cases 4 and 5

    def began(self, name: str) -> None:
        self._deployments[name].in_flight += 1
        self._deployments[name].given += 1

    def ended(self, name: str) -> None:
        self._deployments[name].in_flight -= 1

    def worked(self, name: str, key: Key | None) -> None:
        """It has answered: it is well, and the conversation is its own."""
        self._deployments[name].available_at = 0.0
        if key is not None:
            self._pins.pop(key, None)
            self._pins[key] = name
            while len(self._pins) > MAX_KEYS:
                del self._pins[next(iter(self._pins))]

    def failed(self, name: str, now: float, retry_after_s: float | None = None) -> None:
        """It has failed, in a way that another one may not."""
        pause_s = self._cooldown_s if retry_after_s is None else retry_after_s
        until = now + min(max(pause_s, 0.0), max(MAX_COOLDOWN_S, self._cooldown_s))
        deployment = self._deployments[name]
        deployment.available_at = max(deployment.available_at, until)
