"""A scripted engine: llama.cpp's OpenAI chat surface, with every fault on demand.

Runs as a process of its own, so that sockets, signals and exit codes are real. Standard library
only: it must start in a few tens of milliseconds and must not share code with what it tests.

The parts, in order:

1. *Script* (pure): an `Answer` says what one chat request gets and how it ends. Answers wait in a
   queue; a chat request takes the first one whose `when` holds. With none left, a rule answers.
2. *Shapes* (pure): an answer as llama.cpp's chunks or as one JSON body.
3. *Journal*: every request that came, with marks for what became of it. Tests wait on marks
   instead of sleeping.
4. *HTTP*: enough of HTTP/1.1, on asyncio streams. A client that leaves is noticed at once, because
   the stream reader tells us of end-of-file while nobody reads from it.
5. *Engine*: routes and the performing of answers.

Control plane: `GET /_fake/requests`, `POST /_fake/script`, `POST /_fake/reset`,
`GET /_fake/wait?event=MARK&count=N&timeout=S[&path=SUFFIX]`.

Marks, in seconds since the request came: `request` (read whole), `headers` (ours are out), `first`
(first body byte is out), `blocked` (the client stopped reading), `finish` (answered to the end as
scripted), `disconnect` (the client left before that), `dropped` (we closed on it unanswered).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import itertools
import json
import os
import re
import secrets
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias
from urllib.parse import parse_qs, urlsplit

Json: TypeAlias = Any
"""What JSON brings in: checked where it is used."""

CHAT_PATH = "/v1/chat/completions"
COUNT_PATH = "/v1/chat/completions/input_tokens"
RESPONSES_PATH = "/v1/responses"
DEFAULT_TEXT = "Hello from the fake engine."

BLOCKED_AFTER_S = 0.5
"""A write that waits this long means that the client does not read."""
WRITE_BUFFER_BYTES = 64 * 1024
"""Small on purpose: a client that does not read should be felt soon."""
MAX_HEAD_BYTES = 256 * 1024
GRANDCHILD_LIFE_S = 600


# --- 1. script ------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ToolCall:
    """`arguments` is JSON *text* and goes out as it is: broken JSON is a case too."""

    name: str
    arguments: str = "{}"
    id: str | None = None


@dataclass(frozen=True, kw_only=True)
class When:
    """Claims about a chat request. Those that are set must all hold."""

    has_tools: bool | None = None
    last_role: str | None = None
    contains: str | None = None
    stream: bool | None = None

    def holds(self, body: Mapping[str, Json]) -> bool:
        found = (
            (self.has_tools, bool(body.get("tools"))),
            (self.last_role, last_role(body)),
            (self.stream, bool(body.get("stream"))),
        )
        if any(wanted is not None and wanted != is_so for wanted, is_so in found):
            return False
        return self.contains is None or self.contains in json.dumps(body, ensure_ascii=False)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one chat request gets. The default is an empty, well-formed answer."""

    when: When | None = None
    repeat: bool = False
    """Stay in the queue after use."""

    # what is said
    text: str = ""
    reasoning: str = ""
    reasoning_field: Literal["reasoning_content", "reasoning", "both"] = "reasoning_content"
    tool_calls: tuple[ToolCall, ...] = ()
    tool_style: Literal["fragments", "whole", "interleaved"] = "fragments"
    fragment_chars: tuple[int, ...] = (4,)
    """Sizes of the pieces, used in turn and again from the start."""
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int = 0
    usage: Literal["asked", "always", "never"] = "asked"
    progress: tuple[int, ...] = ()
    """Prompt tokens read so far, a chunk for each, in streams that ask for it."""
    prompt_per_second: float | None = None
    flood_bytes: int = 0
    """Say this much more text, in pieces of 16 KB made as they go."""

    # or verbatim
    raw_sse: str | None = None
    """Streamed as it is. Bytes that are not UTF-8: decode them with `surrogateescape`."""
    cuts: tuple[int, ...] = ()
    """Byte offsets at which `raw_sse` is cut into separate writes."""
    status: int = 200
    body: Json = None
    """Instead of the built answer: a string goes out as text, anything else as JSON."""
    headers: Mapping[str, str] = field(default_factory=dict)

    # how it is sent
    framing: Literal["auto", "chunked", "length", "close"] = "auto"
    done_marker: bool = True
    delay_headers_s: float = 0.0
    delay_first_s: float = 0.0
    delay_between_s: float = 0.0

    # how it ends
    then: Literal["finish", "stall", "cut", "reset", "error", "die"] = "finish"
    """`stall`: silence for ever. `cut`: close without the end of the body. `reset`: the same with
    a TCP reset. `error`: send `error` as an event and end. `die`: the process is gone."""
    at: int | Literal["headers", "end"] = "end"
    """When `then` happens: after so many events, instead of the headers, or after all events."""
    error: Json = None
    keep_alive: Literal["normal", "drop", "drop_on_next"] = "normal"
    """`drop`: close the connection after the answer without having said so. `drop_on_next`: keep
    it, and close it when the next request arrives on it, as a server does whose idle timeout
    fires at that moment."""

    @staticmethod
    def from_json(entry: Mapping[str, Json]) -> Answer:
        """Raises `TypeError` on an unknown key: a typo in a script must not pass silently."""
        known = dict(entry)
        when = known.pop("when", None)
        calls = tuple(tool_call_from_json(call) for call in known.pop("tool_calls", ()))
        for name in ("cuts", "fragment_chars", "progress"):
            if name in known:
                known[name] = tuple(known[name])
        return Answer(when=When(**when) if when else None, tool_calls=calls, **known)

    def to_json(self) -> Json:
        return dataclasses.asdict(self)


