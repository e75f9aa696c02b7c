"""What ``homeport check`` found, in words for a person: what an engine lacks, and what that means for
the clients in front of homeport. Pure; programs read ``--json``, which has what was seen.

Most of what an engine lacks, homeport makes up for. So a ``no`` stands never alone: below it is what
becomes of requests that want it.
"""

import textwrap
from collections.abc import Mapping
from typing import Any, Final

from homeport.engines.findings import Finding, Probe
from homeport.facts import UpstreamDialect

LABELS: Final = {"yes": "ok", "no": "no", "unsure": "unsure"}
LABEL_WIDTH: Final = 8
"""With the gap behind it."""

_BOUNDS: Final = "homeport takes such bounds out of tool schemas"
_LEFT_OUT: Final = "homeport leaves it out where it translates"
_COUNTS: Final = "one such route is enough for exact token counts"
_OURS: Final = "no harm: homeport translates"

LACKING: Final[Mapping[str, str]] = {
    "system_inside": "homeport puts such a turn into the one beside it",
    "tool_choice_auto": "agents (Claude Code, Codex) cannot work with this engine",
    "tool_choice_required": "the model may answer without the call that a client insists on",
    "tool_choice_none": "the model may call a tool although it was told not to",
    "tool_choice_named": "homeport offers that tool alone, as one that must be called",
    "parallel_tool_calls": _LEFT_OUT,
    "schema": "answers may have another form than a client asks for",
    "schema_max_length": _BOUNDS,
    "schema_min_length": _BOUNDS,
    "schema_pattern": _BOUNDS,
    "schema_bounds": _BOUNDS,
    "image": "requests with images are refused, and the error says why",
    "image_in_tool": "homeport lets the image follow in a user turn",
    "reasoning_content": "earlier thinking is lost if it is sent so",
    "reasoning": "earlier thinking is lost if it is sent so",
    "reasoning_effort": _LEFT_OUT,
    "template_kwargs": _LEFT_OUT,
    "top_k": _LEFT_OUT,
    "stream_usage": "streams do not tell how many tokens they took",
    "count_chat_input_tokens": _COUNTS,
    "count_tokenize": _COUNTS,
    "stop": "answers go on behind a stop string",
    "stop_told": "clients hear that the answer has ended, not by which string",
    "abort": "it goes on computing for a client that has left",
    "messages": f"{_OURS}, and Claude Code works without it",
    "messages_stream": _OURS,
    "messages_tools": _OURS,
    "messages_stop": _OURS,
    "responses": f"{_OURS}, and Codex works without it",
    "responses_stream": _OURS,
    "responses_tools": _OURS,
    "responses_schema": _OURS,
    "responses_reasoning": _OURS,
    "models": "name the model in the configuration: upstream_model",
}
"""Probe → what a ``no`` means, where homeport goes by it (its shipped facts, or a record)."""

LEARNED: Final[Mapping[str, str]] = {
    "system_inside": "system turns in mid-conversation stay in their place",
    "named_tool_choice": "a tool that must be called is named",
    "tool_choice": "it is told which tools to call",
    "parallel_tool_calls": "parallel_tool_calls is sent",
    "image_in_tool": "images stay in tool results",
    "reasoning_effort": "reasoning_effort is sent",
    "template_kwargs": "chat_template_kwargs is sent",
    "stream_usage": "streams are asked for their usage",
    "schema_bounds": "bounds stay in tool schemas",
    "reasoning_key": "the field for earlier thinking",
    "token_count": "the route that counts tokens",
    "extensions": "sampling fields that are sent beyond OpenAI's",
    "native_messages": "what its own /v1/messages is asked for, beside plain text",
    "native_responses": "what its own /v1/responses is asked for, beside plain text",
    "vision": "it is sent images",
}
"""Fact → what homeport decides by it."""


def row(probe: Probe, finding: Finding, dialect: UpstreamDialect, width: int | None) -> list[str]:
    """The lines of one finding: on a terminal what it means stands below, else behind it."""
    note = _note(probe, finding, dialect)
    label = LABELS[finding.result].ljust(LABEL_WIDTH)
    if width is None:
        return [f"{label}{probe.says}" + f": {note}" * bool(note)]
    lines = wrapped(note, width, " " * LABEL_WIDTH).splitlines() if note else []
    return [label + probe.says, *lines]


def wrapped(line: str, width: int | None, indent: str = "") -> str:
    """For the terminal. An address stays whole, so that it can be copied; what follows the first line
    of a list's item is indented."""
    if width is None:
        return indent + line
    return textwrap.fill(
        line,
        width,
        initial_indent=indent,
        subsequent_indent=indent + "  " * line.startswith("- "),
        break_on_hyphens=False,
        break_long_words=False,
    )


def _note(probe: Probe, finding: Finding, dialect: UpstreamDialect) -> str:
    seen = " ".join(finding.seen.split())
    if finding.result == "yes":
        return ""
    # An upstream that is asked in Anthropic's own dialect is not translated for.
    if finding.result == "unsure" or dialect == "anthropic":
        return seen
    return LACKING[probe.feature]


def verdict(findings: Mapping[str, Finding]) -> str:
    """The one thing that whoever wants to use an agent has to know; nothing where it was not asked."""
    tools = findings.get("tool_choice_auto")
    if tools is None or tools.result == "unsure":
        return ""
    if tools.result == "no":
        return "It takes no tools, which agents such as Claude Code and Codex need."
    return (
        "It takes tools, as agents such as Claude Code and Codex need. Beside each `no` stands what "
        "becomes of requests that want it; what exactly was seen, --json tells."
    )


def changes(changed: Mapping[str, Any], engine: str, *, is_saved: bool) -> str:
    """What differs from the shipped facts, and what becomes of it: a line, and a list."""
    if not changed:
        return f"All of this is what homeport expects of {engine}; there is nothing to keep."
    head = f"This differs from what homeport expects of {engine}"
    head += ":" if is_saved else ", and it goes by it once you keep it (--save):"
    return "\n".join(
        (head, *(f"- {LEARNED[name]}: {shown(value)}" for name, value in changed.items()))
    )


def shown(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, frozenset):
        return ", ".join(sorted(map(str, value))) or "nothing more"
    return str(value)
