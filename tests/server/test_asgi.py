"""The routes: what answers where, in whose words, to whom."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from homeport.server.admission import TELEMETRY_PATHS
from homeport.server.usage import UsageLog
from homeport.settings import ApiKey, CaptureSettings, Limits, ServerSettings
from homeport.store.base import StoreError
from homeport.store.recorder import Recorder
from homeport.store.spool import Spool
from tests.server.fakes import FakeInstance, Plan, World, whole
from tests.store.records import FaultyStore, record
from tests.support.asgi import Exchange, ask

KEY = "hp-dummy"
KEYED = ServerSettings(keys=(ApiKey(name="k", sha256=hashlib.sha256(KEY.encode()).hexdigest()),))
ANTHROPIC = {"anthropic-version": "2023-06-01"}
CHAT = b'{"model":"it","messages":[{"role":"user","content":"Hi"}]}'
MESSAGE = b'{"model":"it","max_tokens":9,"messages":[{"role":"user","content":"Hi"}]}'


def is_anthropic(body: Any) -> bool:
    return bool(body.get("type") == "error" and "request_id" in body)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("HEAD", "/", 200),
        ("GET", "/api/hello", 200),
        ("HEAD", "/api/hello", 200),
        ("GET", "/health", 200),
        ("HEAD", "/health", 200),
        ("GET", "/readyz", 200),
        ("HEAD", "/readyz", 200),
        ("GET", "/metrics", 200),
        ("GET", "/v1/models", 200),
        ("GET", "/v1/models/", 200),
        ("HEAD", "/v1/models", 200),
        ("GET", "/v1/models/it", 200),
        ("HEAD", "/v1/models/it", 200),
        *(("POST", path, 200) for path in TELEMETRY_PATHS),
        ("GET", "/v1/chat/completions", 405),
        ("HEAD", "/v1/messages", 405),
        ("PUT", "/v1/messages", 405),
        ("POST", "/v1/models", 405),
        ("DELETE", "/v1/models/it", 405),
        ("OPTIONS", "/v1/messages", 405),
        ("GET", "/nowhere", 404),
        ("POST", "/v1", 404),
        ("GET", "//", 200),
        ("GET", "/v1/models/nobody", 404),
        ("POST", "/v1/messages/batches", 404),
    ],
)
async def test_routes(method: str, path: str, status: int) -> None:
    found = await ask(World(), method, path)
    assert await found.status() == status
    if method == "HEAD":
        assert found.chunks == []


async def test_method_not_allowed_names_those_that_are() -> None:
    found = await ask(World(), "GET", "/v1/messages")
    assert found.headers["allow"] == "POST"


async def test_not_found_helps_with_a_forgotten_v1() -> None:
    found = await ask(World(), "POST", "/chat/completions")
    assert "did you mean /v1/chat/completions?" in (await found.json())["error"]["message"]


@pytest.mark.parametrize("version", ["2023-06-01", "2026-10-21", "2099-01-01", None])
@pytest.mark.parametrize(
    "path",
    ["/v1/messages/batches", "/v1/messages/batches/b/results", "/v1/files", "/v1/files/f/content"],
)
async def test_what_is_not_here_says_what_to_do(path: str, version: str | None) -> None:
    headers = {"anthropic-version": version} if version else {}
    for method in ("GET", "POST", "DELETE"):
        found = await ask(World(), method, path, headers=headers)
        assert await found.status() == 404
        body = await found.json()
        in_anthropics_words = version is not None or "messages" in path
        assert is_anthropic(body) is in_anthropics_words
        kind = "not_found_error" if in_anthropics_words else "invalid_request_error"
        assert body["error"]["type"] == kind
        assert "here; " in body["error"]["message"]
        assert found.headers["request-id"]


@pytest.mark.parametrize("version", ["2023-06-01", "2026-10-21", "", None])
@pytest.mark.parametrize("beta", ["", "something-new-2030-01-01, another", None])
async def test_any_version_and_any_beta(version: str | None, beta: str | None) -> None:
    world = World()
    world.client.plans = [Plan(pieces=[whole("Hi")])]
    given = {"anthropic-version": version, "anthropic-beta": beta}
    headers = {name: value for name, value in given.items() if value is not None}
    found = await ask(world, "POST", "/v1/messages", MESSAGE, headers=headers)
    assert await found.status() == 200


@pytest.mark.parametrize(
    ("path", "headers", "anthropic"),
    [
        ("/v1/messages/nowhere", {}, True),
        ("/api/nowhere", {}, True),
        ("/v1/chat/nowhere", {}, False),
        ("/v1/chat/nowhere", ANTHROPIC, False),
        ("/v1/nowhere", {}, False),
        ("/v1/nowhere", ANTHROPIC, True),
        ("/v1/models/nobody", ANTHROPIC, True),
        ("/v1/models/nobody", {}, False),
    ],
)
async def test_whose_words(path: str, headers: dict[str, str], anthropic: bool) -> None:
    found = await ask(World(), "GET", path, headers=headers)
    assert await found.status() == 404
    assert is_anthropic(await found.json()) is anthropic


@pytest.mark.parametrize("query", ["", "beta=true", "a=%ff&=&&beta"])
async def test_any_query_string(query: str) -> None:
    world = World()
    world.client.plans = [Plan(pieces=[whole("Hi")])]
    found = await ask(world, "POST", "/v1/messages", MESSAGE, query=query)
    assert await found.status() == 200


async def test_other_kinds_of_scopes_are_left_alone() -> None:
    await World()({"type": "lifespan"}, None, None)


# --- keys -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/it", "/metrics", "/nowhere"])
async def test_key_needed(path: str) -> None:
    world = World(server=KEYED)
    found = await ask(world, "GET", path)
    assert await found.status() == 401
    assert found.headers["www-authenticate"] == "Bearer"
    found = await ask(world, "GET", path, headers={"x-api-key": KEY})
    assert await found.status() in (200, 404)


@pytest.mark.parametrize(
    ("path", "anthropic"), [("/v1/chat/completions", False), ("/v1/messages", True)]
)
async def test_unauthorised_in_the_callers_words(path: str, anthropic: bool) -> None:
    found = await ask(World(server=KEYED), "POST", path, CHAT)
    assert await found.status() == 401
    assert is_anthropic(await found.json()) is anthropic


@pytest.mark.parametrize("path", ["/health", "/readyz", "/", "/api/hello"])
async def test_open_without_key(path: str) -> None:
    found = await ask(World(server=KEYED), "GET", path, headers={"host": "10.1.2.3"})
    assert await found.status() == 200


# --- browsers ---------------------------------------------------------------------------------

PAGE = "https://app.example"


@pytest.mark.parametrize("server", [ServerSettings(), KEYED], ids=["open", "keyed"])
async def test_preflight_of_an_allowed_page(server: ServerSettings) -> None:
    """Browsers send no key with it, and no page could call if it were refused."""
    settings = ServerSettings(keys=server.keys, allowed_origins=(PAGE,))
    headers = {"origin": PAGE, "access-control-request-method": "POST"}
    found = await ask(World(server=settings), "OPTIONS", "/v1/messages", headers=headers)
    assert await found.status() == 204
    assert found.headers["access-control-allow-origin"] == PAGE
    assert "authorization" in found.headers["access-control-allow-headers"]
    assert "content-length" not in found.headers


async def test_allowed_page_may_read_refusals_too() -> None:
    settings = ServerSettings(keys=KEYED.keys, allowed_origins=(PAGE,))
    found = await ask(World(server=settings), "GET", "/v1/models", headers={"origin": PAGE})
    assert await found.status() == 401
    assert found.headers["access-control-allow-origin"] == PAGE
    assert found.headers["vary"] == "origin"


@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
async def test_other_pages_may_not(method: str) -> None:
    headers = {"origin": "https://evil.example"}
    found = await ask(World(), method, "/v1/models", headers=headers)
    assert await found.status() == 403
    assert "access-control-allow-origin" not in found.headers


# --- small answers ----------------------------------------------------------------------------


async def test_telemetry_is_counted_and_forgotten() -> None:
    world = World(server=ServerSettings(limits=Limits(body_bytes=10)))
    async with Exchange(world, "POST", "/api/event_logging/batch") as exchange:
        exchange.feed(b"x" * 1000, more=True).feed(b"secret")
        assert await exchange.body() == b"{}"
    text = world.metrics.exposition().decode()
    assert "homeport_telemetry_events_total 1.0" in text
    assert "secret" not in text


@pytest.mark.parametrize(
    ("state", "error", "status"),
    [
        ("ready", None, 200),
        ("ready", "it had crashed once", 200),
        ("stopped", None, 200),
        ("starting", None, 200),
        ("starting", "it has crashed", 503),
        ("backoff", "it has crashed", 503),
        ("failed", "it has crashed", 503),
        ("draining", None, 503),
        ("stopping", None, 503),
    ],
)
async def test_readiness(state: Any, error: str | None, status: int) -> None:
    world = World()
    world.instance.state, world.instance.last_error = state, error
    found = await ask(world, "GET", "/readyz")
    assert await found.status() == status
    body = await found.json()
    assert body["models"] == {"it": {"state": state, "in_flight": 0}}
    assert body["status"] == ("ready" if status == 200 else "not ready")


async def test_one_model_that_is_available_is_enough() -> None:
    world = World(FakeInstance("a"), FakeInstance("b"))
    world.instance.state = "failed"
    assert await (await ask(world, "GET", "/readyz")).status() == 200


async def test_no_model_at_all() -> None:
    world = World()
    world.directory.publish(world.directory.catalog, {}, ("http://engine/v1",))
    found = await ask(world, "GET", "/readyz")
    assert await found.status() == 503
    assert (await found.json())["waiting_for"] == ["http://engine/v1"]
    found = await ask(world, "POST", "/v1/chat/completions", CHAT)
    assert await found.status() == 503
    assert found.headers["retry-after"] == "2"


async def test_records_that_wait_are_told_to_whoever_asks_and_keep_no_request_away(
    tmp_path: Path,
) -> None:
    store = FaultyStore(fails=True)
    store.error = StoreError("wrong password for homeport at 10.1.2.3")
    recorder = Recorder(store, Spool(tmp_path, 10_000), retention_s=1e9, first_retry_s=0.01)
    world = World(server=KEYED, usage=UsageLog(recorder, CaptureSettings()))

    async def told() -> Any:
        found = await ask(world, "GET", "/readyz")
        assert await found.status() == 200
        assert "10.1.2.3" not in json.dumps(await found.json()), "that is for who has a key"
        return (await found.json())["usage"]

    assert await told() == {"store": "up", "spooled_bytes": 0}, "it was not tried yet"
    recorder.record(record(1))
    recorder.start()
    try:
        store.wait_opened(2)
        down = await told()
        assert down["store"] == "down"
        assert down["spooled_bytes"] > 100
        store.fails = False
        store.wait_kept(1)
    finally:
        recorder.close()
    assert await told() == {"store": "up", "spooled_bytes": 0}


async def test_where_nothing_is_recorded_nothing_waits() -> None:
    found = await ask(World(), "GET", "/readyz")
    assert (await found.json())["usage"] is None


async def test_metrics() -> None:
    found = await ask(World(), "GET", "/metrics")
    assert found.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "homeport_requests_in_flight" in (await found.body()).decode()


async def test_a_failure_of_ours_is_a_500_without_details(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World()
    monkeypatch.setattr(world.metrics, "exposition", lambda: 1 / 0)
    found = await ask(world, "GET", "/metrics")
    assert await found.status() == 500
    message = (await found.json())["error"]["message"]
    assert "ZeroDivisionError" in message
    assert "division by zero" not in message
    assert "ZeroDivisionError" in "".join(capsys.readouterr()), "the log has it"


# --- bodies -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/chat/completions", b"", None),
        ("/v1/chat/completions", b"{", None),
        ("/v1/chat/completions", b"[]", None),
        ("/v1/chat/completions", b"\xff", None),
        ("/v1/chat/completions", b"[" * 100_000, None),
        ("/v1/chat/completions", b'{"model":"it"}', "messages"),
        ("/v1/chat/completions", b'{"model":"it","messages":3}', "messages"),
        ("/v1/chat/completions", b'{"model":3,"messages":[]}', "model"),
        ("/v1/messages", b"{", None),
        ("/v1/messages", b"\xff", None),
        ("/v1/messages", b'{"model":"it","max_tokens":1}', "messages"),
        (
            "/v1/messages",
            b'{"model":"it","messages":[{"role":"user","content":"x"}]}',
            "max_tokens",
        ),
        ("/v1/messages", MESSAGE.replace(b'"Hi"', b"3"), "messages.0.content"),
        ("/v1/messages/count_tokens", b'{"model":"it"}', "messages"),
        ("/v1/completions", b"\xff", None),
        ("/v1/embeddings", b'{"model":"it"}', "input"),
    ],
)
async def test_bodies_that_are_refused(path: str, body: bytes, field: str | None) -> None:
    world = World()
    found = await ask(world, "POST", path, body)
    assert await found.status() == 400, await found.body()
    assert (field or "") in json.dumps((await found.json())["error"])
    assert world.client.exchanges == []


async def test_body_over_the_limit_in_each_dialect() -> None:
    world = World(server=ServerSettings(limits=Limits(body_bytes=10)))
    for path in ("/v1/chat/completions", "/v1/messages", "/v1/messages/count_tokens"):
        found = await ask(world, "POST", path, CHAT)
        assert await found.status() == 413
        assert is_anthropic(await found.json()) is (path != "/v1/chat/completions")