def tool_call_from_json(call: Mapping[str, Json]) -> ToolCall:
    arguments = call.get("arguments", "{}")
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return ToolCall(name=call["name"], arguments=text, id=call.get("id"))


def answer_for(queue: list[Answer], body: Mapping[str, Json]) -> Answer:
    """Take the first scripted answer that fits out of the queue, else the rule's."""
    for position, answer in enumerate(queue):
        if answer.when is None or answer.when.holds(body):
            if not answer.repeat:
                del queue[position]
            return answer
    return answer_by_rule(body)


def answer_by_rule(body: Mapping[str, Json]) -> Answer:
    """1. Tool results after the last assistant turn: quote them.
    2. A user line `run: CMD` and a tool named Bash: call it.
    3. Otherwise a constant text."""
    messages = messages_of(body)
    results = results_since_assistant(messages)
    if results:  # 1
        return Answer(text="The tool said: " + "\n".join(results))
    names = {tool.get("function", {}).get("name") for tool in body.get("tools") or ()}
    command = command_asked(messages)
    if command and "Bash" in names:  # 2
        arguments = json.dumps({"command": command, "description": "Run what was asked"})
        return Answer(text="Running it.", tool_calls=(ToolCall(name="Bash", arguments=arguments),))
    return Answer(text=DEFAULT_TEXT)  # 3


def messages_of(body: Mapping[str, Json]) -> list[Mapping[str, Json]]:
    return [message for message in body.get("messages") or () if isinstance(message, dict)]


def last_role(body: Mapping[str, Json]) -> str | None:
    """The last turn's role. System turns do not count: clients put reminders anywhere."""
    roles = [str(m.get("role")) for m in messages_of(body) if m.get("role") != "system"]
    return roles[-1] if roles else None


def results_since_assistant(messages: Sequence[Mapping[str, Json]]) -> list[str]:
    results: list[str] = []
    for message in reversed(messages):
        if message.get("role") == "assistant":
            break
        if message.get("role") == "tool":
            results.insert(0, text_of(message))
    return results


def command_asked(messages: Sequence[Mapping[str, Json]]) -> str | None:
    """The last user line that starts with `run: `; clients put much else into user turns."""
    for message in reversed(messages):
        if message.get("role") == "user":
            found = re.findall(r"^run: (.+)$", text_of(message), flags=re.MULTILINE)
            if found:
                return str(found[-1]).strip()
    return None


def text_of(message: Mapping[str, Json]) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    return "\n".join(str(part.get("text", "")) for part in content or () if isinstance(part, dict))


