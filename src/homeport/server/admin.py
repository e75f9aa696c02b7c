"""``/admin``: see what runs, load, unload and restart models, follow what engines say, reload.

Who may come in has been decided (``admission``: always with a master key). Answers are JSON; what goes
on for longer is told as server-sent events to whoever asks for them (``Accept: text/event-stream``).

A model is named by any name that a request for inference could use, but for patterns and the default.
An id may hold slashes, and both spellings work: ``/admin/models/org/name/load`` (the last part is the
action) and ``/admin/models/org%2Fname/load`` (a part is taken as it is, whatever it looks like).

Who waits here for an engine waits as requests do: through the fleet, by a lease. A client that leaves a
load before the engine has begun to start does not want it any more; a start that has begun goes on.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine
from typing import Any, Final
from urllib.parse import unquote

import msgspec

from homeport.errors import ClientError, ConfigError, RequestFault, UpstreamError
from homeport.routing.catalog import Entry
from homeport.runtime.fleet import Fleet
from homeport.runtime.instance import Instance
from homeport.runtime.managed import ManagedInstance
from homeport.runtime.output import Lines
from homeport.server.directory import Directory
from homeport.server.http import Http
from homeport.server.metrics import Outcome
from homeport.server.news import News
from homeport.server.overview import Overview, Row
from homeport.server.progress import Progress
from homeport.wire.faults import plain_body_of

Handler = Callable[[Http], Awaitable[None]]

POLL_S: Final = 0.25
"""Between looks at what a person watches: how far a load is, the engine's last line."""
PING_S: Final = 15.0
"""Between signs of life on a stream that has nothing to tell: proxies cut silent ones after 60 s."""
DEFAULT_LINES: Final = 100
MODELS: Final = "/admin/models"
ACTIONS: Final = ("load", "unload", "restart", "logs")


