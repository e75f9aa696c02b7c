"""Judges of probes: what an engine answered, and what that says of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.engines.probes import PROBES, Finding, Probe, Reply, probes_for

BY_FEATURE = {probe.feature: probe for probe in PROBES}


def reply(value: Any, status: int = 200, took_s: float = 0.0) -> Reply:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return Reply(status=status, body=body, took_s=took_s)


def chat(text: str = "", *calls: str, prompt: int = 10, finish: str = "stop", **more: Any) -> Reply:
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if calls:
        message["tool_calls"] = [{"function": {"name": name, "arguments": "{}"}} for name in calls]
    choice = {"message": message, "finish_reason": finish, **more}
    return reply({"choices": [choice], "usage": {"prompt_tokens": prompt}})


def stream(*values: dict[str, Any]) -> Reply:
    lines = [f"event: {v.get('type', 'x')}\ndata: {json.dumps(v)}\n\n" for v in values]
    return reply("".join([*lines, "data: [DONE]\n\n"]).encode())


REFUSED = reply({"error": {"message": "no such field"}}, 400)
BROKEN = reply({"error": {"message": "it broke"}}, 500)
NO_IMAGE = reply({"error": {"message": "image input is not supported"}}, 500)
SILENT = Reply()


def message(**fields: Any) -> Reply:
    return reply(
        {
            "id": "msg_1",
            "type": "message",
            "content": [],
            "stop_reason": "end_turn",
            "usage": {"input_tokens": 4, "cache_read_input_tokens": 6},
            **fields,
        }
    )


START = {"type": "message_start", "message": {"usage": {"input_tokens": 1}}}
END = ({"type": "message_delta", "usage": {"output_tokens": 1}}, {"type": "message_stop"})
CALL = message(
    content=[{"type": "tool_use", "name": "get_weather", "input": {}}], stop_reason="tool_use"
)
NOTED = (chat(prompt=9), *(chat(prompt=12) for _ in range(4)))
"""A talk without a system turn inside, and with one at each of four places."""
KEPT = tuple(reply({"prompt": prompt}) for prompt in ("[u]a", "[u][a][r][u]a", "[u][a][r][u][s]a"))
HOISTED = (*KEPT[:2], reply({"prompt": "[s][u][a][r][u]a"}))
TOKENS = tuple(
    reply({"tokens": tokens}) for tokens in ([1, 9], [1, 2, 3, 4, 9], [1, 2, 3, 4, 5, 9])
)
UNKNOWN = (reply({"error": {"message": "no such route"}}, 404),) * 3
SCHEMA_OK = '{"city": "Oslo", "degrees": 7}'


@pytest.mark.parametrize(
    ("feature", "replies", "result"),
    [
        ("system_inside", (*NOTED, *KEPT, *UNKNOWN), "yes"),
        ("system_inside", (*NOTED, *UNKNOWN, *TOKENS), "yes"),
        ("system_inside", (*NOTED, *HOISTED, *UNKNOWN), "no"),
        ("system_inside", (*NOTED, *UNKNOWN, *UNKNOWN), "unsure"),
        ("system_inside", (*NOTED[:2], chat(prompt=9), *NOTED[3:], *KEPT, *UNKNOWN), "no"),
        ("system_inside", (*NOTED[:4], BROKEN, *KEPT, *UNKNOWN), "no"),
        ("system_inside", (BROKEN, *NOTED[1:], *KEPT, *UNKNOWN), "unsure"),
        ("system_inside", (reply({}), *NOTED[1:], *KEPT, *UNKNOWN), "unsure"),
        ("tool_choice_auto", (chat("Fine."),), "yes"),
        ("tool_choice_auto", (REFUSED,), "no"),
        ("tool_choice_required", (chat("", "get_weather"),), "yes"),
        ("tool_choice_required", (chat("Fine."),), "no"),
        ("tool_choice_required", (chat("Fi", finish="length"),), "unsure"),
        ("tool_choice_required", (SILENT,), "unsure"),
        ("tool_choice_none", (chat("Fine."),), "yes"),
        ("tool_choice_none", (chat("", "get_weather"),), "no"),
        ("tool_choice_named", (chat("", "get_time"),), "yes"),
        ("tool_choice_named", (chat("", "get_weather"),), "no"),
        ("tool_choice_named", (chat("Rain."),), "no"),
        ("parallel_tool_calls", (chat(),), "yes"),
        ("parallel_tool_calls", (REFUSED,), "no"),
        ("parallel_tool_calls", (BROKEN,), "unsure"),
        ("schema", (chat(SCHEMA_OK),), "yes"),
        ("schema", (chat('{"city": 1}'),), "no"),
        ("schema", (chat("It is warm."),), "no"),
        ("schema", (chat('{"city": "Os', finish="length"),), "unsure"),
        ("schema_pattern", (chat("", "get_weather"), chat("", "get_weather")), "yes"),
        ("schema_pattern", (chat("", "get_weather"), BROKEN), "no"),
        ("schema_pattern", (chat("", "get_weather"), chat("Rain.")), "no"),
        ("schema_pattern", (BROKEN, BROKEN), "unsure"),
        ("image", (chat("A dot."),), "yes"),
        ("image", (NO_IMAGE,), "no"),
        ("image", (BROKEN,), "unsure"),
        ("image_in_tool", (chat(), chat()), "yes"),
        ("image_in_tool", (chat(), REFUSED), "no"),
        ("image_in_tool", (NO_IMAGE, NO_IMAGE), "unsure"),
        ("reasoning", (chat(prompt=9), chat(prompt=12)), "yes"),
        ("reasoning", (chat(prompt=9), chat(prompt=9)), "unsure"),
        ("reasoning", (chat(), REFUSED), "no"),
        ("stream_usage", (stream({"usage": {"prompt_tokens": 1}}),), "yes"),
        ("stream_usage", (stream({"usage": None}),), "no"),
        ("stream_usage", (chat(),), "no"),
        ("count_tokenize", (chat(prompt=9), reply({"count": 9})), "yes"),
        ("count_tokenize", (chat(prompt=9), reply({"count": 8})), "no"),
        ("count_tokenize", (chat(prompt=9), reply({"detail": "Not Found"}, 404)), "no"),
        ("stop", (chat("One"),), "yes"),
        ("stop", (chat("One two"),), "no"),
        ("stop_told", (chat("One", stop_reason=" "),), "yes"),
        ("stop_told", (chat("One", matched_stop=" "),), "yes"),
        ("stop_told", (chat("One"),), "no"),
        ("stop_told", (chat("One", finish="length"),), "unsure"),
        ("abort", (reply(b"x"), reply([{"is_processing": False}]), chat()), "yes"),
        ("abort", (reply(b"x"), reply([{"is_processing": True}]), chat()), "no"),
        ("abort", (reply(b"x"), REFUSED, chat()), "yes"),
        ("abort", (reply(b"x"), REFUSED, reply({}, took_s=9)), "unsure"),
        ("abort", (SILENT, REFUSED, chat()), "unsure"),
        ("messages", (chat(prompt=10), message(), message()), "yes"),
        ("messages", (chat(prompt=11), message(), message()), "no"),
        ("messages", (chat(), message(), message(id="chatcmpl-1")), "no"),
        ("messages", (chat(), REFUSED, reply({}, 404)), "no"),
        ("messages_stream", (stream(START, *END),), "yes"),
        ("messages_stream", (stream(START),), "no"),
        ("messages_stream", (chat(),), "no"),
        (
            "messages_tools",
            (CALL, stream({"content_block": {"type": "tool_use", "input": {}}})),
            "yes",
        ),
        ("messages_tools", (CALL, stream({"content_block": {"type": "tool_use"}})), "no"),
        ("messages_tools", (message(), stream()), "no"),
        ("messages_tools", (message(stop_reason="max_tokens"), stream()), "unsure"),
        ("messages_stop", (message(stop_reason="stop_sequence", stop_sequence=" "),), "yes"),
        ("messages_stop", (message(),), "no"),
        ("responses", (reply({"object": "response", "output": []}),), "yes"),
        ("responses", (reply({}, 404),), "no"),
        (
            "responses_stream",
            (stream({"type": "response.completed", "sequence_number": 0}),),
            "yes",
        ),
        ("responses_stream", (stream({"type": "response.completed"}),), "no"),
        ("responses_stream", (stream(),), "no"),
        ("models", (reply({"data": [{"id": "m"}]}),), "yes"),
        ("models", (reply({}, 404),), "no"),
    ],
)
def test_judges(feature: str, replies: tuple[Reply, ...], result: str) -> None:
    assert BY_FEATURE[feature].judge(replies).result == result


def test_features_are_distinct_and_have_asks() -> None:
    assert len(BY_FEATURE) == len(PROBES)
    assert all(probe.asks for probe in PROBES)
    assert {p.feature for p in probes_for("anthropic")} == {
        "messages",
        "messages_stream",
        "messages_tools",
        "messages_stop",
        "models",
    }


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "message", "usage", "content", "type", "tool_calls", "error"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.feature)
@given(values=st.lists(json_values, min_size=3, max_size=3), status=st.sampled_from([0, 200, 500]))
def test_no_answer_confuses_a_judge(probe: Probe, values: list[Any], status: int) -> None:
    replies = tuple(reply(value, status) for value in (values * 4)[: len(probe.asks)])
    assert len(replies) == len(probe.asks)
    try:
        finding = probe.judge(replies)
    except (AttributeError, KeyError, TypeError, ValueError):
        return  # the runner makes "unsure" of it
    assert isinstance(finding, Finding)
    assert finding.result in ("yes", "no", "unsure")
