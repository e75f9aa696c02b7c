"""The real LiteLLM beside homeport: client → homeport → LiteLLM → homeport → llama.cpp, and back.

The demo model says what it was trained to say; a fake engine plays the provider that only LiteLLM
reaches.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import signal
import stat
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from homeport.demo import demo_model_path
from homeport.engines.llamacpp import DEFAULT_CTX
from tests.e2e.dialects import ANTHROPIC, BOTH, OPENAI, Dialect
from tests.e2e.raw_client import ask, send
from tests.support import anthropic_grammar
from tests.support.engine import Answer, FakeEngine
from tests.support.gateway import free_port
from tests.support.litellm_beside import Beside, is_litellm

pytestmark = [pytest.mark.slow_litellm, pytest.mark.timeout(300)]

both_dialects = pytest.mark.parametrize("dialect", BOTH, ids=str)
streams = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
HELLO = "Hello! How can I help you today?"
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = "What is the weather in Paris?"
WITHIN_S = 20.0
GONE_WITHIN_S = 2.0

CONFIG = """\
models:
  native: {{path: "{demo}"}}
  around: {{path: "{demo}", via: litellm}}
  around-messages: {{path: "{demo}", via: litellm, dialect: anthropic}}
  beyond:
    via: litellm
    upstream_model: hosted_vllm/fake
    litellm_params: {{api_base: "{provider}", api_key: os.environ/PROVIDER_KEY}}
  circle:
    via: litellm
    upstream_model: hosted_vllm/circle
    litellm_params: {{api_base: "{gateway}/v1"}}
