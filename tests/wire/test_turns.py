"""Folding and pairing: what chat templates demand, without moving bytes in a prompt's head."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.facts import EngineFacts, ModelFacts
from homeport.wire.events import Image, Request, Text, Thinking, ToolCall, ToolResult, Turn
from homeport.wire.openai_chat_upstream import encode
from homeport.wire.turns import NO_RESULT, fold_system_turns, keep_system_turns, pair_tool_results


def user(*parts: str | ToolResult | Image) -> Turn:
    return Turn("user", tuple(Text(part) if isinstance(part, str) else part for part in parts))


def system(text: str) -> Turn:
    return Turn("system", (Text(text),))


def assistant(*parts: str | ToolCall) -> Turn:
    return Turn("assistant", tuple(Text(part) if isinstance(part, str) else part for part in parts))


def call(id_: str) -> ToolCall:
    return ToolCall(id_, "f", "{}")


def result(id_: str, *texts: str) -> ToolResult:
    return ToolResult(id_, tuple(map(Text, texts)))


def note(text: str) -> str:
    return f"<system>\n{text}\n</system>"


KEEPS = EngineFacts(system_inside=True)
MODES = pytest.mark.parametrize("engine", [EngineFacts(), KEEPS], ids=["folded", "kept"])


def messages(*turns: Turn, engine: EngineFacts = EngineFacts()) -> list[dict[str, Any]]:  # noqa: B008
    body = encode(Request(model="m", turns=turns), engine, ModelFacts(name="m"))
    listed: list[dict[str, Any]] = json.loads(body)["messages"]
    return listed


HEAD = system("You are.")
STUB = ToolResult("a", (Text(NO_RESULT),), is_error=True)


@pytest.mark.row('3.1 role: "system" inside')
@pytest.mark.parametrize(
    ("turns", "folded"),
    [
        ([HEAD, user("q")], [HEAD, user("q")]),
        # 1. behind a user turn: appended to it, or inside its last tool result
        ([HEAD, user("q"), system("s")], [HEAD, user("q", note("s"))]),
        ([HEAD, user("q"), system("s"), system("t")], [HEAD, user("q", note("s"), note("t"))]),
        ([user("q"), system("s"), assistant("a")], [user("q", note("s")), assistant("a")]),
        (
            [HEAD, assistant(call("a")), user(result("a", "r")), system("s")],
            [HEAD, assistant(call("a")), user(result("a", "r", note("s")))],
        ),
        (
            [HEAD, assistant(call("a")), user(result("a", "r"), "t"), system("s")],
            [HEAD, assistant(call("a")), user(result("a", "r"), "t", note("s"))],
        ),
        # 2. between an assistant and a user turn: in front of the text, never between call and result
        ([HEAD, assistant("a"), system("s"), user("q")], [HEAD, assistant("a"), user(note("s"), "q")]),
        (
            [HEAD, assistant(call("a")), system("s"), user(result("a", "r"))],
            [HEAD, assistant(call("a")), user(result("a", "r", note("s")))],
        ),
        ([HEAD, system("s"), user("q")], [HEAD, user(note("s"), "q")]),
        # 3. between two assistant turns and at the end: a turn of its own, in place
        (
            [HEAD, user("q"), assistant("a"), system("s"), assistant("b"), user("r")],
            [HEAD, user("q"), assistant("a"), user(note("s")), assistant("b"), user("r")],
        ),
        ([HEAD, assistant("a"), system("s")], [HEAD, assistant("a"), user(note("s"))]),
        ([HEAD, system(""), user("q")], [HEAD, user("q")]),
    ],
)  # fmt: skip
def test_folding(turns: list[Turn], folded: list[Turn]) -> None:
    assert list(fold_system_turns(tuple(turns))) == folded


@pytest.mark.row('3.1 role: "system" inside')
@pytest.mark.parametrize(
    ("turns", "kept"),
    [
        ([HEAD, user("q"), system("s")], [HEAD, user("q"), system("s")]),
        (
            [HEAD, user("q"), system("s"), system("t"), assistant("a"), system("u"), user("r")],
            [HEAD, user("q"), system("s"), system("t"), assistant("a"), system("u"), user("r")],
        ),
        # never between a call and its results
        (
            [HEAD, assistant(call("a")), system("s"), user(result("a", "r")), assistant("b")],
            [HEAD, assistant(call("a")), user(result("a", "r")), system("s"), assistant("b")],
        ),
        (
            [assistant(call("a"), call("b")), system("s"), user(result("a")), user(result("b"), "q")],
            [assistant(call("a"), call("b")), user(result("a")), user(result("b"), "q"), system("s")],
        ),
        (
            [assistant(call("a"), call("b")), user(result("a")), system("s"), user(result("b"))],
            [assistant(call("a"), call("b")), user(result("a")), user(result("b")), system("s")],
        ),
        # a call without a result holds nothing up for longer than until the assistant speaks again
        (
            [assistant(call("a")), system("s"), user("q"), assistant("b"), system("t"), user("r")],
            [assistant(call("a")), user("q"), system("s"), assistant("b"), system("t"), user("r")],
        ),
        ([assistant(call("a")), system("s")], [assistant(call("a")), system("s")]),
    ],
)  # fmt: skip
def test_keeping(turns: list[Turn], kept: list[Turn]) -> None:
    assert list(keep_system_turns(tuple(turns))) == kept


@pytest.mark.row('3.1 role: "system" inside')
def test_a_kept_system_turn_is_a_message_of_its_own() -> None:
    turns = [HEAD, user("q"), system("s"), assistant(call("a")), system("t"), system(""), user("r")]
    assert [(m["role"], m["content"]) for m in messages(*turns, engine=KEEPS)] == [
        ("system", "You are."),
        ("user", "q"),
        ("system", "s"),
        ("assistant", ""),
        ("tool", f"Error: {NO_RESULT}"),
        ("user", "r"),
        ("system", "t"),
    ]


@pytest.mark.row("3.1 result without call, call without result")
@pytest.mark.parametrize(
    ("turns", "paired"),
    [
        (
            [assistant(call("a")), user(result("a", "r"))],
            [assistant(call("a")), user(result("a", "r"))],
        ),
        # a missing result is stubbed: in front of the text, behind the other results, at the very end
        ([assistant(call("a")), user("q")], [assistant(call("a")), user(STUB, "q")]),
        (
            [assistant(call("b"), call("a")), user(result("b"), "q")],
            [assistant(call("b"), call("a")), user(result("b"), STUB, "q")],
        ),
        ([assistant(call("a"))], [assistant(call("a")), user(STUB)]),
        ([assistant(call("a")), assistant("b")], [assistant(call("a")), user(STUB), assistant("b")]),
        # results in user turns of their own are no orphans
        (
            [assistant(call("b"), call("c")), user(result("b")), user(result("c"))],
            [assistant(call("b"), call("c")), user(result("b")), user(result("c"))],
        ),
        (
            [assistant(call("b"), call("a")), user("x"), user(result("b")), user("y")],
            [assistant(call("b"), call("a")), user("x"), user(result("b"), STUB), user("y")],
        ),
        # orphans become text
        ([user(result("x", "late"))], [user("late")]),
        ([user(result("x"))], [user("[an empty tool result]")]),
        (
            [assistant(call("a")), user(result("a", "r"), result("a", "again"))],
            [assistant(call("a")), user(result("a", "r"), "again")],
        ),
    ],
)  # fmt: skip
def test_pairing(turns: list[Turn], paired: list[Turn]) -> None:
    assert list(pair_tool_results(tuple(turns))) == paired


# --------------------------------------------------------------------------- properties

ids = st.sampled_from(["a", "b", "c"])
words = st.sampled_from(["x", "yy", "", "Error: z"])
user_parts = st.lists(
    st.builds(Text, words)
    | st.builds(ToolResult, ids, st.tuples(st.builds(Text, words)), st.booleans())
    | st.builds(ToolResult, ids, st.just((Image("data:image/png;base64,AA"),))),
    max_size=3,
).map(tuple)
assistant_parts = st.lists(
    st.builds(Text, words) | st.builds(Thinking, words) | st.builds(ToolCall, ids, st.just("f"), words),
    max_size=3,
    unique_by=lambda part: part.id if isinstance(part, ToolCall) else object(),
).map(tuple)  # fmt: skip
turn = st.one_of(
    st.builds(Turn, st.just("user"), user_parts),
    st.builds(Turn, st.just("assistant"), assistant_parts),
    st.builds(Turn, st.just("system"), st.tuples(st.builds(Text, words))),
)
conversations = st.lists(turn, min_size=1, max_size=9).map(lambda turns: (HEAD, *turns))


@MODES
@settings(max_examples=150, deadline=None)
@given(turns=conversations)
def test_every_call_is_answered_right_behind_and_every_result_has_its_call(
    turns: tuple[Turn, ...], engine: EngineFacts
) -> None:
    open_calls: list[str] = []
    for message in messages(*turns, engine=engine):
        if message["role"] == "tool":
            assert message["tool_call_id"] in open_calls
            open_calls.remove(message["tool_call_id"])
        elif message["role"] == "assistant":
            assert open_calls == []
            open_calls = [call["id"] for call in message.get("tool_calls", [])]
        elif message["role"] == "system":
            assert open_calls == []
    assert open_calls == []


@MODES
@settings(max_examples=150, deadline=None)
@given(turns=conversations)
def test_nothing_is_lost_or_hoisted(turns: tuple[Turn, ...], engine: EngineFacts) -> None:
    marked = tuple(
        Turn(
            t.role, tuple(Text(f"<{i}>") if isinstance(p, Text) and p.text else p for p in t.parts)
        )
        for i, t in enumerate(turns)
    )
    sent = messages(*marked, engine=engine)
    said = sum(one.role == "system" and one.parts != (Text(""),) for one in marked)
    roles = [message["role"] for message in sent]
    assert roles.count("system") == (said if engine.system_inside else 1)
    assert sent[0]["content"] == "<0>"
    text = json.dumps(sent)
    for i, one in enumerate(marked):
        wanted = sum(isinstance(part, Text) and part.text != "" for part in one.parts)
        assert text.count(f"<{i}>") == wanted
    places = [text.index(f"<{i}>") for i in range(len(marked)) if f"<{i}>" in text]
    if not any(isinstance(p, ToolResult | ToolCall) for one in marked for p in one.parts):
        # In order, but for a note behind a call: it stands inside the next result, or behind it.
        assert places == sorted(places), roles


def closed(turns: tuple[Turn, ...], engine: EngineFacts) -> bool:
    """Whether an engine would be asked at this point: the model is to speak next, and has not begun
    to (an empty system turn says nothing)."""
    return bool(messages(*turns, engine=engine)[-1]["role"] != "assistant")


@MODES
@settings(max_examples=120, deadline=None)
@given(turns=conversations, more=conversations, answer=assistant_parts)
def test_a_growing_conversation_only_grows(
    turns: tuple[Turn, ...],
    more: tuple[Turn, ...],
    answer: tuple[Any, ...],
    engine: EngineFacts,
) -> None:
    """The engine's KV cache lives from this: what was sent before the model's answer is sent again,
    the same, before the next one."""
    if not closed(turns, engine):
        turns = (*turns, user("go on"))
    before = messages(*turns, engine=engine)
    after = messages(*turns, Turn("assistant", answer), *more[1:], engine=engine)
    assert after[: len(before)] == before


@MODES
def test_a_system_turn_that_came_last_stays_where_it_was(engine: EngineFacts) -> None:
    turns = (HEAD, user("q"), assistant(call("a")), user(result("a", "r")), system("s"))
    before = messages(*turns, engine=engine)
    after = messages(*turns, assistant("b"), user("c"), system("t"), engine=engine)
    assert after[: len(before)] == before


def test_what_folding_cannot_keep_stable() -> None:
    """A turn that a client inserts behind a user turn that was already sent, with no answer between:
    the note belongs into that turn, which therefore changes. Its head does not."""
    [_, before] = messages(HEAD, user("q"))
    [_, after] = messages(HEAD, user("q"), system("s"))
    assert after["content"] == f"{before['content']}\n{note('s')}"
    [*_, kept, _] = messages(HEAD, user("q"), system("s"), engine=KEEPS)
    assert kept == before, "nothing has to change where it may be kept"


@MODES
@settings(max_examples=120, deadline=None)
@given(turns=conversations)
def test_the_same_turns_give_the_same_bytes(turns: tuple[Turn, ...], engine: EngineFacts) -> None:
    copy = tuple(Turn(t.role, tuple(t.parts)) for t in turns)
    assert messages(*turns, engine=engine) == messages(*copy, engine=engine)
