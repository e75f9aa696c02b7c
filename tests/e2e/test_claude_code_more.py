"""The real Claude Code CLI where things are not plain: images, a full context, counting, and what an
engine gets wrong. Its interactive mode is in `test_claude_code_terminal.py`."""

from __future__ import annotations

import base64
import json
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.claude_code import ClaudeCode, Run
from tests.support.engine import Answer, FakeEngine, ToolCall, When
from tests.support.fake_engine.script import COUNT_PATH, prompt_tokens
from tests.support.gateway import Gateway

pytestmark = [
    pytest.mark.claude_code,
    # The first use fetches the CLI (about 100 MB).
    pytest.mark.timeout(900),
]

RUN_ECHO = ("--allowedTools", "Bash(echo:*)")
ASKED = When(has_tools=True, last_role="user")
ANSWERED = When(last_role="tool")
SUMMARY = Answer(
    when=When(contains="Your task is to create a detailed summary"),
    text="<analysis>Little.</analysis><summary>All that was said.</summary>",
)


def echo(word: str) -> ToolCall:
    arguments = json.dumps({"command": f"echo {word}", "description": "Say it"})
    return ToolCall(name="Bash", arguments=arguments)


def read(path: Path) -> ToolCall:
    return ToolCall(name="Read", arguments=json.dumps({"file_path": str(path)}))


def overflow() -> Any:
    message = "request (200000 tokens) exceeds the available context size (131072 tokens)"
    return {"error": {"code": 400, "message": message, "type": "exceed_context_size_error"}}


def assert_good_run(run: Run, engine: FakeEngine) -> None:
    """And nothing that the CLI sent was a fallback."""
    assert run.exit_status == 0, f"{run.stdout}\n{run.stderr}"
    assert run.result["is_error"] is False, run.result
    assert run.retries == []
    assert all(chat["body"]["stream"] for chat in engine.chats())


# images


def dot_png() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 2, 2, 8, 2, 0, 0, 0)  # 2 x 2, 8 bits, RGB
    rows = zlib.compress((b"\0" + b"\xff\0\0" * 2) * 2)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", rows), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "work" / "dot.png"
    path.parent.mkdir()
    path.write_bytes(dot_png())
    return path


@pytest.fixture
def seeing(tmp_path: Path) -> Iterator[tuple[Gateway, FakeEngine]]:
    with (
        FakeEngine(vision=True) as engine,
        Gateway(tmp_path, "--upstream", engine.base_url) as gateway,
    ):
        yield gateway, engine
        gateway.assert_no_internal_error()


def test_an_image_that_it_reads_is_seen(
    claude: ClaudeCode, seeing: tuple[Gateway, FakeEngine], picture: Path, tmp_path: Path
) -> None:
    """It comes inside a tool's result, and is an image to the engine."""
    gateway, engine = seeing
    engine.script(
        Answer(when=ASKED, tool_calls=(read(picture),)), Answer(when=ANSWERED, text="A red dot.")
    )
    run = claude.run("Look", base_url=gateway.base_url, folder=tmp_path, model="fake")
    assert_good_run(run, engine)
    assert run.text == "A red dot."
    _, second = engine.chats()
    last = json.dumps(second["body"]["messages"][-1])
    assert '"image_url"' in last
    found = re.findall(r"data:image/png;base64,([\w+/=]+)", last)
    assert base64.b64decode(found[0]).startswith(b"\x89PNG")


def test_an_image_for_a_blind_model_is_taken_out_again(
    claude: ClaudeCode, gateway: Gateway, engine: FakeEngine, picture: Path, tmp_path: Path
) -> None:
    """Upon our words for it the CLI tells the model instead, and the conversation goes on."""
    engine.script(
        Answer(when=ASKED, tool_calls=(read(picture),)), Answer(when=ANSWERED, text="I am blind.")
    )
    run = claude.run("Look", base_url=gateway.base_url, folder=tmp_path, model="fake")
    assert_good_run(run, engine)
    assert run.text == "I am blind."
    _, second = engine.chats()
    told = json.dumps(second["body"]["messages"][-1])
    assert "Image removed" in told
    assert "the model 'fake' cannot see images" in told
    run = claude.run(
        "Hello", base_url=gateway.base_url, folder=tmp_path, model="fake", options=["--continue"]
    )
    assert_good_run(run, engine)
    assert run.text == "Hello from the fake engine."


# a full context


def assert_compacted(run: Run, chats: list[dict[str, Any]]) -> None:
    """One request for a summary, and then it goes on from there."""
    assert run.text == "Done."
    assert any(message.get("subtype") == "compact_boundary" for message in run.messages)
    *_, asking, after = (chat["body"] for chat in chats)
    assert "create a detailed summary" in asking["messages"][-1]["content"]
    assert "All that was said." in json.dumps(after["messages"])
    assert [m["role"] for m in after["messages"]] == ["system", "user"]


