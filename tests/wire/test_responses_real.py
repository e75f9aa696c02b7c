"""Requests of real Responses clients: nothing of them is lost, and their heads stay as they are."""

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from homeport.engines import llamacpp, mlx, vllm
from homeport.facts import EngineFacts
from homeport.wire import openai_chat_upstream
from homeport.wire.openai_responses import decode, entries_of, neutral
from tests.wire.cases import CASES
from tests.wire.responses_support import MODEL

MLX = replace(mlx.FACTS, ignores=frozenset())  # what is refused is in test_ignored.py
FACTS = [llamacpp.FACTS, vllm.FACTS, MLX]
REQUESTS = sorted((CASES / "responses").glob("*/*.json"))


def name_of(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


@pytest.mark.parametrize("engine", FACTS, ids=lambda facts: facts.engine)
@pytest.mark.parametrize("path", REQUESTS, ids=name_of)
def test_real_requests_lose_nothing(path: Path, engine: EngineFacts) -> None:
    body = json.loads(path.read_text())
    wire = decode(path.read_bytes())
    found = neutral(wire, entries_of(wire, lambda item_id: None))
    sent = json.loads(openai_chat_upstream.encode(found.request, engine, MODEL))
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
        sent.append(openai_chat_upstream.encode(found.request, FACTS[0], MODEL))
    heads = [body.index(b'"messages"') for body in sent]
    messages = [json.loads(body)["messages"] for body in sent]
    assert heads[0] == heads[1]
    assert messages[1][: len(messages[0])] == messages[0]
    assert json.loads(sent[0])["tools"] == json.loads(sent[1])["tools"]
