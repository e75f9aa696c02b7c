"""HTTP/1.1 from clients, byte by byte: ``Connection`` under a transport that a test holds.

What needs a real socket and uvicorn around it is in ``test_listen``; here every cut is tried.
"""

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.server.exchange import CONTINUE, PAUSE_BYTES
from homeport.server.protocol import BAD_REQUEST, MAX_HEAD_BYTES, MAX_PIPELINED
from tests.server.bare_connection import (
    ALL,
    ALL_ANSWERED,
    ANSWERED,
    CHUNKED,
    GET,
    POST,
    Client,
    body_of,
    cut,
    early,
    echo,
    is_closed,
    is_paused,
    piece,
    start,
    turn,
)

# --- requests, however they are cut -------------------------------------------------------------


@pytest.mark.parametrize("request_", ANSWERED)
async def test_whole(request_: bytes) -> None:
    client = Client(echo)
    assert await client.told(request_) == ANSWERED[request_]
    assert client.wire.writes == [ANSWERED[request_]], "head and body leave together"
    assert not is_closed(client)


async def test_pipelined_in_one_piece() -> None:
    client = Client(echo)
    assert await client.told(ALL) == ALL_ANSWERED
    assert not is_paused(client)


async def test_byte_by_byte() -> None:
    client = Client(echo)
    for byte in ALL:
        client.connection.data_received(bytes([byte]))
    assert await client.done() == ALL_ANSWERED


@settings(deadline=None)
@given(st.lists(st.integers(0, len(ALL) - 1), max_size=12), st.booleans())
def test_cut_anywhere(places: list[int], at_leisure: bool) -> None:
    async def run() -> None:
        client = Client(echo)
        for data in cut(ALL, places):
            client.connection.data_received(data)
            if at_leisure:
                await turn()
        assert await client.done() == ALL_ANSWERED
        client.leave()

    asyncio.run(run())


@settings(deadline=None)
@given(st.binary(max_size=60), st.sampled_from([b"", GET, POST[:-1], CHUNKED[:-20]]))
def test_garbage_ends_the_connection_or_waits_for_more(garbage: bytes, before: bytes) -> None:
    async def run() -> None:
        client = Client(echo)
        client.connection.data_received(before + garbage)
        await turn()
        client.leave()
        assert client.wire.sent.startswith((b"", b"HTTP/1.1 "))
        await client.done()
        assert not client.connections
        assert not client.tasks

    asyncio.run(run())


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nbad\x00name: 1\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nnonsense\r\n",
        b"GET http://[/ HTTP/1.1\r\n\r\n",
        b"CONNECT x:443 HTTP/1.1\r\n\r\n",
    ],
)
async def test_nonsense_is_answered_once(garbage: bytes) -> None:
    client = Client(echo)
    assert await client.told(GET + garbage) == ANSWERED[GET] + BAD_REQUEST
    await client.feed(GET)
    assert is_closed(client)
    assert client.wire.sent.count(b"HTTP/1.1 4") == 1


async def test_nonsense_behind_a_stream_waits_for_its_end() -> None:
    go = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await send(start())
        await send(piece(b"one", more=True))
        await go.wait()
        await send(piece(b""))

    client = Client(slow)
    await client.feed(GET + b"nonsense\r\n\r\n")
    assert client.wire.sent.endswith(b"3\r\none\r\n")
    go.set()
    assert (await client.done()).endswith(b"0\r\n\r\n" + BAD_REQUEST)


async def test_nonsense_in_a_body_cuts_the_answer_that_has_begun() -> None:
    async def eager(scope: Any, receive: Any, send: Any) -> None:
        await send(start())
        await send(piece(b"one", more=True))
        await body_of(receive)

    client = Client(eager)
    await client.feed(CHUNKED[: CHUNKED.index(b"hel")], b"nonsense")
    assert client.wire.is_aborted
    assert (await client.done()).endswith(b"3\r\none\r\n")


# --- bounds -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [100, 4096, 1024 * 1024])
@pytest.mark.parametrize("field", [b"GET /%b", b"GET / HTTP/1.1\r\nx: %b", b"GET / HTTP/1.1\r\n%b"])
async def test_huge_heads(field: bytes, size: int) -> None:
    client = Client(echo)
    head = field % (b"a" * 1024 * 1024) + b" HTTP/1.1\r\n\r\n"
    for at in range(0, len(head), size):
        if is_closed(client):
            break
        client.connection.data_received(head[at : at + size])
    await turn()
    assert client.wire.sent.startswith((b"HTTP/1.1 431", b"HTTP/1.1 400"))
    assert is_closed(client)
    assert at <= MAX_HEAD_BYTES + 2 * size, "what is over the limit is not read"


async def test_head_right_behind_a_body_is_not_taken_for_a_huge_one() -> None:
    big = b"x" * 200_000
    client = Client(early)
    head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(big)
    await client.feed(head, big + GET[:-2], GET[-2:])
    assert (await client.done()).count(b"200 OK") == 2


