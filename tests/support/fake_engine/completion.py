"""An answer as llama.cpp sends it: its chunks, one JSON body, its errors. Pure."""

from __future__ import annotations

import itertools
import json
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence

from tests.support.fake_engine.script import Answer, Json, ToolCall, prompt_tokens, tokens_in


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
        return {"choices": [choice], **frame, **(self.usage() if answer.usage != "never" else {})}

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
            yield sse({"choices": [], **self._frame, "object": CHUNK, **self.usage()})
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

    def usage(self) -> Json:
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
