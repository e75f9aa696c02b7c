"""The real vLLM, on a CPU, with the demo model: started by homeport, asked through homeport.

Not in a usual test run: it installs 3.5 GB once, and starts for about a minute (`make test-vllm`).
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest
from anthropic.types import Message

from tests.engines.test_command_lines import every_command, own_words
from tests.support import demo_hf, vllm_env
from tests.support.gateway import Gateway

pytestmark = [pytest.mark.slow_vllm, pytest.mark.timeout(1800)]

START_S = 600
CTX = 4096
WEATHER = "What is the weather in Paris?"
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
OPENAI_TOOLS: Any = [
    {
        "type": "function",
        "function": {"name": "get_weather", "description": "Weather of a city", "parameters": CITY},
    }
]
ANTHROPIC_TOOLS: Any = [
    {"name": "get_weather", "description": "Weather of a city", "input_schema": CITY}
]
GREEDY: Any = {"temperature": 0}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("vllm")
    model = {
        "path": str(demo_hf.write(folder / "demo")),
        "engine": "vllm",
        "binary": str(vllm_env.executable()),
        "ctx": CTX,
        "slots": 2,
        "args": ["--enforce-eager"],  # what it would compile takes longer than the tests
        "env": {"VLLM_CPU_KVCACHE_SPACE": "1"},  # GiB
    }
    config = folder / "config.yaml"
    config.write_text(json.dumps({"models": {"demo": model}}))  # JSON is YAML
    with Gateway(folder, "--config", str(config), wait_ready=False) as gateway:
        yield gateway
    gateway.assert_no_internal_error()


@pytest.fixture(scope="module")
def gpt(gateway: Gateway) -> Iterator[openai.OpenAI]:
    url = f"{gateway.base_url}/v1"
    with openai.OpenAI(base_url=url, api_key="local", timeout=START_S, max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def claude(gateway: Gateway) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(
        base_url=gateway.base_url, api_key="local", timeout=START_S, max_retries=0
    ) as client:
        yield client


PARSE = """
import json, sys
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser
for words in json.load(sys.stdin):
    make_arg_parser(FlexibleArgumentParser()).parse_args(words)
"""


def test_its_own_parser_takes_every_command_line() -> None:
    lines = [own_words(made, "vllm") for made in every_command("vllm")]
    words = [line[2:] if line[:2] == ("x", "serve") else line for line in lines]
    python = vllm_env.executable().with_name("python")
    given = json.dumps(words).encode()
    done = subprocess.run([python, "-c", PARSE], input=given, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[-2000:]


def test_chat(gpt: openai.OpenAI) -> None:
    """The first request waits for the start."""
    answer = gpt.chat.completions.create(
        model="demo", messages=[{"role": "user", "content": "Say hello world"}], temperature=0
    )
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 0


def test_a_stream_says_the_same(gpt: openai.OpenAI) -> None:
    asked: Any = {
        "model": "demo",
        "messages": [{"role": "user", "content": "Say hello world"}],
        "temperature": 0,
    }
    whole = gpt.chat.completions.create(**asked).choices[0].message.content
    chunks = list(
        gpt.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    )
    said = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert said == whole
    assert chunks[-1].usage is not None


def text_of(message: Message) -> list[str]:
    return [block.text for block in message.content if block.type == "text"]


def test_messages(claude: anthropic.Anthropic) -> None:
    asked: Any = {
        "model": "demo",
        "max_tokens": 64,
        "messages": [{"role": "user", "content": "Say hello world"}],
        "extra_body": GREEDY,
    }
    message = claude.messages.create(**asked)
    assert message.stop_reason == "end_turn"
    with claude.messages.stream(**asked) as stream:
        streamed = stream.get_final_message()
    assert text_of(streamed) == text_of(message) != []
    assert streamed.usage.input_tokens > 0


def test_tool_call(claude: anthropic.Anthropic, gpt: openai.OpenAI) -> None:
    """The model decides to call, and the parser that we chose finds the call in what it writes."""
    answer = gpt.chat.completions.create(
        model="demo",
        messages=[{"role": "user", "content": WEATHER}],
        tools=OPENAI_TOOLS,
        temperature=0,
    )
    calls = answer.choices[0].message.tool_calls or []
    (call,) = [call for call in calls if call.type == "function"]
    assert call.function.name == "get_weather"
    assert "city" in json.loads(call.function.arguments)
    with claude.messages.stream(
        model="demo",
        max_tokens=128,
        messages=[{"role": "user", "content": WEATHER}],
        tools=ANTHROPIC_TOOLS,
        extra_body=GREEDY,
    ) as stream:
        message = stream.get_final_message()
    assert message.stop_reason == "tool_use"
    assert [block.type for block in message.content][-1] == "tool_use"


def test_its_context_is_told_and_kept(claude: anthropic.Anthropic, gpt: openai.OpenAI) -> None:
    (model,) = [m for m in gpt.models.list() if m.id == "demo"]
    assert model.model_dump()["context_length"] == CTX
    with pytest.raises(anthropic.BadRequestError, match="prompt is too long"):
        claude.messages.create(
            model="demo",
            max_tokens=16,
            messages=[{"role": "user", "content": "word " * 2 * CTX}],
        )


def test_tokens_are_counted_exactly(claude: anthropic.Anthropic) -> None:
    messages: Any = [{"role": "user", "content": "Say hello world"}]
    counted = claude.messages.count_tokens(model="demo", messages=messages)
    answered = claude.messages.create(model="demo", max_tokens=1, messages=messages)
    usage = answered.usage
    assert counted.input_tokens == usage.input_tokens + (usage.cache_read_input_tokens or 0)


def test_the_key_is_asked_for(gateway: Gateway) -> None:
    """Nobody else on this machine can use the engine."""
    lines = (process.cmdline() for process in gateway.children())
    words = next(line for line in lines if "serve" in line)
    port = words[words.index("--port") + 1]
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="guess").models.list()


def test_no_process_is_left(gateway: Gateway) -> None:
    """The last test: vLLM is several processes."""
    tree = gateway.children()
    assert len(tree) >= 3
    gateway.stop()
    assert [p for p in tree if p.is_running() and p.status() != "zombie"] == []
