"""Looking around: which model servers listen on this machine's usual ports.

Done where the user has named no model at all, once, before anything is served. A port where nobody
listens refuses at once; one that takes the connection and says nothing costs ``BUDGET_S`` for all
ports together, since they are asked side by side. Whoever needs longer is not found.

What is at a port, by its answer to ``/v1/models``:

1. 200 with a list that names models: a model server. It is **taken**, unless
   a. it is a homeport (``/`` says so: this one would ask another that may ask this one), or
   b. LiteLLM, which is a gateway as well and may lead back here. That one is **told**: the user knows
      where it leads.
2. 401 or 403: a server that wants a key, which nobody gave us. **Told**, if it is no homeport.
3. 503 with llama.cpp's error object: it loads its model. **Taken**; its models are named later.
4. Anything else is no model server: a web server on 8080 has pages and no list. **Passed over**.

In 2. and 3. the body has to be a JSON object: web applications say 403 and 503 too, with a page.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from homeport.engines import detect
from homeport.engines.answers import decoded, items
from homeport.errors import UpstreamError
from homeport.facts import EngineName, ModelFacts
from homeport.runtime.probe import Fetch

PORTS: Final = (8080, 8000, 30000, 11434, 1234)
"""llama.cpp and MLX; vLLM and TensorRT-LLM; SGLang; Ollama; LM Studio. The first model found is the
default, so the order counts."""

BUDGET_S: Final = 0.3
"""For all ports together. A server on loopback answers in milliseconds."""

State = Literal["ready", "loading", "wants_key", "gateway"]


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What listens at a port."""

    url: str
    state: State
    engine: EngineName | None = None
    """Which software it is, where it could be told."""
    models: tuple[ModelFacts, ...] = ()

    @property
    def is_taken(self) -> bool:
        return self.state in ("ready", "loading")

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


async def look_around(
    fetch: Fetch,
    *,
    own_port: int,
    ports: Sequence[int] = PORTS,
    budget_s: float = BUDGET_S,
) -> tuple[Found, ...]:
    """Return what was found within ``budget_s``, in the order of ``ports``; never on ``own_port``."""
    asked = [
        asyncio.create_task(_at(f"http://127.0.0.1:{port}", fetch, budget_s))
        for port in ports
        if port != own_port
    ]
    if not asked:
        return ()
    try:
        done, _ = await asyncio.wait(asked, timeout=budget_s)
    finally:
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
    answers = (task.result() for task in asked if task in done)
    return tuple(found for found in answers if found is not None)


async def _at(url: str, fetch: Fetch, timeout_s: float) -> Found | None:
    async def ask(path: str) -> tuple[int, Mapping[str, str], Any]:
        try:
            status, headers, body = await fetch(url + path, {}, timeout_s)
        except UpstreamError:
            return 0, {}, None  # refused, cut off, no HTTP, or too slow
        return status, headers, decoded(body)

    async def told(path: str) -> Any:
        status, _, answer = await ask(path)
        return answer if status == 200 else None

    status, headers, listed = await ask("/v1/models")
    if not status or not isinstance(listed, dict | list):
        return None  # 4.
    if status in (401, 403):  # 2.
        return None if _is_homeport(await told("/")) else Found(url=url, state="wants_key")
    if status == 503:  # 3.
        is_loading = isinstance(listed, dict) and isinstance(listed.get("error"), dict)
        return Found(url=url, state="loading") if is_loading else None
    if status != 200 or not items(listed):  # 4.
        return None
    engine = detect.engine_of(listed, headers)
    props = await told("/props") if engine == "llamacpp" else None
    if engine is None:  # whoever signs its list is neither a homeport nor LiteLLM
        root, alive, version = await asyncio.gather(
            told("/"), told("/health/liveliness"), told("/api/version")
        )
        if _is_homeport(root):  # 1a.
            return None
        if alive == LITELLM_IS_ALIVE:  # 1b.
            return Found(url=url, state="gateway")
        engine = detect.engine_of(listed, headers, version) or "openai_compatible"
    models = detect.model_facts(engine, listed, props if isinstance(props, dict) else None)
    return Found(url=url, state="ready", engine=engine, models=models)


LITELLM_IS_ALIVE: Final = "I'm alive!"
"""What LiteLLM's ``/health/liveliness`` says, without a key (read in its source, 1.109)."""


def _is_homeport(answer: object) -> bool:
    return isinstance(answer, dict) and answer.get("name") == "homeport"
