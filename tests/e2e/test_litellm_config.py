"""LiteLLM's configuration files, served as they are: `homeport serve --config litellm_config.yaml`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.dialects import BOTH, Dialect
from tests.e2e.raw_client import Exchange, ask
from tests.support.engine import Answer, FakeEngine
from tests.support.gateway import Gateway, free_port

both_dialects = pytest.mark.parametrize("dialect", BOTH, ids=str)
streams = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
KEY = "sk-litellm-master"

CLAUDE = """\
model_list:
  # Map specific models requested by Claude Code
  - model_name: claude-sonnet-4-5
    litellm_params:
      model: openai/fake  # the local model
      api_base: {upstream}
      api_key: dummy
  - model_name: claude-haiku-4-5
    litellm_params:
      model: openai/fake
      api_base: {upstream}
      api_key: dummy
general_settings:
  master_key: sk-litellm-master
"""

ALIAS = """\
model_list:
- litellm_params:
    api_base: {upstream}
    api_key: os.environ/LOCAL_KEY
    model: openai/fake
  model_name: local-model
litellm_settings:
  drop_params: true
  set_verbose: false
general_settings:
  master_key: os.environ/LITELLM_MASTER_KEY
"""

WILDCARD = """\
model_list:
  - model_name: gpt-*
    litellm_params:
      model: mlx-community/Qwen2.5-Coder-32B-Instruct-8bit
      api_base: {upstream}
      api_key: "placeholder"
      max_tokens: 8192
      headers: {{"MAX_TOKENS": "8192"}}
      custom_llm_provider: "openai"
  - model_name: claude-*
    litellm_params: {{model: hosted_vllm/fake, api_base: "{upstream}"}}
  - model_name: local/*
    litellm_params: {{model: openai/*, api_base: "{upstream}"}}
"""

CASES = (
    (CLAUDE, "claude-sonnet-4-5", "fake", KEY),
    (CLAUDE, "claude-haiku-4-5", "fake", KEY),
    (ALIAS, "local-model", "fake", KEY),
    (WILDCARD, "gpt-5", "mlx-community/Qwen2.5-Coder-32B-Instruct-8bit", None),
    (WILDCARD, "claude-opus-5", "fake", None),
    (WILDCARD, "local/Fake-One", "Fake-One", None),
)


@pytest.fixture(scope="module")
def engine() -> Iterator[FakeEngine]:
    with FakeEngine() as engine:
        yield engine


@pytest.fixture
def served(tmp_path: Path, engine: FakeEngine) -> Iterator[Any]:
    gateways: list[Gateway] = []

    def serve(text: str, **names: str) -> Gateway:
        engine.reset()
        file = tmp_path / "litellm_config.yaml"
        file.write_text(text.format(upstream=engine.base_url, **names), "utf-8")
        env = {"LOCAL_KEY": "local", "LITELLM_MASTER_KEY": KEY}
        named = CLAUDE if text is CLAUDE else ""
        env = env if text is ALIAS else {}
        # One is found by the variable that start scripts set, the others by the flag.
        arguments = () if named else ("--config", str(file))
        if named:
            env["AUTO_INFER_LITELLM_CONFIG"] = str(file)
        gateways.append(Gateway(tmp_path, *arguments, env=env).start())
        return gateways[-1]

    yield serve
    for gateway in gateways:
        gateway.stop()


async def asked(
    gateway: Gateway,
    dialect: Dialect,
    model: str,
    *,
    stream: bool,
    key: str | None = None,
    **more: Any,
) -> tuple[Exchange, str]:
    """The exchange, over, and the text of the answer."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    headers |= more.pop("headers", {})
    request = {**dialect.request(stream=stream, model=model), **more}
    async with await ask(gateway.base_url, "POST", dialect.path, request, headers) as exchange:
        if exchange.status != 200:
            return exchange, dialect.error_in(await exchange.json())["message"]
        if stream:
            events = await exchange.all_events()
            assert dialect.ended_well(events)
            return exchange, dialect.text_of(events)
        body = await exchange.json()
    content = body["content"][0] if dialect.name == "anthropic" else body["choices"][0]["message"]
    return exchange, content.get("text") or content["content"]


@both_dialects
@streams
@pytest.mark.parametrize(("config", "model", "upstream_model", "key"), CASES)
async def test_served_as_it_is(
    served: Any,
    engine: FakeEngine,
    dialect: Dialect,
    stream: bool,
    config: str,
    model: str,
    upstream_model: str,
    key: str | None,
) -> None:
    gateway = served(config)
    engine.script(Answer(text="Hello from here"))
    exchange, text = await asked(gateway, dialect, model, stream=stream, key=key)
    assert (exchange.status, text) == (200, "Hello from here")
    assert engine.chats()[-1]["body"]["model"] == upstream_model


@both_dialects
async def test_the_master_key_is_asked_of_everybody(
    served: Any, engine: FakeEngine, dialect: Dialect
) -> None:
    gateway = served(ALIAS)
    exchange, _ = await asked(gateway, dialect, "local-model", stream=False)
    assert exchange.status == 401


async def test_headers_and_defaults_of_a_deployment(served: Any, engine: FakeEngine) -> None:
    gateway = served(WILDCARD)
    _, openai = BOTH
    engine.script(Answer(text="a"), Answer(text="b"))
    await asked(gateway, openai, "gpt-5", stream=False, max_tokens=None)
    assert engine.chats()[-1]["headers"]["max_tokens"] == "8192"
    assert engine.chats()[-1]["headers"]["authorization"] == "Bearer placeholder"
    assert engine.chats()[-1]["body"]["max_tokens"] == 8192
    await asked(gateway, openai, "gpt-5", stream=False, max_tokens=17)
    assert engine.chats()[-1]["body"]["max_tokens"] == 17


@both_dialects
async def test_an_unknown_name_is_refused_as_litellm_does(
    served: Any, engine: FakeEngine, dialect: Dialect
) -> None:
    exchange, text = await asked(served(WILDCARD), dialect, "llama", stream=False)
    assert exchange.status == 404
    assert "'llama' is not known here" in text


BEDROCK = """\
model_list:
  - model_name: cloud
    litellm_params: {{model: bedrock/anthropic.claude, aws_region_name: eu-central-1}}
  - model_name: local
    litellm_params: {{model: openai/fake, api_base: "{upstream}"}}
litellm_settings:
  success_callback: [langfuse]
"""


@both_dialects
@streams
async def test_what_only_litellm_reaches(served: Any, dialect: Dialect, stream: bool) -> None:
    gateway = served(BEDROCK)
    exchange, text = await asked(gateway, dialect, "cloud", stream=stream)
    assert exchange.status == 404
    assert "only LiteLLM reaches it; start homeport with --with-litellm" in text
    assert "only LiteLLM reaches bedrock" in gateway.output()
    assert "litellm_settings.success_callback: has no effect" in gateway.output()


# --------------------------------------------------------------------------- several deployments

SHARED = """\
model_list:
  - model_name: shared
    litellm_params: {{model: openai/fake, api_base: "{upstream}"}}
    model_info: {{id: first}}
  - model_name: shared
    litellm_params: {{model: openai/fake, api_base: "{other}"}}
    model_info: {{id: second}}
  - model_name: spare
    litellm_params: {{model: openai/spare, api_base: "{upstream}"}}
router_settings:
  cooldown_time: 30
  fallbacks: [{{shared: [spare]}}]
"""


@pytest.fixture
async def other() -> AsyncIterator[FakeEngine]:
    with FakeEngine() as engine:
        yield engine


def session(name: str) -> dict[str, str]:
    return {"x-session-id": name}


@both_dialects
@streams
async def test_conversations_stay_and_are_spread(
    served: Any, engine: FakeEngine, other: FakeEngine, dialect: Dialect, stream: bool
) -> None:
    gateway = served(SHARED, other=other.base_url)
    homes: dict[str, set[str]] = {name: set() for name in "abcd"}
    for _ in range(3):
        for name, seen in homes.items():
            exchange, _ = await asked(
                gateway, dialect, "shared", stream=stream, headers=session(name)
            )
            seen.add(exchange.headers["x-homeport-deployment"])
    assert all(len(seen) == 1 for seen in homes.values())
    assert sorted(min(seen) for seen in homes.values()) == ["first", "first", "second", "second"]


@both_dialects
@streams
@pytest.mark.parametrize("status", [429, 500, 503, 401])
async def test_another_is_asked_where_one_fails(
    served: Any, engine: FakeEngine, other: FakeEngine, dialect: Dialect, stream: bool, status: int
) -> None:
    gateway = served(SHARED, other=other.base_url)
    engine.script(Answer(status=status, text="no"))
    exchange, _ = await asked(gateway, dialect, "shared", stream=stream)
    assert exchange.status == 200
    assert exchange.headers["x-homeport-deployment"] == "second"
    again, _ = await asked(gateway, dialect, "shared", stream=stream)
    assert again.headers["x-homeport-deployment"] == "second"  # the first one rests
    assert len(engine.chats()) == 1


@both_dialects
async def test_what_is_wrong_with_the_request_is_told_at_once(
    served: Any, engine: FakeEngine, other: FakeEngine, dialect: Dialect
) -> None:
    gateway = served(SHARED, other=other.base_url)
    engine.script(Answer(status=400, text="no"))
    exchange, _ = await asked(gateway, dialect, "shared", stream=False)
    assert exchange.status == 400
    assert not other.chats()


@both_dialects
@streams
async def test_fallbacks_follow(
    served: Any, engine: FakeEngine, dialect: Dialect, stream: bool
) -> None:
    gateway = served(SHARED, other=f"http://127.0.0.1:{free_port()}/v1")
    engine.script(Answer(status=500, text="no"), Answer(text="from the spare"))
    exchange, text = await asked(gateway, dialect, "shared", stream=stream)
    assert (exchange.status, text) == (200, "from the spare")
    assert exchange.headers["x-homeport-model-fallback"] == "spare"
    assert engine.chats()[-1]["body"]["model"] == "spare"


@both_dialects
async def test_the_last_failure_is_told(
    served: Any, engine: FakeEngine, other: FakeEngine, dialect: Dialect
) -> None:
    gateway = served(SHARED, other=other.base_url)
    engine.script(Answer(status=500, text="one"), Answer(status=429, text="two"))
    other.script(Answer(status=503, text="three"))
    exchange, _ = await asked(gateway, dialect, "shared", stream=False)
    assert exchange.status == 429


@both_dialects
async def test_nothing_is_retried_after_the_first_byte(
    served: Any, engine: FakeEngine, other: FakeEngine, dialect: Dialect
) -> None:
    gateway = served(SHARED, other=other.base_url)
    engine.script(Answer(text="a few words, and then", then="cut", at=3))
    request = dialect.request(stream=True, model="shared")
    async with await ask(gateway.base_url, "POST", dialect.path, request) as exchange:
        assert dialect.errors(await exchange.all_events())
    assert not other.chats()
    after, _ = await asked(gateway, dialect, "shared", stream=True)
    assert after.headers["x-homeport-deployment"] == "second"  # the one that broke off rests
