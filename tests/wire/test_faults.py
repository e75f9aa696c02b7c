"""What engines say when they refuse, and what clients hear (docs/dialects.md 1.11, 3.3, 3.9)."""

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.errors import ClientError, InternalError, RequestFault, UpstreamError
from homeport.wire.faults import (
    WORDS,
    Dialect,
    body_of,
    fault_from_engine,
    message_of,
    overflow_in,
    status_of,
)


def error(message: str, **fields: object) -> bytes:
    return msgspec.json.encode({"error": {"message": message, **fields}})


# The first seven are answers of real servers, the others are from their sources.
OVERFLOWS = [
    (
        error(
            "request (240011 tokens) exceeds the available context size (2048 tokens), try",
            type="exceed_context_size_error",
            n_prompt_tokens=240011,
            n_ctx=2048,
        ),
        (240011, 2048),
    ),
    (error("request (30 tokens) exceeds the available context size (20 tokens), try"), (30, 20)),
    (
        error(
            "This model's maximum context length is 2048 tokens. However, your prompt contains at "
            "least 2049 input tokens, which exceeds this limit even without any output tokens.",
            param="input_tokens",
        ),
        (2049, 2048),
    ),
    (
        error(
            "This model's maximum context length is 2048 tokens. However, your prompt contains "
            "800050 characters (more than 32768 characters, which is the upper bound for 2048 input "
            "tokens). Please reduce the length of the input prompt.",
        ),
        (2049, 2048),
    ),
    (
        error(
            "This model's maximum context length is 2048 tokens. However, you requested 64 output "
            "tokens and your prompt contains at least 2100 input tokens, for a total of at least 2164"
        ),
        (2100, 2048),
    ),
    (
        b'{"type":"error","error":{"type":"BadRequestError","message":"This model\'s maximum '
        b'context length is 2048 tokens. However, your prompt contains at least 2049 input tokens"}}',
        (2049, 2048),
    ),
    (
        error(
            "This model's maximum context length is 8192 tokens. However, your messages resulted "
            "in 9000 tokens. Please reduce the length of the messages.",
            code="context_length_exceeded",
        ),
        (9000, 8192),
    ),
    (
        b'{"object":"error","message":"The input (9000 tokens) is longer than the model\'s context '
        b'length (8192 tokens).","code":400}',
        (9000, 8192),
    ),
    (
        b'{"object":"error","message":"The sum of prompt length (9000.0), query length (0.0) and '
        b'max_tokens (10) should not exceed max_seq_len (8192)"}',
        (9000, 8192),
    ),
    (
        b'{"error":"Trying to keep the first 9000 tokens when context the overflows. However, the '
        b'model is loaded with context length of only 8192 tokens"}',
        (9000, 8192),
    ),
    (error("prompt is too long: 9000 tokens > 8192 maximum"), (9000, 8192)),
]


@pytest.mark.parametrize(("body", "tokens"), OVERFLOWS)
def test_overflows_of_all_engines(body: bytes, tokens: tuple[int, int]) -> None:
    fault = fault_from_engine(400, body)
    assert isinstance(fault, ClientError)
    assert (fault.kind, fault.tokens) == ("context_overflow", tokens)
    prompt, limit = tokens
    assert (
        message_of(fault, "anthropic") == f"prompt is too long: {prompt} tokens > {limit} maximum"
    )
    openai = json.loads(body_of(fault, "openai_chat", "r"))["error"]
    assert openai["code"] == "context_length_exceeded"
    assert f"maximum context length is {limit} tokens" in openai["message"]
    assert f"resulted in {prompt} tokens" in openai["message"]
    assert {status_of(fault, d) for d in ("anthropic", "openai_chat")} == {400}


OUTPUT_OVERFLOWS = [
    "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens "
    "(1000 in the messages, 8000 in the completion). Please reduce the length.",
    "This model's maximum context length is 8192 tokens. However, you requested 8000 output tokens "
    "and your prompt contains at least 1000 input tokens, for a total of at least 9000 tokens.",
    "Requested token count exceeds the model's maximum context length of 8192 tokens. You requested "
    "a total of 9000 tokens: 1000 tokens from the input messages and 8000 tokens for the completion.",
    "The sum of prompt length (1000.0), query length (0) and max_tokens (8000) should not exceed "
    "max_seq_len (8192)",
]


@pytest.mark.parametrize("message", OUTPUT_OVERFLOWS)
def test_too_much_output_asked_for(message: str) -> None:
    """Claude Code retries with ``max_tokens`` = limit − prompt when it reads these words."""
    fault = fault_from_engine(400, error(message))
    assert (fault.kind, fault.tokens, fault.output_tokens) == (
        "output_overflow",
        (1000, 8192),
        8000,
    )
    assert message_of(fault, "anthropic") == (
        "input length and `max_tokens` exceed context limit: 1000 + 8000 > 8192, "
        "decrease input length or `max_tokens` and try again"
    )
    assert "requested 9000 tokens (1000 in the messages, 8000 in" in message_of(
        fault, "openai_chat"
    )


@pytest.mark.parametrize("message", ["Prompt is too long", "context_length_exceeded"])
def test_an_overflow_without_numbers_keeps_the_words_that_clients_look_for(message: str) -> None:
    fault = fault_from_engine(400, error(message))
    assert fault.kind == "context_overflow"
    assert "prompt is too long" in message_of(fault, "anthropic").lower()


def test_llama_cpp_says_an_overflow_with_500_at_times() -> None:
    assert fault_from_engine(500, OVERFLOWS[1][0]).kind == "context_overflow"


