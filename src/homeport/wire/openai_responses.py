"""OpenAI Responses, the request side: decode what clients send (docs/dialects.md 2.3, 3.7).

A body is read in three steps, because the middle one needs what earlier answers left behind, and
nothing here does I/O: ``decode`` validates the body, ``entries_of`` makes its items, with references
looked up by the caller's ``find``, and ``neutral`` makes the hub's request from items old and new.

The surface grows all the time. So: unknown *fields* are ignored, unknown *items* and *parts* are
refused by name (dropping content in silence changes what the model is asked). ``ITEMS`` is the table of
item types. Which tools a model sees is ``openai_responses_tools``' matter.

Shapes: ``openai`` 3.52.0, and what Codex 0.169.0 really sends. Answers are
``openai_responses_answer``'s and ``openai_responses_stream``'s.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Literal, NamedTuple

import msgspec

from homeport.errors import ClientError
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
from homeport.wire.openai_responses_tools import (
    ABSENT,
    SEARCH_NAME,
    Callee,
    Raw,
    ToolChoiceParam,
    ToolParam,
    bad,
    chosen,
    flat_name,
    is_given,
    search_wish,
    tools_of,
)

# --------------------------------------------------------------------------- a client's body


class TextFormat(msgspec.Struct):
    type: str
    name: str | None = None
    schema: Raw = ABSENT


class TextParam(msgspec.Struct):
    format: TextFormat | None = None


class ReasoningParam(msgspec.Struct):
    effort: str | None = None


class ResponsesRequest(msgspec.Struct):
    """The fields that we act on; what is only echoed is not listed, the rest is ignored
    (``truncation``, ``include``, ``prompt_cache_key``, ``client_metadata`` …)."""

    model: str = ""
    input: Raw = ABSENT
    instructions: str | None = None
    previous_response_id: str | None = None
    stream: bool | None = None
    store: bool | None = None
    background: bool | None = None
    conversation: Raw = ABSENT
    prompt: Raw = ABSENT
    max_output_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    temperature: float | None = None
    top_p: float | None = None
    parallel_tool_calls: bool | None = None
    tools: list[ToolParam] | None = None
    tool_choice: str | ToolChoiceParam | None = None
    text: TextParam | None = None
    reasoning: ReasoningParam | None = None


class Item(msgspec.Struct):
    """Any input item: the union of the fields that we read, checked per type in ``ITEMS``."""

    type: str | None = None
    id: str | None = None
    role: str | None = None
    content: Raw = ABSENT
    call_id: str | None = None
    name: str | None = None
    namespace: str | None = None
    arguments: Raw = ABSENT
    input: Raw = ABSENT
    output: Raw = ABSENT
    tools: list[ToolParam] | None = None

    @property
    def kind(self) -> str:
        """The type. Two may be left out: a message's, and a reference's."""
        if self.type is not None:
            return self.type
        return "message" if self.role is not None else "item_reference"


class ImageUrl(msgspec.Struct):
    url: str


class ContentPart(msgspec.Struct):
    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: str | ImageUrl | None = None


class Entry(NamedTuple):
    """An item as it came, and as it was read."""

    raw: bytes
    item: Item
    is_reference: bool = False
    """It came as the name of an item that we keep."""


_decoder = msgspec.json.Decoder(ResponsesRequest)
_item_decoder = msgspec.json.Decoder(Item)
_content_decoder = msgspec.json.Decoder(str | list[ContentPart] | None)


def decode(body: bytes) -> ResponsesRequest:
    """A client's body, validated. Raises ``ClientError`` that names the field."""
    try:
        body.decode()  # what stays raw here goes to the engine as it is, and must be valid too
        wire = _decoder.decode(body)
    except BAD_BODY as error:
        raise invalid_body(error) from None
    if wire.background:
        raise bad("background", "answers in the background are not supported; stream instead")
    for field in ("conversation", "prompt"):
        if is_given(getattr(wire, field)):
            raise bad(field, f"'{field}' lives on OpenAI's servers and is not supported")
    if not is_given(wire.input) and wire.previous_response_id is None:
        raise bad("input", "Field required")
    return wire


# --------------------------------------------------------------------------- items


