"""LiteLLM beside homeport: which one runs, as the configuration wants it.

LiteLLM is an engine of the fleet and nobody's model: it takes no memory from others, is never
stopped to make room, and stands in the directory by itself. What it is told
(``engines.litellm_proxy.Plan``) follows from the settings; when that has changed, another one takes
its place.

One that somebody else starts is a server like others, asked where it is and asked again while it is
down. Where it is comes from the environment, which does not change.
"""

from typing import Protocol

from homeport.engines import litellm_proxy
from homeport.engines.litellm_proxy import Plan
from homeport.lifecycle.scheduler import Terms
from homeport.runtime.fleet import Fleet
from homeport.runtime.instance import Instance
from homeport.runtime.litellm import LiteLLM
from homeport.runtime.managed import CommandFor, ManagedInstance
from homeport.runtime.probe import Fetch
from homeport.runtime.remote import RemoteInstance
from homeport.runtime.via import ViaInstance
from homeport.server.directory import Directory
from homeport.settings import ModelSettings, Settings

TERMS = Terms(pinned=True)


class Managed(Protocol):
    """Makes the instance of an engine that is ours."""

    def __call__(self, model: ModelSettings, *, command_for: CommandFor) -> ManagedInstance: ...


class NoLiteLLM:
    """In place of one, where LiteLLM is out of the question."""

    plan: Plan | None = None

    def apply(self, settings: Settings) -> None:
        pass

    def via(self, model: ModelSettings, native: Instance | None) -> ViaInstance:
        return ViaInstance(model, lambda: None, native)


class Beside:
    """The calls belong to the thread of the event loop."""

    def __init__(
        self,
        litellm: LiteLLM,
        *,
        fleet: Fleet,
        directory: Directory,
        managed: Managed,
        fetch: Fetch,
    ) -> None:
        self._litellm, self._managed, self._fetch = litellm, managed, fetch
        self._fleet, self._directory = fleet, directory
        self.plan: Plan | None = None

    def __repr__(self) -> str:
        return f"Beside({self._directory.litellm!r})"

    def apply(self, settings: Settings) -> None:
        """Takes up a configuration. A LiteLLM that is told nothing new goes on."""
        plan = litellm_proxy.plan_for(settings)
        if plan == self.plan:
            return
        before, self.plan = self._directory.litellm, plan
        if plan is not None and plan.settings.elsewhere is not None:
            self._directory.litellm = before or RemoteInstance(plan.model, self._fetch)
            return
        self._directory.litellm = None if plan is None else self._made(plan)
        if isinstance(before, ManagedInstance):
            self._fleet.retire(before)

    @property
    def not_installed(self) -> Plan | None:
        """What has to be installed before it can start."""
        plan = self.plan
        if plan is None or plan.settings.elsewhere is not None:
            return None
        return None if self._litellm.is_installed(plan) else plan

    def via(self, model: ModelSettings, native: Instance | None) -> ViaInstance:
        """A model that is reached through it; ``native`` serves it otherwise."""
        return ViaInstance(model, lambda: self._directory.litellm, native)

    def _made(self, plan: Plan) -> ManagedInstance:
        instance = self._managed(plan.model, command_for=self._litellm.command_for(plan))
        self._fleet.add(instance, TERMS)
        return instance
