"""Tools of Responses clients: which the model sees, and what may be chosen (docs/dialects.md 3.7)."""

import json
from typing import Any

import pytest

from homeport.errors import ClientError
from homeport.wire.events import Request, SearchWish, ToolChoice
from homeport.wire.openai_responses import decode, entries_of, neutral
from homeport.wire.openai_responses_tools import Callee
from tests.wire.responses_support import HELLO, SEARCH, F, G, decoded, refusal, request


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
