"""OpenAI Chat Completions, the answer side: an engine's chunks become neutral events.

Engines differ more here than their documentation says; each branch names who does it. ``Decoder``
reads a stream, one SSE event at a time; ``decode_body`` reads a whole answer through the same code,
as if it were one long chunk, so that both have the same rules (docs/dialects.md 3.2, 3.3).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from homeport.errors import UpstreamError
from homeport.wire.events import (
    End,
    Event,
    Failure,
    Finish,
    Progress,
    Start,
    StopReason,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallStart,
    Usage,
    UsageReport,
)
from homeport.wire.faults import BAD_BODY, fault_in_stream
from homeport.wire.sse import SSEEvent

# --------------------------------------------------------------------------- shapes

Raw = msgspec.Raw
ABSENT = Raw()
"""Engines' own extras stay raw: what one engine means by a word need not decode for another."""


class PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None


class CompletionDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


class WireUsage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None

    def neutral(self, timings: Raw = ABSENT) -> Usage | None:
        """None when it says nothing: zeros would overwrite a better estimate. ``timings`` are
        llama.cpp's, beside the usage."""
        if self.prompt_tokens is None:
            return None
        prompt, completion = self.prompt_tokens_details, self.completion_tokens_details
        return Usage(
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens or 0,
            cached_tokens=prompt.cached_tokens if prompt else None,
            reasoning_tokens=completion.reasoning_tokens if completion else None,
            prefill_tokens_per_s=None if timings is ABSENT else prefill_speed_in(timings),
        )


MIN_PREFILL_TOKENS = 128
"""Reading fewer tells no speed: one token behind a cached prompt takes as long as writing one."""


class Timings(msgspec.Struct):
    prompt_n: int
    prompt_per_second: float


_decode_timings = msgspec.json.Decoder(Timings).decode
_decode_progress = msgspec.json.Decoder(Progress).decode


def prefill_speed_in(timings: Raw) -> float | None:
    """Tokens per second."""
    try:
        found = _decode_timings(timings)
    except BAD_BODY:
        return None
    return found.prompt_per_second if found.prompt_n >= MIN_PREFILL_TOKENS else None


def progress_in(progress: Raw) -> Progress | None:
    try:
        return _decode_progress(progress)
    except BAD_BODY:
        return None


