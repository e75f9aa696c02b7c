"""What comes over from the layout before this one, that of run-claude: looked at, planned, told.

Its files lie in two places, and either may be missing:

* the user's folder: ``$RUN_CLAUDE_CONFIG``, else ``run-claude`` under the XDG config home: ``.env``,
  ``litellm_config.yaml``, later versions have the rest in ``services/`` there.
* ``dep/`` in ``$XDG_STATE_HOME/run-claude``: the compose file and what belongs to it.

What is there is copied, once (``migrated.json`` in our ``services/`` says that it was), and never over
something that is here already. The old folders are read, and nothing else.

1. The master key, because clients have it: it becomes ours where ours is made just now.
2. ``LITELLM_PORT``, and all that is not the old stack's own: providers' keys above all. Such lines are
   taken as they stand, since they may mean each other.
3. ``litellm_config.yaml``, to where LiteLLM's configuration is now.
4. The files of the old stack into ``services/old``, for the user to look at: what was changed in them
   cannot be known.

Not the database: its volume stays, and is not touched; docs/stack.md says how to carry it over by hand.
"""

import os
import re
import stat
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

import msgspec

from homeport.config import load
from homeport.config.flags import MASTER_KEYS
from homeport.errors import StackError
from homeport.stack import env_file
from homeport.stack.installing.variables import OWN

NAME: Final = "run-claude"
OLD: Final = "old"
"""The folder in ``services/`` for files of the old stack."""
MASTER_KEY: Final = "LITELLM_MASTER_KEY"
PORT: Final = "LITELLM_PORT"
FILE_BYTES: Final = 1024 * 1024
FILES: Final = 200
"""Of the old stack; its own are a handful."""
SKIPPED: Final = (".env", "*.pyc", "*.log", "*.pid", "*.sock")
SKIPPED_FOLDERS: Final = (".git", ".venv", "__pycache__", "node_modules")

_NOT_OURS: Final = (
    (r"RUN_CLAUDE_\w+|DATABASE_URL|DIRECT_URL|POSTGRES_\w+|PG[A-Z]+", "of the old database"),
    (r"STORE_MODEL_IN_DB|USE_PRISMA_MIGRATE", "set by homeport's compose file"),
    (
        r"PATH|HOME|SHELL|USER|PWD|(?:DOCKER|LD|PYTHON|XDG)\w*|VIRTUAL_ENV",
        "would change how programs start",
    ),
    (OWN.pattern, "has a meaning of its own in homeport"),
)
"""Variables that stay behind, and why."""


class Old(msgspec.Struct, frozen=True, kw_only=True):
    """What was found. Paths are as a person would write them."""

    folders: tuple[str, ...]
    env_files: tuple[tuple[str, str], ...] = ()
    """Paths and texts; the first counts more."""
    litellm_config: bytes | None = None
    litellm_path: str = ""
    litellm_mode: int = 0o600
    files: dict[str, bytes] = {}
    """Of the old stack, below its folder."""
    unread: tuple[str, ...] = ()
    """What was left, in a few words each."""

    def __repr__(self) -> str:  # shows no key
        return f"Old({self.folders})"


