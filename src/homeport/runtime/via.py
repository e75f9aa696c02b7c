"""A model that is reached through LiteLLM: an instance that is another one's, by another name.

LiteLLM is one engine for all of them. Whoever leases one of them leases LiteLLM; where that is
down, they are. ``native`` is the instance of the same model that homeport serves itself, if it
does: LiteLLM asks for that one, everybody else for this.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from homeport.errors import ClientError
from homeport.facts import Endpoint, ModelFacts
from homeport.lifecycle.machine import State
from homeport.runtime.forwarding import Forwarding
from homeport.runtime.instance import Instance, with_settings
from homeport.settings import ModelSettings

WITHOUT: Final = "only LiteLLM reaches it; start homeport with --with-litellm"


class ViaInstance(Forwarding):
    """``through`` says who LiteLLM is now: a new configuration may change that."""

    def __init__(
        self,
        model: ModelSettings,
        through: Callable[[], Instance | None],
        native: Instance | None = None,
    ) -> None:
        super().__init__(model.id, model.dialect)
        self.model, self.native = model, native
        self._through = through
        self._cached: tuple[Endpoint, Endpoint | None, Endpoint] | None = None

    def __repr__(self) -> str:
        return f"ViaInstance({self.id!r}, {self._through()!r})"

    @property
    def of(self) -> Instance:
        """LiteLLM. Raises ``ClientError`` where there is none: to come again later would not help."""
        found = self._through()
        if found is None:
            message = f"model '{self.id}' ({self.model.upstream_model}): {WITHOUT}"
            raise ClientError("not_found", message, param="model")
        return found

    @property
    def state(self) -> State:
        return "failed" if self._through() is None else super().state

    @property
    def last_error(self) -> str | None:
        return WITHOUT if self._through() is None else super().last_error

    @property
    def endpoint(self) -> Endpoint | None:
        return None if self._through() is None else super().endpoint

    def at(self, endpoint: Endpoint) -> Endpoint:
        native = self.native.endpoint if self.native is not None else None
        if self._cached is not None and self._cached[0] is endpoint and self._cached[1] is native:
            return self._cached[2]
        known = native.model if native is not None else ModelFacts(name=self.id)
        facts = ModelFacts(
            name=self.id,
            context_tokens=known.context_tokens or self.model.ctx,
            vision=known.vision,
        )
        mine = msgspec.structs.replace(endpoint, model=facts, dialect=self.dialect)
        mine = with_settings(mine, self.model)
        self._cached = (endpoint, native, mine)
        return mine

    def configure(self, model: ModelSettings) -> None:
        self.model, self._cached = model, None
        if self.native is not None:
            self.native.configure(msgspec.structs.replace(model, via="native"))

    async def stop(self, *, drain_s: float = 0.0) -> None:
        """LiteLLM goes on: it is everybody's."""
