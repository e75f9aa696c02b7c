"""Anthropic Messages: decode what clients send.

Anthropic's surface grows by fields and block types all the time, and clients send them to any
gateway. So: unknown *fields* are ignored, unknown *blocks* are refused by name (dropping content in
silence changes what the model is asked). ``BLOCKS`` is the table of block types, ``REFUSED`` says why
the rest is refused. Which tools the model sees is ``anthropic_tools``' business.

Shapes: ``anthropic`` 2.11.0; what Claude Code 2.1.329 really sends: docs/dialects.md 1.4, 1.7.
Answers are ``anthropic_answer``'s, streams ``anthropic_stream``'s.
"""

from base64 import b64decode
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Literal

import msgspec

from homeport.errors import ClientError
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
    Image,
    Part,
    Request,
    ResponseFormat,
    Text,
    Thinking,
    ThinkingSwitch,
    ToolCall,
    ToolResult,
    Turn,
)
from homeport.wire.faults import BAD_BODY, invalid_body

Raw = msgspec.Raw
BILLING_MARK = "x-anthropic-billing-header:"
"""How Claude Code's attribution block begins: the first system block, different in every
conversation, so it would void the cached prefix of all of them. Dropped there and only there."""

# --------------------------------------------------------------------------- a client's body


class Block(msgspec.Struct):
    """Any content block: the union of the fields that we read, checked per type in ``BLOCKS``."""

    type: str
    text: str | None = None
    source: Raw = ABSENT
    title: str | None = None
    context: str | None = None
    thinking: str | None = None
    id: str | None = None
    name: str | None = None
    input: Raw = ABSENT
    tool_use_id: str | None = None
    tool_name: str | None = None
    content: Raw = ABSENT
    is_error: bool | None = None
    tool: Raw = ABSENT
    tool_changes: Raw = ABSENT


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
_blocks_decoder = msgspec.json.Decoder(str | list[Block] | None)


PdfText = Callable[[bytes], str]
"""The text of a PDF document. Raises ``ClientError`` where there is none to be had."""


def no_pdf(data: bytes) -> str:
    raise ClientError("invalid_request", "PDF documents are not supported; send their text")


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


def may_hold_pdf(body: bytes) -> bool:
    """False where ``decode`` will certainly not ask for a PDF's text."""
    return b"application/pdf" in body or b"application\\/pdf" in body


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
        parts = _parts(content, path, pdf_text, start=block if i == first else 0)
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
    parts = _parts(blocks, "system", pdf_text)
    return tuple(part for part in parts if not isinstance(part, Text) or part.text)


def _parts(
    content: str | list[Block], path: str, pdf_text: PdfText, *, start: int = 0
) -> tuple[Part, ...]:
    if isinstance(content, str):
        return (Text(content),) if content else ()
    parts: list[Part] = []
    for i, block in enumerate(content[start:], start=start):
        if block.type == "text" and block.text is not None:  # what most are
            parts.append(Text(block.text))
            continue
        read = BLOCKS.get(block.type)
        if read is None:
            reason = REFUSED.get(block.type, "are not supported")
            raise bad(f"{path}.{i}.type", f"content blocks of type '{block.type}' {reason}")
        parts.extend(read(block, f"{path}.{i}", pdf_text))
    return tuple(parts)


def _text(block: Block, path: str, _: PdfText) -> Iterable[Part]:
    if block.text is None:
        raise bad(f"{path}.text", "Field required")
    return (Text(block.text),)


class _Source(msgspec.Struct):
    type: str
    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    content: str | list[Block] | None = None


def _source(block: Block, path: str) -> _Source:
    if not is_given(block.source):
        raise bad(f"{path}.source", "Field required")
    try:
        return msgspec.json.decode(block.source, type=_Source)
    except BAD_BODY as error:
        raise invalid_body(error, f"{path}.source") from None


def _image(block: Block, path: str, _: PdfText) -> Iterable[Part]:
    source = _source(block, path)
    if source.type == "base64" and source.data is not None:
        return (Image(f"data:{source.media_type or 'image/png'};base64,{source.data}"),)
    if source.type == "url" and source.url is not None:
        return (Image(source.url),)
    if source.type in ("base64", "url"):
        raise bad(f"{path}.source.{'data' if source.type == 'base64' else 'url'}", "Field required")
    why = "; there is no Files API here" if source.type == "file" else ""
    raise bad(f"{path}.source.type", f"images from a '{source.type}' source are not supported{why}")


def _document(block: Block, path: str, pdf_text: PdfText) -> Iterable[Part]:
    source = _source(block, path)
    if source.type == "text" and source.data is not None:
        text = source.data
    elif source.type == "content" and source.content is not None:
        parts = _parts(source.content, f"{path}.source.content", pdf_text)
        text = "\n".join(part.text for part in parts if isinstance(part, Text))
    elif source.type == "base64" and source.media_type == PDF:
        text = _text_of_pdf(source, f"{path}.source", pdf_text)
    elif source.type in ("text", "content"):
        field = "data" if source.type == "text" else "content"
        raise bad(f"{path}.source.{field}", "Field required")
    else:
        raise bad(f"{path}.source", _why_not(source))
    return (Text("\n".join(part for part in (block.title, block.context, text) if part)),)


PDF = "application/pdf"


def _text_of_pdf(source: _Source, path: str, pdf_text: PdfText) -> str:
    if source.data is None:
        raise bad(f"{path}.data", "Field required")
    try:
        data = b64decode("".join(source.data.split()), validate=True)
    except ValueError:
        raise bad(f"{path}.data", "not valid base64") from None
    try:
        return pdf_text(data)
    except ClientError as fault:
        raise bad(path, fault.message) from None


