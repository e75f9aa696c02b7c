"""Anthropic turns as engines get them: what is in them, block by block (docs/dialects.md 3.1)."""

import json
from typing import Any

import pytest

from homeport.engines import llamacpp, sglang, trtllm, vllm
from homeport.facts import EngineFacts
from homeport.wire import anthropic, openai_chat_upstream
from tests.wire.anthropic_support import (
    IMAGE,
    IMAGE_PART,
    MODEL,
    PLAIN,
    TEXT,
    after_call,
    assistant,
    refused,
    request,
    result,
    sent,
    user_content,
)

# --------------------------------------------------------------------------- user content


@pytest.mark.row("3.1 user text", "3.1 image, base64")
def test_text_is_a_string_and_parts_only_beside_images() -> None:
    assert user_content(TEXT, TEXT) == "look\nlook"
    assert user_content(TEXT, IMAGE) == [{"type": "text", "text": "look"}, IMAGE_PART]


@pytest.mark.row("3.1 image, url")
def test_image_urls_pass() -> None:
    url = {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}}
    [part] = user_content(url)
    assert part["image_url"]["url"] == "https://example.org/a.png"


@pytest.mark.row("3.1 image, document by file id", "3.1 document: url", "3.1 unknown block type")
@pytest.mark.parametrize(
    ("block", "param"),
    [
        ({"type": "image", "source": {"type": "file", "file_id": "f"}}, "source.type"),
        ({"type": "image", "source": {"type": "base64"}}, "source.data"),
        ({"type": "image", "source": {"type": "url"}}, "source.url"),
        ({"type": "image", "source": {"type": 5}}, "source.type"),
        ({"type": "image"}, "source"),
        ({"type": "document", "source": {"type": "file", "file_id": "f"}}, "source"),
        (
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf"}},
            "source.data",
        ),
        ({"type": "document", "source": {"type": "base64", "media_type": "x/y"}}, "source"),
        ({"type": "document", "source": {"type": "url", "url": "https://x.y/a.pdf"}}, "source"),
        ({"type": "document", "source": {"type": "text"}}, "source.data"),
        ({"type": "document", "source": {"type": "content"}}, "source.content"),
        ({"type": "browser_state", "tabs": []}, "type"),
        ({"type": "tool_addition"}, "tool"),
        ({"type": "tool_removal", "tool": {"type": "tool_reference"}}, "tool.name"),
        ({"type": "tool_addition", "tool": {"type": "something_new"}}, "tool.type"),
        ({"type": "tool_addition", "tool": {"type": "tool_definition"}}, "tool.definition"),
        (
            {
                "type": "tool_addition",
                "tool": {"type": "tool_definition", "definition": {"type": "computer_20251124"}},
            },
            "tool.definition.type",
        ),
        ({"type": "container_upload", "file_id": "f"}, "type"),
        ({"type": "something_new"}, "type"),
        ({"type": "text"}, "text"),
        ({"type": "tool_result", "content": "r"}, "tool_use_id"),
        ({"type": "tool_use", "name": "f", "input": {}}, "id"),
        ({"type": "tool_use", "id": "a", "input": {}}, "name"),
        (result([{"type": "something_new"}]), "content.0.type"),
        (result([{"text": "x"}]), "content.0.type"),
        (result(5), "content"),
    ],
)  # fmt: skip
def test_what_cannot_be_said_is_refused_by_name(block: dict[str, Any], param: str) -> None:
    """Silence would change what the model is asked."""
    fault = refused([TEXT, block])
    assert fault.param == f"messages.0.content.1.{param}"
    assert fault.message.startswith(f"messages.0.content.1.{param}: ")


@pytest.mark.row("3.1 document: text, content")
def test_documents_of_text() -> None:
    source: dict[str, Any] = {"type": "text", "media_type": "text/plain", "data": "body"}
    document = {"type": "document", "source": source, "title": "Title", "context": "Context"}
    assert user_content(document) == "Title\nContext\nbody"
    source = {"type": "content", "content": [TEXT, TEXT]}
    assert user_content({"type": "document", "source": source}) == "look\nlook"


@pytest.mark.row("3.1 search_result")
def test_search_results_as_text() -> None:
    block = {"type": "search_result", "source": "https://x.y", "title": "T", "content": [TEXT]}
    assert user_content(block) == "T\nhttps://x.y\nlook"


