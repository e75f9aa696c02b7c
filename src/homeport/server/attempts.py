"""The deployments that a request is tried on, one after the other.

A model is one. A route has several, and fallbacks: so many of its deployments are tried as its
``retries`` allow, then each fallback in turn, which brings deployments of its own and no fallbacks. The
next one is tried only for a failure that it may not have (``PASSING``), and only while the client has
been sent nothing: afterwards there is no way back.
"""

import time
from collections.abc import Iterator
from types import TracebackType
from typing import Final

from homeport.errors import FaultKind, RequestFault
from homeport.routing.affinity import Key
from homeport.routing.catalog import RequestKind, Resolution
from homeport.runtime.instance import Instance
from homeport.runtime.route import RouteInstance
from homeport.runtime.via import ViaInstance
from homeport.server.directory import Directory
from homeport.server.http import Http, header_value

PASSING: Final[frozenset[FaultKind]] = frozenset(
    {
        *("authentication", "permission", "not_found"),  # this deployment's key, this one's models
        *("rate_limit", "overloaded", "unavailable", "timeout", "upstream"),
    }
)
"""The other kinds are the request's own fault, or ours. LiteLLM 1.109.1 (``cooldown_handlers.py``)
leaves a deployment alone for the same ones."""


class Attempt:
    """One deployment for the request: ``with attempt as instance:`` around all that is asked of it."""

    def __init__(
        self, http: Http, instance: Instance, route: RouteInstance | None, key: Key | None
    ) -> None:
        self._http, self._instance, self._route, self._key = http, instance, route, key
        self.broken_off: RequestFault | None = None
        """What the client was told inside its stream: too late to try another, and to be known of."""

    def __repr__(self) -> str:
        return f"<Attempt {self._instance!r}>"

    def __enter__(self) -> Instance:
        if self._route is not None:
            self._route.selection.began(self._instance.id)
            name = header_value(self._instance.id)
            self._http.notes.append((b"x-homeport-deployment", name))
        return self._instance

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._route is None:
            return
        selection, name = self._route.selection, self._instance.id
        selection.ended(name)
        fault = error or self.broken_off
        if fault is None:
            selection.worked(name, self._key)
        elif isinstance(fault, RequestFault) and fault.kind in PASSING:
            selection.failed(name, time.monotonic(), fault.retry_after_s)


class Attempts:
    """``current`` is the attempt to make; ``go_on`` after it has failed makes the next one current."""

    def __init__(
        self,
        directory: Directory,
        http: Http,
        found: tuple[Resolution, Instance],
        kind: RequestKind,
        key: Key | None,
    ) -> None:
        self._http = http
        self._notes = len(http.notes)
        resolution, instance = found
        self.current = Attempt(http, instance, None, key)
        self._left: Iterator[Attempt] = iter(())
        if isinstance(instance, RouteInstance):
            self._left = _all(directory, http, kind, key, resolution, instance)
            self.current = next(self._left, self.current)

    def __repr__(self) -> str:
        return f"<Attempts {self.current!r}>"

    def go_on(self, fault: RequestFault) -> bool:
        """Whether there is another to try after this failure."""
        if fault.kind not in PASSING:
            return False
        told = self._http.notes[self._notes :]
        del self._http.notes[self._notes :]
        following = next(self._left, None)
        if following is None:
            self._http.notes += told
            return False
        self.current = following
        return True


# Functions, and no methods: a generator that knows its ``Attempts`` would keep it, and with it the
# request's body, until the garbage collector comes by.


def _all(
    directory: Directory,
    http: Http,
    kind: RequestKind,
    key: Key | None,
    resolution: Resolution,
    route: RouteInstance,
) -> Iterator[Attempt]:
    """The route's own, then those of its fallbacks."""
    yield from _of(directory, http, key, resolution, route)
    for name in route.route.fallbacks:
        try:
            found = directory.resolve(name, kind=kind, for_litellm=http.is_from_litellm)
        except RequestFault:  # not served now
            continue
        http.notes.append((b"x-homeport-model-fallback", header_value(name)))
        yield from _of(directory, http, key, *found)


def _of(
    directory: Directory, http: Http, key: Key | None, resolution: Resolution, instance: Instance
) -> Iterator[Attempt]:
    if not isinstance(instance, RouteInstance):
        yield Attempt(http, instance, None, key)
        return
    tried: set[str] = set()
    while len(tried) <= instance.route.retries:
        picked = instance.picked(key, frozenset(tried))
        if picked is None:
            return
        tried.add(picked.id)
        if http.is_from_litellm and isinstance(picked, ViaInstance):
            if picked.native is None:
                continue  # it would come round again
            picked = picked.native
        called = directory.called(picked, resolution)
        yield Attempt(http, called, instance, key)
