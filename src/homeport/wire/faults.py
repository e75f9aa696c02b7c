"""Errors on the wire: an engine's words in, a client's words out.

``fault_from_engine`` reads what any engine says when it refuses a request; ``status_of`` and
``body_of`` say a fault in the caller's dialect. Wording matters: Claude Code and opencode act on the
*text* of an overflow (they compact the conversation), so every engine's overflow becomes exactly
the words that the client's own API would use.

Overflow wordings were read off llama.cpp (2026-10), vLLM 0.32, and the sources of SGLang 0.5,
TensorRT-LLM and LM Studio; ``OVERFLOWS`` is the table.
"""

import re
from typing import Any, Literal

import msgspec

from homeport.errors import ClientError, FaultKind, RequestFault, UpstreamError

Dialect = Literal["openai_chat", "openai_responses", "anthropic"]

BAD_BODY = (msgspec.MsgspecError, ValueError, RecursionError)
"""What decoding JSON raises: beside msgspec's own errors UnicodeDecodeError, a ValueError, and
RecursionError where the nesting has no end."""

# kind: (HTTP status, Anthropic's type word, OpenAI's type word, OpenAI's code)
WORDS: dict[FaultKind, tuple[int, str, str, str | None]] = {
    "invalid_request": (400, "invalid_request_error", "invalid_request_error", None),
    "context_overflow": (
        400,
        "invalid_request_error",
        "invalid_request_error",
        "context_length_exceeded",
    ),
    "output_overflow": (
        400,
        "invalid_request_error",
        "invalid_request_error",
        "context_length_exceeded",
    ),
    "authentication": (401, "authentication_error", "authentication_error", "invalid_api_key"),
    "permission": (403, "permission_error", "permission_error", None),
    "not_found": (404, "not_found_error", "invalid_request_error", "not_found"),
    "method_not_allowed": (405, "invalid_request_error", "invalid_request_error", None),
    "too_large": (413, "request_too_large", "invalid_request_error", "request_too_large"),
    "rate_limit": (429, "rate_limit_error", "rate_limit_error", "rate_limit_exceeded"),
    "internal": (500, "api_error", "server_error", "internal_error"),
    "upstream": (502, "api_error", "server_error", "upstream_error"),
    "unavailable": (503, "api_error", "server_error", "unavailable"),
    "overloaded": (529, "overloaded_error", "server_error", "overloaded"),
    "timeout": (504, "timeout_error", "server_error", "timeout"),
}


# --------------------------------------------------------------------------- to the client


def status_of(fault: RequestFault, dialect: Dialect) -> int:
    """The HTTP status. 529 is Anthropic's own; to an OpenAI client the same thing is 503."""
    if fault.status is not None:
        return fault.status
    status = WORDS[fault.kind][0]
    return 503 if status == 529 and dialect != "anthropic" else status


def message_of(fault: RequestFault, dialect: Dialect) -> str:
    """The message; overflows in the words that the dialect's clients act on."""
    if fault.tokens is None or fault.kind not in ("context_overflow", "output_overflow"):
        return fault.message
    prompt, limit = fault.tokens
    if dialect == "anthropic":
        if fault.kind == "context_overflow":
            return f"prompt is too long: {prompt} tokens > {limit} maximum"
        return (
            f"input length and `max_tokens` exceed context limit: {prompt} + "
            f"{fault.output_tokens} > {limit}, decrease input length or `max_tokens` and try again"
        )
    if fault.kind == "context_overflow":
        return (
            f"This model's maximum context length is {limit} tokens. However, your messages "
            f"resulted in {prompt} tokens. Please reduce the length of the messages."
        )
    return (
        f"This model's maximum context length is {limit} tokens. However, you requested "
        f"{prompt + (fault.output_tokens or 0)} tokens ({prompt} in the messages, "
        f"{fault.output_tokens} in the completion). Please reduce the length of the messages "
        "or completion."
    )


def body_of(fault: RequestFault, dialect: Dialect, request_id: str) -> bytes:
    """The error body, whole (an HTTP answer) or as the data of an in-stream error event."""
    _, anthropic_type, openai_type, code = WORDS[fault.kind]
    message = message_of(fault, dialect)
    if dialect == "anthropic":
        return msgspec.json.encode(
            {
                "type": "error",
                "error": {"type": anthropic_type, "message": message},
                "request_id": request_id,
            }
        )
    if fault.kind == "not_found" and fault.param == "model":
        code = "model_not_found"
    return msgspec.json.encode(
        {"error": {"message": message, "type": openai_type, "param": fault.param, "code": code}}
    )