class FunctionDelta(msgspec.Struct):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class CallDelta(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: FunctionDelta | None = None


class TextPart(msgspec.Struct):
    text: str | None = None


class Delta(msgspec.Struct):
    content: str | list[TextPart] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[CallDelta] | None = None
    function_call: FunctionDelta | None = None


class Choice(msgspec.Struct):
    delta: Delta | None = None
    message: Delta | None = None
    finish_reason: str | None = None
    stop_reason: str | int | None = None  # vLLM, TensorRT-LLM: the stop string; int: a token id
    matched_stop: str | int | None = None  # SGLang


class Chunk(msgspec.Struct):
    id: str | int | None = None
    object: str | None = None
    choices: list[Choice] | None = None
    usage: WireUsage | None = None
    timings: Raw = ABSENT
    prompt_progress: Raw = ABSENT
    error: Any = None


_decode_chunk = msgspec.json.Decoder(Chunk).decode


# --------------------------------------------------------------------------- finish reasons

FINISH: dict[str, StopReason | Literal["failed"]] = {
    "stop": "end",
    "eos": "end",
    "length": "length",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
    "abort": "failed",  # SGLang: the request was dropped
    "error": "failed",  # llama.cpp, Ollama
}


# --------------------------------------------------------------------------- tool calls


@dataclass
class _Call:
    """A tool call as its fragments come in. It is announced once its name is known for sure."""

    number: int
    spare_id: str
    """Its id, if the engine gives none."""
    id: str | None = None
    name: str = ""
    held: str = ""
    """Arguments that came before the call could be announced."""
    length: int = 0
    """Characters of arguments so far, passed on or held."""
    is_announced: bool = False

    def take(self, name: str | None, arguments: str) -> list[Event]:
        """The events of one fragment.

        A name may come in pieces, or after arguments (no engine of today, but seen in adapters):
        it counts as complete when arguments follow it. Some servers repeat it on every fragment.
        """
        self.length += len(arguments)
        if self.is_announced:
            return [ToolCallDelta(self.number, arguments)] if arguments else []
        if name and name != self.name:
            self.name += name
        self.held += arguments
        return self.announce() if self.held and self.name else []

    def announce(self) -> list[Event]:
        """What is held back so far; the name is taken as complete now."""
        if self.is_announced:
            return []
        self.is_announced = True
        events: list[Event] = [ToolCallStart(self.number, self.id or self.spare_id, self.name)]
        if self.held:
            events.append(ToolCallDelta(self.number, self.held))
            self.held = ""
        return events


class _Calls:
    """Assigns fragments to calls (docs/dialects.md 3.3, rules 7 to 11).

    1. A fragment with an ``index`` belongs to that index's call; without one, its id decides;
       without an id, the latest call goes on, unless a name comes with it.
    2. But a *new* call begins under a known index or id, when another id comes with a name (Ollama
       sends index 0 for all), or a name and whole arguments come after the name was complete.
    3. In a whole message the position decides; only what the deltas lacked is added.
    """

    def __init__(self) -> None:
        self.seed = ""
        """Makes the ids that we have to invent differ from those of the last answer."""
        self._all: list[_Call] = []
        self._by_index: dict[int, _Call] = {}
        self._by_id: dict[str, _Call] = {}
        self._used_ids: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._all)

    @property
    def has_nameless(self) -> bool:
        return bool(self._all) and any(not call.name and call.held for call in self._all)

    def take(self, fragment: CallDelta) -> list[Event]:
        function = fragment.function or FunctionDelta()
        arguments = _arguments(function)
        call = self._known(fragment, function.name, arguments)
        if call is None:
            events = self._all[-1].announce() if self._all and self._all[-1].name else []
            call = self._new()
        else:
            events = []
        if fragment.index is not None:
            self._by_index[fragment.index] = call
        self._identify(call, fragment.id)
        return events + call.take(function.name, arguments)

    def take_whole(self, fragments: Iterable[CallDelta]) -> list[Event]:
        """The calls of a whole message (case 3)."""
        events: list[Event] = []
        for i, fragment in enumerate(fragments):
            function = fragment.function or FunctionDelta()
            call = self._all[i] if i < len(self._all) else self._new()
            self._identify(call, fragment.id)
            name = None if call.name else function.name
            events += call.take(name, _arguments(function)[call.length :])
        return events

    def announce_rest(self) -> list[Event]:
        if not self._all:
            return []
        return [event for call in self._all if call.name for event in call.announce()]

    def _known(self, fragment: CallDelta, name: str | None, arguments: str) -> _Call | None:
        known: _Call | None = None
        if fragment.index is not None:  # case 1
            known = self._by_index.get(fragment.index)
        elif fragment.id:
            known = self._by_id.get(fragment.id)
        elif self._all and not name:
            known = self._all[-1]
        if known is None or not name:
            return known
        if fragment.id and known.id and self._by_id.get(fragment.id) is not known:
            return None  # case 2
        if known.is_announced and (name != known.name or _is_object(arguments)):
            return None
        return known

    def _new(self) -> _Call:
        number = len(self._all)
        call = _Call(number, self._unused(f"toolu_{self.seed}{number}"))
        self._all.append(call)
        return call

    def _identify(self, call: _Call, id_: str | None) -> None:
        """A second call under a used id would be dropped by clients: it gets its own."""
        if id_:
            self._by_id[id_] = call
            if call.id is None and not call.is_announced:
                call.id = self._unused(id_)

    def _unused(self, id_: str) -> str:
        unused, n = id_, 1
        while unused in self._used_ids:
            n += 1
            unused = f"{id_}_{n}"
        self._used_ids.add(unused)
        return unused


def _arguments(function: FunctionDelta) -> str:
    if isinstance(function.arguments, dict):  # Ollama-like servers send an object
        return msgspec.json.encode(function.arguments).decode()
    return function.arguments or ""


def _is_object(arguments: str) -> bool:
    try:
        return isinstance(msgspec.json.decode(arguments), dict)
    except BAD_BODY:
        return False


# --------------------------------------------------------------------------- the decoder


