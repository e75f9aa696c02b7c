"""The guard in front of the relay: calls as text become chunks of the engine's own spelling, and all
else comes out as from the relay alone, to the byte."""

import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.errors import UpstreamError
from homeport.wire.chat_guard import GuardedRelay, rescued_body
from homeport.wire.passthrough import ChatRelay
from tests.wire.cases import FEEDS, cut, run, streams
from tests.wire.rescue_cases import CASES, TOOLS, Call, Case, by_case, hermes
from tests.wire.rescue_cases import cut as cut_text

RELAYED = [case for case in streams() if case.dialect == "openai_chat"]
points = st.lists(st.integers(0, 100_000), max_size=8)


def relay() -> ChatRelay:
    return ChatRelay(model="asked", wants_usage=True, request_id="req_1")


def guarded() -> GuardedRelay:
    return GuardedRelay(relay(), TOOLS)


def sse(pieces: Iterable[str], finish: str = "stop", *, spaced: bool = False) -> bytes:
    """An engine's stream, as llama.cpp or (spaced) mlx writes it."""
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": None}]
    deltas += [{"content": piece} for piece in pieces]
    ends: list[str | None] = [None] * len(deltas)
    chunks: list[dict[str, Any]] = [
        {"choices": [{"finish_reason": end, "index": 0, "delta": delta}], "id": "c-1", "model": "m"}
        for delta, end in [*zip(deltas, ends, strict=True), ({}, finish)]
    ]
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    chunks.append({"choices": [], "id": "c-1", "model": "m", "usage": usage})
    separators = (", ", ": ") if spaced else (",", ":")
    lines = [json.dumps(chunk, separators=separators) for chunk in chunks]
    return "".join(f"data: {line}\n\n" for line in [*lines, "[DONE]"]).encode()


def message_of(stream: bytes) -> dict[str, Any]:
    """What a client makes of the stream."""
    frames = [frame.removeprefix("data: ") for frame in stream.decode().split("\n\n")[:-1]]
    assert frames.pop() == "[DONE]"
    content, calls, finish, role, usage = "", {}, [], [], None  # type: ignore[var-annotated]
    for chunk in map(json.loads, frames):
        assert chunk["model"] == "asked"
        usage = chunk.get("usage") or usage
        for choice in chunk["choices"]:
            delta = choice["delta"]
            content += delta.get("content") or ""
            role += [delta["role"]] if "role" in delta else []
            finish += [choice["finish_reason"]] if choice["finish_reason"] else []
            for call in delta.get("tool_calls") or []:
                if "id" in call:
                    assert call["index"] == len(calls)
                    calls[call["index"]] = {"id": call["id"], "name": "", "arguments": ""}
                for key, value in call["function"].items():
                    calls[call["index"]][key] += value
    assert role == ["assistant"]
    assert usage is not None
    (reason,) = finish
    return {"content": content, "calls": list(calls.values()), "finish": reason}


def parsed(message: dict[str, Any]) -> tuple[Call, ...]:
    return tuple(Call(call["name"], json.loads(call["arguments"])) for call in message["calls"])


@pytest.mark.row("3.10 Chat Completions")
@by_case
@pytest.mark.parametrize("spaced", [False, True], ids=["llamacpp", "mlx"])
@pytest.mark.parametrize("feed", FEEDS)
def test_calls(case: Case, spaced: bool, feed: str) -> None:
    message = message_of(run(guarded(), FEEDS[feed](sse(list(case.text), spaced=spaced))))
    assert parsed(message) == case.calls
    assert message["content"] == ""
    assert message["finish"] == "tool_calls"
    assert len({call["id"] for call in message["calls"]}) == len(case.calls)


@settings(max_examples=150, deadline=None)
@given(case=st.sampled_from(CASES), pieces=points, points=points)
def test_cut_anywhere(case: Case, pieces: list[int], points: list[int]) -> None:
    stream = sse(cut_text(case.text + " Done.", pieces))
    message = message_of(run(guarded(), cut(stream, points)))
    whole = message_of(run(guarded(), [sse([case.text + " Done."])]))
    assert message == whole


@pytest.mark.parametrize("case", RELAYED, ids=lambda case: case.id)
@pytest.mark.parametrize("feed", FEEDS)
def test_recorded_answers_come_out_as_from_the_relay(case: Any, feed: str) -> None:
    assert run(guarded(), FEEDS[feed](case.upstream)) == run(relay(), FEEDS[feed](case.upstream))


@settings(max_examples=100, deadline=None)
@given(case=st.sampled_from(CASES), end=st.integers(0, 10_000), points=points)
def test_half_a_form_comes_out_as_it_was(case: Case, end: int, points: list[int]) -> None:
    text = case.text[: end % len(case.text)]
    stream = sse(list(text), "length")
    out = run(guarded(), cut(stream, points))
    message = message_of(out)
    assert message["finish"] == "length"
    if message["calls"]:
        assert text.endswith(message["content"])
    else:
        assert out == run(relay(), [stream])