def plain_body_of(fault: RequestFault) -> bytes:
    """For routes that are of no dialect."""
    return msgspec.json.encode({"error": {"kind": fault.kind, "message": fault.message}})


# --------------------------------------------------------------------------- from our validation

_PATH = re.compile(r" - at `\$\.?([^`]*)`$")
_MISSING = re.compile(r"^Object missing required field `([^`]+)`")


def invalid_body(error: Exception, at: str = "") -> ClientError:
    """A body that does not decode, with the field's path as clients write it (``messages.0.role``).

    ``at`` is the path of the part that was decoded, if that was not the whole body.
    """
    if isinstance(error, RecursionError):
        return ClientError("invalid_request", "the request body is nested too deeply")
    if not isinstance(error, msgspec.ValidationError):
        return ClientError("invalid_request", f"the request body is not valid JSON: {error}")
    text = str(error)
    found = _PATH.search(text)
    path = ".".join(part for part in (at, _dotted(found[1]) if found else "") if part)
    reason = _PATH.sub("", text)
    if missing := _MISSING.match(reason):
        path = f"{path}.{missing[1]}" if path else missing[1]
        reason = "Field required"
    return ClientError(
        "invalid_request", f"{path}: {reason}" if path else reason, param=path or None
    )


def _dotted(path: str) -> str:
    return re.sub(r"\[(\d+|\.\.\.)\]", r".\1", path).lstrip(".")


# --------------------------------------------------------------------------- from the engine

_N = r"(?P<prompt>[0-9]{1,12})"
_M = r"(?P<limit>[0-9]{1,12})"
_OUT = r"(?P<output>[0-9]{1,12})"

MAX_MESSAGE = 2000
"""Of an engine's message, so much is read and passed on; the longest seen had 400 characters."""

OVERFLOWS: tuple[re.Pattern[str], ...] = tuple(
    re.compile(pattern, re.IGNORECASE | re.DOTALL)
    for pattern in (
        # llama.cpp
        rf"request \({_N} tokens\) exceeds the available context size \({_M} tokens\)",
        r"exceeds the available context size",
        # vLLM and OpenAI: prompt and output named apart
        rf"maximum context length (?:is|of) {_M} tokens.*?requested (?:a total of )?\d+ tokens"
        rf".*?{_N} (?:in the messages|tokens from the input|of text input|input tokens|in the prompt)"
        rf".*?{_OUT} (?:in|tokens for) the completion",
        rf"maximum context length is {_M} tokens.*?requested {_OUT} output tokens and your prompt "
        rf"contains (?:at least )?{_N} input tokens",
        rf"maximum context length is {_M} tokens.*?prompt contains (?:at least )?{_N} input tokens",
        rf"maximum context length is {_M} tokens.*?messages resulted in {_N} tokens",
        rf"maximum context length (?:is|of) {_M} tokens",
        # SGLang
        rf"input \({_N} tokens\) is longer than the model's context length \({_M} tokens\)",
        # TensorRT-LLM
        rf"sum of prompt length \({_N}(?:\.0)?\).*?max_tokens \({_OUT}\).*?max_seq_len \({_M}\)",
        rf"prompt length \({_N}\).*?(?:max_seq_len|max_num_tokens|max_input_len) \({_M}\)",
        # LM Studio
        rf"keep the first {_N} tokens.*?context length of only {_M} tokens",
        # Anthropic's own words, from an upstream that speaks them
        rf"prompt is too long: {_N} tokens > {_M} maximum",
        r"prompt is too long",
        r"context[_ ]length[_ ]exceeded",
        r"exceeds? (?:the )?(?:model'?s )?(?:maximum )?context (?:window|length|size)",
    )
)

_NO_IMAGES = re.compile(
    r"image input is not supported|not a multimodal model|only 'text' content type is supported"
    r"|does not support (?:image|vision)|mmproj",
    re.IGNORECASE,
)


def overflow_in(message: str, details: dict[str, Any] | None = None) -> ClientError | None:
    """The overflow that an engine's message tells of, or None.

    Where an engine does not say how long the prompt was (vLLM counts characters first), one token
    over the limit is reported: clients need both numbers in the sentence, and that much is sure.
    """
    details = details or {}
    prompt, limit = details.get("n_prompt_tokens"), details.get("n_ctx")
    if isinstance(prompt, int) and isinstance(limit, int):
        return ClientError("context_overflow", message, tokens=(prompt, limit))
    for pattern in OVERFLOWS:
        if found := pattern.search(message[:MAX_MESSAGE]):
            return _overflow(message, {k: int(v) for k, v in found.groupdict().items() if v})
    return None


