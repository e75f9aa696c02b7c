"""Why an engine did not start, by its last lines: the one that tells, and what helps.

An engine says in ten lines what one of them says, and never what to do. ``_KNOWN`` is asked row by row,
so that the cause comes before what followed from it. What no row knows stays as the engine wrote it.

Seen on llama.cpp b11549; the words of vLLM and of CUDA were not seen here.
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

MAX_CHARS: Final = 300
"""Of the line: some write a whole JSON document into one."""

_KNOWN: Final[Sequence[tuple[re.Pattern[str], str]]] = tuple(
    (re.compile(pattern, re.IGNORECASE), hint)
    for pattern, hint in (
        (
            r"not within the file bounds|corrupted or incomplete",
            "the file is damaged: download it again",
        ),
        (
            r"insufficient memory|out of memory|cannot allocate memory|\bMemoryError\b"
            r"|(?:failed|unable) to allocate|No available memory for the cache blocks"
            r"|tokens that can be stored in KV cache",
            "it needs more memory than there is: a smaller context (--ctx, or ctx in the "
            "configuration), fewer slots, or a smaller quantisation",
        ),
        (
            r"unknown (?:model architecture|pre-tokenizer type)",
            "the model is newer than this llama.cpp: name a newer llama-server (--llama-server, or "
            "binary)",
        ),
        (r"error loading model: ", ""),
    )
)
_PREFIX: Final = re.compile(r"^[\d.]+ [DIWE] +")
"""llama.cpp's: a time, and how bad it is."""


class Words(NamedTuple):
    line: str
    hint: str
    """May be empty."""


def telling(text: str) -> Words | None:
    """The line of ``text`` that tells why, if one does."""
    lines = text.splitlines()
    for pattern, hint in _KNOWN:
        for line in lines:
            if pattern.search(line):
                return Words(_plain(line), hint)
    return None


def last(text: str) -> str:
    """The last line that says something."""
    return next((_plain(line) for line in reversed(text.splitlines()) if line.strip()), "")


def _plain(line: str) -> str:
    return _PREFIX.sub("", line.strip())[:MAX_CHARS]
