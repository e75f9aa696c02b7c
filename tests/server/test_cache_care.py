"""Slots, told by ``x-homeport-slot``: which requests of a session are its conversation's."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from homeport.engines import llamacpp
from homeport.facts import ModelFacts
from tests.server.fakes import READY, Plan, World, whole
from tests.support.asgi import ask

TOOL = {"name": "Bash", "input_schema": {"type": "object"}}
PAGE = "A page that was fetched. " * 2000
MAIN, HAIKU = "claude-sonnet-5", "claude-haiku-4-5-20251001"


class Session:
    """Asks in Anthropic's dialect as Claude Code does; answers the slot that it was given."""

    def __init__(self, slots: int, **world: Any) -> None:
        self.world = World(**world)
        facts = ModelFacts(name="inner", context_tokens=200_000, slots=slots)
        self.world.instance.endpoint = msgspec.structs.replace(
            READY, engine=llamacpp.FACTS, model=facts
        )

    async def ask(
        self, model: str, text: str = "hi", *, tools: bool = False, agent: str = ""
    ) -> str:
        self.world.client.plans = [Plan(pieces=[whole("ok")])]
        turns = [{"role": "user", "content": text}]
        body = {"model": model, "max_tokens": 9, "messages": turns}
        headers = {"x-claude-code-session-id": "s-1"}
        if agent:
            headers["x-claude-code-agent-id"] = agent
        if tools:
            body["tools"] = [TOOL]
        data = json.dumps(body).encode()
        answer = await ask(self.world, "POST", "/v1/messages", data, headers)
        assert await answer.status() == 200, await answer.body()
        slot = answer.headers["x-homeport-slot"]
        assert self.world.client.exchanges[-1].request["id_slot"] == int(slot)
        return slot


async def test_a_long_job_of_the_small_model_keeps_off_the_conversation() -> None:
    session = Session(slots=2)
    assert await session.ask(MAIN, tools=True) == "0"
    assert await session.ask(HAIKU, PAGE) == "1", "a page to be summarised"
    assert await session.ask(HAIKU) == "1", "a title"
    assert await session.ask(MAIN, tools=True) == "0"


async def test_a_long_text_without_tools_by_another_name_is_a_conversation() -> None:
    session = Session(slots=2)
    assert await session.ask(MAIN, PAGE) == "0"
    assert await session.ask(MAIN) == "1", "a title"


async def test_sub_agents_of_the_small_model_are_conversations() -> None:
    session = Session(slots=4)
    assert await session.ask(MAIN, tools=True) == "0"
    assert await session.ask(HAIKU, tools=True, agent="a") == "1"
    assert await session.ask(HAIKU, tools=True, agent="b") == "2"
    assert await session.ask(HAIKU, PAGE) == "3"
    assert await session.ask(HAIKU, tools=True, agent="a") == "1"
    assert await session.ask(MAIN, tools=True) == "0"


async def test_names_may_be_set() -> None:
    session = Session(slots=2, small_models=("tiny",))
    assert await session.ask(HAIKU, PAGE) == "0", "no small model any more"
    assert await session.ask("tiny", PAGE) == "1"
