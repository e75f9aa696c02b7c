"""The real Claude Code CLI against the real gateway.

(a) in front of a scripted engine: a whole tool loop with the CLI's own prompt and tools. The engine
    sees what reached it, the CLI says what it made of what it got.
(b) in front of the real llama.cpp with the demo model: whatever a small model says, it must be a
    legal stream for the CLI.

Signs of a stream that the CLI did not like: the same request again (a retry), or again with
`stream: false` (its fallback). Neither may happen.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.claude_code import RUN_TIMEOUT_S, ClaudeCode, Run
from tests.support.engine import Answer, FakeEngine, ToolCall, When
from tests.support.gateway import POLL_S, READY_TIMEOUT_S, Gateway
from tests.support.npm_client import run_bounded

pytestmark = [
    pytest.mark.claude_code,
    # The first use fetches the CLI (about 100 MB).
    pytest.mark.timeout(900),
]

RUN_ECHO = ("--allowedTools", "Bash(echo:*)")
SMALL_MODEL = {
    "CLAUDE_CODE_MAX_CONTEXT_TOKENS": "16384",
    "CLAUDE_CODE_MAX_OUTPUT_TOKENS": "512",
}


@pytest.fixture
def demo_gateway(tmp_path: Path) -> Iterator[Gateway]:
    with Gateway(tmp_path) as gateway:
        yield gateway
    gateway.assert_no_internal_error()


def assert_good_run(run: Run) -> None:
    assert run.exit_status == 0, f"{run.stdout}\n{run.stderr}"
    assert run.result["is_error"] is False, run.result
    assert run.retries == []


def assert_all_streamed_once(chats: list[dict[str, Any]]) -> None:
    """No fallback, and no request twice."""
    assert [chat["body"]["stream"] for chat in chats] == [True] * len(chats)
    turns = [len(chat["body"]["messages"]) for chat in chats]
    assert turns == sorted(set(turns)), "each request should carry one turn more than the last"
    assert not any(chat["disconnected"] for chat in chats)


def test_tool_loop(
    claude: ClaudeCode, gateway: Gateway, engine: FakeEngine, tmp_path: Path
) -> None:
    """The model asks for Bash, the CLI runs it, the output reaches the model, it answers."""
    left, right = secrets.randbelow(1000), secrets.randbelow(1000)
    said = f"homeport-{left + right}"  # only a shell makes this of the command
    run = claude.run(
        f"run: echo homeport-$(({left} + {right}))",
        base_url=gateway.base_url,
        folder=tmp_path,
        model="fake",
        options=RUN_ECHO,
    )
    assert_good_run(run)
    assert run.text == f"The tool said: {said}"
    assert run.tool_results() == [said]
    first, second = engine.chats()
    assert_all_streamed_once([first, second])
    assert "Bash" in [tool["function"]["name"] for tool in first["body"]["tools"]]
    last = second["body"]["messages"][-1]
    assert (last["role"], last["content"]) == ("tool", said)


def test_prompt_head_is_stable(
    claude: ClaudeCode, gateway: Gateway, engine: FakeEngine, tmp_path: Path
) -> None:
    """The second request begins with the first one, byte for byte: the engine's cache holds."""
    claude.run(
        "run: echo homeport",
        base_url=gateway.base_url,
        folder=tmp_path,
        model="fake",
        options=RUN_ECHO,
    )
    first, second = (chat["body"] for chat in engine.chats())
    assert second["tools"] == first["tools"]
    assert second["messages"][: len(first["messages"])] == first["messages"]
    assert "x-anthropic-billing-header" not in str(first["messages"])


def test_thinking_and_parallel_tools(
    claude: ClaudeCode, gateway: Gateway, engine: FakeEngine, tmp_path: Path
) -> None:
    """Two calls in interleaved fragments, after thinking: both run, both results go back."""
    calls = tuple(
        ToolCall(name="Bash", arguments=f'{{"command": "echo {word}", "description": "Say it"}}')
        for word in ("alpha", "beta")
    )
    ask_twice = Answer(
        when=When(has_tools=True, last_role="user"),
        reasoning="Two commands will do.",
        text="Running both.",
        tool_calls=calls,
        tool_style="interleaved",
        fragment_chars=(3, 1, 7),
    )
    engine.script(ask_twice)
    run = claude.run(
        "Say alpha and beta",
        base_url=gateway.base_url,
        folder=tmp_path,
        model="fake",
        options=RUN_ECHO,
    )
    assert_good_run(run)
    assert sorted(run.tool_results()) == ["alpha", "beta"]
    first, second = engine.chats()
    assert_all_streamed_once([first, second])
    *_, asked, one, two = second["body"]["messages"]
    assert asked["role"] == "assistant"
    assert "Two commands will do." in str(asked), "thinking must come back to the engine"
    # The CLI runs both at once and lists the quicker one first: the id says whose result it is.
    results = {message["tool_call_id"]: message["content"] for message in (one, two)}
    assert [results[call["id"]] for call in asked["tool_calls"]] == ["alpha", "beta"]


