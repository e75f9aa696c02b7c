"""Bodies of Responses clients: items, switches, and what is refused (docs/dialects.md 3.7)."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.engines import llamacpp
from homeport.errors import ClientError
from homeport.wire import openai_chat_upstream
from homeport.wire.events import (
    Image,
    ResponseFormat,
    Text,
    Thinking,
    ThinkingSwitch,
    ToolCall,
    ToolResult,
    Turn,
)
from homeport.wire.openai_responses import decode, entries_of, entry_of_stored, neutral
from tests.wire.responses_support import HELLO, MODEL, STORED, F, decoded, refusal, request, turns

# --------------------------------------------------------------------------- instructions, messages


@pytest.mark.row("3.7 input as text")
def test_a_text_is_a_user_turn() -> None:
    assert request(input="hi \u00e9").turns == (Turn("user", (Text("hi \u00e9"),)),)


@pytest.mark.row("3.7 instructions, leading system and developer messages")
def test_instructions_and_leading_developer_messages_are_the_system_prompt() -> None:
    found = turns(
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "b"}]},
        {"role": "system", "content": "c"},
        HELLO,
        instructions="a",
    )
    assert found == (
        Turn("system", (Text("a"), Text("b"), Text("c"))),
        Turn("user", (Text("hi"),)),
    )


def test_later_instructions_stay_where_they_are() -> None:
    answer = {"role": "assistant", "content": [{"type": "output_text", "text": "yes"}]}
    found = turns(HELLO, answer, {"role": "developer", "content": "be brief"}, HELLO)
    assert [turn.role for turn in found] == ["user", "assistant", "system", "user"]


def test_user_messages_in_a_row_are_one_turn() -> None:
    """Codex sends its environment and the prompt apart; many templates want roles to alternate."""
    found = turns(HELLO, {"role": "user", "content": "there"})
    assert found == (Turn("user", (Text("hi"), Text("there"))),)


def test_images() -> None:
    parts = [
        {"type": "input_text", "text": "what is it?"},
        {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "auto"},
        {"type": "input_image", "image_url": {"url": "data:image/png;base64,BB=="}},
    ]
    (turn,) = turns({"role": "user", "content": parts})
    assert turn.parts == (
        Text("what is it?"),
        Image("data:image/png;base64,AA=="),
        Image("data:image/png;base64,BB=="),
    )


def test_a_refusal_is_what_the_model_said() -> None:
    said = {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}
    assert turns(HELLO, said, HELLO)[1] == Turn("assistant", (Text("No."),))


# --------------------------------------------------------------------------- answers, replayed


@pytest.mark.row(
    "3.7 reasoning, message, calls that follow one another",
    "3.7 function_call_output",
    "3.7 reasoning with content",
)
def test_reasoning_message_and_calls_are_one_assistant_turn() -> None:
    found = turns(
        HELLO,
        {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "hmm"}]},
        {"type": "message", "role": "assistant", "content": "Both."},
        {"type": "function_call", "call_id": "1", "name": "f", "arguments": '{"a": 1}'},
        {"type": "function_call", "call_id": "2", "name": "g", "arguments": ""},
        {"type": "function_call_output", "call_id": "1", "output": "one"},
        {"type": "function_call_output", "call_id": "2", "output": "two"},
    )
    assert found[1:] == (
        Turn(
            "assistant",
            (
                Thinking("hmm"),
                Text("Both."),
                ToolCall("1", "f", '{"a": 1}'),
                ToolCall("2", "g", "{}"),
            ),
        ),
        Turn("user", (ToolResult("1", (Text("one"),)), ToolResult("2", (Text("two"),)))),
    )


@pytest.mark.row("3.7 reasoning with summary only, encrypted, empty")
@pytest.mark.parametrize(
    "item",
    [
        {"summary": [{"type": "summary_text", "text": "thought about it"}]},
        {"summary": [], "content": [], "encrypted_content": None},
        {"summary": [], "content": None, "encrypted_content": "gAAAA"},
        {},
    ],
)
def test_reasoning_without_reasoning_is_dropped(item: dict[str, Any]) -> None:
    assert turns({"type": "reasoning", "id": "rs_1", **item}, HELLO) == turns(HELLO)


@pytest.mark.row("3.7 function_call_output")
def test_results_hold_text_and_images() -> None:
    parts = [
        {"type": "input_text", "text": "see"},
        {"type": "input_image", "image_url": "data:image/png;base64,AA=="},
    ]
    found = turns(
        {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "1", "output": parts},
    )
    image = Image("data:image/png;base64,AA==")
    assert found[1].parts == (ToolResult("1", (Text("see"), image)),)


def test_an_empty_result_is_a_result() -> None:
    found = turns(
        {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "1", "output": ""},
    )
    assert found[1].parts == (ToolResult("1"),)


@pytest.mark.row("3.7 custom")
def test_custom_calls_come_back_as_the_function_that_was_called() -> None:
    found = turns(
        {"type": "custom_tool_call", "call_id": "1", "name": "shout", "input": 'a "b"\n'},
        {"type": "custom_tool_call_output", "call_id": "1", "output": "A"},
    )
    (call,) = found[0].parts
    assert isinstance(call, ToolCall)
    assert json.loads(call.arguments) == {"input": 'a "b"\n'}
    assert found[1].parts == (ToolResult("1", (Text("A"),)),)


@pytest.mark.row("3.7 namespace")
def test_namespaced_calls_come_back_under_their_flat_name() -> None:
    item = {"type": "function_call", "call_id": "1", "name": "g", "arguments": "{}"}
    (turn,) = turns({**item, "namespace": "ns"})
    assert turn.parts == (ToolCall("1", "ns__g", "{}"),)


@pytest.mark.parametrize(
    ("raw", "text"),
    [('"{\\"a\\":1}"', '{"a":1}'), ('{"a":1}', '{"a":1}'), ("null", "{}"), ('""', "{}")],
)
def test_arguments_come_as_text_or_as_what_it_says(raw: str, text: str) -> None:
    call = '{"type":"function_call","call_id":"1","name":"f","arguments":' + raw + "}"
    wire = decode(f'{{"input":[{call}]}}'.encode())
    (turn,) = neutral(wire, entries_of(wire, lambda item_id: None)).request.turns
    assert turn.parts == (ToolCall("1", "f", text),)


def test_text_that_is_no_unicode_is_refused() -> None:
    for item in (
        '{"role":"user","content":"\\ud800"}',
        '{"type":"function_call","call_id":"1","name":"f","arguments":"\\ud800"}',
    ):
        with pytest.raises(ClientError):
            decode(f'{{"input":[{item}]}}'.encode())


def test_history_of_hosted_tools_is_dropped() -> None:
    search = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"x": 1}}
    assert turns(search, HELLO) == turns(HELLO)


@pytest.mark.row("3.7 previous_response_id, item_reference")
def test_references_are_looked_up() -> None:
    assert turns({"type": "item_reference", "id": "msg_9"})[0].parts == (Text("kept"),)
    assert turns({"id": "msg_9"})[0].parts == (Text("kept"),)
    fault = refusal(input=[{"type": "item_reference", "id": "msg_8"}])
    assert (fault.kind, fault.param) == ("not_found", "input.0.id")


@pytest.mark.row("3.7 previous_response_id, item_reference")
def test_history_stands_in_front() -> None:
    history = [entry_of_stored(STORED["msg_9"])]
    body = {"input": "more", "instructions": "new", "previous_response_id": "resp_1"}
    found = decoded(body, history).request.turns
    assert found == (Turn("system", (Text("new"),)), Turn("user", (Text("kept"), Text("more"))))


def test_a_response_may_be_continued_without_new_input() -> None:
    history = [entry_of_stored(STORED["msg_9"])]
    found = decoded({"input": None, "previous_response_id": "resp_1"}, history).request.turns
    assert found == (Turn("user", (Text("kept"),)),)


# --------------------------------------------------------------------------- switches


@pytest.mark.row("3.7 text.format, reasoning.effort, max_output_tokens")
def test_sampling_and_limits() -> None:
    found = request(
        max_output_tokens=7, temperature=0.5, top_p=0.9, parallel_tool_calls=False, stream=True
    )
    assert (found.max_tokens, found.temperature, found.top_p) == (7, 0.5, 0.9)
    assert (found.parallel_tool_calls, found.stream) == (False, True)


@pytest.mark.row("3.7 text.format, reasoning.effort, max_output_tokens")
def test_effort() -> None:
    assert request(reasoning={"effort": "high", "summary": "auto"}).effort == "high"
    off = request(reasoning={"effort": "none"})
    assert (off.effort, off.thinking) == (None, ThinkingSwitch(False))
    assert request(reasoning=None).effort is None


@pytest.mark.row("3.7 text.format, reasoning.effort, max_output_tokens")
def test_formats() -> None:
    schema = {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}
    assert request(text={"format": schema}).response_format == ResponseFormat(
        b'{"type": "object"}', "n"
    )
    assert request(text={"format": {"type": "json_object"}}).response_format == ResponseFormat(None)
    assert request(text={"format": {"type": "text"}}).response_format is None
    assert request(text={"verbosity": "low"}).response_format is None


def test_json_object_reaches_the_engine() -> None:
    found = request(text={"format": {"type": "json_object"}})
    sent = json.loads(openai_chat_upstream.encode(found, llamacpp.FACTS, MODEL))
    assert sent["response_format"] == {"type": "json_object"}


@pytest.mark.row("3.7 truncation, include, prompt_cache_key, client_metadata, unknown fields")
def test_what_says_nothing_to_a_model_is_ignored() -> None:
    ignored = {
        "truncation": "auto",
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "k",
        "client_metadata": {"a": "b"},
        "store": False,
        "metadata": {"a": "b"},
        "service_tier": "flex",
        "stream_options": {"include_obfuscation": False},
        "safety_identifier": "s",
        "user": "u",
        "max_tool_calls": 3,
        "background": False,
        "conversation": None,
        "prompt": None,
        "anything_new": [1],
    }
    assert request(**ignored) == request()


# --------------------------------------------------------------------------- refusals


@pytest.mark.row("3.7 background, conversation, prompt", "3.7 unknown items and parts")
@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"background": True}, "background", "not supported"),
        ({"conversation": "conv_1"}, "conversation", "not supported"),
        ({"prompt": {"id": "p"}}, "prompt", "not supported"),
        ({"input": None}, "input", "Field required"),
        ({"input": 7}, "input", "Expected"),
        ({"input": []}, "input", "nothing to answer"),
        ({"input": [7]}, "input.0", "Expected"),
        ({"input": [{"type": "compaction"}]}, "input.0.type", "'compaction'"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input.0.role", "'tool'"),
        ({"input": [{"role": "user", "content": 7}]}, "input.0.content", "Expected"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]},
            "input.0.content.0.type",
            "'input_file'",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]},
            "input.0.content.0",
            "image_url",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_text"}]}]},
            "input.0.content.0.text",
            "Field required",
        ),
        (
            {"input": [{"type": "function_call", "name": "f", "arguments": "{}"}]},
            "input.0.call_id",
            "Field required",
        ),
        (
            {"input": [{"type": "function_call", "call_id": "1", "arguments": "{}"}]},
            "input.0.name",
            "Field required",
        ),
        (
            {"input": [{"type": "function_call_output", "output": "x"}]},
            "input.0.call_id",
            "Field required",
        ),
        (
            {"input": [{"type": "custom_tool_call", "call_id": "1", "name": "c"}]},
            "input.0.input",
            "Field required",
        ),
        (
            {"input": [{"type": "custom_tool_call", "call_id": "1", "name": "c", "input": {}}]},
            "input.0.input",
            "not a text",
        ),
        ({"tools": [{"type": "function"}]}, "tools.0.name", "Field required"),
        ({"tools": [{**F, "parameters": []}]}, "tools.0.parameters", "Expected"),
        ({"tool_choice": "any"}, "tool_choice", "'any'"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.name", "Field required"),
        ({"max_output_tokens": 0}, "max_output_tokens", ">= 1"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type", "'xml'"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format.schema", "Field required"),
        (
            {"text": {"format": {"type": "json_schema", "schema": 1}}},
            "text.format.schema",
            "Expected",
        ),
    ],
)
def test_refused_by_name(body: dict[str, Any], param: str, words: str) -> None:
    fault = refusal(**body)
    assert (fault.kind, fault.param) == ("invalid_request", param)
    assert words in fault.message


@settings(max_examples=150, deadline=None)
@given(body=st.binary(max_size=60))
def test_any_bytes_are_a_request_or_our_error(body: bytes) -> None:
    with contextlib.suppress(ClientError):
        decode(body)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
FIELDS = [
    "type", "id", "role", "content", "call_id", "name", "namespace", "arguments", "input",
    "output", "tools", "summary",
]  # fmt: skip
TYPES = ["message", "reasoning", "function_call", "function_call_output", "custom_tool_call", "x"]
items = st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=6).flatmap(
    lambda item: st.sampled_from(TYPES).map(lambda type_: {**item, "type": type_})
)


@settings(max_examples=300, deadline=None)
@given(input_=st.lists(items | json_values, max_size=4))
def test_any_items_are_a_request_or_our_error(input_: list[Any]) -> None:
    try:
        found = decoded({"input": input_})
    except ClientError:
        return
    openai_chat_upstream.encode(found.request, llamacpp.FACTS, MODEL)
