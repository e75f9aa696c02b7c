"""``/internal/litellm``: what LiteLLM asks homeport, and tells it (``litellm/callback.py``).

Only LiteLLM has the key to these routes, which is made anew for each run. They can do three things:

1. ``admit`` judges the headers of somebody who came to LiteLLM's port, as if they had come to ours.
2. ``model`` says what a name means, and begins to load that model without waiting for it: the request
   itself follows in a moment and waits, with all that a waiting request is told.
3. ``usage`` takes the report of a call that has ended.

Each call is counted; those that never came by here are recorded too, since nobody else saw them: a
model that LiteLLM reaches itself, asked for at LiteLLM's own port. All others are recorded where
they pass.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

import msgspec
import structlog

from homeport.errors import ClientError, RequestFault
from homeport.routing.catalog import RequestKind
from homeport.runtime.instance import Instance
from homeport.server.admission import Admission
from homeport.server.directory import Directory
from homeport.server.http import Http
from homeport.server.metrics import Metrics
from homeport.store.base import MAX_TEXT, UsageRecord

log = structlog.get_logger()

T = TypeVar("T", bound=msgspec.Struct)

PREFIX: Final = "/internal/litellm/"
BODY_BYTES: Final = 1024 * 1024
DIALECTS: Final = {"anthropic_messages": "anthropic", "aresponses": "openai_responses"}
"""By LiteLLM's name for the kind of call."""
GUARDED: Final = "/v1/models"
"""A path of ours that takes a key where there are keys: so are judged those who come to LiteLLM."""


class Asked(msgspec.Struct, frozen=True):
    """Somebody's headers."""

    headers: dict[str, str]


class Name(msgspec.Struct, frozen=True):
    model: str
    call_type: str = ""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One call that LiteLLM has answered, or could not."""

    id: str
    model: str
    provider: str = ""
    call_type: str = ""
    outcome: str = "ok"
    """``ok`` or ``failed``."""
    error: str = ""
    """LiteLLM's name for the failure."""
    stream: bool = False
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    duration_s: float = 0.0
    relayed_id: str = ""
    """Our id of the request, where it was homeport that asked LiteLLM."""


Record = Callable[[UsageRecord], None]


class LiteLLMDesk:
    def __init__(
        self,
        directory: Directory,
        metrics: Metrics,
        admission: Callable[[], Admission],
        record: Record | None = None,
    ) -> None:
        """``admission`` is the one in effect: a reload changes it. Without a store there is no
        ``record``."""
        self._directory, self._metrics = directory, metrics
        self._admission, self._record = admission, record
        self._loading: dict[str, asyncio.Task[None]] = {}

    async def admit(self, http: Http) -> None:
        asked = _decoded(await http.body(BODY_BYTES), Asked)
        headers = {k.lower().encode(): v.encode("latin-1") for k, v in asked.headers.items()}
        guest = self._admission().admit(GUARDED, headers)
        await http.answer(200, msgspec.json.encode({"key": guest.name}))

    async def model(self, http: Http) -> None:
        name = _decoded(await http.body(BODY_BYTES), Name)
        kind: RequestKind = "embeddings" if "embedding" in name.call_type else "chat"
        resolution, _ = self._directory.resolve(name.model, kind=kind)
        native = self._directory.native_of(resolution.model_id)
        if native is not None:
            self._load(native)
        self._metrics.litellm_lookups.inc()
        said = {"model": resolution.model_id, "is_native": native is not None}
        await http.answer(200, msgspec.json.encode(said))

    async def usage(self, http: Http) -> None:
        report = _decoded(await http.body(BODY_BYTES), Report)
        self._metrics.litellm_calls.labels(
            "relayed" if report.relayed_id else "direct", report.outcome
        ).inc()
        instances: Mapping[str, Instance] = self._directory.instances
        is_seen = report.relayed_id or self._directory.native_of(report.model) is not None
        if report.model in instances and not is_seen and self._record is not None:
            self._record(record_of(report, time.time_ns() // 1000))
        await http.answer(200, b"{}")

    def close(self) -> None:
        for task in self._loading.values():
            task.cancel()

    def _load(self, instance: Instance) -> None:
        if instance.endpoint is not None or instance.id in self._loading:
            return
        task = asyncio.create_task(_loaded(instance), name=f"load {instance.id} for LiteLLM")
        self._loading[instance.id] = task
        task.add_done_callback(lambda _: self._loading.pop(instance.id, None))


async def _loaded(instance: Instance) -> None:
    try:
        with instance.lease(takes_slot=False) as lease:
            await lease.ready()
    except RequestFault as error:  # the request that follows is told
        log.debug("litellm.not_loaded", model=instance.id, error=error.message)


def record_of(report: Report, now_us: int) -> UsageRecord:
    """LiteLLM does not tell who asked, nor what the client was told."""
    is_ok = report.outcome == "ok"
    return UsageRecord(
        at_us=now_us - round(report.duration_s * 1_000_000),
        request_id=report.id[:MAX_TEXT],
        asked_model=report.model[:MAX_TEXT],
        model=report.model[:MAX_TEXT],
        deployment=report.model[:MAX_TEXT],
        engine="litellm",
        dialect=DIALECTS.get(report.call_type, "openai_chat"),
        stream=report.stream,
        prompt_tokens=report.prompt_tokens if is_ok else None,
        cached_tokens=report.cached_tokens if is_ok else None,
        completion_tokens=report.completion_tokens if is_ok else None,
        duration_s=report.duration_s,
        status=200 if is_ok else 502,
        error=None if is_ok else "upstream",
    )


def _decoded(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise ClientError("invalid_request", str(error)) from None
