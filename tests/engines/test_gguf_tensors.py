"""How long a GGUF is at least: a whole one never too short, and one that is cut off always."""

import struct
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.engines import gguf
from homeport.errors import ConfigError
from tests.support.gguf import STRING, Tensor, Typed, llama, with_tensors
from tests.support.gguf import gguf as written

DEMO = files("homeport.demo").joinpath("demo.gguf").read_bytes()
METADATA = llama()

ROWS = (  # ggml's types: so many values are so many bytes (ggml-common.h)
    (0, 1, 4),  # F32
    (1, 1, 2),  # F16
    (30, 1, 2),  # BF16
    (2, 32, 2 + 32 // 2),  # Q4_0: a scale, and four bits each
    (8, 32, 2 + 32),  # Q8_0
    (12, 256, 2 + 2 + 12 + 256 // 2),  # Q4_K: two scales, those of its eighths, four bits each
    (14, 256, 2 + 256 // 16 + 256 // 4 + 256 // 2),  # Q6_K
    (39, 32, 1 + 32 // 2),  # MXFP4: an exponent, and four bits each
)


@st.composite
def a_tensor(draw: st.DrawFn) -> Tensor:
    kind, values, size = draw(st.sampled_from(ROWS))
    blocks = draw(st.integers(1, 3))
    more = draw(st.lists(st.integers(1, 3), max_size=3))
    count = blocks
    for each in more:
        count *= each
    return Tensor(kind, (blocks * values, *more), count * size)


@given(st.lists(a_tensor(), min_size=1, max_size=5), st.sampled_from([1, 32, 64]), st.data())
def test_a_whole_file_is_long_enough_and_each_cut_in_its_tensors_too_short(
    tensors: list[Tensor], alignment: int, data: st.DataObject
) -> None:
    whole = with_tensors(METADATA, tensors, alignment=alignment)
    least = gguf.read(whole).least_bytes
    assert least == len(whole)
    start = len(whole) - sum(t.size_bytes for t in tensors)
    cut = whole[: data.draw(st.integers(start, len(whole) - 1))]
    assert gguf.read(cut).least_bytes == len(whole) > len(cut)


def test_the_demo_model_is_whole_and_none_of_its_beginnings_is() -> None:
    assert gguf.read(DEMO).least_bytes == len(DEMO)
    for end in range(0, len(DEMO), len(DEMO) // 200):
        facts = gguf.read(DEMO[:end])
        if facts.missing_bytes is None:
            assert facts.least_bytes == len(DEMO)
        else:
            assert 0 < facts.missing_bytes <= len(DEMO) - end


def test_padding_behind_the_last_tensor_is_not_asked_for() -> None:
    whole = with_tensors(METADATA, [Tensor(0, (3,), 12)])
    assert gguf.read(whole + bytes(20)).least_bytes == len(whole)


def test_a_part_without_tensors_ends_with_its_metadata() -> None:
    whole = written(METADATA)
    assert gguf.read(whole).least_bytes == len(whole)


def test_a_type_that_is_not_known_has_no_size() -> None:
    """It begins somewhere, which is certain; its end is not."""
    first, other = Tensor(0, (8,), 32), Tensor(999, (64,), 7)
    whole = with_tensors(METADATA, [first, other])
    assert gguf.read(whole).least_bytes == len(whole) - 7
    assert gguf.read(with_tensors(METADATA, [other, first])).least_bytes == len(
        with_tensors(METADATA, [other, first])
    )


def test_rows_that_are_no_whole_blocks_and_tensors_without_values_have_no_size() -> None:
    for odd in (Tensor(12, (100,), 3), Tensor(0, (4, 0), 0)):
        whole = with_tensors(METADATA, [Tensor(0, (8,), 32), odd])
        least = gguf.read(whole).least_bytes
        assert least is not None
        assert least <= len(whole)


@pytest.mark.parametrize(
    "table",
    [
        struct.pack("<Q", 2**60) + bytes(99),  # a name without an end
        struct.pack("<QI", 0, 99) + bytes(999),  # 99 dimensions
        struct.pack("<QI2QIQ", 0, 2, 2**40, 2**40, 0, 0),  # larger than any disk
        struct.pack("<QIQIQ", 0, 1, 1, 0, 2**63),
    ],
    ids=["name", "dimensions", "shape", "offset"],
)
def test_of_a_table_that_looks_odd_nothing_is_said(table: bytes) -> None:
    facts = gguf.read(written(METADATA, tensors=1) + table)
    assert (facts.least_bytes, facts.missing_bytes) == (None, None)


@pytest.mark.parametrize("alignment", [0, 24, -32, Typed(STRING, "32")])
def test_of_an_alignment_that_cannot_be_nothing_is_said(alignment: object) -> None:
    kind = alignment if isinstance(alignment, Typed) else Typed(5, alignment)
    head = written(METADATA | {"general.alignment": kind}, tensors=1)
    facts = gguf.read(head + struct.pack("<QIQIQ", 0, 1, 8, 0, 0))
    assert (facts.least_bytes, facts.missing_bytes) == (None, None)


@given(st.binary(max_size=200), st.integers(0, 2**64 - 1))
def test_any_bytes_behind_the_metadata(data: bytes, tensors: int) -> None:
    try:
        facts = gguf.read(written(METADATA, tensors=tensors) + data)
    except ConfigError:
        return
    assert facts.architecture == "llama"
    assert facts.missing_bytes is None or 0 < facts.missing_bytes <= gguf.METADATA_BYTES