aliases: {{far: beyond, claude-*: native}}
default_model: native
"""


@pytest.fixture(scope="module")
def provider() -> Iterator[FakeEngine]:
    with FakeEngine() as engine:
        yield engine


@pytest.fixture(scope="module")
def beside(provider: FakeEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Beside]:
    folder = tmp_path_factory.mktemp("beside")
    port = free_port()
    own, demo = f"http://127.0.0.1:{port}", demo_model_path()
    config = CONFIG.format(demo=demo, provider=provider.base_url, gateway=own)
    env = {"PROVIDER_KEY": "provider-key", "SOME_SECRET": "hidden"}
    with Beside(folder, config, env=env, port=port) as started:
        yield started
    started.gateway.assert_no_internal_error()


@pytest.fixture(params=["gateway", "litellm"])
def door(request: pytest.FixtureRequest, beside: Beside) -> str:
    """Both ports lead the same way."""
    return beside.gateway.base_url if request.param == "gateway" else beside.base_url


async def said(url: str, dialect: Dialect, stream: bool, **request: Any) -> dict[str, Any]:
    """Text, calls and usage of an answer, read from either form."""
    body = dialect.request(stream=stream) | {"max_tokens": 128, "temperature": 0} | request
    async with await ask(url, "POST", dialect.path, body) as exchange:
        if exchange.status != 200:
            return {"status": exchange.status, "error": await exchange.json()}
        if stream:
            events = await exchange.all_events()
            return read_stream(dialect, events)
        return read_whole(dialect, await exchange.json())


def read_whole(dialect: Dialect, answer: dict[str, Any]) -> dict[str, Any]:
    if dialect is ANTHROPIC:
        texts = [b["text"] for b in answer["content"] if b["type"] == "text"]
        calls = [(b["name"], b["input"]) for b in answer["content"] if b["type"] == "tool_use"]
        usage = answer["usage"]["output_tokens"]
    else:
        message = answer["choices"][0]["message"]
        texts = [message.get("content") or ""]
        functions = [call["function"] for call in message.get("tool_calls") or ()]
        calls = [(f["name"], json.loads(f["arguments"])) for f in functions]
        usage = answer["usage"]["completion_tokens"]
    return {"text": "".join(texts), "calls": calls, "completion": usage, "model": answer["model"]}


def read_stream(dialect: Dialect, events: list[Any]) -> dict[str, Any]:
    assert dialect.ended_well(events), events
    chunks = [event.json() for event in events if event.data != "[DONE]"]
    calls: dict[int, list[str]] = {}
    completion = 0
    for chunk in chunks:
        if dialect is ANTHROPIC:
            if chunk["type"] == "content_block_start":
                if (block := chunk["content_block"])["type"] == "tool_use":
                    calls[chunk["index"]] = [block["name"], ""]
            elif chunk["type"] == "content_block_delta":
                calls.get(chunk["index"], ["", ""])[1] += chunk["delta"].get("partial_json", "")
            elif chunk["type"] == "message_delta":
                completion = chunk["usage"]["output_tokens"]
        else:
            for choice in chunk["choices"]:
                for call in choice["delta"].get("tool_calls") or ():
                    known = calls.setdefault(call["index"], ["", ""])
                    known[0] += call["function"].get("name") or ""
                    known[1] += call["function"].get("arguments") or ""
            completion = (chunk.get("usage") or {}).get("completion_tokens", completion)
    first = chunks[0]["message"] if dialect is ANTHROPIC else chunks[0]
    return {
        "text": dialect.text_of(events),
        "calls": [(name, json.loads(arguments)) for name, arguments in calls.values()],
        "completion": completion,
        "model": first["model"],
    }


def tools_of(dialect: Dialect) -> list[dict[str, Any]]:
    if dialect is ANTHROPIC:
        return [{"name": "get_weather", "description": "Weather of a city", "input_schema": CITY}]
    function = {"name": "get_weather", "description": "Weather of a city", "parameters": CITY}
    return [{"type": "function", "function": function}]


# --- there and back -----------------------------------------------------------------------------


@both_dialects
@streams
@pytest.mark.parametrize("model", ["native", "around", "around-messages", "claude-opus-5"])
async def test_both_ports_answer(door: str, dialect: Dialect, stream: bool, model: str) -> None:
    answer = await said(door, dialect, stream, model=model)
    assert answer["text"] == HELLO, answer
    assert answer["completion"] > 5
    assert answer["model"] == model or door.endswith(str(model)) or model == "claude-opus-5"


@both_dialects
@streams
@pytest.mark.parametrize("model", ["native", "around", "around-messages"])
async def test_tools_come_back(door: str, dialect: Dialect, stream: bool, model: str) -> None:
    question = [{"role": "user", "content": WEATHER}]
    tools = tools_of(dialect)
    answer = await said(door, dialect, stream, model=model, messages=question, tools=tools)
    assert answer["calls"] == [("get_weather", {"city": "Paris"})], answer


async def test_a_stream_through_litellm_is_a_legal_one(beside: Beside) -> None:
    for url, model in ((beside.gateway.base_url, "around"), (beside.base_url, "native")):
        request = ANTHROPIC.request(stream=True, model=model)
        async with await ask(url, "POST", ANTHROPIC.path, request) as exchange:
            raw = await exchange.body()
        anthropic_grammar.read(raw)


async def test_litellm_says_which_models_there_are(beside: Beside) -> None:
    async with await ask(beside.base_url, "GET", "/v1/models") as exchange:
        listed = {model["id"] for model in (await exchange.json())["data"]}
    expected = {"local-model", "native", "around", "around-messages", "beyond", "circle"}
    assert listed == expected


@both_dialects
@pytest.mark.parametrize("model", ["around", "around-messages"])
async def test_an_overflow_is_one_behind_litellm_too(
    beside: Beside, dialect: Dialect, model: str
) -> None:
    too_long = [{"role": "user", "content": "word " * (DEFAULT_CTX + 100)}]
    answer = await said(beside.gateway.base_url, dialect, False, model=model, messages=too_long)
    error = dialect.error_in(answer["error"])
    assert answer["status"] == 400, answer
    if dialect is ANTHROPIC:
        assert error["message"].startswith("prompt is too long: "), error
    else:
        assert error["code"] == "context_length_exceeded", error


# --- whom only LiteLLM reaches ------------------------------------------------------------------


@both_dialects
@streams
async def test_a_provider_beyond_answers(
    beside: Beside, provider: FakeEngine, door: str, dialect: Dialect, stream: bool
) -> None:
    provider.reset()
    provider.script(Answer(text="from beyond"))
    answer = await said(door, dialect, stream, model="far")
    assert answer["text"] == "from beyond", answer
    [request] = provider.requests("/v1/chat/completions")
    assert request["headers"]["authorization"] == "Bearer provider-key"
    assert not [name for name in request["headers"] if "session" in name]


@both_dialects
async def test_an_error_beyond_is_said_in_the_clients_words(
    beside: Beside, provider: FakeEngine, dialect: Dialect
) -> None:
    provider.reset()
    provider.script(
        Answer(status=429, body={"error": {"message": "slow down", "type": "rate_limit"}})
    )
    answer = await said(beside.gateway.base_url, dialect, False, model="beyond")
    assert answer["status"] == 429, answer
    assert "slow down" in dialect.error_in(answer["error"])["message"]


@both_dialects
@pytest.mark.parametrize("model", ["circle"])
async def test_what_leads_back_here_ends(beside: Beside, dialect: Dialect, model: str) -> None:
    answer = await said(beside.gateway.base_url, dialect, False, model=model)
    assert answer["status"] == 400, answer
    assert "in circles" in dialect.error_in(answer["error"])["message"]


# --- who may come in ----------------------------------------------------------------------------


async def test_pages_of_a_browser_are_kept_out(beside: Beside) -> None:
    body = OPENAI.request(stream=False, model="native")
    for headers in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}):
        async with await ask(
            beside.base_url, "POST", OPENAI.path, body, headers=headers
        ) as exchange:
            assert exchange.status == 403, await exchange.body()


async def test_the_internal_routes_are_litellms(beside: Beside) -> None:
    for route in ("admit", "model", "usage"):
        path = f"/internal/litellm/{route}"
        async with await ask(beside.gateway.base_url, "POST", path, {}) as exchange:
            assert exchange.status == 401


def test_litellm_sees_little_of_the_environment(beside: Beside) -> None:
    [process] = beside.processes()
    env = process.environ()
    assert env["PROVIDER_KEY"] == "provider-key"
    assert "SOME_SECRET" not in env
    assert "HOMEPORT_HOME" not in env
    file = beside.config_file()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert env["HOMEPORT_INTERNAL_KEY"] not in file.read_text("utf-8")
    assert env["LITELLM_MASTER_KEY"] not in " ".join(process.cmdline())


# --- the callback -------------------------------------------------------------------------------


def metric(beside: Beside, name: str) -> float:
    lines = (line for line in beside.gateway.metrics() if line.startswith(name))
    return sum(float(line.rpartition(" ")[2]) for line in lines)


async def until(what: Any) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not what():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def admin(beside: Beside, method: str, path: str) -> Any:
    [announced] = (beside.config_file().parents[1] / "running").glob("*.json")
    key = json.loads(announced.read_text("utf-8"))["key"]
    headers = {"authorization": f"Bearer {key}"}
    url = beside.gateway.base_url
    async with await ask(url, method, f"/admin/models{path}", None, headers=headers) as exchange:
        assert exchange.status == 200, await exchange.body()
        return await exchange.json()


async def test_the_callback_has_the_model_loaded(beside: Beside) -> None:
    """LiteLLM refuses the request itself, and does so after its callback: that is what loads."""
    await admin(beside, "POST", "/native/unload")
    assert (await admin(beside, "GET", "/native"))["state"] == "stopped"
    asked = metric(beside, "homeport_requests_total")
    body = OPENAI.request(stream=False, model="claude-sonnet-5")
    body["messages"] = [{"role": "user", "content": [{"type": "no such type"}]}]
    async with await ask(beside.base_url, "POST", OPENAI.path, body) as exchange:
        assert "Invalid user message" in (await exchange.json())["error"]["message"]
    assert metric(beside, "homeport_requests_total") == asked
    deadline = time.monotonic() + WITHIN_S
    while (await admin(beside, "GET", "/native"))["state"] != "ready":
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def test_usage_is_reported(beside: Beside, provider: FakeEngine, door: str) -> None:
    provider.reset()
    asked = "direct" if door == beside.base_url else "relayed"
    name = f'homeport_litellm_calls_total{{asked="{asked}",outcome="ok"}}'
    before = metric(beside, name)
    await said(door, OPENAI, False, model="beyond")
    await until(lambda: metric(beside, name) == before + 1)


async def test_conversations_keep_their_cache(beside: Beside, door: str) -> None:
    """The session's header comes through, so that the second turn meets the slot of the first."""
    headers = {"x-session-id": f"session-of-{door[-5:]}"}
    messages = [{"role": "user", "content": "Say this: " + "alpha beta gamma " * 60}]
    cached = []
    for _ in range(2):
        body = OPENAI.request(stream=False, model="native") | {"messages": messages}
        async with await ask(door, "POST", OPENAI.path, body, headers=headers) as exchange:
            answer = await exchange.json()
        cached.append(answer["usage"]["prompt_tokens_details"]["cached_tokens"])
        messages.append({"role": "assistant", "content": HELLO})
        messages.append({"role": "user", "content": "Hello"})
        async with await ask(  # somebody else's turn in between
            door, "POST", OPENAI.path, OPENAI.request("Hi", stream=False, model="native")
        ) as exchange:
            assert exchange.status == 200
    assert cached[1] > 100, cached


