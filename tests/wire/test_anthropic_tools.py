"""The tools of Anthropic requests: typed ones, changes in mid-conversation, how they are sent and
chosen, and the official SDK's own list of blocks and tools, none of which may be without an answer."""

import json
import typing
from collections.abc import Iterator
from typing import Any

import anthropic.types as stable
import anthropic.types.beta as beta
import pytest

from homeport.engines import llamacpp, mlx, vllm
from homeport.wire import anthropic, openai_chat_upstream
from homeport.wire.anthropic_blocks import BLOCKS, REFUSED
from homeport.wire.anthropic_tools import SERVER_TOOLS
from homeport.wire.client_tools import CLIENT_TOOLS, NO_SCREEN
from tests.wire.anthropic_support import MODEL, SCHEMA, TEXT, TOOL, refused, result, sent


def tool(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "input_schema": SCHEMA, **fields}


def names(body: dict[str, Any]) -> list[str]:
    return [t["function"]["name"] for t in body.get("tools", [])]


# --------------------------------------------------------------------------- typed by Anthropic


@pytest.mark.row("3.1 tools, typed, run by the client: bash_…, text_editor_…, memory_…")
@pytest.mark.parametrize("kind", CLIENT_TOOLS)
def test_typed_client_tools_get_a_schema_and_a_description(kind: str) -> None:
    [made] = sent(tools=[{"type": kind, "name": CLIENT_TOOLS[kind].name}])["tools"]
    function = made["function"]
    assert function["name"] == CLIENT_TOOLS[kind].name
    assert len(function["description"]) > 50
    schema = function["parameters"]
    assert schema["type"] == "object"
    assert set(schema["required"]) <= set(schema["properties"])
    for field in schema["properties"].values():
        assert field["type"] in ("string", "integer", "boolean", "array")
        assert field["description"]


