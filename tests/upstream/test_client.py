"""Small exchanges, URLs, and how things show themselves."""

import asyncio

import pytest

from homeport.errors import UpstreamError
from homeport.upstream import Client, Exchange
from homeport.upstream.client import parse_url
from tests.upstream.raw_server import Peer, Server, for_ever, on_uvloop

# --- fetch ----------------------------------------------------------------------------------


@on_uvloop
async def test_fetch() -> None:
    async with Server(for_ever) as server:
        status, headers, body = await server.client.fetch(server.url, {"a": "b"})
        assert (status, body, headers["content-length"]) == (200, b"ok", "2")


@on_uvloop
async def test_fetch_that_takes_too_long() -> None:
    left = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.client_left()
        left.set()

    async with Server(script) as server:
        with pytest.raises(UpstreamError, match="did not answer within") as error:
            await server.client.fetch(server.url, timeout_s=0.05)
        assert error.value.kind == "timeout"
        await left.wait()


# --- small things ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "host", "port", "path", "authority"),
    [
        ("http://a/v1", "a", 80, b"/v1", b"a"),
        ("https://a", "a", 443, b"/", b"a"),
        ("http://[::1]:8080/x?y=z", "::1", 8080, b"/x?y=z", b"[::1]:8080"),
        ("http://user:secret@a:1/", "a", 1, b"/", b"a:1"),
    ],
)
def test_parse_url(url: str, host: str, port: int, path: bytes, authority: bytes) -> None:
    found = parse_url(url)
    assert found == ((host, port, url.startswith("https")), path, authority)


@pytest.mark.parametrize("url", ["ftp://a/", "a:80", "http://", "http://a:99999/"])
def test_parse_url_refuses(url: str) -> None:
    with pytest.raises(ValueError, match=r"URL|[Pp]ort"):
        parse_url(url)


@on_uvloop
async def test_reprs() -> None:
    exchange: Exchange = Client().exchange("http://a:1/b")
    assert repr(exchange) == "<Exchange a:1/b unsent>"
    assert exchange.status == 0
    assert exchange.headers == {}
    exchange.close()