def _overflow(message: str, numbers: dict[str, int]) -> ClientError:
    limit = numbers.get("limit")
    if limit is None:
        return ClientError("context_overflow", f"prompt is too long: {message}")
    prompt, output = numbers.get("prompt"), numbers.get("output")
    if prompt is not None and output is not None and prompt < limit:
        return ClientError("output_overflow", message, tokens=(prompt, limit), output_tokens=output)
    return ClientError("context_overflow", message, tokens=(max(prompt or 0, limit + 1), limit))


_LITELLM_UNREACHED = re.compile(
    # 1.109.1, by aiohttp's words and by httpx's. The last two: a connection that it had kept.
    r"litellm\.\w+: .*(?:Cannot connect to host|Connection refused|Connection error"
    r"|Server disconnected|Connection reset)",
    re.DOTALL,
)


def fault_from_engine(status: int, body: bytes, *, retry_after: str | None = None) -> RequestFault:
    """What an engine's error answer means for our client.

    1. An overflow, in any words: the client's fault, in the client's words.
    2. 400, 404, 409, 413, 415, 422: the client's fault, the engine's message kept.
    3. 401, 403: the engine refused *our* key; the client can do nothing about that.
    4. 429, 503, 529: try later; and where LiteLLM did not reach its upstream, which it calls 500.
    5. Anything else: the engine failed.
    """
    message, details = engine_message(body)
    message = message or f"the engine answered {status} without a message"
    may_overflow = status < 500 or "exceed" in message
    if may_overflow and (overflow := overflow_in(message, details)):  # case 1
        return overflow
    if _NO_IMAGES.search(message):  # llama.cpp says 500 here; the request is what is wrong
        return ClientError("invalid_request", message)
    match status:
        case 404:
            return ClientError("not_found", message, param=_text(details.get("param")))
        case 413:
            return ClientError("too_large", message)
        case 400 | 409 | 415 | 422:  # case 2
            return ClientError("invalid_request", message, param=_text(details.get("param")))
        case 401 | 403:  # case 3
            return UpstreamError(
                "upstream", f"the engine refused homeport's key ({status}): {message}"
            )
        case 429:  # case 4
            return UpstreamError("rate_limit", message, retry_after_s=_seconds(retry_after, 1))
        case 503:
            return UpstreamError("unavailable", message, retry_after_s=_seconds(retry_after, 2))
        case 500 if _LITELLM_UNREACHED.match(message):
            return UpstreamError("unavailable", message, retry_after_s=_seconds(retry_after, 2))
        case 529:  # Anthropic's own
            return UpstreamError("overloaded", message, retry_after_s=_seconds(retry_after, 2))
        case _:  # case 5
            return UpstreamError("upstream", message, status=status if status >= 500 else None)


def engine_message(body: bytes) -> tuple[str, dict[str, Any]]:
    """The message and the details of an error body, in any of the shapes seen.

    ``{"error": {"message"}}`` (OpenAI, llama.cpp, vLLM; Anthropic within ``type: error``),
    ``{"error": "text"}`` (mlx), ``{"object": "error", "message"}`` (TensorRT-LLM),
    ``{"detail": …}`` (FastAPI), plain text.
    """
    try:
        value = msgspec.json.decode(body)
    except BAD_BODY:
        return body[: 4 * MAX_MESSAGE].decode("utf-8", "replace").strip()[:MAX_MESSAGE], {}
    message, details = message_in(value)
    return message.strip()[:MAX_MESSAGE], details


def fault_in_stream(data: bytes) -> RequestFault:
    """What an error event inside a stream means; its HTTP status was 200 long ago."""
    message, details = engine_message(data)
    message = message or "the engine reported an error without a message"
    return overflow_in(message, details) or UpstreamError("upstream", message)


def message_in(value: object) -> tuple[str, dict[str, Any]]:
    """As ``engine_message``, for an error that is decoded already."""
    if isinstance(value, dict):
        error = value.get("error")
        if isinstance(error, dict):
            return str(error.get("message") or error.get("type") or ""), error
        for candidate in (error, value.get("message"), value.get("detail")):
            if candidate:
                return candidate if isinstance(candidate, str) else str(candidate), value
    return (value if isinstance(value, str) else ""), {}


def _seconds(header: str | None, default: int) -> int:
    return int(header) if header is not None and header.isascii() and header.isdigit() else default


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
