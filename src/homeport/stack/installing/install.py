"""``homeport install``: the stack's files in the user's folder, its secrets, its images.

Steps, each of which can be done again at any time:

1. What an older layout has is looked at, once (``migrate``).
2. ``.env`` gets what it lacks: secrets made here, once, and choices with their defaults.
3. The files of the package go into ``services/``; what the user has changed stays (``files_plan``).
4. Images are built and pulled, each by itself: one that cannot be had does not keep the others away,
   and ``homeport proxy start`` tries again.

1 to 3 are one change: all of it is written, or nothing (``staged``). Only one install is at work at a
time.
"""

import errno
import hashlib
import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

import msgspec

from homeport.config import load
from homeport.config.flags import MASTER_KEYS
from homeport.errors import StackError
from homeport.stack import env_file
from homeport.stack.alone import alone
from homeport.stack.containers import litellm_file
from homeport.stack.containers.compose import Compose
from homeport.stack.installing import files_plan, migrate, wheel
from homeport.stack.installing.files_plan import Step
from homeport.stack.installing.migrate import Migration
from homeport.stack.installing.variables import NEEDED, PROFILES, choices, chosen, wanted
from homeport.stack.layout import Layout
from homeport.stack.proxy import Tell
from homeport.stack.staged import SECRET, Staged

__all__ = ["PROFILES", "Installed", "get_images", "install_files"]

METRICS_TOKEN_FILE: Final = "prometheus/metrics_token"
MODELS: Final = "models"
CHANGED: Final = "changed"
"""In the manifest: no file has such a sum."""
WEIGHTS_SHOWN: Final = 3


class Installed(msgspec.Struct, frozen=True, kw_only=True):
    """What was done."""

    services: str
    files: tuple[Step, ...]
    profiles: tuple[str, ...]
    dropped: tuple[str, ...]
    """Profiles that were chosen before."""
    new_key: str | None
    """The master key, when it was made just now: it is shown once."""
    migrated: Migration | None
    notes: tuple[str, ...]
    """What is worth knowing before the start."""


def install_files(
    layout: Layout,
    env: Mapping[str, str],
    *,
    add: Collection[str] = (),
    drop: Collection[str] = (),
    has_gpu: Callable[[], bool],
    tell: Tell,
) -> Installed:
    """Steps 1 to 3. ``add`` and ``drop`` are the profiles to take in and out; what was chosen before
    stays otherwise. Raises ``StackError``, and has then changed nothing."""
    _check_home(env)
    with alone(load.state_home(env) / "install", tell):
        try:
            return _install(layout, env, add, drop, has_gpu)
        except OSError as error:
            raise _problem(error, layout) from None


def _install(
    layout: Layout,
    env: Mapping[str, str],
    add: Collection[str],
    drop: Collection[str],
    has_gpu: Callable[[], bool],
) -> Installed:
    before = env_file.load(layout.env_file)
    known = env_file.values(before)
    profiles = chosen(known, add, drop)
    migrated = _migration(layout, env, known, profiles)
    variables = [
        *wanted(
            (migrated.env if migrated else {}) | {name: env[name] for name in env if env[name]},
            profiles,
            user=(os.getuid(), os.getgid()) if os.getuid() else None,
            has_gpu="llama" in profiles and has_gpu(),
        )
    ]
    emptied = {v.name: v.value for v in variables if v.name in NEEDED and known.get(v.name) == ""}
    text = env_file.completed(env_file.changed(before, emptied), variables)
    text = env_file.changed(text, choices(env_file.values(text), profiles))
    if migrated and migrated.lines:
        text += "\n".join(("", f"# From {migrate.NAME}.", *migrated.lines.values(), ""))
    values = env_file.values(text)
    steps = _plan(layout, _shipped(values))
    _write(layout, text, steps, migrated)
    key = values["HOMEPORT_MASTER_KEY"]
    is_new = not known.get("HOMEPORT_MASTER_KEY") and not _was_given(key, env, migrated)
    return Installed(
        services=str(layout.services),
        files=tuple(steps),
        profiles=profiles,
        dropped=tuple(name for name in chosen(known) if name not in profiles),
        new_key=key if is_new else None,
        migrated=migrated,
        notes=(*_unread(before), *_notes(layout, {**values, **env}, profiles)),
    )


