"""The relay's order of things, with an engine that does as each test says.

Every test ends with ``assert_tidy``: exchanges closed, leases given back, nothing in flight.
"""

import asyncio
import gc
import json
from collections.abc import Iterator
from typing import Any

import pytest

from homeport.errors import UpstreamError
from homeport.facts import Endpoint, EngineFacts, ModelFacts
from homeport.server import answer_stream, calls, proxy
from homeport.server.http import Http
from homeport.wire import passthrough, stream
from tests.server.fakes import READY, FakeInstance, Plan, World, chunk, said, whole
from tests.support.asgi import Exchange, ask

CHAT, MESSAGES, COUNT = "/v1/chat/completions", "/v1/messages", "/v1/messages/count_tokens"
BOTH = pytest.mark.parametrize("path", [CHAT, MESSAGES])
EITHER = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


def request(stream: bool = False, **fields: Any) -> bytes:
    message = {"role": "user", "content": "Hi"}
    body = {"model": "it", "max_tokens": 9, "messages": [message], "stream": stream, **fields}
    return json.dumps(body).encode()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for call in (calls.ChatCall, calls.AnthropicCall):
        monkeypatch.setattr(call, "grace_s", 0.02)
    monkeypatch.setattr(answer_stream, "PING_S", 0.02)


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.assert_tidy()


def events(found: Exchange) -> list[tuple[str, Any]]:
    """``(event or "", data)`` of what has arrived."""
    out = []
    for frame in b"".join(found.chunks).decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in frame.splitlines() if line[:1] != ":")
        if data := fields.get("data"):
            out.append((fields.get("event", ""), data if data == "[DONE]" else json.loads(data)))
    return out


def names(found: Exchange) -> list[str]:
    return [name for name, _ in events(found) if name != "ping"]


# --- it goes well -------------------------------------------------------------------------------


@BOTH
async def test_whole(world: World, path: str) -> None:
    world.client.plans = [Plan(pieces=[whole("Hello")])]
    found = await ask(world, "POST", path, request())
    assert await found.status() == 200
    assert "Hello" in (await found.body()).decode()
    assert (await found.json())["model"] == "it"
    (exchange,) = world.client.exchanges
    assert exchange.url == "http://engine:1/v1/chat/completions"
    assert exchange.request["model"] == "inner"
    assert world.outcomes == ["ok"]
    assert 'kind="prompt",model="it"} 7.0' in world.metrics.exposition().decode()


async def test_stream_to_openai(world: World) -> None:
    world.client.plans = [Plan(pieces=said("Hello"))]
    found = await ask(world, "POST", CHAT, request(stream=True))
    *chunks, done = events(found)
    assert done == ("", "[DONE]")
    assert {data["model"] for _, data in chunks} == {"it"}
    assert world.client.counted == [], "its stream names no count"
    assert world.outcomes == ["ok"]


@pytest.mark.row("3.3 1")
async def test_stream_to_anthropic(world: World) -> None:
    world.client.count = 42
    world.client.plans = [Plan(pieces=said("Hello"))]
    found = await ask(world, "POST", MESSAGES, request(stream=True))
    assert names(found) == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    start = events(found)[0][1]["message"]
    assert (start["model"], start["usage"]["input_tokens"]) == ("it", 42)
    assert start["usage"]["cache_read_input_tokens"] == 0
    delta = dict(events(found))["message_delta"]
    assert delta["usage"]["input_tokens"] == 7, "the engine's own count has the last word"
    ((url, counted),) = world.client.counted
    assert url == "http://engine:1/v1/chat/completions/input_tokens"
    assert counted["messages"] == world.client.exchanges[0].request["messages"]


@BOTH
@EITHER
async def test_nothing_of_a_request_waits_for_the_garbage_collector(
    world: World, path: str, stream: bool
) -> None:
    """Its body may be of any size, and the collector comes by after thousands of requests."""
    world.client.plans = [Plan(pieces=said("Hello") if stream else [whole("Hello")])]
    gc.collect()
    gc.disable()
    try:
        found = await ask(world, "POST", path, request(stream))
        assert await found.status() == 200
        await found.body()
        del found
        await asyncio.sleep(0)  # the task of the exchange lets go
        left = [each for each in gc.get_objects() if isinstance(each, Http)]
    finally:
        gc.enable()
    assert left == []


