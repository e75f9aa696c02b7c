"""``Http`` against a client that does everything in pieces, stops reading, or leaves."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from homeport.errors import ClientError, UpstreamError
from homeport.server.http import Http, header_value, new_id
from homeport.wire.faults import Dialect
from tests.support.asgi import App, Exchange, ask

Handler = Callable[[Http], Awaitable[None]]


def app(handler: Handler, seen: list[Http] | None = None, dialect: Dialect = "openai_chat") -> App:
    """What ``Gateway`` does around a handler, as far as it matters here."""

    async def call(scope: dict[str, Any], receive: Any, send: Any) -> None:
        http = Http(scope, receive, send, dialect)
        if seen is not None:
            seen.append(http)
        try:
            await handler(http)
        except (ClientError, UpstreamError) as fault:
            await http.fault(fault)
        except asyncio.CancelledError:
            if not http.has_left:
                raise

    return call


# --- the request's body -----------------------------------------------------------------------


async def echo(http: Http) -> None:
    await http.answer(200, await http.body(10))


@pytest.mark.parametrize(
    "pieces", [[b""], [b"0123456789"], [b"01234", b"56789"], [b"", b"0", b"", b"1", b""]]
)
async def test_body_in_pieces(pieces: list[bytes]) -> None:
    async with Exchange(app(echo), "POST", "/") as exchange:
        for piece in pieces:
            exchange.feed(piece, more=True)
        exchange.feed(b"")
        assert await exchange.body() == b"".join(pieces)


@pytest.mark.parametrize("pieces", [[b"x" * 11], [b"x" * 5] * 3, [b"x" * 10, b"x"]])
async def test_body_over_the_limit(pieces: list[bytes]) -> None:
    async with Exchange(app(echo), "POST", "/") as exchange:
        for piece in pieces[:-1]:
            exchange.feed(piece, more=True)
        exchange.feed(pieces[-1])
        assert await exchange.status() == 413
        assert "10 bytes" in (await exchange.json())["error"]["message"]


async def test_announced_body_over_the_limit_is_not_read() -> None:
    async with Exchange(app(echo), "POST", "/", {"content-length": "11"}) as exchange:
        assert await exchange.status() == 413
        await exchange.body()
    assert exchange.receives == 0


async def test_endless_body_is_given_up() -> None:
    async with Exchange(app(echo), "POST", "/") as exchange:
        for _ in range(3):
            exchange.feed(b"x" * 5, more=True)
        assert await exchange.status() == 413


@pytest.mark.parametrize("pieces", [[], [b"01234"]])
async def test_client_leaves_while_sending(pieces: list[bytes]) -> None:
    seen: list[Http] = []
    async with Exchange(app(echo, seen), "POST", "/") as exchange:
        for piece in pieces:
            exchange.feed(piece, more=True)
        exchange.leave()
    assert exchange.start is None
    assert seen[0].has_left


async def test_body_that_is_discarded() -> None:
    async def handler(http: Http) -> None:
        await http.discard_body()
        await http.answer(200, b"")

    async with Exchange(app(handler), "POST", "/") as exchange:
        for _ in range(100):
            exchange.feed(b"x" * 1000, more=True)
        exchange.feed(b"end")
        assert await exchange.status() == 200
    async with Exchange(app(handler), "POST", "/") as exchange:
        exchange.feed(b"x", more=True).leave()
    assert exchange.start is None


# --- answers ----------------------------------------------------------------------------------


async def test_answer() -> None:
    async def handler(http: Http) -> None:
        http.notes.append((b"x-note", b"a"))
        await http.answer(200, b'{"a":1}')
        assert http.status == 200

    found = await ask(app(handler), "GET", "/")
    assert found.headers["content-type"] == "application/json"
    assert found.headers["content-length"] == "7"
    assert found.headers["x-note"] == "a"
    assert found.headers["request-id"] == found.headers["x-request-id"]
    assert found.headers["request-id"].startswith("req_")


async def test_head_has_the_length_and_no_body() -> None:
    async def handler(http: Http) -> None:
        await http.answer(200, b"seven..")

    found = await ask(app(handler), "HEAD", "/")
    assert (found.headers["content-length"], found.chunks) == ("7", [])


async def test_no_content_has_no_length() -> None:
    async def handler(http: Http) -> None:
        await http.answer(204, b"", ())

    assert "content-length" not in (await ask(app(handler), "OPTIONS", "/")).headers


async def test_fault_in_each_dialect() -> None:
    async def handler(http: Http) -> None:
        raise UpstreamError("unavailable", "gone", retry_after_s=3)

    found = await ask(app(handler), "POST", "/")
    assert (await found.status(), found.headers["retry-after"]) == (503, "3")
    assert (await found.json())["error"]["message"] == "gone"
    found = await ask(app(handler, dialect="anthropic"), "POST", "/")
    body = await found.json()
    assert (body["type"], body["error"]["message"]) == ("error", "gone")
    assert body["request_id"] == found.headers["request-id"]


async def test_unauthorised_says_how() -> None:
    async def handler(http: Http) -> None:
        raise ClientError("authentication", "no")

    found = await ask(app(handler), "POST", "/")
    assert found.headers["www-authenticate"] == "Bearer"


async def test_fault_after_the_answer_began_is_silent() -> None:
    async def handler(http: Http) -> None:
        await http.open_stream()
        await http.chunk(b"a")
        await http.fault(ClientError("invalid_request", "late"))
        await http.end()

    assert (await ask(app(handler), "POST", "/")).chunks == [b"a"]


async def test_stream() -> None:
    go = asyncio.Event()

    async def handler(http: Http) -> None:
        await http.open_stream()
        await http.chunk(b"one")
        await go.wait()
        await http.chunk(b"two")
        await http.end()

    async with Exchange(app(handler), "POST", "/") as exchange:
        await exchange.until(lambda it: it.chunks == [b"one"])
        assert exchange.headers["content-type"].startswith("text/event-stream")
        assert "content-length" not in exchange.headers
        go.set()
        assert await exchange.body() == b"onetwo"


async def test_chunk_waits_for_the_client() -> None:
    made: list[int] = []

    async def handler(http: Http) -> None:
        await http.open_stream()
        for number in range(100):
            made.append(number)
            await http.chunk(b"x")
        await http.end()

    async with Exchange(app(handler), "POST", "/") as exchange:
        exchange.stop_reading()
        await exchange.until(lambda it: it.is_blocked)
        assert made == []
        exchange.read_on()
        assert await exchange.body() == b"x" * 100


async def test_a_whole_answer_waits_for_a_client_that_does_not_read() -> None:
    async def handler(http: Http) -> None:
        await http.answer(200, await http.body(10))

    async with Exchange(app(handler), "POST", "/") as exchange:
        exchange.stop_reading()
        exchange.feed(b"x")
        await exchange.until(lambda it: it.is_blocked)
        assert exchange.start is None
        exchange.read_on()
        assert await exchange.body() == b"x"


# --- a client that leaves ---------------------------------------------------------------------


class Waiter:
    """A handler that waits in the way given, under watch."""

    def __init__(self, how: Handler) -> None:
        self._how = how
        self.cancelled = self.cleaned = False

    async def __call__(self, http: Http) -> None:
        await http.body(10)
        try:
            with http.watch():
                await self._how(http)
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        finally:
            self.cleaned = True


async def _for_ever(http: Http) -> None:
    await asyncio.Event().wait()


async def _in_a_stream(http: Http) -> None:
    await http.open_stream()
    await http.chunk(b"a")
    await asyncio.Event().wait()


async def _flooding(http: Http) -> None:
    await http.open_stream()
    while True:
        await http.chunk(b"a")
        await asyncio.sleep(0)


async def _in_another_timeout(http: Http) -> None:
    async with asyncio.timeout(60):
        await asyncio.Event().wait()


@pytest.mark.parametrize("how", [_for_ever, _in_a_stream, _flooding, _in_another_timeout])
async def test_leaving_cancels(how: Handler) -> None:
    handler = Waiter(how)
    seen: list[Http] = []
    async with Exchange(app(handler, seen), "POST", "/") as exchange:
        exchange.feed(b"")
        while not exchange.is_watched:  # noqa: ASYNC110
            await asyncio.sleep(0)
        exchange.leave()
    assert handler.cancelled
    assert handler.cleaned
    assert seen[0].has_left


async def test_leaving_while_blocked_on_the_client_itself() -> None:
    handler = Waiter(_flooding)
    async with Exchange(app(handler), "POST", "/") as exchange:
        exchange.feed(b"")
        await exchange.until(lambda it: bool(it.chunks))
        exchange.stop_reading()
        await exchange.until(lambda it: it.is_blocked)
        exchange.leave()
    assert handler.cancelled


async def test_an_end_is_no_leaving() -> None:
    async def handler(http: Http) -> None:
        await http.body(10)
        with http.watch():
            await http.answer(200, b"whole")
        await asyncio.sleep(0.01)
        assert not http.has_left

    assert (await ask(app(handler), "POST", "/")).chunks == [b"whole"]


async def test_another_cancellation_is_not_mistaken() -> None:
    seen: list[Http] = []
    exchange = Exchange(app(Waiter(_for_ever), seen), "POST", "/").feed(b"")
    await exchange.__aenter__()
    while not exchange.is_watched:  # noqa: ASYNC110
        await asyncio.sleep(0)
    exchange.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await exchange.task
    assert not seen[0].has_left


async def test_leaving_before_the_watch_begins() -> None:
    seen: list[Http] = []

    async def handler(http: Http) -> None:
        await http.body(10)
        exchange.leave()
        with http.watch():
            await asyncio.Event().wait()

    async with Exchange(app(handler, seen), "POST", "/") as exchange:
        exchange.feed(b"")
    assert seen[0].has_left


async def test_leaving_after_the_watch_has_ended() -> None:
    async def handler(http: Http) -> None:
        await http.body(10)
        with http.watch():
            await http.open_stream()
        exchange.leave()
        await asyncio.sleep(0)
        await http.chunk(b"into the void")

    async with Exchange(app(handler), "POST", "/") as exchange:
        exchange.feed(b"")
    assert exchange.chunks == []


# --- small things -----------------------------------------------------------------------------


async def test_query() -> None:
    found: list[str | None] = []

    async def handler(http: Http) -> None:
        found.extend(map(http.query, ("a", "b", "c")))
        assert http.header(b"x-y") == "z"
        assert http.header(b"none") is None
        await http.answer(200, b"")

    await ask(app(handler), "GET", "/", headers={"X-Y": "z"}, query="a=1&a=2%2F3&b=")
    assert found == ["2/3", None, None]


def test_header_value() -> None:
    assert header_value("meta/Llama-3:8b (x)") == b"meta/Llama-3:8b (x)"
    assert header_value("Füße\r\nx: y") == b"F%C3%BC%C3%9Fe%0D%0Ax: y"


def test_ids_differ() -> None:
    ids = {new_id("req_") for _ in range(1000)}
    assert len(ids) == 1000
    assert all(i.startswith("req_") and len(i) == 28 for i in ids)
