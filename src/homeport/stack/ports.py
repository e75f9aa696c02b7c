"""Who holds a port of this machine, in words."""

from contextlib import suppress

import psutil

from homeport.runtime.process import port_is_free


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
                return f"{process.name()} (pid {connection.pid})"
    return "a process of another user"
