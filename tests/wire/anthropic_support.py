"""Anthropic requests for tests, and what an engine is sent for them."""

import json
from typing import Any

import pytest

from homeport.errors import ClientError
from homeport.facts import EngineFacts, ModelFacts
from homeport.wire import anthropic, openai_chat_upstream
from homeport.wire.events import Request

MODEL = ModelFacts(name="local", context_tokens=4096)
PLAIN = EngineFacts()
SCHEMA = {"type": "object", "properties": {"x": {"type": "string", "maxLength": 9}}}


def request(content: Any = "hi", **fields: Any) -> Request:
    turns = content if isinstance(content, list) and content and "role" in content[0] else None
    body = {
        "model": "claude-x",
        "max_tokens": 64,
        "messages": turns or [{"role": "user", "content": content}],
        **fields,
    }
    return anthropic.decode(json.dumps(body).encode())


def sent(content: Any = "hi", engine: EngineFacts = PLAIN, **fields: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(
        openai_chat_upstream.encode(request(content, **fields), engine, MODEL)
    )
    return body


def user_content(*blocks: dict[str, Any]) -> Any:
    [message] = sent(list(blocks))["messages"]
    return message["content"]


def after_call(*blocks: dict[str, Any], engine: EngineFacts = PLAIN) -> list[dict[str, Any]]:
    """The messages behind an assistant turn that called ``a``."""
    used = {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}}
    turns = [{"role": "assistant", "content": [used]}, {"role": "user", "content": list(blocks)}]
    messages: list[dict[str, Any]] = sent(turns, engine)["messages"]
    return messages[1:]


def refused(content: Any = "hi", **fields: Any) -> ClientError:
    with pytest.raises(ClientError) as caught:
        sent(content, **fields)
    return caught.value


TEXT = {"type": "text", "text": "look"}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/gif", "data": "AAAA"}}
IMAGE_PART = {"type": "image_url", "image_url": {"url": "data:image/gif;base64,AAAA"}}
TOOL = {"name": "f", "description": "does f", "input_schema": SCHEMA}


def result(content: Any = "r", **fields: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": "a", "content": content, **fields}


def assistant(*blocks: dict[str, Any], engine: EngineFacts = PLAIN) -> dict[str, Any]:
    turns = [{"role": "assistant", "content": list(blocks)}, {"role": "user", "content": "q"}]
    message: dict[str, Any] = sent(turns, engine)["messages"][0]
    return message