async def test_body_that_nobody_asks_for_is_not_read() -> None:
    go = asyncio.Event()
    bodies: list[bytes] = []

    async def patient(scope: Any, receive: Any, send: Any) -> None:
        await go.wait()
        bodies.append(await body_of(receive))
        await early(scope, receive, send)

    client = Client(patient)
    size = 8 * PAUSE_BYTES
    await client.feed(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % size)
    fed = 0
    while not is_paused(client):
        await client.feed(b"x" * 65536)
        fed += 65536
    assert PAUSE_BYTES < fed <= PAUSE_BYTES + 65536
    go.set()
    await turn()
    assert not is_paused(client)
    while fed < size:
        await client.feed(b"x" * 65536)
        fed += 65536
    await client.done()
    assert bodies == [b"x" * size]


@pytest.mark.parametrize("pieces", [1, 2])
async def test_client_that_leaves_after_a_large_body_is_heard(pieces: int) -> None:
    """A socket that is not read tells nothing of a close either."""
    body = b"x" * (2 * PAUSE_BYTES)

    async def waits(scope: Any, receive: Any, send: Any) -> None:
        assert await body_of(receive) == body
        assert await receive() == {"type": "http.disconnect"}

    client = Client(waits)
    client.connection.data_received(
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
    )
    size = len(body) // pieces
    for place in range(0, len(body), size):
        client.connection.data_received(body[place : place + size])
    await turn()
    assert len(client.tasks) == 1
    assert not is_paused(client)
    client.leave()
    assert await client.done() == b""


async def test_large_pipelined_body_does_not_start_the_reading_again() -> None:
    go = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await go.wait()
        await echo(scope, receive, send)

    client = Client(slow)
    size = 2 * PAUSE_BYTES
    head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % size
    await client.feed(GET + head + b"x" * size)
    assert is_paused(client)
    go.set()
    assert (await client.done()).count(b"200 OK") == 2
    assert not is_paused(client)


async def test_pipelined_requests_wait_unread() -> None:
    go = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await go.wait()
        await early(scope, receive, send)

    client = Client(slow)
    await client.feed(GET, GET)
    assert is_paused(client)
    assert len(client.tasks) == 1
    go.set()
    assert (await client.done()).count(b"200 OK") == 2
    assert not is_paused(client)
    await client.feed(GET * (MAX_PIPELINED + 2))
    assert (await client.done()).endswith(BAD_REQUEST)


@pytest.mark.parametrize(
    "begun",
    [[], [GET[:10]], [POST[:-1]], [GET], [CHUNKED, GET[:10]]],
    ids=["nothing", "half a head", "half a body", "idle", "next head"],
)
async def test_client_that_says_nothing_more(begun: list[bytes]) -> None:
    client = Client(echo, keep_alive_s=0.02)
    await client.feed(*begun)
    async with asyncio.timeout(5):
        await client.wire.closed.wait()
    await client.done()


async def test_slow_answer_is_no_silence_of_the_client() -> None:
    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.1)
        await early(scope, receive, send)

    client = Client(slow, keep_alive_s=0.02)
    assert (await client.told(GET)).endswith(b"no")


# --- bodies that are not wanted -----------------------------------------------------------------


@pytest.mark.parametrize("request_", [POST, CHUNKED])
async def test_rest_of_a_body_is_dropped(request_: bytes) -> None:
    at = request_.index(b"hel") + 1
    client = Client(early)
    await client.feed(request_[:at])
    assert client.wire.sent.endswith(b"no")
    assert (await client.told(request_[at:], GET)).count(b"200 OK") == 2
    assert not is_closed(client)


async def test_expectation() -> None:
    request = POST.replace(b"Content", b"Expect: 100-Continue\r\nContent")
    client = Client(echo)
    await client.feed(request[:-5])
    assert client.wire.sent == CONTINUE
    assert await client.told(b"hello") == CONTINUE + ANSWERED[POST]
    assert await Client(echo).told(request) == ANSWERED[POST], "it had come already"


async def test_expectation_not_met_ends_the_connection_gently() -> None:
    """Whether the body still comes, nobody knows: our side ends, theirs is read until it does."""
    client = Client(early)
    request = POST.replace(b"Content", b"Expect: 100-continue\r\nContent")
    await client.feed(request[:-5])
    assert b"connection: close" in client.wire.sent
    assert b"100 Continue" not in client.wire.sent
    assert client.wire.is_ended
    assert not is_closed(client)
    await client.feed(b"hello" + GET)
    assert is_closed(client)
    assert client.wire.sent.count(b"HTTP/1.1") == 1


async def test_nonsense_while_lingering() -> None:
    client = Client(early)
    await client.feed(CHUNKED[: CHUNKED.index(b"hel")].replace(b"host", b"connection: close\r\nh"))
    assert client.wire.is_ended
    await client.feed(b"nonsense")
    assert is_closed(client)
    assert client.wire.sent.endswith(b"no")


# --- ending -------------------------------------------------------------------------------------


async def test_shutdown_closes_what_is_idle_and_lets_answers_finish() -> None:
    idle = Client(echo)
    idle.connection.shutdown()
    assert is_closed(idle)
    go = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await go.wait()
        await early(scope, receive, send)

    busy = Client(slow)
    await busy.feed(GET, GET)
    busy.connection.shutdown()
    assert not is_closed(busy)
    go.set()
    said = await busy.done()
    assert said.count(b"200 OK") == 1
    assert b"connection: close" in said
    assert is_closed(busy)
    assert not busy.connections
