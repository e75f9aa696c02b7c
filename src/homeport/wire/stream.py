"""Stream translation as a relay sees it: feed bytes, get bytes.

A ``Translator`` composes an engine's dialect with a client's: SSE bytes → neutral events → SSE
bytes. ``passthrough.ChatRelay`` is the same seam for a client and an engine of one dialect.
"""

from typing import Protocol

from homeport.errors import RequestFault, UpstreamError
from homeport.wire import openai_chat_answer, sse
from homeport.wire.events import Event, Progress, Usage
from homeport.wire.stages import Stages


class StreamTranslation(Protocol):
    """The seam. After ``finish`` or ``fail`` nothing more comes out."""

    @property
    def usage(self) -> Usage | None: ...

    @property
    def failure(self) -> RequestFault | None: ...

    @property
    def progress(self) -> Progress | None:
        """How far the prompt was read, as the engine said last. The client does not hear of it."""
        ...

    def feed(self, data: bytes) -> bytes:
        """What the engine's next bytes become. Nonsense becomes the in-stream error; ``failure`` is
        set then, and there is no use in reading on."""
        ...

    def finish(self) -> bytes:
        """The engine's bytes ended, properly or not."""
        ...

    def fail(self, fault: RequestFault) -> bytes:
        """The client's in-stream error."""
        ...


class EventEncoder(Protocol):
    """A client dialect's stream, made of neutral events."""

    @property
    def usage(self) -> Usage | None: ...

    @property
    def failure(self) -> RequestFault | None: ...

    def feed(self, event: Event) -> bytes: ...

    def fail(self, fault: RequestFault) -> bytes: ...


class EventDecoder(Protocol):
    """An engine's stream as neutral events. Raises ``UpstreamError`` for nonsense."""

    @property
    def progress(self) -> Progress | None: ...

    def feed(self, sse: sse.SSEEvent) -> list[Event]: ...

    def finish(self) -> list[Event]: ...


class FromChat:
    """An engine's stream (Chat Completions, unless ``decoder`` is another) as a client's dialect.

    ``stages`` stand between the two, where the answer may need mending.
    """

    def __init__(
        self, out: EventEncoder, stages: Stages | None = None, decoder: EventDecoder | None = None
    ) -> None:
        self._out, self._stages = out, stages
        self._sse = sse.Parser()
        self._decoder: EventDecoder = decoder or openai_chat_answer.Decoder()

    @property
    def usage(self) -> Usage | None:
        return self._out.usage

    @property
    def failure(self) -> RequestFault | None:
        return self._out.failure

    @property
    def progress(self) -> Progress | None:
        return self._decoder.progress

    def feed(self, data: bytes) -> bytes:
        out: list[bytes] = []
        feed, decode, stages = self._out.feed, self._decoder.feed, self._stages
        try:
            for item in self._sse.feed(data):
                events = decode(item) if stages is None else stages.feed_all(decode(item))
                out += map(feed, events)
        except UpstreamError as error:
            out.append(self.fail(error))
        return b"".join(out)

    def finish(self) -> bytes:
        out: list[bytes] = []
        try:
            for item in self._sse.finish():
                out += map(self._out.feed, self._mended(self._decoder.feed(item)))
        except UpstreamError:
            pass  # half an event: the decoder tells below whether something is missing
        out += map(self._out.feed, self._mended(self._decoder.finish()))
        return b"".join(out)

    def fail(self, fault: RequestFault) -> bytes:
        held = self._stages.let_out() if self._stages is not None else []
        return b"".join(map(self._out.feed, held)) + self._out.fail(fault)

    def _mended(self, events: list[Event]) -> list[Event]:
        return events if self._stages is None else self._stages.feed_all(events)
