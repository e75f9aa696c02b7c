"""``homeport install``: the stack's files in the user's folder, its secrets, its images.

Three steps, each of which can be done again at any time:

1. The files of the package go into ``services/``; what the user has changed stays (``files_plan``).
2. ``.env`` gets what it lacks: secrets made here, once, and choices with their defaults.
3. Images are built and pulled, each by itself: one that cannot be had does not keep the others away,
   and ``homeport proxy start`` tries again.
"""

import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

import msgspec

from homeport.errors import StackError
from homeport.stack import env_file, wheel
from homeport.stack.compose import Compose
from homeport.stack.env_file import Variable
from homeport.stack.files_plan import Step, plan, sums
from homeport.stack.layout import Layout
from homeport.stack.proxy import Tell

PROFILES: Final = ("litellm", "monitoring", "llama")
"""What there is beside gateway and database: ``--with``."""
LLAMA_URL: Final = "http://llama:8080/v1"
METRICS_TOKEN_FILE: Final = "prometheus/metrics_token"


class Installed(msgspec.Struct, frozen=True, kw_only=True):
    """What was done."""

    services: str
    files: tuple[Step, ...]
    profiles: tuple[str, ...]
    new_key: str | None
    """The master key, when it was made just now: it is shown once."""


def install_files(
    layout: Layout, env: Mapping[str, str], chosen: Sequence[str] | None
) -> Installed:
    """Steps 1 and 2. ``chosen`` are the profiles wanted; None leaves them as they are. Raises
    ``StackError`` where the folder cannot be written."""
    try:
        layout.services.mkdir(mode=0o700, parents=True, exist_ok=True)
        before = layout.env_file.read_text() if layout.env_file.exists() else ""
        known = env_file.values(before)
        profiles = _profiles(known) if chosen is None else tuple(chosen)
        text = env_file.completed(before, _variables(env, profiles))
        if chosen is not None:
            text = env_file.changed(text, _choice(env_file.values(text), profiles))
        env_file.write(layout.env_file, text)
        values = env_file.values(text)
        steps = _write_files(layout, _shipped(values))
    except OSError as error:
        raise StackError(
            f"{error.filename or layout.services} cannot be written: {error.strerror}",
            hint="look at the folder's owner, or set HOMEPORT_CONFIG to another folder",
        ) from None
    new_key = None if known.get("HOMEPORT_MASTER_KEY") else values["HOMEPORT_MASTER_KEY"]
    return Installed(
        services=str(layout.services),
        files=tuple(steps),
        profiles=profiles,
        new_key=None if new_key == env.get("HOMEPORT_MASTER_KEY") else new_key,
    )


def get_images(
    compose: Compose, profiles: Sequence[str], step: Tell, now: Tell
) -> list[StackError]:
    """Step 3: build what is built, pull the rest; return what could not be had. ``now`` hears each line
    of Docker's."""
    failed = []
    for service in compose.services(profiles):
        verb = "build" if service.is_built else "pull"
        now(f"{verb} {service.name}")
        try:
            compose.get_image(service, now)
            step(f"  {service.name}: {'built' if service.is_built else 'pulled'}")
        except StackError as error:
            step(f"  {service.name}: failed")
            failed.append(error)
    return failed


# --------------------------------------------------------------------------- .env


