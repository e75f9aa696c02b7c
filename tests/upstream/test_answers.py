"""What a server answers, however it is framed and cut, and what is no answer."""

import asyncio
import contextlib

import pytest

from homeport.errors import UpstreamError
from homeport.upstream import Client
from homeport.upstream.connection import MAX_HEAD_BYTES
from tests.upstream.raw_server import (
    CHUNKED,
    OK,
    Peer,
    Script,
    Server,
    answers,
    for_ever,
    on_uvloop,
    until,
)

# --- answers --------------------------------------------------------------------------------


@on_uvloop
async def test_what_the_server_gets() -> None:
    seen: list[tuple[bytes, bytes]] = []

    async def script(peer: Peer) -> None:
        seen.append(await peer.request())
        await peer.send(OK)

    async with Server(script) as server:
        exchange = server.client.exchange(
            server.url + "?a=b", headers=[("x-one", "1"), ("x-two", "é")], body=b"body"
        )
        await exchange.send()
        await exchange.wait_head()
        assert await exchange.read_all(10) == b"ok"
        assert exchange.status == 200
        assert exchange.header("content-length") == "2"
        assert exchange.header("nothing") is None
        exchange.close()
        port = b"%d" % server.port
    head, body = seen[0]
    assert body == b"body"
    assert head.splitlines()[:5] == [
        b"POST /v1/x?a=b HTTP/1.1",
        b"host: 127.0.0.1:" + port,
        b"x-one: 1",
        "x-two: é".encode("latin-1"),
        b"content-length: 4",
    ]


@on_uvloop
async def test_big_request_arrives_whole() -> None:
    sizes: list[int] = []

    async def script(peer: Peer) -> None:
        _, body = await peer.request()
        sizes.append(len(body))
        await peer.send(OK)

    async with Server(script) as server:
        assert await server.ask(b"x" * 5_000_000) == (200, b"ok")
    assert sizes == [5_000_000]


@on_uvloop
async def test_line_break_in_header_is_refused() -> None:
    for value in ("a\r\nb: c", "a\nb"):
        with pytest.raises(ValueError, match="line break"):
            Client().exchange("http://127.0.0.1/", headers=[("a", value)])


WHOLE_CHUNKED = CHUNKED + b"5\r\nhello\r\n7;ext=1\r\n, world\r\n0\r\ntrailer: x\r\n\r\n"


@pytest.mark.parametrize("at", range(1, len(WHOLE_CHUNKED)))
@on_uvloop
async def test_chunked_cut_anywhere_arrives_whole(at: int) -> None:
    async with Server(answers(WHOLE_CHUNKED[:at], WHOLE_CHUNKED[at:])) as server:
        assert await server.ask() == (200, b"hello, world")


@on_uvloop
async def test_chunked_byte_by_byte() -> None:
    pieces = [WHOLE_CHUNKED[i : i + 1] for i in range(len(WHOLE_CHUNKED))]
    async with Server(answers(*pieces)) as server:
        assert await server.ask() == (200, b"hello, world")


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("at", range(1, len(WHOLE_CHUNKED), 7))
@on_uvloop
async def test_chunked_that_ends_early_is_an_error(at: int, how: str) -> None:
    """Never a truncated answer that looks whole."""
    async with Server(answers(WHOLE_CHUNKED[:at], then=how)) as server:
        with pytest.raises(UpstreamError, match="closed the connection") as error:
            await server.ask()
        assert error.value.kind == "upstream"


@on_uvloop
async def test_body_until_close() -> None:
    async with Server(answers(b"HTTP/1.1 200 OK\r\n\r\n", b"all of", b" this")) as server:
        assert await server.ask() == (200, b"all of this")
        assert await server.ask() == (200, b"all of this")
        assert server.connections == 2


@on_uvloop
async def test_content_length_cut_short_is_an_error() -> None:
    async with Server(answers(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")) as server:
        with pytest.raises(UpstreamError, match="mid-answer"):
            await server.ask()


@on_uvloop
async def test_what_came_before_the_cut_is_readable() -> None:
    async with Server(answers(CHUNKED + b"5\r\nhello\r\n")) as server:
        exchange = server.client.exchange(server.url)
        await exchange.send()
        await exchange.wait_head()
        assert await exchange.read() == b"hello"
        with pytest.raises(UpstreamError):
            await exchange.read()
        exchange.close()


@on_uvloop
async def test_interim_answers_are_skipped() -> None:
    interim = b"HTTP/1.1 100 Continue\r\nx: y\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: z\r\n\r\n"
    async with Server(answers(interim, OK)) as server:
        exchange = server.client.exchange(server.url)
        await exchange.send()
        await exchange.wait_head()
        assert (exchange.status, exchange.header("x")) == (200, None)
        assert await exchange.read_all(10) == b"ok"
        exchange.close()


@pytest.mark.parametrize("status", [204, 304])
@on_uvloop
async def test_answers_without_a_body(status: int) -> None:
    async with Server(answers(b"HTTP/1.1 %d No\r\n\r\n" % status, then="wait")) as server:
        assert await server.ask() == (status, b"")


# --- nonsense -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "garbage",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x15\x03\x03\x00\x02\x02\x46",  # a TLS alert
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        CHUNKED + b"xyz\r\n",
    ],
)
@on_uvloop
async def test_garbage(garbage: bytes) -> None:
    async with Server(answers(garbage, then="wait")) as server:
        with pytest.raises(UpstreamError, match="does not speak HTTP") as error:
            await server.ask()
        assert error.value.kind == "upstream"


async def _one_long_header(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\nx: ")
    while not peer.writer.is_closing():
        await peer.send(b"y" * 4096)


async def _headers_without_end(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\n")
    while not peer.writer.is_closing():
        await peer.send(b"x: y\r\n" * 512)


async def _interims_without_end(peer: Peer) -> None:
    await peer.request()
    while not peer.writer.is_closing():
        await peer.send(b"HTTP/1.1 102 Processing\r\n\r\n" * 128)


@pytest.mark.parametrize("script", [_one_long_header, _headers_without_end, _interims_without_end])
@on_uvloop
async def test_head_without_end(script: Script) -> None:
    async def until_cut(peer: Peer) -> None:
        with contextlib.suppress(ConnectionError):
            await script(peer)

    async with Server(until_cut) as server:
        with pytest.raises(UpstreamError, match=f"over {MAX_HEAD_BYTES} bytes"):
            await server.ask()


@pytest.mark.parametrize("when", ["together", "later"])
@on_uvloop
async def test_answer_that_nobody_asked_for_poisons_the_connection(when: str) -> None:
    """Else it would be taken for the answer to the next request."""
    sent = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        stray = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nstray"
        if when == "together":
            await peer.send(OK + stray)
        else:
            await peer.send(OK)
            await asked_once.wait()
            await peer.send(stray)
        sent.set()
        await peer.client_left()

    asked_once = asyncio.Event()
    async with Server(script, for_ever) as server:
        assert await server.ask() == (200, b"ok")
        asked_once.set()
        await sent.wait()
        await until(lambda: "idle=0" in repr(server.client))
        assert await server.ask() == (200, b"ok")
        assert server.connections == 2