@settings(max_examples=100, deadline=None)
@given(case=st.sampled_from(CASES), end=st.integers(0, 100_000), points=points)
def test_the_stream_ends_anywhere(case: Case, end: int, points: list[int]) -> None:
    stream = sse(list(case.text))
    stream = stream[: end % len(stream)]
    guard = guarded()
    out = run(guard, cut(stream, points))
    frames = out.decode().split("\n\n")[:-1]
    for frame in frames[:-1]:
        assert "error" not in json.loads(frame.removeprefix("data: "))
    assert (frames[-1] == "data: [DONE]") == (guard.failure is None)


def test_it_steps_aside_with_the_first_word() -> None:
    guard = guarded()
    blocks = [block + b"\n\n" for block in sse(["Hel", hermes("get", "{}")]).split(b"\n\n")[:-1]]
    guard.feed(blocks[0])
    assert guard._guard is not None
    guard.feed(blocks[1])
    assert guard._guard is None


def test_an_error_lets_out_what_is_held() -> None:
    stream = sse(["<tool_call>"]).split(b"\n\n")[:2]
    error = b'data: {"error":{"message":"gone"}}'
    out = run(guarded(), [b"\n\n".join([*stream, error, b""])])
    assert b"<tool_call>" in out
    assert b"gone" in out


def test_a_cut_lets_out_what_is_held() -> None:
    blocks = sse(["<tool_call>", "\n"]).split(b"\n\n")[:3]
    guard = guarded()
    stream = b"\n\n".join([*blocks, b""])
    assert run(guard, [stream]) == run(relay(), [stream])
    assert guard.failure is not None


def test_a_fault_lets_out_what_is_held() -> None:
    guard = guarded()
    guard.feed(b"\n\n".join([*sse(["<tool_call>"]).split(b"\n\n")[:2], b""]))
    out = guard.fail(UpstreamError("upstream", "gone"))
    assert b"<tool_call>" in out
    assert b"gone" in out


def test_engines_own_calls_pass() -> None:
    call = {"index": 0, "id": "a", "function": {"name": "get", "arguments": "{}"}}
    delta = json.dumps({"tool_calls": [call]}, separators=(",", ":")).encode()
    stream = sse(["<tool"]).replace(b'"delta":{}', b'"delta":' + delta)
    assert stream.count(b"tool_calls") == 1
    assert run(guarded(), [stream]) == run(relay(), [stream])


def test_engines_own_call_behind_a_rescued_one_gets_the_next_number() -> None:
    call = {"index": 0, "id": "own", "function": {"name": "get_all", "arguments": "{}"}}
    delta = json.dumps({"tool_calls": [call]}, separators=(",", ":")).encode()
    stream = sse(list(hermes("get", "{}"))).replace(b'"delta":{}', b'"delta":' + delta)
    calls = message_of(run(guarded(), [stream]))["calls"]
    assert [call["name"] for call in calls] == ["get", "get_all"]
    assert calls[1]["id"] == "own"


def test_engines_own_call_ends_the_watch() -> None:
    blocks = [block + b"\n\n" for block in sse(["x"]).split(b"\n\n")[:-1]]
    call = b'{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a"}]}}]}'
    guard = guarded()
    guard.feed(blocks[0] + b"data: " + call + b"\n\n")
    assert guard._guard is None


def test_ids_differ_from_answer_to_answer() -> None:
    stream = sse([hermes("get", "{}")])
    first, second = (
        message_of(run(guarded(), [stream.replace(b"c-1", name)]))["calls"][0]["id"]
        for name in (b"c-1", b"c-2")
    )
    assert first != second


def test_usage_is_not_said_twice() -> None:
    """Some engines report it with every chunk."""
    stream = sse([hermes("get", "{}")]).replace(b'"model":"m"', b'"model":"m","usage":{"a":1}')
    out = run(guarded(), [stream])
    assert out.count(b'"usage":{"a":1}') == stream.count(b'"usage":{"a":1}') - 1


@pytest.mark.row("3.10 Chat Completions")
@by_case
def test_whole(case: Case) -> None:
    body = {"id": "c-1", "choices": [{"message": {"content": case.text}, "finish_reason": "stop"}]}
    (choice,) = json.loads(rescued_body(json.dumps(body).encode(), TOOLS))["choices"]
    functions = [call["function"] for call in choice["message"]["tool_calls"]]
    assert tuple(Call(f["name"], json.loads(f["arguments"])) for f in functions) == case.calls
    assert choice["message"]["content"] is None
    assert choice["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"choices":[]}',
        b'{"choices":[{}]}',
        b'{"choices":[{"message":null}]}',
        b'{"choices":[{"message":{"content":null}}]}',
        b'{"choices":[{"message":{"content":[]}}]}',
        b'{"choices":[{"message":{"content":"Hi"},"finish_reason":5}]}',
        b'{"choices":[{"message":{"content":"Hi"},"finish_reason":[]}]}',
        b'{"error": "x"}',
    ],
)
def test_other_bodies_stay_as_they_are(body: bytes) -> None:
    assert rescued_body(body, TOOLS) is body
