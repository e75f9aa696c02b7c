"""Which models there are, and the instance behind each: configured ones, and those that running
servers name.

The roster publishes to the ``Directory``, which requests read. Engines that we start are given to the
``Fleet``, which decides when they run; servers of others are watched here. A configuration that has
been read anew (``apply``) touches only what has changed: an unchanged model keeps its instance, its
loaded engine and its warm cache, and so does one of which only such settings have changed as the
engine does not know (``ADJUSTABLE``); an old instance of a changed one finishes its requests and is
stopped for good.
"""

import asyncio
import itertools
from collections.abc import Callable, Iterator
from typing import Final, Protocol

import msgspec
import structlog
from msgspec.structs import replace

from homeport.beside import Beside, NoLiteLLM
from homeport.engines import detect, litellm_proxy
from homeport.errors import ConfigError, UpstreamError
from homeport.facts import Endpoint
from homeport.lifecycle.scheduler import Policy, Terms
from homeport.routing.catalog import Catalog, Entry
from homeport.runtime.fleet import Fleet
from homeport.runtime.instance import Instance, Learned
from homeport.runtime.managed import ManagedInstance
from homeport.runtime.probe import Fetch, discover
from homeport.runtime.remote import RemoteInstance
from homeport.runtime.route import RouteInstance
from homeport.runtime.via import ViaInstance
from homeport.server.directory import Directory
from homeport.settings import LifecycleSettings, ModelSettings, Route, Settings

log = structlog.get_logger()

DISCOVERY_PAUSES_S = (0.1, 0.2, 0.4, 0.8, 1.6, 2.0)
"""Between questions to an upstream that does not answer; the last one for ever."""
WATCH_PAUSE_S = 2.0
MAX_WATCH_PAUSE_S = 30.0
"""The same, for one whose models are known: requests for them ask without delay."""


ADJUSTABLE: Final = (
    *("aliases", "group", "pinned", "preload", "ttl_s", "max_queue", "max_wait_s", "memory_bytes"),
    *("rescue", "rescue_retry", "starts_thinking", "max_tools"),
    *("timeout_s", "request_defaults", "listed"),
)
"""Settings of a model that are ours: they take effect without a new engine."""


class Narrator(Protocol):
    """Hears what a person would want to know of models."""

    def model_ready(self, model_id: str, endpoint: Endpoint) -> None: ...

    def upstream_down(self, url: str, reason: str) -> None: ...


