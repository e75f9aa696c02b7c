"""Search services: how each is asked, and what its answer says. ``SERVICES`` is the table.

A service is a row: its address, what is sent for a query, and the shape of its answer. Nothing here
asks anybody (``server.web_search`` does). Whatever a service says comes out the same: a few pages,
bounded, as plain text, of the domains that the client wants. ``judged`` turns any answer into that, or
into an error.

Sources: SearXNG's documentation of its search API (docs.searxng.org/dev/search_api.html); Brave's
API reference (api-dashboard.search.brave.com/api-reference/web/search/get) and its page of response
objects (api.search.brave.com/app/documentation/web-search/responses); Tavily's API reference
(docs.tavily.com/api-reference/endpoint/search). All as of autumn 2026; Brave and Tavily were read, not
called.
"""

import html
import re
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode, urlsplit

import msgspec

from homeport.wire.events import SearchError, SearchHit, SearchWish
from homeport.wire.faults import BAD_BODY

MAX_HITS: Final = 8
MAX_TITLE: Final = 200
MAX_EXTRACT: Final = 600
"""Characters of one result; eight of them are about 1,500 tokens."""

ASKED_HITS: Final = 20
"""Of a service that cannot be told which domains are wanted; Brave's most. The rest goes here."""
MAX_WORDS: Final = 50
"""Brave refuses longer queries; its limit of 400 characters is ``web_search.MAX_QUERY``."""
MAX_DOMAINS: Final = 150
"""Tavily takes 300 to include and 150 to exclude; what is cut off is left out here all the same."""


class Asked(NamedTuple):
    """What is sent. ``path`` goes behind the service's address."""

    path: str
    headers: dict[str, str]
    body: bytes = b""
    """With one it is a POST."""


class _Page(msgspec.Struct):
    url: str = ""
    title: str | None = None
    content: str | None = None
    published: Any = None


class _SearxngPage(_Page):
    published: Any = msgspec.field(default=None, name="publishedDate")


class _BravePage(_Page):
    content: str | None = msgspec.field(default=None, name="description")
    published: Any = msgspec.field(default=None, name="page_age")


class _TavilyPage(_Page):
    published: Any = msgspec.field(default=None, name="published_date")  # with news only


class _Searxng(msgspec.Struct):
    results: list[_SearxngPage]


class _BraveWeb(msgspec.Struct):
    results: list[_BravePage] = []


class _Brave(msgspec.Struct):
    type: str
    """``search``; a refusal with status 200 would not have that."""
    web: _BraveWeb | None = None
    """Absent where nothing was found."""

    @property
    def results(self) -> list[_BravePage]:
        return self.web.results if self.web is not None else []


class _Tavily(msgspec.Struct):
    results: list[_TavilyPage]


def _ask_searxng(key: str, query: str, wish: SearchWish) -> Asked:
    return Asked(f"/search?{urlencode({'q': query, 'format': 'json'})}", {})


def _ask_brave(key: str, query: str, wish: SearchWish) -> Asked:
    words = " ".join(query.split()[:MAX_WORDS])
    wanted = {"q": words, "count": ASKED_HITS, "result_filter": "web", "text_decorations": "false"}
    return Asked(f"/web/search?{urlencode(wanted)}", {"x-subscription-token": key})


def _ask_tavily(key: str, query: str, wish: SearchWish) -> Asked:
    wanted: dict[str, Any] = {"query": query, "max_results": MAX_HITS, "search_depth": "basic"}
    if wish.allowed:
        wanted["include_domains"] = [_domain(d) for d in wish.allowed[:MAX_DOMAINS]]
    elif wish.blocked:
        wanted["exclude_domains"] = [_domain(d) for d in wish.blocked[:MAX_DOMAINS]]
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    return Asked("/search", headers, msgspec.json.encode(wanted))


class Service(NamedTuple):
    """One row. ``ask`` takes key, query and wish."""

    name: str
    """As in the configuration."""
    url: str
    """Where it is, if the configuration does not say."""
    ask: Callable[[str, str, SearchWish], Asked]
    decode: Callable[[bytes], Any]
    """Something with ``results``, a list of pages."""
    hint: str
    """For the log, when it does not answer as it should."""


def _decoder(kind: type[msgspec.Struct]) -> Callable[[bytes], Any]:
    return msgspec.json.Decoder(kind).decode


SERVICES: Final = {
    service.name: service
    for service in (
        Service(
            "searxng",
            "",
            _ask_searxng,
            _decoder(_Searxng),
            "its settings.yml must have json under search.formats",
        ),
        Service(
            "brave",
            "https://api.search.brave.com/res/v1",
            _ask_brave,
            _decoder(_Brave),
            "is the key right, and its plan not used up?",
        ),
        Service(
            "tavily",
            "https://api.tavily.com",
            _ask_tavily,
            _decoder(_Tavily),
            "is the key right, and its plan not used up?",
        ),
    )
}


# --------------------------------------------------------------------------- what was found


def judged(
    service: Service, status: int, body: bytes, wish: SearchWish
) -> tuple[SearchHit, ...] | SearchError:
    """The best pages, or why there are none."""
    if status == 429:
        return "too_many_requests"
    if status != 200:
        return "unavailable"
    try:
        pages: Sequence[_Page] = service.decode(body).results
    except BAD_BODY:
        return "unavailable"
    return _hits(pages, wish)


def _hits(pages: Sequence[_Page], wish: SearchWish) -> tuple[SearchHit, ...]:
    hits: dict[str, SearchHit] = {}
    for page in pages:
        if len(hits) < MAX_HITS and page.url not in hits and _is_wanted(page.url, wish):
            age = page.published if isinstance(page.published, str) else None
            hits[page.url] = SearchHit(
                page.url,
                _plain(page.title or "", MAX_TITLE) or page.url,
                _plain(page.content or "", MAX_EXTRACT),
                _plain(age, 10) if age else None,
            )
    return tuple(hits.values())


_TAG: Final = re.compile(r"<[^<>]{0,500}>")


def _plain(text: str, limit: int) -> str:
    text = html.unescape(_TAG.sub(" ", text[: 8 * limit]))
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:limit]


def _is_wanted(url: str, wish: SearchWish) -> bool:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    if (
        parts.scheme not in ("http", "https")
        or not host
        or not url.isprintable()
        or len(url) > 2000
    ):
        return False
    if wish.allowed:
        return any(_is_under(host, domain) for domain in wish.allowed)
    return not any(_is_under(host, domain) for domain in wish.blocked)


def _is_under(host: str, domain: str) -> bool:
    domain = _domain(domain)
    return host == domain or host.endswith(f".{domain}")


def _domain(name: str) -> str:
    """A wish may name a path, too; that is not looked at."""
    return name.casefold().split("/", 1)[0]
