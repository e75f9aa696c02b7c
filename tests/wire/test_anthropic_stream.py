"""The Anthropic event stream: any neutral events make a legal stream, and nothing gets lost.

The numbers are those of the rules in docs/dialects.md 3.3.
"""

import itertools
import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.errors import ClientError, InternalError, UpstreamError
from homeport.wire.anthropic_answer import message_usage_of
from homeport.wire.anthropic_stream import AnthropicStream, PrewarmStream
from homeport.wire.events import (
    End,
    Event,
    Failure,
    Finish,
    Start,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallStart,
    Usage,
    UsageReport,
)
from tests.support.anthropic_grammar import Answer, IllegalStreamError, read
from tests.wire.cases import anthropic_stream

TEXT, THINKING = TextDelta("hello"), ThinkingDelta("hmm")


def written(events: Iterable[Event], *, started: bool = True, **options: Any) -> bytes:
    stream = anthropic_stream(**options)
    out = [stream.start(10)] if started else []
    return b"".join([*out, *(stream.feed(event) for event in events)])


def answer_to(*events: Event, **options: Any) -> Answer:
    return read(written([Start(), *events], **options))


def call(number: int, *fragments: str, name: str = "f") -> list[Event]:
    return [
        ToolCallStart(number, f"id_{number}", name),
        *(ToolCallDelta(number, fragment) for fragment in fragments),
    ]


DONE = (Finish("end"), End())

# --------------------------------------------------------------------------- properties

texts = st.text(max_size=6)
numbers = st.integers(0, 3)
usages = st.builds(
    Usage,
    st.integers(0, 5000),
    st.integers(0, 500),
    st.none() | st.integers(0, 6000),
    st.none() | st.integers(0, 500),
)
reasons = st.sampled_from(
    ["end", "length", "context_length", "stop_sequence", "tool_use", "refusal"]
)
events = st.one_of(
    st.builds(TextDelta, texts),
    st.builds(ThinkingDelta, texts),
    st.builds(ToolCallDelta, numbers, texts),
    st.builds(Finish, reasons, st.none() | texts),
    st.builds(UsageReport, usages),
    st.just(Start()),
)


ENDS: list[Event] = [End(), Failure("broke")]


@st.composite
def any_events(draw: st.DrawFn) -> list[Event]:
    """Any events at all, but for what the decoder guarantees: a call starts once, under its own id."""
    out: list[Event] = list(draw(st.lists(events, max_size=25)))
    for number in draw(st.sets(numbers)):
        name = draw(st.text(min_size=1, max_size=4))
        out.insert(draw(st.integers(0, len(out))), ToolCallStart(number, f"id_{number}", name))
    return [*out, draw(st.sampled_from(ENDS))]


@settings(max_examples=150, deadline=None)
@given(events=any_events(), started=st.booleans(), single=st.booleans())
def test_any_events_make_a_legal_stream(events: list[Event], started: bool, single: bool) -> None:
    read(written(events, started=started, single_call=single))


@settings(max_examples=120, deadline=None)
@given(events=any_events(), at=st.integers(0, 30), pings=st.sets(st.integers(0, 30)))
def test_a_stream_may_fail_at_any_point_and_ping_at_every(
    events: list[Event], at: int, pings: set[int]
) -> None:
    stream = anthropic_stream()
    out = stream.ping() + stream.start(1)
    for i, event in enumerate(events[:at]):
        out += stream.feed(event) + (stream.ping() if i in pings else b"")
    out += stream.fail(ClientError("context_overflow", "too long", tokens=(9, 5)))
    assert read(out).is_over
    assert stream.is_done
    assert stream.feed(TEXT) + stream.feed(End()) + stream.ping() + stream.start(1) == b""
    assert stream.fail(UpstreamError("upstream", "again")) == b""


