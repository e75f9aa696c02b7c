"""Bodies of Responses clients: each rule of docs/dialects.md 3.7, real requests, and wrong ones."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from homeport.engines import llamacpp, mlx, vllm
from homeport.errors import ClientError
from homeport.spec import EngineFacts, ModelFacts
from homeport.wire import openai_chat
from homeport.wire.events import (
    Image,
    Request,
    ResponseFormat,
    SearchWish,
    Text,
    Thinking,
    ThinkingSwitch,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from homeport.wire.openai_responses import (
    Callee,
    Decoded,
    Entry,
    decode,
    entries_of,
    entry_of_stored,
    neutral,
)
from tests.wire.cases import CASES

MODEL = ModelFacts(name="local", context_tokens=4096)
MLX = replace(mlx.FACTS, ignores=frozenset())  # what is refused is in test_ignored.py
FACTS = [llamacpp.FACTS, vllm.FACTS, MLX]
REQUESTS = sorted((CASES / "responses").glob("*/*.json"))
HELLO = {"role": "user", "content": "hi"}
F = {"type": "function", "name": "f", "parameters": {"type": "object"}}
G = {**F, "name": "g"}
SEARCH = {"type": "web_search"}


def decoded(body: dict[str, Any], history: list[Entry] | None = None) -> Decoded:
    wire = decode(json.dumps({"model": "local", **body}).encode())
    return neutral(wire, entries_of(wire, lambda item_id: STORED.get(item_id)), history or [])


def request(**body: Any) -> Request:
    return decoded({"input": "hi", **body}).request


def turns(*items: dict[str, Any], **body: Any) -> tuple[Turn, ...]:
    return request(input=list(items), **body).turns


def refusal(**body: Any) -> ClientError:
    with pytest.raises(ClientError) as caught:
        decoded({"input": "hi", **body})
    return caught.value


STORED = {"msg_9": b'{"type":"message","id":"msg_9","role":"user","content":"kept"}'}

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


# --------------------------------------------------------------------------- tools


@pytest.mark.row("3.7 tools")
def test_functions_are_strict_unless_they_say_otherwise() -> None:
    tools = request(tools=[F, {**G, "strict": False, "description": "d"}]).tools
    assert [(tool.name, tool.strict, tool.description) for tool in tools] == [
        ("f", True, None),
        ("g", False, "d"),
    ]
    assert [tool.schema for tool in tools] == [b'{"type": "object"}'] * 2


def test_a_function_without_parameters() -> None:
    (tool,) = request(tools=[{"type": "function", "name": "f", "parameters": None}]).tools
    assert json.loads(tool.schema) == {"type": "object", "properties": {}}


@pytest.mark.row("3.7 namespace")
def test_namespaces_are_flattened() -> None:
    namespace = {"type": "namespace", "name": "ns", "description": "d", "tools": [G]}
    found = decoded({"input": "hi", "tools": [F, namespace]})
    assert [tool.name for tool in found.request.tools] == ["f", "ns__g"]
    assert found.callees["ns__g"] == Callee("function", "g", "ns")


@pytest.mark.row("3.7 custom")
def test_custom_tools_are_functions_of_one_text() -> None:
    grammar = {"type": "grammar", "syntax": "lark", "definition": "start: /a+/"}
    custom = {"type": "custom", "name": "shout", "description": "Shouts.", "format": grammar}
    found = decoded({"input": "hi", "tools": [custom]})
    (tool,) = found.request.tools
    assert json.loads(tool.schema)["required"] == ["input"]
    assert tool.description is not None
    assert tool.description.startswith("Shouts.")
    assert "start: /a+/" in tool.description
    assert found.callees["shout"] == Callee("custom", "shout")


@pytest.mark.parametrize(
    ("format_", "description"),
    [({"type": "text"}, "d"), ({"type": "grammar", "definition": 1}, "d"), ([], "d"), (None, "d")],
)
def test_a_format_without_grammar_says_nothing(format_: Any, description: str) -> None:
    custom = {"type": "custom", "name": "c", "description": "d", "format": format_}
    assert request(tools=[custom]).tools[0].description == description


def test_two_tools_of_one_flat_name() -> None:
    namespace = {"type": "namespace", "name": "ns", "tools": [G]}
    fault = refusal(tools=[namespace, {**F, "name": "ns__g"}])
    assert "two different tools" in fault.message


def test_tools_that_items_add_stand_at_the_end() -> None:
    added = {"type": "additional_tools", "role": "developer", "tools": [G, F]}
    found = request(input=[HELLO, added], tools=[F])
    assert [tool.name for tool in found.tools] == ["f", "g"]


@pytest.mark.row("3.7 hosted tools")
@pytest.mark.parametrize("choice", [None, "auto", "none", {"type": "function", "name": "f"}])
def test_hosted_tools_are_skipped(choice: Any) -> None:
    hosted = [SEARCH, {"type": "mcp", "server_label": "x"}, {"type": "local_shell"}]
    found = request(tools=[F, *hosted], tool_choice=choice)
    assert [tool.name for tool in found.tools] == ["f"]


SEARCHES = {"type": "allowed_tools", "mode": "required", "tools": [SEARCH]}
EITHER = {"type": "allowed_tools", "mode": "required", "tools": [SEARCH, {**F}]}


@pytest.mark.row("3.7 hosted tools")
@pytest.mark.parametrize(
    ("tools", "choice", "said"),
    [
        ([SEARCH], "required", "'web_search' must be called, and nobody here"),
        ([F, SEARCH], SEARCH, "'web_search' must be called, and nobody here"),
        ([F, SEARCH], {"type": "web_search_preview"}, "'web_search_preview' must be called"),
        ([F, SEARCH], SEARCHES, "'web_search' must be called, and nobody here"),
        ([F, SEARCH], {"type": "file_search"}, "'file_search' is run by OpenAI's servers"),
        ([{"type": "mcp"}], "required", "'mcp' is run by OpenAI's servers"),
    ],
)
def test_hosted_tools_that_must_be_called_are_refused(
    tools: list[Any], choice: Any, said: str
) -> None:
    fault = refusal(tools=tools, tool_choice=choice)
    assert fault.param == "tool_choice"
    assert said in fault.message
    assert "with 'auto' the model goes on" in fault.message


@pytest.mark.row("3.7 hosted tools")
@pytest.mark.parametrize("choice", ["required", EITHER])
def test_another_tool_is_called_instead(choice: Any) -> None:
    found = request(tools=[F, SEARCH], tool_choice=choice)
    assert [tool.name for tool in found.tools] == ["f"]
    assert found.tool_choice == ToolChoice("any")
    assert found.web_search is None


def searching(**body: Any) -> Request:
    """Where somebody runs searches."""
    wire = decode(json.dumps({"model": "m", "input": "hi", **body}).encode())
    return neutral(wire, entries_of(wire, lambda item_id: None), can_search=True).request


@pytest.mark.row("3.7 hosted tools")
@pytest.mark.parametrize(
    ("tools", "choice", "expected"),
    [
        ([F, SEARCH], None, None),
        ([F, SEARCH], "auto", ToolChoice("auto")),
        ([SEARCH], "required", ToolChoice("any")),
        ([F, SEARCH], SEARCH, ToolChoice("named", "web_search")),
        (
            [{"type": "web_search_preview"}],
            {"type": "web_search_preview"},
            ToolChoice("named", "web_search"),
        ),
        ([F, SEARCH], SEARCHES, ToolChoice("any")),
    ],
)
def test_a_search_that_somebody_runs_can_be_chosen(
    tools: list[Any], choice: Any, expected: ToolChoice | None
) -> None:
    found = searching(tools=tools, tool_choice=choice)
    assert found.tool_choice == expected
    assert found.web_search == SearchWish()


@pytest.mark.row("3.7 hosted tools")
@pytest.mark.parametrize(
    ("tools", "choice"),
    [
        ([F, SEARCH], {"type": "allowed_tools", "mode": "auto", "tools": [F]}),
        ([F, {**SEARCH, "external_web_access": False}], "auto"),
        ([{**F, "name": "web_search"}, SEARCH], "auto"),
        ([F], "auto"),
    ],
)
def test_a_search_that_is_not_wanted(tools: list[Any], choice: Any) -> None:
    assert searching(tools=tools, tool_choice=choice).web_search is None


def test_a_cached_search_cannot_be_forced() -> None:
    with pytest.raises(ClientError, match="nobody here"):
        searching(tools=[{**SEARCH, "external_web_access": False}], tool_choice=SEARCH)


@pytest.mark.row("3.7 tool_choice, allowed_tools")
@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, None),
        ("auto", ToolChoice("auto")),
        ("none", ToolChoice("none")),
        ("required", ToolChoice("any")),
        ({"type": "function", "name": "f"}, ToolChoice("named", "f")),
        ({"type": "custom", "name": "f"}, ToolChoice("named", "f")),
        ({"type": "function", "name": "g", "namespace": "ns"}, ToolChoice("named", "ns__g")),
    ],
)
def test_tool_choice(choice: Any, expected: ToolChoice | None) -> None:
    assert request(tools=[F], tool_choice=choice).tool_choice == expected


@pytest.mark.row("3.7 tool_choice, allowed_tools")
@pytest.mark.parametrize(("mode", "expected"), [("auto", "auto"), ("required", "any")])
def test_allowed_tools(mode: str, expected: str) -> None:
    allowed = [{"type": "function", "name": "g"}]
    choice = {"type": "allowed_tools", "mode": mode, "tools": allowed}
    found = request(tools=[F, G], tool_choice=choice)
    assert [tool.name for tool in found.tools] == ["g"]
    assert found.tool_choice is not None
    assert found.tool_choice.mode == expected


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
    sent = json.loads(openai_chat.encode(found, FACTS[0], MODEL))
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
    openai_chat.encode(found.request, FACTS[0], MODEL)


# --------------------------------------------------------------------------- real requests


def name_of(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


@pytest.mark.parametrize("engine", FACTS, ids=lambda facts: facts.engine)
@pytest.mark.parametrize("path", REQUESTS, ids=name_of)
def test_real_requests_lose_nothing(path: Path, engine: EngineFacts) -> None:
    body = json.loads(path.read_text())
    wire = decode(path.read_bytes())
    found = neutral(wire, entries_of(wire, lambda item_id: None))
    sent = json.loads(openai_chat.encode(found.request, engine, MODEL))
    said = json.dumps(sent["messages"], ensure_ascii=False)
    at = -1
    for text in texts_of(body["input"]):
        here = said.find(json.dumps(text, ensure_ascii=False)[1:-1], at + 1)
        assert here > at, f"lost or out of order: {text[:80]!r}"
        at = here
    calls = [call for message in sent["messages"] for call in message.get("tool_calls", ())]
    results = [m["tool_call_id"] for m in sent["messages"] if m["role"] == "tool"]
    asked = items_of(body["input"], "function_call")
    assert [(c["id"], c["function"]["name"], c["function"]["arguments"]) for c in calls] == [
        (item["call_id"], item["name"], item["arguments"]) for item in asked
    ]
    answered = items_of(body["input"], "function_call_output")
    assert results == [item["call_id"] for item in answered]
    names = [tool["function"]["name"] for tool in sent.get("tools", ())]
    assert names == tool_names(body.get("tools", ()))


def texts_of(input_: str | list[dict[str, Any]]) -> list[str]:
    if isinstance(input_, str):
        return [input_]
    texts = []
    for item in input_:
        texts += [part["text"] for part in item.get("content", ())]
        texts += [item["output"]] if "output" in item else []
    return texts


def items_of(input_: str | list[dict[str, Any]], type_: str) -> list[dict[str, Any]]:
    return [item for item in input_ if isinstance(item, dict) and item["type"] == type_]


def tool_names(tools: Any) -> list[str]:
    names: list[str] = []
    for tool in tools:
        if tool["type"] == "function":
            names.append(tool["name"])
        elif tool["type"] == "namespace":
            names += [f"{tool['name']}__{inner['name']}" for inner in tool["tools"]]
    return names


def test_codex_prompt_heads_are_stable() -> None:
    """Two requests of one conversation share their head, whatever ids the items have."""
    first, second = (
        json.loads((CASES / "responses" / "codex" / f"{name}.json").read_text())
        for name in ("cx_hello_01", "cx_tool_02")
    )
    sent = []
    for body in (first, second):
        body["input"][:4] = [{**item, "id": "other"} for item in first["input"][:4]]
        wire = decode(json.dumps(body).encode())
        found = neutral(wire, entries_of(wire, lambda item_id: None))
        sent.append(openai_chat.encode(found.request, FACTS[0], MODEL))
    heads = [body.index(b'"messages"') for body in sent]
    messages = [json.loads(body)["messages"] for body in sent]
    assert heads[0] == heads[1]
    assert messages[1][: len(messages[0])] == messages[0]
    assert json.loads(sent[0])["tools"] == json.loads(sent[1])["tools"]
