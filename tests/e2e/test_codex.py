"""The real Codex CLI against the real gateway.

In front of a scripted engine: the engine sees what reached it, the CLI says what it made of what it
got. In front of the real llama.cpp with the demo model: whatever a small model says, it must be a
legal stream for the CLI.

Signs of a stream that the CLI did not like: "Reconnecting", and the same request again.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from homeport.demo import demo_model_path
from tests.support.codex import DUMMY_KEY, Codex, NpmMissingError, Run, installed
from tests.support.engine import Answer, FakeEngine, ToolCall, When
from tests.support.gateway import Gateway

pytestmark = [
    pytest.mark.codex,
    # The first use fetches the CLI (about 150 MB).
    pytest.mark.timeout(900),
]

ASKED = When(has_tools=True, last_role="user")


@pytest.fixture(scope="session")
def codex() -> Codex:
    try:
        return installed()
    except NpmMissingError as missing:
        pytest.skip(str(missing))


@pytest.fixture
def demo_gateway(tmp_path: Path) -> Iterator[Gateway]:
    with Gateway(tmp_path) as gateway:
        yield gateway


def shell(command: str) -> ToolCall:
    return ToolCall(name="exec_command", arguments=json.dumps({"cmd": command}))


def assert_good_run(run: Run) -> None:
    assert run.exit_status == 0, f"{run.stdout}\n{run.stderr}"
    assert run.errors == []
    assert "econnecting" not in run.stdout + run.stderr


def assert_each_once(chats: list[dict[str, Any]], number: int) -> None:
    """No request twice, and none given up."""
    assert len(chats) == number
    assert [chat["body"]["stream"] for chat in chats] == [True] * number
    turns = [len(chat["body"]["messages"]) for chat in chats]
    assert turns == sorted(set(turns)), "each request should carry one turn more than the last"
    assert not any(chat["disconnected"] for chat in chats)


def test_shell_round_trip(
    codex: Codex, gateway: Gateway, engine: FakeEngine, tmp_path: Path
) -> None:
    """The model asks for a command, the CLI runs it, its output reaches the model, it answers."""
    left, right = secrets.randbelow(1000), secrets.randbelow(1000)
    said = f"homeport-{left + right}"  # only a shell makes this of the command
    call = shell(f"echo homeport-$(({left} + {right}))")
    engine.script(Answer(when=ASKED, text="Running it.", tool_calls=(call,)))
    run = codex.run("Add them", base_url=gateway.base_url, folder=tmp_path, model="fake")
    assert_good_run(run)
    assert run.text.startswith("The tool said: ")
    assert said in run.text
    assert run.items("agent_message")[0]["text"] == "Running it."
    (command,) = run.items("command_execution")
    assert (command["aggregated_output"], command["exit_code"]) == (f"{said}\n", 0)
    assert_each_once(engine.chats(), 2)
    first, second = (chat["body"] for chat in engine.chats())
    assert said not in json.dumps(first)
    asked, result = second["messages"][-2:]
    assert asked["tool_calls"][0]["function"]["name"] == "exec_command"
    assert (result["role"], result["tool_call_id"]) == ("tool", asked["tool_calls"][0]["id"])
    assert result["content"].endswith(f"{said}\n")


def test_reasoning_comes_back(
    codex: Codex, gateway: Gateway, engine: FakeEngine, tmp_path: Path
) -> None:
    """The model's thinking, its text and its calls are one assistant turn again."""
    engine.script(
        Answer(
            when=ASKED,
            reasoning="A command will do.",
            text="Running it.",
            tool_calls=(shell("echo one"),),
        )
    )
    run = codex.run("Go", base_url=gateway.base_url, folder=tmp_path, model="fake")
    assert_good_run(run)
    assert_each_once(engine.chats(), 2)
    asked = engine.chats()[1]["body"]["messages"][-2]
    assert asked["role"] == "assistant"
    assert asked["reasoning_content"] == "A command will do."
    assert asked["content"] == "Running it."
    assert len(asked["tool_calls"]) == 1


