"""What is remembered of requests, through a real gateway: what each dialect's requests leave behind."""

from __future__ import annotations

import json
import sqlite3
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway import Gateway

DATABASE = Path("home/homeport/state/usage.db")
TOOL = {"name": "get_weather", "parameters": {"type": "object", "properties": {}}}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Say hello."}]},
    "/v1/messages": {
        "max_tokens": 64,
        "messages": [{"role": "user", "content": "Say hello."}],
    },
    "/v1/responses": {"input": "Say hello."},
}
DIALECTS = dict(zip(BODIES, ("openai_chat", "anthropic", "openai_responses"), strict=True))
ENDS = dict(zip(BODIES, ("stop", "end_turn", "completed"), strict=True))
HEADERS = {
    "content-type": "application/json",
    "user-agent": "claude-cli/2.1.0 (external, cli)",
    "x-claude-code-session-id": "session-1",
    "x-claude-code-agent-id": "agent-7",
}


def ask(
    gateway: Gateway, path: str, headers: dict[str, str] = HEADERS, **more: Any
) -> tuple[str, int]:
    """The request's id and the length of the answer."""
    body = json.dumps({"model": "claude-sonnet", **BODIES[path], **more}).encode()
    request = urllib.request.Request(gateway.base_url + path, body, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.headers["request-id"], len(response.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.headers["request-id"], len(error.read())


def rows(folder: Path, table: str = "homeport_usage") -> list[dict[str, Any]]:
    with closing(sqlite3.connect(folder / DATABASE)) as db:
        db.row_factory = sqlite3.Row
        return [dict(row) for row in db.execute(f"SELECT * FROM {table} ORDER BY at_us")]


def row_of(folder: Path, request_id: str) -> dict[str, Any]:
    """As soon as it is written."""
    deadline = time.monotonic() + 20
    while True:
        for row in rows(folder):
            if row["request_id"] == request_id:
                return row
        assert time.monotonic() < deadline, f"no record of {request_id}"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, Path]]:
    folder = tmp_path_factory.mktemp("usage")
    with Gateway(folder, "--demo") as gateway:
        yield gateway, folder
        gateway.assert_no_internal_error()


@pytest.mark.llamacpp
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", BODIES)
def test_each_request_leaves_a_record(
    served: tuple[Gateway, Path], path: str, stream: bool
) -> None:
    gateway, folder = served
    request_id, size = ask(gateway, path, stream=stream)
    row = row_of(folder, request_id)
    assert {name: row[name] for name in ("client", "client_version", "session", "agent")} == {
        "client": "claude-cli",
        "client_version": "2.1.0",
        "session": "session-1",
        "agent": "agent-7",
    }
    assert (row["asked_model"], row["model"]) == ("claude-sonnet", "homeport-demo")
    assert (row["engine"], row["dialect"]) == ("llamacpp", DIALECTS[path])
    assert row["prompt_tokens"] > 0
    assert row["completion_tokens"] > 0
    assert (row["status"], row["stop_reason"], row["error"]) == (200, ENDS[path], None)
    assert row["stream"] == stream
    assert (row["first_token_s"] is not None) == stream
    assert row["bytes_in"] > 50
    assert row["bytes_out"] == size
    assert abs(row["at_us"] / 1e6 - time.time()) < 120
    assert 0 < row["duration_s"] < 60


@pytest.mark.llamacpp
def test_a_request_that_fails_leaves_one_too(served: tuple[Gateway, Path]) -> None:
    gateway, folder = served
    long = "word " * 20_000
    request_id, _ = ask(
        gateway, "/v1/messages", messages=[{"role": "user", "content": long}], stream=True
    )
    row = row_of(folder, request_id)
    assert (row["status"], row["error"]) == (400, "context_overflow")
    assert row["completion_tokens"] is None


@pytest.mark.llamacpp
def test_metrics_tell_of_it(served: tuple[Gateway, Path]) -> None:
    gateway, folder = served
    row_of(folder, ask(gateway, "/v1/responses")[0])
    lines = gateway.metrics()
    assert "homeport_store_up 1.0" in lines
    assert 'homeport_usage_dropped_total{why="queue"} 0.0' in lines
    written = next(line for line in lines if line.startswith("homeport_usage_written_total"))
    assert float(written.split()[1]) > 0


@pytest.mark.llamacpp
def test_nothing_said_is_kept(served: tuple[Gateway, Path]) -> None:
    gateway, folder = served
    said = "a-word-that-nobody-else-says"
    request_id, _ = ask(gateway, "/v1/responses", input=said)
    row_of(folder, request_id)
    kept = b"".join(path.read_bytes() for path in (folder / DATABASE).parent.glob("usage.db*"))
    assert request_id.encode() in kept
    assert said.encode() not in kept


@pytest.mark.llamacpp
def test_a_stop_leaves_nothing_behind(tmp_path: Path) -> None:
    """What was recorded a moment ago is written before the process ends."""
    with Gateway(tmp_path, "--demo") as gateway:
        request_id, _ = ask(gateway, "/v1/chat/completions")
    assert [row["request_id"] for row in rows(tmp_path)] == [request_id]


@pytest.mark.llamacpp
def test_off_is_off(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("store: off\n")
    with Gateway(tmp_path, "--demo", "--config", str(config)) as gateway:
        ask(gateway, "/v1/chat/completions")
        assert not any("homeport_usage" in line for line in gateway.metrics())
    assert not (tmp_path / DATABASE).exists()


@pytest.mark.llamacpp
def test_a_session_that_is_captured(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("store: {capture: {sessions: 'debug-*', redact: 'ACME-[0-9]+'}}\n")
    debug = {**HEADERS, "x-claude-code-session-id": "debug-1", "x-api-key": "geheim-4711"}
    said = "Say hello. ACME-77 geheim-4711 sk-abcdefghijklmnopqrst"
    with Gateway(tmp_path, "--demo", "--config", str(config)) as gateway:
        ask(gateway, "/v1/chat/completions")  # of another session
        messages = [{"role": "user", "content": said}]
        request_id, _ = ask(gateway, "/v1/messages", debug, messages=messages, stream=True)
    (row,) = rows(tmp_path, "homeport_capture")
    assert row["request_id"] == request_id
    assert json.loads(row["request"])["messages"][0]["content"] == (
        "Say hello. (hidden) (hidden) (hidden)"
    )
    kinds = [kind for kind, _ in json.loads(row["response"])]
    assert kinds == ["text"]
    assert row["expires_us"] - row["at_us"] == 7 * 86_400_000_000
