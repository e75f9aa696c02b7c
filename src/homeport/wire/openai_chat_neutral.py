"""A Chat Completions request as a neutral one, for an upstream that speaks another dialect.

Where bytes pass through, ``openai_chat`` looks at a few fields and hands on the rest. Here nothing is
handed on unread, so every field is in one of three tables: translated (the structs below), refused
because the answer would be another one (``REFUSED``), or ignored because it is a wish (all others:
seeds, penalties, account data).

Shapes that are the same for both are ``openai_chat``'s. The others hold more here than there: a field
that passes unread costs nothing there.
"""

from typing import Any

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
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from homeport.wire.faults import BAD_BODY, invalid_body
from homeport.wire.openai_chat import ImageUrl, NamedChoice, NamedFunction

Raw = msgspec.Raw


class _Part(msgspec.Struct):
    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: ImageUrl | str | None = None


class _Function(msgspec.Struct):
    name: str = ""
    arguments: str | dict[str, Any] | None = None


class _Call(msgspec.Struct):
    id: str | None = None
    type: str = "function"
    function: _Function | None = None


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Part] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_Call] | None = None
    tool_call_id: str | None = None


class _Declared(msgspec.Struct):
    name: str
    description: str | None = None
    parameters: Raw = Raw(b"{}")
    strict: bool | None = None


class _Tool(msgspec.Struct):
    type: str = "function"
    function: _Declared | None = None


class _Schema(msgspec.Struct):
    name: str = "answer"
    schema: Raw = Raw(b"{}")


class _Format(msgspec.Struct):
    type: str
    json_schema: _Schema | None = None


class _Template(msgspec.Struct):
    enable_thinking: bool | None = None


class _Chat(msgspec.Struct):
    messages: list[_Message]
    model: str | None = None
    stream: bool | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: str | list[str] | None = None
    tools: list[_Tool] | None = None
    tool_choice: str | NamedChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: _Format | None = None
    reasoning_effort: str | None = None
    chat_template_kwargs: _Template | None = None
    thinking_budget_tokens: int | None = None
    n: int | None = None
    logprobs: bool | None = None
    modalities: list[str] | None = None
    functions: list[Any] | None = None


_decode = msgspec.json.Decoder(_Chat).decode


def neutral(body: bytes) -> Request:
    """The neutral request. Raises ``ClientError`` that names what cannot be translated."""
    try:
        return _request(_decode(body))
    except BAD_BODY as error:
        raise invalid_body(error) from None


def _bad(path: str, reason: str) -> ClientError:
    return ClientError("invalid_request", f"{path}: {reason}", param=path)


def _request(chat: _Chat) -> Request:
    for field, why in REFUSED.items():
        if getattr(chat, field) not in HARMLESS[field]:
            raise _bad(field, why)
    effort = chat.reasoning_effort
    stop = [chat.stop] if isinstance(chat.stop, str) else chat.stop or []
    return Request(
        model=chat.model or "",
        turns=_turns(chat.messages),
        stream=bool(chat.stream),
        max_tokens=chat.max_completion_tokens or chat.max_tokens,
        tools=tuple(_tool(tool, f"tools.{i}") for i, tool in enumerate(chat.tools or ())),
        tool_choice=_choice(chat.tool_choice),
        parallel_tool_calls=chat.parallel_tool_calls if chat.tools else None,
        stop=tuple(s for s in stop if s),
        temperature=chat.temperature,
        top_p=chat.top_p,
        top_k=chat.top_k,
        thinking=_thinking(chat),
        effort=None if effort == "none" else effort,
        response_format=_format(chat.response_format),
    )


REFUSED: dict[str, str] = {
    "n": "the upstream gives one answer only",
    "logprobs": "the upstream tells none",
    "modalities": "the upstream answers in text only",
    "functions": "the upstream knows no functions of the old kind; send tools",
}
HARMLESS: dict[str, tuple[object, ...]] = {
    "n": (None, 1),
    "logprobs": (None, False),
    "modalities": (None, [], ["text"]),
    "functions": (None, []),
}
"""The values of those fields that ask for nothing."""


