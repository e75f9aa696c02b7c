"""No answer is longer than ``server.limits.max_tokens``."""

import json
from typing import Any

import pytest

from homeport.engines import vllm
from homeport.facts import Endpoint, EngineFacts, ModelFacts
from homeport.server.answer_limit import LIMITS, capped
from homeport.settings import Limits, ServerSettings
from tests.server.fakes import Plan, World, said, whole
from tests.support.asgi import ask

CHAT = "/v1/chat/completions"


def endpoint(engine: EngineFacts | None = None, context: int | None = 1000) -> Endpoint:
    model = ModelFacts(name="m", context_tokens=context)
    return Endpoint(base_url="http://x/v1", engine=engine or EngineFacts(), model=model)


def sent(path: str, **fields: Any) -> dict[str, Any]:
    """What the engine gets of these fields, with a limit of 100."""
    value: dict[str, Any] = json.loads(
        capped(json.dumps(fields).encode(), path, endpoint(), 100).body
    )
    return value


@pytest.mark.parametrize(
    ("path", "asked", "expected"),
    [
        # 1. within the limit
        (CHAT, {"max_tokens": 100}, {"max_tokens": 100}),
        (CHAT, {"max_completion_tokens": 0}, {"max_completion_tokens": 0}),
        ("/infill", {"n_predict": 5}, {"n_predict": 5}),
        # 2. beyond
        (CHAT, {"max_tokens": 101}, {"max_tokens": 100}),
        (CHAT, {"max_tokens": 32_000, "max_completion_tokens": 7},
         {"max_tokens": 100, "max_completion_tokens": 7}),
        ("/v1/completions", {"max_tokens": -1}, {"max_tokens": 100}),
        ("/infill", {"n_predict": -1}, {"n_predict": 100}),
        ("/v1/responses", {"max_output_tokens": 101}, {"max_output_tokens": 100}),
        # 3. no limit
        *((path, {}, {names[0]: 100}) for path, names in LIMITS.items()),
        (CHAT, {"max_tokens": None}, {"max_tokens": 100}),
        # not ours to judge
        (CHAT, {"max_tokens": "many"}, {"max_tokens": "many"}),
        ("/v1/embeddings", {"input": "x"}, {"input": "x"}),
    ],
)  # fmt: skip
def test_cases(path: str, asked: dict[str, Any], expected: dict[str, Any]) -> None:
    assert sent(path, **asked) == expected


def test_bytes_stay_where_nothing_is_to_do() -> None:
    body = b'{ "max_tokens": 5 }'
    assert capped(body, CHAT, endpoint(), 100) == (body, None)
    assert capped(body, CHAT, endpoint(), None) == (body, None)
    assert capped(b"{}", CHAT, endpoint(), 100).max_tokens == 100


def test_none_is_added_beyond_a_context_that_would_refuse_it() -> None:
    assert capped(b"{}", CHAT, endpoint(vllm.FACTS, 50), 100) == (b"{}", None)
    assert capped(b"{}", CHAT, endpoint(vllm.FACTS, 200), 100).max_tokens == 100
    assert capped(b"{}", CHAT, endpoint(vllm.FACTS, None), 100).max_tokens == 100


@pytest.mark.parametrize(
    ("limit", "budget", "expected"),
    [
        (4000, 2000, {"type": "enabled", "budget_tokens": 2000}),
        (4000, 4000, {"type": "enabled", "budget_tokens": 3999}),
        (1024, 2000, {"type": "disabled"}),
    ],
)
def test_thinking_stays_below_the_limit(limit: int, budget: int, expected: dict[str, Any]) -> None:
    """Anthropic refuses a budget that is not below ``max_tokens``."""
    thinking = {"type": "enabled", "budget_tokens": budget}
    body = json.dumps({"max_tokens": 32_000, "thinking": thinking}).encode()
    cut = json.loads(capped(body, "/v1/messages", endpoint(), limit).body)
    assert cut == {"max_tokens": limit, "thinking": expected}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", ["/v1/messages", CHAT])
async def test_requests(path: str, stream: bool) -> None:
    world = World(server=ServerSettings(limits=Limits(max_tokens=100)))
    world.client.plans = [Plan(pieces=said("Hi") if stream else [whole("Hi")]) for _ in range(2)]
    for asked, told in ((32_000, "100"), (9, None)):
        turns = [{"role": "user", "content": "hi"}]
        body = {"model": "it", "max_tokens": asked, "messages": turns, "stream": stream}
        found = await ask(world, "POST", path, json.dumps(body).encode())
        assert await found.status() == 200
        assert found.headers.get("x-homeport-max-tokens") == told
    sent = [exchange.request["max_tokens"] for exchange in world.client.exchanges]
    assert sent == [100, 9]
    world.assert_tidy()