def _profiles(known: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(filter(None, known.get("COMPOSE_PROFILES", "").split(",")))


def _choice(known: Mapping[str, str], profiles: Sequence[str]) -> dict[str, str]:
    """What choosing services changes."""
    upstreams = [url for url in known.get("HOMEPORT_UPSTREAM", "").split(",") if url]
    upstreams = [url for url in upstreams if url != LLAMA_URL]
    if "llama" in profiles:
        upstreams.insert(0, LLAMA_URL)
    return {"COMPOSE_PROFILES": ",".join(profiles), "HOMEPORT_UPSTREAM": ",".join(upstreams)}


def _variables(env: Mapping[str, str], profiles: Sequence[str]) -> Iterable[Variable]:
    """All of ``.env``, in its order. Secrets that the environment has are taken from there."""

    def secret(*names: str) -> str:
        return next(filter(None, (env.get(name) for name in names)), "") or "sk-" + _new_secret()

    master = secret("HOMEPORT_MASTER_KEY", "LITELLM_MASTER_KEY")
    yield Variable(
        "COMPOSE_PROJECT_NAME",
        env.get("COMPOSE_PROJECT_NAME") or "homeport",
        "Choices of homeport's stack, and its secrets. Read by Docker Compose.",
    )
    yield Variable("COMPOSE_PROFILES", ",".join(profiles), "Services beside gateway and database.")
    yield Variable(
        "HOMEPORT_MASTER_KEY", master, "The key that clients need; it opens /admin, too."
    )
    yield Variable("LITELLM_MASTER_KEY", master)
    yield Variable("HOMEPORT_DB_PASSWORD", _new_secret(), "Among the services.")
    yield Variable("HOMEPORT_METRICS_TOKEN", _new_secret())
    yield Variable("GRAFANA_ADMIN_PASSWORD", _new_secret(), "Grafana's user is admin.")
    yield Variable("HOMEPORT_PORT", "11899", "Ports on this machine.")
    yield Variable("LITELLM_PORT", env.get("LITELLM_PORT") or "4444")
    yield Variable("PROMETHEUS_PORT", "9090")
    yield Variable("GRAFANA_PORT", "3000")
    yield Variable("LLAMA_PORT", "8080")
    yield Variable(
        "HOMEPORT_ALLOWED_HOSTS", "", "More names by which the gateway may be called, with commas."
    )
    yield Variable("HOMEPORT_UPSTREAM", LLAMA_URL if "llama" in profiles else "")
    yield Variable("HOMEPORT_PROFILE", "", "A set of ../profiles, by its name.")
    yield Variable("HOMEPORT_MODELS", "./models", "A folder of models; /models in containers.")
    yield Variable("LLAMA_MODEL", "model.gguf", "The file in it that llama serves.")
    if os.getuid():
        yield Variable("HOMEPORT_UID", str(os.getuid()), "Whom the gateway runs as.")
        yield Variable("HOMEPORT_GID", str(os.getgid()))


def _new_secret() -> str:
    return secrets.token_urlsafe(24)


# --------------------------------------------------------------------------- files


def _shipped(values: Mapping[str, str]) -> dict[str, bytes]:
    """All files of ``services/`` but ``.env``."""
    root = resources.files("homeport.stack") / "files"
    shipped = dict(sorted(_below(root)))
    name, data = wheel.packed()
    shipped[f"gateway/{name}"] = data
    shipped[METRICS_TOKEN_FILE] = values["HOMEPORT_METRICS_TOKEN"].encode()
    return shipped


def _below(folder: Traversable, prefix: str = "") -> Iterable[tuple[str, bytes]]:
    for entry in folder.iterdir():
        path = prefix + entry.name
        if entry.is_dir():
            yield from _below(entry, f"{path}/")
        else:
            yield path, entry.read_bytes()


def _write_files(layout: Layout, shipped: Mapping[str, bytes]) -> list[Step]:
    root = layout.services
    found = {path: file.read_bytes() for path in shipped if (file := root / path).is_file()}
    steps = plan(shipped, found, _written(layout.manifest))
    for step in steps:
        if step.action in ("new", "updated", "beside"):
            _write(root / (step.path + ".new" * (step.action == "beside")), step.data)
    for old in set((root / "gateway").glob("homeport-*.whl")) - {root / path for path in shipped}:
        old.unlink()  # of another version
    (root / "models").mkdir(exist_ok=True)
    _write(layout.manifest, msgspec.json.format(msgspec.json.encode(sums(steps)), indent=1))
    return steps


def _write(file: Path, data: bytes) -> None:
    """Readable for all: containers run as other users, and ``services`` itself lets nobody else in."""
    if not file.parent.is_dir():
        file.parent.parent.mkdir(parents=True, exist_ok=True)
        file.parent.mkdir()
        file.parent.chmod(0o755)
    new = file.with_name(f".{file.name}.part")
    new.write_bytes(data)
    new.chmod(0o644)
    new.replace(file)


def _written(manifest: Path) -> dict[str, str]:
    try:
        return msgspec.json.decode(manifest.read_bytes(), type=dict[str, str])
    except (FileNotFoundError, msgspec.MsgspecError):
        return {}
