"""OpenAI Responses, the answer side: the shapes of a response, its items and its usage.

Strict readers want every field that OpenAI declares, null where there is nothing to say; what the
client asked for is echoed. ``openai_responses_stream`` decides what happens when, here stands what
it looks like (docs/dialects.md 2.4; ``openai`` 3.52.0).
"""

from typing import Any, Literal

import msgspec

from homeport.errors import FaultKind, RequestFault
from homeport.wire import faults
from homeport.wire.events import Usage, WebSearch
from homeport.wire.openai_responses_tools import Callee
from homeport.wire.rounds import as_one

Raw = msgspec.Raw
_encode = msgspec.json.Encoder().encode
_raw_fields = msgspec.json.Decoder(dict[str, Raw])

Status = Literal["in_progress", "completed", "incomplete", "failed"]
ItemStatus = Literal["in_progress", "completed", "incomplete"]

ECHOED: dict[str, bytes] = {
    "background": b"false",
    "instructions": b"null",
    "max_output_tokens": b"null",
    "max_tool_calls": b"null",
    "metadata": b"{}",
    "parallel_tool_calls": b"true",
    "previous_response_id": b"null",
    "prompt_cache_key": b"null",
    "reasoning": b'{"effort":null,"summary":null}',
    "safety_identifier": b"null",
    "service_tier": b'"default"',
    "store": b"true",
    "temperature": b"null",
    "text": b'{"format":{"type":"text"}}',
    "tool_choice": b'"auto"',
    "tools": b"[]",
    "top_logprobs": b"null",
    "top_p": b"null",
    "truncation": b'"disabled"',
    "user": b"null",
}
"""What a response says of its request, with what it says where the request said nothing."""


class Profile:
    """What all states of one response have in common; ``body`` makes it in one of them."""

    def __init__(self, request: bytes, *, response_id: str, model: str, created_at_s: int) -> None:
        """``request`` is the client's valid body, ``model`` the name that it asked for."""
        fields = _raw_fields.decode(request)
        self.id = response_id
        self._head = b'{"id":%b,"object":"response","created_at":%d,"model":%b' % (
            _encode(response_id),
            created_at_s,
            _encode(model),
        )
        self.echo = {key: _echo(key, fields.get(key), default) for key, default in ECHOED.items()}
        """What it says of its request, as JSON."""
        self._tail = b"".join(b',"%b":%b' % (k.encode(), v) for k, v in self.echo.items())

    def item_id(self, prefix: str, index: int) -> str:
        """Ids of items differ from those of other responses because this response's id does."""
        return f"{prefix}_{self.id.removeprefix('resp_')}{index:02x}"

    def body(
        self,
        status: Status,
        *,
        output: list[bytes],
        usage: Usage | None = None,
        incomplete: str | None = None,
        error: RequestFault | None = None,
        completed_at_s: int | None = None,
    ) -> bytes:
        """The response object. ``output`` holds encoded items."""
        return b"".join(
            (
                self._head,
                b',"status":"%b","completed_at":%b' % (status.encode(), _encode(completed_at_s)),
                b',"incomplete_details":',
                _encode({"reason": incomplete} if incomplete else None),
                b',"error":',
                _encode(error_of(error) if error else None),
                b',"output":[',
                b",".join(output),
                b'],"usage":',
                _encode(usage_of(usage) if usage else None),
                self._tail,
                b"}",
            )
        )


def _echo(key: str, given: Raw | None, default: bytes) -> bytes:
    value = bytes(given) if given is not None else b"null"
    if value == b"null":
        return default
    return _tools_echo(value) if key == "tools" else value


def _tools_echo(tools: bytes) -> bytes:
    """OpenAI's own answers name a function's every field."""
    params = msgspec.json.decode(tools, type=list[dict[str, Raw]])
    for param in params:
        if bytes(param["type"]) == b'"function"':
            for field in ("description", "parameters"):
                param.setdefault(field, Raw(b"null"))
            if bytes(param.get("strict", b"null")) == b"null":
                param["strict"] = Raw(b"true")
    return _encode(params)


def usage_of(usage: Usage) -> dict[str, Any]:
    usage = as_one(usage)
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens or 0,
            "cache_write_tokens": 0,
        },
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


ERROR_CODES: dict[FaultKind, str] = {
    "context_overflow": "context_length_exceeded",  # Codex compacts or gives up; others it retries
    "output_overflow": "context_length_exceeded",
    "invalid_request": "invalid_prompt",
    "rate_limit": "rate_limit_exceeded",
}


def error_of(fault: RequestFault) -> dict[str, str]:
    return {
        "code": ERROR_CODES.get(fault.kind, "server_error"),
        "message": faults.message_of(fault, "openai_responses"),
    }


# --------------------------------------------------------------------------- items


def message_item(id_: str, text: str | None, status: ItemStatus) -> bytes:
    """``text`` is None where no part has begun."""
    return _encode(
        {
            "id": id_,
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": [text_part(text)] if text is not None else [],
        }
    )


def text_part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def reasoning_item(id_: str, text: str | None, status: ItemStatus) -> bytes:
    """Reasoning goes out in the clear: it must come back to rebuild the prompt, and there is nobody
    to keep it from."""
    return _encode(
        {
            "id": id_,
            "type": "reasoning",
            "status": status,
            "summary": [],
            "content": [reasoning_part(text)] if text is not None else [],
            "encrypted_content": None,
        }
    )


def reasoning_part(text: str) -> dict[str, Any]:
    return {"type": "reasoning_text", "text": text}


def call_item(id_: str, call_id: str, callee: Callee, text: str, status: ItemStatus) -> bytes:
    """``text`` is a function's arguments (JSON text) or a custom tool's input."""
    is_custom = callee.kind == "custom"
    item: dict[str, Any] = {
        "id": id_,
        "type": "custom_tool_call" if is_custom else "function_call",
        "status": status,
        "call_id": call_id,
        "name": callee.name,
        "input" if is_custom else "arguments": text,
    }
    if callee.namespace is not None:
        item["namespace"] = callee.namespace
    return _encode(item)


def search_item(id_: str, search: WebSearch, *, is_done: bool) -> bytes:
    action = {
        "type": "search",
        "query": search.query,
        "queries": [search.query],
        "sources": [{"type": "url", "url": hit.url} for hit in search.hits] if is_done else None,
    }
    status = ("failed" if search.error else "completed") if is_done else "in_progress"
    return _encode({"id": id_, "type": "web_search_call", "status": status, "action": action})


def custom_input(arguments: str) -> str:
    """The free text in a custom tool's arguments; what is no such object is taken as the text."""
    try:
        value = msgspec.json.decode(arguments)
    except faults.BAD_BODY:
        return arguments
    given = value.get("input") if isinstance(value, dict) else None
    return given if isinstance(given, str) else arguments
