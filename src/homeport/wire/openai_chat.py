"""OpenAI Chat Completions, the requests of clients.

``decode`` validates a client's body. ``relay_request`` makes the engine's body from it when the
engine speaks the same dialect (fields are passed as raw bytes; only what must change is changed).

Shapes: OpenAI API reference as typed in ``openai`` 3.52.0.
"""

from typing import Annotated, Any, Literal

import msgspec

from homeport.errors import ClientError
from homeport.facts import EngineFacts, ModelFacts
from homeport.wire.events import Tool
from homeport.wire.faults import BAD_BODY, invalid_body
from homeport.wire.openai_chat_upstream import refuse_choice, refuse_schema, schema_for

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
        if not self.tools or self.tool_choice == "none" or (self.n or 1) > 1:
            return ()
        functions = [tool.function for tool in self.tools if tool.function]
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
        refuse_schema(engine)
    if request.tools and request.tool_choice not in (None, "auto", "none"):
        refuse_choice(engine)


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
                function["parameters"] = Raw(schema_for(_encode(function["parameters"]), engine))
    fields["tools"] = Raw(_encode(tools))


def _function_name(tool: dict[str, Any]) -> object:
    function = tool.get("function")
    return function.get("name") if isinstance(function, dict) else None
