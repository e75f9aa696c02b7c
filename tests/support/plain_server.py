"""A web server that answers ``GET`` by a table, over a real socket, from a thread: for what asks around
and must tell one kind of server from another."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

CASES = Path(__file__).parents[1] / "cases" / "engines"
FILES = {
    "/v1/models": "models",
    "/props": "props",
    "/version": "version",
    "/api/version": "api_version",
}


class Reply(NamedTuple):
    value: Any = None
    """Sent as JSON; text as it is."""
    status: int = 200


class PlainServer:
    """``replies`` by path; 404 with a page for all others. ``engine`` adds those recorded from one."""

    def __init__(
        self, replies: Mapping[str, Reply] | None = None, engine: str = "", port: int = 0
    ) -> None:
        self.replies = dict(replies or {})
        self.paths: list[str] = []
        name = "nginx"
        if engine:
            folder = CASES / engine
            headers = json.loads((folder / "headers.json").read_text())
            name = {key.lower(): value for key, value in headers.items()}.get("server", name)
            for path, file in FILES.items():
                if (folder / f"{file}.json").exists():
                    self.replies[path] = Reply(json.loads((folder / f"{file}.json").read_text()))
        outer = self

        class Handler(BaseHTTPRequestHandler):
            server_version, sys_version = name, ""

            def do_GET(self) -> None:
                outer.paths.append(self.path)
                reply = outer.replies.get(self.path, Reply("<h1>Not found</h1>", 404))
                is_text = isinstance(reply.value, str)
                body = reply.value if is_text else json.dumps(reply.value)
                self.send_response(reply.status)
                self.send_header("content-type", "text/html" if is_text else "application/json")
                self.send_header("content-length", str(len(body.encode())))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]

    def __repr__(self) -> str:
        return f"<PlainServer port={self.port} asked={self.paths}>"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
