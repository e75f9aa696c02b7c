"""``/admin``: who may come in, and what happens to real engines by it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from homeport.errors import ConfigError
from homeport.facts import Command
from homeport.lifecycle.scheduler import Policy, Terms
from homeport.routing.catalog import Catalog, Entry
from homeport.runtime.fleet import Fleet
from homeport.runtime.instance import Instance
from homeport.runtime.managed import ManagedInstance
from homeport.server.admin import Admin, Reloaded, ReloadError
from homeport.server.asgi import Gateway
from homeport.server.directory import Directory
from homeport.server.fleet_metrics import FleetMetrics
from homeport.server.metrics import Metrics
from homeport.server.news import News
from homeport.settings import ModelSettings, ServerSettings, WebSearchSettings
from homeport.upstream import Client
from tests.runtime.conftest import fetch, stub_command, until
from tests.server.fakes import FakeInstance
from tests.support.asgi import Exchange, ask

KEY = "own-key"
AUTH = {"authorization": f"Bearer {KEY}"}
STREAM = {**AUTH, "accept": "text/event-stream"}
ROOM_FOR_ONE = Policy(budget_bytes=10, min_dwell_s=0.0)


class World:
    """Stub engines with room for one of them, and ``/admin`` before them."""

    def __init__(self, server: ServerSettings | None = None) -> None:
        self.fleet, self.directory, self.news = Fleet(ROOM_FOR_ONE), Directory(), News()
        self.metrics = Metrics()
        for observer in (
            self.news,
            FleetMetrics(self.fleet, self.directory, self.metrics.registry),
        ):
            self.fleet.observe(observer)
        self.reloaded: Reloaded | ReloadError = Reloaded(added=("new",))
        self.admin = Admin(
            self.directory, self.fleet, self.news, self._reload, self.metrics.under_way
        )
        self.gateway = Gateway(
            server or ServerSettings(),
            self.directory,
            Client(),
            self.metrics,
            started_at_s=0,
            admin=self.admin,
            own_key=KEY,
        )
        self.instances: dict[str, Instance] = {}
        self._entries: list[Entry] = []

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        await self.gateway(scope, receive, send)

    def add(self, name: str, *options: str, **settings: Any) -> ManagedInstance:
        def command_for(model: ModelSettings, port: int, api_key: str) -> Command:
            return stub_command(port, *options)

        model = ModelSettings(id=name, path="m.gguf", engine="llamacpp", **settings)
        instance = ManagedInstance(
            model, fetch, command_for=command_for, backoff=lambda _: None, keeper=self.fleet
        )
        self.fleet.add(instance, Terms(need_bytes=10, ttl_s=model.ttl_s))
        self.publish(name, instance, model.aliases)
        return instance

    def publish(self, name: str, instance: object, aliases: tuple[str, ...] = ()) -> None:
        self.instances[name] = cast(Instance, instance)
        self._entries = [entry for entry in self._entries if entry.id != name]
        self._entries.append(Entry(id=name, aliases=aliases))
        catalog = Catalog(self._entries, default=self._entries[0].id)
        self.directory.publish(catalog, dict(self.instances))

    async def _reload(self) -> Reloaded:
        if isinstance(self.reloaded, ReloadError):
            raise self.reloaded
        return self.reloaded


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    made = World()
    try:
        yield made
    finally:
        await made.fleet.close()


async def get(app: World, path: str, query: str = "") -> Any:
    found = await ask(app, "GET", path, headers=AUTH, query=query)
    assert await found.status() == 200, await found.body()
    return await found.json()


async def post(app: World, path: str) -> tuple[int, Any]:
    found = await ask(app, "POST", path, headers=AUTH)
    return await found.status(), await found.json()


def events_in(exchange: Exchange) -> list[tuple[str, Any]]:
    """Those that are there whole."""
    found = []
    for block in b"".join(exchange.chunks).decode().split("\n\n")[:-1]:
        if not block.startswith(":"):
            event, data = block.split("\n")
            found.append((event.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


async def told(app: World, path: str) -> list[tuple[str, Any]]:
    return events_in(await ask(app, "POST", path, headers=STREAM))


# --- who may come in ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({**AUTH, "host": "evil.example"}, 403),
        ({**AUTH, "origin": "https://evil.example"}, 403),
        (AUTH, 200),
        ({"x-api-key": KEY}, 200),
    ],
)
async def test_the_master_key_and_the_names(headers: dict[str, str], status: int) -> None:
    found = await ask(World(), "GET", "/admin/models", headers=headers)
    assert await found.status() == status
    if status != 200:
        error = (await found.json())["error"]
        assert set(error) == {"kind", "message"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/admin", 404),
        ("GET", "/admin/nothing", 404),
        ("GET", "/admin/models/nobody", 404),
        ("POST", "/admin/models", 405),
        ("GET", "/admin/models/it/load", 405),
        ("POST", "/admin/models/it/logs", 405),
        ("GET", "/admin/reload", 405),
        ("POST", "/admin/models/nobody/load", 404),
    ],
)
async def test_what_there_is_not(method: str, path: str, status: int) -> None:
    found = await ask(World(), method, path, headers=AUTH)
    assert await found.status() == status


async def test_a_name_that_nobody_has_gets_those_that_are_near_or_there() -> None:
    async with world() as app:
        app.add("coder")
        app.add("embed")
        for name, told in [("codr", "did you mean 'coder'?"), ("zzz", "here: 'coder' and 'embed'")]:
            found = await ask(app, "POST", f"/admin/models/{name}/load", headers=AUTH)
            message = (await found.json())["error"]["message"]
            assert message.startswith(f"model '{name}' is not known here; ")
            assert message.endswith(told)


async def test_without_an_admin_there_is_none() -> None:
    app = Gateway(ServerSettings(master_key="m"), Directory(), Client(), Metrics(), started_at_s=0)
    found = await ask(app, "GET", "/admin/models", headers={"x-api-key": "m"})
    assert await found.status() == 404


# --- seeing ---------------------------------------------------------------------------------------


async def test_what_a_model_is_doing() -> None:
    async with world() as app:
        it = app.add("it", aliases=("short",), ttl_s=600.0, ctx=4096)
        app.publish("elsewhere", FakeInstance("elsewhere"))
        before, other = (await get(app, "/admin/models"))["models"]
        assert (before["id"], before["state"], before["aliases"]) == ("it", "stopped", ["short"])
        assert (before["pid"], before["port"], before["ready_s"]) == (None, None, None)
        assert (other["state"], other["reserved_bytes"], other["pid"]) == ("ready", None, None)
        await app.fleet.load(it)
        with it.lease():
            row = await get(app, "/admin/models/short")
            assert (row["state"], row["in_flight"], row["idle_s"]) == ("ready", 1, None)
        row = await get(app, "/admin/models/it/")
        assert (row["in_flight"], row["reserved_bytes"], row["is_default"]) == (0, 10, True)
        assert row["pid"] == it.pid
        assert it.endpoint is not None
        assert str(row["port"]) in it.endpoint.base_url
        assert 0 <= row["idle_s"] < 600 - row["ttl_left_s"] + 1
        assert row["runner"] == "process"


@pytest.mark.parametrize("path", ["org/name", "org%2Fname"])
async def test_a_slash_in_an_id(path: str) -> None:
    """The server hands over the path decoded and as it came; the second decides."""
    async with world() as app:
        app.add("org/name")
        assert (await get(app, f"/admin/models/{path}"))["id"] == "org/name"
        assert await get(app, f"/admin/models/{path}/logs") == {
            "first": 1,
            "dropped": 0,
            "lines": [],
        }


# --- loading and stopping -------------------------------------------------------------------------


async def test_load_unload_and_restart() -> None:
    async with world() as app:
        it = app.add("it")
        status, row = await post(app, "/admin/models/it/load")
        assert (status, row["state"]) == (200, "ready")
        first_pid = it.pid
        assert (await post(app, "/admin/models/it/load"))[1]["pid"] == first_pid
        _, row = await post(app, "/admin/models/it/restart")
        assert row["state"] == "ready"
        assert row["pid"] not in (None, first_pid)
        _, row = await post(app, "/admin/models/it/unload")
        assert (row["state"], row["pid"]) == ("stopped", None)
        assert (await post(app, "/admin/models/it/unload"))[1]["state"] == "stopped"
        assert (await post(app, "/admin/models/it/restart"))[1]["state"] == "ready"


async def test_unload_waits_for_requests() -> None:
    async with world() as app:
        it = app.add("it")
        await app.fleet.load(it)
        async with Exchange(app, "POST", "/admin/models/it/unload", STREAM) as unloading:
            unloading.feed(b"")
            with it.lease():
                await unloading.until(
                    lambda e: ("progress", {"step": "draining", "in_flight": 1}) in events_in(e)
                )
                assert it.endpoint is not None
            await unloading.body()
        assert events_in(unloading)[-1][1]["state"] == "stopped"


async def test_progress_tells_who_goes_and_what_the_engine_says() -> None:
    async with world() as app:
        one = app.add("one")
        app.add("two", "--say", "reading tensors", "--ready-after", "0.8")
        await app.fleet.load(one)
        events = await told(app, "/admin/models/two/load")
        steps = [content["step"] for name, content in events if name == "progress"]
        assert steps[0] == "queued"
        assert ("progress", {"step": "evicting", "model": "one"}) in events
        assert ("progress", {"step": "loading", "line": "reading tensors"}) in events
        assert steps.index("evicting") < steps.index("starting") < steps.index("loading")
        name, row = events[-1]
        assert (name, row["id"], row["state"]) == ("done", "two", "ready")


async def test_a_load_that_fails_says_why() -> None:
    async with world() as app:
        app.add("it", "--say", "no such tensor", "--exit", "1")
        name, content = (await told(app, "/admin/models/it/load"))[-1]
        assert name == "failed"
        assert "no such tensor" in content["error"]["message"]
        status, body = await post(app, "/admin/models/it/load")  # tried again at once
        assert (status, body["error"]["kind"]) == (503, "unavailable")
        assert (await get(app, "/admin/models/it"))["state"] == "failed"


async def test_who_leaves_a_load_does_not_want_it_any_more() -> None:
    async with world() as app:
        one, two = app.add("one"), app.add("two")
        await app.fleet.load(one)
        with one.lease():
            async with Exchange(app, "POST", "/admin/models/two/load", AUTH) as loading:
                loading.feed(b"")
                await until(lambda: app.fleet.waiting == 1)
                loading.leave()
        assert app.fleet.waiting == 0
        assert (one.state, two.state) == ("ready", "stopped")


async def test_what_is_elsewhere_is_not_stopped() -> None:
    app = World()
    app.publish("it", FakeInstance("it"))
    for action in ("unload", "restart"):
        status, body = await post(app, f"/admin/models/it/{action}")
        assert (status, body["error"]["kind"]) == (400, "invalid_request")


async def test_what_waits_ends_when_homeport_does() -> None:
    async with world() as app:
        it = app.add("it", "--ready-after", "60")
        paths = [("POST", "load"), ("GET", "logs")]
        exchanges = [
            Exchange(app, method, f"/admin/models/it/{action}", STREAM, "follow=true")
            for method, action in paths
        ]
        exchanges.append(Exchange(app, "GET", "/admin/events", STREAM))
        for exchange in exchanges:
            await exchange.__aenter__()
            exchange.feed(b"")
            await exchange.status()
        await until(lambda: it.state == "starting")
        app.admin.close()
        for exchange in exchanges:
            await exchange.body()
            await exchange.__aexit__(None, None, None)
        assert events_in(exchanges[0])[-1][0] == "failed"


# --- what engines say -----------------------------------------------------------------------------


async def test_logs_and_their_number() -> None:
    async with world() as app:
        it = app.add("it")
        for n in range(150):
            it.output.write(b"line %d\n" % n)
        assert len((await get(app, "/admin/models/it/logs"))["lines"]) == 100
        found = await get(app, "/admin/models/it/logs", "lines=2")
        assert found == {"first": 149, "dropped": 0, "lines": ["line 148", "line 149"]}
        bad = await ask(app, "GET", "/admin/models/it/logs", headers=AUTH, query="lines=x")
        assert await bad.status() == 400


async def test_followed_over_a_restart_and_a_new_configuration() -> None:
    async with world() as app:
        it = app.add("it", "--say", "first engine")
        query = "follow=true&lines=0"
        async with Exchange(app, "GET", "/admin/models/it/logs", AUTH, query) as following:
            following.feed(b"")
            await following.status()

            def said(exchange: Exchange) -> list[str]:
                texts = [c["lines"] for name, c in events_in(exchange) if name == "lines"]
                return [line for lines in texts for line in lines]

            await app.fleet.load(it)
            await post(app, "/admin/models/it/restart")
            await following.until(lambda e: said(e).count("first engine") == 2)
            new = app.add("it", "--say", "second engine")
            app.fleet.retire(it)
            await app.fleet.load(new)
            await following.until(lambda e: "second engine" in said(e))
            assert ("configured_anew", {"model": "it"}) in events_in(following)
            following.leave()


async def test_a_slow_follower_is_told_what_it_missed() -> None:
    async with world() as app:
        it = app.add("it")
        query = "follow=true&lines=0"
        async with Exchange(app, "GET", "/admin/models/it/logs", AUTH, query) as following:
            following.feed(b"")
            await following.status()
            following.stop_reading()
            it.output.write(b"one\n")
            await following.until(lambda e: e.is_blocked)
            for _ in range(100):
                it.output.write(b"x" * 8000 + b"\n")
            following.read_on()
            await following.until(lambda e: len(events_in(e)) == 2)
            last = events_in(following)[-1][1]
            assert last["dropped"] > 0
            assert last["dropped"] + len(last["lines"]) == 100
            following.leave()


# --- events and reload ----------------------------------------------------------------------------


async def test_events_for_a_dashboard() -> None:
    async with world() as app:
        one, two = app.add("one"), app.add("two")
        async with Exchange(app, "GET", "/admin/events", AUTH) as watching:
            watching.feed(b"")
            await watching.until(lambda e: bool(events_in(e)))
            await app.fleet.load(one)
            await app.fleet.load(two)
            app.news.reloaded(("new",), (), ())
            await watching.until(lambda e: events_in(e)[-1][0] == "reloaded")
            watching.leave()
        events = events_in(watching)
        assert [(name, content.get("model")) for name, content in events] == [
            *(("models", None), ("starting", "one"), ("ready", "one")),
            *(("stopping", "one"), ("stopped", "one"), ("starting", "two"), ("ready", "two")),
            ("reloaded", None),
        ]
        assert events[3][1]["why"] == "evicted"
        assert events[2][1]["took_s"] > 0
        text = app.metrics.exposition().decode()
        for line in (
            'homeport_model_state{model="two",state="ready"} 1.0',
            'homeport_model_state{model="one",state="ready"} 0.0',
            'homeport_model_starts_total{model="one"} 1.0',
            'homeport_model_evictions_total{model="one"} 1.0',
            'homeport_model_start_seconds_count{model="two"} 1.0',
            'homeport_queue_wait_seconds_count{model="two"} 1.0',
            'homeport_reserved_bytes{model="two"} 10.0',
            'homeport_requests_queued{model="two"} 0.0',
        ):
            assert line in text


async def test_a_reload_and_what_is_wrong_with_it() -> None:
    app = World()
    assert await post(app, "/admin/reload") == (
        200,
        {
            "added": ["new"],
            **{key: [] for key in ("changed", "adjusted", "removed", "settings", "needs_restart")},
        },
    )
    app.reloaded = ReloadError((ConfigError("is wrong", where="f:1", key="a.b", hint="mend it"),))
    status, body = await post(app, "/admin/reload")
    assert status == 400
    assert body["error"]["errors"] == [
        {"where": "f:1", "key": "a.b", "message": "is wrong", "hint": "mend it"}
    ]


async def test_new_settings_hold_from_the_next_request_on() -> None:
    app = World(ServerSettings(master_key="first"))
    for key, status in (("first", 200), (KEY, 200), ("second", 401)):
        found = await ask(app, "GET", "/admin/models", headers={"x-api-key": key})
        assert await found.status() == status
    server = ServerSettings(master_key="second", allowed_hosts=("box.lan",))
    app.gateway.configure(server, web_search=WebSearchSettings(), small_models=(), needs_key=False)
    for key, status in (("first", 401), (KEY, 200), ("second", 200)):
        headers = {"x-api-key": key, "host": "box.lan"}
        found = await ask(app, "GET", "/admin/models", headers=headers)
        assert await found.status() == status


async def test_a_key_is_needed_as_soon_as_others_can_come_in() -> None:
    """LiteLLM's address may change by a reload."""
    app = World(ServerSettings(master_key="master"))
    for needs_key, expected in ((False, 200), (True, 401), (False, 200)):
        app.gateway.configure(
            ServerSettings(master_key="master"), WebSearchSettings(), (), needs_key=needs_key
        )
        assert await (await ask(app, "GET", "/v1/models")).status() == expected
        with_key = await ask(app, "GET", "/v1/models", headers={"x-api-key": "master"})
        assert await with_key.status() == 200
