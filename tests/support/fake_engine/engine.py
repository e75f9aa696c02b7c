"""Routes, and the performing of answers; the control plane."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.support.fake_engine.completion import (
    BAD_KEY,
    LOADING,
    NO_ROUTE,
    Completion,
    llamacpp_error,
    overflow_error,
    sse,
)
from tests.support.fake_engine.journal import Journal, Record
from tests.support.fake_engine.reply import WRITE_BUFFER_BYTES, Cut, Reply, reset_on_close
from tests.support.fake_engine.request import Inbox, Request, read_request
from tests.support.fake_engine.response import Response, chat_of
from tests.support.fake_engine.script import (
    CHAT_PATH,
    COUNT_PATH,
    RESPONSES_PATH,
    Answer,
    Json,
    answer_for,
    prompt_tokens,
)


def write_log_lines(size_bytes: int) -> None:
    """Blocks when nobody reads the pipe, as a real engine's logging does."""
    line = "srv  log_line: " + "." * 84 + "\n"
    for _ in range(0, size_bytes, len(line)):
        sys.stdout.write(line)
    if size_bytes:
        sys.stdout.flush()


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


async def cancelled(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