@EITHER
async def test_name_that_nobody_knows(world: World, stream: bool) -> None:
    world.client.plans = [Plan(pieces=said("x") if stream else [whole("x")])]
    found = await ask(world, "POST", MESSAGES, request(stream, model="claude-opus-5-5"))
    assert found.headers["x-homeport-model"] == "it"
    assert found.headers["x-homeport-model-fallback"] == "default"
    assert b'"model":"claude-opus-5-5"' in await found.body()


async def test_strict_names() -> None:
    found = await ask(World(strict=True), "POST", CHAT, request(model="nobody"))
    assert await found.status() == 404


async def test_model_names_that_are_no_header() -> None:
    world = World(FakeInstance("größe\n1"))
    world.client.plans = [Plan(pieces=[whole("x")])]
    found = await ask(world, "POST", CHAT, request(model=""))
    assert found.headers["x-homeport-model"] == "gr%C3%B6%C3%9Fe%0A1"


# --- grace, counts, signs of life ---------------------------------------------------------------


@pytest.mark.row("3.3 1", "3.3 2")
async def test_engine_that_takes_its_time(world: World) -> None:
    """The stream opens after the grace, pings go out, and the rest follows."""
    answers = asyncio.Event()
    world.client.plans = [Plan(head=answers, pieces=said("Hello"))]
    async with Exchange(world, "POST", MESSAGES) as exchange:
        exchange.feed(request(stream=True))
        await exchange.until(lambda it: b"".join(it.chunks).count(b"event: ping") >= 3)
        assert await exchange.status() == 200
        answers.set()
        await exchange.body()
    assert names(exchange)[0] == "message_start"
    assert names(exchange).count("message_start") == 1
    assert names(exchange)[-1] == "message_stop"


async def test_openai_clients_get_comments(world: World) -> None:
    answers = asyncio.Event()
    world.client.plans = [Plan(head=answers, pieces=said("Hello"))]
    async with Exchange(world, "POST", CHAT) as exchange:
        exchange.feed(request(stream=True))
        await exchange.until(lambda it: it.chunks[:2] == [b": still working\n\n"] * 2)
        answers.set()
        await exchange.body()
    assert events(exchange)[-1] == ("", "[DONE]")


@pytest.mark.row("3.3 2")
async def test_silence_mid_stream(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_stream, "PING_S", 0.0)
    keep_alive = b": keepalive\n\n"
    pieces = [chunk("Hel"), None, keep_alive, *said("lo")]
    world.client.plans = [Plan(pieces=pieces)]
    found = await ask(world, "POST", MESSAGES, request(stream=True))
    assert b"".join(found.chunks).count(b"event: ping") >= 2
    assert names(found)[-1] == "message_stop"


@pytest.mark.row("3.3 1")
@pytest.mark.parametrize(
    "count", [asyncio.Event(), UpstreamError("unavailable", "gone"), b"nonsense", b'{"a":1}']
)
async def test_count_that_is_not_to_be_had(
    world: World, monkeypatch: pytest.MonkeyPatch, count: Any
) -> None:
    """The stream opens with an estimate."""
    monkeypatch.setattr(answer_stream, "COUNT_TIMEOUT_S", 0.01)
    world.client.count = count
    world.client.plans = [Plan(pieces=said("Hello"))]
    found = await ask(world, "POST", MESSAGES, request(stream=True))
    estimate = events(found)[0][1]["message"]["usage"]["input_tokens"]
    sent = len(json.dumps(world.client.exchanges[0].request, separators=(",", ":")))
    assert estimate == pytest.approx(sent / answer_stream.BYTES_PER_TOKEN, abs=2)
    assert names(found)[-1] == "message_stop"


@pytest.mark.row("3.3 18")
async def test_count_that_shows_an_overflow(world: World) -> None:
    """Refused with its real status, before the engine has answered."""
    world.client.count = 1001
    world.client.plans = [Plan(head=asyncio.Event())]
    found = await ask(world, "POST", MESSAGES, request(stream=True))
    assert await found.status() == 400
    assert "prompt is too long: 1001 tokens > 1000 maximum" in (await found.body()).decode()
    assert world.outcomes == ["context_overflow"]


# --- it goes wrong ------------------------------------------------------------------------------