class Needs(Protocol):
    """What engines are expected to need (``runtime.memory``)."""

    def need_bytes(self, model: ModelSettings) -> int: ...


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What a new configuration did."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    """These have a new instance."""
    adjusted: tuple[str, ...] = ()
    """These have kept theirs."""
    removed: tuple[str, ...] = ()


class Roster:
    """All models. The calls belong to the thread of the event loop."""

    def __init__(
        self,
        settings: Settings,
        *,
        fetch: Fetch,
        fleet: Fleet,
        directory: Directory,
        narrator: Narrator,
        learned: Learned,
        needs: Needs,
        managed: Callable[[ModelSettings], ManagedInstance],
        beside: Beside | None = None,
    ) -> None:
        """``managed`` makes the instance of a model whose engine is ours; without ``beside`` there
        is no LiteLLM."""
        self._settings = settings
        self._fetch, self._fleet, self._directory = fetch, fleet, directory
        self._narrator, self._learned, self._needs = narrator, learned, needs
        self._managed, self._beside = managed, beside or NoLiteLLM()
        self._configured: dict[ModelSettings, Instance] = {}
        """In the order of the file."""
        self._discovered: dict[str, list[tuple[Entry, Instance]]] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        """One task for each upstream whose models are not known yet."""
        self._beside.apply(settings)
        self._configured = {model: self._made(model) for model in settings.models}
        self._routes: dict[Route, RouteInstance] = {}
        self._publish()

    def __repr__(self) -> str:
        return f"Roster({list(self._configured.values())!r}, discovered={list(self._discovered)!r})"

    @property
    def managed(self) -> Iterator[ManagedInstance]:
        """The engines that we start, in the order of the file."""
        return (i for i in self._configured.values() if isinstance(i, ManagedInstance))

    @property
    def default(self) -> Instance | None:
        default = self._directory.catalog.default
        return None if default is None else self._directory.instances.get(default)

    def settings_of(self, instance: Instance) -> ModelSettings | None:
        """How it is configured; None for what a server named."""
        return next((m for m, i in self._configured.items() if i is instance), None)

    def wanted_at_start(self) -> list[Instance]:
        """What is asked for before anybody comes: the default model, and what says ``preload``."""
        first = [self.default] if self.default is not None else []
        preloaded = [i for model, i in self._configured.items() if model.preload]
        litellm = self._directory.litellm
        started = [litellm] if isinstance(litellm, ManagedInstance) else []
        return list(dict.fromkeys([*started, *first, *preloaded]))

    def apply(self, settings: Settings) -> Change:
        """Takes up a new configuration; only what has changed is touched."""
        before, self._settings = self._settings, settings
        old = {model.id: model for model in before.models}
        new = {model.id: model for model in settings.models}
        instances = {model.id: i for model, i in self._configured.items()}
        kept = {n for n in old.keys() & new.keys() if _engine_part(old[n]) == _engine_part(new[n])}
        self._beside.apply(settings)
        # The new ones first: requests that come meanwhile find them in the directory.
        self._configured = {
            model: self._adjusted(instances[model.id], old[model.id], model)
            if model.id in kept
            else self._made(model)
            for model in settings.models
        }
        for url in set(before.upstreams) - set(settings.upstreams):
            self._discovered.pop(url, None)
            if (task := self._asking.pop(url, None)) is not None:
                task.cancel()
        self._publish()
        for name, instance in instances.items():
            engine = instance.native if isinstance(instance, ViaInstance) else instance
            if name not in kept and isinstance(engine, ManagedInstance):
                self._fleet.retire(engine)
        return Change(
            added=tuple(name for name in new if name not in old),
            changed=tuple(name for name in new if name in old and name not in kept),
            adjusted=tuple(name for name in new if name in kept and old[name] != new[name]),
            removed=tuple(name for name in old if name not in new),
        )

    def _adjusted(
        self, instance: Instance, before: ModelSettings, model: ModelSettings
    ) -> Instance:
        """The same instance, by other terms."""
        if model != before:
            instance.configure(model)
        engine = instance.native if isinstance(instance, ViaInstance) else instance
        if isinstance(engine, ManagedInstance):
            terms = self._fleet.terms_of(engine)
            is_same = model.memory_bytes == before.memory_bytes
            need_bytes = terms.need_bytes if is_same else self._needs.need_bytes(model)
            wanted = terms_of(model, self._settings.lifecycle, need_bytes)
            if wanted != terms:
                self._fleet.set_terms(engine, wanted)
        return instance

    # ------------------------------------------------------------------- instances

    def _made(self, model: ModelSettings) -> Instance:
        if model.via == "litellm":
            is_beyond = litellm_proxy.is_beyond(model)
            native = None if is_beyond else self._made(replace(model, via="native"))
            return self._beside.via(model, native)
        if not model.is_ours:
            return RemoteInstance(model, self._fetch, learned=self._learned)
        instance = self._managed(model)
        need_bytes = self._needs.need_bytes(model)
        self._fleet.add(instance, terms_of(model, self._settings.lifecycle, need_bytes))
        return instance

    def _publish(self) -> None:
        """One catalog of the configured models and of those that upstreams have named so far."""
        settings = self._settings
        pairs = [(_configured_entry(model), i) for model, i in self._configured.items()]
        pairs = [*self._route_pairs(), *pairs]
        for url in settings.upstreams:
            pairs += self._discovered.get(url, [])
        entries = [entry for entry, _ in pairs]
        default = settings.default_model or next(
            (entry.id for entry in entries if not entry.is_embedding), None
        )
        aliases = settings.aliases
        if default is not None:
            aliases += tuple((alias, default) for alias in settings.default_aliases)
            if (plan := self._beside.plan) is not None:
                aliases += ((plan.alias, default),)
        catalog = Catalog(
            entries,
            aliases=aliases,
            default=default,
            autocomplete=settings.autocomplete_model,
            strict_models=settings.strict_models,
        )
        instances: dict[str, Instance] = {}
        for entry, instance in pairs:
            instances.setdefault(entry.id, instance)
        pending = tuple(url for url in settings.upstreams if url not in self._discovered)
        patterns = {m.id: name for m in self._configured if "*" in (name := m.upstream_model or "")}
        self._directory.publish(catalog, instances, pending, patterns)
        first = self.default
        self._fleet.set_default(first if isinstance(first, ManagedInstance) else None)

    def _route_pairs(self) -> list[tuple[Entry, Instance]]:
        """The routes; one that is as before keeps what it knows of its deployments."""
        ours = {model.id: instance for model, instance in self._configured.items()}
        embedding = {model.id for model in self._configured if model.embeddings}
        before, self._routes = self._routes, {}
        pairs: list[tuple[Entry, Instance]] = []
        for route in self._settings.routes:
            deployments = {name: ours[name] for name, _ in route.models if name in ours}
            known = before.get(route)
            if known is None or known.deployments != deployments:
                known = RouteInstance(route, deployments)
            self._routes[route] = known
            is_embedding = all(name in embedding for name in deployments)
            entry = Entry(id=route.id, is_embedding=is_embedding, is_listed=route.listed)
            pairs.append((entry, known))
        return pairs

    # ------------------------------------------------------------------- servers of others

    async def watch(self) -> None:
        """Asks upstreams for their models until they have named them, and servers that are down
        whether they are back: ``/readyz`` has to tell, and where it keeps requests away nobody else
        would ask. Runs until it is cancelled."""
        pause_s = WATCH_PAUSE_S
        try:
            while True:
                self.ask_upstreams()
                known = (*self._directory.instances.values(), self._directory.litellm)
                remotes = (i for i in known if isinstance(i, RemoteInstance))
                down = [remote for remote in remotes if remote.endpoint is None]
                for remote in down:
                    remote.start()
                pause_s = min(2 * pause_s, MAX_WATCH_PAUSE_S) if down else WATCH_PAUSE_S
                await asyncio.sleep(pause_s)
        finally:
            for task in self._asking.values():
                task.cancel()

    def ask_upstreams(self) -> list["asyncio.Task[None]"]:
        """Begins to ask those whose models are not known; returns what has not ended."""
        for url in self._settings.upstreams:
            if url not in self._discovered and url not in self._asking:
                self._asking[url] = asyncio.create_task(self._discover(url), name=f"ask {url}")
        return list(self._asking.values())

    async def _discover(self, url: str) -> None:
        """Asks until the server answers, then lists all its models."""
        for attempt in itertools.count():
            try:
                endpoints = await discover(url, None, self._fetch)
                break
            except (UpstreamError, ConfigError) as error:
                if attempt == 0:
                    self._narrator.upstream_down(url, str(error))
            await asyncio.sleep(DISCOVERY_PAUSES_S[min(attempt, len(DISCOVERY_PAUSES_S) - 1)])
        self._discovered[url] = [
            (_named_entry(endpoint), self._remote(url, endpoint)) for endpoint in endpoints
        ]
        self._asking.pop(url, None)
        self._publish()
        for endpoint in endpoints:
            self._narrator.model_ready(endpoint.model.name, endpoint)

    def _remote(self, url: str, endpoint: Endpoint) -> RemoteInstance:
        name = endpoint.model.name
        model = ModelSettings(id=name, upstream=url, upstream_model=name)
        return RemoteInstance(model, self._fetch, endpoint=endpoint, learned=self._learned)


def _engine_part(model: ModelSettings) -> ModelSettings:
    """What the engine was started with, or its server is asked by."""
    return replace(model, **{name: getattr(_PLAIN, name) for name in ADJUSTABLE})


_PLAIN: Final = ModelSettings(id="")


def policy_of(lifecycle: LifecycleSettings, measured_bytes: int | None) -> Policy:
    """The scheduler's policy; ``measured_bytes`` is the budget where the user has set none."""
    return Policy(
        budget_bytes=lifecycle.memory_bytes or measured_bytes,
        min_dwell_s=lifecycle.min_dwell_s,
        return_to_default_s=lifecycle.return_to_default_s,
        groups=lifecycle.groups,
    )


def terms_of(model: ModelSettings, lifecycle: LifecycleSettings, need_bytes: int) -> Terms:
    queue, wait_s = model.max_queue, model.max_wait_s
    return Terms(
        need_bytes=need_bytes,
        group=model.group,
        pinned=model.pinned,
        ttl_s=model.ttl_s,
        max_queue=lifecycle.max_queue if queue is None else queue,
        max_wait_s=lifecycle.max_wait_s if wait_s is None else wait_s,
    )


def _configured_entry(model: ModelSettings) -> Entry:
    repository = model.hub.partition(":")[0] if model.hub else None
    sources = (model.path, model.hub, repository, model.upstream_model)
    return Entry(
        id=model.id,
        aliases=model.aliases,
        sources=tuple(filter(None, sources)),
        is_embedding=model.embeddings,
        is_listed=model.listed,
    )


def _named_entry(endpoint: Endpoint) -> Entry:
    model = endpoint.model
    return Entry(id=model.name, aliases=model.aliases, is_embedding=detect.is_embedding(model.name))
