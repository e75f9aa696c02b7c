"""The composition root: builds everything, starts it, waits, drains, stops.

Here and nowhere else modules of the upper layers meet. What happens is told to a ``Narrator``, which
the command line implements by talking to the person in front of it.

The order of starting: socket bound (a taken port is an error before anything runs), listening,
models. Listening does not wait for models; requests do, and see signs of life meanwhile. The order of
stopping: no new connections, requests drain, engines stop.
"""

import asyncio
import functools
import os
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import msgspec
import structlog
import uvloop

from homeport.beside import Beside
from homeport.config import keys
from homeport.demo import demo_model_path
from homeport.engines.findings import Finding, Probe
from homeport.engines.litellm_proxy import Plan
from homeport.engines.records import Record, learned
from homeport.errors import RequestFault
from homeport.facts import Endpoint
from homeport.reload import Narrator as ReloadNarrator
from homeport.reload import Reloader
from homeport.roster import Narrator as RosterNarrator
from homeport.roster import Roster, policy_of
from homeport.runtime import leftovers, running
from homeport.runtime.check import findings
from homeport.runtime.choosing import with_engines
from homeport.runtime.discovery import Found, look_around
from homeport.runtime.fleet import Fleet
from homeport.runtime.instance import Instance
from homeport.runtime.launcher import Launcher
from homeport.runtime.ledger import Ledger
from homeport.runtime.leftovers import Leftovers
from homeport.runtime.litellm import LiteLLM
from homeport.runtime.managed import ManagedInstance
from homeport.runtime.memory import Memory, budget_bytes
from homeport.runtime.nvml import Cards
from homeport.runtime.provision import Provision
from homeport.runtime.remembered import Remembered
from homeport.runtime.remote import RemoteInstance
from homeport.runtime.shims import Shims
from homeport.runtime.sleeping import Sleeper
from homeport.runtime.slot_files import SlotFiles
from homeport.runtime.start_news import Failure, StartNews
from homeport.runtime.terminal import Terminal
from homeport.server import listen
from homeport.server.admin import Admin, Reloaded, ReloadError
from homeport.server.asgi import Gateway
from homeport.server.directory import Directory
from homeport.server.fleet_metrics import FleetMetrics
from homeport.server.metrics import Metrics
from homeport.server.news import News
from homeport.server.store_metrics import StoreMetrics
from homeport.server.usage import UsageLog
from homeport.server.waiting import Waiting
from homeport.settings import Limits, ModelSettings, Settings
from homeport.store.choosing import recorder_for
from homeport.upstream import Client

log = structlog.get_logger()

DEMO_ID = "homeport-demo"
FIRST_DISCOVERY_S = 0.5
"""How long serving waits for upstreams to name their models, so that early clients find them."""


class Narrator(RosterNarrator, ReloadNarrator, Protocol):
    """Hears what a person would want to know."""

    def found(self, found: Found) -> None: ...

    def cleaned_up(self, left: Leftovers) -> None: ...

    def listening(self, url: str, settings: Settings) -> None: ...

    def model_loading(self, model_id: str) -> None: ...

    def installing_litellm(self, plan: Plan) -> None: ...

    def litellm_ready(self, endpoint: Endpoint, plan: Plan) -> None: ...

    def model_failed(self, model_id: str, failure: Failure) -> None: ...

    def draining(self, requests: int) -> None: ...

    def forced(self, waited_s: float | None) -> None:
        """Requests are cut: because somebody wants it so, or after the time that they had."""

    def stopped(self) -> None: ...


def with_demo(settings: Settings) -> Settings:
    """The settings; with the demo model in them when they name no model at all."""
    if settings.models or settings.upstreams:
        return settings
    demo = ModelSettings(id=DEMO_ID, path=str(demo_model_path()))
    return msgspec.structs.replace(settings, models=(demo,), default_model=DEMO_ID)