REFUSED = json.dumps({"error": {"message": "no such luck", "type": "server_error"}}).encode()


@pytest.mark.row("3.3 18")
@EITHER
@BOTH
async def test_engine_error_keeps_its_status(world: World, path: str, stream: bool) -> None:
    world.client.plans = [Plan(status=503, pieces=[REFUSED], headers={"retry-after": "7"})]
    found = await ask(world, "POST", path, request(stream))
    assert await found.status() == 503
    assert found.headers["retry-after"] == "7"
    assert "no such luck" in (await found.json())["error"]["message"]
    assert world.instance.downs == [], "it answered"


@BOTH
async def test_late_engine_error_comes_in_the_stream(world: World, path: str) -> None:
    answers = asyncio.Event()
    world.client.plans = [Plan(status=500, head=answers, pieces=[REFUSED])]
    async with Exchange(world, "POST", path) as exchange:
        exchange.feed(request(stream=True))
        assert await exchange.status() == 200
        answers.set()
        await exchange.body()
    last = events(exchange)[-1][1]
    assert "no such luck" in last["error"]["message"]
    assert world.outcomes != ["ok"]


@EITHER
@BOTH
@pytest.mark.parametrize("where", ["send", "head"])
async def test_nobody_answers(world: World, path: str, stream: bool, where: str) -> None:
    gone = UpstreamError("unavailable", "gone", retry_after_s=2)
    world.client.plans = [Plan(send=gone) if where == "send" else Plan(head=gone)]
    found = await ask(world, "POST", path, request(stream))
    assert await found.status() == 503
    assert found.headers["retry-after"] == "2"
    assert world.instance.downs == ["gone"]
    assert world.outcomes == ["unavailable"]


@BOTH
async def test_breaking_off_mid_stream(world: World, path: str) -> None:
    cut = UpstreamError("upstream", "the engine closed the connection mid-answer")
    world.client.plans = [Plan(pieces=[chunk("Hel"), cut])]
    found = await ask(world, "POST", path, request(stream=True))
    assert "mid-answer" in events(found)[-1][1]["error"]["message"]
    assert "message_stop" not in names(found)
    assert world.outcomes == ["upstream"]


@BOTH
async def test_nonsense_stops_the_engine(world: World, path: str) -> None:
    """What comes after it is not even read."""
    pieces = [chunk("Hel"), b'data: {"error":{"message":"boom"}}\n\n', *said("never")]
    world.client.plans = [Plan(pieces=pieces)]
    found = await ask(world, "POST", path, request(stream=True))
    assert "boom" in events(found)[-1][1]["error"]["message"]
    assert "never" not in b"".join(found.chunks).decode()
    assert world.client.exchanges[0].reads == 2
    assert not world.client.exchanges[0].is_answered


@BOTH
async def test_the_last_word_ends_the_stream(world: World, path: str) -> None:
    """Not the end of the body, which some engines are slow to send."""
    world.client.plans = [Plan(pieces=[*said("Hello"), asyncio.Event()])]
    found = await ask(world, "POST", path, request(stream=True))
    assert found.is_complete
    assert world.client.exchanges[0].is_answered