def test_compaction_by_usage(
    claude: ClaudeCode, gateway: Gateway, engine: FakeEngine, tmp_path: Path
) -> None:
    """The CLI believes the engine's count, and compacts before the context is full."""
    full = Answer(when=ASKED, tool_calls=(echo("one"),), prompt_tokens=39000)
    engine.script(SUMMARY, full, Answer(text="Done."))
    run = claude.run(
        "Go",
        base_url=gateway.base_url,
        folder=tmp_path,
        model="fake",
        options=RUN_ECHO,
        env={"CLAUDE_CODE_MAX_CONTEXT_TOKENS": "40000", "CLAUDE_CODE_MAX_OUTPUT_TOKENS": "4096"},
    )
    assert_good_run(run, engine)
    assert_compacted(run, engine.chats())
    first, asking, _ = (chat["body"] for chat in engine.chats())
    assert asking["messages"][: len(first["messages"])] == first["messages"]
    assert asking["tools"] == first["tools"], "else the engine would read all of it again"


def test_compaction_by_the_words_of_an_overflow(
    claude: ClaudeCode, gateway: Gateway, engine: FakeEngine, tmp_path: Path
) -> None:
    """It had no idea that the context was full; the engine's refusal tells it."""
    engine.script(
        Answer(when=ASKED, tool_calls=(echo("one"),)),
        Answer(when=ANSWERED, status=400, body=overflow()),
        SUMMARY,
        Answer(text="Done."),
    )
    run = claude.run(
        "Go", base_url=gateway.base_url, folder=tmp_path, model="fake", options=RUN_ECHO
    )
    assert_good_run(run, engine)
    assert [chat["status"] for chat in engine.chats()] == [200, 400, 200, 200]
    assert_compacted(run, engine.chats())


# counting


@pytest.fixture
def cannot_count(tmp_path: Path) -> Iterator[tuple[Gateway, FakeEngine]]:
    with (
        FakeEngine(no_token_count=True) as engine,
        Gateway(tmp_path, "--upstream", engine.base_url) as gateway,
    ):
        yield gateway, engine
        gateway.assert_no_internal_error()


def shown(run: Run, category: str) -> str:
    """The tokens of one line of `/context`."""
    found = re.search(rf"^\| {re.escape(category)} \| (\S+) ", run.text, re.MULTILINE)
    assert found, run.text
    return found[1]


def thousands(tokens: int) -> str:
    return f"{tokens / 1000:.1f}".removesuffix(".0") + "k"


def test_context_shows_the_engine_s_counts(
    claude: ClaudeCode, gateway: Gateway, engine: FakeEngine, tmp_path: Path
) -> None:
    """`/context` asks for some twenty counts at once, and does the sums."""
    run = claude.run("/context", base_url=gateway.base_url, folder=tmp_path, model="fake")
    assert run.exit_status == 0
    counts = engine.requests(COUNT_PATH)
    assert len(counts) > 10
    assert engine.chats() == [], "no answer was asked for"
    bare = [count["body"] for count in counts if not count["body"].get("tools")]
    prompt = [body for body in bare if body["messages"][-1]["content"] != "foo"]
    assert shown(run, "System prompt") == thousands(sum(map(prompt_tokens, prompt)))


def test_without_a_tokenizer_it_estimates(
    claude: ClaudeCode, cannot_count: tuple[Gateway, FakeEngine], tmp_path: Path
) -> None:
    """404, and not a guess of ours; the CLI has its own."""
    gateway, engine = cannot_count
    run = claude.run("/context", base_url=gateway.base_url, folder=tmp_path, model="fake")
    assert run.exit_status == 0
    assert shown(run, "System prompt").endswith("k")
    assert engine.chats() == []
    told = claude.run("Hello", base_url=gateway.base_url, folder=tmp_path, model="fake")
    assert_good_run(told, engine)


def test_a_large_file_is_counted_before_it_is_read(
    claude: ClaudeCode, gateway: Gateway, engine: FakeEngine, tmp_path: Path
) -> None:
    """The CLI cuts what is beyond 25,000 tokens, and tells the model by how much: our count."""
    path = tmp_path / "work" / "large.txt"
    path.parent.mkdir()
    path.write_text("words of a large file\n" * 7000)
    engine.script(
        Answer(when=ASKED, tool_calls=(read(path),)), Answer(when=ANSWERED, text="I see.")
    )
    run = claude.run("Read it", base_url=gateway.base_url, folder=tmp_path, model="fake")
    assert_good_run(run, engine)
    (counted,) = (c["body"] for c in engine.requests(COUNT_PATH) if not c["body"].get("tools"))
    result = engine.chats()[1]["body"]["messages"][-1]["content"]
    assert f"({prompt_tokens(counted)} tokens, cap 25000)" in result


