"""What stands in ``services/.env``: secrets made once, and choices with their defaults.

Pure, but for the secrets, which come from the system's generator.

What is there stays, always. The exceptions follow from the services chosen:
``COMPOSE_PROFILES`` and what of ``HOMEPORT_UPSTREAM`` and ``HOMEPORT_LITELLM_URL`` is ours.
"""

import re
import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final

from homeport.config.flags import MASTER_KEYS
from homeport.stack.containers.litellm_file import URL as LITELLM_URL
from homeport.stack.env_file import Variable
from homeport.stack.layout import chosen_profiles

PROFILES: Final = ("litellm", "monitoring", "llama")
"""What there is beside gateway and database: ``--with``."""
LLAMA_URL: Final = "http://llama:8080/v1"
GPU_FILES: Final = "compose.yaml:compose.gpu.yaml"
NEEDED: Final = (
    "HOMEPORT_MASTER_KEY",
    "LITELLM_MASTER_KEY",
    "HOMEPORT_INTERNAL_KEY",
    "HOMEPORT_DB_PASSWORD",
    "GRAFANA_ADMIN_PASSWORD",
)
"""Without a value of these Compose does nothing."""
OWN: Final = re.compile(r"(?:HOMEPORT|COMPOSE)_\w+")
"""Names that mean something to us or to Compose."""


def chosen(
    known: Mapping[str, str], add: Collection[str] = (), drop: Collection[str] = ()
) -> tuple[str, ...]:
    """The services beside gateway and database: those of before, and what was said now."""
    before = chosen_profiles(known)
    names = [*before, *(name for name in add if name not in before)]
    return tuple(name for name in names if name not in drop)


def choices(known: Mapping[str, str], profiles: Collection[str]) -> dict[str, str]:
    """What follows from them."""
    upstreams = [url for url in known.get("HOMEPORT_UPSTREAM", "").split(",") if url]
    has_llama = LLAMA_URL in upstreams
    if "llama" in profiles and not has_llama:
        upstreams.insert(0, LLAMA_URL)
    if "llama" not in profiles and has_llama:
        upstreams.remove(LLAMA_URL)
    litellm = known.get("HOMEPORT_LITELLM_URL", "")
    if litellm in ("", LITELLM_URL):
        litellm = LITELLM_URL if "litellm" in profiles else ""
    return {
        "COMPOSE_PROFILES": ",".join(profiles),
        "HOMEPORT_UPSTREAM": ",".join(upstreams),
        "HOMEPORT_LITELLM_URL": litellm,
    }


PORTS: Final = {
    "HOMEPORT_PORT": "11899",
    "LITELLM_PORT": "4444",
    "PROMETHEUS_PORT": "9090",
    "GRAFANA_PORT": "3000",
    "LLAMA_PORT": "8080",
}
"""What the environment of ``install`` says, else these."""


def wanted(
    env: Mapping[str, str],
    profiles: Collection[str],
    *,
    user: tuple[int, int] | None,
    has_gpu: bool,
) -> Iterator[Variable]:
    """All of ``.env``, in its order. The master key may come from the environment. ``user`` is whom the
    gateway runs as (uid and gid); None is the image's own."""
    master = _first(env, MASTER_KEYS) or f"sk-{_secret()}"
    yield Variable(
        "COMPOSE_PROJECT_NAME",
        env.get("COMPOSE_PROJECT_NAME") or "homeport",
        "Choices of homeport's stack, and its secrets. Read by Docker Compose.",
    )
    yield Variable("COMPOSE_PROFILES", ",".join(profiles), "Services beside gateway and database.")
    if has_gpu and "llama" in profiles:
        yield Variable("COMPOSE_FILE", GPU_FILES, "An NVIDIA GPU is here: llama gets it.")
    yield Variable(
        "HOMEPORT_MASTER_KEY", master, "The key that clients need; it opens /admin, too."
    )
    own = env.get("LITELLM_MASTER_KEY") or f"sk-{_secret()}"
    yield Variable("LITELLM_MASTER_KEY", own, "Between the gateway and LiteLLM.")
    yield Variable("HOMEPORT_INTERNAL_KEY", f"sk-{_secret()}")
    yield Variable("HOMEPORT_LITELLM_URL", LITELLM_URL if "litellm" in profiles else "")
    yield Variable("LITELLM_DB_PASSWORD", _secret())
    yield Variable("HOMEPORT_DB_PASSWORD", _secret(), "Among the services.")
    yield Variable("HOMEPORT_DB_READER_PASSWORD", _secret())
    yield Variable("HOMEPORT_METRICS_TOKEN", _secret())
    yield Variable("GRAFANA_ADMIN_PASSWORD", _secret(), "Grafana's user is admin.")
    for name, port in PORTS.items():
        comment = "Ports on this machine." if name == "HOMEPORT_PORT" else ""
        yield Variable(name, env.get(name) or port, comment)
    yield Variable(
        "HOMEPORT_ALLOWED_HOSTS", "", "More names by which the gateway may be called, with commas."
    )
    yield Variable("HOMEPORT_UPSTREAM", LLAMA_URL if "llama" in profiles else "")
    yield Variable("HOMEPORT_PROFILE", "", "A set of ../profiles, by its name.")
    yield Variable("HOMEPORT_MODELS", "./models", "A folder of models; /models in containers.")
    yield Variable("LLAMA_MODEL", "model.gguf", "The file in it that llama serves.")
    if user is not None:
        yield Variable("HOMEPORT_UID", str(user[0]), "Whom the gateway runs as.")
        yield Variable("HOMEPORT_GID", str(user[1]))


def _first(env: Mapping[str, str], names: Iterable[str]) -> str:
    return next(filter(None, map(env.get, names)), "")


def _secret() -> str:
    return secrets.token_urlsafe(24)
