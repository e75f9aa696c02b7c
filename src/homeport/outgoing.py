"""What connections send: all that a turn of the loop has to say leaves at its end, together.

A write to a socket wakes whoever sleeps at its other end, and that is most of what a small write
costs. While we work on one request the readers of the last one's bytes fall asleep again; so bytes are
kept until the callbacks of this turn are through, and then go out one connection after the other: a
reader is woken once for all that is for it. What goes to one connection goes in one piece, too. Figures
are in ``docs/adr/0013``.

Nothing waits long. Where there is only one request its bytes leave right after the callback that wrote
them; no more than ``MOST`` connections wait for each other, and ``FLUSH_BYTES`` leave at once, so that
a transport's back-pressure (``pause_writing``) comes when it should.

A transport's own ``write`` and ``close`` must not be called beside this: bytes would overtake others,
or be lost. ``abort`` may, for what loses them on purpose.
"""

import asyncio
from typing import Final

import structlog

log = structlog.get_logger()

FLUSH_BYTES: Final = 64 * 1024
"""asyncio's and uvicorn's high-water mark of a transport."""

MOST: Final = 8
"""More save little, and the first one waits for the last: some 0.1 ms for each."""


class Unsent:
    """Who has something to send at the end of a loop's turn: one for all connections of a kind."""

    def __init__(self) -> None:
        self.due: list[Outgoing] = []

    def __repr__(self) -> str:
        return f"<Unsent due={len(self.due)}>"

    def send(self) -> None:
        due, self.due = self.due, []
        for outgoing in due:
            try:
                outgoing.flush()
            except Exception:  # one connection's trouble is not that of the others
                log.exception("connection.write_failed")


class Outgoing:
    """The writing side of one transport."""

    __slots__ = ("_chunks", "_loop", "_size", "_transport", "_unsent")

    def __init__(
        self, transport: asyncio.WriteTransport, unsent: Unsent, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._transport, self._unsent, self._loop = transport, unsent, loop
        self._chunks: list[bytes] = []
        self._size = 0

    def __repr__(self) -> str:
        return f"<Outgoing {self._size} bytes to {self._transport!r}>"

    def write(self, data: bytes) -> None:
        if not self._chunks:
            unsent = self._unsent
            if len(unsent.due) >= MOST:
                unsent.send()
            if not unsent.due:
                self._loop.call_soon(unsent.send)
            unsent.due.append(self)
        self._chunks.append(data)
        self._size += len(data)
        if self._size > FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Sends what is kept now."""
        chunks, size, transport = self._chunks, self._size, self._transport
        if not chunks:
            return
        self._chunks, self._size = [], 0
        if transport.is_closing():
            return
        if size > FLUSH_BYTES and len(chunks) > 1:
            transport.writelines(chunks)  # without a copy
        else:
            transport.write(b"".join(chunks))

    def write_eof(self) -> None:
        self.flush()
        self._transport.write_eof()

    def close(self) -> None:
        """After all that was written."""
        self.flush()
        self._transport.close()
