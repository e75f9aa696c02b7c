"""What LiteLLM asks homeport, and tells it. LiteLLM loads this file, in its own Python.

1. **Who may come in** (``admit``, LiteLLM's ``custom_auth``): homeport decides, by the rules of its own
   port: keys, and where there are none, names of hosts. LiteLLM alone lets every page of a browser in.
2. **Which model** (``async_pre_call_hook``): homeport says what the name means, and begins to load
   it, so that it loads while LiteLLM is still busy with the request. Headers by which conversations
   are known go on to homeport, and to nobody else: so they keep their slot and its cache.
3. **What was used**: homeport is told of every call when it has ended.
4. **Who has left**: LiteLLM itself computes a whole answer to its end for a client that has gone; a
   stream it does end.

Nothing of homeport is imported. Where homeport does not answer, the first is a 503, and the other
two are left out: the request itself will say what is wrong. Seen on LiteLLM 1.109.1.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import os
import sys
from collections.abc import Coroutine
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

import httpx
from fastapi import HTTPException, Request
from litellm.integrations.custom_logger import CustomLogger
from litellm.proxy._types import UserAPIKeyAuth

URL = os.environ["HOMEPORT_URL"] + "/internal/litellm/"
KEY = {"authorization": "Bearer " + os.environ["HOMEPORT_INTERNAL_KEY"]}
OWN_KEY = os.environ["LITELLM_MASTER_KEY"]
"""homeport itself comes with it."""

_listed = os.environ.get("HOMEPORT_LISTED")
LISTED = None if _listed is None else frozenset(json.loads(_listed))
"""The models that homeport has told LiteLLM of. None by a configuration that is not homeport's: then
names mean what stands there."""

JUDGED = ("host", "origin", "authorization", "x-api-key", "api-key")
"""Headers by which homeport lets somebody in."""
MARK = "x-homeport-request"
"""On a request that homeport has sent here: homeport counts that one itself."""
CONVERSATION = (
    *("x-claude-code-session-id", "x-session-affinity", "x-session-id", "session-id", "session_id"),
    *("x-claude-code-agent-id", "thread-id"),
)
TIMEOUT_S = 5.0
LOOK_S = 0.25
"""How often we look whether a client is still there that waits for a whole answer."""

_client = httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False)  # one machine, no proxy between
_tasks: set[asyncio.Task[None]] = set()
_shared = sys.modules.setdefault("homeport_shared", ModuleType("homeport_shared"))
"""LiteLLM runs this file once for each name that it takes from it."""
_requests: WeakKeyDictionary[asyncio.Task[Any], Request] = vars(_shared).setdefault(
    "requests", WeakKeyDictionary()
)
"""By the task that answers each."""


async def admit(request: Request, api_key: str | None) -> UserAPIKeyAuth:
    if (task := asyncio.current_task()) is not None:
        _requests[task] = request
    if hmac.compare_digest(bearer(api_key or "").encode(), OWN_KEY.encode()):
        return UserAPIKeyAuth(api_key="homeport", key_alias="homeport")
    headers = {name: value for name in JUDGED if (value := request.headers.get(name))}
    try:
        answer = await _client.post(URL + "admit", headers=KEY, json={"headers": headers})
    except httpx.HTTPError as error:
        raise HTTPException(503, f"homeport does not answer: {error}") from None
    found = answer.json()
    if answer.status_code != 200:
        raise HTTPException(answer.status_code, found["error"]["message"])
    return UserAPIKeyAuth(api_key=found["key"] or "anyone", key_alias=found["key"])


def bearer(key: str) -> str:
    return key.removeprefix("Bearer ").strip()


class Homeport(CustomLogger):  # type: ignore[misc]  # mypy does not see LiteLLM
    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: str
    ) -> dict[str, Any]:
        task = asyncio.current_task()
        if task is not None and task in _requests and not data.get("stream"):
            begin(ended_when_left(_requests[task], task))
        if LISTED is None:
            return data
        asked = {"model": data.get("model") or "", "call_type": call_type}
        try:
            answer = await _client.post(URL + "model", headers=KEY, json=asked)
        except httpx.HTTPError:
            return data
        if answer.status_code != 200:
            return data
        found = answer.json()
        data["model"] = found["model"]
        if found["is_native"]:
            given = headers_of(data)
            own = {name: given[name] for name in CONVERSATION if name in given}
            data["headers"] = {**(data.get("headers") or {}), **own}
        return data

    async def async_filter_listed_models(
        self, user_api_key_dict: Any, model_names: list[str]
    ) -> list[str]:
        """Without it, ``*`` is listed as all models that OpenAI ever had."""
        return [name for name in model_names if LISTED is None or name in LISTED]

    async def async_log_success_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        tell(report(kwargs, start_time, end_time, "ok"))

    async def async_log_failure_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        tell(report(kwargs, start_time, end_time, "failed"))


def report(kwargs: dict[str, Any], start: Any, end: Any, outcome: str) -> dict[str, Any]:
    """What homeport's ``server.litellm_desk.Report`` has."""
    said = kwargs.get("standard_logging_object") or {}
    usage = (said.get("metadata") or {}).get("usage_object") or {}
    details = usage.get("prompt_tokens_details") or {}
    fault = said.get("error_information") or {}
    return {
        "id": said.get("id") or kwargs.get("litellm_call_id") or "",
        "model": said.get("model_group") or kwargs.get("model") or "",
        "provider": said.get("custom_llm_provider") or "",
        "call_type": said.get("call_type") or "",
        "outcome": outcome,
        "error": str(fault.get("error_class") or ""),
        "stream": bool(said.get("stream") or kwargs.get("stream")),
        "prompt_tokens": said.get("prompt_tokens") or 0,
        "cached_tokens": details.get("cached_tokens") or 0,
        "completion_tokens": said.get("completion_tokens") or 0,
        "duration_s": (end - start).total_seconds(),
        "relayed_id": headers_of(kwargs.get("litellm_params") or {}).get(MARK, ""),
    }


def headers_of(holder: dict[str, Any]) -> dict[str, str]:
    """The client's headers, where LiteLLM keeps them; without keys."""
    request = holder.get("proxy_server_request") or {}
    return {name.lower(): value for name, value in (request.get("headers") or {}).items()}


def tell(what: dict[str, Any]) -> None:
    """Beside the answer: nobody waits for it."""
    begin(post(what))


def begin(work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.get_running_loop().create_task(work)
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


async def ended_when_left(request: Request, task: asyncio.Task[Any]) -> None:
    """Cancels who computes an answer for a client that has left."""
    while not task.done():
        if await request.is_disconnected():
            task.cancel()
            return
        await asyncio.wait([task], timeout=LOOK_S)


async def post(what: dict[str, Any]) -> None:
    try:
        body = json.dumps(what, default=str)
        await _client.post(
            URL + "usage", headers={**KEY, "content-type": "application/json"}, content=body
        )
    except httpx.HTTPError as error:
        print(f"homeport was not told of a call: {error}", flush=True)  # noqa: T201


homeport = Homeport()
