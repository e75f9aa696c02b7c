"""Anthropic Messages: decode what clients send.

Anthropic's surface grows by fields and block types all the time, and clients send them to any
gateway. So: unknown *fields* are ignored, unknown *blocks* are refused by name (``anthropic_blocks``).
Which tools the model sees is ``anthropic_tools``' business.

Shapes: ``anthropic`` 2.11.0; what Claude Code 2.1.329 really sends: docs/dialects.md 1.4, 1.7.
Answers are ``anthropic_answer``'s, streams ``anthropic_stream``'s.
"""

from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

import msgspec

from homeport.wire.anthropic_blocks import CHANGES, Block, PdfText, decode_blocks, no_pdf, parts_of
from homeport.wire.anthropic_tools import (
    ABSENT,
    Change,
    ToolChoiceParam,
    ToolParam,
    bad,
    change_of,
    choice_of,
    is_given,
    search_of,
    tools_of,
)
from homeport.wire.events import (
    Part,
    Request,
    ResponseFormat,
    Text,
    ThinkingSwitch,
    Turn,
)
from homeport.wire.faults import BAD_BODY, invalid_body

Raw = msgspec.Raw
BILLING_MARK = "x-anthropic-billing-header:"
"""How Claude Code's attribution block begins: the first system block, different in every
conversation, so it would void the cached prefix of all of them. Dropped there and only there."""

# --------------------------------------------------------------------------- a client's body


class OutputFormat(msgspec.Struct):
    type: str
    schema: Raw = ABSENT


class OutputConfig(msgspec.Struct):
    effort: str | None = None
    format: OutputFormat | None = None


class MessageParam(msgspec.Struct):
    role: Literal["user", "assistant", "system"]
    content: str | list[Block]
    output_config: OutputConfig | None = None
    clear_at: str | None = None


class ThinkingParam(msgspec.Struct):
    type: str
    budget_tokens: int | None = None


class MessagesRequest(msgspec.Struct):
    model: str
    messages: Annotated[list[MessageParam], msgspec.Meta(min_length=1)]
    max_tokens: Annotated[int, msgspec.Meta(ge=0)] | None = None
    system: str | list[Block] | None = None
    stream: bool | None = None
    stop_sequences: list[str] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    tools: list[ToolParam] | None = None
    tool_choice: ToolChoiceParam | None = None
    thinking: ThinkingParam | None = None
    output_config: OutputConfig | None = None


_decoder = msgspec.json.Decoder(MessagesRequest)


def decode(body: bytes, *, counting: bool = False, pdf_text: PdfText = no_pdf) -> Request:
    """A client's body as a neutral request. Raises ``ClientError`` that names the field.

    ``counting`` is for ``count_tokens``, whose body has no ``max_tokens``. ``pdf_text`` reads PDF
    documents, which takes seconds: see ``may_hold_pdf``.
    """
    try:
        body.decode()  # what stays raw here goes to the engine as it is, and must be valid too
        return _request(_decoder.decode(body), counting=counting, pdf_text=pdf_text)
    except BAD_BODY as error:
        raise invalid_body(error) from None


def _request(wire: MessagesRequest, *, counting: bool, pdf_text: PdfText) -> Request:
    if wire.max_tokens is None and not counting:
        raise bad("max_tokens", "Field required")
    turns = _turns(wire, pdf_text)
    effort = wire.output_config.effort if wire.output_config else None
    for message in wire.messages:  # a system turn may change it; the last one wins
        if message.role == "system" and message.output_config and message.output_config.effort:
            effort = message.output_config.effort
    choice, tools, changes = wire.tool_choice, wire.tools or (), _changes(wire.messages)
    return Request(
        model=wire.model,
        turns=turns,
        stream=bool(wire.stream),
        max_tokens=wire.max_tokens,
        tools=tools_of(tools, changes, choice) if tools or changes else (),
        tool_choice=choice_of(choice),
        parallel_tool_calls=False if choice and choice.disable_parallel_tool_use else None,
        stop=tuple(filter(None, wire.stop_sequences or ())),
        temperature=wire.temperature,
        top_p=wire.top_p,
        top_k=wire.top_k,
        thinking=_thinking(wire.thinking) if wire.thinking is not None else None,
        effort=effort,
        response_format=_response_format(wire.output_config) if wire.output_config else None,
        web_search=search_of(tools) if tools else None,
    )


# --------------------------------------------------------------------------- turns


SUMMARY = "<summary>\n{}\n</summary>"
"""How a compaction's summary looks inside a user turn. Fixed for ever, like ``turns.FOLDED``."""


