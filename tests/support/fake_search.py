"""Scripted search services: SearXNG, Brave and Tavily as their documentation describes them, over a
real socket, from a thread. What was asked is remembered; a request that the service would not take is
refused as it would be."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

KEY = "search-key-geheim"

PAGES: list[dict[str, Any]] = [
    {
        "url": "https://example.org/homeport",
        "title": "A <b>home</b> port",
        "text": "Where ships\u200b return.\x07 &amp; rest",
        "date": "2026-11-02T00:00:00",
    },
    {"url": "javascript:alert(1)", "title": "bad", "text": "bad", "date": None},
    {"url": "https://docs.example.com/x", "title": "", "text": None, "date": None},
]


def _named(page: dict[str, Any], text: str, date: str) -> dict[str, Any]:
    return {"url": page["url"], "title": page["title"], text: page["text"], date: page["date"]}


def answer_of(service: str, pages: list[dict[str, Any]]) -> dict[str, Any]:
    """The pages in the service's own shape."""
    match service:
        case "searxng":
            return {"query": "?", "results": [_named(p, "content", "publishedDate") for p in pages]}
        case "brave":
            found = [
                _named(p, "description", "page_age") | {"type": "search_result"} for p in pages
            ]
            web = {"web": {"type": "search", "results": found}} if found else {}
            return {"type": "search", "query": {"original": "?"}, **web}
        case _:
            found = [_named(p, "content", "published_date") | {"score": 0.5} for p in pages]
            return {"query": "?", "results": found, "answer": None, "response_time": 0.1}


class FakeSearch:
    """``status`` and ``body`` are what the next searches get, once ``answers`` is set."""

    def __init__(self, service: str) -> None:
        self.service = service
        self.queries: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.status = 200
        self.answers = threading.Event()
        self.answers.set()
        self.body = json.dumps(answer_of(service, PAGES)).encode()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
                if service == "searxng" and (parts.path, asked["format"]) == ("/search", "json"):
                    self._answer(asked["q"], is_known=True)
                elif service == "brave" and parts.path == "/res/v1/web/search":
                    assert len(asked["q"].split()) <= 50
                    assert 1 <= int(asked["count"]) <= 20
                    self._answer(asked["q"], self.headers["x-subscription-token"] == KEY)
                else:
                    self._send(404, b"")

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                outer.bodies.append(body)
                if service == "tavily" and self.path == "/search":
                    assert self.headers["content-type"] == "application/json"
                    assert 0 < body["max_results"] <= 20
                    is_known = self.headers["authorization"] == f"Bearer {KEY}"
                    self._answer(body["query"], is_known)
                else:
                    self._send(404, b"")

            def _answer(self, query: str, is_known: bool) -> None:
                outer.queries.append(query)
                outer.answers.wait()
                self._send(*((outer.status, outer.body) if is_known else (401, b"{}")))

            def _send(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __repr__(self) -> str:
        return f"<FakeSearch {self.service} {self.url} queries={len(self.queries)}>"

    def settings(self, key: str = KEY) -> dict[str, Any]:
        """``web_search:`` of a configuration that uses it."""
        if self.service == "searxng":
            return {"searxng": self.url}
        url = f"{self.url}/res/v1" if self.service == "brave" else self.url
        return {self.service: {"api_key": key, "url": url}}

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.answers.set()
        self._server.shutdown()
        self._server.server_close()
