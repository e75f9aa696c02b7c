"""Which models there are now: the catalog of names, and the instance behind each id.

The composition root fills it, and fills it anew when a remote server's models become known. A
request reads it once, at its start.
"""

from collections.abc import Mapping

from homeport.errors import UpstreamError
from homeport.routing.catalog import Catalog, RequestKind, Resolution
from homeport.runtime.instance import Instance


class Directory:
    def __init__(self) -> None:
        self.catalog = Catalog()
        self.instances: Mapping[str, Instance] = {}
        self.pending: tuple[str, ...] = ()
        """Upstreams whose models are not known yet, because they do not answer."""

    def __repr__(self) -> str:
        return f"Directory({list(self.instances.values())!r}, pending={self.pending!r})"

    def publish(
        self, catalog: Catalog, instances: Mapping[str, Instance], pending: tuple[str, ...] = ()
    ) -> None:
        """Replaces everything at once."""
        self.catalog, self.instances, self.pending = catalog, instances, pending

    def resolve(self, name: str, *, kind: RequestKind) -> tuple[Resolution, Instance]:
        """The deployment that a name means. Raises ``ClientError("not_found")``, or
        ``UpstreamError("unavailable")`` while no model is known because a server is down."""
        if not self.instances and self.pending:
            raise UpstreamError(
                "unavailable", f"no answer from {', '.join(self.pending)} yet", retry_after_s=2
            )
        resolution = self.catalog.resolve(name, kind=kind)
        return resolution, self.instances[resolution.model_id]

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
