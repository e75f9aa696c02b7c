"""Anthropic requests as engines get them: one small case per row of docs/dialects.md 3.1."""

import json
from typing import Any

import msgspec
import pytest

from homeport.engines import llamacpp, mlx, ollama, sglang, trtllm, vllm
from homeport.errors import ClientError
from homeport.spec import EngineFacts, ModelFacts
from homeport.wire import anthropic, openai_chat_upstream
from homeport.wire.events import Request

MODEL = ModelFacts(name="local", context_tokens=4096)
PLAIN = EngineFacts()
SCHEMA = {"type": "object", "properties": {"x": {"type": "string", "maxLength": 9}}}


def request(content: Any = "hi", **fields: Any) -> Request:
    turns = content if isinstance(content, list) and content and "role" in content[0] else None
    body = {
        "model": "claude-x",
        "max_tokens": 64,
        "messages": turns or [{"role": "user", "content": content}],
        **fields,
    }
    return anthropic.decode(json.dumps(body).encode())


def sent(content: Any = "hi", engine: EngineFacts = PLAIN, **fields: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(
        openai_chat_upstream.encode(request(content, **fields), engine, MODEL)
    )
    return body


def user_content(*blocks: dict[str, Any]) -> Any:
    [message] = sent(list(blocks))["messages"]
    return message["content"]


def after_call(*blocks: dict[str, Any], engine: EngineFacts = PLAIN) -> list[dict[str, Any]]:
    """The messages behind an assistant turn that called ``a``."""
    used = {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}}
    turns = [{"role": "assistant", "content": [used]}, {"role": "user", "content": list(blocks)}]
    messages: list[dict[str, Any]] = sent(turns, engine)["messages"]
    return messages[1:]


def refused(content: Any = "hi", **fields: Any) -> ClientError:
    with pytest.raises(ClientError) as caught:
        sent(content, **fields)
    return caught.value


TEXT = {"type": "text", "text": "look"}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/gif", "data": "AAAA"}}
IMAGE_PART = {"type": "image_url", "image_url": {"url": "data:image/gif;base64,AAAA"}}
TOOL = {"name": "f", "description": "does f", "input_schema": SCHEMA}


