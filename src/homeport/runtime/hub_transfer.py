"""One file from the Hugging Face hub into the cache's ``blobs``, in as many goes as it takes.

What has come stays in ``HASH.homeport.incomplete``, under a lock, whether the connection, the process
or the machine ended; the next go asks for the bytes behind it. The name is the content's own, so that a
beginning never belongs to another file than its end. Where the SHA-256 is known, as it is of weights,
the whole file is checked by it before it gets its name.

Bytes come by plain HTTP, with huggingface_hub's client (its token, proxies and mirror).
"""

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Final

from homeport.engines.hub_files import in_words
from homeport.runtime.hub_faults import PullError

PAUSES_S: Final = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Before each further go, while no byte comes; any byte starts them anew."""
CONNECT_TIMEOUT_S: Final = 10.0
READ_TIMEOUT_S: Final = 30.0
HASHED_BYTES: Final = 1024 * 1024
_TRY_AGAIN = frozenset({408, 429, 500, 502, 503, 504})


def partial(blob: Path) -> Path:
    """Where the beginning of a blob waits. It ends as huggingface_hub's own partial files do, so that
    its tools know what it is."""
    return blob.with_name(blob.name + ".homeport.incomplete")


class Transfer:
    """Of one file. ``came`` hears how much of it is there, ``lost`` why a go ended and how long the
    pause before the next one is."""

    def __init__(
        self,
        url: str,
        name: str,
        size_bytes: int,
        sha256: str | None,
        *,
        came: Callable[[int], None],
        lost: Callable[[str, float], None],
        pauses_s: Sequence[float] = PAUSES_S,
    ) -> None:
        self._url, self._name, self._size_bytes, self._sha256 = url, name, size_bytes, sha256
        self._came, self._lost, self._pauses_s = came, lost, pauses_s

    def into(self, blob: Path) -> None:
        """Raises ``PullError`` when nothing comes any more, and what huggingface_hub raises where the
        hub says no."""
        blob.parent.mkdir(parents=True, exist_ok=True)
        part = partial(blob)
        with part.open("a+b") as sink:
            try:
                fcntl.flock(sink, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise PullError(
                    f"another process is loading {self._name}", hint="wait until it is done"
                ) from None
            self._fill(sink)
            if self._sha256 is not None and _sha256(sink) != self._sha256:
                part.unlink()
                raise PullError(
                    f"{self._name} arrived damaged, and was removed", hint="run the same again"
                )
            part.rename(blob)

    def _fill(self, sink: IO[bytes]) -> None:
        size, tries = sink.seek(0, os.SEEK_END), 0
        while size != self._size_bytes:
            if size > self._size_bytes:  # not by us, or the hub was wrong about its size
                sink.truncate(0)
            before = sink.seek(0, os.SEEK_END)
            reason = self._append(sink)
            size = sink.seek(0, os.SEEK_END)
            if size == self._size_bytes:
                return
            tries = 1 if before < size < self._size_bytes else tries + 1
            if tries > len(self._pauses_s):
                raise PullError(
                    f"{self._name} stopped at {in_words(size)} of {in_words(self._size_bytes)}: "
                    + reason,
                    hint="run the same again; it goes on where it stopped",
                )
            self._lost(reason, self._pauses_s[tries - 1])
            time.sleep(self._pauses_s[tries - 1])

    def _append(self, sink: IO[bytes]) -> str:
        """One request, and what of the file it brings; returns why it ended.

        The hub's own address each time, and not where it redirected to: such an address expires. The
        token stays with the hub, since the client drops it where a redirect leads elsewhere.
        """
        import httpx2
        from huggingface_hub import get_session
        from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

        start = sink.seek(0, os.SEEK_END)
        headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        timeout = httpx2.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        try:
            with get_session().stream(
                "GET", self._url, headers=headers, timeout=timeout, follow_redirects=True
            ) as response:
                if response.status_code in _TRY_AGAIN:
                    return f"the hub answered {response.status_code}"
                hf_raise_for_status(response)
                if start and not response.headers.get("content-range", "").startswith(
                    f"bytes {start}-"
                ):
                    start = sink.truncate(0)  # it knows no ranges: all of it comes again
                for chunk in response.iter_bytes():  # as it comes: a cut loses nothing
                    sink.write(chunk)
                    start += len(chunk)
                    self._came(start)
        except httpx2.TransportError as error:
            return str(error) or type(error).__name__
        finally:
            sink.flush()
        return "the connection was closed"


def _sha256(file: IO[bytes]) -> str:
    file.seek(0)
    found = hashlib.sha256()
    while chunk := file.read(HASHED_BYTES):
        found.update(chunk)
    return found.hexdigest()
