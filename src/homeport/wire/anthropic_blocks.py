"""Content blocks of Anthropic Messages, as the neutral parts of a turn.

``BLOCKS`` is the table of block types; ``REFUSED`` says why the rest is refused: a block that is
dropped in silence changes what the model is asked. Shapes: ``anthropic`` 2.11.0.
"""

from base64 import b64decode
from collections.abc import Callable, Iterable
from typing import Literal

import msgspec

from homeport.errors import ClientError
from homeport.wire.anthropic_tools import (
    ABSENT,
    bad,
    change_of,
    is_given,
)
from homeport.wire.events import (
    Image,
    Part,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from homeport.wire.faults import BAD_BODY, invalid_body

Raw = msgspec.Raw


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


decode_blocks = msgspec.json.Decoder(str | list[Block] | None).decode

CHANGES: dict[str, Literal["add", "remove"]] = {"tool_addition": "add", "tool_removal": "remove"}


PdfText = Callable[[bytes], str]
"""The text of a PDF document. Raises ``ClientError`` where there is none to be had."""


def no_pdf(data: bytes) -> str:
    raise ClientError("invalid_request", "PDF documents are not supported; send their text")


def may_hold_pdf(body: bytes) -> bool:
    """False where ``decode`` will certainly not ask for a PDF's text."""
    return b"application/pdf" in body or b"application\\/pdf" in body


def parts_of(
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
        parts = parts_of(source.content, f"{path}.source.content", pdf_text)
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
        content = decode_blocks(block.content)
    except BAD_BODY as error:
        raise invalid_body(error, f"{path}.content") from None
    return parts_of(content, f"{path}.content", pdf_text) if content else ()


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