def result(content: Any = "r", **fields: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": "a", "content": content, **fields}


# --------------------------------------------------------------------------- plain fields


@pytest.mark.row("3.1 model")
def test_model_is_the_upstreams() -> None:
    assert sent()["model"] == "local"


@pytest.mark.row("3.1 max_tokens", "3.1 max_tokens: 0")
@pytest.mark.parametrize(("asked", "expected"), [(64, 64), (0, 1), (128000, 128000)])
def test_max_tokens(asked: int, expected: int) -> None:
    assert sent(max_tokens=asked)["max_tokens"] == expected


@pytest.mark.row("3.1 max_tokens")
def test_max_tokens_beyond_the_context_is_no_limit_for_vllm() -> None:
    assert "max_tokens" not in sent(engine=vllm.FACTS, max_tokens=128000)
    assert "max_tokens" not in sent(engine=vllm.FACTS, max_tokens=4096)
    assert sent(engine=vllm.FACTS, max_tokens=4095)["max_tokens"] == 4095


@pytest.mark.row("3.1 stop_sequences")
def test_stop_sequences_lose_empty_ones() -> None:
    assert sent(stop_sequences=["a", "", "b", "c", "d", "e"])["stop"] == ["a", "b", "c", "d", "e"]
    assert "stop" not in sent(stop_sequences=[""])


@pytest.mark.row("3.1 temperature, top_p", "3.1 top_k")
def test_sampling() -> None:
    body = sent(temperature=0.5, top_p=0.9, top_k=40)
    assert (body["temperature"], body["top_p"], body["top_k"]) == (0.5, 0.9, 40)
    assert "top_k" not in sent(engine=EngineFacts(extensions=frozenset()), top_k=40)


@pytest.mark.row("3.1 unknown field")
def test_what_is_never_forwarded() -> None:
    fields: dict[str, Any] = {
        "metadata": {"user_id": "{}"},
        "service_tier": "auto",
        "speed": "fast",
        "inference_geo": "us",
        "container": "c",
        "diagnostics": {},
        "betas": ["x"],
        "context_management": {"edits": []},
        "cache_control": {"type": "ephemeral"},
        "safeguards": [{}],
        "something_new": 1,
    }
    assert sent(**fields) == sent()


@pytest.mark.row("3.3 15")
def test_streams_always_ask_for_usage() -> None:
    assert sent(stream=True)["stream_options"] == {"include_usage": True}
    assert "stream_options" not in sent(stream=False)
    assert "stream_options" not in sent(engine=EngineFacts(stream_usage=False), stream=True)


# --------------------------------------------------------------------------- thinking, effort, format


@pytest.mark.row("3.1 output_config.effort")
@pytest.mark.parametrize(
    ("engine", "xhigh", "top"),
    [
        (PLAIN, "high", "high"),
        (llamacpp.FACTS, "high", "high"),
        (vllm.FACTS, "xhigh", "max"),
        (sglang.FACTS, "max", "max"),
        (ollama.FACTS, "high", "high"),
    ],
    ids=lambda value: value.engine if isinstance(value, EngineFacts) else value,
)
def test_effort(engine: EngineFacts, xhigh: str, top: str) -> None:
    words = {"low": "low", "medium": "medium", "high": "high", "xhigh": xhigh, "max": top}
    for effort, expected in {**words, "something_new": "high"}.items():
        body = sent(engine=engine, output_config={"effort": effort})
        assert body["reasoning_effort"] == expected
        assert "reasoning_effort" not in sent(engine=mlx.FACTS, output_config={"effort": effort})


@pytest.mark.row("3.1 its output_config.effort")
def test_effort_of_a_system_turn_wins_and_the_last_one_most() -> None:
    turns = [
        {"role": "user", "content": "q"},
        {"role": "system", "content": "s", "output_config": {"effort": "high"}},
        {"role": "system", "content": "s", "output_config": {"effort": "low"}},
    ]
    assert sent(turns, output_config={"effort": "medium"})["reasoning_effort"] == "low"


@pytest.mark.row("3.1 thinking: enabled")
def test_thinking_enabled_with_a_budget() -> None:
    thinking = {"type": "enabled", "budget_tokens": 2000}
    body = sent(engine=llamacpp.FACTS, thinking=thinking)
    assert body["chat_template_kwargs"] == {"enable_thinking": True}
    assert body["thinking_budget_tokens"] == 2000
    assert sent(engine=vllm.FACTS, thinking=thinking)["thinking_token_budget"] == 2000


@pytest.mark.row("3.1 thinking: enabled")
def test_a_budget_is_sent_only_where_it_is_known() -> None:
    thinking = {"type": "enabled", "budget_tokens": 2000}
    for engine in (PLAIN, sglang.FACTS, trtllm.FACTS, mlx.FACTS, ollama.FACTS):
        assert "2000" not in json.dumps(sent(engine=engine, thinking=thinking))


@pytest.mark.row("3.1 thinking: disabled")
def test_thinking_disabled() -> None:
    body = sent(thinking={"type": "disabled"}, output_config={"effort": "high"})
    assert body["reasoning_effort"] == "none"
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    body = sent(engine=mlx.FACTS, thinking={"type": "disabled"})
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert "reasoning_effort" not in body
    for engine in (trtllm.FACTS, ollama.FACTS):
        body = sent(engine=engine, thinking={"type": "disabled"})
        assert body["reasoning_effort"] == "none"
        assert "chat_template_kwargs" not in body


@pytest.mark.row("3.1 thinking.display")
@pytest.mark.parametrize("display", ["omitted", "summarized", "updates"])
def test_how_thinking_is_displayed_does_not_reach_the_engine(display: str) -> None:
    """It is streamed in any case: without it the client could not send it back, and the prompt of
    the next turn would be another one than the engine has cached."""
    thinking = {"type": "enabled", "budget_tokens": 2000}
    plain = sent(engine=llamacpp.FACTS, thinking=thinking)
    assert sent(engine=llamacpp.FACTS, thinking={**thinking, "display": display}) == plain


@pytest.mark.row("3.1 thinking: adaptive, others")
@pytest.mark.parametrize("kind", ["adaptive", "between_tools", "something_new"])
def test_thinking_adaptive_is_the_models_own_default(kind: str) -> None:
    assert sent(thinking={"type": kind, "display": "omitted"}) == sent()


@pytest.mark.row("3.1 output_config.format")
def test_output_format() -> None:
    body = sent(output_config={"format": {"type": "json_schema", "schema": SCHEMA}})
    assert body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True},
    }


# --------------------------------------------------------------------------- system