class Migration(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done, and what is told of it."""

    folders: tuple[str, ...]
    env: dict[str, str]
    """Values for variables that are ours, should they be made now."""
    lines: dict[str, str]
    """By name: lines for ``.env``."""
    litellm_config: bytes | None
    litellm_mode: int
    files: dict[str, bytes]
    """Below ``services/``."""
    taken: tuple[str, ...]
    left: tuple[str, ...]

    def __repr__(self) -> str:  # shows no key
        return f"Migration({self.taken}, {self.left})"


# --------------------------------------------------------------------------- looking


def look(env: Mapping[str, str]) -> Old | None:
    """What there is of the old layout; None where there is nothing. Raises ``StackError`` for a file of
    the user's that is there and cannot be read: to go on without it would give clients another key."""
    config, state = _config_folder(env), _state_folder(env)
    stacks = [folder for folder in (state / "dep", config / "services") if _is_folder(folder)]
    env_files = [
        (str(file), env_file.decoded(data))
        for file in (config / ".env", *(folder / ".env" for folder in stacks))
        if (data := _wanted(file)) is not None
    ]
    litellm = [
        (str(file), data)
        for folder in (config, state, *stacks)
        if (data := _wanted(file := folder / "litellm_config.yaml")) is not None
    ][:1]
    if not (stacks or env_files or litellm):
        return None
    unread: list[str] = []
    files = dict(_files(stacks[0], unread)) if stacks else {}
    return Old(
        folders=tuple(str(folder) for folder in (config, *stacks) if folder.is_dir()),
        env_files=tuple(env_files),
        litellm_config=litellm[0][1] if litellm else None,
        litellm_path=litellm[0][0] if litellm else "",
        litellm_mode=stat.S_IMODE(os.stat(litellm[0][0]).st_mode) & 0o644 if litellm else 0o600,
        files=files,
        unread=tuple(unread),
    )


def _config_folder(env: Mapping[str, str]) -> Path:
    if named := env.get("RUN_CLAUDE_CONFIG"):
        return Path(named).expanduser().absolute()
    return load.xdg(env, "XDG_CONFIG_HOME", ".config") / NAME


def _state_folder(env: Mapping[str, str]) -> Path:
    return load.xdg(env, "XDG_STATE_HOME", ".local/state") / NAME


def _wanted(file: Path) -> bytes | None:
    try:
        return _content(file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise _unreadable(file, error) from None


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError as error:  # what is above it may not be looked into
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError | ValueError) -> StackError:
    return StackError(
        f"{path} of {NAME} cannot be read: {getattr(error, 'strerror', None) or error}",
        hint="what is in it would be lost: make it readable, or move it away; nothing was changed",
    )


def _content(file: Path) -> bytes:
    """Raises ``OSError``, and ``ValueError`` for what is no plain file, or too big for one of these."""
    if not stat.S_ISREG(file.stat().st_mode):  # who opens a pipe waits for it
        raise ValueError("it is no plain file")
    with file.open("rb") as stream:
        data = stream.read(FILE_BYTES + 1)
    if len(data) > FILE_BYTES:
        raise ValueError(f"it has more than {FILE_BYTES // 1024} KiB")
    return data


def _files(stack: Path, unread: list[str]) -> Iterator[tuple[str, bytes]]:
    """A file that is not needed is no reason to fail."""
    count = 0

    def failed(error: OSError) -> None:
        unread.append(f"{error.filename} (cannot be read: {error.strerror})")

    for folder, folders, names in os.walk(stack, onerror=failed):
        folders[:] = sorted(name for name in folders if name not in SKIPPED_FOLDERS)
        for name in sorted(names):
            if any(fnmatch(name, pattern) for pattern in SKIPPED):
                continue
            file = Path(folder, name)
            if (count := count + 1) > FILES:
                unread.append(f"{file} and what follows (more than {FILES} files)")
                return
            if file.is_symlink():  # it may lead to anything that install may read
                unread.append(f"{file} (a link)")
                continue
            try:
                yield file.relative_to(stack).as_posix(), _content(file)
            except (OSError, ValueError) as error:
                why = getattr(error, "strerror", None) or error
                unread.append(f"{file} (cannot be read: {why})")


# --------------------------------------------------------------------------- planning


def plan(
    old: Old, known: Mapping[str, str], *, has_litellm_config: bool, with_litellm: bool
) -> Migration:
    """Pure. ``known`` is our ``.env`` as it is now."""
    found = _Found(taken=[], left=[])
    lines = _lines(old, known, found)
    env = _own(old, known, lines, found)
    config = _litellm_config(old, has_litellm_config, found)
    files = {f"{OLD}/{path}": data for path, data in old.files.items()}
    if files:
        found.taken.append(
            f"the old stack's files ({len(files)}), into services/{OLD}: what you had changed in its "
            "compose file, write into services/compose.override.yaml, which Compose reads, too"
        )
    if not with_litellm:
        found.left.append("LiteLLM itself: it runs here with `homeport install --with litellm`")
    found.left.append(
        "the old database: its volume stays as it is, and homeport begins with an empty one "
        "(docs/stack.md, Coming from run-claude)"
    )
    found.left.extend(f"{path}" for path in old.unread)
    return Migration(
        folders=old.folders,
        env=env,
        lines={line.name: line.text.strip() for line in lines.values()},
        litellm_config=config,
        litellm_mode=old.litellm_mode,
        files=files,
        taken=tuple(found.taken),
        left=tuple(found.left),
    )


class _Found(msgspec.Struct):
    taken: list[str]
    left: list[str]


def _lines(old: Old, known: Mapping[str, str], found: _Found) -> dict[str, env_file.Line]:
    """The lines that are taken. Names are told, values never."""
    there: dict[str, env_file.Line] = {}
    for path, text in reversed(old.env_files):  # the first counts more
        there |= {line.name: line for line in env_file.lines(text)}
        if unread := env_file.unread(text):
            numbers = ", ".join(map(str, unread))
            found.left.append(f"{path}: not understood, copy by hand: line {numbers}")
    why_not = {name: _why_not(name, known) for name in there}
    for why in dict.fromkeys(filter(None, why_not.values())):
        names = [name for name in there if why_not[name] == why]
        found.left.append(f"{', '.join(names)}: {why}")
    return {name: line for name, line in there.items() if not why_not[name]}


def _why_not(name: str, known: Mapping[str, str]) -> str:
    for pattern, why in _NOT_OURS:
        if re.fullmatch(pattern, name):
            return why
    if name in known and name not in (*MASTER_KEYS, PORT):
        return "is in services/.env already, and stays as it is there"
    return ""


def _own(
    old: Old, known: Mapping[str, str], lines: dict[str, env_file.Line], found: _Found
) -> dict[str, str]:
    """Takes out of ``lines`` what has a place of its own in our ``.env``."""
    env = {}
    key, port = lines.pop(MASTER_KEY, None), lines.pop(PORT, None)
    if key is not None and key.value:
        if known.get(MASTER_KEYS[0]):
            if known[MASTER_KEYS[0]] != key.value:
                found.left.append(f"{MASTER_KEY}: homeport has a master key already, which stays")
        elif not key.is_literal or not (key.value.isascii() and key.value.isprintable()):
            found.left.append(f"{MASTER_KEY}: is made of other variables, or no key can be like it")
        else:
            env[MASTER_KEY] = key.value
            found.taken.append(
                f"{MASTER_KEY}: it is homeport's master key, too; clients keep theirs"
            )
    if port is not None and port.value and known.get(PORT) != port.value:
        if PORT in known:
            found.left.append(f"{PORT}: services/.env has another one, which stays")
        elif not (port.value.isdecimal() and 0 < int(port.value) < 65536):
            found.left.append(f"{PORT}: is no port")
        else:
            env[PORT] = port.value
            found.taken.append(f"{PORT}: {port.value}")
    if lines:
        found.taken.append(f"into services/.env: {', '.join(lines)}")
    return env


def _litellm_config(old: Old, is_there: bool, found: _Found) -> bytes | None:
    data = old.litellm_config
    if data is None:
        return None
    if is_there:
        found.left.append(f"{old.litellm_path}: there is a litellm_config.yaml here already")
        return None
    found.taken.append(f"{old.litellm_path}: beside config.yaml")
    if re.search(rb"\b(?:localhost|127\.0\.0\.1)\b", data):
        found.left.append(
            "litellm_config.yaml names this machine as localhost, which in a container is the "
            "container: write host.docker.internal there"
        )
    if re.search(rb"\brun_claude\b", data):
        found.left.append(
            "litellm_config.yaml names Python code of run_claude, which homeport's image of LiteLLM "
            "does not have: take those lines out"
        )
    return data