@st.composite
def interleaved_calls(draw: st.DrawFn) -> tuple[list[Event], dict[str, str]]:
    """Whole calls whose fragments come in any order between the calls, each call's own in order."""
    arguments = draw(
        st.lists(st.dictionaries(texts, texts | st.integers(), max_size=3), max_size=4)
    )
    queues: list[list[Event]] = []
    wanted: dict[str, str] = {}
    for number, value in enumerate(arguments):
        text = draw(st.sampled_from([json.dumps(value), json.dumps(value, indent=1), ""]))
        wanted[f"id_{number}"] = text
        points = sorted(draw(st.sets(st.integers(0, len(text)), max_size=4)))
        pieces = [text[a:b] for a, b in itertools.pairwise([0, *points, len(text)])]
        queues.append(call(number, *pieces))
    out: list[Event] = []
    while any(queues):
        queue = draw(st.sampled_from([queue for queue in queues if queue]))
        out.append(queue.pop(0))
    return out, wanted


@pytest.mark.row("3.3 7", "3.3 10")
@settings(max_examples=120, deadline=None)
@given(
    calls=interleaved_calls(),
    before=st.lists(st.sampled_from([TEXT, THINKING]), max_size=3),
    after=st.lists(st.sampled_from([TEXT, THINKING]), max_size=3),
)
def test_interleaved_calls_lose_nothing(
    calls: tuple[list[Event], dict[str, str]], before: list[Event], after: list[Event]
) -> None:
    """Rule 7."""
    fragments, wanted = calls
    answer = answer_to(*before, *fragments, *after, *DONE)
    assert answer.error is None
    assert {block.id: block.text for block in answer.calls} == wanted
    spoken = [*before, *after]
    assert answer.text_of("text") == "hello" * spoken.count(TEXT)
    assert answer.text_of("thinking") == "hmm" * spoken.count(THINKING)
    assert answer.stop_reason == ("tool_use" if wanted else "end_turn")


@pytest.mark.row("3.3 3", "3.3 4", "3.3 5", "3.3 12")
@settings(max_examples=120, deadline=None)
@given(st.lists(st.builds(TextDelta, texts) | st.builds(ThinkingDelta, texts), max_size=15))
def test_text_and_thinking_keep_their_order(deltas: list[TextDelta | ThinkingDelta]) -> None:
    """Rules 3, 4, 5, 12."""
    answer = answer_to(*deltas, *DONE)
    runs = [
        ("text" if kind is TextDelta else "thinking", "".join(delta.text for delta in run))
        for kind, run in itertools.groupby((d for d in deltas if d.text), key=type)
    ]
    assert [(block.type, block.text) for block in answer.blocks] == runs


# --------------------------------------------------------------------------- single rules


@pytest.mark.row("3.3 1")
def test_1_message_start_needs_no_token_and_carries_the_estimate() -> None:
    answer = read(anthropic_stream().start(77), may_be_open=True)
    assert answer.usage["input_tokens"] == 77
    assert answer.usage["output_tokens"] == 0
    assert answer.message["model"] == "claude-local-tiny"


@pytest.mark.row("3.3 2")
def test_2_pings_only_between_start_and_end() -> None:
    stream = anthropic_stream()
    assert stream.ping() == b""
    out = stream.start(1) + stream.ping()
    assert read(out, may_be_open=True).pings == 1
    stream.feed(End())
    assert stream.ping() == b""


@pytest.mark.row("3.3 7")
def test_7_a_second_call_opens_as_soon_as_the_first_is_complete() -> None:
    stream = anthropic_stream()
    stream.start(1)
    for event in [*call(0, '{"a":'), *call(1, '{"b":')]:
        stream.feed(event)
    out = stream.feed(ToolCallDelta(0, "1}"))
    assert b"content_block_stop" in out
    assert b'"id_1"' in out
    assert stream.feed(ToolCallDelta(1, "2}")) != b""  # live from here on


@pytest.mark.row("3.3 7")
def test_7_held_calls_keep_the_order_in_which_they_began() -> None:
    begun = [*call(0, "{"), *call(1), *call(2), ToolCallDelta(2, "{}"), ToolCallDelta(0, "}")]
    answer = answer_to(*begun, *call(3, "{}"), ToolCallDelta(1, "{}"), *DONE)
    assert [block.id for block in answer.calls] == ["id_0", "id_1", "id_2", "id_3"]


