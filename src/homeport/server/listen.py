"""The listening socket and the HTTP server on it (uvicorn, embedded).

The socket is bound by us, before anything is started: a taken port is then a clear error and not a
traceback, and port 0 gets a number that can be shown.
"""

import asyncio
import errno
import functools
import os
import socket
from typing import Any, cast

import uvicorn

from homeport.config import load
from homeport.errors import ConfigError
from homeport.outgoing import Unsent
from homeport.runtime import running
from homeport.server.protocol import Connection

BACKLOG = 2048
ABORT_S = 2.0
"""uvicorn looks around every tenth of a second."""


def bind(host: str, port: int) -> socket.socket:
    """Raises ``ConfigError`` that says what to do about it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)  # also finds a port taken, when the other one bound it just now
    except OSError as error:
        listener.close()
        raise _problem(error, host, port) from None
    listener.setblocking(False)
    return listener


def _problem(error: OSError, host: str, port: int) -> ConfigError:
    where = "server.port"
    if error.errno == errno.EADDRINUSE and (other := _homeport_at(port)) is not None:
        return ConfigError(
            f"a homeport runs on {other.url} already (pid {other.pid})",
            where=where,
            hint=f"use that one; or stop it: `homeport proxy stop`, or `kill {other.pid}` if it was "
            "started in another way; or choose another port: --port N",
        )
    if error.errno == errno.EADDRINUSE:
        return ConfigError(
            f"port {port} on {host} is taken by another process",
            where=where,
            hint="stop that process, or choose another: --port N",
        )
    if error.errno == errno.EACCES:
        return ConfigError(
            f"port {port} may not be used by this user",
            where=where,
            hint="ports below 1024 need privileges; choose another: --port N",
        )
    if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
        return ConfigError(
            f"this machine has no address {host}", where="server.host", hint="use 127.0.0.1"
        )
    return ConfigError(f"cannot listen on {host}:{port}: {error.strerror}", where=where)


def _homeport_at(port: int) -> running.Running | None:
    """This user's, as the other commands find it."""
    return running.at(port, running.folders(os.environ, load.state_home(os.environ)))


class Listener:
    """uvicorn on a socket of ours. Signals are the caller's business."""

    def __init__(self, app: Any, sock: socket.socket) -> None:
        self._sock = sock
        config = uvicorn.Config(
            app,
            http=cast(Any, functools.partial(Connection, unsent=Unsent())),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=75,
        )
        self._server = uvicorn.Server(config)

    async def serve(self) -> None:
        """Returns once it has been stopped and all requests have ended."""
        # Not ``serve``: that would take the signals over, and raise them again at the end.
        try:
            await self._server._serve([self._sock])
        finally:
            # Cancelled, uvicorn leaves them open, and then uvloop never comes to its own close.
            for server in getattr(self._server, "servers", ()):  # none, when that came too soon
                server.close()

    @property
    def open_requests(self) -> int:
        return len(self._server.server_state.tasks)

    def stop(self) -> None:
        """No new connections; requests under way may finish."""
        self._server.should_exit = True

    async def abort(self, serving: "asyncio.Task[None]") -> None:
        """Cuts the requests that are still under way: to them, their clients have left."""
        self._server.should_exit = self._server.force_exit = True
        for connection in list(self._server.server_state.connections):
            cast(Connection, connection).abort()
        await asyncio.wait({serving}, timeout=ABORT_S)
        for task in (serving, *self._server.server_state.tasks):
            task.cancel()
