"""Who may come in: keys, and where none is configured, loopback names only.

Without a key we listen on loopback only (``config.rules`` refuses anything else; a master key alone
is the one that clients need then), yet a web page can still reach a loopback port through DNS
rebinding: its own host name, made to resolve to 127.0.0.1. Such a request carries the page's name
in ``Host`` and ``Origin``, so both must be loopback names or listed ones. With a key the key
decides; a page does not have it.

Keys are compared as SHA-256, in constant time, against all configured ones.

``/metrics`` may have a token of its own, which opens nothing else: scrapers keep theirs in plain files.
They come by whatever name they know the host by, so with a token the names do not matter there.

``/admin`` starts and stops engines and shows what they print. It always takes a master key *and* the
names: a key that is typed into a page, or kept by a browser, opens nothing for another page.
"""

import hashlib
import hmac
from collections.abc import Mapping
from typing import Final, NamedTuple

from homeport.errors import ClientError
from homeport.settings import ServerSettings

TELEMETRY_PATHS: Final = ("/api/event_logging/batch", "/api/event_logging/v2/batch", "/v2/batch")
"""Where versions of Claude Code have been seen to report to."""

OPEN_PATHS: Final = frozenset({"/", "/health", "/readyz", "/api/hello", *TELEMETRY_PATHS})
"""Answered without a key: probes of orchestrators, and what clients send before they have one."""

MASTER: Final = "master key"
"""What logs call the holder of a master key."""

METRICS: Final = "metrics token"
"""The same of who has only that one."""
METRICS_PATH: Final = "/metrics"

LITELLM: Final = "LiteLLM"
"""The same of the LiteLLM that runs beside us."""
INTERNAL: Final = "/internal/"
"""Routes for that one alone."""

WORDS: Final = ("a key is needed", "the key is not a valid one")
WORDS_OF_ADMIN: Final = ("a master key is needed", "the key is no master key")
WORDS_OF_METRICS: Final = ("the metrics token is needed", "that is neither it nor a key")

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class Guest(NamedTuple):
    """Who was let in."""

    name: str
    """Of the key; empty where none is needed."""
    is_litellm: bool = False
    """The LiteLLM beside us."""


ANYONE: Final = Guest("")
LITELLM_BESIDE: Final = Guest(LITELLM, is_litellm=True)


class Admission:
    """Decides on headers alone."""

    def __init__(
        self,
        server: ServerSettings,
        own_key: str | None = None,
        internal_key: str | None = None,
        *,
        needs_key: bool = False,
    ) -> None:
        """``own_key`` is a master key too: the one that homeport has made for itself. With the
        ``internal_key`` comes LiteLLM, where it runs beside us; ``needs_key`` says that other machines
        come in there."""
        self._needs_key = needs_key or server.needs_key
        self._keys = tuple((bytes.fromhex(key.sha256), key.name) for key in server.keys)
        self._masters = _hashed(MASTER, server.master_key, own_key)
        self._metrics = _hashed(METRICS, server.metrics_token)
        self._internal = internal_key.encode() if internal_key else None
        # Our own address too: without a key it is a loopback one, though not always the usual.
        self._hosts = LOOPBACK | {host.lower() for host in (server.host, *server.allowed_hosts)}
        self._origins = frozenset(origin.lower().rstrip("/") for origin in server.allowed_origins)

    def admit(self, path: str, headers: Mapping[bytes, bytes]) -> Guest:
        """Raises ``ClientError``: ``authentication`` (401) or ``permission`` (403)."""
        given = _given(headers)
        if given and self._is_litellm(given):
            if is_admin(path):
                raise ClientError("permission", "LiteLLM's key does not open /admin")
            return LITELLM_BESIDE
        if path.startswith(INTERNAL):
            raise ClientError(
                "authentication", "these routes are for LiteLLM beside homeport alone"
            )
        if is_admin(path):
            self._check_names(headers)
            return _holder(given, self._masters, WORDS_OF_ADMIN)
        if self._metrics and path.rstrip("/") == METRICS_PATH:
            keys = self._metrics + self._keys + self._masters
            return _holder(given, keys, WORDS_OF_METRICS)
        if not self._needs_key:
            self._check_names(headers)
            return ANYONE
        if path in OPEN_PATHS:
            return ANYONE
        return _holder(given, self._keys + self._masters, WORDS)

    def _is_litellm(self, given: list[bytes]) -> bool:
        """Each request is asked that, so that this key, which we know as it is, is not hashed."""
        key = self._internal
        return key is not None and any(hmac.compare_digest(each, key) for each in given)

    def allows_origin(self, headers: Mapping[bytes, bytes]) -> bytes | None:
        """The origin to name in CORS headers, if it is an allowed one."""
        origin = headers.get(b"origin")
        if origin and origin.decode("latin-1").lower().rstrip("/") in self._origins:
            return origin
        return None

    def _check_names(self, headers: Mapping[bytes, bytes]) -> None:
        host = headers.get(b"host", b"").decode("latin-1")
        if host_name(host) not in self._hosts:
            raise ClientError(
                "permission",
                f"requests for host '{host}' are refused while no key is configured, and for "
                "/admin always; add it to server.allowed_hosts, or make a key with 'homeport key new'",
            )
        if not (said := headers.get(b"origin")):
            return
        origin = said.decode("latin-1").lower()
        if origin.rstrip("/") in self._origins:
            return
        if host_name(origin.partition("://")[2]) not in self._hosts:
            raise ClientError(
                "permission",
                f"pages from '{origin}' may not call; add it to server.allowed_origins",
            )


def is_admin(path: str) -> bool:
    return path == "/admin" or path.startswith("/admin/")


Keys = tuple[tuple[bytes, str], ...]
"""SHA-256, and what the holder is called."""


def _hashed(name: str, *keys: str | None) -> Keys:
    return tuple((hashlib.sha256(key.encode()).digest(), name) for key in keys if key)


def _holder(given: list[bytes], keys: Keys, words: tuple[str, str]) -> Guest:
    """Clients send ``x-api-key``, ``Authorization: Bearer``, or both with different values
    (Claude Code with both variables set): one good key is enough."""
    if found := _known(given, keys):
        return Guest(found)
    missing, wrong = words
    problem = wrong if given else missing
    raise ClientError("authentication", f"{problem}; send it as x-api-key or Bearer token")


def _given(headers: Mapping[bytes, bytes]) -> list[bytes]:
    given = [*filter(None, map(headers.get, (b"x-api-key", b"api-key")))]
    if said := headers.get(b"authorization"):
        scheme, _, token = said.partition(b" ")
        if scheme.lower() == b"bearer" and token:
            given.append(token.strip())
    return given


def _known(given: list[bytes], keys: Keys) -> str:
    """The name of a key that is among ``keys``."""
    found = ""
    for value in given:
        digest = hashlib.sha256(value).digest()
        for known, name in keys:  # no early end: time must not tell which key matched
            if hmac.compare_digest(digest, known):
                found = found or name
    return found


def host_name(host: str) -> str:
    """The name in a ``Host`` header: no port, no brackets, lower case, no trailing dot."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower().rstrip(".")
