"""The ASGI application: admission, the table of routes, and the one place where errors end.

``ROUTES`` is the table. Paths that clients are known to send and that need nothing but an answer
(telemetry, start-up probes) are answered here and forgotten: an unanswered one costs the client
retries or a warning.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
import structlog

from homeport.engines import litellm_proxy
from homeport.errors import ClientError, RequestFault
from homeport.server.admin import Admin
from homeport.server.admission import TELEMETRY_PATHS, Admission, is_admin
from homeport.server.asking import unexpected
from homeport.server.directory import Directory
from homeport.server.http import JSON, Http, Receive, Scope, Send
from homeport.server.litellm_desk import LiteLLMDesk
from homeport.server.metrics import CONTENT_TYPE, Metrics
from homeport.server.models import Models
from homeport.server.passages import PASSAGES
from homeport.server.proxy import Proxy
from homeport.server.response_store import ResponseStore
from homeport.server.responses import Responses
from homeport.server.usage import UsageLog
from homeport.server.web_search import searcher_for
from homeport.settings import SMALL_MODELS, ServerSettings, WebSearchSettings
from homeport.upstream import Client
from homeport.wire.faults import Dialect

log = structlog.get_logger()

Handler = Callable[[Http], Awaitable[None]]


class Gateway:
    """What uvicorn calls. Everything it needs comes in by the constructor."""

    def __init__(
        self,
        server: ServerSettings,
        directory: Directory,
        client: Client,
        metrics: Metrics,
        *,
        started_at_s: int,
        web_search: WebSearchSettings = WebSearchSettings(),  # noqa: B008  (frozen)
        small_models: tuple[str, ...] = SMALL_MODELS,
        admin: Admin | None = None,
        own_key: str | None = None,
        usage: UsageLog | None = None,
        internal_key: str | None = None,
        needs_key: bool = False,
    ) -> None:
        """Without ``admin`` there is no ``/admin``; ``own_key`` opens it, and LiteLLM comes with the
        ``internal_key`` (``Admission``)."""
        self._own_keys = (own_key, internal_key)
        self._admission = Admission(server, *self._own_keys, needs_key=needs_key)
        self.litellm_desk = desk = LiteLLMDesk(
            directory, metrics, lambda: self._admission, usage.record if usage else None
        )
        self._admin, self._client, self._usage = admin, client, usage
        self._directory, self._metrics = directory, metrics
        self._models = Models(directory, started_at_s)
        searcher = searcher_for(web_search, client)
        self._proxy = proxy = Proxy(
            directory, client, server.limits, metrics, searcher, small_models, usage
        )
        self._responses = Responses(proxy, server.limits, ResponseStore())
        self._routes: Final[dict[str, dict[str, Handler]]] = {
            "/v1/chat/completions": {"POST": proxy.chat_completions},
            "/v1/responses": {"POST": self._responses.create},
            "/v1/responses/input_tokens": {"POST": self._responses.input_tokens},
            **{path: {"POST": proxy.passage} for path in PASSAGES},
            "/v1/messages": {"POST": proxy.messages},
            "/v1/messages/count_tokens": {"POST": proxy.count_tokens},
            "/v1/models": {"GET": self._models.list},
            "/api/hello": {"GET": self._hello},
            **{path: {"POST": self._telemetry} for path in TELEMETRY_PATHS},
            "/internal/litellm/admit": {"POST": desk.admit},
            "/internal/litellm/model": {"POST": desk.model},
            "/internal/litellm/usage": {"POST": desk.usage},
            "/": {"GET": self._hello},
            "/health": {"GET": self._health},
            "/readyz": {"GET": self._ready},
            "/metrics": {"GET": self._exposition},
        }
        """By path and method; ``HEAD`` is ``GET`` without the body (``Http.answer`` sees to that)."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # no lifespan, no websockets
        http = Http(scope, receive, send, dialect_of(scope["path"], scope["headers"]))
        http.is_plain = is_admin(http.path)
        try:
            await self._handle(http)
        except RequestFault as fault:
            await http.fault(fault)
        except asyncio.CancelledError:
            if not http.has_left:
                raise
            log.debug("client.left", path=http.path, request=http.request_id)
        except Exception as error:
            log.exception("request.failed", path=http.path, request=http.request_id)
            await http.fault(unexpected(error))

    def configure(
        self,
        server: ServerSettings,
        web_search: WebSearchSettings,
        small_models: tuple[str, ...],
        *,
        needs_key: bool,
    ) -> None:
        """Other settings from the next request on; those under way keep theirs."""
        self._admission = Admission(server, *self._own_keys, needs_key=needs_key)
        searcher = searcher_for(web_search, self._client)
        self._proxy.configure(server.limits, searcher, small_models)
        self._responses.configure(server.limits)

    async def _handle(self, http: Http) -> None:
        if b"origin" in http.headers and (origin := self._admission.allows_origin(http.headers)):
            http.notes.append((b"access-control-allow-origin", origin))
            http.notes.append((b"vary", b"origin"))
            if http.method == "OPTIONS":  # before admission: browsers send no key with these
                await http.answer(204, b"", PREFLIGHT)
                return
        guest = self._admission.admit(http.path, http.headers)
        http.key_name = guest.name
        http.is_from_litellm = guest.is_litellm or HOP in http.headers
        await self._handler(http)(http)

    def _handler(self, http: Http) -> Handler:
        path = http.path.rstrip("/") or "/"
        methods = self._routes.get(path) or self._below(http, path)
        handler = methods.get("GET" if http.method == "HEAD" else http.method)
        if handler is None:
            allowed = ", ".join(methods)
            http.notes.append((b"allow", allowed.encode()))
            raise ClientError("method_not_allowed", f"{http.path} takes {allowed} only")
        return handler

    def _below(self, http: Http, path: str) -> dict[str, Handler]:
        """Routes with a name in their path. Raises ``ClientError("not_found")``."""
        methods: dict[str, Handler] | None = None
        if self._admin is not None and http.is_plain:
            methods = self._admin.methods(http)
        elif path.startswith("/v1/models/"):
            name = path.removeprefix("/v1/models/")
            methods = {"GET": lambda h: self._models.show(h, name)}
        elif path.startswith("/v1/responses/"):
            methods = self._responses.methods(path.removeprefix("/v1/responses/"))
        if methods is not None:
            return methods
        for start, what in NOT_HERE:
            if path == start or path.startswith(start + "/"):
                raise ClientError("not_found", what)
        meant = f"; did you mean /v1{path}?" if f"/v1{path}" in self._routes else ""
        raise ClientError("not_found", f"there is no route {http.method} {http.path}{meant}")

    # ------------------------------------------------------------------- small answers

    async def _hello(self, http: Http) -> None:
        await http.answer(200, b'{"name":"homeport"}')

    async def _telemetry(self, http: Http) -> None:
        """Read, counted, discarded; nothing of it is kept."""
        await http.discard_body()
        self._metrics.telemetry.inc()
        await http.answer(200, b"{}")

    async def _health(self, http: Http) -> None:
        """Liveness: the process answers."""
        await http.answer(200, b'{"status":"ok"}')

    async def _ready(self, http: Http) -> None:
        """Readiness: some model is ready, or would be started for a request. That usage records wait
        on disk keeps no request away, and is told beside."""
        states = {
            name: {"state": instance.state, "in_flight": instance.in_flight}
            for name, instance in self._directory.instances.items()
        }
        is_ready = self._directory.is_available
        body = {
            "status": "ready" if is_ready else "not ready",
            "models": states,
            "waiting_for": list(self._directory.pending),
            "usage": self._usage.state if self._usage is not None else None,
        }
        await http.answer(200 if is_ready else 503, msgspec.json.encode(body))

    async def _exposition(self, http: Http) -> None:
        await http.answer(200, self._metrics.exposition(), ((b"content-type", CONTENT_TYPE),))


NOT_HERE: Final = (
    (
        "/v1/messages/batches",
        "message batches are not supported here; send the messages one by one",
    ),
    ("/v1/batches", "batches are not supported here; send the requests one by one"),
    ("/v1/files", "there is no Files API here; put the content into the message itself"),
)
"""Parts of the two APIs that clients ask for, and what to do instead."""

HOP: Final = litellm_proxy.HOP.encode()

PREFLIGHT: Final = (
    JSON,
    (b"access-control-allow-methods", b"GET, POST, DELETE"),
    (b"access-control-allow-headers", b"*, authorization"),
    (b"access-control-max-age", b"600"),
)


def dialect_of(path: str, headers: list[tuple[bytes, bytes]]) -> Dialect:
    """Whose words an answer uses: by path, and where that does not tell, by the headers."""
    if path.startswith("/v1/chat/"):
        return "openai_chat"
    if path.startswith("/v1/responses"):
        return "openai_responses"
    if path.startswith(("/v1/messages", "/api/")):
        return "anthropic"
    is_anthropic = any(name == b"anthropic-version" for name, _ in headers)
    return "anthropic" if is_anthropic else "openai_chat"