class Reloaded(msgspec.Struct, frozen=True, kw_only=True):
    """What a configuration that was read anew has changed."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    """Models that have got a new engine; the old one finishes its requests."""
    adjusted: tuple[str, ...] = ()
    """Models whose settings changed without touching their engine."""
    removed: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    """What else has changed, by the keys of the configuration file."""
    needs_restart: tuple[str, ...] = ()
    """What has changed in the file, and takes effect with the next start only."""


class ReloadError(Exception):
    """The configuration cannot be read; nothing has changed."""

    def __init__(self, errors: tuple[ConfigError, ...]) -> None:
        super().__init__(f"{len(errors)} errors in the configuration")
        self.errors = errors


Reload = Callable[[], Awaitable[Reloaded]]
"""Raises ``ReloadError``."""


class Admin:
    def __init__(
        self,
        directory: Directory,
        fleet: Fleet,
        news: News,
        reload: Reload,
        under_way: Collection[Outcome] = (),
    ) -> None:
        self._directory, self._fleet, self._news, self._reload = directory, fleet, news, reload
        self._overview = Overview(directory, fleet, under_way)
        self._closing = asyncio.Event()

    def close(self) -> None:
        """homeport is stopping: streams end, so that nobody waits for them."""
        self._closing.set()

    # ------------------------------------------------------------------- routes

    def methods(self, http: Http) -> dict[str, Handler] | None:
        """What there is at the request's path. None: nothing."""
        match http.path.rstrip("/"):
            case "/admin/models":
                return {"GET": self._list}
            case "/admin/events":
                return {"GET": self._events}
            case "/admin/reload":
                return {"POST": self._reload_now}
        path = http.raw_path.rstrip("/")
        if not path.startswith(MODELS + "/"):
            return None
        *parts, last = path.removeprefix(MODELS + "/").split("/")
        if not parts or last not in ACTIONS:
            name = unquote("/".join((*parts, last)))
            return {"GET": lambda h: self._show(h, name)}
        name = unquote("/".join(parts))
        handler = getattr(self, f"_{last}")
        return {"GET" if last == "logs" else "POST": lambda h: handler(h, name)}

    async def _list(self, http: Http) -> None:
        await _answer(http, {"models": self._overview.rows()})

    async def _show(self, http: Http, name: str) -> None:
        entry, _ = self._find(name)
        await _answer(http, self._overview.row(entry))

    async def _load(self, http: Http, name: str) -> None:
        entry, instance = self._find(name)
        if isinstance(instance, ManagedInstance):
            await self._do(http, entry, instance, self._fleet.load(instance))
        else:
            await self._do(http, entry, instance, instance.ensure_ready())

    async def _unload(self, http: Http, name: str) -> None:
        entry, instance = self._find_ours(name)
        await self._do(http, entry, instance, self._until_unloaded(instance))

    async def _restart(self, http: Http, name: str) -> None:
        entry, instance = self._find_ours(name)
        self._fleet.unload(instance)
        await self._do(http, entry, instance, self._fleet.load(instance))

    async def _reload_now(self, http: Http) -> None:
        try:
            done = await self._reload()
        except ReloadError as error:
            await _answer(http, _refused(error), status=400)
        else:
            await _answer(http, done)

    # ------------------------------------------------------------------- models by name

    def _find(self, name: str) -> tuple[Entry, Instance]:
        if (litellm := self._directory.litellm) is not None and name == litellm.id:
            return Entry(id=litellm.id), litellm
        resolution = self._directory.catalog.resolve(name, kind="chat")
        entry = self._directory.catalog.get(resolution.model_id)
        if entry is None or resolution.how in ("wildcard", "default"):
            raise self._directory.catalog.unknown(name)
        instance = self._directory.engine_of(entry.id)
        assert instance is not None, "published with the catalog"
        return entry, instance

    def _find_ours(self, name: str) -> tuple[Entry, ManagedInstance]:
        entry, instance = self._find(name)
        if not isinstance(instance, ManagedInstance):
            raise ClientError(
                "invalid_request",
                f"{entry.id} runs on a server of its own, which homeport neither starts nor stops",
            )
        return entry, instance

    # ------------------------------------------------------------------- what takes its time

    async def _until_unloaded(self, instance: ManagedInstance) -> None:
        """Until its engine has ended, even if a request that came meanwhile starts it again."""
        with self._news.listen() as heard:
            self._fleet.unload(instance)
            while self._fleet.residency(instance).state not in ("stopped", "failed"):
                await heard.wait()
                _, events = heard.take()
                if any(e.event == "stopped" and e.model == instance.id for e in events):
                    return

    async def _do(
        self, http: Http, entry: Entry, instance: Instance, work: Coroutine[Any, Any, object]
    ) -> None:
        """Carries out ``work``, telling how far it is if the client wants to hear that."""
        doing = asyncio.ensure_future(work)
        try:
            with http.watch():
                if _wants_stream(http):
                    await self._told(http, entry, instance, doing)
                else:
                    await self._until(doing)
                    await _answer(http, self._result(entry, doing))
        finally:
            doing.cancel()
            await asyncio.wait({doing})

    async def _told(
        self, http: Http, entry: Entry, instance: Instance, doing: "asyncio.Future[object]"
    ) -> None:
        await http.open_stream()
        with self._news.listen() as heard:
            progress, told_at = Progress(self._fleet, instance, heard), time.monotonic()
            while True:
                said = b"".join(_sse("progress", step) for step in progress.steps())
                if said or time.monotonic() - told_at > PING_S:
                    await http.chunk(said or PING)
                    told_at = time.monotonic()
                if await self._until(doing, within_s=POLL_S):
                    break
        try:
            row = self._result(entry, doing)
        except RequestFault as fault:
            await http.chunk(b"event: failed\ndata: " + plain_body_of(fault) + b"\n\n")
        else:
            await http.chunk(_sse("done", row))
        await http.end()

    def _result(self, entry: Entry, doing: "asyncio.Future[object]") -> Row:
        """The model as it is now. Raises what ``doing`` did."""
        if not doing.done():
            raise UpstreamError("unavailable", "homeport is stopping", retry_after_s=5)
        doing.result()
        return self._overview.row(entry)

    async def _until(
        self,
        wanted: "asyncio.Future[Any] | Coroutine[Any, Any, Any]",
        within_s: float | None = None,
    ) -> bool:
        """Wait until it is so, or homeport is stopping; return whether that came in time."""
        is_ours = not isinstance(wanted, asyncio.Future)
        waiting = asyncio.ensure_future(wanted)
        closing = asyncio.ensure_future(self._closing.wait())
        try:
            done, _ = await asyncio.wait(
                {waiting, closing}, timeout=within_s, return_when=asyncio.FIRST_COMPLETED
            )
            return bool(done)
        finally:
            closing.cancel()
            if is_ours:
                waiting.cancel()

    # ------------------------------------------------------------------- what goes on for ever

    async def _events(self, http: Http) -> None:
        """First all models as they are, then what happens to them."""
        with http.watch(), self._news.listen() as heard:
            await http.open_stream()
            await http.chunk(_sse("models", {"models": self._overview.rows()}))
            while not self._closing.is_set():
                if not await self._until(heard.wait(), within_s=PING_S):
                    await http.chunk(PING)
                dropped, events = heard.take()
                if dropped:
                    await http.chunk(_sse("dropped", {"events": dropped}))
                for event in events:
                    await http.chunk(_sse(event.event, event))
            await http.end()

    async def _logs(self, http: Http, name: str) -> None:
        _, instance = self._find_ours(name)
        found = instance.output.last(_count(http.query("lines")))
        if http.query("follow") in (None, "", "0", "false", "no"):
            await _answer(http, _plain(found))
            return
        with http.watch():
            await http.open_stream()
            if found.texts:
                await http.chunk(_sse("lines", _plain(found)))
            await self._follow(http, name, instance, found.after)
            await http.end()

    async def _follow(self, http: Http, name: str, instance: ManagedInstance, at: int) -> None:
        """Tells all lines from number ``at`` on; if the model is configured anew, those of its next
        instance too."""
        while not self._closing.is_set():
            if not await self._until(instance.output.changed(at), within_s=PING_S):
                await http.chunk(PING)
            found = instance.output.since(at)
            if found.texts or found.dropped:
                await http.chunk(_sse("lines", _plain(found)))
                at = found.after
            elif instance.output.is_closed:
                try:
                    _, instance = self._find_ours(name)
                except ClientError:
                    await http.chunk(_sse("gone", {"model": name}))
                    return
                at = 1
                await http.chunk(_sse("configured_anew", {"model": name}))


# --------------------------------------------------------------------------- on the wire

PING: Final = b": still here\n\n"


def _wants_stream(http: Http) -> bool:
    return "text/event-stream" in (http.header(b"accept") or "")


def _count(given: str | None) -> int:
    if given is None:
        return DEFAULT_LINES
    if not given.isdecimal() or len(given) > 9:
        raise ClientError("invalid_request", f"lines is a number, not '{given}'")
    return int(given)


async def _answer(http: Http, value: object, *, status: int = 200) -> None:
    await http.answer(status, msgspec.json.encode(value))


def _sse(event: str, value: object) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (event.encode(), msgspec.json.encode(value))


def _plain(lines: Lines) -> dict[str, object]:
    return {"first": lines.first, "dropped": lines.dropped, "lines": lines.texts}


def _refused(error: ReloadError) -> dict[str, object]:
    errors = [
        {"where": e.where, "key": e.key, "message": e.message, "hint": e.hint} for e in error.errors
    ]
    return {"error": {"kind": "invalid_request", "message": str(error), "errors": errors}}
