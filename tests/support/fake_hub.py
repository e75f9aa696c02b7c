"""A small Hugging Face hub on loopback, for ``HF_ENDPOINT``: the routes that huggingface_hub 2.4 uses
for models, over real sockets, from threads.

* ``GET /api/models/ORG/NAME?blobs=true``: the listing, with sizes and hashes.
* ``HEAD`` and ``GET /ORG/NAME/resolve/REVISION/FILE``: small files answer here; large ones (``lfs``)
  redirect to a second server, as the hub does to its content network. Both know ranges.

What a hub says when it says no (status and ``X-Error-Code``) is what huggingface_hub looks for. What
was asked is remembered; connections can be cut in the middle.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import unquote, urlsplit

COMMIT = "a" * 40
TOKEN = "hf_geheim"
SMALL_BYTES = 4096
"""Larger files are LFS files."""


class Asked(NamedTuple):
    method: str
    path: str
    authorization: str
    range: str


class Repo:
    def __init__(self, files: dict[str, bytes], *, is_gated: bool = False) -> None:
        self.files, self.is_gated, self.commit = files, is_gated, COMMIT
        self.said_bytes: dict[str, int] = {}
        """Sizes that the listing tells wrongly."""

    def listing(self, repo_id: str) -> dict[str, object]:
        siblings = [self._sibling(name, data) for name, data in self.files.items()]
        return {"id": repo_id, "sha": self.commit, "private": False, "siblings": siblings}

    def _sibling(self, name: str, data: bytes) -> dict[str, object]:
        size = self.said_bytes.get(name, len(data))
        entry: dict[str, object] = {"rfilename": name, "size": size, "blobId": git_oid(data)}
        if is_lfs(data):
            entry["lfs"] = {"sha256": sha256(data), "size": size, "pointerSize": 134}
        return entry


class FakeHub:
    """``cuts`` holds how many bytes the next answers with contents may have before they break off; an
    answer that would be longer than ``hold_at`` waits there for ``released``."""

    def __init__(self, **repos: Repo | dict[str, bytes]) -> None:
        """``org__name=files``."""
        self.repos = {
            name.replace("__", "/"): repo if isinstance(repo, Repo) else Repo(repo)
            for name, repo in repos.items()
        }
        self.asked: list[Asked] = []
        self.cuts: list[int] = []
        self.hold_at: int | None = None
        self.released = threading.Event()
        self.knows_ranges = True
        self.is_login_page = False
        self.wrong_byte = False
        self._content = _serving(self._content_of)
        self._hub = _serving(self._answer)
        self.url = f"http://127.0.0.1:{self._hub.server_address[1]}"
        self.content_url = f"http://127.0.0.1:{self._content.server_address[1]}"

    def __repr__(self) -> str:
        return f"<FakeHub {self.url} {sorted(self.repos)} asked={len(self.asked)}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.released.set()
        for server in (self._hub, self._content):
            server.shutdown()
            server.server_close()

    def loads(self, name: str = "") -> list[Asked]:
        """The requests for contents, of one file or all."""
        found = [a for a in self.asked if a.method == "GET" and not a.path.startswith("/api/")]
        return [a for a in found if a.path.endswith(name) and "/resolve/" not in a.path]

    # the hub itself

    def _answer(self, http: _Handler) -> None:
        self.asked.append(http.asked())
        path = unquote(urlsplit(http.path).path)
        if self.is_login_page:
            http.send(200, b"<h1>Log in</h1>", {"content-type": "text/html"})
            return
        words = path.removeprefix("/api/models").strip("/").split("/", 4)
        repo_id = "/".join(words[:2])
        repo = self.repos.get(repo_id)
        has_token = http.headers.get("authorization") == f"Bearer {TOKEN}"
        if repo is None:  # whoever has no token does not learn whether it is there
            code = {"x-error-code": "RepoNotFound"} if has_token else {}
            http.send(404 if has_token else 401, b'{"error":"Repository not found"}', code)
        elif path.startswith("/api/"):
            body = json.dumps(repo.listing(repo_id)).encode()
            http.send(200, body, {"content-type": "application/json"})
        elif repo.is_gated and not has_token:
            http.send(401, b"Access is restricted", {"x-error-code": "GatedRepo"})
        else:
            self._resolve(http, repo_id, repo, words[4])

    def _resolve(self, http: _Handler, repo_id: str, repo: Repo, name: str) -> None:
        commit = {"x-repo-commit": repo.commit}
        data = repo.files.get(name)
        if data is None:
            http.send(404, b"", {"x-error-code": "EntryNotFound", **commit})
        elif is_lfs(data):
            linked = {"x-linked-etag": f'"{sha256(data)}"', "x-linked-size": str(len(data))}
            to = f"{self.content_url}/{repo_id}/{name}"
            http.send(302, b"", {"location": to, **linked, **commit})
        else:
            self._send_contents(http, data, {"etag": f'"{git_oid(data)}"', **commit})

    # its content network

    def _content_of(self, http: _Handler) -> None:
        self.asked.append(http.asked())
        org, name, file = unquote(http.path).strip("/").split("/", 2)
        self._send_contents(http, self.repos[f"{org}/{name}"].files[file], {})

    def _send_contents(self, http: _Handler, data: bytes, headers: dict[str, str]) -> None:
        start = 0
        if (asked := http.headers.get("range")) and self.knows_ranges:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            headers["content-range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        body = data[start:]
        if self.wrong_byte:
            body = bytes([body[0] ^ 1]) + body[1:]
        cut = self.cuts.pop(0) if self.cuts and http.command == "GET" else None
        hold_at = self.hold_at
        if cut is None and hold_at is not None and len(body) > hold_at:
            http.send(206 if start else 200, body, headers, cut=hold_at)
            self.released.wait()
            with contextlib.suppress(OSError):  # the client may have gone
                http.wfile.write(body[hold_at:])
        else:
            http.send(206 if start else 200, body, headers, cut=cut)


class _Handler(BaseHTTPRequestHandler):
    answer: Callable[[_Handler], None]

    def do_GET(self) -> None:
        type(self).answer(self)

    def do_HEAD(self) -> None:
        type(self).answer(self)

    def asked(self) -> Asked:
        headers = self.headers
        return Asked(
            self.command, self.path, headers.get("authorization", ""), headers.get("range", "")
        )

    def send(
        self, status: int, body: bytes, headers: dict[str, str], *, cut: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {"content-length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body if cut is None else body[:cut])

    def log_message(self, *_: object) -> None:
        pass


def _serving(answer: Callable[[_Handler], None]) -> ThreadingHTTPServer:
    handler = type("Handler", (_Handler,), {"answer": staticmethod(answer)})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    return server


def is_lfs(data: bytes) -> bool:
    return len(data) > SMALL_BYTES


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def git_oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