def test_prompt_head_is_stable(
    codex: Codex, gateway: Gateway, engine: FakeEngine, tmp_path: Path
) -> None:
    """The second request begins with the first one, byte for byte: the engine's cache holds."""
    engine.script(Answer(when=ASKED, tool_calls=(shell("true"),)))
    assert_good_run(codex.run("Go", base_url=gateway.base_url, folder=tmp_path, model="fake"))
    first, second = (chat["body"] for chat in engine.chats())
    assert second["tools"] == first["tools"]
    assert second["messages"][: len(first["messages"])] == first["messages"]
    assert [m["role"] for m in first["messages"]] == ["system", "user"]


def test_parallel_calls_in_interleaved_fragments(
    codex: Codex, gateway: Gateway, engine: FakeEngine, tmp_path: Path
) -> None:
    """Both run, and both results go back to their calls."""
    calls = tuple(shell(f"echo {word}") for word in ("alpha", "beta"))
    answer = Answer(
        when=ASKED, tool_calls=calls, tool_style="interleaved", fragment_chars=(3, 1, 7)
    )
    engine.script(answer)
    run = codex.run("Say both", base_url=gateway.base_url, folder=tmp_path, model="fake")
    assert_good_run(run)
    said = {item["command"]: item["aggregated_output"] for item in run.items("command_execution")}
    assert sorted(said.values()) == ["alpha\n", "beta\n"]
    assert_each_once(engine.chats(), 2)
    asked, *results = engine.chats()[1]["body"]["messages"][2:]
    by_id = {result["tool_call_id"]: result["content"] for result in results}
    for call in asked["tool_calls"]:
        word = json.loads(call["function"]["arguments"])["cmd"].removeprefix("echo ")
        assert by_id[call["id"]].endswith(f"{word}\n")


def test_tools_in_namespaces(
    codex: Codex, gateway: Gateway, engine: FakeEngine, tmp_path: Path
) -> None:
    """A namespaced tool has a flat name for the model, and its own again for the CLI."""
    call = ToolCall(name="multi_agent_v1__close_agent", arguments='{"target": "nobody"}')
    engine.script(Answer(when=ASKED, tool_calls=(call,)))
    run = codex.run("Go", base_url=gateway.base_url, folder=tmp_path, model="fake")
    assert_good_run(run)
    first, second = (chat["body"] for chat in engine.chats())
    names = [tool["function"]["name"] for tool in first["tools"]]
    assert call.name in names
    assert "web_search" not in names
    asked, result = second["messages"][-2:]
    assert asked["tool_calls"][0]["function"]["name"] == call.name
    assert "unsupported" not in result["content"].lower()
    assert "nobody" in result["content"]


def test_broken_arguments_go_back_to_the_model(
    codex: Codex, gateway: Gateway, engine: FakeEngine, tmp_path: Path
) -> None:
    broken = ToolCall(name="exec_command", arguments='{"cmd": "echo')
    engine.script(Answer(when=ASKED, tool_calls=(broken,)))
    run = codex.run("Go", base_url=gateway.base_url, folder=tmp_path, model="fake")
    assert_good_run(run)
    assert_each_once(engine.chats(), 2)
    assert "failed to parse" in engine.chats()[1]["body"]["messages"][-1]["content"]


def test_schema_output(codex: Codex, gateway: Gateway, engine: FakeEngine, tmp_path: Path) -> None:
    schema = {
        "type": "object",
        "properties": {"answer": {"type": "string"}},
        "required": ["answer"],
        "additionalProperties": False,
    }
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(schema))
    engine.script(Answer(text='{"answer": "yes"}'))
    run = codex.run(
        "Is it?",
        base_url=gateway.base_url,
        folder=tmp_path,
        model="fake",
        options=["--output-schema", str(path)],
    )
    assert_good_run(run)
    assert json.loads(run.text) == {"answer": "yes"}
    (chat,) = engine.chats()
    assert chat["body"]["response_format"]["json_schema"]["schema"] == schema


def test_a_thread_goes_on(
    codex: Codex, gateway: Gateway, engine: FakeEngine, tmp_path: Path
) -> None:
    """A second turn holds the first one."""
    first = codex.run("One", base_url=gateway.base_url, folder=tmp_path, model="fake")
    assert_good_run(first)
    run = codex.run(
        "Two", base_url=gateway.base_url, folder=tmp_path, model="fake", resume=first.thread_id
    )
    assert_good_run(run)
    assert_each_once(engine.chats(), 2)
    before, after = (chat["body"]["messages"] for chat in engine.chats())
    assert after[: len(before)] == before
    assert [m["role"] for m in after[len(before) :]] == ["assistant", "user"]


