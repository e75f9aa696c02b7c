"""How each search service is asked, and what is made of its answers; nothing here asks anybody."""

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from homeport.wire.events import SearchHit, SearchWish
from homeport.wire.search_services import (
    MAX_DOMAINS,
    MAX_EXTRACT,
    MAX_HITS,
    MAX_WORDS,
    SERVICES,
    judged,
)
from tests.support.fake_search import answer_of

each = pytest.mark.parametrize("service", SERVICES)


def pages(service: str, *results: dict[str, Any]) -> bytes:
    known = {"url": "", "title": None, "text": None, "date": None}
    return json.dumps(answer_of(service, [known | page for page in results])).encode()


def hits(service: str, body: bytes, **wish: Any) -> tuple[SearchHit, ...]:
    found = judged(SERVICES[service], 200, body, SearchWish(**wish))
    assert isinstance(found, tuple)
    return found


# --------------------------------------------------------------------------- asking


@pytest.mark.row("3.11 SearXNG")
def test_searxng_is_asked_without_a_key() -> None:
    asked = SERVICES["searxng"].ask("", "a b&c", SearchWish(allowed=("a.org",)))
    assert asked == ("/search?q=a+b%26c&format=json", {}, b"")


@pytest.mark.row("3.11 Brave")
def test_brave_is_asked_by_a_header() -> None:
    asked = SERVICES["brave"].ask("k", "w " * 99, SearchWish())
    url = urlsplit(asked.path)
    query = {name: value for name, [value] in parse_qs(url.query).items()}
    assert url.path == "/web/search"
    assert query.pop("q") == " ".join("w" * MAX_WORDS)
    assert query == {"count": "20", "result_filter": "web", "text_decorations": "false"}
    assert (asked.headers, asked.body) == ({"x-subscription-token": "k"}, b"")


@pytest.mark.row("3.11 Tavily")
@pytest.mark.parametrize(
    ("wish", "domains"),
    [
        (SearchWish(), {}),
        (SearchWish(allowed=("A.org/x", "b.org")), {"include_domains": ["a.org", "b.org"]}),
        (SearchWish(blocked=("a.org",)), {"exclude_domains": ["a.org"]}),
        (SearchWish(blocked=("a.org",) * 999), {"exclude_domains": ["a.org"] * MAX_DOMAINS}),
    ],
    ids=["any", "allowed", "blocked", "many"],
)
def test_tavily_is_asked_by_a_body(wish: SearchWish, domains: dict[str, Any]) -> None:
    asked = SERVICES["tavily"].ask("k", "q", wish)
    assert asked.path == "/search"
    assert asked.headers == {"authorization": "Bearer k", "content-type": "application/json"}
    basic = {"query": "q", "max_results": MAX_HITS, "search_depth": "basic"}
    assert json.loads(asked.body) == basic | domains


# --------------------------------------------------------------------------- what it says


@pytest.mark.row("3.11 pages", "3.11 SearXNG", "3.11 Brave", "3.11 Tavily")
@each
def test_pages_are_plain_text_and_bounded(service: str) -> None:
    page = {
        "url": "https://a.org/x",
        "title": "<script>a</script>\u202e\x1b[31m b",
        "text": "<b>w</b> &lt;i&gt; " + "w" * 9999,
        "date": "2026-01-02T03:04:05",
    }
    [hit] = hits(service, pages(service, page, page | {"title": "again"}))
    assert hit.title == "a [31m b"
    assert hit.extract.startswith("w <i> www")
    assert len(hit.extract) == MAX_EXTRACT
    assert hit.age == "2026-01-02"
    many = [{"url": f"https://a.org/{i}"} for i in range(99)]
    assert len(hits(service, pages(service, *many))) == MAX_HITS
    assert hits(service, pages(service)) == ()


@pytest.mark.row("3.11 pages … addresses")
@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://a.org",
        "javascript:x",
        "https://",
        "http://[",
        "https://a.org/\n",
        f"https://a.org/{'x' * 3000}",
    ],
)
def test_odd_addresses_are_left_out(url: str) -> None:
    assert hits("searxng", pages("searxng", {"url": url})) == ()


@pytest.mark.row("3.11 pages … allowed_domains, blocked_domains")
@each
def test_domains(service: str) -> None:
    urls = ["https://a.org/1", "https://b.a.org/2", "https://nota.org/3"]
    body = pages(service, *({"url": url} for url in urls))
    assert [hit.url for hit in hits(service, body, allowed=("A.org",))] == urls[:2]
    assert [hit.url for hit in hits(service, body, blocked=("a.org/path",))] == urls[2:]


@pytest.mark.row("3.11 a refusal")
@each
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"results":3}',
        b'{"type":"search","web":{"results":3}}',
        b"<html>",
        b"{" * 9999,
    ],
)
def test_what_is_no_answer(service: str, body: bytes) -> None:
    if b"results" in body:
        body = body if service == "brave" or b"web" not in body else b"{}"
    assert judged(SERVICES[service], 200, body, SearchWish()) == "unavailable"


@pytest.mark.row("3.11 a refusal")
@each
@pytest.mark.parametrize("status", [204, 301, 400, 401, 403, 404, 422, 432, 500, 503])
def test_a_refusal_is_no_answer_whatever_stands_in_it(service: str, status: int) -> None:
    body = pages(service, {"url": "https://a.org"})
    assert judged(SERVICES[service], status, body, SearchWish()) == "unavailable"
    assert judged(SERVICES[service], 429, body, SearchWish()) == "too_many_requests"