def get_images(
    compose: Compose, profiles: Sequence[str], begin: Tell, step: Tell, now: Tell
) -> list[StackError]:
    """Step 4: build what is built, pull the rest; return what could not be had. What all need
    comes first. ``begin`` hears what is begun, ``step`` what has come of it, ``now`` each line of
    Docker's."""
    failed = []
    for service in sorted(compose.services(profiles), key=lambda service: bool(service.profiles)):
        doing, done = ("building", "built") if service.is_built else ("pulling", "there")
        begun = time.monotonic()
        begin(f"  {service.name}: {doing}")
        try:
            compose.get_image(service, now)
            step(f"  {service.name}: {done}{_took(time.monotonic() - begun)}")
        except StackError as error:
            step(f"  {service.name}: failed{_took(time.monotonic() - begun)}")
            failed.append(error)
    return failed


def _took(seconds: float) -> str:
    return f" ({seconds:.0f} s)" if seconds >= 1 else ""


# --------------------------------------------------------------------------- what goes before


def _check_home(env: Mapping[str, str]) -> None:
    """The gateway's container reads ``config.yaml`` of a folder."""
    named = env.get(load.CONFIG_VARIABLES[0])
    if named and (file := Path(named).absolute()) != load.home(env):
        hint = f"HOMEPORT_CONFIG={file.parent} means that folder, with this file in it"
        if file.name != "config.yaml":
            hint = f"copy it to {load.home(env) / 'config.yaml'}, and unset HOMEPORT_CONFIG"
        raise StackError(
            f"HOMEPORT_CONFIG names a file, and the stack needs a folder: {file}", hint=hint
        )


def _migration(
    layout: Layout, env: Mapping[str, str], known: Mapping[str, str], profiles: Collection[str]
) -> Migration | None:
    if layout.migrated.exists() or (old := migrate.look(env)) is None:
        return None
    key = next(filter(None, (env.get(name) for name in MASTER_KEYS)), None)
    return migrate.plan(
        old,
        {**({MASTER_KEYS[0]: key} if key else {}), **known},
        has_litellm_config=os.path.lexists(layout.litellm_config),
        with_litellm="litellm" in profiles,
    )


def _was_given(key: str, env: Mapping[str, str], migrated: Migration | None) -> bool:
    """The user has it already."""
    given = {env.get(name) for name in MASTER_KEYS}
    return key in given | set(migrated.env.values() if migrated else ())


def _unread(text: str) -> Iterable[str]:
    for number in env_file.unread(text):
        yield f"services/.env, line {number}: not understood; is a quote missing?"


def _notes(layout: Layout, values: Mapping[str, str], profiles: Collection[str]) -> Iterable[str]:
    if "llama" in profiles:
        yield from _model_notes(layout, values)
    if "COMPOSE_FILE" in values and "compose.gpu.yaml" in values["COMPOSE_FILE"]:
        yield "llama gets the NVIDIA GPU (COMPOSE_FILE in services/.env)"
    if os.getuid() == 0 and values.get("HOMEPORT_UID", "10001") != "0":
        read = (layout.home, layout.home / "config.yaml", layout.litellm_config)
        closed = [path for path in read if _is_closed(path)]
        for path in closed:
            yield (
                f"the gateway runs as user {values.get('HOMEPORT_UID', '10001')}, who may not read "
                f"{path}: `chmod go+rX {path}`"
            )


def _model_notes(layout: Layout, values: Mapping[str, str]) -> Iterable[str]:
    folder = layout.services / Path(values["HOMEPORT_MODELS"]).expanduser()
    if (folder / values["LLAMA_MODEL"]).is_file():
        return
    there = sorted(path.name for path in folder.glob("*.gguf"))[:WEIGHTS_SHOWN]
    yield (
        f"llama has no model yet: there is no {values['LLAMA_MODEL']} in {os.path.normpath(folder)}; "
        + (f"there is {', '.join(there)}; " if there else "put a GGUF there, or ")
        + f"set LLAMA_MODEL and HOMEPORT_MODELS in {layout.env_file}"
    )