def properties(kind: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(CLIENT_TOOLS[kind].schema)["properties"]
    return found


def test_what_each_typed_tool_takes() -> None:
    assert list(properties("bash_20250124")) == ["command", "restart"]
    old, new = properties("text_editor_20250124"), properties("text_editor_20250728")
    assert "undo_edit" in old["command"]["enum"]
    assert "insert_text" not in old
    assert new["command"]["enum"] == ["view", "create", "str_replace", "insert"]
    assert "insert_text" in new
    commands = ["view", "create", "str_replace", "insert", "delete", "rename"]
    assert properties("memory_20250818")["command"]["enum"] == commands


def test_the_memory_schema_has_the_sdks_own_fields() -> None:
    commands = [
        getattr(beta, name)
        for name in dir(beta)
        if name.startswith("BetaMemoryTool20250818") and name.endswith("Command")
    ]
    fields = {f for c in commands if hasattr(c, "model_fields") for f in c.model_fields}
    assert fields == set(properties("memory_20250818"))


@pytest.mark.row("3.1 tools, typed, run by the client: bash_…, text_editor_…, memory_…")
def test_the_name_of_a_typed_tool_may_be_left_out() -> None:
    assert names(sent(tools=[{"type": "bash_20250124"}])) == ["bash"]


@pytest.mark.row("3.1 tools … computer_…, browser_…")
@pytest.mark.parametrize(
    "kind", ["computer_20251124", "computer_toolset_20260801", "browser_toolset_20260801"]
)
def test_tools_for_a_screen_are_refused_by_name(kind: str) -> None:
    fault = refused(tools=[{"type": kind, "name": "computer"}])
    assert fault.param == "tools.0.type"
    assert f"'{kind}'" in fault.message
    assert "no local model is known to be trained" in fault.message


# --------------------------------------------------------------------------- the official SDK's list


def members(union: Any) -> Iterator[Any]:
    """The typed dictionaries in a union, however deep."""
    if hasattr(union, "__required_keys__"):  # a TypedDict, whichever module it is from
        yield union
    for member in typing.get_args(union):
        yield from members(member)


def kinds(shape: Any) -> set[str]:
    hint = typing.get_type_hints(shape).get("type")
    return {value for value in typing.get_args(hint) if isinstance(value, str)}


def contents(message: Any) -> Iterator[Any]:
    """All block shapes that a message may hold, those inside tool results included."""
    for shape in members(typing.get_type_hints(message)["content"]):
        yield shape
        if kinds(shape) == {"tool_result"}:
            yield from members(typing.get_type_hints(shape)["content"])


MESSAGES = [*members(stable.MessageParam), *members(beta.BetaMessageParam)]
BLOCK_KINDS = sorted(
    {k for message in MESSAGES for shape in contents(message) for k in kinds(shape)}
)
TOOL_KINDS = sorted(
    {
        kind
        for union in (stable.ToolUnionParam, beta.BetaToolUnionParam)
        for shape in members(union)
        for kind in kinds(shape)
    }
)


def test_the_walk_sees_what_is_there() -> None:
    assert len(BLOCK_KINDS) >= 25
    assert {"text", "container_upload", "browser_state", "tool_removal"} <= set(BLOCK_KINDS)
    assert len(TOOL_KINDS) >= 25


@pytest.mark.parametrize("kind", BLOCK_KINDS)
def test_every_block_of_the_sdk_is_mapped_or_refused_by_name(kind: str) -> None:
    assert (kind in BLOCKS) != (kind in REFUSED)
    if kind in REFUSED:
        assert f"'{kind}'" in refused([{"type": kind}]).message


@pytest.mark.parametrize("kind", TOOL_KINDS)
def test_every_tool_of_the_sdk_is_mapped_dropped_or_refused_by_name(kind: str) -> None:
    answers = [kind == "custom", kind in CLIENT_TOOLS, kind.startswith(SERVER_TOOLS + NO_SCREEN)]
    assert answers.count(True) == 1


# --------------------------------------------------------------------------- changes


def change(action: str, name: str = "", **fields: Any) -> dict[str, Any]:
    about = fields or {"type": "tool_reference", "name": name}
    return {"role": "system", "content": [{"type": f"tool_{action}", "tool": about}]}


USER = {"role": "user", "content": "q"}
DECLARED = [tool("a"), tool("d1", defer_loading=True), tool("b"), tool("d2", defer_loading=True)]


def after(*turns: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return sent([USER, *turns], **{"tools": DECLARED, **fields})


@pytest.mark.row("3.1 tool_addition, tool_removal")
def test_added_tools_stand_at_the_end_in_order_of_appearance() -> None:
    assert names(after()) == ["a", "b"]
    assert names(after(change("addition", "d2"))) == ["a", "b", "d2"]
    both = after(change("addition", "d2"), change("addition", "d1"), change("addition", "d2"))
    assert names(both) == ["a", "b", "d2", "d1"]
    assert names(after(change("addition", "unknown"))) == ["a", "b"]


@pytest.mark.row("3.1 tool_addition, tool_removal")
def test_removed_tools_are_gone_and_come_back_at_the_end() -> None:
    gone = change("removal", "a")
    assert names(after(gone)) == ["b"]
    assert names(after(gone, change("addition", "a"))) == ["b", "a"]
    assert names(after(change("removal", "unknown"))) == ["a", "b"]


@pytest.mark.row("3.1 tool_addition, tool_removal")
def test_the_text_tells_the_model_of_a_change_where_it_happened() -> None:
    [message] = after(change("addition", "d1"), change("removal", "a"))["messages"]
    assert message["content"] == (
        "q\n<system>\nThe tool d1 can be called now.\n</system>"
        "\n<system>\nThe tool a can no longer be called.\n</system>"
    )


@pytest.mark.row("3.1 tool_addition, tool_removal")
def test_tools_defined_in_mid_conversation() -> None:
    defined = change("addition", type="tool_definition", definition=tool("n"))
    assert names(after(defined)) == ["a", "b", "n"]
    assert names(after(defined, tools=[])) == ["n"]
    again = change("addition", type="tool_definition", definition=tool("a", description="new"))
    body = after(again)
    assert names(body) == ["b", "a"]
    assert body["tools"][1]["function"]["description"] == "new"
    typed = change("addition", type="tool_definition", definition={"type": "bash_20250124"})
    assert names(after(typed)) == ["a", "b", "bash"]


@pytest.mark.row("3.1 tool_addition … of an mcp_* tool")
@pytest.mark.parametrize(
    "about",
    [
        {"type": "mcp_tool_reference", "name": "x", "server_name": "s"},
        {"type": "mcp_toolset_reference", "server_name": "s"},
        {
            "type": "tool_definition",
            "definition": {"type": "web_search_20250305", "name": "web_search"},
        },
    ],
)
def test_changes_of_tools_that_servers_run_are_dropped(about: dict[str, Any]) -> None:
    assert after(change("addition", **about)) == after()


@pytest.mark.row("3.1 defer_loading")
def test_with_the_servers_own_search_gone_deferred_tools_are_shown() -> None:
    search = {"type": "tool_search_tool_bm25_20251119", "name": "tool_search_tool_bm25"}
    assert names(after(tools=[search, *DECLARED])) == ["a", "d1", "b", "d2"]


# --------------------------------------------------------------------------- what is no longer shown


@pytest.mark.row("3.1 system turn with clear_at: next_user_message")
def test_a_system_turn_that_clears_is_shown_for_its_user_turn_only() -> None:
    note = {"role": "system", "content": "note", "clear_at": "next_user_message"}
    answer = {"role": "assistant", "content": "r"}
    assert "note" in after(note)["messages"][-1]["content"]
    assert "note" not in json.dumps(after(note, answer, USER)["messages"])
    kept = {**note, "clear_at": "never"}
    assert "note" in json.dumps(after(kept, answer, USER)["messages"])


@pytest.mark.row("3.1 system turn with clear_at: next_user_message")
def test_a_cleared_system_turn_keeps_what_it_did_to_the_tools() -> None:
    note = {**change("addition", "d1"), "clear_at": "next_user_message"}
    note["content"] = [*note["content"], TEXT]
    body = after(note, {"role": "assistant", "content": "r"}, USER)
    assert names(body) == ["a", "b", "d1"]
    assert "d1" in body["messages"][0]["content"]
    assert "look" not in json.dumps(body["messages"])


@pytest.mark.row("3.1 compaction")
def test_the_conversation_begins_behind_the_last_compaction() -> None:
    def compaction(content: str | None, **fields: Any) -> dict[str, Any]:
        return {"type": "compaction", "content": content, **fields}

    turns = [
        {"role": "assistant", "content": [TEXT, compaction("so far"), {**TEXT, "text": "on"}]},
        {"role": "user", "content": [{**TEXT, "text": "go"}]},
    ]
    body = after(*turns, system="You are.")
    assert [(m["role"], m["content"]) for m in body["messages"]] == [
        ("system", "You are."),
        ("user", "<summary>\nso far\n</summary>"),
        ("assistant", "on"),
        ("user", "go"),
    ]
    assert len(after({"role": "assistant", "content": [compaction(None)]}, USER)["messages"]) == 3
    alone = after({"role": "assistant", "content": [compaction("x")]}, USER)["messages"]
    assert [m["role"] for m in alone] == ["user", "user"]
    added = {"type": "tool_addition", "tool": {"type": "tool_reference", "name": "d1"}}
    block = compaction("x", tool_changes=[added])
    assert names(after({"role": "assistant", "content": [block]}, USER)) == ["a", "b", "d1"]
    wrong = refused([compaction("x", tool_changes=5)])
    assert wrong.param == "messages.0.content.0.tool_changes"
    assert refused([compaction(5)]).param == "messages.0.content.0.content"  # type: ignore[arg-type]


# --------------------------------------------------------------------------- sent, and chosen


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
