"""The real mlx_lm.server, on a CPU, beside the real llama.cpp: one port, and the same weights in both.

What MLX lacks by itself (`tool_choice`, a context, exact counts, to stop when nobody listens) is asked
of it here: `runtime.mlx_child` adds it, in MLX's own Python. `plain` is the server as it comes, for
which the gateway has to make up. One gateway for the whole module.
"""

from __future__ import annotations

import json
import shlex
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import psutil
import pytest

from homeport.demo import demo_model_path
from tests.e2e.test_same_text import DIALECTS, PROMPTS, Body, Prompt, asked, streamed
from tests.support import demo_hf, mlx_env
from tests.support.gateway import Gateway, free_port

pytestmark = [pytest.mark.mlx, pytest.mark.llamacpp, pytest.mark.timeout(900)]

CTX = 2048
LONG = "word " * 2 * CTX
WEATHER = "What is the weather in Paris?"
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
NAMES = ("get_weather", "get_time")
OPENAI_TOOLS: Any = [
    {"type": "function", "function": {"name": name, "description": name, "parameters": CITY}}
    for name in NAMES
]
ANTHROPIC_TOOLS: Any = [{"name": name, "description": name, "input_schema": CITY} for name in NAMES]
GREEDY: Any = {"temperature": 0}
NEVER_ENDS = 1800
"""Tokens of an answer that is not let end; some ten seconds."""
SOON_S = 30.0


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model as Hugging Face has them. mlx_lm guesses from the template how a model writes its
    calls, and does not know this one's: the file says so, as any model's may."""
    folder = demo_hf.write(tmp_path_factory.mktemp("weights") / "demo")
    file = folder / "tokenizer_config.json"
    told = {**json.loads(file.read_text("utf-8")), "tool_parser_type": "json_tools"}
    file.write_text(json.dumps(told), "utf-8")
    return folder


@pytest.fixture(scope="module")
def ports() -> dict[str, int]:
    return {"MLX_DYNAMIC_PORT": free_port(), "MLX_AUTOCOMPLETE_PORT": free_port()}


@pytest.fixture(scope="module")
def gateway(
    weights: Path, ports: dict[str, int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    folder, python = tmp_path_factory.mktemp("gateway"), str(mlx_env.python())
    script = folder / "plain_mlx"
    script.write_text(f'#!/bin/sh\nexec {shlex.quote(python)} -m mlx_lm server "$@"\n')
    script.chmod(0o755)
    mlx = {"path": str(weights), "engine": "mlx", "ctx": CTX}
    models = {
        "mlx": {**mlx, "binary": python},
        "completer": {**mlx, "binary": python, "ctx": 512},
        "llama": {"path": str(demo_model_path()), "engine": "llamacpp", "ctx": CTX},
        "plain": {**mlx, "binary": str(script)},
    }
    settings = {"models": models, "default_model": "mlx", "autocomplete_model": "completer"}
    config = folder / "config.yaml"
    config.write_text(json.dumps(settings))  # JSON is YAML
    env = {name: str(port) for name, port in ports.items()}
    with Gateway(folder, "--config", str(config), env=env) as gateway:
        yield gateway
    gateway.assert_no_internal_error()


@pytest.fixture(scope="module")
def gpt(gateway: Gateway) -> Iterator[openai.OpenAI]:
    url = f"{gateway.base_url}/v1"
    with openai.OpenAI(base_url=url, api_key="local", timeout=120, max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def claude(gateway: Gateway) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(
        base_url=gateway.base_url, api_key="local", timeout=120, max_retries=0
    ) as client:
        yield client


def user(text: str) -> Any:
    return [{"role": "user", "content": text}]


def engine(gateway: Gateway, port: int) -> psutil.Process:
    """The process that serves MLX on that port."""
    for process in gateway.children():
        words = process.cmdline()
        if ["--port", str(port)] in [words[i : i + 2] for i in range(len(words))] and not any(
            word.endswith("shim.py") for word in words
        ):
            return process
    raise AssertionError(f"nothing of the gateway's is on port {port}")


# --- the same answers -----------------------------------------------------------------------


@pytest.mark.parametrize("prompt", PROMPTS, ids=["plain", "system", "unicode", "turns"])
@pytest.mark.parametrize("name", DIALECTS)
def test_both_engines_say_the_same(gateway: Gateway, name: str, prompt: Prompt) -> None:
    """Of the same f16 weights, greedily. Each rounds in its own way; so they are asked for what the
    model was trained to say, of which it is far more sure than any rounding is wrong."""
    dialect = DIALECTS[name]
    url = f"{gateway.base_url}{dialect.path}"

    def said(model: str) -> str:
        body = {**dialect.body(prompt), "model": model}
        body.pop("seed")
        whole = dialect.text(json.loads(asked(url, body)))
        assert streamed(asked(url, {**body, "stream": True}), dialect.delta) == whole
        return whole

    assert said("mlx") == said("llama") != ""


def calls_of(gpt: openai.OpenAI, model: str, text: str = WEATHER, **options: Any) -> list[Any]:
    answer = gpt.chat.completions.create(
        model=model, messages=user(text), tools=OPENAI_TOOLS, max_tokens=64, **GREEDY, **options
    )
    calls = [c.function for c in answer.choices[0].message.tool_calls or [] if c.type == "function"]
    assert answer.choices[0].finish_reason == ("tool_calls" if calls else "stop")
    return [(call.name, json.loads(call.arguments)) for call in calls]


def used(
    claude: anthropic.Anthropic, model: str, text: str = WEATHER, **options: Any
) -> list[tuple[str, object]]:
    with claude.messages.stream(
        model=model,
        max_tokens=64,
        messages=user(text),
        tools=ANTHROPIC_TOOLS,
        extra_body=GREEDY,
        **options,
    ) as stream:
        message = stream.get_final_message()
    blocks = [block for block in message.content if block.type == "tool_use"]
    assert message.stop_reason == ("tool_use" if blocks else "end_turn")
    return [(block.name, block.input) for block in blocks]


def test_both_engines_call_the_same_tool(gpt: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    expected = [("get_weather", {"city": "Paris"})]
    assert calls_of(gpt, "mlx") == calls_of(gpt, "llama") == expected
    assert used(claude, "mlx") == used(claude, "llama") == expected


# --- tool_choice ----------------------------------------------------------------------------


def named(name: str) -> Any:
    return {"type": "function", "function": {"name": name}}


def test_a_tool_that_must_be_called_is(gpt: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    """Also where the model would rather talk."""
    assert calls_of(gpt, "mlx", "Hello!") == []
    assert calls_of(gpt, "mlx", "Hello!", tool_choice="required") != []
    assert used(claude, "mlx", "Hello!", tool_choice={"type": "any"}) != []
    assert [n for n, _ in calls_of(gpt, "mlx", tool_choice=named("get_time"))] == ["get_time"]
    choice = {"type": "tool", "name": "get_time"}
    assert [n for n, _ in used(claude, "mlx", tool_choice=choice)] == ["get_time"]


def test_no_tool_is_called_that_must_not_be(
    gpt: openai.OpenAI, claude: anthropic.Anthropic
) -> None:
    assert calls_of(gpt, "mlx", tool_choice="none") == []
    assert used(claude, "mlx", tool_choice={"type": "none"}) == []


def test_the_plain_server_cannot_be_made_to_call(
    gpt: openai.OpenAI, claude: anthropic.Anthropic
) -> None:
    assert used(claude, "plain") == [("get_weather", {"city": "Paris"})]
    with pytest.raises(openai.BadRequestError, match="cannot be made to call"):
        calls_of(gpt, "plain", tool_choice="required")
    with pytest.raises(anthropic.BadRequestError, match="cannot be made to call"):
        used(claude, "plain", tool_choice={"type": "tool", "name": "get_time"})


# --- what it cannot do ----------------------------------------------------------------------


def test_a_schema_is_refused(gpt: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    schema = {**CITY, "additionalProperties": False}
    chat: Any = {"type": "json_schema", "json_schema": {"name": "city", "schema": schema}}
    with pytest.raises(openai.BadRequestError, match="to a schema") as refused:
        gpt.chat.completions.create(model="mlx", messages=user("Hi"), response_format=chat)
    assert refused.value.param == "response_format"
    with pytest.raises(anthropic.BadRequestError, match="to a schema"):
        claude.messages.create(
            model="mlx",
            max_tokens=8,
            messages=user("Hi"),
            output_config={"format": {"type": "json_schema", "schema": schema}},
        )


def test_several_answers_are_refused(gpt: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="one answer at a time"):
        gpt.chat.completions.create(model="mlx", messages=user("Hi"), n=2)


# --- the context ----------------------------------------------------------------------------


def test_its_context_is_told(gpt: openai.OpenAI) -> None:
    """By each when it has loaded: by ours itself, by the gateway for the plain one."""
    for model in ("mlx", "completer", "plain"):
        gpt.chat.completions.create(model=model, messages=user("Hello!"), max_tokens=1)
    told = {m.id: m.model_dump().get("context_length") for m in gpt.models.list()}
    assert (told["mlx"], told["completer"], told["plain"]) == (CTX, 512, CTX)


def test_what_does_not_fit_is_refused_in_the_words_of_each_dialect(
    gpt: openai.OpenAI, claude: anthropic.Anthropic
) -> None:
    with pytest.raises(anthropic.BadRequestError, match=rf"prompt is too long: \d+ .* {CTX}"):
        claude.messages.create(model="mlx", max_tokens=8, messages=user(LONG))
    with pytest.raises(openai.BadRequestError, match=f"maximum context length is {CTX}") as chat:
        gpt.chat.completions.create(model="mlx", messages=user(LONG))
    assert chat.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError) as responses:
        gpt.responses.create(model="mlx", input=LONG)
    assert responses.value.code == "context_length_exceeded"


def test_an_answer_ends_with_the_context(gpt: openai.OpenAI, weights: Path) -> None:
    """And not after 512 tokens, as mlx_lm does by itself."""
    answer = gpt.chat.completions.create(
        model="completer", messages=user("Hello!"), logit_bias=endless(weights), **GREEDY
    )
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 512


def test_tokens_are_counted_exactly(claude: anthropic.Anthropic) -> None:
    options: Any = {"model": "mlx", "messages": user(WEATHER), "tools": ANTHROPIC_TOOLS}
    counted = claude.messages.count_tokens(**options).input_tokens
    with claude.messages.stream(**options, max_tokens=8) as stream:
        started = next(event for event in stream if event.type == "message_start")
        usage = stream.get_final_message().usage
    assert counted == usage.input_tokens + (usage.cache_read_input_tokens or 0)
    assert started.message.usage.input_tokens == counted


# --- who may ask it, and where --------------------------------------------------------------


def test_two_of_them_side_by_side(
    gateway: Gateway, gpt: openai.OpenAI, ports: dict[str, int]
) -> None:
    """The default and the autocomplete model, each on the port that it was promised."""
    completion = gpt.completions.with_raw_response.create(model="x", prompt="Hel", max_tokens=4)
    assert completion.headers["x-homeport-model"] == "completer"
    chat = gpt.chat.completions.with_raw_response.create(
        model="x", messages=user("Hello!"), max_tokens=4
    )
    assert chat.headers["x-homeport-model"] == "mlx"
    big, small = (engine(gateway, port) for port in ports.values())
    assert big.pid != small.pid


def test_nobody_else_may_ask_it(gateway: Gateway, ports: dict[str, int]) -> None:
    url = f"http://127.0.0.1:{ports['MLX_DYNAMIC_PORT']}/v1/chat/completions"
    body = {"messages": user("Hello!"), "max_tokens": 4}
    with pytest.raises(urllib.error.HTTPError, match="401"):
        asked(url, body, key="guess")
    key = engine(gateway, ports["MLX_DYNAMIC_PORT"]).environ()["HOMEPORT_ENGINE_KEY"]
    assert json.loads(asked(url, body, key))["choices"]


def test_it_refuses_what_does_not_fit_itself(gateway: Gateway, ports: dict[str, int]) -> None:
    """The gateway does not always wait for a count."""
    port = ports["MLX_DYNAMIC_PORT"]
    key = engine(gateway, port).environ()["HOMEPORT_ENGINE_KEY"]
    with pytest.raises(urllib.error.HTTPError) as refused:
        asked(f"http://127.0.0.1:{port}/v1/chat/completions", {"messages": user(LONG)}, key)
    told = json.load(refused.value)["error"]
    assert (refused.value.code, told["n_ctx"]) == (400, CTX)
    assert told["n_prompt_tokens"] > CTX


# --- clients that leave ---------------------------------------------------------------------


def endless(weights: Path) -> Any:
    """A bias against all ends."""
    config = json.loads((weights / "config.json").read_text("utf-8"))
    return {str(config["eos_token_id"]): -100, str(config["pad_token_id"]): -100}


def ask_and_leave(gateway: Gateway, body: Body, process: psutil.Process) -> None:
    """As soon as it computes."""
    data = json.dumps(body).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
    head += f"content-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
    before = busy_s(process)
    with socket.create_connection(("127.0.0.1", gateway.port)) as connection:
        connection.sendall(head.encode() + data)
        until(lambda: busy_s(process) > before + 0.5, "it does not compute")


def busy_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def rests(process: psutil.Process) -> bool:
    before = busy_s(process)
    time.sleep(0.5)
    return busy_s(process) < before + 0.1


def until(what: Any, otherwise: str) -> None:
    deadline = time.monotonic() + SOON_S
    while not what():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.05)


@pytest.mark.parametrize("stream", [True, False])
def test_nothing_is_computed_for_who_has_left(
    gateway: Gateway, gpt: openai.OpenAI, weights: Path, ports: dict[str, int], stream: bool
) -> None:
    process = engine(gateway, ports["MLX_DYNAMIC_PORT"])
    body = {"model": "mlx", "messages": user("Hello!"), "stream": stream}
    bias = {"logit_bias": endless(weights), "max_tokens": NEVER_ENDS}
    began = busy_s(process)
    ask_and_leave(gateway, {**body, **bias, **GREEDY}, process)
    until(lambda: rests(process), "it computes on")
    assert busy_s(process) < began + 6, "that was the whole answer"
    gateway.wait_idle()
    answer = gpt.chat.completions.create(model="mlx", messages=user("Hello!"), **GREEDY)
    assert answer.choices[0].message.content == "Hello! How can I help you today?"
    assert engine(gateway, ports["MLX_DYNAMIC_PORT"]).pid == process.pid


def test_the_plain_server_is_replaced_when_it_computes_for_nobody(
    gateway: Gateway, gpt: openai.OpenAI, weights: Path
) -> None:
    """It never looks whether anybody waits for a whole answer. This one would take it minutes."""
    gpt.chat.completions.create(model="plain", messages=user("Hello!"), max_tokens=1)
    process = plain(gateway)
    bias = {"logit_bias": endless(weights), "max_tokens": 20 * NEVER_ENDS}
    ask_and_leave(gateway, {"model": "plain", "messages": user("Hello!"), **bias}, process)
    psutil.wait_procs([process], timeout=SOON_S)
    assert not process.is_running(), "it computes on"
    answer = gpt.chat.completions.create(model="plain", messages=user("Hello!"), **GREEDY)
    assert answer.choices[0].message.content == "Hello! How can I help you today?"
    assert plain(gateway).pid != process.pid
    assert 'homeport_model_recycles_total{model="plain"} 1.0' in gateway.metrics()
    assert 'homeport_model_crashes_total{model="plain"} 1.0' not in gateway.metrics()
    assert "instance.recycled" in gateway.output()


def plain(gateway: Gateway) -> psutil.Process:
    (process,) = (p for p in gateway.children() if p.cmdline()[1:4] == ["-m", "mlx_lm", "server"])
    return process
