"""Asks a search service. How it is asked and what its answer means stands in ``wire.search_services``;
here it is fetched, in bounded time and size. A failure is a search without results and no failure of
the request. Neither the key nor what was searched for is ever logged."""

from typing import Final

import structlog

from homeport.errors import UpstreamError
from homeport.settings import WebSearchSettings
from homeport.upstream import Client
from homeport.wire import web_search
from homeport.wire.events import SearchError, SearchHit, SearchWish, ToolCall, WebSearch
from homeport.wire.search_services import SERVICES, Service, judged

log = structlog.get_logger()

TIMEOUT_S: Final = 8.0
"""SearXNG itself waits 3 s for each of the engines that it asks; clients are promised signs of life
every 10."""

MAX_BYTES: Final = 2 * 1024 * 1024


class WebSearcher:
    def __init__(self, client: Client, service: Service, url: str, key: str = "") -> None:
        self._client, self._service = client, service
        self._url, self._key = url.rstrip("/"), key

    def __repr__(self) -> str:
        return f"<WebSearcher {self._service.name} {self._url}>"

    async def search(self, call: ToolCall, search_id: str, wish: SearchWish) -> WebSearch:
        query = web_search.query_of(call)
        if not query:
            return WebSearch(search_id, "", error="invalid_tool_input")
        found = await self._found(query, wish)
        if isinstance(found, str):
            return WebSearch(search_id, query, error=found)
        return WebSearch(search_id, query, found)

    async def _found(self, query: str, wish: SearchWish) -> tuple[SearchHit, ...] | SearchError:
        asked = self._service.ask(self._key, query, wish)
        try:
            status, _, body = await self._client.fetch(
                self._url + asked.path,
                {"accept": "application/json", **asked.headers},
                TIMEOUT_S,
                method="POST" if asked.body else "GET",
                body=asked.body,
                limit_bytes=MAX_BYTES,
            )
        except UpstreamError as error:  # its message may hold the URL, and with it the query
            log.warning("search.failed", service=self._service.name, reason=error.kind)
            return "unavailable"
        found = judged(self._service, status, body, wish)
        if isinstance(found, str):
            name, hint = self._service.name, self._service.hint
            log.warning("search.failed", service=name, status=status, reason=found, hint=hint)
        return found


def searcher_for(settings: WebSearchSettings, client: Client) -> WebSearcher | None:
    """The service that is set up; None without one."""
    if settings.searxng is not None:
        return WebSearcher(client, SERVICES["searxng"], settings.searxng)
    for name, account in (("brave", settings.brave), ("tavily", settings.tavily)):
        if account is not None:
            service = SERVICES[name]
            return WebSearcher(client, service, account.url or service.url, account.api_key)
    return None