def _thinking(chat: _Chat) -> ThinkingSwitch | None:
    template = chat.chat_template_kwargs
    enabled = template.enable_thinking if template is not None else None
    if chat.reasoning_effort == "none" or enabled is False:
        return ThinkingSwitch(False)
    if enabled or chat.thinking_budget_tokens:
        return ThinkingSwitch(True, chat.thinking_budget_tokens or None)
    return None


def _tool(tool: _Tool, path: str) -> Tool:
    if tool.type != "function" or tool.function is None:
        raise _bad(f"{path}.type", f"tools of type '{tool.type}' are not supported here")
    declared = tool.function
    schema = bytes(declared.parameters)
    return Tool(
        declared.name,
        b"{}" if schema in (b"", b"null") else schema,
        declared.description,
        declared.strict,
    )


def _choice(choice: str | NamedChoice | None) -> ToolChoice | None:
    match choice:
        case None:
            return None
        case "auto":
            return ToolChoice("auto")
        case "none":
            return ToolChoice("none")
        case "required":
            return ToolChoice("any")
        case NamedChoice(function=NamedFunction(name=name)):
            return ToolChoice("named", name)
        case _:
            raise _bad("tool_choice", "only auto, none, required and a function are supported here")


def _format(wanted: _Format | None) -> ResponseFormat | None:
    match wanted:
        case _Format(type="json_schema", json_schema=_Schema(name=name, schema=schema)):
            return ResponseFormat(bytes(schema), name)
        case _Format(type="json_object"):
            return ResponseFormat(None)
        case None | _Format(type="text"):
            return None
        case _:
            raise _bad("response_format.type", f"'{wanted.type}' is not supported here")


# --------------------------------------------------------------------------- messages to turns


def _turns(messages: list[_Message]) -> tuple[Turn, ...]:
    """Instructions at the head become one system turn; tool messages are the user's turns."""
    turns: list[Turn] = []
    head: list[Part] = []
    for i, message in enumerate(messages):
        path = f"messages.{i}"
        match message.role:
            case "system" | "developer":
                parts = _content(message.content, path)
                if not turns:
                    head.extend(parts)
                    continue
                turns.append(Turn("system", parts))
            case "user":
                turns.append(Turn("user", _content(message.content, path)))
            case "assistant":
                turns.append(Turn("assistant", _said(message, path)))
            case "tool":
                turns.append(Turn("user", (_result(message, path),)))
            case _:
                raise _bad(f"{path}.role", f"'{message.role}' is not supported here")
    # A system turn at the head, so that a first message is never taken for the prompt.
    return (Turn("system", tuple(head)), *turns)


def _content(content: str | list[_Part] | None, path: str) -> tuple[Text | Image, ...]:
    if isinstance(content, str):
        return (Text(content),) if content else ()
    return tuple(_part(part, f"{path}.content.{i}") for i, part in enumerate(content or ()))


def _part(part: _Part, path: str) -> Text | Image:
    match part:
        case _Part(type="text", text=str(text)):
            return Text(text)
        case _Part(type="refusal", refusal=str(text)):
            return Text(text)
        case _Part(type="image_url", image_url=ImageUrl(url=url)):
            return Image(url)
        case _Part(type="image_url", image_url=str(url)):
            return Image(url)
        case _:
            raise _bad(f"{path}.type", f"parts of type '{part.type}' are not supported here")


def _said(message: _Message, path: str) -> tuple[Part, ...]:
    parts: list[Part] = []
    if thinking := message.reasoning_content or message.reasoning:
        parts.append(Thinking(thinking))
    parts += _content(message.content, path)
    if message.refusal:
        parts.append(Text(message.refusal))
    for i, call in enumerate(message.tool_calls or ()):
        if call.function is None:
            raise _bad(f"{path}.tool_calls.{i}.type", f"'{call.type}' is not supported here")
        arguments = call.function.arguments
        text = arguments if isinstance(arguments, str) else _dumped(arguments)
        parts.append(ToolCall(call.id or f"call_{i}", call.function.name, text))
    return tuple(parts)


def _dumped(arguments: dict[str, Any] | None) -> str:
    return msgspec.json.encode(arguments or {}).decode()


def _result(message: _Message, path: str) -> ToolResult:
    if message.tool_call_id is None:
        raise _bad(f"{path}.tool_call_id", "Field required")
    return ToolResult(message.tool_call_id, _content(message.content, path))
