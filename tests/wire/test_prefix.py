"""The prefix guardian names the first block that breaks a conversation's prefix."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.wire.prefix import blocks_of, divergence


def body(*texts: str, tools: tuple[str, ...] = ("Bash", "Read")) -> bytes:
    roles = ["system", *["user", "assistant"] * len(texts)]
    messages = [{"role": r, "content": t} for r, t in zip(roles, texts, strict=False)]
    declared = [{"type": "function", "function": {"name": name}} for name in tools]
    return json.dumps({"model": "m", "tools": declared, "messages": messages}).encode()


def test_a_growing_conversation_diverges_nowhere() -> None:
    before, now = body("be kind", "hi"), body("be kind", "hi", "hello", "more")
    assert divergence(blocks_of(before), blocks_of(now)) is None


def test_going_back_some_turns_is_no_divergence() -> None:
    before, now = body("s", "a", "b", "c", "d"), body("s", "a")
    assert divergence(blocks_of(before), blocks_of(now)) is None


def test_a_rewritten_last_turn_is_a_retry() -> None:
    before, now = body("s", "a", "b", "question"), body("s", "a", "b", "question again")
    assert divergence(blocks_of(before), blocks_of(now)) is None


@pytest.mark.parametrize(
    ("before", "now", "block"),
    [
        (body("at 10:00", "a", "b"), body("at 10:01", "a", "b", "c"), "messages.0 (system)"),
        (body("s", "a", "b", "c"), body("s", "A", "b", "c", "d"), "messages.1 (user)"),
        (body("s", "a", "b", "c"), body("s", "a", "B", "c", "d"), "messages.2 (assistant)"),
        (
            body("s", "a", tools=("Bash", "Read")),
            body("s", "a", "b", tools=("Bash", "Web", "Read")),
            "tools.1 (Web)",
        ),
        (
            body("s", "a", tools=("Bash", "Read")),
            body("s", "a", "b", tools=("Read", "Bash")),
            "tools.0 (Read)",
        ),
    ],
)
def test_the_first_changed_block_is_named(before: bytes, now: bytes, block: str) -> None:
    found = divergence(blocks_of(before), blocks_of(now))
    assert found is not None
    assert found.block == block


def response(*texts: str, instructions: str = "be kind", tool: str = "Bash") -> bytes:
    items = [
        {"type": "message", "role": "user", "content": text}
        if i % 2 == 0
        else {"type": "function_call", "call_id": "c", "name": tool, "arguments": text}
        for i, text in enumerate(texts)
    ]
    tools = [{"type": "function", "name": tool}]
    return json.dumps({"tools": tools, "instructions": instructions, "input": items}).encode()


@pytest.mark.parametrize(
    ("before", "now", "block"),
    [
        (response("a", "b", "c"), response("a", "b", "c", "d"), None),
        (response("a", "b", "c"), response("A", "b", "c"), "input.0 (user)"),
        (response("a", "b", "c"), response("a", "B", "c", "d"), "input.1 (function_call)"),
        (response("a"), response("a", instructions="be brief"), "instructions"),
        (response("a"), response("a", tool="Read"), "tools.0 (Read)"),
        (b'{"system":"s","messages":[]}', b'{"system":"t","messages":[{}]}', "system"),
        (b'{"tools":null,"input":"a"}', b'{"tools":[{"name":null}],"input":[{"type":null}]}', None),
        (b'{"tools":null,"messages":null}', b'{"messages":[{"role":null}],"input":null}', None),
    ],
)
def test_other_dialects_have_blocks_too(before: bytes, now: bytes, block: str | None) -> None:
    found = divergence(blocks_of(before), blocks_of(now))
    assert (found.block if found else None) == block


def test_what_is_lost_and_kept_adds_up_to_the_old_prompt() -> None:
    old = blocks_of(body("s" * 400, "a" * 4000, "b" * 800))
    found = divergence(old, blocks_of(body("s" * 400, "x" * 4000, "b" * 800)))
    assert found is not None
    total = sum(block.size_bytes for block in old) // 4
    assert abs(found.lost_tokens + found.kept_tokens - total) <= 1
    assert found.lost_tokens > 1200


texts = st.lists(st.text(max_size=20), min_size=2, max_size=8)


@given(texts, st.data())
def test_a_planted_change_is_found_where_it_was_planted(turns: list[str], data: Any) -> None:
    place = data.draw(st.integers(0, len(turns) - 2))
    changed = [t + "!" if i == place else t for i, t in enumerate(turns)]
    found = divergence(blocks_of(body(*turns)), blocks_of(body(*changed, "next")))
    assert found is not None
    assert found.block.startswith(f"messages.{place} ")
