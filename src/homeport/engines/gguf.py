"""What a GGUF file says of itself, read from its first bytes.

A GGUF begins with a header, then the metadata, key by key, then a table of the tensors
(``gguf_tensors``), then these (ggml, docs/gguf.md; versions 2 and 3 differ in nothing that is read
here). What matters stands in a few small values; the
vocabulary is a list of a hundred thousand strings among them, which is walked over and not kept.

The file comes from anybody. So counts and lengths are checked against bounds before they are
believed, a value of the wrong type counts as absent, and ``read`` gives facts or ``ConfigError`` for
any bytes. Bytes that end too early are no error: what was found so far is told, and how many more
are needed at least.
"""

import struct
from collections.abc import Mapping
from typing import Final

import msgspec

from homeport.engines import gguf_tensors
from homeport.errors import ConfigError

METADATA_BYTES: Final = 128 * 1024 * 1024
"""The largest vocabularies with their merges take about 15 MB."""
KEYS: Final = 65_536
KEY_BYTES: Final = 65_535
"""The format's own bound."""
LIST_KEPT: Final = 4096
"""Longer lists are vocabularies; those with an entry per layer have some hundred."""
LAYERS: Final = 4096
LARGEST: Final = 2**31
"""No count or size that describes a model is larger."""

POOLING: Final[Mapping[int, str]] = {0: "none", 1: "mean", 2: "cls", 3: "last", 4: "rank"}
"""``LLAMA_POOLING_TYPE_*`` of llama.cpp."""

FILE_TYPES: Final[Mapping[int, str]] = {
    0: "F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    7: "Q8_0",
    8: "Q5_0",
    9: "Q5_1",
    10: "Q2_K",
    11: "Q3_K_S",
    12: "Q3_K_M",
    13: "Q3_K_L",
    14: "Q4_K_S",
    15: "Q4_K_M",
    16: "Q5_K_S",
    17: "Q5_K_M",
    18: "Q6_K",
    19: "IQ2_XXS",
    20: "IQ2_XS",
    21: "Q2_K_S",
    22: "IQ3_XS",
    23: "IQ3_XXS",
    24: "IQ1_S",
    25: "IQ4_NL",
    26: "IQ3_S",
    27: "IQ3_M",
    28: "IQ2_S",
    29: "IQ2_M",
    30: "IQ4_XS",
    31: "IQ1_M",
    32: "BF16",
    36: "TQ1_0",
    37: "TQ2_0",
    38: "MXFP4",
}
"""``LLAMA_FTYPE_*`` of llama.cpp: what most of the weights are."""

_SCALARS: Final = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    4: struct.Struct("<I"),
    5: struct.Struct("<i"),
    6: struct.Struct("<f"),
    7: struct.Struct("<?"),
    10: struct.Struct("<Q"),
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}
_STRING, _LIST = 8, 9
_U32, _U64 = _SCALARS[4], _SCALARS[10]


class GgufFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the metadata says. None or empty: not said, or not reached (``missing_bytes``)."""

    missing_bytes: int | None = None
    """At least so many bytes more are needed to read all of it, the table of the tensors too; None
    when all was read."""
    least_bytes: int | None = None
    """A whole file is at least so long; None when that is not known."""
    version: int
    architecture: str | None = None
    type: str | None = None
    """``model``, ``mmproj``, ``adapter``, …"""
    name: str | None = None
    context_length: int | None = None
    """What the model was trained for."""
    block_count: int | None = None
    """Layers."""
    embedding_length: int | None = None
    feed_forward_length: int | None = None
    """Of the widest layer."""
    vocabulary: int | None = None
    """Number of tokens."""
    head_counts: tuple[int, ...] = ()
    """One for all layers, or one per layer."""
    kv_head_counts: tuple[int, ...] = ()
    """Likewise; 0 for a layer without attention."""
    key_length: int | None = None
    value_length: int | None = None
    key_length_swa: int | None = None
    value_length_swa: int | None = None
    """Of the layers with a sliding window, where they differ."""
    is_mla: bool = False
    """Keys and values are one compressed vector (DeepSeek)."""
    sliding_window: int | None = None
    sliding_layers: tuple[bool, ...] = ()
    """Which layers have that window, where the file lists them."""
    sliding_period: int | None = None
    """Else: each n-th layer has none."""
    shared_kv_layers: int | None = None
    """So many last layers use the keys and values of others."""
    attention_interval: int | None = None
    """Only each n-th layer has attention; the others keep a state of fixed size."""
    state_inner: int | None = None
    state_size: int | None = None
    state_conv: int | None = None
    state_groups: int | None = None
    """That state (``ssm.*``)."""
    expert_count: int | None = None
    expert_used_count: int | None = None
    expert_feed_forward_length: int | None = None
    file_type: int | None = None
    has_chat_template: bool = False
    pooling: str | None = None
    split_count: int | None = None
    """Files that the model consists of, where it was split."""

    @property
    def quantisation(self) -> str | None:
        return FILE_TYPES.get(self.file_type) if self.file_type is not None else None

    @property
    def is_embedding(self) -> bool:
        """It pools its output, so that it answers embeddings (``rank``: reranking) and no chats."""
        return self.pooling not in (None, "none")


class _EndError(Exception):
    """The bytes end here; so many more are needed at least."""

    def __init__(self, missing: int) -> None:
        self.missing = missing


class _Other(msgspec.Struct, frozen=True):
    """A list that is not kept."""

    count: int


_Value = int | float | bool | str | tuple[int | float | bool, ...] | _Other


def read(head: bytes) -> GgufFacts:
    """Return what ``head``, the first bytes of a file, says.

    Raises ``ConfigError`` when they are not the beginning of a GGUF that llama.cpp could read, too few
    bytes aside.
    """
    found: dict[str, _Value] = {}
    version = 0
    try:
        version, tensors, count, at = _header(head)
        for _ in range(count):
            key, value, at = _pair(head, at)
            found[key] = value
    except _EndError as end:
        return _facts(version, found, gguf_tensors.Table(missing_bytes=end.missing))
    alignment = found.get("general.alignment", gguf_tensors.ALIGNMENT)
    return _facts(
        version,
        found,
        gguf_tensors.table(head, at, tensors, _number(alignment) or 0, limit=METADATA_BYTES),
    )


# --------------------------------------------------------------------------- bytes


def _header(head: bytes) -> tuple[int, int, int, int]:
    """Return the version, the numbers of tensors and of keys, and where these begin."""
    magic = head[:4]
    if not b"GGUF".startswith(magic):
        raise _wrong("not a GGUF file")
    version = int(_u32(head, 4))
    if version not in (2, 3):
        if int.from_bytes(head[4:8], "big") in (2, 3):
            raise _wrong("a GGUF file for big-endian machines")
        raise _wrong(f"GGUF version {version}; 2 and 3 can be read")
    tensors, count = _u64(head, 8), _u64(head, 16)
    if count > KEYS:
        raise _wrong(f"{count} metadata keys")
    return version, tensors, count, 24


def _pair(head: bytes, at: int) -> tuple[str, _Value, int]:
    size = _u64(head, at)
    if size > KEY_BYTES:
        raise _wrong("a metadata key without an end")
    key, at = _text(head, at)
    value, at = _value(head, at + 4, _u32(head, at))
    return key, value, at


def _value(head: bytes, at: int, kind: int) -> tuple[_Value, int]:
    if kind == _STRING:
        return _text(head, at)
    if kind == _LIST:
        return _list(head, at)
    form = _SCALARS.get(kind)
    if form is None:
        raise _wrong(f"a metadata value of unknown type {kind}")
    _need(head, at, form.size)
    return form.unpack_from(head, at)[0], at + form.size


def _list(head: bytes, at: int) -> tuple[_Value, int]:
    kind, count = _u32(head, at), _u64(head, at + 4)
    at += 12
    if kind == _STRING:
        return _Other(count), _past_texts(head, at, count)
    form = _SCALARS.get(kind)
    if form is None:  # lists of lists are legal, but nobody writes them and llama.cpp reads none
        raise _wrong(f"a metadata list of unknown type {kind}")
    _need(head, at, count * form.size)
    end = at + count * form.size
    if count > LIST_KEPT:
        return _Other(count), end
    return tuple(item for (item,) in form.iter_unpack(head[at:end])), end


def _past_texts(head: bytes, at: int, count: int) -> int:
    """Return where a list of strings ends. The hot loop of this module: a quarter of a million."""
    _fits(at + count * 8)
    unpack, end = _U64.unpack_from, len(head)
    for index in range(count):
        if at + 8 > end:
            _need(head, at, (count - index) * 8)
        at += 8 + unpack(head, at)[0]
        if at > end:
            _need(head, at, (count - index - 1) * 8)
    return at


def _text(head: bytes, at: int) -> tuple[str, int]:
    size = _u64(head, at)
    at += 8
    _need(head, at, size)
    return head[at : at + size].decode(errors="replace"), at + size


def _u32(head: bytes, at: int) -> int:
    _need(head, at, 4)
    number: int = _U32.unpack_from(head, at)[0]
    return number


def _u64(head: bytes, at: int) -> int:
    _need(head, at, 8)
    number: int = _U64.unpack_from(head, at)[0]
    return number


def _need(head: bytes, at: int, size: int) -> None:
    """Go on only if ``size`` bytes stand at ``at``."""
    _fits(at + size)
    if at + size > len(head):
        raise _EndError(at + size - len(head))


def _fits(end: int) -> None:
    if end > METADATA_BYTES:
        raise _wrong(f"its metadata is said to be longer than {METADATA_BYTES // 2**20} MiB")


def _wrong(what: str) -> ConfigError:
    hint = "look for another download of the model"
    return ConfigError(f"not a model file that can be read: {what}", hint=hint)


# --------------------------------------------------------------------------- facts


def _facts(version: int, found: Mapping[str, _Value], table: gguf_tensors.Table) -> GgufFacts:
    architecture = _string(found.get("general.architecture"))

    def of(key: str) -> _Value | None:
        return found.get(f"{architecture}.{key}")

    pattern = of("attention.sliding_window_pattern")
    blocks = _number(of("block_count"), LAYERS)
    return GgufFacts(
        missing_bytes=table.missing_bytes,
        least_bytes=table.least_bytes,
        version=version,
        architecture=architecture,
        type=_string(found.get("general.type")),
        name=_string(found.get("general.name")),
        context_length=_number(of("context_length")),
        block_count=blocks,
        embedding_length=_number(of("embedding_length")),
        feed_forward_length=max(_numbers(of("feed_forward_length")), default=0) or None,
        vocabulary=_vocabulary(found, of("vocab_size")),
        head_counts=_numbers(of("attention.head_count")),
        kv_head_counts=_numbers(of("attention.head_count_kv")),
        key_length=_number(of("attention.key_length")),
        value_length=_number(of("attention.value_length")),
        key_length_swa=_number(of("attention.key_length_swa")),
        value_length_swa=_number(of("attention.value_length_swa")),
        is_mla=_number(of("attention.key_length_mla")) is not None,
        sliding_window=_number(of("attention.sliding_window")),
        sliding_layers=tuple(bool(n) for n in _numbers(pattern)) if _is_list(pattern) else (),
        sliding_period=_number(pattern),
        shared_kv_layers=_number(of("attention.shared_kv_layers")),
        attention_interval=_number(of("full_attention_interval")),
        state_inner=_number(of("ssm.inner_size")),
        state_size=_number(of("ssm.state_size")),
        state_conv=_number(of("ssm.conv_kernel")),
        state_groups=_number(of("ssm.group_count")),
        expert_count=_number(of("expert_count")),
        expert_used_count=_number(of("expert_used_count")),
        expert_feed_forward_length=_number(of("expert_feed_forward_length")),
        file_type=_number(found.get("general.file_type"), smallest=0),
        has_chat_template="tokenizer.chat_template" in found,
        pooling=_pooling(of("pooling_type")),
        split_count=_number(found.get("split.count")),
    )


def _pooling(value: _Value | None) -> str | None:
    number = _number(value, smallest=0)
    return None if number is None else POOLING.get(number)


def _vocabulary(found: Mapping[str, _Value], size: _Value | None) -> int | None:
    tokens = found.get("tokenizer.ggml.tokens")
    return _number(tokens.count if isinstance(tokens, _Other) else size)


def _is_list(value: _Value | None) -> bool:
    return isinstance(value, tuple)


def _string(value: _Value | None) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(value: _Value | None, largest: int = LARGEST, *, smallest: int = 1) -> int | None:
    return value if type(value) is int and smallest <= value <= largest else None


def _numbers(value: _Value | None) -> tuple[int, ...]:
    """The numbers of a list, or the one; empty when any of them cannot be."""
    items = value if isinstance(value, tuple) else (value,)
    if len(items) > LAYERS:
        return ()
    found = tuple(int(n) for n in items if isinstance(n, int) and 0 <= n < LARGEST)
    return found if len(found) == len(items) else ()
