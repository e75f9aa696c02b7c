"""A name for several instances: an instance that hands requests on to one of them.

Which one, ``routing.selection`` decides; trying another where one has failed is the request's own
affair (``server.attempts``). Seen as one instance, a route is as well as its best deployment.

And a model whose name at the upstream is a pattern (``upstream_model: "*"``): what the client's name
has in its place is put in for each request (``CalledInstance``).
"""

import time
from collections.abc import Mapping
from typing import Final

from msgspec.structs import replace

from homeport.facts import Endpoint, UpstreamDialect
from homeport.lifecycle.machine import State
from homeport.routing.affinity import Key
from homeport.routing.selection import Selection
from homeport.runtime.forwarding import Forwarding
from homeport.runtime.instance import Instance, Lease
from homeport.settings import ModelSettings, Route

BEST_FIRST: Final[tuple[State, ...]] = (
    *("ready", "starting", "stopped", "draining", "stopping", "backoff", "failed"),
)


class RouteInstance:
    """An ``Instance`` over those of a route."""

    def __init__(self, route: Route, deployments: Mapping[str, Instance]) -> None:
        self.id, self.route, self.deployments = route.id, route, deployments
        self.selection = Selection(route.models, route.cooldown_s)

    def __repr__(self) -> str:
        return f"RouteInstance({self.id!r}, {list(self.deployments.values())!r})"

    @property
    def dialect(self) -> UpstreamDialect:
        """Anthropic's only where every deployment is asked in it: then a request may go on unread."""
        dialects = {each.dialect for each in self.deployments.values()}
        return dialects.pop() if len(dialects) == 1 else "openai_chat"

    @property
    def state(self) -> State:
        return self._best.state

    @property
    def endpoint(self) -> Endpoint | None:
        return self._best.endpoint

    @property
    def last_error(self) -> str | None:
        return self._best.last_error

    @property
    def in_flight(self) -> int:
        return sum(each.in_flight for each in self.deployments.values())

    @property
    def _best(self) -> Instance:
        return min(self.deployments.values(), key=lambda each: BEST_FIRST.index(each.state))

    def picked(
        self, key: Key | None = None, tried: frozenset[str] = frozenset()
    ) -> Instance | None:
        name = self.selection.pick(key, time.monotonic(), tried)
        return None if name is None else self.deployments[name]

    def _one(self) -> Instance:
        found = self.picked()
        assert found is not None, "a route has deployments"
        return found

    def start(self) -> None:
        self._one().start()

    async def ensure_ready(self) -> Endpoint:
        return await self._one().ensure_ready()

    def lease(self, *, takes_slot: bool = True) -> Lease:
        return self._one().lease(takes_slot=takes_slot)

    def report_down(self, reason: str) -> None:
        """Told to the deployment itself."""

    def report_left(self) -> None:
        """Likewise."""

    def configure(self, model: ModelSettings) -> None:
        """A route is made anew where it has changed; its deployments are configured themselves."""

    async def stop(self, *, drain_s: float = 0.0) -> None:
        """Likewise."""


class CalledInstance(Forwarding):
    """By the name that a request has for it."""

    def __init__(self, of: Instance, name: str) -> None:
        super().__init__(of.id, of.dialect)
        self._of, self._name = of, name

    def __repr__(self) -> str:
        return f"CalledInstance({self._of!r}, {self._name!r})"

    @property
    def of(self) -> Instance:
        return self._of

    def at(self, endpoint: Endpoint) -> Endpoint:
        return replace(endpoint, model=replace(endpoint.model, name=self._name))


def called(instance: Instance, upstream_model: str | None, stars: tuple[str, ...]) -> Instance:
    """The instance by the name that the request has for it, where its name is a pattern. As in LiteLLM:
    each ``*`` in turn."""
    if not stars or upstream_model is None or "*" not in upstream_model:
        return instance
    head, *rest = upstream_model.split("*")
    filled = [*stars, *("" for _ in rest)]
    return CalledInstance(
        instance, head + "".join(f + r for f, r in zip(filled, rest, strict=False))
    )