def _is_closed(path: Path) -> bool:
    needed = 0o005 if path.is_dir() else 0o004
    return path.exists() and path.stat().st_mode & needed != needed


# --------------------------------------------------------------------------- files


def _shipped(values: Mapping[str, str]) -> dict[str, bytes]:
    """All files of ``services/`` but ``.env``; the one that says that it is installed comes last."""
    root = resources.files("homeport.stack") / "files"
    shipped = dict(sorted(_below(root)))
    name, data = wheel.packed()
    shipped[f"gateway/{name}"] = data
    shipped |= litellm_file.image_files()
    shipped[METRICS_TOKEN_FILE] = env_file.encoded(values["HOMEPORT_METRICS_TOKEN"])
    shipped["compose.yaml"] = shipped.pop("compose.yaml")
    return shipped


def _below(folder: Traversable, prefix: str = "") -> Iterable[tuple[str, bytes]]:
    for entry in folder.iterdir():
        path = prefix + entry.name
        if entry.is_dir():
            yield from _below(entry, f"{path}/")
        else:
            yield path, entry.read_bytes()


def _plan(layout: Layout, shipped: Mapping[str, bytes]) -> list[Step]:
    written = layout.written()
    found = sums_of(layout, lambda path: files_plan.is_asked(path, shipped, written))
    known = {path: each for path, each in found.items() if each}
    return files_plan.plan(shipped, known, written)


def sums_of(layout: Layout, is_asked: Callable[[str], bool]) -> dict[str, str]:
    """All files in ``services/``, links included: with the sum of each that is asked for, else empty.
    Raises ``OSError``."""
    found = {}
    for folder, _, names in os.walk(layout.services):
        for name in names:
            file = Path(folder, name)
            path = file.relative_to(layout.services).as_posix()
            found[path] = ""
            if is_asked(path) and file.is_file():
                with file.open("rb") as stream:
                    found[path] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found


def _write(layout: Layout, text: str, steps: list[Step], migrated: Migration | None) -> None:
    """All, or nothing."""
    root, data = layout.services, env_file.encoded(text)
    sums = files_plan.sums(steps) | {files_plan.ENV: _env_sum(layout, data)}
    with Staged() as staged:
        staged.make(root, 0o700)
        if not layout.manifest.exists():
            root.chmod(0o700)  # if the user has made it, to put something there
        if migrated is not None:
            _stage_migrated(layout, migrated, staged)
        staged.add(layout.env_file, data, env_file.MODE)
        for step in steps:
            if step.action in ("new", "updated", "beside"):
                beside = files_plan.BESIDE if step.action == "beside" else ""
                staged.add(root / (step.path + beside), step.data)
        staged.add(layout.manifest, msgspec.json.format(msgspec.json.encode(sums), indent=1))
        staged.make(root / MODELS)
        staged.put()
    for step in steps:
        if step.action == "removed":
            (root / step.path).unlink(missing_ok=True)


def _stage_migrated(layout: Layout, migrated: Migration, staged: Staged) -> None:
    for path, data in migrated.files.items():
        if not os.path.lexists(layout.services / path):
            staged.add(layout.services / path, data, SECRET)
    if migrated.litellm_config is not None:
        staged.add(layout.litellm_config, migrated.litellm_config, migrated.litellm_mode)
    told = {"from": migrated.folders, "taken": migrated.taken, "left": migrated.left}
    record = msgspec.json.format(msgspec.json.encode(told), indent=1)
    staged.add(layout.migrated, record, SECRET)


def _env_sum(layout: Layout, data: bytes) -> str:
    """What ``.env`` was when nobody but us had written it; of one that was changed, nothing."""
    before = layout.env_file.read_bytes() if layout.env_file.exists() else None
    written = layout.written().get(files_plan.ENV)
    is_ours = before is None or files_plan.digest(before) == written
    return files_plan.digest(data) if is_ours else CHANGED


def _problem(error: OSError, layout: Layout) -> StackError:
    where = error.filename or layout.services
    hint = "look at the folder's owner, or set HOMEPORT_CONFIG to another folder"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        hint = "make room on its disk; nothing was changed"
    return StackError(f"{where} cannot be written: {error.strerror}", hint=hint)