def entries_of(wire: ResponsesRequest, find: Callable[[str], bytes | None]) -> list[Entry]:
    """The items of ``input``. ``find`` gives the raw item that an ``item_reference`` names.

    Raises ``ClientError`` for what is no item, ``not_found`` for a reference to nothing.
    """
    source = bytes(wire.input)
    if not is_given(wire.input):
        return []
    if source.startswith(b'"'):
        raw = b'{"type":"message","role":"user","content":%b}' % source
        return [Entry(raw, _item_decoder.decode(raw))]
    try:
        raws = msgspec.json.decode(source, type=list[Raw])
    except BAD_BODY:
        raise bad("input", "Expected `str | array`") from None
    return [_entry(bytes(raw), f"input.{i}", find) for i, raw in enumerate(raws)]


def _entry(raw: bytes, path: str, find: Callable[[str], bytes | None]) -> Entry:
    item = _item(raw, path)
    if item.kind != "item_reference":
        return Entry(raw, item)
    found = find(item.id) if item.id is not None else None
    if found is None:
        raise ClientError("not_found", f"Item with id '{item.id}' not found.", param=f"{path}.id")
    return Entry(found, _item_decoder.decode(found), is_reference=True)


def _item(raw: bytes, path: str) -> Item:
    try:
        return _item_decoder.decode(raw)
    except BAD_BODY as error:
        raise invalid_body(error, path) from None


def entry_of_stored(raw: bytes) -> Entry:
    """An item of an earlier request or answer; it was valid then."""
    return Entry(raw, _item_decoder.decode(raw))


# --------------------------------------------------------------------------- the hub's request


class Decoded(msgspec.Struct, frozen=True):
    """The hub's request, and how to name its tools when the model calls them."""

    request: Request
    callees: dict[str, Callee]


def neutral(
    wire: ResponsesRequest,
    entries: Sequence[Entry],
    history: Sequence[Entry] = (),
    *,
    can_search: bool = False,
) -> Decoded:
    """The hub's request; ``history`` are the items of earlier responses and their inputs.
    ``can_search`` says that somebody here runs web searches."""
    turns = _Turns()
    if wire.instructions:
        turns.add("system", [Text(wire.instructions)])
    for items, path in ((history, "previous_response_id"), (entries, "input")):
        for i, entry in enumerate(items):
            _put(turns, entry.item, f"{path}.{i}")
    if not turns.all:
        raise bad("input", "there is nothing to answer")
    tools, callees, hosted = tools_of(_offered(wire, [*history, *entries]))
    has_own_search = any(tool.name == SEARCH_NAME for tool in tools)
    wish = search_wish(wire.tools or ()) if can_search and not has_own_search else None
    tools, choice, wish = chosen(wire.tool_choice, tools, hosted, wish)
    reasoning = wire.reasoning or ReasoningParam()
    is_off = reasoning.effort == "none"
    request = Request(
        model=wire.model,
        turns=tuple(Turn(role, tuple(parts)) for role, parts in turns.all),
        stream=bool(wire.stream),
        max_tokens=wire.max_output_tokens,
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=wire.parallel_tool_calls,
        temperature=wire.temperature,
        top_p=wire.top_p,
        thinking=ThinkingSwitch(False) if is_off else None,
        effort=None if is_off else reasoning.effort,
        response_format=_response_format(wire.text),
        web_search=wish,
    )
    return Decoded(request, callees)


def _offered(wire: ResponsesRequest, entries: Iterable[Entry]) -> list[tuple[list[ToolParam], str]]:
    """Tools that items added stand behind the request's own, in order, so that the prompt's head
    stays."""
    added = (e.item.tools for e in entries if e.item.kind == "additional_tools")
    return [(wire.tools or [], "tools"), *((tools, "input.tools") for tools in added if tools)]


Role = Literal["system", "user", "assistant"]


class _Turns:
    """Items gathered into turns: what follows one another under one role is one turn.

    So reasoning, message and calls of one answer become one assistant turn, as they were, and the
    results of parallel calls one user turn. Leading instructions become the system prompt; later
    ones a system turn where they stand (``turns.fold_system_turns`` deals with those).
    """

    def __init__(self) -> None:
        self.all: list[tuple[Role, list[Part]]] = []

    def add(self, role: Role, parts: Iterable[Part]) -> None:
        if self.all and self.all[-1][0] == role:
            self.all[-1][1].extend(parts)
        elif (gathered := list(parts)) or role == "user":
            self.all.append((role, gathered))


def _put(turns: _Turns, item: Item, path: str) -> None:
    put = ITEMS.get(item.kind)
    if put is None:
        raise bad(f"{path}.type", f"items of type '{item.kind}' are not supported")
    put(turns, item, path)


ROLES: dict[str | None, Role] = {
    "user": "user",
    "assistant": "assistant",
    "system": "system",
    "developer": "system",
}


