"""How long a GGUF file is at least, by what it says of its tensors.

Behind the metadata each tensor has an entry: its name, its shape, its type, and where it begins in the
data, which follows, aligned (ggml, docs/gguf.md). So a download that broke off is known by the first
megabytes of the file; llama.cpp refuses one whose tensors do not lie within it.

Only what is certain counts. A type that is not known here has no size, and adds nothing beyond where
it begins; padding behind the last tensor, which some writers leave out, is not asked for; and of a
table that looks odd nothing is said.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

ALIGNMENT: Final = 32
"""Where the metadata names no other."""
TENSORS: Final = 1_000_000
NAME_BYTES: Final = 65_535
DIMENSIONS: Final = 8
"""ggml has four."""
LARGEST_BYTES: Final = 2**48
"""No model is larger: such a number is nonsense."""

TYPES: Final[Mapping[int, tuple[int, int]]] = {
    0: (1, 4),  # F32
    1: (1, 2),  # F16
    2: (32, 18),  # Q4_0
    3: (32, 20),  # Q4_1
    6: (32, 22),  # Q5_0
    7: (32, 24),  # Q5_1
    8: (32, 34),  # Q8_0
    10: (256, 84),  # Q2_K
    11: (256, 110),  # Q3_K
    12: (256, 144),  # Q4_K
    13: (256, 176),  # Q5_K
    14: (256, 210),  # Q6_K
    16: (256, 66),  # IQ2_XXS
    17: (256, 74),  # IQ2_XS
    18: (256, 98),  # IQ3_XXS
    19: (256, 50),  # IQ1_S
    20: (32, 18),  # IQ4_NL
    21: (256, 110),  # IQ3_S
    22: (256, 82),  # IQ2_S
    23: (256, 136),  # IQ4_XS
    24: (1, 1),  # I8
    25: (1, 2),  # I16
    26: (1, 4),  # I32
    27: (1, 8),  # I64
    28: (1, 8),  # F64
    29: (256, 56),  # IQ1_M
    30: (1, 2),  # BF16
    34: (256, 54),  # TQ1_0
    35: (256, 66),  # TQ2_0
    39: (32, 17),  # MXFP4
}
"""``GGML_TYPE_*``: so many values are one block, of so many bytes."""

_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")
_SMALLEST: Final = 8 + 4 + 4 + 8
"""An entry without a name and without dimensions."""


class Table(NamedTuple):
    """What the table says."""

    least_bytes: int | None = None
    """Of the whole file; None when that is not known."""
    missing_bytes: int | None = None
    """At least so many bytes more are needed to read all of the table."""


class _EndError(Exception):
    """The bytes end here; so many more are needed for this entry."""

    def __init__(self, missing: int) -> None:
        self.missing = missing


class _OddError(Exception):
    """Nothing that can be believed."""


def table(head: bytes, at: int, count: int, alignment: int, *, limit: int) -> Table:
    """Read the ``count`` entries that begin at ``at``, none behind the first ``limit`` bytes."""
    if count == 0:
        return Table(at)
    if count > TENSORS or alignment <= 0 or alignment & (alignment - 1):
        return Table()
    needs = 0
    for index in range(count):
        rest = (count - index - 1) * _SMALLEST
        try:
            end, at = _entry(head, at, limit - rest)
        except _EndError as short:
            return Table(missing_bytes=short.missing + rest)
        except _OddError:
            return Table()
        needs = max(needs, end)
    least = -(-at // alignment) * alignment + needs
    return Table(least if least <= LARGEST_BYTES else None)


def _entry(head: bytes, at: int, limit: int) -> tuple[int, int]:
    """Where a tensor ends in the data, as far as that is known, and where the next entry begins."""
    name = _number(_U64, head, at, limit)
    at += 8 + name
    dimensions = _number(_U32, head, at, limit)
    if name > NAME_BYTES or dimensions > DIMENSIONS:
        raise _OddError
    at += 4
    kind_at = at + 8 * dimensions
    offset = _number(_U64, head, kind_at + 4, limit)  # the last of it: all is there
    shape = [_number(_U64, head, at + 8 * i, limit) for i in range(dimensions)]
    kind = _number(_U32, head, kind_at, limit)
    size = _size_bytes(kind, shape)
    return 0 if 0 in shape else offset + size, kind_at + 12


def _size_bytes(kind: int, shape: Sequence[int]) -> int:
    """0 for what is not known."""
    per_block, block_bytes = TYPES.get(kind, (1, 0))
    if not shape or shape[0] % per_block:  # blocks never go over the end of a row
        return 0
    return math.prod(shape) // per_block * block_bytes


def _number(form: struct.Struct, head: bytes, at: int, limit: int) -> int:
    end = at + form.size
    if end > limit:
        raise _OddError
    if end > len(head):
        raise _EndError(end - len(head))
    number: int = form.unpack_from(head, at)[0]
    return number
