"""What we run on: memory and its limits, system, cards, engines.

The memory that a process may use is that of the machine, or less: a control group, which is what
containers and systemd units are, has a limit of its own, and so may each group that it is in. Version
1 and 2 of the kernel's interface are read; where there are both, the one that has the memory.
"""

import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec

from homeport.facts import Machine
from homeport.runtime.nvml import Cards
from homeport.runtime.starting import installed

_OWN_GROUPS: Final = Path("/proc/self/cgroup")
_MOUNT: Final = Path("/sys/fs/cgroup")
_SYSTEMS: Final[Mapping[str, Literal["linux", "darwin"]]] = {"Linux": "linux", "Darwin": "darwin"}


class HostMemory(msgspec.Struct, frozen=True, kw_only=True):
    total_bytes: int
    available_bytes: int
    """What can be had without swapping; cached files count as available."""


def read_machine(cards: Cards) -> Machine:
    memory = read_memory()
    return Machine(
        system=_SYSTEMS.get(platform.system(), "other"),
        is_apple_silicon=(platform.system(), platform.machine()) == ("Darwin", "arm64"),
        gpus=cards.gpus(memory.total_bytes, memory.available_bytes),
        memory_bytes=memory.total_bytes,
        engines=installed(),
    )


def read_memory(own_groups: Path = _OWN_GROUPS, mount: Path = _MOUNT) -> HostMemory:
    """Return the memory of the machine, or of the tightest of our control groups."""
    import psutil  # here: `homeport --help` has no use for it

    machine = psutil.virtual_memory()
    total, available = machine.total, machine.available
    for group in _groups(own_groups, mount):
        total = min(total, group.total_bytes)
        available = min(available, group.available_bytes)
    return HostMemory(total_bytes=total, available_bytes=available)


# --------------------------------------------------------------------------- control groups


def _groups(own_groups: Path, mount: Path) -> Iterator[HostMemory]:
    """Our control groups that limit memory, from the innermost outwards."""
    for line in _lines(own_groups):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":  # version 2: "0::/path"
            files = ("memory.max", "memory.current", "inactive_file")
            root = mount
        elif "memory" in controllers.split(","):
            files = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            root = mount / "memory"
        else:
            continue
        for folder in _upwards(root, path):
            if (group := _group(folder, *files)) is not None:
                yield group


def _upwards(root: Path, path: str) -> Iterator[Path]:
    """The folder of a group and those around it, up to the mount.

    In a container ``path`` may be the host's and not be there; the mount itself is then our group.
    """
    folder = root / path.strip("/")
    if ".." in folder.parts:  # a group outside of what the container may see
        folder = root
    while folder != root:
        yield folder
        folder = folder.parent
    yield root


def _group(folder: Path, limit: str, usage: str, cache: str) -> HostMemory | None:
    total, used = _number(folder / limit), _number(folder / usage)
    if total is None or used is None:  # no limit ("max"), or no such file
        return None
    inactive = next(
        (
            line.split()[1]
            for line in _lines(folder / "memory.stat")
            if line.startswith(f"{cache} ")
        ),
        "0",
    )
    busy = used - int(inactive)  # cached files are given back when memory is wanted
    return HostMemory(total_bytes=total, available_bytes=max(total - busy, 0))


def _number(file: Path) -> int | None:
    text = "".join(_lines(file)).strip()
    return int(text) if text.isascii() and text.isdecimal() else None


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return []
