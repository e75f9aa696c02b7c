"""The prefix guardian over a recorded conversation of Claude Code: where a prompt leaves the one
before, ``x-homeport-prefix`` names the first block that broke.

What clients change between two requests without meaning to is made the same again by the translation.
So those breaks are planted twice: with that rule switched off, where the guardian has to name the right
block, and as it is, where there is nothing to name.
"""

import copy
import json
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any

import msgspec
import pytest

from homeport.engines import llamacpp
from homeport.facts import ModelFacts
from homeport.wire import anthropic, anthropic_blocks, anthropic_tools, openai_chat_upstream, turns
from homeport.wire.events import Part, Text
from tests.server.fakes import READY, Plan, World, whole
from tests.support.asgi import ask
from tests.wire.cases import CASES
from tests.wire.mutations import Code, Entry, Mutation

Body = dict[str, Any]
RECORDED = CASES / "requests" / "claude-code"
SESSION = {"x-claude-code-session-id": "s-1"}


def conversation(name: str, *lengths: int) -> list[Body]:
    """A recorded request, and what the client had sent when it had fewer messages."""
    body = json.loads((RECORDED / f"{name}.json").read_bytes())
    made = [{**body, "stream": False, "messages": body["messages"][:n]} for n in lengths]
    return [copy.deepcopy(one) for one in made]


def bash() -> list[Body]:
    """Two requests: the second has one more call and its result."""
    first, second = conversation("compact_cmd_02", 4, 6)
    assert [m["role"] for m in second["messages"]] == [
        "user",
        "system",
        "assistant",
        "user",
        "assistant",
        "user",
    ]
    return [first, second]


async def headers_of(requests: Iterable[bytes]) -> list[str | None]:
    """What the guardian says of each request of one session."""
    world, found = World(), []
    facts = ModelFacts(name="inner", context_tokens=200_000)
    world.instance.endpoint = msgspec.structs.replace(READY, engine=llamacpp.FACTS, model=facts)
    for body in requests:
        world.client.plans = [Plan(pieces=[whole("ok")])]
        answer = await ask(world, "POST", "/v1/messages", body, SESSION)
        assert await answer.status() == 200, await answer.body()
        found.append(answer.headers.get("x-homeport-prefix"))
    world.assert_tidy()
    return found


def compact(body: Body) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


# --------------------------------------------------------------------------- what clients change

Change = Callable[[Body, Body], None]
"""Of the first and the second request."""


def billing(first: Body, second: Body) -> None:
    """Older clients put a hash there that changes with every request."""
    assert second["system"][0]["text"].startswith(anthropic.BILLING_MARK)
    second["system"][0]["text"] += " cch=9f3c1;"


def late_note(first: Body, second: Body) -> None:
    """A system turn in the middle of the conversation."""
    second["messages"].append({"role": "system", "content": "The date has changed."})


def block_then_string(first: Body, second: Body) -> None:
    """A system turn comes as a block first, and later as a string of the same text."""
    text = second["messages"][1]["content"]
    first["messages"][1]["content"] = [{"type": "text", "text": text}]


def wrapped_call(first: Body, second: Body) -> None:
    """A call that was no JSON is replayed as text at first, later in Claude Code's wrapping."""
    first["messages"][2]["content"][-1]["input"] = "<tool>"
    raw = {"__unparsedToolInput": {"raw": "<tool>", "len": 6}}
    second["messages"][2]["content"][-1]["input"] = raw


def empty_block(first: Body, second: Body) -> None:
    second["messages"][0]["content"].insert(0, {"type": "text", "text": ""})


def pruned_thinking(first: Body, second: Body) -> None:
    """Blocks that only Anthropic can read come and go."""
    block = {"type": "redacted_thinking", "data": "x"}
    first["messages"][2]["content"].insert(0, block)


def moved_cache_marks(first: Body, second: Body) -> None:
    first["messages"][-1]["content"][-1]["cache_control"] = {"type": "ephemeral"}
    second["messages"][-1]["content"][-1]["cache_control"] = {"type": "ephemeral"}


def nothing(first: Body, second: Body) -> None:
    pass


def redacted(*_: object) -> tuple[Part, ...]:
    return (Text("[redacted]"),)


IN_PLACE_TURNS = "in_place(turns)"
HOISTED = (
    '(Turn("system", sum((t.parts for t in turns if t.role == "system"), ())), '
    '*(t for t in turns if t.role != "system"))'
)
ARGUMENTS = "msgspec.json.format(bytes(raw).decode(), indent=-1)"
A_STRING = "return (Text(content),) if content else ()"

Written = Callable[[Body], bytes]


def indented(body: Body) -> bytes:
    return json.dumps(body, indent=1).encode()


