"""The demo model as an embedding model: its file names no pooling, so that llama.cpp refuses
embeddings; a copy whose metadata says "mean" gives vectors. They mean nothing, but they are
llama.cpp's."""

from __future__ import annotations

import struct
from pathlib import Path

from homeport.demo import demo_model_path

MEAN = 1
"""llama.cpp's ``LLAMA_POOLING_TYPE_MEAN``."""

_HEADER = struct.Struct(
    "<4sIQQ"
)  # magic, version, tensors, pairs (the GGUF specification, version 3)
_UINT32, _STRING = 4, 8
_ALIGNMENT = 32
"""Of the tensors' data. What is put in front has a multiple of it, so that the offsets hold."""


def embedding_model(folder: Path) -> Path:
    """A copy in ``folder`` that pools."""
    whole = demo_model_path().read_bytes()
    magic, version, tensors, pairs = _HEADER.unpack_from(whole)
    assert (magic, version) == (b"GGUF", 3)
    pooling = _text("llama.pooling_type") + struct.pack("<II", _UINT32, MEAN)
    empty = len(pooling) + len(_string("general.comment", ""))
    comment = _string("general.comment", "x" * (-empty % _ALIGNMENT))
    path = folder / "vectors.gguf"
    head = _HEADER.pack(magic, version, tensors, pairs + 2)
    path.write_bytes(head + pooling + comment + whole[_HEADER.size :])
    return path


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def _string(key: str, value: str) -> bytes:
    return _text(key) + struct.pack("<I", _STRING) + _text(value)