def tokens_in(value: Json) -> int:
    """A stand-in for a tokenizer: four characters of JSON are a token."""
    return max(1, len(json.dumps(value, ensure_ascii=False)) // 4)


def prompt_tokens(body: Mapping[str, Json]) -> int:
    return tokens_in([body.get("messages"), body.get("tools")])


# --- 2. shapes, as llama.cpp sends them -----------------------------------------------------


def llamacpp_error(status: int, kind: str, message: str, **more: Json) -> Json:
    return {"error": {"code": status, "message": message, "type": kind, **more}}


LOADING = llamacpp_error(503, "unavailable_error", "Loading model")
BAD_KEY = llamacpp_error(401, "authentication_error", "Invalid API Key")
NO_ROUTE = llamacpp_error(404, "not_found_error", "File Not Found")


def overflow_error(used: int, limit: int) -> Json:
    message = (
        f"request ({used} tokens) exceeds the available context size ({limit} tokens), "
        "try increasing it"
    )
    kind = "exceed_context_size_error"
    return llamacpp_error(400, kind, message, n_prompt_tokens=used, n_ctx=limit)


def pieces(text: str, sizes: Sequence[int]) -> Iterator[str]:
    start = 0
    for size in itertools.cycle(sizes or (len(text) or 1,)):
        if start >= len(text):
            return
        yield text[start : start + max(1, size)]
        start += max(1, size)


def sse(value: Json) -> bytes:
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return f"data: {text}\n\n".encode()


class Completion:
    """One answer to one request, as a stream of events or as one JSON body."""

    def __init__(self, answer: Answer, body: Mapping[str, Json], model: str) -> None:
        self._answer = answer
        self._body = body
        self._frame = {
            "created": int(time.time()),
            "id": "chatcmpl-" + secrets.token_hex(16),
            "model": model,
            "system_fingerprint": "b0-fake",
        }
        self._calls = [(call, call.id or secrets.token_hex(16)) for call in answer.tool_calls]
        self._finish = answer.finish_reason or ("tool_calls" if self._calls else "stop")

    def whole(self) -> Json:
        answer = self._answer
        message: dict[str, Json] = {"role": "assistant", "content": answer.text}
        message |= self._reasoning(answer.reasoning) if answer.reasoning else {}
        if self._calls:
            message["tool_calls"] = [
                self._call(call, call_id, call.arguments) for call, call_id in self._calls
            ]
        choice = {"finish_reason": self._finish, "index": 0, "message": message}
        frame = {**self._frame, "object": "chat.completion"}
        return {"choices": [choice], **frame, **(self._usage() if answer.usage != "never" else {})}

    def events(self) -> Iterator[bytes]:
        if self._answer.raw_sse is not None:
            yield from self._raw(self._answer.raw_sse)
            return
        yield from self._progress()
        yield self._chunk({"role": "assistant", "content": None})
        for delta in self._deltas():
            yield self._chunk(delta)
        yield self._chunk({}, finish=self._finish)
        if self._wants_usage():
            yield sse({"choices": [], **self._frame, "object": CHUNK, **self._usage()})
        if self._answer.done_marker:
            yield b"data: [DONE]\n\n"

    def _progress(self) -> Iterator[bytes]:
        if self._body.get("return_progress") is not True:
            return
        choice = {
            "finish_reason": None,
            "index": 0,
            "delta": {"role": "assistant", "content": None},
        }
        for processed in self._answer.progress:
            told = {"total": self._answer.progress[-1], "cache": 0, "processed": processed}
            frame = {**self._frame, "object": CHUNK, "prompt_progress": {**told, "time_ms": 1}}
            yield sse({"choices": [choice], **frame})

    def _raw(self, text: str) -> Iterator[bytes]:
        raw = text.encode("utf-8", "surrogateescape")
        edges = [0, *self._answer.cuts, len(raw)]
        yield from (raw[a:b] for a, b in itertools.pairwise(edges) if a < b)

    def _deltas(self) -> Iterator[Json]:
        answer = self._answer
        for piece in pieces(answer.reasoning, answer.fragment_chars):
            yield self._reasoning(piece)
        for piece in pieces(answer.text, answer.fragment_chars):
            yield {"content": piece}
        flood = "x" * 16 * 1024
        for _ in range(0, answer.flood_bytes, len(flood)):
            yield {"content": flood}
        for fragment in self._call_fragments():
            yield {"tool_calls": [fragment]}

    def _call_fragments(self) -> Iterator[Json]:
        streams = [
            self._fragments_of(index, call, call_id)
            for index, (call, call_id) in enumerate(self._calls)
        ]
        if self._answer.tool_style != "interleaved":
            yield from itertools.chain.from_iterable(streams)
            return
        for round_ in itertools.zip_longest(*streams):
            yield from (fragment for fragment in round_ if fragment is not None)

    def _fragments_of(self, index: int, call: ToolCall, call_id: str) -> Iterator[Json]:
        """llama.cpp's way: id and name come with the first piece of the arguments only."""
        sizes = () if self._answer.tool_style == "whole" else self._answer.fragment_chars
        first, *rest = list(pieces(call.arguments, sizes)) or [""]
        yield {"index": index, **self._call(call, call_id, first)}
        for piece in rest:
            yield {"index": index, "function": {"arguments": piece}}

    @staticmethod
    def _call(call: ToolCall, call_id: str, arguments: str) -> dict[str, Json]:
        function = {"name": call.name, "arguments": arguments}
        return {"id": call_id, "type": "function", "function": function}

    def _reasoning(self, text: str) -> dict[str, Json]:
        name = self._answer.reasoning_field
        names = ("reasoning_content", "reasoning") if name == "both" else (name,)
        return dict.fromkeys(names, text)

    def _chunk(self, delta: Json, finish: str | None = None) -> bytes:
        choice = {"finish_reason": finish, "index": 0, "delta": delta}
        return sse({"choices": [choice], **self._frame, "object": CHUNK})

    def _wants_usage(self) -> bool:
        options = self._body.get("stream_options") or {}
        return {
            "always": True,
            "never": False,
            "asked": bool(options.get("include_usage")),
        }[self._answer.usage]

    def _usage(self) -> Json:
        answer = self._answer
        prompt = answer.prompt_tokens
        prompt = prompt_tokens(self._body) if prompt is None else prompt
        said = [answer.text, answer.reasoning, [c.arguments for c in answer.tool_calls]]
        completion = answer.completion_tokens
        completion = tokens_in(said) if completion is None else completion
        usage = {
            "completion_tokens": completion,
            "prompt_tokens": prompt,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": answer.cached_tokens},
        }
        fresh = prompt - answer.cached_tokens
        timings: dict[str, Json] = {
            "cache_n": answer.cached_tokens,
            "prompt_n": fresh,
            "predicted_n": completion,
        }
        if answer.prompt_per_second is not None:
            timings["prompt_per_second"] = answer.prompt_per_second
        return {"usage": usage, "timings": timings}


CHUNK = "chat.completion.chunk"


def chat_of(body: Mapping[str, Json]) -> dict[str, Json]:
    """A Responses request as the chat that it means: for `When`, the rules, and its tokens."""
    given = body.get("input")
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given or []
    head = [{"role": "system", "content": body["instructions"]}] if "instructions" in body else []
    messages = [*head, *map(message_of, items)]
    return {**body, "messages": messages}


def message_of(item: Mapping[str, Json]) -> Json:
    match item.get("type", "message"):
        case "message":
            return {"role": item["role"], "content": item["content"]}
        case "function_call_output":
            return {"role": "tool", "content": item["output"]}
        case _:
            return {"role": "assistant", "content": "", **item}


class Response:
    """One answer to one Responses request: as vLLM sends it (`right`), which is right, or as llama.cpp
    does: events without numbers and places, a response without what it only echoes."""

    def __init__(
        self, answer: Answer, body: Mapping[str, Json], model: str, *, right: bool
    ) -> None:
        self._answer, self._right = answer, right
        self._usage = Completion(answer, chat_of(body), model)._usage()["usage"]
        self._frame: dict[str, Json] = {
            "id": "resp_" + secrets.token_hex(8),
            "object": "response",
            "created_at": int(time.time()),
            "model": model,
        }
        if right:
            names = ("tools", "tool_choice", "parallel_tool_calls", "instructions", "store")
            self._frame |= {name: body[name] for name in names if name in body}

    def whole(self) -> Json:
        usage, detail = self._usage, self._usage["prompt_tokens_details"]
        told = {
            "input_tokens": usage["prompt_tokens"],
            "output_tokens": usage["completion_tokens"],
            "total_tokens": usage["total_tokens"],
            "input_tokens_details": detail,
        }
        is_cut = self._answer.finish_reason == "length"
        end: dict[str, Json] = {"status": "incomplete" if is_cut else "completed", "usage": told}
        if is_cut:
            end["incomplete_details"] = {"reason": "max_output_tokens"}
        return {**self._frame, "output": [item for item, _, _ in self._items()], **end}

    def _items(self) -> list[tuple[Json, str, str]]:
        """Each with the name of its text's events, and the text."""
        answer, own = self._answer, self._frame["id"].removeprefix("resp_")
        items: list[tuple[Json, str, str]] = []
        item: dict[str, Json]
        part: dict[str, Json]
        if answer.reasoning:
            part = {"type": "reasoning_text", "text": answer.reasoning}
            item = {"id": f"rs_{own}", "type": "reasoning", "summary": [], "content": [part]}
            items.append((item, "reasoning_text", answer.reasoning))
        if answer.text:
            part = {"type": "output_text", "text": answer.text, "annotations": []}
            item = {"id": f"msg_{own}", "type": "message", "role": "assistant"}
            item["content"] = [{**part, "logprobs": []}]
            items.append((item, "output_text", answer.text))
        for n, call in enumerate(answer.tool_calls):
            item = {"id": f"fc_{own}{n}", "type": "function_call", "name": call.name}
            item |= {"call_id": call.id or f"call_{own}{n}", "arguments": call.arguments}
            items.append((item, "function_call_arguments", call.arguments))
        return [({**item, "status": "completed"}, name, text) for item, name, text in items]

    def events(self) -> Iterator[bytes]:
        started: Json = {**self._frame, "status": "in_progress", "output": []}
        told: list[Json] = [
            {"type": f"response.{name}", "response": started} for name in ("created", "in_progress")
        ]
        for index, item in enumerate(self._items()):
            told += self._item_events(index, *item)
        told.append({"type": "response.completed", "response": self.whole()})
        for number, event in enumerate(told):
            if self._right:
                event = {**event, "sequence_number": number}
            else:
                event = {key: event[key] for key in event if key != "output_index"}
            yield f"event: {event['type']}\n".encode() + sse(event)

    def _item_events(self, index: int, item: Json, name: str, text: str) -> Iterator[Json]:
        is_call = item["type"] == "function_call"
        empty: Json = {"arguments": ""} if is_call else {"content": []}
        place = {"item_id": item["id"], "output_index": index}
        part_place = place if is_call else {**place, "content_index": 0}
        added = {**item, **empty, "status": "in_progress"}
        yield {"type": "response.output_item.added", "output_index": index, "item": added}
        if not is_call:
            part = item["content"][0]
            yield {
                "type": "response.content_part.added",
                **part_place,
                "part": {**part, "text": ""},
            }
        for piece in pieces(text, self._answer.fragment_chars):
            yield {"type": f"response.{name}.delta", **part_place, "delta": piece}
        key = "arguments" if is_call else "text"
        yield {"type": f"response.{name}.done", **part_place, key: text}
        if not is_call:
            yield {"type": "response.content_part.done", **part_place, "part": part}
        yield {"type": "response.output_item.done", "output_index": index, "item": item}


# --- 3. journal -----------------------------------------------------------------------------


@dataclass
class Record:
    """One request and what became of it."""

    n: int
    connection: int
    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: Json
    arrived: float
    status: int | None = None
    events_sent: int = 0
    bytes_sent: int = 0
    marks: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> Json:
        shown = dataclasses.asdict(self)
        del shown["arrived"]
        return {**shown, "disconnected": "disconnect" in self.marks}


class Journal:
    """All requests in order of arrival, and a way to wait until marks appear."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self._news = asyncio.Event()

    def open(self, connection: int, request: Request) -> Record:
        record = Record(
            n=len(self.records),
            connection=connection,
            method=request.method,
            path=request.path,
            query=request.query,
            headers=request.headers,
            body=request.json_or_text(),
            arrived=time.monotonic(),
        )
        self.records.append(record)
        self.mark(record, "request")
        return record

    def mark(self, record: Record, name: str) -> None:
        record.marks.setdefault(name, round(time.monotonic() - record.arrived, 6))
        self._news.set()
        self._news = asyncio.Event()

    def count(self, mark: str, path_suffix: str) -> int:
        marked = (r for r in self.records if mark in r.marks)
        return sum(r.path.endswith(path_suffix) for r in marked)

    async def wait(self, mark: str, count: int, path_suffix: str, timeout_s: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self.count(mark, path_suffix) < count:
                    await self._news.wait()
        return self.count(mark, path_suffix) >= count


# --- 4. HTTP --------------------------------------------------------------------------------


class Cut(Exception):  # noqa: N818  # a deliberate ending, not an error
    """Close the connection here and now; with a TCP reset if `reset`."""

    def __init__(self, *, reset: bool = False) -> None:
        super().__init__()
        self.reset = reset


class Inbox(asyncio.StreamReader):
    """A stream reader that says when the client is gone, also while nobody reads."""

    def __init__(self) -> None:
        super().__init__(limit=MAX_HEAD_BYTES)
        self.gone = asyncio.Event()

    def feed_eof(self) -> None:
        super().feed_eof()
        self.gone.set()

    def set_exception(self, exc: Exception) -> None:
        super().set_exception(exc)
        self.gone.set()


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes

    def json_or_text(self) -> Json:
        try:
            return json.loads(self.body) if self.body else None
        except ValueError:
            return self.body.decode("utf-8", "replace")

    def parameter(self, name: str, default: str) -> str:
        return parse_qs(self.query).get(name, [default])[-1]


async def read_request(inbox: Inbox) -> Request | None:
    """The next request, or None when the client closed between requests."""
    try:
        head = await inbox.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    start, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    method, target, _ = start.split(" ", 2)
    pairs = (line.partition(":") for line in lines)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    url = urlsplit(target)
    return Request(method, url.path, url.query, headers, await read_body(inbox, headers))


async def read_body(inbox: Inbox, headers: Mapping[str, str]) -> bytes:
    if "chunked" not in headers.get("transfer-encoding", "").lower():
        return await inbox.readexactly(int(headers.get("content-length", "0")))
    body = bytearray()
    while size := int((await inbox.readuntil(b"\r\n")).split(b";")[0], 16):
        body += await inbox.readexactly(size)
        await inbox.readexactly(2)
    while (await inbox.readuntil(b"\r\n")) != b"\r\n":
        pass
    return bytes(body)


REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found"}


class Reply:
    """Writes one response and notes in the record how far it got."""

    def __init__(self, writer: asyncio.StreamWriter, journal: Journal, record: Record) -> None:
        self._writer = writer
        self._journal = journal
        self._record = record
        self._chunked = False

    async def start(
        self,
        status: int,
        content_type: str,
        *,
        length: int | None = None,
        chunked: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._chunked = chunked
        fields = {"Server": "llama.cpp", "Content-Type": content_type}
        if chunked:
            fields["Transfer-Encoding"] = "chunked"
        elif length is not None:
            fields["Content-Length"] = str(length)
        if chunked or length is not None:
            fields["Keep-Alive"] = "timeout=5, max=100"
        else:
            fields["Connection"] = "close"
        fields |= headers or {}
        lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}"]
        lines += [f"{name}: {value}" for name, value in fields.items()]
        self._record.status = status
        await self._put("\r\n".join([*lines, "", ""]).encode("latin-1"))
        self._journal.mark(self._record, "headers")

    async def send(self, data: bytes) -> None:
        if not data:
            return
        await self._put(b"%x\r\n%s\r\n" % (len(data), data) if self._chunked else data)
        self._record.events_sent += 1
        self._record.bytes_sent += len(data)
        self._journal.mark(self._record, "first")

    async def end(self) -> None:
        if self._chunked:
            await self._put(b"0\r\n\r\n")

    async def _put(self, data: bytes) -> None:
        self._writer.write(data)
        draining = asyncio.ensure_future(self._writer.drain())
        try:
            done, _ = await asyncio.wait({draining}, timeout=BLOCKED_AFTER_S)
            if not done:
                self._journal.mark(self._record, "blocked")
            await draining
        finally:
            draining.cancel()


# --- 5. engine ------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The command line, read."""

    model: str = "fake"
    ctx: int = 131072
    slots: int = 1
    ready_after_s: float = 0.0
    die_after: int | None = None
    flood_stdout_bytes: int = 0
    api_key: str | None = None
    has_token_count: bool = True
    has_props: bool = True
    has_vision: bool = False
    responses: str = "none"


class Engine:
    """Owns the script queue and the journal; one task per connection."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._started = time.monotonic()
        self._journal = Journal()
        self._queue: list[Answer] = []
        self._connections = itertools.count(1)
        self._chats = itertools.count(1)

    async def serve_connection(self, inbox: Inbox, writer: asyncio.StreamWriter) -> None:
        number = next(self._connections)
        writer.transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        try:
            await self._serve_requests(number, inbox, writer)
        except Cut as cut:
            if cut.reset:
                reset_on_close(writer)
                writer.transport.abort()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _serve_requests(
        self, number: int, inbox: Inbox, writer: asyncio.StreamWriter
    ) -> None:
        mood = "normal"
        while (request := await read_request(inbox)) is not None:
            if request.path.startswith("/_fake/"):
                await self._control(request, writer)
                continue
            record = self._journal.open(number, request)
            if mood == "drop_on_next":
                self._journal.mark(record, "dropped")
                raise Cut
            reply = Reply(writer, self._journal, record)
            mood = await self._answer_or_leave(request, reply, record, inbox)
            closing = request.headers.get("connection", "").lower() == "close"
            if mood in ("drop", "close") or closing:
                return

    async def _answer_or_leave(
        self, request: Request, reply: Reply, record: Record, inbox: Inbox
    ) -> str:
        """Answer, unless the client leaves first. Returns what becomes of the connection."""
        answering = asyncio.ensure_future(self._answer(request, reply))
        leaving = asyncio.ensure_future(inbox.gone.wait())
        try:
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if answering.done():
                mood = answering.result()
                self._journal.mark(record, "finish")
                return mood
            raise ConnectionResetError
        except ConnectionError:
            self._journal.mark(record, "disconnect")
            return "close"
        finally:
            await cancelled(answering, leaving)

    async def _answer(self, request: Request, reply: Reply) -> str:
        """Returns the mood the connection is left in."""
        settings = self._settings
        if request.path == "/health":
            await self._plain(reply, *self._health())
        elif self._refuses(request):
            await self._plain(reply, 401, BAD_KEY)
        elif self._is_loading():
            await self._plain(reply, 503, LOADING)
        elif (request.method, request.path) == ("POST", CHAT_PATH):
            return await self._chat(request, reply)
        elif request.path == RESPONSES_PATH and settings.responses != "none":
            return await self._responses(request, reply)
        elif (request.method, request.path) == ("GET", "/v1/models"):
            await self._plain(reply, 200, self._models())
        elif request.path == COUNT_PATH and settings.has_token_count:
            count = prompt_tokens(request.json_or_text())
            await self._plain(reply, 200, {"object": COUNT_OBJECT, "input_tokens": count})
        elif request.path == "/props" and settings.has_props:
            await self._plain(reply, 200, self._props())
        else:
            await self._plain(reply, 404, NO_ROUTE)
        return "normal"

    # chat

    async def _chat(self, request: Request, reply: Reply) -> str:
        self._count_down()
        write_log_lines(self._settings.flood_stdout_bytes)
        body = request.json_or_text()
        if not isinstance(body, dict) or "messages" not in body:
            kind = "invalid_request_error"
            await self._plain(reply, 400, llamacpp_error(400, kind, "'messages' is required"))
            return "normal"
        answer = answer_for(self._queue, body)
        used = prompt_tokens(body)
        if used > self._settings.ctx:
            await self._plain(reply, 400, overflow_error(used, self._settings.ctx))
            return "normal"
        said = Completion(answer, body, str(body.get("model") or self._settings.model))
        await self._perform(answer, body, reply, said)
        return "close" if answer.framing == "close" else answer.keep_alive

    async def _responses(self, request: Request, reply: Reply) -> str:
        body = request.json_or_text()
        if not isinstance(body, dict) or "input" not in body:
            kind = "invalid_request_error"
            await self._plain(reply, 400, llamacpp_error(400, kind, "'input' is required"))
            return "normal"
        answer = answer_for(self._queue, chat_of(body))
        right = self._settings.responses == "right"
        said = Response(answer, body, str(body.get("model")), right=right)
        await self._perform(answer, body, reply, said)
        return "close" if answer.framing == "close" else answer.keep_alive

    async def _perform(
        self,
        answer: Answer,
        body: Mapping[str, Json],
        reply: Reply,
        completion: Completion | Response,
    ) -> None:
        await asyncio.sleep(answer.delay_headers_s)
        if answer.at == "headers":
            await ending(answer, reply)
        if answer.status != 200 or answer.body is not None:
            await self._send_whole(answer, answer.body, reply)
        elif body.get("stream"):
            await self._send_stream(answer, completion, reply)
        else:
            await self._send_whole(answer, completion.whole(), reply)

    async def _send_whole(self, answer: Answer, value: Json, reply: Reply) -> None:
        """An ending that is not at the end comes after half of the body."""
        kind, data = encoded(value)
        framing = "length" if answer.framing == "auto" else answer.framing
        length = len(data) if framing == "length" else None
        is_chunked = framing == "chunked"
        await reply.start(
            answer.status, kind, length=length, chunked=is_chunked, headers=answer.headers
        )
        await asyncio.sleep(answer.delay_first_s)
        middle = len(data) if answer.at == "end" else len(data) // 2
        await reply.send(data[:middle])
        await ending(answer, reply)
        await reply.send(data[middle:])
        await reply.end()

    async def _send_stream(
        self, answer: Answer, completion: Completion | Response, reply: Reply
    ) -> None:
        events = completion.events()
        kind = "text/event-stream"
        if answer.framing == "length":
            data = b"".join(events)
            await reply.start(200, kind, length=len(data), headers=answer.headers)
            await reply.send(data)
            return
        is_chunked = answer.framing != "close"
        await reply.start(200, kind, chunked=is_chunked, headers=answer.headers)
        await asyncio.sleep(answer.delay_first_s)
        async for event in paced(events, answer.delay_between_s, answer.at):
            await reply.send(event)
        await ending(answer, reply)
        await reply.end()

    # state

    def _is_loading(self) -> bool:
        return time.monotonic() - self._started < self._settings.ready_after_s

    def _health(self) -> tuple[int, Json]:
        return (503, LOADING) if self._is_loading() else (200, {"status": "ok"})

    def _refuses(self, request: Request) -> bool:
        key = self._settings.api_key
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        return key is not None and key not in (given, request.headers.get("x-api-key"))

    def _count_down(self) -> None:
        limit = self._settings.die_after
        if limit is not None and next(self._chats) > limit:
            os._exit(1)

    def _models(self) -> Json:
        name, ctx = self._settings.model, self._settings.ctx
        meta = {"n_ctx": ctx, "n_ctx_train": ctx, "n_vocab": 512, "n_params": 722048, "size": 1}
        entry = {"id": name, "aliases": [name], "object": "model", "owned_by": "llamacpp"}
        return {"object": "list", "data": [{**entry, "created": int(time.time()), "meta": meta}]}

    def _props(self) -> Json:
        name, ctx = self._settings.model, self._settings.ctx
        return {
            "default_generation_settings": {"n_ctx": ctx},
            "total_slots": self._settings.slots,
            "model_alias": name,
            "model_path": f"models/{name}.gguf",
            "modalities": {"vision": self._settings.has_vision, "video": False, "audio": False},
            "chat_template": "",
            "build_info": "b0-fake",
        }

    async def _plain(self, reply: Reply, status: int, value: Json) -> None:
        await self._send_whole(Answer(status=status), value, reply)

    # control plane: not in the journal

    async def _control(self, request: Request, writer: asyncio.StreamWriter) -> None:
        status, value = await self._controlled(request)
        _, data = encoded(value)
        head = f"HTTP/1.1 {status} Status\r\nContent-Length: {len(data)}\r\n\r\n"
        writer.write(head.encode() + data)
        await writer.drain()

    async def _controlled(self, request: Request) -> tuple[int, Json]:
        match request.path:
            case "/_fake/requests":
                return 200, {"requests": [record.to_json() for record in self._journal.records]}
            case "/_fake/script":
                return self._extend_script(request.json_or_text())
            case "/_fake/reset":
                self._queue.clear()
                self._journal.records.clear()
                return 200, {}
            case "/_fake/wait":
                return await self._wait(request)
        return 404, {"error": f"no such control route: {request.path}"}

    def _extend_script(self, entries: Json) -> tuple[int, Json]:
        try:
            self._queue += [Answer.from_json(entry) for entry in entries]
        except (TypeError, KeyError) as error:
            return 400, {"error": f"bad script: {error}"}
        return 200, {"queued": len(self._queue)}

    async def _wait(self, request: Request) -> tuple[int, Json]:
        event = request.parameter("event", "request")
        path = request.parameter("path", CHAT_PATH)
        count = int(request.parameter("count", "1"))
        timeout_s = float(request.parameter("timeout", "10"))
        is_so = await self._journal.wait(event, count, path, timeout_s)
        return 200, {"ok": is_so, "count": self._journal.count(event, path)}


COUNT_OBJECT = "response.input_tokens"


def encoded(value: Json) -> tuple[str, bytes]:
    if isinstance(value, str):
        return "text/plain; charset=utf-8", value.encode("utf-8", "surrogateescape")
    return "application/json; charset=utf-8", json.dumps(value).encode()


async def paced(events: Iterator[bytes], delay_s: float, limit: int | str) -> AsyncIterator[bytes]:
    for event in itertools.islice(events, limit if isinstance(limit, int) else None):
        yield event
        await asyncio.sleep(delay_s)


async def ending(answer: Answer, reply: Reply) -> None:
    """Do what `answer.then` says. Returns when the body is still to be ended properly."""
    match answer.then:
        case "stall":
            await asyncio.Event().wait()
        case "error":
            await reply.send(sse(answer.error or SERVER_ERROR))
        case "die":
            os._exit(1)
        case "cut" | "reset":
            raise Cut(reset=answer.then == "reset")


SERVER_ERROR = llamacpp_error(500, "server_error", "the fake engine fails as scripted")


def reset_on_close(writer: asyncio.StreamWriter) -> None:
    """Linger for zero seconds: the close sends RST instead of FIN."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def cancelled(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


# --- the process ----------------------------------------------------------------------------


def write_log_lines(size_bytes: int) -> None:
    """Blocks when nobody reads the pipe, as a real engine's logging does."""
    line = "srv  log_line: " + "." * 84 + "\n"
    for _ in range(0, size_bytes, len(line)):
        sys.stdout.write(line)
    if size_bytes:
        sys.stdout.flush()


def fork_grandchild() -> int:
    """One that flees into a session of its own, and is deaf to SIGTERM."""
    program = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    program += f"time.sleep({GRANDCHILD_LIFE_S})"
    return subprocess.Popen([sys.executable, "-c", program], start_new_session=True).pid


def ending_signals(options: argparse.Namespace) -> asyncio.Event:
    """Set on SIGTERM and, if asked for, when our standard input is closed."""
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    if options.ignore_sigterm:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        loop.add_signal_handler(signal.SIGTERM, told.set)
    if options.until_stdin_eof:
        loop.add_reader(sys.stdin.fileno(), on_stdin, told)
    return told


def on_stdin(told: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 4096):
        told.set()
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())


