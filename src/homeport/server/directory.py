"""Which models there are now: the catalog of names, and the instance behind each id.

The composition root fills it, and fills it anew when a remote server's models become known. A
request reads it once, at its start.
"""

from collections.abc import Mapping
from types import MappingProxyType

from homeport.errors import ClientError, UpstreamError
from homeport.routing.catalog import Catalog, RequestKind, Resolution
from homeport.runtime.instance import Instance
from homeport.runtime.managed import ManagedInstance
from homeport.runtime.remote import RemoteInstance
from homeport.runtime.route import called
from homeport.runtime.via import ViaInstance

LOOP = (
    "LiteLLM asks homeport for '{id}', which homeport itself reaches through LiteLLM only: the request "
    "would go round in circles"
)


class Directory:
    def __init__(self) -> None:
        self.catalog = Catalog()
        self.instances: Mapping[str, Instance] = {}
        self._patterns: Mapping[str, str] = {}
        self.pending: tuple[str, ...] = ()
        """Upstreams whose models are not known yet, because they do not answer."""
        self.litellm: ManagedInstance | RemoteInstance | None = None
        """Where it runs beside us: an engine or a server, and nobody's model."""

    def __repr__(self) -> str:
        return f"Directory({list(self.instances.values())!r}, pending={self.pending!r})"

    def publish(
        self,
        catalog: Catalog,
        instances: Mapping[str, Instance],
        pending: tuple[str, ...] = (),
        patterns: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Replaces everything at once. ``patterns`` are the names at upstreams that hold a ``*``, by
        the model's id."""
        self.catalog, self.instances, self.pending = catalog, instances, pending
        self._patterns = patterns

    def called(self, instance: Instance, resolution: Resolution) -> Instance:
        """The instance, by the name that this request has for it."""
        return called(instance, self._patterns.get(instance.id), resolution.stars)

    def engine_of(self, model_id: str) -> Instance | None:
        """What runs for a model of that id, or LiteLLM by its own."""
        if self.litellm is not None and model_id == self.litellm.id:
            return self.litellm
        return self.native_of(model_id) or self.instances.get(model_id)

    def native_of(self, model_id: str) -> Instance | None:
        """What serves it without LiteLLM; None where only LiteLLM can."""
        instance = self.instances.get(model_id)
        return instance.native if isinstance(instance, ViaInstance) else instance

    def resolve(
        self, name: str, *, kind: RequestKind, for_litellm: bool = False
    ) -> tuple[Resolution, Instance]:
        """The deployment that a name means; ``for_litellm`` one that does not lead there again.
        Raises ``ClientError("not_found")``, or ``UpstreamError("unavailable")`` while no model is known
        because a server is down."""
        if not self.instances and self.pending:
            raise UpstreamError(
                "unavailable", f"no answer from {', '.join(self.pending)} yet", retry_after_s=2
            )
        resolution = self.catalog.resolve(name, kind=kind)
        instance = self.instances[resolution.model_id]
        if for_litellm and isinstance(instance, ViaInstance):
            if instance.native is None:
                raise ClientError("invalid_request", LOOP.format(id=instance.id), param="model")
            instance = instance.native
        return resolution, self.called(instance, resolution)

    @property
    def is_available(self) -> bool:
        """At least one model is ready, or is started when it is asked for. One that has failed
        before counts only once it has recovered."""
        return any(map(_is_available, self.instances.values()))


def _is_available(instance: Instance) -> bool:
    match instance.state:
        case "ready" | "stopped" | "asleep":
            return True
        case "starting":
            return instance.last_error is None
        case _:
            return False