# --------------------------------------------------------------------------- assistant content


@pytest.mark.row("3.1 assistant text")
def test_assistant_text_is_joined_with_nothing_between() -> None:
    assert assistant(TEXT, TEXT) == {"role": "assistant", "content": "looklook"}


@pytest.mark.row("3.1 empty assistant turn")
def test_an_empty_assistant_turn_has_empty_content_never_null() -> None:
    assert assistant() == {"role": "assistant", "content": ""}


@pytest.mark.row("3.1 tool_use")
def test_tool_use_becomes_a_call_and_text_stands_before_it() -> None:
    used = {"type": "tool_use", "id": "a", "name": "f", "input": {"z": 1, "a": [1.50]}}
    message = assistant(used, TEXT)
    assert message["content"] == "look"
    [call] = message["tool_calls"]
    assert call == {
        "id": "a",
        "type": "function",
        "function": {"name": "f", "arguments": '{"z":1,"a":[1.5]}'},
    }


@pytest.mark.row(
    "3.1 tool_use",
    "3.1 tool_use.input as text, __unparsedToolInput, __raw_arguments",
    "3.5 a history",
)
@pytest.mark.parametrize(
    ("raw", "arguments"),
    [
        ('{"b": 1.50, "a": "\\u00e9"}', '{"b":1.50,"a":"\\u00e9"}'),  # as it was, but compact
        ("{}", "{}"),
        ("null", "{}"),
        ('"{\\"cut"', '{"cut'),
        ('{"__unparsedToolInput":{"raw":"<x","len":2}}', "<x"),
        ('{ "__unparsedToolInput" : {"raw":"<x","len":2}}', "<x"),
        ('{"__raw_arguments":"<x"}', "<x"),
        ('{"__raw_arguments":5}', '{"__raw_arguments":5}'),
        ('{"__raw_arguments":"x","y":1}', '{"__raw_arguments":"x","y":1}'),
    ],
)
def test_arguments(raw: str, arguments: str) -> None:
    body = (
        '{"model":"m","max_tokens":1,"messages":[{"role":"assistant","content":'
        '[{"type":"tool_use","id":"a","name":"f","input":%s}]},{"role":"user","content":"q"}]}'
    )
    request = anthropic.decode((body % raw).encode())
    message = json.loads(openai_chat_upstream.encode(request, PLAIN, MODEL))["messages"][0]
    assert message["tool_calls"][0]["function"]["arguments"] == arguments


@pytest.mark.row("3.1 thinking")
def test_thinking_goes_back_under_the_engines_name() -> None:
    thinking = {"type": "thinking", "thinking": "hmm", "signature": ""}
    assert assistant(thinking, thinking, TEXT)["reasoning_content"] == "hmmhmm"
    assert assistant(thinking, TEXT, engine=vllm.FACTS)["reasoning"] == "hmm"


@pytest.mark.row("3.1 redacted_thinking")
def test_redacted_thinking_is_dropped() -> None:
    assert assistant({"type": "redacted_thinking", "data": "x"}, TEXT) == assistant(TEXT)


@pytest.mark.row("3.1 server_tool_use and its results")
def test_server_tools_history_is_dropped_in_pairs() -> None:
    pair: list[dict[str, Any]] = [
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
        {"type": "web_search_tool_result", "tool_use_id": "s", "content": []},
    ]
    assert assistant(*pair, TEXT) == assistant(TEXT)


# --------------------------------------------------------------------------- an answer begun


USER = {"role": "user", "content": "q"}


def begun(*turns: str, engine: EngineFacts = PLAIN) -> dict[str, Any]:
    return sent([USER, *({"role": "assistant", "content": turn} for turn in turns)], engine)


@pytest.mark.row("3.1 last turn is the assistant's")
def test_white_space_at_the_end_of_a_begun_answer_goes() -> None:
    assert begun(" Sure: \n")["messages"][-1] == {"role": "assistant", "content": " Sure:"}
    assert begun(" \n")["messages"] == [USER]
    assert sent([{"role": "assistant", "content": " "}])["messages"][0]["content"] == ""


