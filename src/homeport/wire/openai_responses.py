"""OpenAI Responses, the request side: decode what clients send (docs/dialects.md 2.3, 3.7).

A body is read in three steps, because the middle one needs what earlier answers left behind, and
nothing here does I/O: ``decode`` validates the body, ``entries_of`` makes its items, with references
looked up by the caller's ``find``, and ``neutral`` makes the hub's request from items old and new.

The surface grows all the time. So: unknown *fields* are ignored, unknown *items* and *parts* are
refused by name (dropping content in silence changes what the model is asked), and tools that
OpenAI's servers would run are skipped, as long as the client leaves the choice to the model: Codex
offers ``web_search`` with every request. ``ITEMS`` is the table of item types.

Shapes: ``openai`` 3.52.0, and what Codex 0.169.0 really sends. Answers are
``openai_responses_answer``'s and ``openai_responses_stream``'s.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from homeport.errors import ClientError
from homeport.wire.events import (
    Image,
    Part,
    Request,
    ResponseFormat,
    SearchWish,
    Text,
    Thinking,
    ThinkingSwitch,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from homeport.wire.faults import BAD_BODY, invalid_body

Raw = msgspec.Raw
ABSENT = Raw()
"""msgspec hands a value over as raw bytes only where the type is ``Raw`` alone, so absence is an
empty ``Raw``, and ``null`` counts as absent."""

_encode = msgspec.json.Encoder().encode

# --------------------------------------------------------------------------- a client's body


class ToolParam(msgspec.Struct):
    type: str
    name: str | None = None
    description: str | None = None
    parameters: Raw = ABSENT
    strict: bool | None = None
    format: Raw = ABSENT
    tools: "list[ToolParam] | None" = None
    external_web_access: bool | None = None


class ToolChoiceParam(msgspec.Struct):
    type: str
    name: str | None = None
    namespace: str | None = None
    mode: Literal["auto", "required"] | None = None
    tools: list["ToolChoiceParam"] | None = None


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
        raise _bad("background", "answers in the background are not supported; stream instead")
    for field in ("conversation", "prompt"):
        if _is_given(getattr(wire, field)):
            raise _bad(field, f"'{field}' lives on OpenAI's servers and is not supported")
    if not _is_given(wire.input) and wire.previous_response_id is None:
        raise _bad("input", "Field required")
    return wire


def _bad(path: str, message: str) -> ClientError:
    return ClientError("invalid_request", f"{path}: {message}", param=path)


def _is_given(raw: Raw) -> bool:
    return bytes(raw) not in (b"", b"null")


# --------------------------------------------------------------------------- items


def entries_of(wire: ResponsesRequest, find: Callable[[str], bytes | None]) -> list[Entry]:
    """The items of ``input``. ``find`` gives the raw item that an ``item_reference`` names.

    Raises ``ClientError`` for what is no item, ``not_found`` for a reference to nothing.
    """
    source = bytes(wire.input)
    if not _is_given(wire.input):
        return []
    if source.startswith(b'"'):
        raw = b'{"type":"message","role":"user","content":%b}' % source
        return [Entry(raw, _item_decoder.decode(raw))]
    try:
        raws = msgspec.json.decode(source, type=list[Raw])
    except BAD_BODY:
        raise _bad("input", "Expected `str | array`") from None
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


class Callee(msgspec.Struct, frozen=True):
    """What a flat tool name stands for on the client's side."""

    kind: Literal["function", "custom"]
    name: str
    namespace: str | None = None


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
        raise _bad("input", "there is nothing to answer")
    tools, callees, hosted = _tools(wire, [*history, *entries])
    has_own_search = any(tool.name == SEARCH_NAME for tool in tools)
    wish = _search(wire.tools or ()) if can_search and not has_own_search else None
    tools, choice, wish = _chosen(wire.tool_choice, tools, hosted, wish)
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
        raise _bad(f"{path}.type", f"items of type '{item.kind}' are not supported")
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
        raise _bad(f"{path}.role", f"'{item.role}' is none of user, assistant, system, developer")
    parts = _parts(item.content, f"{path}.content")
    if role != "user":
        parts = [part for part in parts if isinstance(part, Text) and part.text]
    turns.add(role, parts)


