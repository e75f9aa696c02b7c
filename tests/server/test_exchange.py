"""One request and its answer on a connection of our own: how the answer is framed, and clients that
leave or do not read."""

import asyncio
from typing import Any, cast

import pytest

from homeport.server.exchange import FAILED
from homeport.server.http import LINE, Line
from tests.server.bare_connection import (
    GET,
    POST,
    Answers,
    Client,
    body_of,
    early,
    echo,
    is_closed,
    is_writable,
    piece,
    start,
    stream,
    turn,
)

# --- framing of answers -------------------------------------------------------------------------


async def test_stream() -> None:
    client = Client(stream)
    assert await client.told(POST) == (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
    )
    assert len(client.wire.writes) == 1, "what is said in one turn leaves together"


async def test_http_1_0_streams_until_close() -> None:
    client = Client(stream)
    head, _, body = (await client.told(GET.replace(b"1.1", b"1.0"))).partition(b"\r\n\r\n")
    assert (head, body) == (b"HTTP/1.1 200 OK\r\nconnection: close", b"onetwo")
    assert is_closed(client)


@pytest.mark.parametrize(
    "request_", [GET.replace(b"1.1", b"1.0"), GET.replace(b"host", b"connection: close\r\nhost")]
)
async def test_connection_that_shall_close(request_: bytes) -> None:
    client = Client(echo)
    said = await client.told(request_)
    assert b"\r\nconnection: close\r\n" in said
    assert is_closed(client)


@pytest.mark.parametrize("app", [echo, stream])
async def test_head_has_no_body(app: Answers) -> None:
    client = Client(app)
    said = await client.told(GET.replace(b"GET", b"HEAD"), GET)
    head, _, rest = said.partition(b"\r\n\r\n")
    assert (b"content-length: " in head) == (app is echo)
    assert rest.startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize("status", [204, 304])
async def test_answers_without_a_body(status: int) -> None:
    async def empty(scope: Any, receive: Any, send: Any) -> None:
        await send(start(status))
        await send(piece(b""))

    client = Client(empty)
    said = await client.told(GET, GET)
    assert said.count(b"\r\n\r\n") == 2
    assert b"chunked" not in said
    assert said.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("value", [b"a\r\nb: c", b"a\nb", b"a\rb", b"a\0b"])