# --- leaving, and dying -------------------------------------------------------------------------


@both_dialects
@streams
async def test_who_leaves_ends_the_generation(
    beside: Beside, provider: FakeEngine, door: str, dialect: Dialect, stream: bool
) -> None:
    provider.reset()
    provider.script(
        Answer(
            text="word " * 2000,
            delay_between_s=0.02,
            then="stall",
            at="end" if stream else "headers",
        )
    )
    request = dialect.request(stream=stream, model="beyond")
    exchange = await send(door, "POST", dialect.path, request)
    await provider.happens("request")
    if stream:
        await exchange.answered()
        await anext(aiter(exchange.events()))
    await exchange.leave()
    await provider.happens("disconnect")
    beside.gateway.wait_idle()


@both_dialects
@pytest.mark.parametrize("has_begun", [False, True], ids=["before", "in the middle"])
async def test_litellm_killed_is_told_and_started_again(
    beside: Beside, provider: FakeEngine, dialect: Dialect, has_begun: bool
) -> None:
    provider.reset()
    slow = Answer(text="word " * 2000, delay_between_s=0.05)
    provider.script(slow if has_begun else replace(slow, delay_headers_s=60.0))
    [before] = beside.processes()
    request = dialect.request(stream=True, model="beyond")
    async with await send(beside.gateway.base_url, "POST", dialect.path, request) as exchange:
        await provider.happens("request")
        if has_begun:
            await exchange.answered()
            events = exchange.events()
            async for event in events:
                if "word" in event.data:
                    break
        before.send_signal(signal.SIGKILL)
        if has_begun:
            rest = [event async for event in events]
            assert len(dialect.errors(rest)) == 1, rest[-3:]
        else:  # the client has been sent nothing: it is asked again when LiteLLM is back
            await exchange.answered()
            assert dialect.ended_well(await exchange.all_events())
    await until(lambda: [p for p in beside.processes() if p.pid != before.pid])
    answer = await said(beside.gateway.base_url, dialect, False, model="around")
    assert answer["text"] == HELLO, answer