def _parts(raw: Raw, path: str) -> list[Text | Image]:
    if not _is_given(raw):
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
                raise _bad(f"{path}.text", "Field required")
            return Text(part.text)
        case "refusal":
            return Text(part.refusal or "")
        case "input_image":
            url = part.image_url
            if url is None:
                raise _bad(path, "images are taken as 'image_url' only; there is no file store")
            return Image(url.url if isinstance(url, ImageUrl) else url)
        case _:
            raise _bad(f"{path}.type", f"content parts of type '{part.type}' are not supported")


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
    if not _is_given(raw):
        return ""
    is_text = bytes(raw).startswith(b'"')
    return msgspec.json.decode(raw, type=str) if is_text else bytes(raw).decode()


def _custom_call(turns: _Turns, item: Item, path: str) -> None:
    if not bytes(item.input).startswith(b'"'):
        raise _bad(f"{path}.input", "Field required" if not _is_given(item.input) else "not a text")
    arguments = b'{"input":%b}' % bytes(item.input)
    turns.add("assistant", [_call(item, path, arguments.decode())])


def _call(item: Item, path: str, arguments: str) -> ToolCall:
    for field in ("call_id", "name"):
        if not getattr(item, field):
            raise _bad(f"{path}.{field}", "Field required")
    return ToolCall(item.call_id or "", flat_name(item.namespace, item.name or ""), arguments)


def _call_output(turns: _Turns, item: Item, path: str) -> None:
    if not item.call_id:
        raise _bad(f"{path}.call_id", "Field required")
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
    "additional_tools": _nothing,  # read by ``_tools``
    # History of tools that OpenAI's servers ran: each item is call and result in one.
    "web_search_call": _nothing,
    "file_search_call": _nothing,
    "code_interpreter_call": _nothing,
    "image_generation_call": _nothing,
    "mcp_list_tools": _nothing,
    "mcp_call": _nothing,
}


# --------------------------------------------------------------------------- tools


def flat_name(namespace: str | None, name: str) -> str:
    return f"{namespace}__{name}" if namespace else name


def _tools(
    wire: ResponsesRequest, entries: Iterable[Entry]
) -> tuple[tuple[Tool, ...], dict[str, Callee], list[str]]:
    """The tools that the model sees, what their names stand for, and the types skipped.

    Tools that items added stand behind the request's own, in order, so that the prompt's head stays.
    """
    groups = [(wire.tools or [], "tools")]
    groups += [
        (e.item.tools, "input.tools")
        for e in entries
        if e.item.kind == "additional_tools" and e.item.tools
    ]
    tools: dict[str, Tool] = {}
    callees: dict[str, Callee] = {}
    hosted: list[str] = []
    for params, path in groups:
        for i, (param, namespace) in enumerate(_flattened(params)):
            if param.type not in ("function", "custom"):
                hosted.append(param.type)
                continue
            tool, callee = _tool(param, namespace, f"{path}.{i}")
            if callees.setdefault(tool.name, callee) != callee:
                raise _bad(f"{path}.{i}.name", f"two different tools are called '{tool.name}'")
            tools.setdefault(tool.name, tool)
    return tuple(tools.values()), callees, hosted


def _search(params: Iterable[ToolParam]) -> SearchWish | None:
    """Of the real web only: OpenAI's cache of it (``external_web_access: false``) nobody has here."""
    for param in params:
        if _is_search(param.type):
            return SearchWish() if param.external_web_access is not False else None
    return None


def _is_search(type_: str) -> bool:
    return type_.startswith("web_search")


def _flattened(params: Iterable[ToolParam]) -> Iterable[tuple[ToolParam, str | None]]:
    for param in params:
        if param.type == "namespace":
            for inner in param.tools or ():
                yield inner, param.name
        else:
            yield param, None


def _tool(param: ToolParam, namespace: str | None, path: str) -> tuple[Tool, Callee]:
    if not param.name:
        raise _bad(f"{path}.name", "Field required")
    name = flat_name(namespace, param.name)
    if param.type == "custom":
        tool = Tool(name, CUSTOM_SCHEMA, _custom_description(param))
        return tool, Callee("custom", param.name, namespace)
    schema = bytes(param.parameters) if _is_given(param.parameters) else NO_PARAMETERS
    if not schema.startswith(b"{"):
        raise _bad(f"{path}.parameters", "Expected `object`")
    # Here a tool is strict unless it says otherwise; in Chat Completions it is the other way round.
    strict = True if param.strict is None else param.strict
    return Tool(name, schema, param.description, strict), Callee("function", param.name, namespace)


