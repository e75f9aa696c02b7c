"""Asking an upstream that speaks Anthropic Messages only: a neutral request as its body.

docs/dialects.md 3.6. Anthropic refuses what it finds odd: empty blocks, results that do not follow
their calls at once, white space at the end. What it answers is ``anthropic_upstream_answer``'s.

Shapes: ``anthropic`` 2.11.0, docs/dialects.md 1.7.
"""

import re
from typing import Any, Final

import msgspec

from homeport.errors import ClientError
from homeport.facts import EngineFacts, ModelFacts
from homeport.wire.anthropic_answer import SIGNATURE, input_of
from homeport.wire.events import (
    Image,
    Part,
    Request,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from homeport.wire.faults import BAD_BODY
from homeport.wire.schemas import without_bounds
from homeport.wire.turns import fold_system_turns, pair_tool_results, text_of

Raw = msgspec.Raw
_encode = msgspec.json.Encoder().encode

MESSAGES_PATH: Final = "/v1/messages"

DEFAULT_MAX_TOKENS: Final = 8192
"""Anthropic requires a limit and OpenAI's clients seldom send one. Every model that is served today
takes so much; with the model's own limit known, that is used."""

MIN_BUDGET: Final = 1024
"""Of thinking; less is refused, and so is a budget that is not below ``max_tokens``."""

# --------------------------------------------------------------------------- the request


def encode(request: Request, engine: EngineFacts, model: ModelFacts) -> bytes:
    """The engine's body. Raises ``ClientError`` for what cannot be said in this dialect."""
    turns = pair_tool_results(fold_system_turns(request.turns))
    max_tokens = _max_tokens(request, model)
    body: dict[str, Any] = {"model": model.name, "max_tokens": max_tokens}
    if turns and turns[0].role == "system":
        if text := text_of(turns[0].parts, "\n\n"):
            body["system"] = text
        turns = turns[1:]
    if request.tools:
        _put_tools(body, request, engine)
    body["messages"] = _messages(turns, engine)
    body["stream"] = request.stream
    if request.stop:
        body["stop_sequences"] = list(request.stop)
    if request.temperature is not None:
        body["temperature"] = min(request.temperature, 1.0)  # OpenAI's goes up to 2
    for key in ("top_p", "top_k"):
        if (value := getattr(request, key)) is not None:
            body[key] = value
    _put_thinking(body, request, max_tokens)
    _put_output(body, request)
    return _encode(body)


def counting(body: bytes) -> bytes:
    """The body as ``count_tokens`` takes it."""
    fields = msgspec.json.decode(body, type=dict[str, Raw])
    return _encode({key: value for key, value in fields.items() if key not in _NOT_COUNTED})


_NOT_COUNTED = frozenset(
    {"max_tokens", "stream", "stop_sequences", "temperature", "top_p", "top_k", "metadata"}
)


def _max_tokens(request: Request, model: ModelFacts) -> int:
    if request.max_tokens is not None:
        asked = request.max_tokens
        return min(asked, model.output_tokens) if model.output_tokens is not None else asked
    if model.output_tokens is not None:
        return model.output_tokens
    if model.context_tokens is not None:
        return max(1, min(DEFAULT_MAX_TOKENS, model.context_tokens // 2))
    return DEFAULT_MAX_TOKENS


def _put_tools(body: dict[str, Any], request: Request, engine: EngineFacts) -> None:
    choice = request.tool_choice or ToolChoice("auto")
    if choice.mode == "named" and not any(tool.name == choice.name for tool in request.tools):
        raise ClientError(
            "invalid_request",
            f"tool_choice: no tool is called '{choice.name}'",
            param="tool_choice",
        )
    body["tools"] = [_tool(tool, engine) for tool in request.tools]
    said: dict[str, Any] = (
        {"type": "tool", "name": choice.name} if choice.mode == "named" else {"type": choice.mode}
    )
    if request.parallel_tool_calls is False and choice.mode != "none":
        said["disable_parallel_tool_use"] = True
    body["tool_choice"] = said


def _tool(tool: Tool, engine: EngineFacts) -> dict[str, Any]:
    out: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        out["description"] = tool.description
    out["input_schema"] = Raw(_schema(tool.schema, engine))
    if tool.strict and engine.strict_tools:
        out["strict"] = True
    return out


def _schema(schema: bytes, engine: EngineFacts) -> bytes:
    """With the ``type`` that Anthropic requires; a tool without arguments has none in OpenAI's."""
    try:
        fields = msgspec.json.decode(schema, type=dict[str, Raw])
        if "type" not in fields:
            schema = _encode({"type": "object", "properties": Raw(b"{}"), **fields})
        return schema if engine.schema_bounds else without_bounds(schema)
    except BAD_BODY as error:
        raise ClientError("invalid_request", f"tools: {error}", param="tools") from None


def _put_thinking(body: dict[str, Any], request: Request, max_tokens: int) -> None:
    switch = request.thinking
    if switch is None:
        return
    if not switch.enabled:
        body["thinking"] = {"type": "disabled"}
    elif switch.budget_tokens is None or max_tokens <= MIN_BUDGET:
        body["thinking"] = {"type": "adaptive"}
    else:
        budget = max(MIN_BUDGET, min(switch.budget_tokens, max_tokens - 1))
        body["thinking"] = {"type": "enabled", "budget_tokens": budget}


def _put_output(body: dict[str, Any], request: Request) -> None:
    """Effort and schema. "Any JSON" has no word here: OpenAI's API makes its clients say so in the
    messages, which the model reads."""
    config: dict[str, Any] = {}
    if request.effort is not None and request.effort != "none":
        config["effort"] = _EFFORTS.get(request.effort, "high")
    wanted = request.response_format
    if wanted is not None and wanted.schema is not None:
        config["format"] = {"type": "json_schema", "schema": Raw(wanted.schema)}
    if config:
        body["output_config"] = config


_EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "xhigh": "xhigh", "max": "max"}


# --------------------------------------------------------------------------- turns to messages


def _messages(turns: tuple[Turn, ...], engine: EngineFacts) -> list[dict[str, Any]]:
    """Roles alternate: what follows another turn of its role joins it, so that all results of several
    calls stand in *one* user message, directly behind the calls."""
    out: list[tuple[str, list[dict[str, Any]]]] = []
    for turn in turns:
        blocks = [block for part in turn.parts if (block := _block(part, engine)) is not None]
        if not blocks:
            continue  # Anthropic refuses an empty turn
        if out and out[-1][0] == turn.role:
            out[-1][1].extend(blocks)
        else:
            out.append((turn.role, blocks))
    for role, blocks in out:
        if role == "user":  # results must come first
            blocks.sort(key=lambda block: block["type"] != "tool_result")
    if out and out[-1][0] == "assistant":
        _trim_end(out[-1][1])
        if not out[-1][1]:
            out.pop()
    return [{"role": role, "content": blocks} for role, blocks in out]


def _trim_end(blocks: list[dict[str, Any]]) -> None:
    """An answer that has begun must not end in white space."""
    while blocks and blocks[-1]["type"] == "text":
        blocks[-1]["text"] = blocks[-1]["text"].rstrip()
        if blocks[-1]["text"]:
            return
        blocks.pop()


def _block(part: Part, engine: EngineFacts) -> dict[str, Any] | None:
    match part:
        case Text(text=text):
            return {"type": "text", "text": text} if text.strip() else None
        case Image(url=url):
            return _image(url)
        case Thinking(text=text):
            if not engine.replays_thinking:
                return None
            return {"type": "thinking", "thinking": text, "signature": SIGNATURE}
        case ToolCall():
            return {
                "type": "tool_use",
                "id": _id(part.id),
                "name": part.name,
                "input": input_of(part.arguments),
            }
        case ToolResult():
            return _result(part, engine)


def _result(result: ToolResult, engine: EngineFacts) -> dict[str, Any]:
    inner = [block for part in result.content if (block := _block(part, engine)) is not None]
    said: dict[str, Any] = {"type": "tool_result", "tool_use_id": _id(result.call_id)}
    if len(inner) == 1 and inner[0]["type"] == "text":
        said["content"] = inner[0]["text"]
    elif inner:
        said["content"] = inner
    if result.is_error:
        said["is_error"] = True
    return said


_DATA_URL = re.compile(r"data:([^;,]*)(?:;[^;,]*)*;base64,", re.IGNORECASE)


def _image(url: str) -> dict[str, Any]:
    if found := _DATA_URL.match(url):
        data, media_type = url[found.end() :], found[1] or "image/png"
        return {
            "type": "image",
            "source": {"type": "base64", "media_type": media_type, "data": data},
        }
    return {"type": "image", "source": {"type": "url", "url": url}}


_NO_ID = re.compile(r"[^a-zA-Z0-9_-]")


def _id(id_: str) -> str:
    """A call's id in the characters that Anthropic allows."""
    return _NO_ID.sub("_", id_) or "toolu_0"
