"""Asking an engine in OpenAI Chat Completions: a neutral request as its body (docs/dialects.md 3.1).

What single engines take, and what they would ignore, is told by their facts (docs/dialects.md 3.9).
What they answer is ``openai_chat_answer``'s.
"""

from typing import Any

import msgspec

from homeport.errors import ClientError
from homeport.facts import EngineFacts, ModelFacts
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
from homeport.wire.turns import fold_system_turns, keep_system_turns, pair_tool_results, text_of

Raw = msgspec.Raw
_encode = msgspec.json.Encoder().encode


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
    refuse_schema(engine)
    schema = {"name": wanted.name, "schema": Raw(schema_for(wanted.schema, engine)), "strict": True}
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
        refuse_choice(engine)
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
    function["parameters"] = Raw(schema_for(tool.schema, engine))
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


# --------------------------------------------------------------------------- what an engine cannot take


def schema_for(schema: bytes, engine: EngineFacts) -> bytes:
    if engine.schema_bounds:
        return schema
    try:
        return without_bounds(schema)
    except BAD_BODY as error:
        raise invalid_body(error, "tools") from None


def refuse_schema(engine: EngineFacts) -> None:
    if "schema" in engine.ignores:
        raise ClientError(
            "invalid_request",
            "response_format (output_config.format, text.format): the engine of this model cannot "
            "hold an answer to a schema; ask for JSON in words, or for a call of a tool",
            param="response_format",
        )


def refuse_choice(engine: EngineFacts) -> None:
    if "tool_choice" in engine.ignores:
        raise ClientError(
            "invalid_request",
            "tool_choice: the engine of this model cannot be made to call a tool; use auto",
            param="tool_choice",
        )


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
    if len(turn.parts) == 1 and isinstance(one := turn.parts[0], Text):  # most are that
        return [{"role": "user", "content": one.text}]
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