@pytest.mark.row("3.3 7")
def test_7_arguments_after_a_call_was_completed_are_an_error_not_silence() -> None:
    answer = answer_to(*call(0, "{}"), *call(1, "{}"), ToolCallDelta(0, '{"x":1}'), *DONE)
    assert answer.error is not None
    assert "tool call" in answer.error["message"]


@pytest.mark.row("3.3 7")
def test_7_white_space_after_a_completed_call_is_nothing() -> None:
    answer = answer_to(*call(0, "{}"), *call(1, "{}"), ToolCallDelta(0, "\n"), *DONE)
    assert answer.error is None


@pytest.mark.row("3.3 10")
def test_10_arguments_stand_in_deltas_only_and_none_are_an_empty_object() -> None:
    answer = answer_to(*call(0), *DONE)
    assert [block.text for block in answer.calls] == [""]


@pytest.mark.row("3.3 13")
def test_13_thinking_is_signed() -> None:
    answer = answer_to(THINKING, TEXT, THINKING, *DONE)
    assert [(b.type, b.signature) for b in answer.blocks] == [
        ("thinking", "homeport"),
        ("text", ""),
        ("thinking", "homeport"),
    ]


@pytest.mark.row("3.3 14")
def test_14_usage_and_content_after_the_finish_count() -> None:
    usage = UsageReport(Usage(100, 7, 60, 3))
    answer = answer_to(TEXT, Finish("end"), TextDelta(" more"), usage, End())
    assert answer.text_of("text") == "hello more"
    assert answer.usage == message_usage_of(Usage(100, 7, 60, 3))


@pytest.mark.row("3.3 15")
def test_15_the_last_usage_wins() -> None:
    reports = [UsageReport(Usage(100, n)) for n in (1, 2, 3)]
    assert answer_to(TEXT, *reports, *DONE).usage["output_tokens"] == 3


@pytest.mark.row("3.2 no usage")
def test_without_usage_the_estimate_and_the_number_of_deltas_stand_in() -> None:
    answer = answer_to(TEXT, TEXT, *DONE)
    assert (answer.usage["input_tokens"], answer.usage["output_tokens"]) == (10, 2)


@pytest.mark.row("3.3 17")
def test_17_an_error_closes_the_block_and_ends_the_stream() -> None:
    answer = answer_to(TEXT, Failure("out of memory"), End())
    assert answer.error == {"type": "api_error", "message": "out of memory"}
    assert not answer.is_stopped


@pytest.mark.row("3.3 17")
def test_17_an_overflow_in_the_stream_has_the_words_that_clients_act_on() -> None:
    answer = answer_to(Failure("whatever", "context_overflow", (9000, 4096)))
    assert answer.error is not None
    assert answer.error["type"] == "invalid_request_error"
    assert answer.error["message"] == "prompt is too long: 9000 tokens > 4096 maximum"


def test_a_failure_before_the_start_is_a_legal_stream_of_one_event() -> None:
    stream = anthropic_stream()
    out = stream.fail(UpstreamError("unavailable", "still loading"))
    assert read(out).error == {"type": "api_error", "message": "still loading"}
    assert stream.failure is not None


@pytest.mark.parametrize("event", [TEXT, ToolCallStart(0, "a", "f"), End()])
def test_content_before_the_start_makes_the_start(event: Event) -> None:
    assert read(written([event], started=False), may_be_open=True).message["id"] == "msg_1"


@pytest.mark.row("3.3 21")
def test_21_only_the_first_call() -> None:
    calls = [*call(0, "{"), *call(1, "{}"), ToolCallDelta(0, "}"), *call(2, "{}")]
    answer = answer_to(*calls, *DONE, single_call=True)
    assert [(block.id, block.text) for block in answer.calls] == [("id_0", "{}")]
    assert answer.error is None


