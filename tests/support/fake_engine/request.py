"""Requests of clients: enough of HTTP/1.1, on asyncio streams.

A client that leaves is noticed at once, because the stream reader tells us of end-of-file while nobody
reads from it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from tests.support.fake_engine.script import Json

MAX_HEAD_BYTES = 256 * 1024


class Inbox(asyncio.StreamReader):
    """A stream reader that says when the client is gone, also while nobody reads."""

    def __init__(self) -> None:
        super().__init__(limit=MAX_HEAD_BYTES)
        self.gone = asyncio.Event()

    def feed_eof(self) -> None:
        super().feed_eof()
        self.gone.set()

    def set_exception(self, exc: Exception) -> None:
        super().set_exception(exc)
        self.gone.set()


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes

    def json_or_text(self) -> Json:
        try:
            return json.loads(self.body) if self.body else None
        except ValueError:
            return self.body.decode("utf-8", "replace")

    def parameter(self, name: str, default: str) -> str:
        return parse_qs(self.query).get(name, [default])[-1]


async def read_request(inbox: Inbox) -> Request | None:
    """The next request, or None when the client closed between requests."""
    try:
        head = await inbox.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    start, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    method, target, _ = start.split(" ", 2)
    pairs = (line.partition(":") for line in lines)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    url = urlsplit(target)
    return Request(method, url.path, url.query, headers, await read_body(inbox, headers))


async def read_body(inbox: Inbox, headers: Mapping[str, str]) -> bytes:
    if "chunked" not in headers.get("transfer-encoding", "").lower():
        return await inbox.readexactly(int(headers.get("content-length", "0")))
    body = bytearray()
    while size := int((await inbox.readuntil(b"\r\n")).split(b";")[0], 16):
        body += await inbox.readexactly(size)
        await inbox.readexactly(2)
    while (await inbox.readuntil(b"\r\n")) != b"\r\n":
        pass
    return bytes(body)
