"""The golden cases: what is in a folder of ``tests/cases/<client>-<engine>/<name>``, and what our
code makes of it.

``request.json`` is the client's body and ``upstream.sse`` or ``upstream.json`` the engine's answer,
recorded from the real engine (its status in ``case.json`` where that is not 200). The rest is
expected: ``engine_request.json``, ``client.sse`` or ``client.json``, ``usage.json``.
``python -m tests.wire.record`` writes it anew; look at the difference before it is committed.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from homeport.engines import llamacpp, mlx, vllm
from homeport.errors import ClientError, RequestFault, UpstreamError
from homeport.facts import EngineFacts, ModelFacts
from homeport.wire import (
    anthropic,
    anthropic_answer,
    faults,
    openai_chat,
    openai_chat_answer,
    openai_chat_upstream,
)
from homeport.wire.anthropic_stream import AnthropicStream
from homeport.wire.events import Failure, Usage, UsageReport
from homeport.wire.passthrough import ChatRelay, relay_body
from homeport.wire.stream import FromChat, StreamTranslation

CASES = Path(__file__).parent.parent / "cases"
ENGINES = {"llamacpp": llamacpp.FACTS, "mlx": mlx.FACTS, "vllm": vllm.FACTS}
MODEL = ModelFacts(name="tiny", context_tokens=2048)
REQUEST_ID, MESSAGE_ID = "req_1", "msg_1"
PROMPT_ESTIMATE = 10


@dataclass(frozen=True)
class Case:
    folder: Path

    @property
    def id(self) -> str:
        return f"{self.folder.parent.name}/{self.folder.name}"

    @property
    def dialect(self) -> Literal["anthropic", "openai_chat"]:
        return "anthropic" if self.folder.parent.name.startswith("anthropic") else "openai_chat"

    @property
    def engine(self) -> EngineFacts:
        return ENGINES[self.folder.parent.name.rsplit("-", 1)[1]]

    @property
    def request(self) -> bytes:
        return (self.folder / "request.json").read_bytes()

    @property
    def is_stream(self) -> bool:
        return (self.folder / "upstream.sse").exists()

    @property
    def upstream(self) -> bytes:
        return (self.folder / f"upstream.{'sse' if self.is_stream else 'json'}").read_bytes()

    @property
    def upstream_status(self) -> int:
        path = self.folder / "case.json"
        return int(json.loads(path.read_text())["upstream_status"]) if path.exists() else 200


def all_cases() -> list[Case]:
    folders = (f for e in ENGINES for f in CASES.glob(f"*-{e}/*") if (f / "request.json").exists())
    return [Case(folder) for folder in sorted(folders)]


def streams() -> list[Case]:
    return [case for case in all_cases() if case.is_stream]


# --------------------------------------------------------------------------- what we make of them


def engine_request(case: Case) -> bytes:
    if case.dialect == "anthropic":
        return openai_chat_upstream.encode(anthropic.decode(case.request), case.engine, MODEL)
    request = openai_chat.decode(case.request)
    return openai_chat.relay_request(case.request, request, case.engine, MODEL)


def translation(case: Case) -> StreamTranslation:
    """The case's translation, its opening already sent."""
    if case.dialect == "anthropic":
        out = anthropic_stream()
        out.start(PROMPT_ESTIMATE)
        return FromChat(out)
    request = openai_chat.decode(case.request)
    return ChatRelay(
        model=request.model or "", wants_usage=request.wants_usage, request_id=REQUEST_ID
    )


def anthropic_stream(**options: Any) -> AnthropicStream:
    options = {"model": "claude-local-tiny", "context_tokens": 2048, **options}
    return AnthropicStream(message_id=MESSAGE_ID, request_id=REQUEST_ID, **options)


def opening(case: Case) -> bytes:
    return anthropic_stream().start(PROMPT_ESTIMATE) if case.dialect == "anthropic" else b""


def run(translation: StreamTranslation, chunks: Iterable[bytes]) -> bytes:
    out = [translation.feed(chunk) for chunk in chunks]
    return b"".join([*out, translation.finish()])


def answer(case: Case) -> tuple[bytes, Usage | None, int]:
    """What the client gets: bytes, recorded usage, status."""
    if case.is_stream:
        stream = translation(case)
        return opening(case) + run(stream, [case.upstream]), stream.usage, 200
    try:
        body, usage = _whole(case)
    except RequestFault as fault:
        body = faults.body_of(fault, case.dialect, REQUEST_ID)
        return body, None, faults.status_of(fault, case.dialect)
    return body, usage, 200


def _whole(case: Case) -> tuple[bytes, Usage | None]:
    if case.upstream_status != 200:
        raise faults.fault_from_engine(case.upstream_status, case.upstream)
    model = json.loads(case.request)["model"]
    if case.dialect == "openai_chat":
        return relay_body(case.upstream, model)
    events = openai_chat_answer.decode_body(case.upstream)
    for event in events:
        if isinstance(event, Failure):
            raise UpstreamError(event.kind, event.message, tokens=event.tokens)
    usage = next((event.usage for event in events if isinstance(event, UsageReport)), None)
    body = anthropic_answer.encode_message(
        events, message_id=MESSAGE_ID, model=model, context_tokens=MODEL.context_tokens
    )
    return body, usage


def expectations(case: Case) -> dict[str, bytes]:
    """The expected files of a case by name."""
    try:
        sent = engine_request(case)
    except ClientError as fault:
        sent = faults.body_of(fault, case.dialect, REQUEST_ID)
    body, usage, status = answer(case)
    return {
        "engine_request.json": pretty(sent),
        "client.sse" if case.is_stream else "client.json": body if case.is_stream else pretty(body),
        "usage.json": pretty(msgspec.json.encode({"status": status, "usage": _told(usage)})),
    }


def _told(usage: Usage | None) -> dict[str, Any] | None:
    """What is seldom known stands there only where it is."""
    if usage is None:
        return None
    fields = msgspec.structs.asdict(usage)
    for name in ("prefill_tokens_per_s", "earlier"):
        if not fields[name]:
            del fields[name]
    return fields


def pretty(body: bytes) -> bytes:
    return msgspec.json.format(body, indent=1) + b"\n"


Feed = Callable[[bytes], list[bytes]]
FEEDS: dict[str, Feed] = {
    "whole": lambda data: [data],
    "by byte": lambda data: [data[i : i + 1] for i in range(len(data))],
}


def cut(data: bytes, points: Iterable[int]) -> list[bytes]:
    """``data`` in pieces, cut at ``points`` (taken modulo its length)."""
    at = sorted({point % (len(data) + 1) for point in points})
    return [data[a:b] for a, b in zip([0, *at], [*at, len(data)], strict=True)]