SEARCH_NAME = "web_search"
"""The function that a model is shown in place of the hosted tool (``web_search.TOOL``)."""

NO_PARAMETERS = b'{"type":"object","properties":{}}'
CUSTOM_SCHEMA = (
    b'{"type":"object","properties":{"input":{"type":"string"}},"required":["input"],'
    b'"additionalProperties":false}'
)
"""A custom tool takes free text; engines know functions only."""


def _custom_description(param: ToolParam) -> str | None:
    """The grammar cannot be enforced, but the model can be told of it."""
    if not _is_given(param.format):
        return param.description
    try:
        format_ = msgspec.json.decode(param.format, type=dict[str, Any])
    except BAD_BODY:
        return param.description
    definition = format_.get("definition")
    if not isinstance(definition, str):
        return param.description
    rule = f"The input must follow this {format_.get('syntax', 'lark')} grammar:\n{definition}"
    return f"{param.description}\n\n{rule}" if param.description else rule


def _chosen(
    choice: str | ToolChoiceParam | None,
    tools: tuple[Tool, ...],
    hosted: list[str],
    wish: SearchWish | None,
) -> tuple[tuple[Tool, ...], ToolChoice | None, SearchWish | None]:
    """The tools left, the neutral choice, and the search left; ``wish`` is None where nobody searches.

    1. ``auto``, ``none``: hosted tools are skipped in silence. 2. ``required``: so they are as long as
    something else can be called. 3. One tool by name. 4. A list of allowed tools: only those are shown,
    and only their hosted ones count. 5. A search, which somebody runs. 6. Another hosted tool by type:
    refused.
    """
    match choice:
        case None:
            return tools, None, wish
        case "auto" | "none":  # case 1
            return tools, ToolChoice(choice), wish
        case "required":  # case 2
            if not tools and wish is None:
                _refuse_hosted(hosted)
            return tools, ToolChoice("any"), wish
        case str():
            raise _bad("tool_choice", f"'{choice}' is none of auto, none, required")
        case ToolChoiceParam(type="function" | "custom"):  # case 3
            if not choice.name:
                raise _bad("tool_choice.name", "Field required")
            return tools, ToolChoice("named", flat_name(choice.namespace, choice.name)), wish
        case ToolChoiceParam(type="allowed_tools"):  # case 4
            return _allowed(choice, tools, wish)
        case _ if wish is not None and _is_search(choice.type):  # case 5
            return tools, ToolChoice("named", SEARCH_NAME), wish
        case _:  # case 6
            raise _hosted(choice.type)


def _allowed(
    choice: ToolChoiceParam, tools: tuple[Tool, ...], wish: SearchWish | None
) -> tuple[tuple[Tool, ...], ToolChoice, SearchWish | None]:
    allowed = choice.tools or []
    hosted = [a.type for a in allowed if a.type not in ("function", "custom")]
    names = {flat_name(a.namespace, a.name) for a in allowed if a.name}
    shown = tuple(tool for tool in tools if tool.name in names)
    if not any(map(_is_search, hosted)):
        wish = None
    if choice.mode != "required":
        return shown, ToolChoice("auto"), wish
    if not shown and wish is None:
        _refuse_hosted(hosted)
    return shown, ToolChoice("any" if shown or wish is not None else "auto"), wish


def _refuse_hosted(types: list[str]) -> None:
    if types:
        raise _hosted(types[0])


def _hosted(type_: str) -> ClientError:
    why = "is run by OpenAI's servers and not available here"
    if _is_search(type_):
        why = "must be called, and nobody here searches the web for it"
    return _bad(
        "tool_choice", f"the tool '{type_}' {why}; with 'auto' the model goes on without it"
    )


# --------------------------------------------------------------------------- the answer's form


def _response_format(text: TextParam | None) -> ResponseFormat | None:
    format_ = text.format if text else None
    if format_ is None or format_.type == "text":
        return None
    if format_.type == "json_object":
        return ResponseFormat(None)
    if format_.type != "json_schema":
        raise _bad(
            "text.format.type", f"'{format_.type}' is none of text, json_object, json_schema"
        )
    schema = bytes(format_.schema)
    if not schema.startswith(b"{"):
        raise _bad("text.format.schema", "Expected `object`" if schema else "Field required")
    return ResponseFormat(schema, format_.name or "answer")