@pytest.mark.parametrize(
    ("before", "finish", "usage", "expected"),
    [
        ([], Finish("end"), None, "end_turn"),
        ([], Finish("tool_use"), None, "end_turn"),  # mlx: tool_calls without a call
        (call(0, "{}"), Finish("end"), None, "tool_use"),  # vLLM: named choice → stop
        (call(0, "{}"), Finish("stop_sequence", "X"), None, "tool_use"),
        (call(0, "{"), Finish("length"), None, "max_tokens"),
        ([TEXT], Finish("length"), Usage(2000, 48), "model_context_window_exceeded"),
        ([TEXT], Finish("length"), Usage(100, 48), "max_tokens"),
        ([TEXT], Finish("length"), None, "max_tokens"),  # an estimate is no ground to say more
        (call(0, "{}"), Finish("refusal"), None, "refusal"),
        ([TEXT], Finish("stop_sequence", "END"), None, "stop_sequence"),
    ],
)
def test_stop_reasons(
    before: list[Event], finish: Finish, usage: Usage | None, expected: str
) -> None:
    report = [UsageReport(usage)] if usage else []
    answer = answer_to(*before, finish, *report, End(), context_tokens=2048)
    assert answer.stop_reason == expected
    assert answer.stop_sequence == ("END" if expected == "stop_sequence" else None)


def test_an_estimate_beyond_the_context_does_not_make_a_context_stop() -> None:
    stream = anthropic_stream(context_tokens=2048)
    out = stream.start(5000) + stream.feed(TEXT) + stream.feed(Finish("length"))
    assert read(out + stream.feed(End())).stop_reason == "max_tokens"


def test_a_wrong_caller_gets_an_exception_and_the_client_no_wrong_event() -> None:
    stream = anthropic_stream()
    with pytest.raises(InternalError):
        stream._emit("message_stop", b"{}")


def test_repr_tells_the_state() -> None:
    stream = anthropic_stream()
    stream.start(1)
    stream.feed(TEXT)
    assert repr(stream) == "<AnthropicStream in_block block=0 kind=text>"


def test_many_interleaved_calls_cost_time_in_proportion() -> None:
    """500 open calls of growing text: parsing the open one at every fragment would take minutes."""
    stream: AnthropicStream = anthropic_stream()
    out = [stream.start(1)]
    for number in range(500):
        out += map(stream.feed, call(number, '{"a":"'))
    for _ in range(10):
        for number in range(500):
            out.append(stream.feed(ToolCallDelta(number, "}" * 50)))
    for number in range(500):
        out.append(stream.feed(ToolCallDelta(number, '"}')))
    out.append(stream.feed(End()))
    answer = read(b"".join(out))
    assert len(answer.calls) == 500
    assert {block.text for block in answer.calls} == {'{"a":"' + "}" * 500 + '"}'}


# --------------------------------------------------------------------------- the checker itself

GOOD = written([TEXT, *DONE])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"event: message_start\n", b""),
        (b"event: message_stop\n", b"event: message_end\n"),
        (b'"index":0,"delta"', b'"index":1,"delta"'),
        (b'"text":""', b'"test":""'),
        (b"text_delta", b"thinking_delta"),
        (b'"output_tokens":0', b'"output_tokens":null'),
        (b"end_turn", b"stop"),
        (GOOD[GOOD.rindex(b"event: message_stop") :], b""),
        (b"event: content_block_stop", b"event: ping\ndata: x\n\nevent: content_block_stop"),
    ],
)
def test_the_checker_finds_what_is_illegal(old: bytes, new: bytes) -> None:
    read(GOOD)
    with pytest.raises((IllegalStreamError, KeyError, ValueError)):
        read(GOOD.replace(old, new))


@pytest.mark.row("3.1 max_tokens: 0")
def test_prewarming_streams_nothing_but_usage() -> None:
    stream = PrewarmStream(message_id="msg_1", model="x", request_id="r", context_tokens=2048)
    usage = UsageReport(Usage(100, 1, 60))
    events: list[Event] = [TEXT, THINKING, ToolCallStart(0, "a", "f"), Finish("end"), usage, End()]
    answer = read(stream.start(10) + b"".join(map(stream.feed, events)))
    assert (answer.blocks, answer.stop_reason) == ([], "max_tokens")
    assert answer.usage["cache_read_input_tokens"] == 60
    assert answer.usage["output_tokens"] == 0
