"""A gateway as a container has it: all addresses, secrets by the environment, no keys for clients.

Then every client needs the master key, a scraper has a token that opens `/metrics` alone, and a reload
does not change who may come in.
"""

from __future__ import annotations

import hashlib
import json
import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.raw_client import ask
from tests.support.engine import FakeEngine
from tests.support.gateway import Gateway

MASTER = "the-master-key"
TOKEN = "the-metrics-token"
CHAT = "/v1/chat/completions"
QUESTION = {"model": "x", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture(scope="module")
def engine() -> Iterator[FakeEngine]:
    with FakeEngine() as engine:
        yield engine


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's folder, which `HOMEPORT_CONFIG` names; its `config.yaml` is missing at first."""
    return tmp_path_factory.mktemp("config")


@pytest.fixture(scope="module")
def gateway(
    engine: FakeEngine, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    env = {
        "HOMEPORT_CONFIG": str(folder),
        "HOMEPORT_MASTER_KEY": MASTER,
        "HOMEPORT_METRICS_TOKEN": TOKEN,
        "HOMEPORT_ALLOWED_HOSTS": "gateway",
        "HOMEPORT_UPSTREAM": engine.base_url,
        "HOMEPORT_STORE_URL": str(folder / "usage.db"),
        "HOMEPORT_PROFILE": "",  # what compose passes where nothing is set
    }
    place = tmp_path_factory.mktemp("container")
    with Gateway(place, "--host", "0.0.0.0", env=env) as gateway:
        yield gateway
    gateway.assert_no_internal_error()


async def status(
    gateway: Gateway, path: str, key: str | None, *, host: str = "gateway:11899", **more: str
) -> int:
    headers = {"Host": host, **more} | ({"Authorization": f"Bearer {key}"} if key else {})
    method, body = ("POST", QUESTION) if path == CHAT else ("GET", None)
    async with await ask(gateway.base_url, method, path, body, headers) as exchange:
        await exchange.body()
        return exchange.status


@pytest.mark.parametrize(
    ("path", "key", "expected"),
    [
        (CHAT, MASTER, 200),
        (CHAT, None, 401),
        (CHAT, "wrong", 401),
        (CHAT, TOKEN, 401),
        ("/v1/models", MASTER, 200),
        ("/v1/models", TOKEN, 401),
        ("/metrics", TOKEN, 200),
        ("/metrics", MASTER, 200),
        ("/metrics", None, 401),
        ("/admin/models", MASTER, 200),
        ("/admin/models", TOKEN, 401),
        ("/health", None, 200),
    ],
)
async def test_who_may_come_in(gateway: Gateway, path: str, key: str | None, expected: int) -> None:
    assert await status(gateway, path, key) == expected


async def test_a_loopback_name_in_the_request_opens_nothing(gateway: Gateway) -> None:
    assert await status(gateway, CHAT, None, host="localhost") == 401


async def test_names_count_for_admin(gateway: Gateway) -> None:
    assert await status(gateway, "/admin/models", MASTER, host="elsewhere") == 403


async def test_the_holder_of_the_master_key_has_a_name_in_the_records(
    gateway: Gateway, folder: Path
) -> None:
    assert await status(gateway, CHAT, MASTER) == 200
    assert holders(folder / "usage.db") == {"master key"}


def holders(database: Path) -> set[str]:
    """Whose requests were answered, as soon as some are written."""
    deadline = time.monotonic() + 20
    while True:
        with closing(sqlite3.connect(database)) as db:
            found = db.execute("SELECT key FROM homeport_usage WHERE status = 200").fetchall()
        if found:
            return {key for (key,) in found}
        assert time.monotonic() < deadline, "no record"
        time.sleep(0.05)


async def test_a_reload_leaves_the_door_as_it_is(gateway: Gateway, folder: Path) -> None:
    (folder / "config.yaml").write_text("server: {host: 127.0.0.1}\nsmall_models: [tiny]\n")
    headers = {"Host": "gateway", "Authorization": f"Bearer {MASTER}"}
    async with await ask(gateway.base_url, "POST", "/admin/reload", None, headers) as exchange:
        done = json.loads(await exchange.body())
        assert exchange.status == 200, done
    assert "small_models" in done["settings"]
    assert await status(gateway, CHAT, None) == 401
    assert await status(gateway, CHAT, None, host="localhost") == 401
    assert await status(gateway, CHAT, MASTER) == 200
    digest = hashlib.sha256(b"client").hexdigest()
    (folder / "config.yaml").write_text(f"server: {{keys: [{{name: a, sha256: {digest}}}]}}\n")
    async with await ask(gateway.base_url, "POST", "/admin/reload", None, headers) as exchange:
        assert exchange.status == 200, await exchange.body()
    assert await status(gateway, CHAT, "client") == 200
    assert await status(gateway, CHAT, MASTER) == 200
    assert await status(gateway, CHAT, None) == 401


def test_it_really_listens_on_all_addresses(gateway: Gateway) -> None:
    with socket.create_connection(("127.0.0.2", gateway.port), timeout=5):
        pass


async def test_the_last_key_cannot_be_taken_away(engine: FakeEngine, tmp_path: Path) -> None:
    """It is the address in use that counts, whatever the file says by then."""
    config = tmp_path / "homeport.yaml"
    config.write_text(f"server: {{master_key: {MASTER}}}\n")
    words = ("--config", str(config), "--host", "0.0.0.0", "--upstream", engine.base_url)
    headers = {"Host": "localhost", "Authorization": f"Bearer {MASTER}"}
    with Gateway(tmp_path, *words) as alone:
        config.write_text("server: {port: 1}\n")
        async with await ask(alone.base_url, "POST", "/admin/reload", None, headers) as exchange:
            told = await exchange.body()
        assert exchange.status == 400
        assert b"lets other machines in" in told
        assert await status(alone, CHAT, None, host="localhost") == 401
        assert await status(alone, CHAT, MASTER) == 200