# an engine that errs


def test_malformed_tool_json_goes_back_to_the_model(
    claude: ClaudeCode, gateway: Gateway, engine: FakeEngine, tmp_path: Path
) -> None:
    broken = ToolCall(name="Bash", arguments='{"command": "echo')
    engine.script(
        Answer(when=ASKED, tool_calls=(broken,)),
        Answer(when=ANSWERED, text="Once more.", tool_calls=(echo("mended"),)),
    )
    run = claude.run(
        "Go", base_url=gateway.base_url, folder=tmp_path, model="fake", options=RUN_ECHO
    )
    assert_good_run(run, engine)
    assert run.text == "The tool said: mended"
    refused, ran = run.tool_results()
    assert "could not be parsed as JSON" in refused
    assert ran == "mended"
    _, second, third = (chat["body"]["messages"] for chat in engine.chats())
    assert "could not be parsed as JSON" in second[-1]["content"]
    assert third[: len(second)] == second


def test_an_answer_that_is_cut_off_is_resumed(
    claude: ClaudeCode, gateway: Gateway, engine: FakeEngine, tmp_path: Path
) -> None:
    """The CLI keeps what it has and asks for the rest, by a stream as before."""
    cut = Answer(when=ASKED, text="This will be cut off.", then="cut", at=5)
    engine.script(cut, Answer(text="Well."))
    run = claude.run("Go", base_url=gateway.base_url, folder=tmp_path, model="fake")
    assert_good_run(run, engine)
    assert run.text == "Well."
    first, second = (chat["body"]["messages"] for chat in engine.chats())
    kept, asking = second[len(first) :]
    assert kept["role"] == "assistant"
    assert "This will be cut off.".startswith(kept["content"])
    assert "cut off mid-stream" in asking["content"]


def test_an_answer_that_is_cut_off_before_its_first_word(
    claude: ClaudeCode, gateway: Gateway, engine: FakeEngine, tmp_path: Path
) -> None:
    """Here the CLI has nothing to keep, and asks again at once, without a stream."""
    cut = Answer(when=ASKED, text="This will be cut off.", then="cut", at=1)
    engine.script(cut, Answer(text="Well."))
    run = claude.run("Go", base_url=gateway.base_url, folder=tmp_path, model="fake")
    assert run.exit_status == 0
    assert run.result["is_error"] is False
    assert run.text == "Well."
    first, second = (chat["body"] for chat in engine.chats())
    assert second["messages"] == first["messages"]
    assert not second.get("stream")


def test_a_call_that_is_cut_off_does_not_run(
    claude: ClaudeCode, gateway: Gateway, engine: FakeEngine, tmp_path: Path
) -> None:
    engine.script(
        Answer(when=ASKED, tool_calls=(echo("one"),), then="cut", at=5),
        Answer(when=ANSWERED, tool_calls=(echo("two"),)),
    )
    run = claude.run(
        "Go", base_url=gateway.base_url, folder=tmp_path, model="fake", options=RUN_ECHO
    )
    assert run.exit_status == 0
    assert run.text == "The tool said: two"
    assert run.tool_results()[-1] == "two"
    assert "one" not in run.tool_results()
    assert all(chat["body"]["stream"] for chat in engine.chats())


# auto mode


@pytest.mark.parametrize(
    ("judge", "harmless", "stop"),
    [
        ({}, "<severity>0", "</severity>"),
        ({"CLAUDE_CODE_AUTO_MODE_MODEL": "judge"}, "<block>no", "</block>"),
    ],
    ids=["claude-sonnet-5", "a name of ours"],
)
def test_auto_mode_asks_a_model_here(
    claude: ClaudeCode,
    gateway: Gateway,
    engine: FakeEngine,
    tmp_path: Path,
    judge: dict[str, str],
    harmless: str,
    stop: str,
) -> None:
    """Without a stream, with a long prompt and a stop sequence; the command runs if it is harmless."""
    engine.script(Answer(when=When(stream=False), text=harmless, repeat=True))
    run = claude.run(
        """run: python3 -c 'print(6 * 7)'""",
        base_url=gateway.base_url,
        folder=tmp_path,
        model="fake",
        options=["--permission-mode", "auto"],
        env={"CLAUDE_CODE_AUTO_MODE_SERVER": "0", **judge},
    )
    assert run.exit_status == 0
    assert run.text == "The tool said: 42"
    _, judging, *_ = (chat["body"] for chat in engine.chats())
    assert not judging.get("stream")
    assert judging["stop"] == [stop]
