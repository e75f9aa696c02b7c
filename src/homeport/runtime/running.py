"""Which homeports run on this machine: a small file for each, by which the command line finds them.

``PORT.json`` holds the URL, the process (pid and start time, since pids come again) and the key that
was made for this run. Whoever can read it can load and stop models, so it is for its owner alone (mode
600). It lies in ``$XDG_RUNTIME_DIR/homeport``, which is on no disk and gone after a logout; without
such a folder below our state. ``kill -9`` leaves it behind: whoever finds it then removes it.
"""

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import psutil

SAME_START_S = 2.0
"""Start times are told in ticks since boot, and the time of boot may be corrected. Nobody gets a pid
again so soon."""


class Running(msgspec.Struct, frozen=True, kw_only=True):
    url: str
    pid: int
    started_at_s: float
    """As the system tells it of the process."""
    key: str

    def __repr__(self) -> str:  # never shows the key
        return f"Running({self.url!r}, pid={self.pid})"


def folders(env: Mapping[str, str], state_home: Path) -> Iterator[Path]:
    """Where the files may lie, the best place first."""
    runtime = Path(env.get("XDG_RUNTIME_DIR", ""))
    if runtime.is_absolute():  # the XDG specification: ignore a relative one
        yield runtime / "homeport"
    yield state_home / "running"


def announce(places: Iterable[Path], port: int, url: str, key: str) -> Path:
    """Write the file of this process in the first place that takes it; return where it is.

    Raises ``OSError`` when none does.
    """
    started_at_s = psutil.Process().create_time()
    own = Running(url=url, pid=os.getpid(), started_at_s=started_at_s, key=key)
    problem = OSError("there is no place for it")
    for folder in places:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # mkstemp makes it with mode 600; renamed, it is there whole or not at all.
            handle, name = tempfile.mkstemp(dir=folder, prefix=".new-")
            with os.fdopen(handle, "wb") as file:
                file.write(msgspec.json.encode(own))
            return Path(name).rename(folder / f"{port}.json")
        except OSError as error:
            problem = error
    raise problem


def withdraw(file: Path) -> None:
    """Remove it, unless it is another process's by now."""
    found = _read(file)
    if found is not None and found.pid == os.getpid():
        file.unlink(missing_ok=True)


def running(places: Iterable[Path]) -> list[Running]:
    """Those that live, by port; files that others have left behind are removed."""
    found: dict[str, Running] = {}
    for folder in places:
        for file in sorted(folder.glob("*.json")) if folder.is_dir() else ():
            one = _read(file)
            if one is None:
                continue  # not ours, or not written by this version
            if _lives(one):
                found.setdefault(one.url, one)
            else:
                file.unlink(missing_ok=True)
    return list(found.values())


def at(port: int, places: Iterable[Path]) -> Running | None:
    """The one that has this port."""
    return next((one for one in running(places) if urlsplit(one.url).port == port), None)


def _read(file: Path) -> Running | None:
    try:
        if file.stat().st_uid != os.geteuid():
            return None  # somebody else's URL: it would be sent a key
        return msgspec.json.decode(file.read_bytes(), type=Running)
    except (OSError, msgspec.MsgspecError):
        return None


def _lives(one: Running) -> bool:
    try:
        started_at_s = psutil.Process(one.pid).create_time()
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True  # it may; removing it would be worse
    return abs(started_at_s - one.started_at_s) < SAME_START_S