@pytest.mark.row("3.1 system")
def test_system_blocks_are_one_leading_message() -> None:
    blocks = [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}, TEXT]
    [system, _] = sent(system=blocks)["messages"]
    assert system == {"role": "system", "content": "a\n\nlook"}
    assert sent(system="a")["messages"][0] == {"role": "system", "content": "a"}
    assert len(sent(system="")["messages"]) == 1


BILLING = "x-anthropic-billing-header: cc_version=2.1.329.934; cc_entrypoint=cli;"


@pytest.mark.row("3.1 system")
def test_the_billing_block_is_dropped_first_and_only_first() -> None:
    billing = {"type": "text", "text": BILLING}
    assert sent(system=[billing, TEXT])["messages"][0]["content"] == "look"
    assert BILLING in sent(system=[TEXT, billing])["messages"][0]["content"]
    assert sent(system=f"{BILLING}\nYou are.")["messages"][0]["content"] == "You are."
    assert [m["role"] for m in sent(system=[billing])["messages"]] == ["user"]


@pytest.mark.row('3.1 role: "system" inside')
def test_a_system_turn_inside_is_folded_in_place_and_never_hoisted() -> None:
    turns: list[dict[str, Any]] = [
        {"role": "user", "content": "q"},
        {"role": "system", "content": "s"},
    ]
    for content in ("s", [{"type": "text", "text": "s"}]):  # Claude Code sends both, at times
        turns[1]["content"] = content
        messages = sent(turns, system="You are.")["messages"]
        assert [m["role"] for m in messages] == ["system", "user"]
        assert messages[1]["content"] == "q\n<system>\ns\n</system>"


@pytest.mark.row('3.1 role: "system" inside')
def test_a_first_system_turn_without_a_system_field_is_a_turn_all_the_same() -> None:
    turns = [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]
    [message] = sent(turns)["messages"]
    assert message == {"role": "user", "content": "<system>\ns\n</system>\nq"}


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


def assistant(*blocks: dict[str, Any], engine: EngineFacts = PLAIN) -> dict[str, Any]:
    turns = [{"role": "assistant", "content": list(blocks)}, {"role": "user", "content": "q"}]
    message: dict[str, Any] = sent(turns, engine)["messages"][0]
    return message


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


# --------------------------------------------------------------------------- tools


@pytest.mark.row("3.1 tools, custom")
def test_tools_keep_name_description_schema_and_strict() -> None:
    [tool] = sent(tools=[{**TOOL, "type": "custom", "strict": True, "cache_control": {}}])["tools"]
    function = {"name": "f", "description": "does f", "parameters": SCHEMA, "strict": True}
    assert tool == {"type": "function", "function": function}


@pytest.mark.row("3.1 tools, custom")
def test_schemas_lose_bounds_and_strict_for_llama_cpp() -> None:
    [tool] = sent(engine=llamacpp.FACTS, tools=[{**TOOL, "strict": True}])["tools"]
    assert tool["function"]["parameters"]["properties"] == {"x": {"type": "string"}}
    assert "strict" not in tool["function"]


@pytest.mark.row("3.1 tools, custom")
def test_schemas_travel_as_the_bytes_that_the_client_sent() -> None:
    raw = '{"type":"object","properties":{"z":{"const":1.50},"a":{}}}'
    body = (
        '{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"q"}],'
        '"tools":[{"name":"f","input_schema":%s}]}'
    )
    encoded = openai_chat_upstream.encode(
        anthropic.decode((body % raw).encode()), vllm.FACTS, MODEL
    )
    assert raw.encode() in encoded


@pytest.mark.row("3.1 tools, run by Anthropic")
def test_server_tools_are_dropped_unless_only_they_could_be_called() -> None:
    search = {"type": "web_search_20250305", "name": "web_search"}
    assert "tools" not in sent(tools=[search])
    assert len(sent(tools=[search, TOOL])["tools"]) == 1
    fetch = {"type": "web_fetch_20250910", "name": "web_fetch"}
    assert refused(tools=[fetch], tool_choice={"type": "any"}).param == "tools"