NATURAL: list[tuple[Change, Written, Mutation, str]] = [
    (
        billing,
        compact,
        Code(anthropic._system, ".startswith(BILLING_MARK)", '.startswith("\\0")'),
        "messages.0 (system)",
    ),
    (
        late_note,
        compact,
        Code(openai_chat_upstream._messages, IN_PLACE_TURNS, HOISTED),
        "messages.0 (system)",
    ),
    (
        block_then_string,
        compact,
        Code(
            anthropic_blocks.parts_of,
            A_STRING,
            'return (Text(f"{content}\\n"),) if content else ()',
        ),
        "messages.1 (user)",
    ),
    (
        nothing,
        indented,
        Code(anthropic_blocks._arguments, ARGUMENTS, "bytes(raw).decode()"),
        "messages.2",
    ),
    (
        nothing,
        indented,
        Code(openai_chat_upstream.schema_for, "if engine.schema_bounds:", "if True:"),
        "tools.0 (Agent)",
    ),
    (
        wrapped_call,
        compact,
        Code(anthropic_blocks._arguments, "'{\"__unparsedToolInput\":', ", ""),
        "messages.2 (assistant)",
    ),
    (empty_block, compact, Code(turns.text_of, " and part.text", ""), "messages.1 (user)"),
    (
        pruned_thinking,
        compact,
        Entry(anthropic_blocks.BLOCKS, "redacted_thinking", redacted),
        "messages.2 (assistant)",
    ),
]


@pytest.mark.parametrize("is_off", [True, False], ids=["rule off", "as it is"])
@pytest.mark.parametrize(
    ("change", "written", "rule", "block"), NATURAL, ids=[f"{i}" for i in range(1, 9)]
)
async def test_what_the_translation_makes_the_same_again(
    change: Change, written: Written, rule: Mutation, block: str, is_off: bool
) -> None:
    first, second = bash()
    change(first, second)
    with rule.applied() if is_off else nullcontext():
        found = await headers_of([compact(first), written(second)])
    assert found[0] is None, "the first request has none before it"
    assert found[1] is not None
    if is_off:
        assert found[1].startswith(f"broken at {block}")
        assert "tokens lost" in found[1]
    else:
        assert found[1] == "kept"


async def test_a_conversation_that_only_grows_is_kept() -> None:
    bodies = conversation("compact_cmd_02", 2, 4, 6, 8)
    assert await headers_of(map(compact, bodies)) == [None, "kept", "kept", "kept"]


async def test_marks_of_the_cache_may_move() -> None:
    first, second = bash()
    moved_cache_marks(first, second)
    assert await headers_of([compact(first), compact(second)]) == [None, "kept"]


# --------------------------------------------------------------------------- tools that come up


def by_search() -> list[Body]:
    """Recorded: after a search the tools that it found stand in the middle of the client's list."""
    return conversation("toolsearch_03", 2, 4)


def by_addition() -> list[Body]:
    first, second = conversation("toolsearch_03", 2, 2)
    tool = {"type": "tool_reference", "name": "WebFetch"}
    second["messages"].append(
        {"role": "system", "content": [{"type": "tool_addition", "tool": tool}]}
    )
    return [first, second]


IN_PLACE = Code(
    anthropic_tools.tools_of,
    "return tuple(shown.values())",
    "return tuple(known[name] for name in known if name in shown)",
)


@pytest.mark.parametrize("is_off", [True, False], ids=["rule off", "as it is"])
@pytest.mark.parametrize(
    ("requests", "in_place"),
    [(by_search, "tools.4 (Monitor)"), (by_addition, "tools.9 (WebFetch)")],
)
async def test_a_tool_that_comes_up_breaks_the_list_where_it_is_put(
    requests: Callable[[], list[Body]], in_place: str, is_off: bool
) -> None:
    """A longer list of tools cannot be hidden, as it stands in front of all messages. At its end it
    leaves the eleven other tools in the cache; where the client has it, it does not."""
    first, second = requests()
    with IN_PLACE.applied() if is_off else nullcontext():
        _, found = await headers_of([compact(first), compact(second)])
    assert found is not None
    assert found.startswith(f"broken at {in_place if is_off else 'tools.11 (WebFetch)'};")


# --------------------------------------------------------------------------- what nobody can mend


def time_in_system(second: Body) -> None:
    second["system"][-1]["text"] += "\nIt is 10:01."


def edited_prompt(second: Body) -> None:
    second["messages"][0]["content"][-1]["text"] += "!"


def edited_call(second: Body) -> None:
    second["messages"][2]["content"][-1]["input"]["command"] = "ls"


def shortened_result(second: Body) -> None:
    second["messages"][3]["content"] = [{**second["messages"][3]["content"][0], "content": "…"}]


def swapped_tools(second: Body) -> None:
    second["tools"][1:3] = second["tools"][2:0:-1]


def missing_tool(second: Body) -> None:
    del second["tools"][2]


@pytest.mark.parametrize(
    ("change", "block"),
    [
        (time_in_system, "messages.0 (system)"),
        (edited_prompt, "messages.1 (user)"),
        (edited_call, "messages.2 (assistant)"),
        (shortened_result, "messages.3 (tool)"),
        (swapped_tools, "tools.1 ({2})"),
        (missing_tool, "tools.2 ({3})"),
    ],
)
async def test_what_a_client_really_changes_is_named(
    change: Callable[[Body], None], block: str
) -> None:
    first, second = bash()
    names = [tool["name"] for tool in first["tools"]]
    change(second)
    _, found = await headers_of([compact(first), compact(second)])
    assert found is not None
    assert found.startswith(f"broken at {block.format(*names)};")