def test_tool_search_adds_tools_at_the_end(
    claude: ClaudeCode, gateway: Gateway, engine: FakeEngine, tmp_path: Path
) -> None:
    """Tools that the CLI fetches later stand in the middle of its list; in the engine's prompt
    they must come after those that are cached already, and their result must say something."""
    search = ToolCall(name="ToolSearch", arguments='{"query": "select:WebFetch", "max_results": 1}')
    engine.script(Answer(when=When(has_tools=True, last_role="user"), tool_calls=(search,)))
    run = claude.run("Fetch", base_url=gateway.base_url, folder=tmp_path, model="fake")
    assert_good_run(run)
    first, second = engine.chats()
    assert_all_streamed_once([first, second])
    before, after = first["body"]["tools"], second["body"]["tools"]
    assert after[: len(before)] == before
    assert [tool["function"]["name"] for tool in after[len(before) :]] == ["WebFetch"]
    assert "WebFetch" in str(second["body"]["messages"][-1]["content"])


def test_built_in_model_names_are_served(
    claude: ClaudeCode, gateway: Gateway, engine: FakeEngine, tmp_path: Path
) -> None:
    """Background calls ask for Anthropic's own names whatever is set."""
    run = claude.run("Hello", base_url=gateway.base_url, folder=tmp_path, model="claude-haiku-4-5")
    assert_good_run(run)
    assert run.text == "Hello from the fake engine."
    assert_all_streamed_once(engine.chats())


def test_overflow_leads_to_a_clear_end(
    claude: ClaudeCode, gateway: Gateway, engine: FakeEngine, tmp_path: Path
) -> None:
    """The CLI understands our words for it: no blind retries."""
    message = "request (200000 tokens) exceeds the available context size (131072 tokens)"
    body = {"error": {"code": 400, "message": message, "type": "exceed_context_size_error"}}
    engine.script(Answer(status=400, body=body, repeat=True))
    run = claude.run("Hello", base_url=gateway.base_url, folder=tmp_path, model="fake")
    assert "prompt is too long" in run.text.lower()
    assert "200000 tokens" in run.text, "the numbers are understood"
    assert "131072" in run.text
    assert run.exit_status == 1
    assert run.retries == []
    assert len(engine.chats()) == 1


@pytest.mark.llamacpp
def test_the_line_that_serve_prints_for_the_demo_model(
    claude: ClaudeCode, demo_gateway: Gateway, tmp_path: Path
) -> None:
    """As a person types it, with nothing else set but what keeps the CLI off the network."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    while not (found := re.search(r"Claude Code:  (.* claude --bare .*)", demo_gateway.output())):
        assert time.monotonic() < deadline, demo_gateway.output()
        time.sleep(POLL_S)
    (tmp_path / "claude").symlink_to(claude.executable)
    quiet = ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "DISABLE_AUTOUPDATER")
    env = {"PATH": f"{tmp_path}:{os.defpath}", "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    status, said, err = run_bounded(
        ["sh", "-c", found[1]], tmp_path, env | dict.fromkeys(quiet, "1"), RUN_TIMEOUT_S
    )
    assert (status, err) == (0, "")
    assert said.startswith("Hello")


@pytest.mark.llamacpp
def test_bare_on_the_demo_model(claude: ClaudeCode, demo_gateway: Gateway, tmp_path: Path) -> None:
    run = claude.run(
        "Hello",
        base_url=demo_gateway.base_url,
        folder=tmp_path,
        model="claude-haiku-4-5",
        options=["--bare"],
        env=SMALL_MODEL,
    )
    assert_good_run(run)
    assert run.text.strip()
    asked = [line for line in demo_gateway.metrics() if line.startswith("homeport_requests_total{")]
    assert len(asked) == 1, asked
    assert asked[0].endswith(" 1.0"), "a second request would be a retry or a fallback"
