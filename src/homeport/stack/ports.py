"""Who holds a port of this machine, in words."""

from contextlib import suppress
from pathlib import PurePath
from typing import Final

import psutil

from homeport.runtime.process import port_is_free

OURS: Final = 4
"""In so many words of its command line homeport is named: ``python -P -m homeport serve``."""


def holder(port: int) -> str | None:
    """Name the process that listens on it; None where nobody does. Processes of other users can only be
    named by root."""
    if port_is_free(port):
        return None
    with suppress(psutil.Error):
        for connection in psutil.net_connections(kind="tcp"):
            is_it = connection.laddr and connection.laddr.port == port
            if is_it and connection.status == psutil.CONN_LISTEN and connection.pid:
                process = psutil.Process(connection.pid)
                return f"{_name(process)} (pid {connection.pid})"
    return "a process of another user"


def _name(process: psutil.Process) -> str:
    """A homeport, one of another state folder, too, goes by its own name, not by Python's."""
    words = {PurePath(word).name for word in process.cmdline()[:OURS]}
    return "homeport" if "homeport" in words else process.name()
