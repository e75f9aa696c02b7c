"""A model that is reached through LiteLLM: an instance that is another one's, by another name.

LiteLLM is one engine for all of them. Whoever leases one of them leases LiteLLM; where that is
down, they are. ``native`` is the instance of the same model that homeport serves itself, if it
does: LiteLLM asks for that one, everybody else for this.
"""

from collections.abc import Callable
from types import TracebackType
from typing import Final

import msgspec

from homeport.errors import ClientError
from homeport.lifecycle.machine import State
from homeport.runtime.instance import Instance, Lease, with_settings
from homeport.spec import Endpoint, ModelFacts, ModelSettings, UpstreamDialect

WITHOUT: Final = "only LiteLLM reaches it; start homeport with --with-litellm"


class ViaInstance:
    """An ``Instance``. ``through`` says who LiteLLM is now: a new configuration may change that."""

    def __init__(
        self,
        model: ModelSettings,
        through: Callable[[], Instance | None],
        native: Instance | None = None,
    ) -> None:
        self.id, self.model, self.native = model.id, model, native
        self.dialect: UpstreamDialect = model.dialect
        self.in_flight = 0
        self._through = through
        self._cached: tuple[Endpoint, Endpoint | None, Endpoint] | None = None

    def __repr__(self) -> str:
        return f"ViaInstance({self.id!r}, {self._through()!r})"

    @property
    def litellm(self) -> Instance:
        """Raises ``ClientError`` where there is none: to come again later would not help."""
        found = self._through()
        if found is None:
            message = f"model '{self.id}' ({self.model.upstream_model}): {WITHOUT}"
            raise ClientError("not_found", message, param="model")
        return found

    @property
    def state(self) -> State:
        found = self._through()
        return "failed" if found is None else found.state

    @property
    def last_error(self) -> str | None:
        found = self._through()
        return WITHOUT if found is None else found.last_error

    @property
    def endpoint(self) -> Endpoint | None:
        found = self._through()
        return self.at(found.endpoint) if found is not None and found.endpoint else None

    def at(self, litellm: Endpoint) -> Endpoint:
        """Where LiteLLM answers, for this model."""
        native = self.native.endpoint if self.native is not None else None
        if self._cached is not None and self._cached[0] is litellm and self._cached[1] is native:
            return self._cached[2]
        known = native.model if native is not None else ModelFacts(name=self.id)
        facts = ModelFacts(
            name=self.id,
            context_tokens=known.context_tokens or self.model.ctx,
            vision=known.vision,
        )
        mine = msgspec.structs.replace(litellm, model=facts, dialect=self.dialect)
        mine = with_settings(mine, self.model)
        self._cached = (litellm, native, mine)
        return mine

    def start(self) -> None:
        self.litellm.start()

    async def ensure_ready(self) -> Endpoint:
        return self.at(await self.litellm.ensure_ready())

    def lease(self, *, takes_slot: bool = True) -> Lease:
        return ViaLease(self, self.litellm.lease(takes_slot=takes_slot))

    def report_down(self, reason: str) -> None:
        self.litellm.report_down(reason)

    def report_left(self) -> None:
        self.litellm.report_left()

    def configure(self, model: ModelSettings) -> None:
        self.model, self._cached = model, None
        if self.native is not None:
            self.native.configure(msgspec.structs.replace(model, via="native"))

    async def stop(self, *, drain_s: float = 0.0) -> None:
        """LiteLLM goes on: it is everybody's."""


class ViaLease(Lease):
    """LiteLLM's lease, which is told of this model's endpoint."""

    __slots__ = ("_inner", "_via")

    def __init__(self, via: ViaInstance, inner: Lease) -> None:
        self._via, self._inner = via, inner

    @property
    def waited_s(self) -> float:  # type: ignore[override]  # only read
        return self._inner.waited_s

    @property
    def endpoint(self) -> Endpoint | None:
        found = self._inner.endpoint
        return self._via.at(found) if found is not None else None

    async def ready(self) -> Endpoint:
        return self._via.at(await self._inner.ready())

    async def lost(self) -> bool:
        return await self._inner.lost()

    async def why_lost(self) -> str | None:
        return await self._inner.why_lost()

    def __enter__(self) -> "ViaLease":
        self._inner.__enter__()
        self._via.in_flight += 1
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._via.in_flight -= 1
        self._inner.__exit__(kind, error, trace)