def _turns(wire: MessagesRequest, pdf_text: PdfText) -> tuple[Turn, ...]:
    turns: list[Turn] = []
    if system := _system(wire.system, pdf_text):
        turns.append(Turn("system", system))
    elif wire.messages[0].role == "system":
        turns.append(Turn("system", ()))  # so that a first message is never taken for the prompt
    first, block, summary = _compacted(wire.messages)
    if summary:
        turns.append(Turn("user", (Text(SUMMARY.format(summary)),)))
    last_user = _last_user(wire.messages)
    for i, message in enumerate(wire.messages[first:], start=first):
        content = message.content
        if message.clear_at == "next_user_message" and message.role == "system" and i < last_user:
            content = _changes_only(content)
        path = f"messages.{i}.content"
        parts = parts_of(content, path, pdf_text, start=block if i == first else 0)
        if parts or (message.role != "system" and not (i == first and summary)):
            turns.append(Turn(message.role, parts))
    return tuple(turns)


def _last_user(messages: Sequence[MessageParam]) -> int:
    for i in range(len(messages) - 1, -1, -1):
        if messages[i].role == "user":
            return i
    return -1


def _compacted(messages: Sequence[MessageParam]) -> tuple[int, int, str]:
    """Message and block at which the conversation begins, and the summary of what was before.

    Anthropic's servers leave out all that stands before the last ``compaction`` block. Without a
    ``content`` the block tells of a compaction that failed, and changes nothing.
    """
    for i in range(len(messages) - 1, -1, -1):
        content = messages[i].content
        if isinstance(content, str):
            continue
        for j in range(len(content) - 1, -1, -1):
            if content[j].type == "compaction" and is_given(content[j].content):
                try:
                    return i, j + 1, msgspec.json.decode(content[j].content, type=str)
                except BAD_BODY as error:
                    raise invalid_body(error, f"messages.{i}.content.{j}.content") from None
    return 0, 0, ""


def _changes_only(content: str | list[Block]) -> list[Block]:
    """A system turn that is no longer shown: what it did to the tools stays."""
    return [b for b in content if b.type in CHANGES] if isinstance(content, list) else []


def _system(system: str | list[Block] | None, pdf_text: PdfText) -> tuple[Part, ...]:
    blocks = [Block("text", text=system)] if isinstance(system, str) else list(system or ())
    if blocks and (blocks[0].text or "").startswith(BILLING_MARK):
        _, _, rest = (blocks[0].text or "").partition("\n")
        blocks[0] = Block("text", text=rest.lstrip("\n"))
    parts = parts_of(blocks, "system", pdf_text)
    return tuple(part for part in parts if not isinstance(part, Text) or part.text)


# --------------------------------------------------------------------------- tools and switches


def _changes(messages: Sequence[MessageParam]) -> list[Change]:
    """What the conversation did to the list of tools, in its order."""
    changes: list[Change] = []
    for i, message in enumerate(messages):
        if isinstance(message.content, str):
            continue
        for j, block in enumerate(message.content):
            if block.type in CHANGING:
                changes += _changes_in(block, f"messages.{i}.content.{j}")
    return changes


def _changes_in(block: Block, path: str) -> Iterable[Change]:
    match block.type:
        case "tool_result":
            yield from (Change("add", name) for name in _references_in(block.content))
        case "tool_addition" | "tool_removal":
            if change := change_of(CHANGES[block.type], block.tool, path):
                yield change
        case "compaction" if is_given(block.tool_changes):
            try:
                inner = msgspec.json.decode(block.tool_changes, type=list[Block])
            except BAD_BODY as error:
                raise invalid_body(error, f"{path}.tool_changes") from None
            for i, entry in enumerate(inner):
                yield from _changes_in(entry, f"{path}.tool_changes.{i}")


CHANGING = frozenset({"tool_result", "compaction", *CHANGES})
"""Blocks that may."""


def _references_in(content: Raw) -> Iterable[str]:
    if b'"tool_reference"' not in bytes(content):
        return ()
    blocks = decode_blocks(content)
    return (b.tool_name for b in blocks or () if isinstance(b, Block) and b.tool_name)


def _thinking(thinking: ThinkingParam) -> ThinkingSwitch | None:
    match thinking:
        case ThinkingParam(type="enabled", budget_tokens=budget):
            return ThinkingSwitch(True, budget)
        case ThinkingParam(type="disabled"):
            return ThinkingSwitch(False)
        case _:
            return None  # adaptive and what may come: the model's own default


def _response_format(config: OutputConfig) -> ResponseFormat | None:
    if config.format is None or not is_given(config.format.schema):
        return None
    schema = bytes(config.format.schema)
    if not schema.startswith(b"{"):
        raise bad("output_config.format.schema", "Expected `object`")
    return ResponseFormat(schema)
