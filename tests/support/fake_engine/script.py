"""What a chat request gets, and how it ends: pure.

An `Answer` is scripted. Answers wait in a queue; a chat request takes the first one whose `when` holds.
With none left, a rule answers.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Json: TypeAlias = Any
"""What JSON brings in: checked where it is used."""

CHAT_PATH = "/v1/chat/completions"
COUNT_PATH = "/v1/chat/completions/input_tokens"
RESPONSES_PATH = "/v1/responses"
DEFAULT_TEXT = "Hello from the fake engine."


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