async def test_line_break_in_a_header_never_leaves(
    value: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    async def wrong(scope: Any, receive: Any, send: Any) -> None:
        await send(start(200, (b"x", value)))

    client = Client(wrong)
    assert await client.told(GET) == FAILED
    assert is_closed(client)
    assert "a line break" in capsys.readouterr().out


@pytest.mark.parametrize("said", [b"", b"four", b"longer"])
async def test_length_that_is_not_kept(said: bytes) -> None:
    async def wrong(scope: Any, receive: Any, send: Any) -> None:
        await send(start(200, (b"content-length", b"5")))
        await send(piece(said))

    client = Client(wrong)
    await client.told(GET)
    assert is_closed(client)
    assert said not in client.wire.sent or not said


@pytest.mark.parametrize("begun", [False, True])
async def test_application_that_fails(begun: bool) -> None:
    async def fails(scope: Any, receive: Any, send: Any) -> None:
        if begun:
            await send(start())
            await send(piece(b"one", more=True))
        raise ValueError

    client = Client(fails)
    said = await client.told(GET)
    assert is_closed(client)
    assert said.endswith(b"one\r\n") if begun else said == FAILED
    assert client.wire.is_aborted == begun


async def test_nothing_is_sent_after_the_end() -> None:
    errors: list[Exception] = []

    async def talkative(scope: Any, receive: Any, send: Any) -> None:
        await early(scope, receive, send)
        assert await receive() == {"type": "http.disconnect"}
        try:
            await send(piece(b"more"))
        except RuntimeError as error:
            errors.append(error)

    client = Client(talkative)
    assert (await client.told(GET)).endswith(b"no") or errors
    assert len(errors) == 1


# --- clients that leave or do not read ----------------------------------------------------------


async def test_client_that_leaves_while_it_is_waited_for() -> None:
    messages: list[dict[str, Any]] = []

    async def waits(scope: Any, receive: Any, send: Any) -> None:
        await body_of(receive)
        messages.append(await receive())
        await send(start())
        await send(piece(b"into the void"))

    client = Client(waits)
    await client.feed(POST)
    client.leave()
    assert await client.done() == b""
    assert messages == [{"type": "http.disconnect"}]


async def test_send_waits_while_the_client_does_not_read() -> None:
    client = Client(stream)
    client.connection.pause_writing()
    await client.feed(POST)
    assert client.wire.sent == b""
    client.connection.resume_writing()
    assert (await client.done()).endswith(b"0\r\n\r\n")


async def test_client_that_never_reads_and_leaves() -> None:
    client = Client(stream)
    client.connection.pause_writing()
    await client.feed(POST)
    client.leave()
    assert await client.done() == b""


async def test_waiting_writer_may_be_cancelled() -> None:
    client = Client(stream)
    client.connection.pause_writing()
    await client.feed(POST)
    (task,) = client.tasks
    task.cancel()
    await turn()
    client.connection.resume_writing()
    assert is_closed(client)


async def test_line() -> None:
    """A relay's way: pieces at once, whether they may be sent, and being told of the end."""
    lines: list[Line] = []
    left: list[bool] = []
    go = asyncio.Event()

    async def relay(scope: Any, receive: Any, send: Any) -> None:
        line = cast(Line, scope["extensions"][LINE])
        lines.append(line)
        line.when_left(lambda: left.append(True))
        await send(start())
        await go.wait()

    client = Client(relay)
    client.connection.data_received(GET)
    await asyncio.sleep(0)
    (line,) = lines
    assert is_writable(line)
    line.push(b"one")
    await turn()
    assert client.wire.writes[0].endswith(b"\r\n\r\n3\r\none\r\n"), "with the head"
    client.connection.pause_writing()
    assert not is_writable(line)
    client.leave()
    assert left == [True]
    assert is_writable(line), "into the void"
    line.push(b"two")
    line.when_left(lambda: left.append(False))
    await turn()
    assert left == [True, False], "too late is told as well"
    go.set()
    assert b"two" not in await client.done()


async def whole(scope: Any, receive: Any, send: Any) -> None:
    """Echoes the body, both in one piece where that can be."""
    line = cast(Line, scope["extensions"][LINE])
    body = line.whole_body()
    said = b"whole" if body is None else b"whole:" + body
    line.answer(200, [(b"content-length", b"%d" % len(said))], said)


async def test_a_whole_answer_is_one_write() -> None:
    client = Client(whole)
    assert (await client.told(POST)).endswith(b"\r\n\r\nwhole:hello")
    assert len(client.wire.writes) == 1
    assert (await client.told(POST)).endswith(b"whole:hello"), "the next one on the same connection"


async def test_a_body_that_is_not_there_yet_is_received() -> None:
    seen: list[bytes | None] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        line = cast(Line, scope["extensions"][LINE])
        seen.append(line.whole_body())
        seen.append(await body_of(receive))
        await early(scope, receive, send)
        seen.append(line.whole_body())

    client = Client(app)
    client.connection.data_received(POST[:-2])
    await turn()
    await client.told(POST[-2:])
    assert seen == [None, b"hello", None]


async def test_a_whole_answer_in_place_of_others() -> None:
    """What no client must ever see."""
    fails: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        line = cast(Line, scope["extensions"][LINE])
        headers = [(b"content-length", b"2")]
        for status, more, body in (
            (200, [(b"x", b"a\r\nb: c")], b"no"),
            (200, [], b"too long"),
        ):
            try:
                line.answer(status, headers + more, body)
            except RuntimeError as error:
                fails.append(str(error))

    client = Client(app)
    said = await client.told(GET)
    assert said.endswith(b"content-length: 2\r\n\r\n"), "no more than the head of the second"
    assert client.wire.is_aborted
    assert fails == [
        "a line break within a header of an answer",
        "an answer that is not as long as its head says",
    ]


@pytest.mark.parametrize("leaves", [False, True])
async def test_a_whole_answer_waits_until_the_client_reads_or_has_left(leaves: bool) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        line = cast(Line, scope["extensions"][LINE])
        await line.unblocked()
        await whole(scope, receive, send)

    client = Client(app)
    client.connection.pause_writing()
    await client.feed(POST)
    assert client.wire.sent == b""
    client.leave() if leaves else client.connection.resume_writing()
    assert (await client.done()).endswith(b"whole:hello") != leaves


async def test_a_whole_answer_for_nobody() -> None:
    go = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await go.wait()
        await whole(scope, receive, send)

    client = Client(app)
    client.connection.data_received(GET)
    await turn()
    client.leave()
    go.set()
    assert await client.done() == b""


@pytest.mark.parametrize(("method", "body"), [(b"GET", b"\r\n\r\nwhole:"), (b"HEAD", b"\r\n\r\n")])
async def test_a_whole_answer_to_a_head(method: bytes, body: bytes) -> None:
    client = Client(whole)
    said = await client.told(GET.replace(b"GET", method))
    assert b"content-length: 6\r\n" in said
    assert said.endswith(body)


async def test_leaving_after_the_answer_is_no_news() -> None:
    left: list[bool] = []

    async def watchful(scope: Any, receive: Any, send: Any) -> None:
        scope["extensions"][LINE].when_left(lambda: left.append(True))
        await early(scope, receive, send)

    client = Client(watchful)
    await client.told(GET)
    client.leave()
    assert left == []
