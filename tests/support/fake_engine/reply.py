"""A response as it is written, of which the journal hears; and how a connection is cut."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Mapping

from tests.support.fake_engine.journal import Journal, Record

BLOCKED_AFTER_S = 0.5
"""A write that waits this long means that the client does not read."""
WRITE_BUFFER_BYTES = 64 * 1024
"""Small on purpose: a client that does not read should be felt soon."""


class Cut(Exception):  # noqa: N818  # a deliberate ending, not an error
    """Close the connection here and now; with a TCP reset if `reset`."""

    def __init__(self, *, reset: bool = False) -> None:
        super().__init__()
        self.reset = reset


REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found"}


class Reply:
    """Writes one response and notes in the record how far it got."""

    def __init__(self, writer: asyncio.StreamWriter, journal: Journal, record: Record) -> None:
        self._writer = writer
        self._journal = journal
        self._record = record
        self._chunked = False

    async def start(
        self,
        status: int,
        content_type: str,
        *,
        length: int | None = None,
        chunked: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._chunked = chunked
        fields = {"Server": "llama.cpp", "Content-Type": content_type}
        if chunked:
            fields["Transfer-Encoding"] = "chunked"
        elif length is not None:
            fields["Content-Length"] = str(length)
        if chunked or length is not None:
            fields["Keep-Alive"] = "timeout=5, max=100"
        else:
            fields["Connection"] = "close"
        fields |= headers or {}
        lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}"]
        lines += [f"{name}: {value}" for name, value in fields.items()]
        self._record.status = status
        await self._put("\r\n".join([*lines, "", ""]).encode("latin-1"))
        self._journal.mark(self._record, "headers")

    async def send(self, data: bytes) -> None:
        if not data:
            return
        await self._put(b"%x\r\n%s\r\n" % (len(data), data) if self._chunked else data)
        self._record.events_sent += 1
        self._record.bytes_sent += len(data)
        self._journal.mark(self._record, "first")

    async def end(self) -> None:
        if self._chunked:
            await self._put(b"0\r\n\r\n")

    async def _put(self, data: bytes) -> None:
        self._writer.write(data)
        draining = asyncio.ensure_future(self._writer.drain())
        try:
            done, _ = await asyncio.wait({draining}, timeout=BLOCKED_AFTER_S)
            if not done:
                self._journal.mark(self._record, "blocked")
            await draining
        finally:
            draining.cancel()


def reset_on_close(writer: asyncio.StreamWriter) -> None:
    """Linger for zero seconds: the close sends RST instead of FIN."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