@BOTH
async def test_a_failure_of_ours_mid_stream_is_told(
    world: World, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    world.client.plans = [Plan(pieces=[chunk("Hel"), ZeroDivisionError("oops")])]
    found = await ask(world, "POST", path, request(stream=True))
    assert "ZeroDivisionError" in events(found)[-1][1]["error"]["message"]
    assert "oops" not in b"".join(found.chunks).decode()
    assert "oops" in "".join(capsys.readouterr()), "the log has it"
    assert world.outcomes == ["internal"]


@EITHER
async def test_a_failure_of_ours_before_it(world: World, stream: bool) -> None:
    world.client.plans = [Plan(head=ZeroDivisionError("oops"))]
    found = await ask(world, "POST", MESSAGES, request(stream))
    assert await found.status() == 500
    assert world.outcomes == ["internal"]


@BOTH
@pytest.mark.parametrize("body", [b"", b"nonsense", b"[]", b'{"choices":3}', b"\xff"])
async def test_whole_answer_that_is_none(world: World, path: str, body: bytes) -> None:
    world.client.plans = [Plan(pieces=[body])]
    found = await ask(world, "POST", path, request())
    if path == CHAT and body == b'{"choices":3}':
        return  # it is an object; what is in it is the client's affair
    assert await found.status() == 502
    assert world.outcomes == ["upstream"]


async def test_engine_that_counts_below_zero(world: World) -> None:
    answer = whole("x", usage={"prompt_tokens": -1, "completion_tokens": -5})
    world.client.plans = [Plan(pieces=[answer])]
    assert await (await ask(world, "POST", CHAT, request())).status() == 200


async def test_images_to_a_blind_model(world: World) -> None:
    facts = ModelFacts(name="inner", vision=False)
    world.instance.endpoint = Endpoint(base_url="http://e/v1", engine=EngineFacts(), model=facts)
    url = {"url": "data:image/gif;base64,AAAA"}
    message = {"role": "user", "content": [{"type": "image_url", "image_url": url}]}
    found = await ask(world, "POST", CHAT, request(messages=[message]))
    assert await found.status() == 400
    assert "cannot see images" in (await found.body()).decode()


# --- while it starts ----------------------------------------------------------------------------


def cold() -> World:
    return World(FakeInstance("it", None))


async def start(world: World) -> asyncio.Future[Endpoint]:
    while world.instance.starting is None:  # noqa: ASYNC110  (a fake has no event for it)
        await asyncio.sleep(0)
    return world.instance.starting


@EITHER
@BOTH
async def test_request_waits_for_the_start(path: str, stream: bool) -> None:
    world = cold()
    world.client.plans = [Plan(pieces=said("Hello") if stream else [whole("Hello")])]
    async with Exchange(world, "POST", path) as exchange:
        exchange.feed(request(stream))
        starting = await start(world)
        assert exchange.start is None
        starting.set_result(READY)
        assert "Hello" in (await exchange.body()).decode()
    world.assert_tidy()


@BOTH
@pytest.mark.parametrize("head", [None, 0], ids=["quick engine", "slow engine"])
async def test_stream_opens_once_while_it_starts(path: str, head: int | None) -> None:
    world = cold()
    answers = asyncio.Event()
    world.client.plans = [Plan(head=answers if head == 0 else None, pieces=said("Hello"))]
    async with Exchange(world, "POST", path) as exchange:
        exchange.feed(request(stream=True))
        starting = await start(world)
        await exchange.until(lambda it: len(it.chunks) >= 3)
        starting.set_result(READY)
        if head == 0:
            sent = len(exchange.chunks)
            await exchange.until(lambda it: len(it.chunks) > sent + 1)
            answers.set()
        await exchange.body()
    assert names(exchange).count("message_start") == (path == MESSAGES)
    assert "Hello" in b"".join(exchange.chunks).decode()
    if path == MESSAGES:
        usage = events(exchange)[0][1]["message"]["usage"]
        assert usage["input_tokens"] == len(request(stream=True)) // answer_stream.BYTES_PER_TOKEN
    world.assert_tidy()


@pytest.mark.parametrize("late", [False, True], ids=["at once", "after the grace"])
@BOTH
async def test_start_that_fails(path: str, late: bool) -> None:
    world = cold()
    async with Exchange(world, "POST", path) as exchange:
        exchange.feed(request(stream=True))
        starting = await start(world)
        if late:
            await exchange.until(lambda it: bool(it.chunks))
        starting.set_exception(UpstreamError("unavailable", "no memory", retry_after_s=30))
        assert await exchange.status() == (200 if late else 503)
        assert "no memory" in (await exchange.body()).decode()
    if not late:
        assert exchange.headers["retry-after"] == "30"
    assert world.outcomes == ["unavailable"]
    world.assert_tidy()


# --- count_tokens -------------------------------------------------------------------------------


async def test_count_tokens(world: World) -> None:
    world.client.count = 42
    found = await ask(world, "POST", COUNT, request())
    assert (await found.status(), await found.json()) == (200, {"input_tokens": 42})


@pytest.mark.row("3.1 count_tokens")
async def test_count_tokens_of_an_engine_that_cannot(world: World) -> None:
    facts = ModelFacts(name="inner")
    world.instance.endpoint = Endpoint(base_url="http://e/v1", engine=EngineFacts(), model=facts)
    assert await (await ask(world, "POST", COUNT, request())).status() == 404


async def test_count_tokens_is_quick_or_404(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Claude Code stalls on a hang, and estimates for itself on a 404."""
    monkeypatch.setattr(proxy, "COUNT_CALL_TIMEOUT_S", 0.02)
    world.client.count = asyncio.Event()
    assert await (await ask(world, "POST", COUNT, request())).status() == 404


async def test_count_tokens_does_not_wait_for_a_long_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "COUNT_CALL_TIMEOUT_S", 0.02)
    world = cold()
    found = await ask(world, "POST", COUNT, request())
    assert await found.status() == 404
    assert "may still be loading" in (await found.body()).decode()
    world.assert_tidy()


# --- clients that leave, or do not read ---------------------------------------------------------


@EITHER
@BOTH
async def test_leaving_while_it_starts(path: str, stream: bool) -> None:
    world = cold()
    async with Exchange(world, "POST", path) as exchange:
        exchange.feed(request(stream))
        starting = await start(world)
        exchange.leave()
    assert not starting.cancelled(), "the start belongs to the instance"
    starting.cancel()
    assert world.client.exchanges == []
    assert world.outcomes == ["left"]
    world.assert_tidy()


@pytest.mark.row("3.3 19")
@EITHER
@BOTH
async def test_leaving_while_the_engine_thinks(world: World, path: str, stream: bool) -> None:
    world.client.plans = [Plan(head=asyncio.Event())]
    async with Exchange(world, "POST", path) as exchange:
        exchange.feed(request(stream))
        while not (world.client.exchanges and world.client.exchanges[0].sent):  # noqa: ASYNC110
            await asyncio.sleep(0)
        exchange.leave()
    assert world.outcomes == ["left"]


@pytest.mark.row("3.3 19")
@BOTH
async def test_leaving_mid_stream(world: World, path: str) -> None:
    world.client.plans = [Plan(pieces=[chunk("Hel"), asyncio.Event()])]
    async with Exchange(world, "POST", path) as exchange:
        exchange.feed(request(stream=True))
        await exchange.until(lambda it: b"Hel" in b"".join(it.chunks))
        exchange.leave()
    assert world.outcomes == ["left"]
    assert world.instance.left == 1


async def test_leaving_while_counting(world: World) -> None:
    world.client.count = asyncio.Event()
    async with Exchange(world, "POST", COUNT) as exchange:
        exchange.feed(request())
        while not world.client.counted:  # noqa: ASYNC110
            await asyncio.sleep(0)
        exchange.leave()
    assert exchange.start is None


@BOTH
async def test_client_that_does_not_read_stops_the_reading(world: World, path: str) -> None:
    go = asyncio.Event()
    world.client.plans = [Plan(pieces=[chunk("x"), go, *[chunk("x")] * 50, *said("end")])]
    async with Exchange(world, "POST", path) as exchange:
        exchange.feed(request(stream=True))
        await exchange.until(lambda it: bool(it.chunks))
        exchange.stop_reading()
        go.set()
        await exchange.until(lambda it: it.is_blocked)
        (engine,) = world.client.exchanges
        reads = engine.reads
        await asyncio.sleep(0.05)
        assert engine.reads == reads
        exchange.read_on()
        await exchange.body()
    assert engine.reads > 50


@BOTH
async def test_pieces_take_the_short_way(world: World, path: str) -> None:
    words = [f"w{i} " for i in range(20)]
    world.client.plans = [Plan(pieces=[*map(chunk, words), *said("end")])]
    found = await ask(world, "POST", path, request(stream=True))
    assert found.pushes > len(words)
    said_all = b"".join(found.chunks)
    places = [said_all.index(word.encode()) for word in (*words, "end")]
    assert places == sorted(places)
    assert 'first_token_seconds_count{model="it"} 1.0' in world.metrics.exposition().decode()


@BOTH
async def test_failure_of_ours_on_the_short_way(
    world: World, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is an error in the stream, as anywhere else, and never the connection's business."""

    def fail(*_: object) -> bytes:
        raise LookupError

    for translation in (passthrough.ChatRelay, stream.FromChat):
        monkeypatch.setattr(translation, "feed", fail)
    world.client.plans = [Plan(pieces=said("never"))]
    found = await ask(world, "POST", path, request(stream=True))
    assert "LookupError" in events(found)[-1][1]["error"]["message"]
    assert world.outcomes == ["internal"]
