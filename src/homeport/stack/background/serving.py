"""How ``homeport serve`` is called in the background: from what is wanted, the environment, and
``services/.env``.

So that the verbs mean the same with containers and without, the choices in ``services/.env`` hold here
too, and a variable of the environment wins over them, as it does for Compose. What is about containers
only is left out; what names this machine from within one is named as it is called here.

Decided here, done elsewhere; only the configuration is read, so that an error in it is told before
anything is started or stopped.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from homeport.config import load
from homeport.config.flags import NO_STORE, STORE_URL, UPSTREAM_LIST, Overrides
from homeport.errors import ConfigError
from homeport.stack.layout import Layout
from homeport.stack.proxy import Wanted

PORT: Final = "HOMEPORT_PORT"
BIND: Final = "HOMEPORT_BIND"
PROFILE: Final = "HOMEPORT_PROFILE"

OF_CONTAINERS: Final = (
    *("HOMEPORT_DB_PASSWORD", "HOMEPORT_DB_READER_PASSWORD", "HOMEPORT_UID", "HOMEPORT_GID"),
    *("HOMEPORT_LITELLM_URL", "HOMEPORT_INTERNAL_KEY", "HOMEPORT_MODELS", "LITELLM_DB_PASSWORD"),
    *("LITELLM_PORT", "PROMETHEUS_PORT", "GRAFANA_PORT", "GRAFANA_ADMIN_PASSWORD"),
)
OF_CONTAINERS_PREFIXES: Final = ("COMPOSE_", "LLAMA_")
"""Variables of ``services/.env`` that say nothing to a homeport beside no containers. Secrets of others
are not for its environment either."""
SERVICES: Final = frozenset({"gateway", "timescaledb", "litellm", "llama", "prometheus", "grafana"})
"""Host names that only containers know."""
THIS_MACHINE: Final = "host.docker.internal"
"""How containers call the machine that they run on."""

OF_ENGINES_PREFIXES: Final = (
    *("HOMEPORT_", "CUDA_", "NVIDIA_", "HIP_", "ROCR_", "HF_", "LLAMA_", "GGML_", "VLLM_", "MLX_"),
    *("SGLANG_", "OMP_", "DOCKER_", "XDG_CONFIG_", "XDG_STATE_", "XDG_DATA_", "XDG_CACHE_", "LC_"),
)
OF_ENGINES: Final = frozenset({"PATH", "LD_LIBRARY_PATH", "LANG", "TMPDIR", "TZ"})
"""What says something to homeport and to engines, beside what the configuration asks for: where it
has to be written down, the rest of a user's environment is nobody's business."""

PATHS: Final = ("HOMEPORT_HOME", *load.CONFIG_VARIABLES)
"""Variables that may be relative to a folder that is not the background's."""

GRACE_S: Final = 20.0
"""Behind the drain: engines have ten seconds to end, then are killed; the store writes its rest."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """How one runs; what another start may want otherwise."""

    host: str
    port: int
    profile: str | None
    no_db: bool
    debug: bool
    drain_timeout_s: float

    @property
    def stop_timeout_s(self) -> float:
        """After so long it is killed."""
        return self.drain_timeout_s + GRACE_S

    @property
    def details(self) -> list[str]:
        """What is not as ever, in words."""
        profile = [f"profile {self.profile}"] if self.profile else []
        return profile + ["no usage store"] * self.no_db


class Serving(msgspec.Struct, frozen=True, kw_only=True):
    """A call of ``homeport serve``."""

    run: Run
    arguments: tuple[str, ...]
    env: dict[str, str]
    asked: frozenset[str]
    """The variables that its configuration asks for, or ``services/.env`` sets."""

    @property
    def own_env(self) -> dict[str, str]:
        """What of ``env`` it needs."""
        return {
            name: value
            for name, value in self.env.items()
            if name in self.asked or name in OF_ENGINES or name.startswith(OF_ENGINES_PREFIXES)
        }


def serving(wanted: Wanted, env: Mapping[str, str]) -> Serving:
    """How it is called. Raises ``ConfigError`` for what is wrong with the configuration, and
    ``StackError`` where ``services/.env`` cannot be read."""
    ours = dict(_for_us(Layout.of(env).variables()))
    merged = _Asked({**ours, **env})
    for name in PATHS:
        if merged.get(name):
            merged[name] = str(Path(merged[name]).absolute())
    if wanted.profile is not None:
        merged[PROFILE] = wanted.profile
    if wanted.no_db:
        merged[STORE_URL] = NO_STORE
    port, host = _port(merged.get(PORT, "")), merged.get(BIND) or None
    settings = load.settings(None, merged, Overrides(host=host, port=port))
    flags = [
        *(("--host", host) if host else ()),
        *(("--port", str(port)) if port is not None else ()),
    ]
    run = Run(
        host=settings.server.host,
        port=settings.server.port,
        profile=merged.get(PROFILE) or None,
        no_db=wanted.no_db,
        debug=wanted.debug,
        drain_timeout_s=settings.server.limits.drain_timeout_s,
    )
    debug = ("--log-level", "debug") if wanted.debug else ()
    asked = frozenset(ours) | merged.asked
    return Serving(run=run, arguments=("serve", *flags, *debug), env=dict(merged), asked=asked)


def as_it_ran(run: Run | None) -> Wanted:
    """What was wanted of one that runs, or ran last."""
    if run is None:
        return Wanted()
    return Wanted(profile=run.profile, no_db=run.no_db, debug=run.debug)


def differences(runs: Run, wanted: Run) -> list[str]:
    """What is otherwise, in words: how it runs."""
    found = []
    if (runs.host, runs.port) != (wanted.host, wanted.port):
        found.append(f"on {runs.host}:{runs.port}, not on {wanted.host}:{wanted.port}")
    if runs.profile != wanted.profile:
        found.append(f"with the profile {runs.profile}" if runs.profile else "with no profile")
    if runs.no_db != wanted.no_db:
        found.append("without its usage store" if runs.no_db else "with its usage store")
    if runs.debug != wanted.debug:
        found.append("with --debug" if runs.debug else "without --debug")
    return found


class _Asked(dict[str, str]):
    """An environment that remembers what it was asked for."""

    def __init__(self, env: Mapping[str, str]) -> None:
        super().__init__(env)
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.asked.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.asked.add(name)
        return super().get(name, default)


def _for_us(stored: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, value in stored.items():
        if name in OF_CONTAINERS or name.startswith(OF_CONTAINERS_PREFIXES):
            continue
        yield name, ",".join(_reachable(value.split(","))) if name == UPSTREAM_LIST else value


def _reachable(urls: Iterable[str]) -> Iterator[str]:
    """The servers that are reached from outside of containers, by the names that they have there."""
    for url in filter(None, map(str.strip, urls)):
        host = urlsplit(url).hostname
        if host not in SERVICES:
            yield url.replace(f"//{THIS_MACHINE}", "//127.0.0.1", 1)


def _port(text: str) -> int | None:
    if not text:
        return None
    if text.isascii() and text.isdigit() and int(text) < 2**16:
        return int(text)
    raise ConfigError(
        f"'{text}' is no port", where=PORT, hint="a number up to 65535; 0 takes a free one"
    )


def command(python: str, serving: Serving, *more: str) -> list[str]:
    """As it is executed. ``-P``: a file that happens to be called like a module of ours, where the
    command was typed, is not imported."""
    return [python, "-P", "-m", "homeport", *serving.arguments, *more]
