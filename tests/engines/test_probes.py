"""Judges of probes: what an engine answered, and what that says of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.engines.findings import Finding, Probe, Reply
from homeport.engines.probes import PROBES, probes_for

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


def saying(text: str) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": []}
    return {"id": "msg_1", "type": "message", "role": "assistant", "content": [part]}


SAID = saying("Hi.")
CALLED = {
    "id": "fc_1",
    "type": "function_call",
    "call_id": "call_1",
    "name": "get_weather",
    "arguments": '{"city":"Oslo"}',
}


def response_value(*output: Any, prompt: int = 5, **fields: Any) -> dict[str, Any]:
    usage = {"input_tokens": prompt, "output_tokens": 2}
    head = {"id": "resp_1", "object": "response", "created_at": 1, "status": "completed"}
    return {**head, "output": list(output), "usage": usage, **fields}


def response(*output: Any, prompt: int = 5, **fields: Any) -> Reply:
    return reply(response_value(*output, prompt=prompt, **fields))


def response_stream(item: dict[str, Any], *, without: str = "") -> Reply:
    """One item, whole and in two deltas; ``without`` a field of every event."""
    is_call = item["type"] == "function_call"
    name = "function_call_arguments" if is_call else "output_text"
    text = item["arguments"] if is_call else item["content"][0]["text"]
    place = {"item_id": item["id"], "output_index": 0}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": {"id": "resp_1"}},
        {"type": "response.output_item.added", "item": item, "output_index": 0},
        {"type": f"response.{name}.delta", "delta": text[:2], **place},
        {"type": f"response.{name}.delta", "delta": text[2:], **place},
        {"type": f"response.{name}.done", "arguments" if is_call else "text": text, **place},
        {"type": "response.output_item.done", "item": item, "output_index": 0},
        {"type": "response.completed", "response": response_value(item)},
    ]
    told = [{**event, "sequence_number": n} for n, event in enumerate(events)]
    return stream(*({k: v for k, v in event.items() if k != without} for event in told))


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
        ("responses", (chat(prompt=5), response(SAID), response(SAID)), "yes"),
        ("responses", (chat(prompt=6), response(SAID), response(SAID)), "no"),
        ("responses", (chat(prompt=5), response(SAID), response(SAID, id="chatcmpl-1")), "no"),
        ("responses", (chat(prompt=5), response(SAID), response({**SAID, "content": None})), "yes"),
        ("responses", (chat(prompt=5), response(SAID), response({**SAID, "id": None})), "no"),
        ("responses", (chat(prompt=5), response(SAID), response({"id": "x", "type": "odd"})), "no"),
        ("responses", (chat(), REFUSED, reply({}, 404)), "no"),
        ("responses_stream", (response_stream(SAID),), "yes"),
        ("responses_stream", (response_stream(SAID, without="sequence_number"),), "no"),
        ("responses_stream", (response_stream(SAID, without="output_index"),), "no"),
        ("responses_stream", (response_stream(SAID, without="delta"),), "no"),
        ("responses_stream", (stream({"type": "response.completed"}),), "no"),
        ("responses_stream", (stream(),), "no"),
        ("responses_tools", (response(CALLED), response_stream(CALLED)), "yes"),
        ("responses_tools", (response(SAID), response_stream(SAID)), "no"),
        ("responses_tools", (response(CALLED), response_stream(CALLED, without="delta")), "no"),
        ("responses_tools", (response(status="incomplete"), response_stream(CALLED)), "unsure"),
        (
            "responses_tools",
            (response({**CALLED, "arguments": "{"}), response_stream(CALLED)),
            "unsure",
        ),
        ("responses_tools", (REFUSED, response_stream(CALLED)), "no"),
        ("responses_schema", (response(saying(SCHEMA_OK)),), "yes"),
        ("responses_schema", (response(saying("It is warm.")),), "no"),
        ("responses_schema", (response(saying('{"city'), status="incomplete"),), "unsure"),
        ("responses_reasoning", (response(), response(prompt=9), response(prompt=12)), "yes"),
        ("responses_reasoning", (response(), response(prompt=9), response(prompt=9)), "unsure"),
        ("responses_reasoning", (REFUSED, response(), response(prompt=9)), "no"),
        ("responses_reasoning", (response(), REFUSED, REFUSED), "unsure"),
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


RECORDED = Path(__file__).parents[1] / "cases" / "native-responses"


@pytest.mark.parametrize(
    ("engine", "result", "seen"),
    [("vllm", "yes", "events"), ("llamacpp", "no", "sequence_number, output_index")],
)
@pytest.mark.parametrize("what", ["text", "tool"])
def test_recorded_streams_of_engines(what: str, engine: str, result: str, seen: str) -> None:
    recorded = Reply(status=200, body=(RECORDED / f"{engine}-{what}.sse").read_bytes())
    finding = BY_FEATURE["responses_stream"].judge((recorded,))
    assert finding.result == result
    assert seen in finding.seen
