"""What cannot fit is refused before the engine is asked; what might fit never is."""

import json
from typing import Any

import pytest

from homeport.engines import vllm
from homeport.errors import ClientError
from homeport.facts import Endpoint, EngineFacts, ModelFacts
from homeport.server import context_fit
from tests.server.fakes import READY, FakeInstance, Plan, World, said, whole
from tests.support.asgi import Exchange, ask


def endpoint(engine: EngineFacts = READY.engine, limit: int | None = 100) -> Endpoint:
    return Endpoint(
        base_url="http://x/v1", engine=engine, model=ModelFacts(name="m", context_tokens=limit)
    )


def body(content: Any, **fields: Any) -> bytes:
    return json.dumps({"messages": [{"role": "user", "content": content}], **fields}).encode()


# --------------------------------------------------------------------------- decisions


@pytest.mark.row("3.3 18")
def test_what_no_tokenizer_could_fit_is_refused() -> None:
    fits, is_too_long = "x" * (256 * 100), "x" * (256 * 100 + 1)
    context_fit.refuse_impossible(body(fits), endpoint())
    for content in (is_too_long, [{"type": "text", "text": is_too_long}]):
        with pytest.raises(ClientError) as caught:
            context_fit.refuse_impossible(body(content), endpoint())
        assert caught.value.tokens == (101, 100)
    context_fit.refuse_impossible(body(is_too_long), endpoint(limit=None))


def test_only_texts_count_and_images_excuse() -> None:
    """Escapes, tools and reasoning may be nothing in the prompt; an image is a few hundred tokens."""
    long = "x" * 99_999
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{long}"}}
    context_fit.refuse_impossible(body([image]), endpoint())
    context_fit.refuse_impossible(body("hi", tools=[{"d": long}]), endpoint())
    context_fit.refuse_impossible(body("\n" * 24_000), endpoint())  # two bytes each, in JSON
    context_fit.refuse_impossible(body(None, extra=long), endpoint())


@pytest.mark.parametrize(
    ("length", "max_tokens", "engine", "expected"),
    [
        (20, 50, READY.engine, False),
        (200, 1, READY.engine, True),
        (20, 99, READY.engine, False),  # llama.cpp makes as many as fit
        (20, 99, vllm.FACTS, True),
        (200, 99, EngineFacts(), False),  # cannot count
    ],
)
def test_when_counting_is_worth_it(
    length: int, max_tokens: int, engine: EngineFacts, expected: bool
) -> None:
    request = b'{"max_tokens":%d,"x":"%b"}' % (max_tokens, b"x" * length)
    assert context_fit.is_worth_counting(request, endpoint(engine)) is expected
    assert not context_fit.is_worth_counting(request, endpoint(engine, None))


@pytest.mark.row("3.1 max_tokens")
@pytest.mark.parametrize(
    ("asked", "prompt", "sent"), [(90, 10, 90), (91, 10, 90), (91, 99, 1), (5, 100, 5)]
)
@pytest.mark.parametrize("key", ["max_tokens", "max_completion_tokens"])
def test_max_tokens_is_cut_to_what_is_left(key: str, asked: int, prompt: int, sent: int) -> None:
    request = body("hi", **{key: asked})
    fit = context_fit.fitted(request, endpoint(vllm.FACTS), prompt)
    assert json.loads(fit.body) == {**json.loads(request), key: sent}
    assert fit.max_tokens == (sent if sent != asked else None)
    assert context_fit.fitted(request, endpoint(), prompt) == (request, None)


def test_an_exact_count_over_the_limit_is_refused() -> None:
    with pytest.raises(ClientError) as caught:
        context_fit.fitted(body("hi"), endpoint(), 101)
    assert (caught.value.kind, caught.value.tokens) == ("context_overflow", (101, 100))
    assert context_fit.fitted(body("hi"), endpoint(limit=None), 101).max_tokens is None
    assert not context_fit.is_worth_counting(b'{"max_tokens":"x"}', endpoint(vllm.FACTS))


# --------------------------------------------------------------------------- requests


def message(text: str, **fields: Any) -> bytes:
    turns = [{"role": "user", "content": text}]
    return json.dumps({"model": "it", "max_tokens": 9, "messages": turns, **fields}).encode()


LONG = "x" * 3000
SESSION = {"x-claude-code-session-id": "s"}


async def post(
    world: World, request: bytes, path: str = "/v1/messages", **options: Any
) -> Exchange:
    found = await ask(world, "POST", path, request, **options)
    await found.status()
    return found


@pytest.mark.row("3.3 18")
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/chat/completions"])
async def test_an_overflow_is_refused_before_the_engine_is_asked(stream: bool, path: str) -> None:
    world = World()
    world.client.count = 1001
    found = await post(world, message(LONG, stream=stream), path)
    assert await found.status() == 400
    said_so = (await found.json())["error"]["message"]
    assert "1001" in said_so
    assert "1000" in said_so
    assert world.client.exchanges == []
    world.assert_tidy()


async def test_without_a_count_the_engine_decides() -> None:
    world = World()
    world.client.count = b"no number"
    world.client.plans = [Plan(pieces=[whole("Hi")]), Plan(pieces=said("Hi"))]
    assert await (await post(world, message(LONG))).status() == 200
    assert await (await post(world, message(LONG, stream=True))).status() == 200


async def test_a_short_whole_request_is_not_counted() -> None:
    world = World()
    world.client.plans = [Plan(pieces=[whole("Hi")])]
    assert await (await post(world, message("hi"))).status() == 200
    assert world.client.counted == []


async def test_a_request_is_counted_once() -> None:
    world = World()
    world.client.count = 900
    world.client.plans = [Plan(pieces=said("Hi"))]
    found = await post(world, message(LONG, stream=True))
    assert b'"input_tokens":900' in await found.body()
    assert len(world.client.counted) == 1


@pytest.mark.parametrize("stream", [True, False])
async def test_a_cut_max_tokens_is_told(stream: bool) -> None:
    ready = Endpoint(base_url="http://e/v1", engine=READY.engine, model=READY.model)
    engine = EngineFacts(token_count="chat_input_tokens", max_tokens_over_context=False)
    ready = Endpoint(base_url="http://e/v1", engine=engine, model=ready.model)
    world = World(FakeInstance("it", ready))
    world.client.count = 400
    world.client.plans = [Plan(pieces=said("Hi") if stream else [whole("Hi")])]
    found = await post(world, message("hi", stream=stream, max_tokens=990))
    assert found.headers["x-homeport-max-tokens"] == "600"
    assert world.client.exchanges[0].request["max_tokens"] == 600


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/chat/completions"])
async def test_a_client_that_loops_is_told_to_wait(path: str) -> None:
    world = World()
    world.client.count = 1001
    for status in (400, 400, 400, 429, 429):
        found = await post(world, message(LONG), path, headers=SESSION)
        assert await found.status() == status
    assert 1 <= int(found.headers["retry-after"]) <= 10
    assert (await found.json())["error"]["type"] == "rate_limit_error"
    assert len(world.client.counted) == 3
    world.client.count = 7
    world.client.plans = [Plan(pieces=[whole("Hi")])]
    shorter = await post(world, message("hi"), path, headers=SESSION)
    assert await shorter.status() == 200
    world.assert_tidy()