async def run(options: argparse.Namespace) -> None:
    told = ending_signals(options)  # before anyone can know that we are here
    engine = Engine(settings_from(options))
    loop = asyncio.get_running_loop()
    server = await loop.create_server(connection_factory(engine), options.host, options.port)
    hello = {"port": server.sockets[0].getsockname()[1], "pid": os.getpid()}
    if options.fork_grandchild:
        hello["grandchild"] = fork_grandchild()
    print(json.dumps(hello), flush=True)
    if options.hello_file:
        options.hello_file.write_text(json.dumps(hello))
    write_log_lines(options.flood_stdout)
    await told.wait()


def connection_factory(engine: Engine) -> Callable[[], asyncio.StreamReaderProtocol]:
    """As `asyncio.start_server` does it, but with our reader."""

    def connection() -> asyncio.StreamReaderProtocol:
        inbox = Inbox()

        def connected(
            _: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> Coroutine[Any, Any, None]:
            return engine.serve_connection(inbox, writer)

        return asyncio.StreamReaderProtocol(inbox, connected)

    return connection


def settings_from(options: argparse.Namespace) -> Settings:
    return Settings(
        model=options.model,
        ctx=options.ctx // options.parallel,
        slots=options.parallel,
        ready_after_s=options.ready_after,
        die_after=options.die_after,
        flood_stdout_bytes=options.flood_stdout,
        api_key=options.api_key,
        has_token_count=not options.no_token_count,
        has_props=not options.no_props,
        has_vision=options.vision,
        responses=options.responses,
    )


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="A scripted engine for tests. Takes llama-server's options, too: those that it "
        "does not know are ignored, so that it can stand in for one.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1")
    add("--port", type=int, default=0, help="0 picks a free one; printed as JSON")
    add("--model", "--alias", default="fake")
    add("--ctx", "-c", type=int, default=131072, help="(pretended) tokens, for all slots together")
    add("--parallel", "-np", type=int, default=1, help="slots")
    add("--api-key", default=os.environ.get("LLAMA_API_KEY"))
    add("--ready-after", type=float, default=0.0, metavar="S", help="load for so long: 503")
    add("--die-after", type=int, metavar="N", help="exit 1 on the chat request after the Nth")
    add("--flood-stdout", type=int, default=0, metavar="BYTES", help="at start, per request")
    add("--fork-grandchild", action="store_true")
    add("--ignore-sigterm", action="store_true")
    add("--hello-file", type=Path, help="write the first line of our output there, too")
    add("--no-token-count", action="store_true")
    add("--no-props", action="store_true")
    add("--vision", action="store_true", help="say that the model sees images")
    add(
        "--responses",
        choices=["none", "right", "llamacpp"],
        default="none",
        help="its /v1/responses",
    )
    add("--until-stdin-eof", action="store_true", help="end when the starter is gone")
    return parser


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run(parser().parse_known_args()[0]))
