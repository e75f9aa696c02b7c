"""OpenAI Chat Completions, the request side: what clients send, what engines are sent.

``decode`` validates a client's body. ``relay_request`` makes the engine's body from it when the
engine speaks the same dialect (fields are passed as raw bytes; only what must change is changed).
``encode`` makes the engine's body from a neutral ``Request`` of another dialect.

Shapes: OpenAI API reference as typed in ``openai`` 3.52.0, and docs/dialects.md 3.9 for what
single engines take.
"""

from typing import Annotated, Any, Literal

import msgspec

from homeport.errors import ClientError
from homeport.spec import EngineFacts, ModelFacts
from homeport.wire.events import (
    Image,
    Part,
    Request,
    ResponseFormat,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from homeport.wire.faults import BAD_BODY, invalid_body
from homeport.wire.schemas import without_bounds
from homeport.wire.turns import (
    fold_system_turns,
    keep_system_turns,
    pair_tool_results,
    text_of,
)

Raw = msgspec.Raw
_encode = msgspec.json.Encoder().encode

# --------------------------------------------------------------------------- a client's body


class ImageUrl(msgspec.Struct):
    url: str


class ContentPart(msgspec.Struct):
    type: str
    text: str | None = None
    image_url: ImageUrl | str | None = None


class FunctionCall(msgspec.Struct):
    name: str
    arguments: str | dict[str, Any] | None = None


class MessageToolCall(msgspec.Struct):
    id: str | None = None
    function: FunctionCall | None = None


class Message(msgspec.Struct):
    role: Literal["developer", "system", "user", "assistant", "tool", "function"]
    content: str | list[ContentPart] | None = None
    tool_calls: list[MessageToolCall] | None = None
    tool_call_id: str | None = None


class FunctionTool(msgspec.Struct):
    name: str
    parameters: Raw = Raw(b"{}")


class ToolParam(msgspec.Struct):
    type: str = "function"
    function: FunctionTool | None = None


class NamedFunction(msgspec.Struct):
    name: str


class NamedChoice(msgspec.Struct):
    type: str = "function"
    function: NamedFunction | None = None


class StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class ChatRequest(msgspec.Struct):
    """The fields that we act on or validate; all others pass to the engine unseen."""

    messages: Annotated[list[Message], msgspec.Meta(min_length=1)]
    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    return_progress: Raw = Raw()
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    n: int | None = None
    stop: str | list[str] | None = None
    tools: list[ToolParam] | None = None
    tool_choice: str | NamedChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None

    @property
    def wants_usage(self) -> bool:
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    @property
    def wants_progress(self) -> bool:
        return bytes(self.return_progress) == b"true"

    @property
    def callable_tools(self) -> tuple[Tool, ...]:
        """The tools that the model may call; none where several answers are asked for."""
        if self.tool_choice == "none" or (self.n or 1) > 1:
            return ()
        functions = [tool.function for tool in self.tools or () if tool.function]
        return tuple(Tool(f.name, bytes(f.parameters)) for f in functions)

    @property
    def first_user_text(self) -> str:
        """The text of the first user turn; it tells conversations apart."""
        for message in self.messages:
            if message.role == "user":
                if isinstance(message.content, str):
                    return message.content
                return "".join(part.text or "" for part in message.content or ())
        return ""

    @property
    def image_at(self) -> str | None:
        """The path of the first image, or None."""
        for i, message in enumerate(self.messages):
            if isinstance(message.content, list):
                for j, part in enumerate(message.content):
                    if part.type == "image_url":
                        return f"messages.{i}.content.{j}"
        return None


_decoder = msgspec.json.Decoder(ChatRequest)
_raw_fields = msgspec.json.Decoder(dict[str, Raw])


def decode(body: bytes) -> ChatRequest:
    """A client's body, validated. Raises ``ClientError`` that names the field."""
    try:
        body.decode()  # what is skipped here goes to the engine as it is, and must be valid too
        request = _decoder.decode(body)
    except BAD_BODY as error:
        raise invalid_body(error) from None
    if isinstance(request.tool_choice, str) and request.tool_choice not in _TOOL_CHOICES:
        raise ClientError(
            "invalid_request",
            f"tool_choice: '{request.tool_choice}' is none of auto, none, required",
            param="tool_choice",
        )
    return request


_TOOL_CHOICES = ("auto", "none", "required")


def relay_request(
    body: bytes, request: ChatRequest, engine: EngineFacts, model: ModelFacts
) -> bytes:
    """The engine's body for a client that speaks the same dialect.

    Changed are: ``model``; ``stream_options`` (usage is always asked for: it is counted, and dropped
    from the answer when the client did not want it; ``return_progress`` likewise); a named
    ``tool_choice`` and tool schemas for engines that cannot take them; ``max_tokens`` beyond the
    whole context, which vLLM refuses. Raises ``ClientError`` for what the engine would ignore.
    """
    _refuse_ignored(request, engine)
    fields = _raw_fields.decode(body)
    fields["model"] = Raw(_encode(model.name))
    if request.stream and engine.stream_usage and not request.wants_usage:
        fields["stream_options"] = Raw(b'{"include_usage":true}')
    if request.stream and engine.progress:
        fields["return_progress"] = Raw(b"true")
    if request.tools:
        _relay_tools(fields, request, engine)
    if model.context_tokens is not None and not engine.max_tokens_over_context:
        for key in ("max_tokens", "max_completion_tokens"):
            asked = getattr(request, key)
            if asked is not None and asked >= model.context_tokens:
                del fields[key]
    return _encode(fields)


def _refuse_ignored(request: ChatRequest, engine: EngineFacts) -> None:
    if not engine.ignores:
        return
    if "n" in engine.ignores and (request.n or 1) > 1:
        raise ClientError(
            "invalid_request", "n: this model gives one answer at a time; ask again", param="n"
        )
    if (request.response_format or {}).get("type") == "json_schema":
        _refuse_schema(engine)
    if request.tools and request.tool_choice not in (None, "auto", "none"):
        _refuse_choice(engine)


def _refuse_schema(engine: EngineFacts) -> None:
    if "schema" in engine.ignores:
        raise ClientError(
            "invalid_request",
            "response_format (output_config.format, text.format): the engine of this model cannot "
            "hold an answer to a schema; ask for JSON in words, or for a call of a tool",
            param="response_format",
        )


def _refuse_choice(engine: EngineFacts) -> None:
    if "tool_choice" in engine.ignores:
        raise ClientError(
            "invalid_request",
            "tool_choice: the engine of this model cannot be made to call a tool; use auto",
            param="tool_choice",
        )


def _relay_tools(fields: dict[str, Raw], request: ChatRequest, engine: EngineFacts) -> None:
    choice = request.tool_choice
    if choice == "none" and not engine.tool_choice:
        del fields["tools"], fields["tool_choice"]
        return
    named = choice.function.name if isinstance(choice, NamedChoice) and choice.function else None
    narrow = named is not None and not engine.named_tool_choice
    if not narrow and engine.schema_bounds:
        return
    try:
        tools = msgspec.json.decode(fields["tools"], type=list[dict[str, Any]])
    except BAD_BODY as error:
        raise invalid_body(error, "tools") from None
    if narrow:
        tools = [tool for tool in tools if _function_name(tool) == named]
        if not tools:
            raise ClientError(
                "invalid_request", f"tool_choice: no tool is called '{named}'", param="tool_choice"
            )
        fields["tool_choice"] = Raw(b'"required"')
    if not engine.schema_bounds:
        for tool in tools:
            function = tool.get("function")
            if isinstance(function, dict) and isinstance(function.get("parameters"), dict):
                function["parameters"] = Raw(_schema(_encode(function["parameters"]), engine))
    fields["tools"] = Raw(_encode(tools))


def _function_name(tool: dict[str, Any]) -> object:
    function = tool.get("function")
    return function.get("name") if isinstance(function, dict) else None


# --------------------------------------------------------------------------- from the hub


def encode(request: Request, engine: EngineFacts, model: ModelFacts) -> bytes:
    """The engine's body for a request of another dialect (docs/dialects.md 3.1)."""
    body: dict[str, Any] = {
        "model": model.name,
        "messages": _messages(request.turns, engine),
        "stream": request.stream,
    }
    if request.stream and engine.stream_usage:
        body["stream_options"] = {"include_usage": True}
    if request.stream and engine.progress:
        body["return_progress"] = True
    if _max_tokens_fit(request.max_tokens, model, engine):
        body["max_tokens"] = max(1, request.max_tokens or 1)
    if request.tools:
        _put_tools(body, request, engine)
    if request.stop:
        body["stop"] = list(request.stop)
    for key in ("temperature", "top_p"):
        if (value := getattr(request, key)) is not None:
            body[key] = value
    if request.top_k is not None and "top_k" in engine.extensions:
        body["top_k"] = request.top_k
    if request.response_format is not None:
        body["response_format"] = _response_format(request.response_format, engine)
    _put_thinking(body, request, engine)
    if _ends_in_prefill(body["messages"]):
        body.update(engine.prefill)
    return _encode(body)


def _response_format(wanted: ResponseFormat, engine: EngineFacts) -> dict[str, Any]:
    if wanted.schema is None:
        return {"type": "json_object"}
    _refuse_schema(engine)
    schema = {"name": wanted.name, "schema": Raw(_schema(wanted.schema, engine)), "strict": True}
    return {"type": "json_schema", "json_schema": schema}


def _max_tokens_fit(asked: int | None, model: ModelFacts, engine: EngineFacts) -> bool:
    """A limit at or above the whole context is no limit: left out, the engine uses what is free.

    Claude Code asks for 32000 or 128000 whatever the model; vLLM refuses more than it has.
    """
    if asked is None:
        return False
    if model.context_tokens is None or engine.max_tokens_over_context:
        return True
    return asked < model.context_tokens


def _schema(schema: bytes, engine: EngineFacts) -> bytes:
    if engine.schema_bounds:
        return schema
    try:
        return without_bounds(schema)
    except BAD_BODY as error:
        raise invalid_body(error, "tools") from None


def _put_tools(body: dict[str, Any], request: Request, engine: EngineFacts) -> None:
    choice, tools = request.tool_choice or ToolChoice("auto"), request.tools
    if choice.mode == "none" and not engine.tool_choice:
        return  # an engine that cannot be told "none" must not see the tools
    if choice.mode == "named" and not any(tool.name == choice.name for tool in tools):
        raise ClientError(
            "invalid_request",
            f"tool_choice: no tool is called '{choice.name}'",
            param="tool_choice",
        )
    if choice.mode in ("any", "named"):
        _refuse_choice(engine)
    if choice.mode == "named" and not engine.named_tool_choice:
        # llama.cpp reads an object here as "auto": only this tool plus "required" says the same.
        tools = tuple(tool for tool in tools if tool.name == choice.name)
        choice = ToolChoice("any")
    body["tools"] = [_tool(tool, engine) for tool in tools]
    if engine.tool_choice:
        body["tool_choice"] = (
            {"type": "function", "function": {"name": choice.name}}
            if choice.mode == "named"
            else _CHOICES[choice.mode]
        )
    if request.parallel_tool_calls is not None and engine.parallel_tool_calls:
        body["parallel_tool_calls"] = request.parallel_tool_calls


_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


def _tool(tool: Tool, engine: EngineFacts) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    function["parameters"] = Raw(_schema(tool.schema, engine))
    if tool.strict is not None and engine.strict_tools:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _ends_in_prefill(messages: list[dict[str, Any]]) -> bool:
    """Whether the answer has begun: the last message is the assistant's, and no call. Then white space
    at its end goes (a model seldom continues after it as it would have without).

    llama.cpp refuses two assistant messages at the end, and nobody can go on with an empty one.
    """
    while len(messages) > 1 and _is_said(messages[-1]) and _is_said(messages[-2]):
        last = messages.pop()
        messages[-1] = {
            **messages[-1],
            **last,
            "content": messages[-1]["content"] + last["content"],
        }
    if not _is_said(messages[-1]):
        return False
    messages[-1]["content"] = messages[-1]["content"].rstrip()
    if len(messages) > 1 and len(messages[-1]) == 2 and not messages[-1]["content"]:
        messages.pop()
        return False
    return True


def _is_said(message: dict[str, Any]) -> bool:
    return message["role"] == "assistant" and "tool_calls" not in message


def _put_thinking(body: dict[str, Any], request: Request, engine: EngineFacts) -> None:
    """Effort and thinking switches (docs/dialects.md 3.1, 3.4), as the engine knows them."""
    if request.effort is not None and engine.reasoning_effort:
        body["reasoning_effort"] = _effort(request.effort, engine)
    if request.thinking is None:
        return
    if engine.template_kwargs:
        body["chat_template_kwargs"] = {"enable_thinking": request.thinking.enabled}
    if not request.thinking.enabled and engine.reasoning_effort:
        body["reasoning_effort"] = "none"
    budget = request.thinking.budget_tokens
    if budget is not None and engine.thinking_budget_key is not None:
        body[engine.thinking_budget_key] = budget


_EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high"}


def _effort(asked: str, engine: EngineFacts) -> str:
    xhigh, top = engine.top_efforts
    return {**_EFFORTS, "xhigh": xhigh, "max": top}.get(asked, "high")


# --------------------------------------------------------------------------- turns to messages


def _messages(turns: tuple[Turn, ...], engine: EngineFacts) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    in_place = keep_system_turns if engine.system_inside else fold_system_turns
    for turn in pair_tool_results(in_place(turns)):
        match turn.role:
            case "system":
                if text := text_of(turn.parts, "\n\n"):
                    out.append({"role": "system", "content": text})
            case "assistant":
                out.append(_assistant(turn, engine))
            case "user":
                out.extend(_user(turn, engine))
    return out


def _assistant(turn: Turn, engine: EngineFacts) -> dict[str, Any]:
    """Text is joined and stands before the calls (Chat Completions has no order between them).

    ``content`` is never null: some templates concatenate it.
    """
    message: dict[str, Any] = {"role": "assistant", "content": text_of(turn.parts, "")}
    thinking = "".join(part.text for part in turn.parts if isinstance(part, Thinking))
    if thinking:
        message[engine.reasoning_key] = thinking
    calls = [
        {
            "id": part.id,
            "type": "function",
            "function": {"name": part.name, "arguments": part.arguments},
        }
        for part in turn.parts
        if isinstance(part, ToolCall)
    ]
    if calls:
        message["tool_calls"] = calls
    return message


IMAGE_BELOW = "[image attached below]"


def _user(turn: Turn, engine: EngineFacts) -> list[dict[str, Any]]:
    """One user turn, block order kept: text so far, tool messages, the rest.

    Tool messages mostly take text only (OpenAI's own rule, and vLLM's): an image inside a result is
    announced there and follows in the user message after the results.
    """
    out: list[dict[str, Any]] = []
    gathered: list[Text | Image] = []
    images: list[Image] = []
    for part in turn.parts:
        match part:
            case Text() | Image():
                gathered.append(part)
            case ToolResult():
                if gathered:
                    out.append(_user_message(gathered))
                    gathered = []
                out.append(_tool_message(part, engine))
                if not engine.image_in_tool:
                    images.extend(inner for inner in part.content if isinstance(inner, Image))
            case _:
                pass  # thinking and calls do not occur in user turns
    gathered = [*images, *gathered]
    if gathered or not out:
        out.append(_user_message(gathered))
    return out


def _user_message(parts: list[Text | Image]) -> dict[str, Any]:
    if not any(isinstance(part, Image) for part in parts):
        return {"role": "user", "content": text_of(tuple(parts), "\n")}
    return {"role": "user", "content": [_part(part) for part in parts]}


def _part(part: Part) -> dict[str, Any]:
    match part:
        case Image(url=url):
            return {"type": "image_url", "image_url": {"url": url}}
        case Text(text=text):
            return {"type": "text", "text": text}
        case _:
            raise AssertionError(part)


def _tool_message(result: ToolResult, engine: EngineFacts) -> dict[str, Any]:
    lines = [part.text if isinstance(part, Text) else IMAGE_BELOW for part in result.content]
    text = "\n".join(lines)
    mark = "Error: " if result.is_error and not text.lower().startswith("error") else ""
    content: str | list[dict[str, Any]] = mark + text
    if engine.image_in_tool and any(isinstance(part, Image) for part in result.content):
        content = [_part(part) for part in ((Text(mark),) if mark else ()) + result.content]
    return {"role": "tool", "tool_call_id": result.call_id, "content": content}
