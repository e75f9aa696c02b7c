"""Which process a process is, so that it can be known again after an unclean end.

A pid alone says little: it is given to another process sooner or later. A pid with the time at which
its process started is one process for ever, as long as it is known whose count of time and of pids is
meant:

* Linux counts from the machine's start (``/proc/PID/stat``), so the boot belongs to it. Elsewhere the
  time is a date in microseconds, which needs no more.
* Pids are counted per machine, and in containers anew. What was written in another place says nothing
  about the processes here.

So there are three answers to whether somebody lives. Only *gone* permits to clean up behind him.
"""

import functools
import os
import re
import socket
import sys
from pathlib import Path
from typing import Final, Literal

import msgspec

Fate = Literal["alive", "gone", "unknown"]

_ON_LINUX: Final = sys.platform == "linux"
_DEAD: Final = (b"Z", b"X")
_WRITTEN: Final = re.compile(r"(\d+):([\d.]+):([^:\s]*):([^:\s]*):([^:\s]+)")


class Identity(msgspec.Struct, frozen=True):
    """One process. ``str`` writes it down for a label, ``parsed`` reads that."""

    pid: int
    started: str
    boot: str
    pids: str
    """Whose pids they are (the name of the pid namespace)."""
    host: str

    def __str__(self) -> str:
        return f"{self.pid}:{self.started}:{self.boot}:{self.pids}:{self.host}"

    @property
    def fate(self) -> Fate:
        """1. Of another machine, or of a container: nobody here knows.
        2. From before the machine was started anew: gone.
        3. In another container with the same name: nobody here knows.
        4. Else the process that has the pid now is the same one, or it is gone.
        """
        here = own()
        if self.host != here.host:  # 1.
            return "unknown"
        if self.boot != here.boot:  # 2.
            return "gone"
        if self.pids != here.pids:  # 3.
            return "unknown"
        return "alive" if _started(self.pid) == self.started else "gone"  # 4.


def parsed(text: str) -> Identity | None:
    """What ``str`` has written; None for anything else."""
    match = _WRITTEN.fullmatch(text)
    return Identity(int(match[1]), *match.groups()[1:]) if match else None


def of(pid: int) -> Identity | None:
    """The process that has the pid now; None when there is none."""
    started = _started(pid)
    return None if started is None else msgspec.structs.replace(own(), pid=pid, started=started)


def own() -> Identity:
    """This process."""
    return _own(os.getpid())


@functools.cache
def _own(pid: int) -> Identity:
    started = _started(pid)
    assert started is not None, "this process lives"
    host = re.sub(r"[:\s]", "-", socket.gethostname()) or "?"
    return Identity(pid, started, _boot(), _pids(), host)


def _started(pid: int) -> str | None:
    """When it was started; None for a process that has ended, collected or not."""
    if not _ON_LINUX:
        return _started_elsewhere(pid)
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in _DEAD else fields[19].decode()  # field 22 of proc(5)


def _started_elsewhere(pid: int) -> str | None:
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return f"{process.create_time():.6f}"
    except psutil.Error:
        return None


def _boot() -> str:
    if not _ON_LINUX:
        return ""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "?"


def _pids() -> str:
    try:
        return os.readlink("/proc/self/ns/pid").strip("pid:[]")
    except OSError:
        return ""