async def test_homeport_killed_leaves_no_litellm(tmp_path: Path) -> None:
    with Beside(tmp_path, f'models: {{native: {{path: "{demo_model_path()}"}}}}\n') as beside:
        family = beside.gateway.children()
        [process] = beside.processes()
        assert is_litellm(process)
        psutil.Process(beside.gateway.pid).kill()
        _, alive = psutil.wait_procs(family, timeout=GONE_WITHIN_S)
        assert alive == []


async def test_keys_hold_at_both_ports(tmp_path: Path) -> None:
    key = "hp-" + "k" * 40
    digest = hashlib.sha256(key.encode()).hexdigest()
    config = (
        f"server: {{keys: [{{name: laptop, sha256: {digest}}}]}}\n"
        f'models: {{native: {{path: "{demo_model_path()}"}}}}\n'
    )
    with Beside(tmp_path, config) as beside:
        for dialect in BOTH:
            body = dialect.request(stream=False, model="native")
            for headers, status in (
                ({}, 401),
                ({"authorization": "Bearer wrong"}, 401),
                ({"authorization": f"Bearer {key}"}, 200),
                ({"x-api-key": key}, 200),
            ):
                async with await ask(
                    beside.base_url, "POST", dialect.path, body, headers=headers
                ) as exchange:
                    assert exchange.status == status, await exchange.body()


async def test_a_new_configuration_is_told_to_litellm(tmp_path: Path, provider: FakeEngine) -> None:
    """What only LiteLLM reaches is in its file: another LiteLLM takes the place and the port."""
    provider.reset()
    native = f'models:\n  native: {{path: "{demo_model_path()}"}}\n'
    beyond = (
        "  beyond: {via: litellm, upstream_model: hosted_vllm/fake, "
        f'litellm_params: {{api_base: "{provider.base_url}"}}}}\n'
    )
    with Beside(tmp_path, native) as beside:
        [before] = beside.processes()
        engine = (await admin(beside, "GET", "/native"))["pid"]
        (tmp_path / "config.yaml").write_text(native + beyond, "utf-8")
        psutil.Process(beside.gateway.pid).send_signal(signal.SIGHUP)
        await until(lambda: [p for p in beside.processes() if p.pid != before.pid])
        provider.script(Answer(text="from beyond"))
        answer = await said(beside.gateway.base_url, OPENAI, False, model="beyond")
        assert answer["text"] == "from beyond", answer
        assert [p.pid for p in beside.processes()] != [before.pid]
        assert (await admin(beside, "GET", "/native"))["pid"] == engine