@pytest.mark.row("3.1 defer_loading", "3.1 tool_reference")
def test_deferred_tools_are_hidden_until_named_and_then_stand_at_the_end() -> None:
    def tool(name: str, **fields: Any) -> dict[str, Any]:
        return {"name": name, "input_schema": SCHEMA, **fields}

    tools = [tool("a"), tool("d1", defer_loading=True), tool("d2", defer_loading=True), tool("b")]
    used = {"type": "tool_use", "id": "a", "name": "ToolSearch", "input": {}}
    found = [{"type": "tool_reference", "tool_name": n} for n in ("d2", "unknown", "d1", "d2")]
    turns: list[dict[str, Any]] = [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": [used]},
        {"role": "user", "content": [result(found)]},
    ]

    def names(*messages: dict[str, Any]) -> list[str]:
        return [t["function"]["name"] for t in sent(list(messages), tools=tools)["tools"]]

    assert names(turns[0]) == ["a", "b"]
    assert names(*turns) == ["a", "b", "d2", "d1"]


@pytest.mark.parametrize(
    ("tool", "param"),
    [
        ({"input_schema": {}}, "name"),
        ({"name": "f"}, "input_schema"),
        ({"name": "f", "input_schema": "x"}, "input_schema"),
        ({"name": "f", "input_schema": []}, "input_schema"),
        ({"name": "computer", "type": "computer_20251124"}, "type"),
    ],
)
def test_bad_tools_are_named(tool: dict[str, Any], param: str) -> None:
    assert refused(tools=[TOOL, tool]).param == f"tools.1.{param}"


@pytest.mark.row("3.1 tool_choice auto, any, none", "3.1 tool_choice … tool")
@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"type": "auto"}, "auto"),
        ({"type": "any"}, "required"),
        ({"type": "none"}, "none"),
        ({"type": "tool", "name": "f"}, {"type": "function", "function": {"name": "f"}}),
        (None, "auto"),  # TensorRT-LLM's default was "none"
    ],
)
def test_tool_choice(choice: Any, expected: Any) -> None:
    fields = {"tool_choice": choice} if choice else {}
    assert sent(tools=[TOOL], **fields)["tool_choice"] == expected


@pytest.mark.row("3.1 tool_choice … tool")
def test_a_named_tool_for_llama_cpp_is_that_tool_alone_and_required() -> None:
    tools = [{**TOOL, "name": "g"}, TOOL]
    body = sent(engine=llamacpp.FACTS, tools=tools, tool_choice={"type": "tool", "name": "f"})
    assert [t["function"]["name"] for t in body["tools"]] == ["f"]
    assert body["tool_choice"] == "required"


@pytest.mark.row("3.1 tool_choice … none, engine ignores tool_choice")
def test_an_engine_that_cannot_be_told_none_does_not_see_the_tools() -> None:
    body = sent(engine=mlx.FACTS, tools=[TOOL], tool_choice={"type": "none"})
    assert "tools" not in body
    assert (
        len(sent(engine=llamacpp.FACTS, tools=[TOOL], tool_choice={"type": "none"})["tools"]) == 1
    )


@pytest.mark.row("3.1 tool_choice … tool")
def test_bad_tool_choices() -> None:
    unknown = refused(tools=[TOOL], tool_choice={"type": "tool", "name": "nope"})
    assert unknown.param == "tool_choice"
    assert refused(tools=[TOOL], tool_choice={"type": "tool"}).param == "tool_choice.name"


@pytest.mark.row("3.1 disable_parallel_tool_use")
def test_disable_parallel_tool_use() -> None:
    choice = {"type": "auto", "disable_parallel_tool_use": True}
    assert sent(tools=[TOOL], tool_choice=choice)["parallel_tool_calls"] is False
    assert "parallel_tool_calls" not in sent(tools=[TOOL])
    assert "parallel_tool_calls" not in sent(engine=mlx.FACTS, tools=[TOOL], tool_choice=choice)


# --------------------------------------------------------------------------- the whole body


@pytest.mark.row("3.1 count_tokens")
def test_count_tokens_needs_no_max_tokens() -> None:
    body = b'{"model":"m","messages":[{"role":"user","content":"q"}]}'
    assert anthropic.decode(body, counting=True).max_tokens is None
    with pytest.raises(ClientError, match=r"^max_tokens: Field required$"):
        anthropic.decode(body)


def test_a_thousand_levels_of_results_are_refused() -> None:
    block: dict[str, Any] = TEXT
    for _ in range(400):
        block = result([block])
    body = msgspec.json.encode(
        {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": [block]}]}
    )
    with pytest.raises(ClientError, match="nested too deeply"):
        anthropic.decode(body)


def test_images_are_noticed_wherever_they_stand() -> None:
    assert request([IMAGE]).has_images
    assert request([result([IMAGE])]).has_images
    assert not request([TEXT]).has_images