def _why_not(source: _Source) -> str:
    if source.type == "file":
        return "files cannot be referred to: there is no Files API here; send the text"
    if source.type == "url":
        return "documents are not fetched from URLs; send the text"
    return f"documents of type '{source.media_type or source.type}' are not supported; send text"


def _search_result(block: Block, path: str, pdf_text: PdfText) -> Iterable[Part]:
    parts = _inner(block, path, pdf_text)
    text = "\n".join(part.text for part in parts if isinstance(part, Text))
    source = bytes(block.source)
    where = msgspec.json.decode(source, type=str) if source.startswith(b'"') else None
    return (Text("\n".join(part for part in (block.title, where, text) if part)),)


def _thinking_part(block: Block, path: str, _: PdfText) -> Iterable[Part]:
    return (Thinking(block.thinking),) if block.thinking else ()


def _nothing(block: Block, path: str, _: PdfText) -> Iterable[Part]:
    return ()


def _tool_use(block: Block, path: str, _: PdfText) -> Iterable[Part]:
    for name in ("id", "name"):
        if getattr(block, name) is None:
            raise bad(f"{path}.{name}", "Field required")
    return (ToolCall(block.id or "", block.name or "", _arguments(block.input)),)


def _arguments(raw: Raw) -> str:
    """The call's arguments as JSON text: keys and numbers as they came, white space taken out, so
    that a client that indents its JSON does not change the prompt.

    Claude Code replays a call whose JSON did not parse as ``{"__unparsedToolInput": {"raw": …}}`` or
    as a string; the model is shown what it wrote, so that it can see its mistake.
    """
    if not is_given(raw):
        return "{}"
    text = msgspec.json.format(bytes(raw).decode(), indent=-1)
    if text.startswith('"'):
        return str(msgspec.json.decode(text))
    if text.startswith(('{"__unparsedToolInput":', '{"__raw_arguments":')):
        values = list(msgspec.json.decode(text).values())
        inner = values[0].get("raw") if isinstance(values[0], dict) else values[0]
        return inner if isinstance(inner, str) and len(values) == 1 else text
    return text


def _tool_result(block: Block, path: str, pdf_text: PdfText) -> Iterable[Part]:
    if block.tool_use_id is None:
        raise bad(f"{path}.tool_use_id", "Field required")
    content = tuple(
        part for part in _inner(block, path, pdf_text) if isinstance(part, Text | Image)
    )
    return (ToolResult(block.tool_use_id, content, bool(block.is_error)),)


def _inner(block: Block, path: str, pdf_text: PdfText) -> tuple[Part, ...]:
    if not is_given(block.content):
        return ()
    try:
        content = _blocks_decoder.decode(block.content)
    except BAD_BODY as error:
        raise invalid_body(error, f"{path}.content") from None
    return _parts(content, f"{path}.content", pdf_text) if content else ()


def _tool_reference(block: Block, path: str, _: PdfText) -> Iterable[Part]:
    """The answer to a tool search: the tool is among ``tools`` from now on; the text says so."""
    return (Text(NOW.format(block.tool_name)),)


NOW, NO_MORE = "The tool {} can be called now.", "The tool {} can no longer be called."


def _tool_change(block: Block, path: str, _: PdfText) -> Iterable[Part]:
    """The list of tools changes in the prompt's head; this says so where it happened."""
    change = change_of(CHANGES[block.type], block.tool, path)
    if change is None:
        return ()
    return (Text((NOW if change.action == "add" else NO_MORE).format(change.name)),)


BLOCKS: dict[str, Callable[[Block, str, PdfText], Iterable[Part]]] = {
    "text": _text,
    "image": _image,
    "document": _document,
    "search_result": _search_result,
    "thinking": _thinking_part,
    "redacted_thinking": _nothing,  # encrypted for Anthropic's servers: nobody else can read it
    "tool_use": _tool_use,
    "tool_result": _tool_result,
    "tool_reference": _tool_reference,
    "tool_addition": _tool_change,
    "tool_removal": _tool_change,
    "compaction": _nothing,  # the conversation begins behind the last one (``_compacted``)
    "fallback": _nothing,  # says that another of Anthropic's models took over
    # History of tools that Anthropic's servers ran: call and result are dropped together.
    "server_tool_use": _nothing,
    "web_search_tool_result": _nothing,
    "web_fetch_tool_result": _nothing,
    "code_execution_tool_result": _nothing,
    "bash_code_execution_tool_result": _nothing,
    "text_editor_code_execution_tool_result": _nothing,
    "tool_search_tool_result": _nothing,
    "advisor_tool_result": _nothing,
    "mcp_tool_use": _nothing,
    "mcp_tool_result": _nothing,
    "mcp_tool_listing": _nothing,
}

REFUSED: dict[str, str] = {
    "container_upload": "are not supported: there is no Files API and no container here",
    "browser_state": "are not supported: no local model is known to be trained on browser tools",
}
"""Known, and why they cannot be said to a local model. What is in neither table is refused too."""


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


CHANGES: dict[str, Literal["add", "remove"]] = {"tool_addition": "add", "tool_removal": "remove"}
CHANGING = frozenset({"tool_result", "compaction", *CHANGES})
"""Blocks that may."""


def _references_in(content: Raw) -> Iterable[str]:
    if b'"tool_reference"' not in bytes(content):
        return ()
    blocks = _blocks_decoder.decode(content)
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
