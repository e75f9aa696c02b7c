"""A scripted SearXNG: answers ``/search?format=json`` from a thread, and remembers the queries."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

PAGES: list[dict[str, Any]] = [
    {
        "url": "https://example.org/homeport",
        "title": "A <b>home</b> port",
        "content": "Where ships\u200b return.\x07 &amp; rest",
        "publishedDate": "2026-11-02T00:00:00",
        "engine": "fake",
    },
    {"url": "javascript:alert(1)", "title": "bad", "content": "bad"},
    {"url": "https://docs.example.com/x", "title": "", "content": None, "publishedDate": None},
]


class FakeSearxng:
    """``status`` and ``body`` are what the next searches get."""

    def __init__(self) -> None:
        self.queries: list[str] = []
        self.status = 200
        self.body = json.dumps({"query": "?", "results": PAGES}).encode()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                asked = parse_qs(parts.query)
                assert parts.path == "/search"
                assert asked["format"] == ["json"]
                outer.queries.append(asked["q"][0])
                self.send_response(outer.status)
                self.send_header("content-length", str(len(outer.body)))
                self.end_headers()
                self.wfile.write(outer.body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __repr__(self) -> str:
        return f"<FakeSearxng {self.url} queries={len(self.queries)}>"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