def test_compaction(codex: Codex, gateway: Gateway, engine: FakeEngine, tmp_path: Path) -> None:
    """Near the end of the context that it was told, the CLI has the model sum up, and goes on."""
    options: Any = {"base_url": gateway.base_url, "folder": tmp_path, "model": "fake"}
    engine.script(Answer(text="First.", prompt_tokens=15900, completion_tokens=100))
    first = codex.run("One", context_tokens=16384, **options)
    assert_good_run(first)
    engine.script(Answer(text="All that was said."))
    run = codex.run("Two", context_tokens=16384, resume=first.thread_id, **options)
    assert_good_run(run)
    before, summing_up, after = (chat["body"] for chat in engine.chats())
    assert summing_up["messages"][: len(before["messages"])] == before["messages"]
    assert "tools" not in summing_up
    assert "All that was said." in json.dumps(after["messages"])
    assert "First." not in json.dumps(after["messages"])


@pytest.mark.parametrize("delay_s", [0.0, 1.0], ids=["at once", "in the stream"])
def test_overflow_leads_to_a_clear_end(
    codex: Codex, gateway: Gateway, engine: FakeEngine, tmp_path: Path, delay_s: float
) -> None:
    """The CLI understands our words for it: no blind retries."""
    message = "request (200000 tokens) exceeds the available context size (131072 tokens)"
    body = {"error": {"code": 400, "message": message, "type": "exceed_context_size_error"}}
    engine.script(Answer(status=400, body=body, delay_headers_s=delay_s, repeat=True))
    run = codex.run("Hello", base_url=gateway.base_url, folder=tmp_path, model="fake")
    assert run.exit_status == 1
    assert "context window" in run.stdout
    assert len(engine.chats()) == 1


def test_a_slow_first_token_is_waited_for(
    codex: Codex, gateway: Gateway, engine: FakeEngine, tmp_path: Path
) -> None:
    """Longer than the interval of our signs of life: they do not disturb."""
    engine.script(Answer(text="At last.", delay_first_s=7.0))
    run = codex.run("Hello", base_url=gateway.base_url, folder=tmp_path, model="fake")
    assert_good_run(run)
    assert run.text == "At last."
    assert_each_once(engine.chats(), 1)


def test_usage_is_told(codex: Codex, gateway: Gateway, engine: FakeEngine, tmp_path: Path) -> None:
    """The CLI decides by it when to compact."""
    engine.script(Answer(text="Hi.", prompt_tokens=1200, completion_tokens=7, cached_tokens=1000))
    run = codex.run("Hello", base_url=gateway.base_url, folder=tmp_path, model="fake")
    assert_good_run(run)
    assert run.usage["input_tokens"] == 1200
    assert run.usage["cached_input_tokens"] == 1000
    assert run.usage["output_tokens"] == 7


def test_the_key_stays_here(
    codex: Codex, gateway: Gateway, engine: FakeEngine, tmp_path: Path
) -> None:
    assert_good_run(codex.run("Hi", base_url=gateway.base_url, folder=tmp_path, model="fake"))
    assert DUMMY_KEY not in json.dumps(engine.chats())


DEMO = """
server: {{limits: {{max_tokens: 100}}}}
models:
  homeport-demo: {{path: {path}, ctx: 16384, max_tools: 1}}
"""


@pytest.mark.llamacpp
@pytest.mark.slow_client  # ten thousand tokens of prompt on a processor
def test_on_the_demo_model(codex: Codex, tmp_path: Path) -> None:
    """With all of Codex's tools before it the demo model calls one after the other and never ends;
    ``max_tools`` is what homeport has for such models."""
    config = tmp_path / "homeport.yaml"
    config.write_text(DEMO.format(path=demo_model_path()), "utf-8")
    with Gateway(tmp_path, "--config", str(config)) as gateway:
        run = codex.run(
            "Hello",
            base_url=gateway.base_url,
            folder=tmp_path,
            model="homeport-demo",
            context_tokens=16384,
        )
        gateway.assert_no_internal_error()
    assert_good_run(run)
    assert run.text.strip()
