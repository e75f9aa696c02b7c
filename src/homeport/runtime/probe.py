"""Asking a server: is it ready, which engine is it, which models has it.

HTTP comes in as ``Fetch``; what the answers mean is judged by ``engines.detect``.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol
from urllib.parse import urlsplit

import msgspec

from homeport.engines import anthropic_messages, detect, mlx
from homeport.engines.answers import decoded
from homeport.engines.anthropic_messages import auth_headers
from homeport.errors import ConfigError, UpstreamError
from homeport.facts import Endpoint, EngineFacts, EngineName, ModelFacts, UpstreamDialect
from homeport.runtime.launcher import Engine

Fetch = Callable[[str, Mapping[str, str], float], Awaitable[tuple[int, Mapping[str, str], bytes]]]
"""``GET url`` with these headers within so many seconds: status, headers, body.

Raises ``UpstreamError`` when no answer came."""


class Post(Protocol):
    """A ``Fetch`` that can say something, too (``upstream.Client.fetch``)."""

    async def __call__(
        self,
        url: str,
        headers: dict[str, str] | None = None,
        timeout_s: float = ...,
        *,
        method: str = ...,
        body: bytes = ...,
    ) -> tuple[int, dict[str, str], bytes]: ...


WANTS_KEY = "wants a key, and homeport has none for it"
"""Said where a server lets nobody in without one; what is to be done depends on who asked."""
ANSWER_TIMEOUT_S = 5.0
"""For one probe request; a healthy server answers in milliseconds, a loaded Python one in seconds."""
STARTUP_TIMEOUT_S = 900.0
"""A big model read from a slow disk takes minutes; vLLM compiles for some more."""

_FIRST_POLL_S, _LAST_POLL_S, _POLL_SHARE = 0.002, 0.5, 0.01
"""Between questions whether an engine is ready: a small share of the time that it has taken already, so
that nobody waits for the question much longer than for the engine. A question that nobody hears costs a
tenth of a millisecond."""


class StartError(Exception):
    """The engine ended, or was not ready in time. ``str()`` says how."""


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """What was found at a URL."""

    base_url: str
    engine: EngineFacts
    models: tuple[ModelFacts, ...]
    api_key: str | None = None
    dialect: UpstreamDialect = "openai_chat"

    def endpoint(self, model: ModelFacts) -> Endpoint:
        return Endpoint(
            base_url=self.base_url,
            engine=self.engine,
            model=model,
            api_key=self.api_key,
            dialect=self.dialect,
        )

    def endpoints(self) -> tuple[Endpoint, ...]:
        return tuple(self.endpoint(model) for model in self.models)


async def ready_endpoint(
    process: Engine,
    base_url: str,
    *,
    fetch: Fetch,
    api_key: str | None = None,
    engine: EngineName | None = None,
    ready_path: str = "/health",
    model: str | None = None,
    context_tokens: int | None = None,
    timeout_s: float = STARTUP_TIMEOUT_S,
) -> Endpoint:
    """Wait until the engine that ``process`` is has loaded its model; return where it answers.

    ``ready_path``, ``model`` and ``context_tokens`` are the ``Command``'s.

    Raises ``StartError`` when it ends before, or is not ready after ``timeout_s``.
    """
    began = time.monotonic()
    while process.exit_status is None:
        server = await _if_ready(base_url, fetch, api_key, engine, ready_path)
        if server is not None and (found := _endpoint_of(server, model)) is not None:
            return _with_context(found, context_tokens)
        taken_s = time.monotonic() - began
        if taken_s > timeout_s:
            raise StartError(f"not ready after {timeout_s:.0f} s")
        await asyncio.sleep(min(max(_FIRST_POLL_S, taken_s * _POLL_SHARE), _LAST_POLL_S))
    await process.wait()  # its last output too
    raise StartError(process.how_ended)


async def _if_ready(
    base_url: str,
    fetch: Fetch,
    api_key: str | None,
    engine: EngineName | None,
    ready_path: str,
) -> Server | None:
    try:
        headers = auth_headers(api_key, "openai_chat")
        status, _, _ = await fetch(_root(base_url) + ready_path, headers, ANSWER_TIMEOUT_S)
        if status != 200:
            return None  # llama.cpp says 503 while it loads
        return await probe(base_url, api_key, fetch, engine=engine)
    except UpstreamError:
        return None  # not listening yet


def _endpoint_of(server: Server, model: str | None) -> Endpoint | None:
    """Pick the model that the engine was started with.

    1. The one that is called so.
    2. Without a name, the first one; none: not ready yet.
    3. mlx_lm loads what it is asked for, by the very name that it was started with: listed or not.
    4. Any other engine that does not list the name has chosen one of its own (the user's ``args`` can
       make it do so): the first one; none: not ready yet.
    """
    for endpoint in server.endpoints():
        if model in (endpoint.model.name, *endpoint.model.aliases):
            return endpoint  # 1.
    if model is not None and server.engine.engine == "mlx":
        return server.endpoint(ModelFacts(name=model))  # 3.
    return next(iter(server.endpoints()), None)  # 2., 4.


def _with_context(endpoint: Endpoint, context_tokens: int | None) -> Endpoint:
    if endpoint.model.context_tokens is not None or context_tokens is None:
        return endpoint
    model = msgspec.structs.replace(endpoint.model, context_tokens=context_tokens)
    return msgspec.structs.replace(endpoint, model=model)


async def discover(
    url: str, api_key: str | None, fetch: Fetch, *, engine: EngineName | None = None
) -> tuple[Endpoint, ...]:
    """Return every model of the server at ``url``, in the server's order. Raises like ``probe``."""
    return (await probe(url, api_key, fetch, engine=engine)).endpoints()