def _message(turns: _Turns, item: Item, path: str) -> None:
    role = ROLES.get(item.role)
    if role is None:
        raise bad(f"{path}.role", f"'{item.role}' is none of user, assistant, system, developer")
    parts = _parts(item.content, f"{path}.content")
    if role != "user":
        parts = [part for part in parts if isinstance(part, Text) and part.text]
    turns.add(role, parts)


def _parts(raw: Raw, path: str) -> list[Text | Image]:
    if not is_given(raw):
        return []
    try:
        content = _content_decoder.decode(raw)
    except BAD_BODY as error:
        raise invalid_body(error, path) from None
    if isinstance(content, str):
        return [Text(content)] if content else []
    return [_part(part, f"{path}.{i}") for i, part in enumerate(content or ())]


def _part(part: ContentPart, path: str) -> Text | Image:
    match part.type:
        case "input_text" | "output_text" | "text" | "reasoning_text" | "summary_text":
            if part.text is None:
                raise bad(f"{path}.text", "Field required")
            return Text(part.text)
        case "refusal":
            return Text(part.refusal or "")
        case "input_image":
            url = part.image_url
            if url is None:
                raise bad(path, "images are taken as 'image_url' only; there is no file store")
            return Image(url.url if isinstance(url, ImageUrl) else url)
        case _:
            raise bad(f"{path}.type", f"content parts of type '{part.type}' are not supported")


def _reasoning(turns: _Turns, item: Item, path: str) -> None:
    """Raw reasoning comes back to the model. A summary is not what the model thought, and what is
    encrypted only OpenAI can read: such an item, and an empty one, says nothing here."""
    texts = _parts(item.content, f"{path}.content")
    text = "".join(part.text for part in texts if isinstance(part, Text))
    if text:
        turns.add("assistant", [Thinking(text)])


def _function_call(turns: _Turns, item: Item, path: str) -> None:
    turns.add("assistant", [_call(item, path, _arguments(item.arguments) or "{}")])


def _arguments(raw: Raw) -> str:
    """JSON text inside a string, as OpenAI has it; some clients send the object itself."""
    if not is_given(raw):
        return ""
    is_text = bytes(raw).startswith(b'"')
    return msgspec.json.decode(raw, type=str) if is_text else bytes(raw).decode()


def _custom_call(turns: _Turns, item: Item, path: str) -> None:
    if not bytes(item.input).startswith(b'"'):
        raise bad(f"{path}.input", "Field required" if not is_given(item.input) else "not a text")
    arguments = b'{"input":%b}' % bytes(item.input)
    turns.add("assistant", [_call(item, path, arguments.decode())])


def _call(item: Item, path: str, arguments: str) -> ToolCall:
    for field in ("call_id", "name"):
        if not getattr(item, field):
            raise bad(f"{path}.{field}", "Field required")
    return ToolCall(item.call_id or "", flat_name(item.namespace, item.name or ""), arguments)


def _call_output(turns: _Turns, item: Item, path: str) -> None:
    if not item.call_id:
        raise bad(f"{path}.call_id", "Field required")
    turns.add("user", [ToolResult(item.call_id, tuple(_parts(item.output, f"{path}.output")))])


def _nothing(turns: _Turns, item: Item, path: str) -> None:
    pass


ITEMS: dict[str, Callable[[_Turns, Item, str], None]] = {
    "message": _message,
    "reasoning": _reasoning,
    "function_call": _function_call,
    "function_call_output": _call_output,
    "custom_tool_call": _custom_call,
    "custom_tool_call_output": _call_output,
    "additional_tools": _nothing,  # read by ``_offered``
    # History of tools that OpenAI's servers ran: each item is call and result in one.
    "web_search_call": _nothing,
    "file_search_call": _nothing,
    "code_interpreter_call": _nothing,
    "image_generation_call": _nothing,
    "mcp_list_tools": _nothing,
    "mcp_call": _nothing,
}


# --------------------------------------------------------------------------- the answer's form


def _response_format(text: TextParam | None) -> ResponseFormat | None:
    format_ = text.format if text else None
    if format_ is None or format_.type == "text":
        return None
    if format_.type == "json_object":
        return ResponseFormat(None)
    if format_.type != "json_schema":
        raise bad("text.format.type", f"'{format_.type}' is none of text, json_object, json_schema")
    schema = bytes(format_.schema)
    if not schema.startswith(b"{"):
        raise bad("text.format.schema", "Expected `object`" if schema else "Field required")
    return ResponseFormat(schema, format_.name or "answer")
