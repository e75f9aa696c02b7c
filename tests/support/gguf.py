"""Small GGUF files: a header and metadata, as bytes. Written from the format's description (ggml,
docs/gguf.md), not with the reader's tables."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

U32, I32, F32, BOOL, STRING, ARRAY, U64 = 4, 5, 6, 7, 8, 9, 10
_FORMS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    U32: "I",
    I32: "i",
    F32: "f",
    BOOL: "?",
    U64: "Q",
    11: "q",
    12: "d",
}


class Typed(NamedTuple):
    """A value of a type other than the one that ``gguf`` would choose."""

    kind: int
    value: Any


def gguf(metadata: Mapping[str, Any], *, version: int = 3, tensors: int = 0) -> bytes:
    """Whole numbers become U32, lists take the type of their first item."""
    pairs = b"".join(_text(key) + _typed(value) for key, value in metadata.items())
    return b"GGUF" + struct.pack("<IQQ", version, tensors, len(metadata)) + pairs


SHORTEST = gguf({})
"""A whole file in which there is nothing: for engines that do not look."""


class Tensor(NamedTuple):
    kind: int
    shape: tuple[int, ...]
    size_bytes: int


def with_tensors(
    metadata: Mapping[str, Any], tensors: Sequence[Tensor], *, alignment: int = 32
) -> bytes:
    """A whole file: each tensor begins aligned, and behind the last one there is no padding."""
    table, data = b"", b""
    for number, tensor in enumerate(tensors):
        data += bytes(-len(data) % alignment)
        shape = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape)
        table += _text(f"t{number}") + shape + struct.pack("<IQ", tensor.kind, len(data))
        data += b"\1" * tensor.size_bytes
    if alignment != 32:
        metadata = {**metadata, "general.alignment": alignment}
    head = gguf(metadata, tensors=len(tensors)) + table
    return head + (bytes(-len(head) % alignment) + data if data else b"")


def llama(**changed: Any) -> dict[str, Any]:
    """Metadata of an ordinary model; ``attention__head_count=8`` stands for the key with a dot."""
    usual = {
        "context_length": 8192,
        "block_count": 4,
        "embedding_length": 256,
        "feed_forward_length": 1024,
        "attention__head_count": 8,
        "attention__head_count_kv": 2,
    }
    architecture = changed.pop("architecture", "llama")
    own = {f"{architecture}.{k.replace('__', '.')}": v for k, v in {**usual, **changed}.items()}
    return {
        "general.architecture": architecture,
        "general.name": "Small",
        **{key: value for key, value in own.items() if value is not None},
        "tokenizer.ggml.tokens": ["a", "b", "c", "d"],
    }


def _typed(value: Any) -> bytes:
    if not isinstance(value, Typed):
        value = Typed(_kind(value), value)
    return struct.pack("<I", value.kind) + _body(value.kind, value.value)


def _kind(value: Any) -> int:
    kinds = ((bool, BOOL), (int, U32), (float, F32), (str, STRING), (list, ARRAY))
    return next(kind for type_, kind in kinds if isinstance(value, type_))


def _body(kind: int, value: Any) -> bytes:
    if kind == STRING:
        return _text(value)
    if kind == ARRAY:
        inner = _kind(value[0]) if value else U32
        head = struct.pack("<IQ", inner, len(value))
        return head + b"".join(_body(inner, item) for item in value)
    return struct.pack("<" + _FORMS[kind], value)


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data
