"""A server that someone else runs, as an instance: asked what it is, and again when it was down."""

import asyncio
from collections.abc import Mapping

from msgspec.structs import replace

from homeport.errors import ConfigError, UpstreamError
from homeport.facts import Endpoint, ModelFacts
from homeport.runtime.instance import Base, Learned, nothing_learned, with_settings
from homeport.runtime.probe import Fetch, Server, probe
from homeport.settings import ModelSettings

RETRY_PROBE_S = 0.5
"""A remote server that did not answer is not asked again sooner, however many requests come."""


class RemoteInstance(Base):
    """A server that someone else runs: asked what it is, and asked again when it was down.

    Each probe is a task, which owns the state while it runs. A server that is down costs a request
    one probe, shared with all that come meanwhile; ``failed`` does not occur.
    """

    def __init__(
        self,
        model: ModelSettings,
        fetch: Fetch,
        *,
        endpoint: Endpoint | None = None,
        learned: Learned = nothing_learned,
    ) -> None:
        """``endpoint`` is what ``discover`` found just now, where it did."""
        super().__init__(model)
        self.dialect = model.dialect
        self._fetch, self._learned = _with_headers(fetch, model), learned
        self._owner: asyncio.Task[None] | None = None
        if endpoint is not None:
            self._move("start")
            self._move("became_ready")
            self.endpoint = learned(with_settings(endpoint, model))

    def start(self) -> None:
        if self.state in ("stopped", "backoff") and (self._owner is None or self._owner.done()):
            self._begin()
            self._owner = asyncio.create_task(self._probe(), name=f"probe {self.id}")

    def report_down(self, reason: str) -> None:
        if self.state == "ready":
            self._log.warning("instance.down", reason=reason)
            self.last_error = reason
            self._end("exited")  # the next request may probe at once: it may be a restart

    async def stop(self, *, drain_s: float = 0.0) -> None:
        if self.state == "ready" and self.in_flight and drain_s > 0:
            self.endpoint = None
            self._move("drain")
            await self._drained(drain_s)
        if self._owner is not None and not self._owner.done():
            self._owner.cancel()
            await asyncio.wait([self._owner])
        self._settle()

    async def _probe(self) -> None:
        assert self.model.upstream is not None
        try:
            server = await probe(
                self.model.upstream,
                self.model.api_key,
                self._fetch,
                engine=self.model.engine,
                dialect=self.model.dialect,
            )
            found = with_settings(self._endpoint_at(server), self.model)
            self.endpoint = self._learned(found)
        except (UpstreamError, ConfigError) as error:
            self._fail(str(error))
        except Exception as error:  # a bug of ours must not leave waiters waiting
            self._log.exception("instance.broken")
            self._fail(repr(error))
        else:
            self._move("became_ready")
            self._resolve(self.endpoint)
            self._log.info(
                "instance.ready", url=self.endpoint.base_url, engine=self.endpoint.engine.engine
            )

    def _endpoint_at(self, server: Server) -> Endpoint:
        """Pick our model among the server's; one that it does not list is believed to exist.

        (Ollama and LiteLLM answer to names that they do not list.)
        """
        wanted = self.model.upstream_model
        for endpoint in server.endpoints():
            if wanted is None or wanted in (endpoint.model.name, *endpoint.model.aliases):
                return _with_context(endpoint, self.model.ctx)
        if wanted is None:
            raise UpstreamError("unavailable", f"{server.base_url} lists no models")
        return server.endpoint(ModelFacts(name=wanted, context_tokens=self.model.ctx))

    def _fail(self, error: str) -> None:
        tell = self._log.debug if error == self.last_error else self._log.warning
        tell("instance.probe_failed", error=error)  # once; a server may be down for a night
        self.last_error = error
        self._end("exited", retry_s=RETRY_PROBE_S)


def _with_context(endpoint: Endpoint, ctx: int | None) -> Endpoint:
    """What the server tells of its context counts; else what the user says."""
    if ctx is None or endpoint.model.context_tokens is not None:
        return endpoint
    return replace(endpoint, model=replace(endpoint.model, context_tokens=ctx))


def _with_headers(fetch: Fetch, model: ModelSettings) -> Fetch:
    """Some servers let nobody in without the headers that the user has written down for them."""
    if not model.headers:
        return fetch
    more = {name.lower(): text for name, text in model.headers}

    async def ask(
        url: str, headers: Mapping[str, str], timeout_s: float
    ) -> tuple[int, Mapping[str, str], bytes]:
        return await fetch(url, {**headers, **more}, timeout_s)

    return ask
