"""Captures: who is captured, and that no secret is in what is kept."""

from __future__ import annotations

import json

import pytest

from homeport.settings import CaptureSettings
from homeport.store.capture import CUT, CaptureRules, Heard, Redactor, capture_of, cut
from tests.store.records import capture

SECRETS = (
    "sk-proj-abcdefghijklmnop1234",
    "sk-ant-api03-abcdefghijklmn",
    "hp-0123456789abcdef",
    "hf_abcdefghijklmnopqrstuv",
    "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
    "github_pat_11ABCDEFG0abcdefghij",
    "glpat-abcdefghijklmnopqrst",
    "xoxb-123456789012-abcdefghijkl",
    "AKIAIOSFODNN7EXAMPLE",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
)


def redact(text: str, *patterns: str) -> str:
    return Redactor(patterns).text(text)


@pytest.mark.parametrize("secret", SECRETS)
def test_what_looks_like_a_key_is_hidden(secret: str) -> None:
    for text in (secret, f"key={secret}.", f'"{secret}"', f"a {secret} b"):
        assert secret not in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer geheim4711",
        "authorization: Basic geheim4711",
        '"Proxy-Authorization": "geheim4711"',
        "curl -H 'X-Api-Key: geheim4711'",
        "api_key=geheim4711",
        "Cookie: session=geheim4711; other=1",
        "postgresql://me:geheim4711@host/db",
        "-----BEGIN RSA PRIVATE KEY-----\ngeheim4711\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\ngeheim4711 and cut off",
    ],
)
def test_what_is_said_to_be_a_secret_is_hidden(text: str) -> None:
    assert "geheim4711" not in redact(text)


def test_plain_text_stays() -> None:
    text = "The sky is blue; task-force 9, risk-averse-people-everywhere, author: me. http://x/y@z"
    assert redact(text) == text


def test_the_users_own_patterns() -> None:
    assert redact("ticket ACME-123456 closed", "ACME-[0-9]{6}") == "ticket (hidden) closed"


def test_escapes_hide_nothing() -> None:
    body = b'{"a": [{"text": "sk\\u002dabcdefghijklmnopqrst"}], "password": "plain", "n": 1}'
    assert json.loads(Redactor(()).body(body)) == {
        "a": [{"text": "(hidden)"}],
        "password": "(hidden)",
        "n": 1,
    }


def test_what_is_no_json() -> None:
    assert Redactor(()).body(b"key: sk-abcdefghijklmnopqrst \xff") == "key: (hidden) �"


def stream(*events: object) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


def test_a_secret_in_pieces_is_hidden() -> None:
    pieces = ["my key: sk", "-abcdefghij", "klmnopqrst", " ok"]
    chat = stream(*({"choices": [{"delta": {"content": piece}}]} for piece in pieces))
    assert json.loads(Redactor(()).said(chat + b"data: [DONE]\n\n")) == [
        ["content", "my key: (hidden) ok"]
    ]
    messages = stream(
        *(
            {"type": "content_block_delta", "delta": {"type": "text_delta", "text": p}}
            for p in pieces
        )
    )
    assert json.loads(Redactor(()).said(messages)) == [["text", "my key: (hidden) ok"]]
    responses = stream(
        *({"type": "response.output_text.delta", "delta": piece} for piece in pieces),
        {"type": "response.output_text.done", "text": "".join(pieces)},
    )
    assert json.loads(Redactor(()).said(responses)) == [["output_text", "my key: (hidden) ok"]]


def test_thinking_calls_and_errors_are_told_apart() -> None:
    said = stream(
        {"delta": {"thinking": "hm"}},
        {"content_block": {"type": "tool_use", "name": "read"}},
        {"delta": {"partial_json": '{"a":'}},
        {"delta": {"partial_json": "1}"}},
        {"error": {"message": "broke off"}},
    )
    kinds = [kind for kind, _ in json.loads(Redactor(()).said(said))]
    assert kinds == ["thinking", "name", "partial_json", "error"]


def test_what_is_too_long_is_cut() -> None:
    assert cut("short", 100) == "short"
    long = cut("ä" * 1000, 100)
    assert len(long.encode()) <= 100
    assert long.endswith(CUT)
    heard = Heard(CaptureSettings(max_bytes=64), request=json.dumps("x" * 500).encode())
    for _ in range(100):
        heard.hear(b"y" * 100)
    done = capture_of(heard, capture(1), is_stream=False)
    assert len(done.request.encode()) <= 64
    assert len(done.response.encode()) <= 64
    assert sum(map(len, heard.pieces)) <= 64 * 32


def test_the_clients_own_key_is_hidden() -> None:
    heard = Heard(CaptureSettings(), request=b'"geheim"', secrets=("geheim",), pieces=[b'"geheim"'])
    done = capture_of(heard, capture(1), is_stream=False)
    assert (done.request, done.response) == ('"(hidden)"', '"(hidden)"')


def test_two_requests_share_nothing() -> None:
    one, other = Heard(CaptureSettings()), Heard(CaptureSettings())
    one.hear(b"x")
    assert other.pieces == []


def test_who_is_captured() -> None:
    rules = CaptureRules(CaptureSettings(keys=("debug",), models=("qwen*",), sessions=("*",)))
    assert rules.wants(key="debug", model="m", session="")
    assert rules.wants(key="", model="qwen3", session="")
    assert rules.wants(key="", model="m", session="any")
    assert not rules.wants(key="debugger", model="m", session=""), "* means: any that is named"
    assert not CaptureSettings().is_on