def test_what_the_client_began() -> None:
    used = {"type": "tool_use", "id": "a", "name": "f", "input": {}}
    assert request("q").prefill == ""
    assert request([USER, {"role": "assistant", "content": "a \n"}]).prefill == "a"
    blocks = {"role": "assistant", "content": [TEXT, TEXT]}
    assert request([USER, blocks, {"role": "assistant", "content": " b"}]).prefill == "looklook b"
    assert request([USER, {"role": "assistant", "content": [TEXT, used]}]).prefill == ""


@pytest.mark.row("3.1 last turn is the assistant's")
def test_a_begun_answer_is_one_message() -> None:
    """llama.cpp refuses two assistant messages at the end."""
    assert begun("a ", "b ")["messages"] == [USER, {"role": "assistant", "content": "a b"}]


@pytest.mark.row("3.1 last turn is the assistant's")
@pytest.mark.parametrize(
    ("engine", "switches"),
    [
        (PLAIN, {}),
        (llamacpp.FACTS, {}),  # goes on by itself
        (vllm.FACTS, {"continue_final_message": True, "add_generation_prompt": False}),
        (sglang.FACTS, {"continue_final_message": True}),
        (trtllm.FACTS, {}),  # 400 for what it does not know
    ],
    ids=lambda value: value.engine if isinstance(value, EngineFacts) else "",
)
def test_how_engines_are_told_to_go_on(engine: EngineFacts, switches: dict[str, bool]) -> None:
    names = ("continue_final_message", "add_generation_prompt")
    body = begun("Sure", engine=engine)
    assert {name: body[name] for name in names if name in body} == switches
    used = {"type": "tool_use", "id": "a", "name": "f", "input": {}}
    for other in (sent(engine=engine), sent([{"role": "assistant", "content": [used]}], engine)):
        assert not set(names) & set(other)


# --------------------------------------------------------------------------- tool results


@pytest.mark.row(
    "3.1 tool_result, text",
    "3.1 tool_result … document, search_result",
    "3.1 tool_result … empty",
    "3.1 tool_reference",
)
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("r", "r"),
        ([TEXT, TEXT], "look\nlook"),
        ([], ""),
        (None, ""),
        ("", ""),
        ([{"type": "search_result", "source": "u", "title": "T", "content": [TEXT]}], "T\nu\nlook"),
        ([{"type": "tool_reference", "tool_name": "g"}], "The tool g can be called now."),
    ],
)
def test_tool_results(content: Any, expected: str) -> None:
    assert after_call(result(content)) == [
        {"role": "tool", "tool_call_id": "a", "content": expected}
    ]


@pytest.mark.row("3.1 is_error: true")
def test_is_error_is_a_prefix_once() -> None:
    assert after_call(result("no", is_error=True))[0]["content"] == "Error: no"
    assert after_call(result("Error: no", is_error=True))[0]["content"] == "Error: no"
    assert after_call(result("no", is_error=False))[0]["content"] == "no"


@pytest.mark.row("3.1 tool_result … with an image")
def test_images_in_results_follow_in_a_user_message() -> None:
    [tool, user] = after_call(result([TEXT, IMAGE]))
    assert tool["content"] == "look\n[image attached below]"
    assert user == {"role": "user", "content": [IMAGE_PART]}


@pytest.mark.row("3.1 tool_result … with an image")
@pytest.mark.parametrize("engine", [llamacpp.FACTS, sglang.FACTS], ids=lambda facts: facts.engine)
def test_images_in_results_stay_there_where_the_engine_takes_them(engine: EngineFacts) -> None:
    [tool] = after_call(result([TEXT, IMAGE]), engine=engine)
    assert tool["content"] == [{"type": "text", "text": "look"}, IMAGE_PART]
    [tool] = after_call(result([IMAGE], is_error=True), engine=engine)
    assert tool["content"] == [{"type": "text", "text": "Error: "}, IMAGE_PART]
    assert after_call(result([TEXT]), engine=engine)[0]["content"] == "look"


@pytest.mark.row("3.1 mixed user turn")
def test_block_order_of_a_mixed_turn_is_kept() -> None:
    messages = after_call(TEXT, result(), {"type": "text", "text": "after"})
    assert [(m["role"], m["content"]) for m in messages] == [
        ("user", "look"),
        ("tool", "r"),
        ("user", "after"),
    ]


@pytest.mark.row("3.1 result without call, call without result")
def test_missing_and_orphan_results() -> None:
    assert [m["role"] for m in after_call(TEXT)] == ["tool", "user"]
    assert user_content(result("late")) == "late"