LITELLM = "litellm.InternalServerError: InternalServerError: Hosted_vllmException - "
LITELLM_UNREACHED = (  # 1.109.1, shortened
    f"{LITELLM}Cannot connect to host REDACTED:8080 ssl:<ssl.SSLContext object> "
    "[Connect call failed ('REDACTED', 8080)]\n\n"
    "LiteLLM: model group 'demo' failed with the error above."
)
NO_IMAGES = "image input is not supported - hint: if this is unexpected, you may need mmproj"


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (400, error("'messages' is required"), "invalid_request", "'messages' is required"),
        (400, b'{"error":"temperature must be float"}', "invalid_request", "temperature must be float"),
        (404, b'{"detail":"Not Found"}', "not_found", "Not Found"),
        (404, b"Not Found", "not_found", "Not Found"),
        (404, error("The model `x` does not exist."), "not_found", "The model `x` does not exist."),
        (413, b"", "too_large", "the engine answered 413 without a message"),
        (422, b'{"detail":[{"msg":"bad"}]}', "invalid_request", "[{'msg': 'bad'}]"),
        (401, error("bad"), "upstream", "the engine refused homeport's key (401): bad"),
        (403, error("no"), "upstream", "the engine refused homeport's key (403): no"),
        (429, error("slow down"), "rate_limit", "slow down"),
        (503, error("Loading model"), "unavailable", "Loading model"),
        (500, error("CUDA out of memory"), "upstream", "CUDA out of memory"),
        (500, error(NO_IMAGES), "invalid_request", NO_IMAGES),
        (500, error(LITELLM_UNREACHED), "unavailable", LITELLM_UNREACHED),
        (500, error(f"{LITELLM}Server disconnected"), "unavailable", f"{LITELLM}Server disconnected"),
        (500, error(f"{LITELLM}out of memory"), "upstream", f"{LITELLM}out of memory"),
        (501, error("embeddings off"), "upstream", "embeddings off"),
        (302, b"", "upstream", "the engine answered 302 without a message"),
        (500, b"<html>oops</html>", "upstream", "<html>oops</html>"),
    ],
)  # fmt: skip
def test_refusals(status: int, body: bytes, kind: str, message: str) -> None:
    fault = fault_from_engine(status, body)
    assert (fault.kind, fault.message) == (kind, message)
    assert isinstance(fault, ClientError) == (kind in ("invalid_request", "not_found", "too_large"))


def test_a_refused_field_is_named() -> None:
    fault = fault_from_engine(400, error("bad", param="body.temperature"))
    assert json.loads(body_of(fault, "openai_chat", "r"))["error"]["param"] == "body.temperature"
    missing = fault_from_engine(404, error("The model `x` does not exist.", param="model"))
    assert json.loads(body_of(missing, "openai_chat", "r"))["error"]["code"] == "model_not_found"


@pytest.mark.parametrize(
    ("status", "header", "seconds"),
    [(429, "7", 7), (429, None, 1), (503, None, 2), (503, "Wed, 21 Oct", 2), (503, "\u0663", 2)],
)
def test_retry_after(status: int, header: str | None, seconds: int) -> None:
    assert fault_from_engine(status, b"", retry_after=header).retry_after_s == seconds


@pytest.mark.parametrize("kind", WORDS)
def test_every_kind_in_both_dialects(kind: str) -> None:
    fault = InternalError(kind, "what happened")  # type: ignore[arg-type]  # pytest widens the literal
    anthropic = json.loads(body_of(fault, "anthropic", "req_9"))
    assert anthropic["type"] == "error"
    assert anthropic["request_id"] == "req_9"
    assert anthropic["error"]["message"] == "what happened"
    openai = json.loads(body_of(fault, "openai_chat", "req_9"))["error"]
    assert set(openai) == {"message", "type", "param", "code"}
    dialects: tuple[Dialect, Dialect] = ("anthropic", "openai_chat")
    assert all(400 <= status_of(fault, dialect) < 600 for dialect in dialects)
    assert status_of(fault, "openai_chat") != 529


def test_the_engines_own_status_is_kept() -> None:
    assert status_of(fault_from_engine(507, b"full"), "anthropic") == 507


KEYS = ["error", "message", "type", "code", "detail", "object", "n_ctx", "n_prompt_tokens", "param"]
bodies = st.binary(max_size=60) | st.builds(
    msgspec.json.encode,
    st.recursive(
        st.none() | st.integers(-5, 5) | st.text(max_size=8) | st.just("prompt is too long"),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(
                st.sampled_from(KEYS),
                inner,
                max_size=4,
            )
        ),
        max_leaves=8,
    ),
)


@settings(max_examples=120, deadline=None)
@given(status=st.integers(200, 599), body=bodies)
def test_any_refusal_is_a_fault_with_a_message(status: int, body: bytes) -> None:
    fault = fault_from_engine(status, body)
    assert isinstance(fault, RequestFault)
    assert fault.message
    dialects: tuple[Dialect, Dialect] = ("anthropic", "openai_chat")
    for dialect in dialects:
        json.loads(body_of(fault, dialect, "r"))


def test_peers_cannot_make_us_work_or_raise() -> None:
    deep = b"[" * 100_000
    assert fault_from_engine(500, deep).kind == "upstream"
    digits = "9" * 5000
    assert overflow_in(f"request ({digits} tokens) exceeds the available context size") is None
    assert overflow_in(f"prompt is too long: {digits[:50]} tokens > 5 maximum") is not None
    many = "maximum context length is 5 tokens requested 5 tokens " * 20_000
    assert overflow_in(many) is not None  # at once: a pattern that backtracks would take for ever
    assert len(fault_from_engine(400, error("x" * 1_000_000)).message) <= 2000
    assert isinstance(fault_from_engine(500, b"\xff\xfe"), UpstreamError)
