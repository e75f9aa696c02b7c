"""Engines that cannot run here, scripted: SGLang, TensorRT-LLM, mlx_lm's server, and one of one's own.

    python scripted_engines.py sglang [-m sglang.launch_server] --model-path … --port …

Each answers as its sources say (docs/engine-answers.md), and is as strict as they are: a flag that
the real one does not have (`tests/engines/flags/`) ends it with status 2, and TensorRT-LLM refuses a
field that it does not know. Standard library only, run by path. What the fake engine is for llama.cpp
in every detail, this is for the others in what concerns being started, asked and understood.

Asked with tools it calls the first one, else it says `Hello from NAME.`; both also in a stream.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

TABLES = Path(__file__).resolve().parents[1] / "engines" / "flags"
FORGOTTEN_AFTER_S = 300
"""No stray process of a broken test lives longer."""
LOADING_S = 0.4

Json = dict[str, Any]


@dataclass(frozen=True)
class Engine:
    """How one of them differs. `table` is the list of its flags."""

    name: str
    table: str | None = None
    model_flag: str = ""
    """Where its model stands; the first word without a flag, when empty."""
    name_flag: str = ""
    health: bool = True
    late: bool = False
    """Its port opens when the model is loaded; else it says 503 until then."""
    owned_by: str | None = None
    version: bool = False
    fields: frozenset[str] = field(default_factory=frozenset)
    """Of a chat request; all, when empty."""


COMMON = frozenset(
    {
        *("model", "messages", "max_tokens", "max_completion_tokens", "stop", "n", "seed", "user"),
        *("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "logit_bias"),
        *("frequency_penalty", "presence_penalty", "logprobs", "top_logprobs"),
        *("stream", "stream_options", "tools", "tool_choice", "response_format"),
        "reasoning_effort",
    }
)
ENGINES = {
    engine.name: engine
    for engine in (
        Engine(
            "sglang",
            table="sglang-0.5.23",
            model_flag="--model-path",
            name_flag="--served-model-name",
            owned_by="sglang",
            late=True,
        ),
        Engine(
            "trtllm",
            table="trtllm-2026",
            owned_by="tensorrt_llm",
            version=True,
            late=True,
            fields=COMMON,
        ),
        Engine("mlx", table="mlx-lm-0.32.2", model_flag="--model"),
        Engine("custom", health=False),
    )
}


def main(words: list[str]) -> int:
    signal.alarm(FORGOTTEN_AFTER_S)
    engine = ENGINES[words[0]]
    given = options(engine, words[1:])
    if isinstance(given, str):
        print(f"{engine.name}: error: unrecognized arguments: {given}", file=sys.stderr)
        return 2
    if engine.late:
        time.sleep(LOADING_S)
    server = ThreadingHTTPServer(("127.0.0.1", int(given["--port"])), handler(engine, given))
    server.serve_forever()
    return 0


def options(engine: Engine, words: list[str]) -> dict[str, str] | str:
    """What follows each flag, and under "" the last word without one; or the flag that it has not."""
    rows = (TABLES / f"{engine.table}.txt").read_text().splitlines() if engine.table else []
    known = {row.split()[0] for row in rows if not row.startswith("#")}
    if words[:1] == ["-m"]:  # called as a Python: the module's name
        words = words[2:]
    given: dict[str, str] = {}
    flag = ""
    for word in words:
        if word.startswith("-"):
            flag, _, value = word.partition("=")
            if known and flag not in known:
                return flag
            given[flag] = value
        elif flag and not given[flag]:
            given[flag] = word
        else:
            given[""] = word
    return given


def handler(engine: Engine, given: dict[str, str]) -> type[BaseHTTPRequestHandler]:
    loaded_at = time.monotonic() + (0 if engine.late else LOADING_S)
    key = given.get("--api-key")
    path = given[engine.model_flag]
    name = given.get(engine.name_flag or "-") or (
        path.rpartition("/")[2] if engine.name != "mlx" else path
    )

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version, sys_version = (
            ("BaseHTTP/0.6", "") if engine.name == "mlx" else ("uvicorn", "")
        )

        def do_GET(self) -> None:
            if self.path == "/health" and engine.health:
                self.reply(200 if self.is_loaded() else 503, {"status": "ok"})
            elif not self.is_allowed():
                self.reply(401, {"error": "Unauthorized"})
            elif self.path == "/version" and engine.version:
                self.reply(200, {"version": "1.2.1"})
            elif self.path == "/v1/models":
                self.reply(200 if self.is_loaded() else 503, models(engine, name, given))
            elif self.path == "/given":
                self.reply(200, {"argv": sys.argv[1:], "env": dict(os.environ)})
            else:
                self.reply(404, {"detail": "Not Found"})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            unknown = sorted(body.keys() - engine.fields) if engine.fields else []
            if not self.is_allowed():
                self.reply(401, {"error": "Unauthorized"})
            elif self.path != "/v1/chat/completions":
                self.reply(404, {"detail": "Not Found"})
            elif unknown:
                extra = {"type": "extra_forbidden", "loc": ("body", unknown[0])}
                error = {"message": str([extra]), "type": "BadRequestError", "param": None}
                self.reply(400, {"object": "error", **error, "code": 400})
            elif engine.name == "mlx" and body["model"] not in (name, "default_model"):
                self.reply(404, {"error": f"Cannot find an appropriate cached snapshot: {body}"})
            elif body.get("stream"):
                self.stream(b"".join(events(engine, body)))
            else:
                self.reply(200, whole(engine, body))

        def is_loaded(self) -> bool:
            return time.monotonic() >= loaded_at

        def is_allowed(self) -> bool:
            return key is None or self.headers.get("authorization") == f"Bearer {key}"

        def reply(self, status: int, value: Json) -> None:
            self.send(status, "application/json", json.dumps(value).encode())

        def stream(self, body: bytes) -> None:
            self.send(200, "text/event-stream", body)

        def send(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def models(engine: Engine, name: str, given: dict[str, str]) -> Json:
    """mlx_lm lists what the download cache has, and the model that it was started with last."""
    entry: Json = {"id": name, "object": "model", "created": 1795196649}
    if engine.owned_by:
        entry["owned_by"] = engine.owned_by
    if engine.name == "sglang":
        limit = int(given.get("--context-length", "40960"))
        entry |= {"root": name, "parent": None, "max_model_len": limit}
    others = [{**entry, "id": "mlx-community/another"}] if engine.name == "mlx" else []
    return {"object": "list", "data": [*others, entry]}


# --------------------------------------------------------------------------- answers


def said(engine: Engine, body: Json) -> tuple[str | None, Json | None]:
    """A text or a call of the first tool."""
    tools = body.get("tools")
    if not tools or body["messages"][-1]["role"] == "tool":
        return f"Hello from {engine.name}.", None
    function = tools[0]["function"]
    required = function["parameters"].get("required", [])
    arguments = json.dumps(dict.fromkeys(required, "Oslo"))
    return None, {"name": function["name"], "arguments": arguments}


def whole(engine: Engine, body: Json) -> Json:
    text, call = said(engine, body)
    calls = [{"id": "call_1", "index": 0, "type": "function", "function": call}] if call else None
    message: Json = {"role": "assistant", "content": text, "tool_calls": calls or []}
    if engine.name == "sglang":  # it names what is not there
        message |= {"reasoning_content": None, "tool_calls": calls}
    finish = "tool_calls" if call else "stop"
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    return {**frame(body, "chat.completion"), "choices": [choice], "usage": USAGE}


def events(engine: Engine, body: Json) -> Iterator[bytes]:
    text, call = said(engine, body)
    nothing = {"reasoning_content": None, "tool_calls": None} if engine.name == "sglang" else {}
    deltas: list[Json] = [{"role": "assistant", "content": "", **nothing}]
    if text is not None:
        deltas += [{**nothing, "content": word} for word in pieces(text)]
    if call is not None:
        first = {"id": "call_1", "index": 0, "type": "function"}
        named = {**first, "function": {"name": call["name"], "arguments": ""}}
        rest = [{"index": 0, "function": {"arguments": p}} for p in pieces(call["arguments"])]
        deltas += [{**nothing, "tool_calls": [piece]} for piece in (named, *rest)]
    for delta in deltas:
        yield event(body, delta, None)
    yield event(body, {}, "tool_calls" if call else "stop")
    if (body.get("stream_options") or {}).get("include_usage"):
        yield sse({**frame(body, CHUNK), "choices": [], "usage": USAGE})
    yield b"data: [DONE]\n\n"


def pieces(text: str) -> Iterator[str]:
    return (text[at : at + 5] for at in range(0, len(text), 5))


def event(body: Json, delta: Json, finish: str | None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return sse({**frame(body, CHUNK), "choices": [choice]})


def frame(body: Json, kind: str) -> Json:
    return {"id": "chatcmpl-1", "object": kind, "created": 1795196649, "model": body["model"]}


def sse(value: Json) -> bytes:
    return f"data: {json.dumps(value)}\n\n".encode()


CHUNK = "chat.completion.chunk"
USAGE = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
