"""A name for several instances: an instance that hands requests on to one of them.

Which one, ``routing.selection`` decides; trying another where one has failed is the request's own
affair (``server.attempts``). Seen as one instance, a route is as well as its best deployment.

And a model whose name at the upstream is a pattern (``upstream_model: "*"``): what the client's name
has in its place is put in for each request (``CalledInstance``).
"""

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Final

from msgspec.structs import replace

from homeport.lifecycle.machine import State
from homeport.routing.affinity import Key
from homeport.routing.selection import Selection
from homeport.runtime.instance import Instance, Lease
from homeport.spec import Endpoint, ModelSettings, Route, UpstreamDialect

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


class CalledInstance:
    """An ``Instance`` by the name that a request has for it."""

    def __init__(self, of: Instance, name: str) -> None:
        self._of, self._name = of, name
        self.id, self.dialect = of.id, of.dialect

    def __repr__(self) -> str:
        return f"CalledInstance({self._of!r}, {self._name!r})"

    @property
    def state(self) -> State:
        return self._of.state

    @property
    def endpoint(self) -> Endpoint | None:
        found = self._of.endpoint
        return None if found is None else self.called(found)

    @property
    def last_error(self) -> str | None:
        return self._of.last_error

    @property
    def in_flight(self) -> int:
        return self._of.in_flight

    def called(self, endpoint: Endpoint) -> Endpoint:
        return replace(endpoint, model=replace(endpoint.model, name=self._name))

    def start(self) -> None:
        self._of.start()

    async def ensure_ready(self) -> Endpoint:
        return self.called(await self._of.ensure_ready())

    def lease(self, *, takes_slot: bool = True) -> Lease:
        return _CalledLease(self, self._of.lease(takes_slot=takes_slot))

    def report_down(self, reason: str) -> None:
        self._of.report_down(reason)

    def report_left(self) -> None:
        self._of.report_left()

    def configure(self, model: ModelSettings) -> None:
        self._of.configure(model)

    async def stop(self, *, drain_s: float = 0.0) -> None:
        await self._of.stop(drain_s=drain_s)


class _CalledLease(Lease):
    __slots__ = ("_by", "_inner")

    def __init__(self, by: CalledInstance, inner: Lease) -> None:
        self._by, self._inner = by, inner

    @property
    def waited_s(self) -> float:  # type: ignore[override]  # only read
        return self._inner.waited_s

    @property
    def endpoint(self) -> Endpoint | None:
        found = self._inner.endpoint
        return None if found is None else self._by.called(found)

    async def ready(self) -> Endpoint:
        return self._by.called(await self._inner.ready())

    async def lost(self) -> bool:
        return await self._inner.lost()

    async def why_lost(self) -> str | None:
        return await self._inner.why_lost()

    def __enter__(self) -> "_CalledLease":
        self._inner.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._inner.__exit__(kind, error, trace)


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