async def probe(
    url: str,
    api_key: str | None,
    fetch: Fetch,
    *,
    engine: EngineName | None = None,
    dialect: UpstreamDialect = "openai_chat",
) -> Server:
    """Ask the server at ``url`` what it is and which models it has.

    ``engine`` is what the user said that it is; found out when None. ``dialect`` is what it is asked
    in. Raises ``UpstreamError`` when
    the server does not answer, is still loading or refuses the key.
    """
    base_url = base_url_of(url)
    headers = auth_headers(api_key, dialect)

    async def ask(path: str) -> Any:
        try:
            status, _, body = await fetch(_root(base_url) + path, headers, ANSWER_TIMEOUT_S)
        except UpstreamError:
            return None  # a server may drop connections for routes that it does not know
        return decoded(body) if status == 200 else None

    listed, answer_headers = await _models(base_url, headers, fetch, dialect)
    if engine == "custom":  # what that is, nobody knows beforehand
        engine = None
    engine = engine or detect.engine_of(listed, answer_headers)
    if engine is None:
        version = await ask("/api/version")
        engine = detect.engine_of(listed, answer_headers, version) or "openai_compatible"
    facts = detect.FACTS[engine]
    if path := detect.VERSION_PATH.get(engine):
        facts = msgspec.structs.replace(facts, version=detect.version_of(await ask(path)))
    if dialect == "anthropic":
        return Server(
            base_url=base_url,
            engine=anthropic_messages.speaking(facts),
            models=anthropic_messages.model_facts(listed),
            api_key=api_key,
            dialect=dialect,
        )
    props = await ask("/props") if engine in ("llamacpp", "mlx") else None
    if isinstance(props, dict) and engine == "mlx":
        facts = mlx.extended(facts, props)
    if isinstance(props, dict) and isinstance(build := props.get("build_info"), str) and build:
        facts = msgspec.structs.replace(facts, version=build)
    models = detect.model_facts(engine, listed, props if isinstance(props, dict) else None)
    return Server(base_url=base_url, engine=facts, models=models, api_key=api_key)


async def _models(
    base_url: str, headers: Mapping[str, str], fetch: Fetch, dialect: UpstreamDialect
) -> tuple[Any, Mapping[str, str]]:
    """Return the decoded answer of ``/v1/models`` with its headers."""
    status, answer_headers, body = await fetch(base_url + "/models", headers, ANSWER_TIMEOUT_S)
    match status:
        case 200:
            return decoded(body), answer_headers
        case 404 if dialect == "anthropic":  # older ones have no list
            return None, answer_headers
        case 401 | 403 if "authorization" not in headers and "x-api-key" not in headers:
            raise UpstreamError("unavailable", f"{base_url} {WANTS_KEY} ({status})")
        case 401 | 403:
            raise UpstreamError("unavailable", f"{base_url} refuses our api_key ({status})")
        case 503:
            raise UpstreamError("unavailable", f"{base_url} is still loading", retry_after_s=5)
        case _:
            raise UpstreamError("unavailable", f"{base_url}/models answered {status}")


def base_url_of(url: str) -> str:
    """Return ``url`` ending in ``/v1``; a bare ``http://host:port`` gets it added.

    Raises ``ConfigError`` for what is not an HTTP URL.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            f"not an HTTP URL: {url!r}", key="upstream", hint="write http://host:port/v1"
        )
    trimmed = url.rstrip("/")
    return trimmed if parts.path.rstrip("/") else trimmed + "/v1"


def _root(base_url: str) -> str:
    """Return where the server's own routes (``/health``, ``/props``) are."""
    return base_url.removesuffix("/v1")
