"""Which tools a model is shown where it is not shown all."""

import json
from typing import Any

import pytest

from homeport.wire.events import Request, Text, Tool, ToolCall, ToolChoice, ToolResult, Turn
from homeport.wire.slimming import FIND, MAX_FOUND, find, is_slimmed, slimmed, told

TOOLS = tuple(
    Tool(name, b"{}", description)
    for name, description in [
        ("read_file", "Reads a file."),
        ("sendEmail", "Sends a mail to somebody."),
        ("weather", "Tells the weather of a city."),
        ("list_files", "Lists the files of a folder."),
        ("play_music", None),
    ]
)


def request(text: str = "Read my files", *turns: Turn, **fields: Any) -> Request:
    first = Turn("user", (Text(text),))
    return Request(model="m", turns=(first, *turns), tools=TOOLS, **fields)


def called(name: str) -> tuple[Turn, Turn]:
    call = Turn("assistant", (ToolCall("c", name, "{}"),))
    return call, Turn("user", (ToolResult("c"), Text("Now play music and send an email")))


def names(shown: Request) -> list[str]:
    return [tool.name for tool in shown.tools]


@pytest.mark.row("3.12 more tools than max_tools")
def test_only_too_many_are_slimmed() -> None:
    assert not is_slimmed(request(), None)
    assert not is_slimmed(request(), 5)
    assert is_slimmed(request(), 4)
    own = Request(model="m", turns=(), tools=(*TOOLS, FIND))
    assert not is_slimmed(own, 2)


@pytest.mark.row("3.12 which ones")
def test_the_best_are_shown_in_the_clients_order() -> None:
    assert names(slimmed(request(), 2)) == ["find_tools", "read_file", "list_files"]
    assert names(slimmed(request("Send Emails"), 1)) == ["find_tools", "sendEmail"]
    assert names(slimmed(request("xyzzy"), 2)) == ["find_tools", "read_file", "sendEmail"]


@pytest.mark.row("3.12 which ones")
@pytest.mark.parametrize(
    ("text", "better", "worse"),
    [
        ("The user's name", Tool("getUserName", b"{}"), Tool("get_all", b"{}", "By name.")),
        ("Plays some music", Tool("music", b"{}"), Tool("radio", b"{}", "Plays some jingle.")),
        ("A file", Tool("read_files", b"{}"), Tool("read_url", b"{}", "A page.")),
    ],
    ids=["humps", "names count more", "plurals"],
)
def test_what_fits_better(text: str, better: Tool, worse: Tool) -> None:
    asked = Request(model="m", turns=(Turn("user", (Text(text),)),), tools=(worse, better))
    assert names(slimmed(asked, 1)) == ["find_tools", better.name]


@pytest.mark.row("3.12 which … called before")
def test_the_list_only_grows_with_the_conversation() -> None:
    before = names(slimmed(request(), 2))
    after = request("Read my files", *called("weather"))
    assert names(slimmed(after, 2)) == [*before, "weather"]
    later = request("Read my files", *called("weather"), *called("read_file"), *called("gone"))
    assert names(slimmed(later, 2)) == [*before, "weather"]


@pytest.mark.row("3.12 which … that must be called, or were found")
def test_what_must_be_called_and_what_was_found_stand_at_the_end() -> None:
    wanted = request(tool_choice=ToolChoice("named", "play_music"))
    shown = slimmed(wanted, 1, found=("weather", "read_file"))
    assert names(shown) == ["find_tools", "read_file", "play_music", "weather"]
    assert shown.tools[1] is TOOLS[0]


@pytest.mark.row("3.12 a call of find_tools")
@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ('{"query":"weather in a city"}', ("weather",)),
        ('{"query":"file"}', ("read_file", "list_files")),
        ('{"query":"xyzzy"}', ()),
        ('{"query":3}', ()),
        ("{}", ()),
        ("[", ()),
        ("[1]", ()),
    ],
)
def test_finding(arguments: str, found: tuple[str, ...]) -> None:
    assert find(request(), ToolCall("c", "find_tools", arguments)) == found


@pytest.mark.row("3.12 a call of find_tools")
def test_at_most_so_many_are_found() -> None:
    many = tuple(Tool(f"file_{i}", b"{}") for i in range(20))
    call = ToolCall("c", "find_tools", '{"query":"file"}')
    assert len(find(Request(model="m", turns=(), tools=many), call)) == MAX_FOUND


def test_what_the_model_reads() -> None:
    assert told(("a", "b")) == "These tools can be called now: a, b"
    assert told(()).startswith("No tool fits")
    assert json.loads(FIND.schema)["required"] == ["query"]