class App:
    """One gateway. ``run`` serves until a signal."""

    def __init__(
        self,
        settings: Settings,
        narrator: Narrator,
        records: tuple[Record, ...] = (),
        *,
        state_home: Path,
        data_home: Path,
        reread: Callable[[], Settings],
    ) -> None:
        """``records`` are what ``run_check`` found out about engines; in ``state_home`` is kept
        what may be lost, in ``data_home`` LiteLLM is installed; ``reread`` reads the settings anew,
        for a reload. Binds the socket. Raises ``ConfigError`` when that is impossible."""
        self._settings, self._state_home, self._reread = settings, state_home, reread
        self._data_home = data_home
        self._found: Settings | None = None
        self._background: list[asyncio.Task[None]] = []
        self._terminal = Terminal()
        self._recorder = recorder_for(settings.store, state_home)
        self._narrator = narrator
        self._learned = functools.partial(learned, records=records)
        server = settings.server
        self._sock = listen.bind(server.host, server.port)
        self._has_cut = False
        self.port: int = self._sock.getsockname()[1]

    def run(self) -> bool:
        """Blocks until everything has ended; False when requests had to be cut."""
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._main())
        return not self._has_cut

    # ------------------------------------------------------------------- life

    async def _main(self) -> None:
        self._stop_asked, self._force_asked = asyncio.Event(), asyncio.Event()
        self._reload_asked = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal, number)
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
        limits = self._settings.server.limits
        self._client = Client(
            connect_timeout_s=limits.connect_timeout_s, idle_timeout_s=limits.idle_timeout_s
        )
        self._directory = Directory()
        ledger = Ledger(self._state_home / "engines")
        await self._clean_up(ledger)
        self._provision = provision = await self._provided()
        self._settings = await self._prepared(self._settings)
        budget = budget_bytes(provision.machine)
        self._fleet = Fleet(policy_of(self._settings.lifecycle, budget), memory=provision)
        news, metrics = News(), Metrics()
        self._start_news = StartNews(self._narrator.model_failed, self._narrator.model_ready)
        fleet_metrics = FleetMetrics(self._fleet, self._directory, metrics.registry)
        for observer in (news, fleet_metrics, self._start_news):
            self._fleet.observe(observer)
        if self._recorder is not None:
            StoreMetrics(self._recorder, metrics.registry)
            self._recorder.start()
        self._admin = Admin(self._directory, self._fleet, news, self._reload, metrics.under_way)
        self._waiting = Waiting(metrics.under_way)
        own_key, elsewhere = keys.new_key(), self._settings.litellm.elsewhere
        internal_key = keys.new_key() if elsewhere is None else elsewhere.internal_key
        gateway = Gateway(
            self._settings.server,
            self._directory,
            self._client,
            metrics,
            started_at_s=int(time.time()),
            web_search=self._settings.web_search,
            small_models=self._settings.small_models,
            admin=self._admin,
            own_key=own_key,
            internal_key=internal_key,
            needs_key=self._settings.needs_key,
            usage=None
            if self._recorder is None
            else UsageLog(self._recorder, self._settings.store.capture),
        )
        listener = listen.Listener(gateway, self._sock)
        slot_files, shims = self._slot_files(), Shims()
        managed = functools.partial(
            ManagedInstance,
            fetch=self._client.fetch,
            command_for=provision.command_for,
            learned=self._learned,
            keeper=self._fleet,
            slot_files=slot_files,
            sleeper=Sleeper(self._client.fetch),
            launcher=Launcher(ledger, shims),
            silence=self._client.silence_s,
        )
        litellm = LiteLLM(
            url=self._url,
            internal_key=internal_key,
            state_home=self._state_home,
            data_home=self._data_home,
        )
        self._beside = Beside(
            litellm,
            fleet=self._fleet,
            directory=self._directory,
            managed=managed,
            fetch=self._client.fetch,
        )
        self._roster = Roster(
            self._settings,
            fetch=self._client.fetch,
            fleet=self._fleet,
            directory=self._directory,
            narrator=self._narrator,
            learned=self._learned,
            needs=provision,
            managed=managed,
            beside=self._beside,
        )
        self._reloader = Reloader(
            self._settings,
            reread=self._reread,
            prepared=self._prepared,
            budget_bytes=budget,
            roster=self._roster,
            fleet=self._fleet,
            gateway=gateway,
            client=self._client,
            narrator=self._narrator,
            news=news,
        )
        announced = self._announced(own_key)
        try:
            async with asyncio.TaskGroup() as self._group:
                await self._serve(self._group, listener)
        finally:
            if announced is not None:
                running.withdraw(announced)
            gateway.litellm_desk.close()
            await self._fleet.close()
            await shims.close()
            if slot_files is not None:
                slot_files.close()
            await self._client.close()
            if self._recorder is not None:
                await asyncio.to_thread(self._recorder.close)
            self._narrator.stopped()

    async def _serve(self, group: asyncio.TaskGroup, listener: listen.Listener) -> None:
        # The socket takes connections already; they wait for those who know the models.
        self._narrator.listening(
            f"http://{_shown(self._settings.server.host)}:{self.port}", self._settings
        )
        if asking := self._roster.ask_upstreams():
            await asyncio.wait(asking, timeout=FIRST_DISCOVERY_S)
        serving = group.create_task(listener.serve())
        self._background = [
            group.create_task(self._roster.watch()),
            group.create_task(self._reload_when_asked()),
            group.create_task(self._waiting.watch()),
        ]
        self._begin_to_warm_up(self._roster.wanted_at_start())
        stop = group.create_task(self._stop_asked.wait())
        await asyncio.wait({serving, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        for task in self._background:
            task.cancel()
        self._admin.close()
        if not serving.done():
            self._narrator.draining(listener.open_requests)
            await self._drain(listener, serving)

    async def _drain(self, listener: listen.Listener, serving: "asyncio.Task[None]") -> None:
        listener.stop()
        limit_s = self._reloader.settings.server.limits.drain_timeout_s
        force = asyncio.ensure_future(self._force_asked.wait())
        try:
            await asyncio.wait(
                {serving, force}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            force.cancel()
        if not serving.done():
            self._has_cut = True
            self._narrator.forced(None if self._force_asked.is_set() else limit_s)
            await listener.abort(serving)

    def _on_signal(self, number: int) -> None:
        """Once: drain. Ctrl-C once more: force. A second SIGTERM does nothing: supervisors send it to
        a process and again to its group, and have SIGKILL when they lose patience."""
        if self._stop_asked.is_set() and number == signal.SIGINT:
            self._force_asked.set()
        self._stop_asked.set()

    def _on_hangup(self) -> None:
        if self._terminal.is_gone():
            self._terminal.let_go()
            self._stop_asked.set()
        else:
            self._reload_asked.set()

    @property
    def _url(self) -> str:
        """Where we are reached on this machine."""
        host = self._settings.server.host
        return f"http://{_shown(_REACHED_AT.get(host, host))}:{self.port}"

    def _announced(self, own_key: str) -> Path | None:
        """The file by which commands on this machine find us."""
        places = running.folders(os.environ, self._state_home)
        try:
            return running.announce(places, self.port, self._url, own_key)
        except OSError as error:
            log.warning("running.not_announced", error=str(error))
            return None

    # ------------------------------------------------------------------- other settings

    async def _reload_when_asked(self) -> None:
        while True:
            await self._reload_asked.wait()
            self._reload_asked.clear()
            with suppress(ReloadError):  # has been told
                await self._reload()

    async def _reload(self) -> Reloaded:
        """Raises ``ReloadError``."""
        default = self._roster.default
        done = await self._reloader.reload()
        new = {*done.added, *done.changed}
        self._begin_to_warm_up(
            instance
            for instance in self._roster.wanted_at_start()
            if instance.id in new
            or (instance is self._roster.default and instance is not default)
            or (instance is self._directory.litellm and instance.state == "stopped")
        )
        return done

    async def _prepared(self, settings: Settings) -> Settings:
        """The settings, with what they leave open: models, and engines of models."""
        settings = await self._looked_around(settings)
        return await asyncio.to_thread(with_engines, settings, self._provision.machine)

    # ------------------------------------------------------------------- models

    async def _looked_around(self, settings: Settings) -> Settings:
        """The settings; where they name no model, with the servers that run on this machine, and
        where there is none, with the demo model. What was found once stays for later settings of the
        kind: a server that is down just now is not forgotten."""
        if settings.models or settings.upstreams or not settings.discover:
            return with_demo(settings)
        if self._found is None:
            self._found = await self._found_here(settings)
        found = self._found
        return msgspec.structs.replace(
            settings,
            models=found.models,
            upstreams=found.upstreams,
            default_model=settings.default_model or found.default_model,
        )

    async def _found_here(self, settings: Settings) -> Settings:
        servers = await look_around(self._client.fetch, own_port=self.port)
        for found in servers:
            self._narrator.found(found)
        taken = tuple(found.url for found in servers if found.is_taken)
        return with_demo(msgspec.structs.replace(settings, upstreams=taken))

    async def _clean_up(self, ledger: Ledger) -> None:
        """Before anything is started: what an unclean end has left holds memory and ports."""
        uses_docker = any(model.runner == "container" for model in self._settings.models)
        if left := await leftovers.reap(ledger, uses_docker=uses_docker):
            self._narrator.cleaned_up(left)

    def _slot_files(self) -> SlotFiles | None:
        limit_bytes = self._settings.lifecycle.saved_slots_bytes
        folder = self._state_home / "slots"
        try:
            return SlotFiles(folder, limit_bytes, self._client.fetch) if limit_bytes else None
        except OSError as error:
            log.warning("slots.not_saved", folder=str(folder), error=error.strerror)
            return None

    async def _provided(self) -> Provision:
        """Memory is looked at in a thread: asking the drivers of cards may take a while."""
        memory = Memory(await asyncio.to_thread(Cards.open))
        remembered = Remembered(self._state_home / "memory.json")
        return Provision(await memory.machine(), memory, remembered)

    def _begin_to_warm_up(self, instances: Iterable[Instance]) -> None:
        self._background += [self._group.create_task(self._warm_up(each)) for each in instances]

    async def _warm_up(self, instance: Instance) -> None:
        """Starts what shall run from the beginning, so that the first request need not wait."""
        if instance is self._directory.litellm and (plan := self._beside.not_installed):
            self._narrator.installing_litellm(plan)
        self._narrator.model_loading(instance.id)
        try:
            with instance.lease(takes_slot=False) as lease:
                endpoint = lease.endpoint or await lease.ready()
        except RequestFault as error:
            if not self._start_news.has_told(instance):  # refused, or not one of the fleet
                after = f"requests for {instance.id} get a 503 until it starts; it is tried again"
                self._narrator.model_failed(instance.id, Failure(error.message, "", after))
        else:
            if instance is self._directory.litellm and (plan := self._beside.plan):
                self._narrator.litellm_ready(endpoint, plan)
            else:
                self._narrator.model_ready(instance.id, endpoint)


_REACHED_AT = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}
"""What listens everywhere is asked for here."""


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def run_check(
    model: ModelSettings,
    limits: Limits,
    ready: Callable[[Endpoint], None],
    told: Callable[[Probe, Finding], None],
) -> tuple[Endpoint, dict[str, Finding]]:
    """Asks the model's engine what it can do, after starting it where it is ours; returns where it
    answered and what was found. ``ready`` and ``told`` hear of it meanwhile.

    Raises ``UpstreamError`` when there is no engine to ask.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_check(model, limits, ready, told))


async def _check(
    model: ModelSettings,
    limits: Limits,
    ready: Callable[[Endpoint], None],
    told: Callable[[Probe, Finding], None],
) -> tuple[Endpoint, dict[str, Finding]]:
    client = Client(
        connect_timeout_s=limits.connect_timeout_s, idle_timeout_s=limits.idle_timeout_s
    )
    kind = ManagedInstance if model.path is not None else RemoteInstance
    instance = kind(model, client.fetch)
    found: dict[str, Finding] = {}
    try:
        endpoint = await instance.ensure_ready()
        ready(endpoint)
        with instance.lease():
            async for probe, finding in findings(endpoint, client):
                found[probe.feature] = finding
                told(probe, finding)
        return endpoint, found
    finally:
        await instance.stop()
        await client.close()
