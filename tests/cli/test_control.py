"""What commands for a running homeport say; that they do it, ``tests/e2e/test_control.py`` shows."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from homeport.cli import ps_cmd, reload_cmd
from homeport.cli.main import main
from homeport.runtime import instance


@contextmanager
def server(status: int, body: bytes) -> Iterator[str]:
    """Answers everything so."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815  (http.server's name)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    found = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=found.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{found.server_port}"
    finally:
        found.shutdown()
        thread.join()
        found.server_close()


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str | None]:
    """Of a user with whom nothing runs."""
    names = ("HOMEPORT_URL", "MLX_WRAPPER_URL", "HOMEPORT_MASTER_KEY", "XDG_RUNTIME_DIR")
    return {"HOMEPORT_HOME": str(tmp_path), **dict.fromkeys(names)}


def run(env: dict[str, str | None], *words: str) -> Result:
    return CliRunner().invoke(main, list(words), env=env)


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (200, b'{"models": []}', "no models yet"),
        (404, b"<html>", "answers with 404\n  hint: is that homeport?"),
        (404, b'{"error": "x"}', "answers with 404\n  hint: is that homeport?"),
        (404, b'{"error": {"message": "there is no such route"}}', "error: there is no such route"),
    ],
)
def test_what_a_server_may_answer(
    status: int, body: bytes, message: str, env: dict[str, str | None]
) -> None:
    with server(status, body) as url:
        done = run(env, "ps", "--url", url)
    assert message in done.stderr
    assert done.exit_code == (0 if status == 200 else 1)
    assert done.stdout == ""


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://h:port", "http://[", "//"])
def test_what_is_no_address(url: str, env: dict[str, str | None]) -> None:
    done = run(env, "ps", "--url", url)
    assert done.exit_code == 1
    assert "is no address of a server" in done.stderr


def test_an_end_in_the_middle_is_no_success(env: dict[str, str | None]) -> None:
    body = b'event: progress\ndata: {"step": "loading"}\n\n'
    with server(200, body) as url:
        done = run(env, "load", "it", "--url", url)
    assert done.exit_code == 1
    assert done.stderr == "it: loading\nerror: homeport has ended before that was done\n"


def test_steps_line_by_line_where_there_is_no_terminal(env: dict[str, str | None]) -> None:
    steps = (
        '{"step": "queued"}',
        '{"step": "evicting", "model": "other"}',
        '{"step": "loading", "line": "10 %"}',
        '{"step": "loading", "line": "20 %"}',
        '{"step": "draining", "in_flight": 1}',
        '{"step": "backoff", "reason": "exited with status 1\\nmore"}',
        '{"step": "something new"}',
    )
    row = '{"id": "it", "state": "ready", "engine": "vllm", "context_tokens": null, "port": 5}'
    events = [f"event: progress\ndata: {step}\n\n" for step in steps]
    with server(200, "".join((*events, f"event: done\ndata: {row}\n\n")).encode()) as url:
        done = run(env, "load", "it", "--url", url)
    assert done.exit_code == 0
    assert done.stderr.splitlines() == [
        "it: waiting for its turn",
        "it: stopping other to make room",
        "it: loading",
        "it: waiting for 1 request",
        "it: it has ended: exited with status 1; it is started again",
        "it: something new",
        "it is ready (vllm, port 5)",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0s"), (59.4, "59s"), (60, "1m"), (3599, "59m"), (3600, "1h00m"), (90000, "1d")],
)
def test_durations(seconds: float, text: str) -> None:
    assert ps_cmd.duration(seconds) == text


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({}, "-"),
        ({"oldest_s": None, "prompt_tokens": None}, "-"),
        ({"oldest_s": 8.2, "prompt_tokens": None}, "8s"),
        ({"oldest_s": 8.2, "prompt_tokens": 31021, "prompt_read": 8192}, "8s 26%"),
    ],
)
def test_the_oldest_request(row: dict[str, object], text: str) -> None:
    assert ps_cmd.oldest(row) == text


def test_a_reload_in_words() -> None:
    nothing: dict[str, list[str]] = {
        key: [] for key in ("added", "changed", "adjusted", "removed", "settings", "needs_restart")
    }
    assert reload_cmd.in_words(nothing) == "nothing has changed"
    some = {**nothing, "added": ["a", "b"], "needs_restart": ["server.port"]}
    assert reload_cmd.in_words(some) == "added a, b; only after a restart: server.port"


def test_the_words_before_an_engine_s_output() -> None:
    assert instance.LAST_OUTPUT == ps_cmd.LAST_OUTPUT


def test_they_answer_at_once() -> None:
    """What takes long to load is not loaded: the server, structlog, asyncio."""
    code = (
        "import sys; from homeport.cli import ps_cmd, model_cmds, logs_cmd, reload_cmd;"
        "print([m for m in sys.modules if m.partition('.')[0] in"
        " ('yaml', 'asyncio', 'uvicorn', 'structlog', 'prometheus_client')"
        " or m.startswith(('homeport.config', 'homeport.app', 'homeport.server'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[]\n"
