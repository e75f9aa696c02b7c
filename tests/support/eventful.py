"""A gateway to which all happens that the dashboards show: each of its metrics has something in it.

Two engines of its own, of which one runs at a time: switches, evictions, waits; one is killed: a crash;
an answer fails; a conversation loses its cache. The engines are the fake one.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from tests.e2e.raw_client import ask
from tests.support.engine import Answer, When
from tests.support.gateway import Gateway
from tests.support.own_engines import OwnEngines

PATH = "/v1/chat/completions"
LONG = "word " * 400
FAILS = Answer(when=When(contains="fail"), status=500, body="out of luck", repeat=True)
READS = Answer(
    text="Hello", prompt_tokens=300, prompt_per_second=50.0, cached_tokens=120, repeat=True
)
SOON_S = 30.0


class Eventful:
    def __init__(self, folder: Path, env: dict[str, str] | None = None) -> None:
        self._engines = OwnEngines(folder, {"one": (), "two": ()})
        config = ("--config", str(self._engines.config))
        self.gateway = Gateway(folder, *config, wait_ready=False, env=env)

    async def happen(self) -> None:
        """All of it, once more."""
        await self._say("one")
        one = await self._engines.engine("one")
        one.fake.script(FAILS, READS)
        await self._say("one", "a " + LONG)
        await self._say("one", "b " + LONG)  # the same conversation with another head
        await self._say("one", "fail", status=500)
        await asyncio.gather(*(self._say(name) for name in ("two", "one", "two")))
        await self._say("two")
        two = await self._engines.engine("two")
        two.process.kill()
        await self._until_down(two.process.pid)
        await self._say("two")
        await asyncio.to_thread(self.gateway.wait_idle)

    async def _say(self, model: str, head: str = "Hello", *, status: int = 200) -> None:
        turns = (("system", head), ("user", "Hi"), ("assistant", "Yes?"), ("user", "Go on"))
        tool = {"name": "f", "parameters": {"type": "object", "properties": {}}}
        body: dict[str, Any] = {
            "model": model,
            "stream": True,
            "messages": [{"role": role, "content": text} for role, text in turns],
            "tools": [{"type": "function", "function": tool}],  # small jobs are not watched
        }
        headers = {"x-session-id": "s", "authorization": "Bearer sk-eventful"}
        async with await ask(self.gateway.base_url, "POST", PATH, body, headers) as exchange:
            said = await exchange.body()
            assert exchange.status == status, said

    async def _until_down(self, pid: int) -> None:
        deadline = time.monotonic() + SOON_S
        while any(child.pid == pid for child in self.gateway.children()):
            assert time.monotonic() < deadline, self.gateway.output()
            await asyncio.sleep(0.02)
