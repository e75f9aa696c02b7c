"""Searches over a real socket: each service as it is asked, as it refuses, silent, and gone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import msgspec
import pytest
from structlog.testing import capture_logs

from homeport.server import web_search
from homeport.server.web_search import searcher_for
from homeport.settings import WebSearchSettings
from homeport.upstream import Client
from homeport.wire.events import SearchWish, ToolCall, WebSearch
from homeport.wire.search_services import SERVICES
from tests.support.fake_search import KEY, PAGES, FakeSearch

QUERY = "what nobody may read"
URLS = [PAGES[0]["url"], PAGES[2]["url"]]


@pytest.fixture(params=list(SERVICES))
def fake(request: pytest.FixtureRequest) -> Iterator[FakeSearch]:
    with FakeSearch(request.param) as fake:
        yield fake


def searched(
    fake: FakeSearch, *, key: str = KEY, arguments: str = f'{{"query": "{QUERY}"}}', **wish: object
) -> WebSearch:
    """One search by the settings that use this service. Neither the key nor the query is logged."""
    settings = msgspec.convert(fake.settings(key), WebSearchSettings)

    async def search() -> WebSearch:
        client = Client()
        searcher = searcher_for(settings, client)
        assert searcher is not None
        assert fake.service in repr(searcher)
        assert key not in repr(searcher) + repr(settings)
        try:
            call = ToolCall("c", "web_search", arguments)
            return await searcher.search(call, "s", msgspec.convert(wish, SearchWish))
        finally:
            await client.close()

    with capture_logs() as logs:
        found = asyncio.run(search())
    assert key not in repr(logs)
    assert QUERY not in repr(logs)
    assert bool(logs) == (found.error in ("unavailable", "too_many_requests"))
    assert all(line["service"] == fake.service for line in logs)
    return found


def test_what_is_found(fake: FakeSearch) -> None:
    found = searched(fake)
    assert (found.id, found.query, found.error) == ("s", QUERY, None)
    assert [hit.url for hit in found.hits] == URLS
    assert (found.hits[0].title, found.hits[0].age) == ("A home port", "2026-11-02")
    assert fake.queries == [QUERY]


def test_wanted_domains(fake: FakeSearch) -> None:
    assert [hit.url for hit in searched(fake, allowed=("example.com",)).hits] == URLS[1:]
    if fake.service == "tavily":
        assert fake.bodies[0]["include_domains"] == ["example.com"]


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (401, b'{"detail":{"error":"Unauthorized"}}', "unavailable"),
        (429, b"{}", "too_many_requests"),
        (500, b"", "unavailable"),
        (200, b"<html>", "unavailable"),
        (200, b"[]", "unavailable"),
    ],
)
def test_a_service_that_refuses(fake: FakeSearch, status: int, body: bytes, error: str) -> None:
    fake.status, fake.body = status, body
    assert searched(fake) == WebSearch("s", QUERY, error=error)  # type: ignore[arg-type]


def test_a_wrong_key(fake: FakeSearch) -> None:
    found = searched(fake, key="another-key")
    assert found.error == (None if fake.service == "searxng" else "unavailable")


def test_a_service_that_says_nothing(fake: FakeSearch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_search, "TIMEOUT_S", 0.05)
    fake.answers.clear()
    assert searched(fake).error == "unavailable"


def test_an_answer_without_end(fake: FakeSearch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_search, "MAX_BYTES", 100)
    assert searched(fake).error == "unavailable"


def test_a_service_that_is_gone(fake: FakeSearch) -> None:
    fake.__exit__(None, None, None)
    assert searched(fake).error == "unavailable"


@pytest.mark.row("3.11 the query")
def test_a_call_without_a_query_asks_nobody(fake: FakeSearch) -> None:
    assert searched(fake, arguments="{}").error == "invalid_tool_input"
    assert fake.queries == []


def test_nobody_is_set_up() -> None:
    assert searcher_for(WebSearchSettings(), Client()) is None


@pytest.mark.parametrize("name", [name for name in SERVICES if name != "searxng"])
def test_the_services_own_address_is_the_default(name: str) -> None:
    settings = msgspec.convert({name: {"api_key": "k"}}, WebSearchSettings)
    assert SERVICES[name].url in repr(searcher_for(settings, Client()))


def test_every_service_can_be_set_up() -> None:
    assert set(WebSearchSettings.__struct_fields__) == set(SERVICES)
