"""What every model is doing now, as rows: for ``homeport ps``, ``/admin/models`` and dashboards."""

import time
from collections.abc import Collection
from urllib.parse import urlsplit

import msgspec

from homeport.errors import ClientError
from homeport.facts import Endpoint
from homeport.lifecycle.machine import State
from homeport.lifecycle.scheduler import Residency
from homeport.routing.catalog import Entry
from homeport.runtime.fleet import Fleet
from homeport.runtime.instance import Instance
from homeport.runtime.managed import ManagedInstance
from homeport.runtime.remote import RemoteInstance
from homeport.server.directory import Directory
from homeport.server.metrics import Outcome
from homeport.server.waiting import is_waiting
from homeport.settings import ModelSettings


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One model. What is not known, or does not apply, is null."""

    id: str
    aliases: tuple[str, ...]
    is_default: bool
    engine: str | None
    state: State
    in_flight: int
    queued: int = 0
    oldest_s: float | None = None
    """For so long the oldest request under way has been here."""
    prompt_tokens: int | None = None
    prompt_read: int | None = None
    """How long its prompt is and how much of it is read, while the engine tells."""
    context_tokens: int | None = None
    reserved_bytes: int | None = None
    port: int | None = None
    """Where the engine answers, while it is ready."""
    pid: int | None = None
    """Of the first process of the engine's tree."""
    ready_s: float | None = None
    """For so long it has been ready; and so on."""
    idle_s: float | None = None
    ttl_left_s: float | None = None
    last_error: str | None = None
    group: str | None = None
    pinned: bool | None = None
    runner: str | None = None
    upstream: str | None = None
    """Of a server that is not ours; what is above about processes is then null."""


class Overview:
    """Looks; changes nothing."""

    def __init__(
        self, directory: Directory, fleet: Fleet, under_way: Collection[Outcome] = ()
    ) -> None:
        self._directory, self._fleet, self._under_way = directory, fleet, under_way

    def rows(self) -> list[Row]:
        """In the order of the catalog; last, where it runs beside us, LiteLLM."""
        rows = [self.row(entry) for entry in self._directory.catalog.entries]
        if (litellm := self._directory.litellm) is not None:
            rows.append(self.row(Entry(id=litellm.id)))
        return rows

    def row(self, entry: Entry) -> Row:
        """Raises ``ClientError`` when it has just been taken out of the configuration."""
        instance = self._directory.engine_of(entry.id)
        if instance is None:
            raise ClientError("not_found", f"{entry.id} has been taken out of the configuration")
        is_default = self._directory.catalog.default == entry.id
        if isinstance(instance, ManagedInstance):
            row = self._ours(entry, instance, is_default=is_default)
        else:
            row = _elsewhere(entry, instance, is_default=is_default)
        return self._with_oldest(row)

    def _with_oldest(self, row: Row) -> Row:
        oldest = next((it for it in self._under_way if it.model == row.id), None)
        if oldest is None:
            return row
        progress = oldest.progress if is_waiting(oldest) else None
        return msgspec.structs.replace(
            row,
            oldest_s=_ago(oldest.began, time.monotonic()),
            prompt_tokens=progress.total if progress is not None else None,
            prompt_read=progress.processed if progress is not None else None,
        )

    def _ours(self, entry: Entry, instance: ManagedInstance, *, is_default: bool) -> Row:
        model, endpoint, now = instance.model, instance.endpoint, time.monotonic()
        does = self._fleet.residency(instance)
        idle_s = _ago(does.idle_since, now)
        ttl_s = None if model.pinned else model.ttl_s
        return Row(
            id=entry.id,
            aliases=entry.aliases,
            is_default=is_default,
            engine=endpoint.engine.engine if endpoint is not None else model.engine,
            state=state_of(instance, does),
            in_flight=does.in_flight,
            queued=does.queued,
            context_tokens=_context(endpoint) or model.ctx,
            reserved_bytes=does.reserved_bytes,
            port=urlsplit(endpoint.base_url).port if endpoint is not None else None,
            pid=instance.pid,
            ready_s=_ago(does.ready_since, now),
            idle_s=idle_s,
            ttl_left_s=None if ttl_s is None or idle_s is None else max(0.0, ttl_s - idle_s),
            last_error=instance.last_error,
            group=model.group,
            pinned=model.pinned,
            runner=_runner(model),
        )


def state_of(instance: ManagedInstance, does: Residency) -> State:
    """As the fleet sees it: to it an engine is stopped that sleeps; a draining one takes no more."""
    return instance.state if instance.state == "asleep" else does.state


def _elsewhere(entry: Entry, instance: Instance, *, is_default: bool) -> Row:
    endpoint = instance.endpoint
    return Row(
        id=entry.id,
        aliases=entry.aliases,
        is_default=is_default,
        engine=endpoint.engine.engine if endpoint is not None else None,
        state=instance.state,
        in_flight=instance.in_flight,
        context_tokens=_context(endpoint),
        last_error=instance.last_error,
        upstream=instance.model.upstream if isinstance(instance, RemoteInstance) else None,
    )


def _context(endpoint: Endpoint | None) -> int | None:
    return endpoint.model.context_tokens if endpoint is not None else None


def _ago(since: float | None, now: float) -> float | None:
    return None if since is None else round(now - since, 1)


def _runner(model: ModelSettings) -> str:
    return model.runner or ("container" if model.image else "process")