class Decoder:
    """An engine's stream, SSE event by SSE event.

    ``feed`` returns the neutral events, ``finish`` those due at the end of the bytes. After ``End``
    or ``Failure`` nothing more comes out. Raises ``UpstreamError`` for what is no chat chunk at all.
    """

    def __init__(self) -> None:
        self.progress: Progress | None = None
        """As the engine said last (llama.cpp, where it was asked to); no event, clients know no such
        thing."""
        self._calls = _Calls()
        self._is_started = self._is_over = False
        self._has_thinking = self._has_text = self._has_refusal = False
        self._finish: StopReason | None = None

    def feed(self, sse: SSEEvent) -> list[Event]:
        if self._is_over:
            return []
        data = sse.data
        if data == b"[DONE]":
            return self._end()
        try:
            chunk = _decode_chunk(data)
        except BAD_BODY as error:
            if sse.event == "error":
                return self._failure(data)
            raise UpstreamError(
                "upstream", f"the engine sent what is no chat chunk: {error}"
            ) from None
        if chunk.error is not None or chunk.object == "error" or sse.event == "error":
            return self._failure(data)
        return self._chunk(chunk)

    def finish(self) -> list[Event]:
        """The bytes ended. Fine after a finish reason (some servers omit ``[DONE]``), else a cut."""
        if self._is_over:
            return []
        if self._finish is not None:
            return self._end()
        self._is_over = True
        return [Failure("the engine broke off in the middle of its answer")]

    def _chunk(self, chunk: Chunk) -> list[Event]:
        events: list[Event] = []
        if not self._is_started:
            self._start(chunk, events)
        if chunk.choices:
            choice = chunk.choices[0]
            if choice.delta is not None:
                self._delta(choice.delta, events)
            if choice.message is not None:
                self._message(choice.message, events)
            if choice.finish_reason and self._finish is None:  # "" means none on some servers
                self._finished(choice, events)
        if chunk.prompt_progress is not ABSENT:
            self.progress = progress_in(chunk.prompt_progress)
        if chunk.usage is not None and (usage := chunk.usage.neutral(chunk.timings)) is not None:
            events.append(UsageReport(usage))
        return events

    def _start(self, chunk: Chunk, events: list[Event]) -> None:
        self._is_started = True
        if chunk.id is None:
            events.append(Start())
            return
        id_ = str(chunk.id)
        seed = id_.removeprefix("chatcmpl-")
        if not (seed.isascii() and seed.isalnum()):
            seed = re.sub(r"[^A-Za-z0-9]", "", seed)
        if seed := seed[:32]:
            self._calls.seed = f"{seed}_"
        events.append(Start(id_))

    def _delta(self, delta: Delta, events: list[Event]) -> None:
        """One chunk may hold all three kinds: thinking, then text, then calls (rule 6)."""
        # Both present: the same text twice.
        self._said(delta.reasoning_content or delta.reasoning, delta.content, delta.refusal, events)
        if delta.tool_calls:
            for fragment in delta.tool_calls:
                events += self._calls.take(fragment)
        if delta.function_call is not None:
            events += self._calls.take(CallDelta(index=0, function=delta.function_call))

    def _said(
        self,
        thinking: str | None,
        text: str | list[TextPart] | None,
        refusal: str | None,
        events: list[Event],
    ) -> None:
        if isinstance(text, list):
            text = "".join(part.text or "" for part in text)
        if (text or thinking) and self._calls:
            events += self._calls.announce_rest()  # a call without arguments: it stands before them
        if thinking:
            self._has_thinking = True
            events.append(ThinkingDelta(thinking))
        if text:
            self._has_text = True
            events.append(TextDelta(text))
        if refusal:
            self._has_refusal = True
            events.append(TextDelta(refusal))

    def _message(self, message: Delta, events: list[Event]) -> None:
        """A whole message: all there is, or at a stream's end a repetition of its deltas that may
        hold more than they did (rule 11)."""
        thinking = message.reasoning_content or message.reasoning
        self._said(
            None if self._has_thinking else thinking,
            None if self._has_text else message.content,
            None if self._has_refusal else message.refusal,
            events,
        )
        if message.tool_calls:
            events += self._calls.take_whole(message.tool_calls)
        elif message.function_call is not None:
            events += self._calls.take_whole([CallDelta(function=message.function_call)])

    def _finished(self, choice: Choice, events: list[Event]) -> None:
        events += self._calls.announce_rest()
        reason = FINISH.get(choice.finish_reason or "", "end")
        if reason == "failed":
            self._is_over = True
            events.append(Failure("the engine aborted its answer"))
            return
        hit = choice.stop_reason if isinstance(choice.stop_reason, str) else choice.matched_stop
        if not isinstance(hit, str):
            hit = None
        if reason == "end" and hit:
            reason = "stop_sequence"
        elif reason == "end" and self._has_refusal:
            reason = "refusal"
        self._finish = reason
        events.append(Finish(reason, hit if reason == "stop_sequence" else None))

    def _failure(self, data: bytes) -> list[Event]:
        self._is_over = True
        fault = fault_in_stream(data)
        if fault.kind == "context_overflow":
            return [Failure(fault.message, "context_overflow", fault.tokens)]
        return [Failure(fault.message)]

    def _end(self) -> list[Event]:
        self._is_over = True
        events = self._calls.announce_rest()
        if self._calls.has_nameless and self._finish != "length":
            return [*events, Failure("the engine sent a tool call without a name")]
        if self._finish is None:
            events.append(Finish("refusal" if self._has_refusal else "end"))
        events.append(End())
        return events


def decode_body(body: bytes) -> list[Event]:
    """A whole answer as events. Raises ``UpstreamError`` when it is no chat completion."""
    decoder = Decoder()
    events = decoder.feed(SSEEvent("", body))
    for event in events:
        if type(event) is Failure:
            return events
    if decoder._finish is None:
        raise UpstreamError("upstream", "the engine's answer holds no finished choice")
    return events + decoder.finish()
