"""vLLM's sleep: an engine that gives its memory back without ending.

Level 1 moves the weights to main memory and drops the KV cache; waking takes a second or two in place
of a minute. Level 2 drops the weights too, so that only the process and what it has compiled stay, and
they are read again on waking. Routes and order as in vLLM 0.32 (``entrypoints/serve/sleep``, and "Sleep
Mode" in its documentation); they exist only in a server that was started with
``--enable-sleep-mode`` and ``VLLM_SERVER_DEV_MODE=1``. Not verified on a GPU.
"""

from typing import Final, Literal

import msgspec
import structlog

from homeport.engines.anthropic_messages import auth_headers
from homeport.errors import UpstreamError
from homeport.facts import Endpoint
from homeport.runtime.probe import Post

log = structlog.get_logger()

TIMEOUT_S: Final = 60.0
"""To move tens of gigabytes between a card and main memory; reading them from a disk takes longer,
and is done while the readiness probe asks."""
RELOAD_S: Final = 600.0

Level = Literal[1, 2]


class Sleeper:
    """Puts engines to sleep and wakes them; both say whether the engine did as it was told."""

    def __init__(self, post: Post) -> None:
        self._post = post

    async def put_to_sleep(self, endpoint: Endpoint, level: Level) -> bool:
        return await self._tell(endpoint, f"/sleep?level={level}")

    async def wake(self, endpoint: Endpoint, level: Level) -> bool:
        if level == 1:
            return await self._tell(endpoint, "/wake_up")
        reload = msgspec.json.encode({"method": "reload_weights"})
        return (
            await self._tell(endpoint, "/wake_up?tags=weights")
            and await self._tell(endpoint, "/collective_rpc", reload, RELOAD_S)
            and await self._tell(endpoint, "/wake_up?tags=kv_cache")
        )

    async def _tell(
        self, endpoint: Endpoint, route: str, body: bytes = b"", timeout_s: float = TIMEOUT_S
    ) -> bool:
        headers = {**auth_headers(endpoint.api_key, "openai_chat")}
        headers["content-type"] = "application/json"
        url = endpoint.base_url.removesuffix("/v1") + route
        try:
            status, _, answer = await self._post(url, headers, timeout_s, method="POST", body=body)
        except UpstreamError as error:
            log.warning("engine.does_not_sleep", route=route, error=str(error))
            return False
        if status != 200:
            log.warning("engine.does_not_sleep", route=route, status=status, said=answer[:200])
        return status == 200
