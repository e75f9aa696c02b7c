"""GGUF metadata: facts or our error for any bytes, wherever they end."""

import struct
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.engines import gguf
from homeport.errors import ConfigError
from tests.support.gguf import ARRAY, BOOL, F32, I32, STRING, U32, U64, Typed, llama
from tests.support.gguf import gguf as written

DEMO = files("homeport.demo").joinpath("demo.gguf").read_bytes()[:256_000]
RICH = llama(
    general__nothing="x",
    attention__key_length=32,
    attention__value_length=64,
    attention__sliding_window=512,
    attention__sliding_window_pattern=[True, False, True, False],
    attention__head_count_kv=[2, 2, 0, 2],
    expert_count=8,
    expert_used_count=2,
    pooling_type=3,
) | {
    "general.type": "model",
    "general.file_type": 15,
    "tokenizer.ggml.scores": [0.5] * 5000,
    "tokenizer.ggml.merges": ["a b", "", "c d"],
    "tokenizer.chat_template": "{{ messages }}",
    "split.count": Typed(2, 3),
}


def test_the_demo_model() -> None:
    facts = gguf.read(DEMO)
    assert facts.missing_bytes is None
    assert (facts.architecture, facts.name, facts.quantisation) == ("llama", "homeport-demo", "F16")
    assert (facts.context_length, facts.block_count, facts.embedding_length) == (131072, 5, 192)
    assert (facts.head_counts, facts.kv_head_counts, facts.key_length) == ((6,), (3,), 32)
    assert facts.vocabulary == 2048
    assert facts.has_chat_template
    assert not facts.is_embedding


@pytest.mark.parametrize("version", [2, 3])
def test_all_that_is_asked_for(version: int) -> None:
    facts = gguf.read(written(RICH, version=version) + b"tensors follow")
    assert facts.version == version
    assert facts.missing_bytes is None
    assert facts.sliding_window == 512
    assert facts.sliding_layers == (True, False, True, False)
    assert facts.kv_head_counts == (2, 2, 0, 2)
    assert (facts.key_length, facts.value_length) == (32, 64)
    assert (facts.expert_count, facts.expert_used_count) == (8, 2)
    assert (facts.pooling, facts.is_embedding) == ("last", True)
    assert (facts.split_count, facts.quantisation, facts.vocabulary) == (3, "Q4_K_M", 4)
    assert facts.has_chat_template


@pytest.mark.parametrize("whole", [DEMO, written(RICH)], ids=["demo", "rich"])
def test_cut_anywhere_it_says_how_much_more_is_needed_at_least(whole: bytes) -> None:
    """Reading on by what it says ends with all facts, and never past the end of the metadata."""
    facts, head = gguf.read(b""), b""
    while facts.missing_bytes is not None:
        assert facts.missing_bytes > 0
        assert len(head) + facts.missing_bytes <= len(whole)
        head = whole[: len(head) + facts.missing_bytes]
        facts = gguf.read(head)
    assert facts == gguf.read(whole)
    step = max(1, len(head) // 2000)
    for end in (*range(0, len(head), step), len(head) - 1):
        cut = gguf.read(head[:end])
        assert cut.missing_bytes is not None
        assert 0 < cut.missing_bytes <= len(head) - end


@given(st.binary(max_size=400))
def test_any_bytes_behind_the_magic(data: bytes) -> None:
    for head in (data, b"GGUF" + data, b"GGUF\x03\0\0\0" + data):
        facts_or_error(head)


@given(st.data())
def test_any_bytes_changed_in_a_real_file(data: st.DataObject) -> None:
    whole = bytearray(written(RICH))
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at] = data.draw(st.integers(0, 255))
    facts_or_error(bytes(whole))


SCALARS = st.one_of(
    st.integers(0, 2**32 - 1).map(lambda n: Typed(U32, n)),
    st.integers(-(2**31), 2**31 - 1).map(lambda n: Typed(I32, n)),
    st.integers(0, 2**64 - 1).map(lambda n: Typed(U64, n)),
    st.floats(width=32).map(lambda n: Typed(F32, n)),
    st.booleans().map(lambda n: Typed(BOOL, n)),
    st.text(max_size=8).map(lambda n: Typed(STRING, n)),
    st.lists(st.integers(0, 2**32 - 1), max_size=9).map(lambda n: Typed(ARRAY, n)),
)


@given(st.dictionaries(st.sampled_from(sorted(RICH)), SCALARS))
def test_a_value_of_another_type_counts_as_absent(changed: dict[str, Any]) -> None:
    facts = gguf.read(written(RICH | changed))
    assert facts.missing_bytes is None
    for value in (facts.block_count, facts.context_length, facts.embedding_length):
        assert value is None or 0 < value <= gguf.LARGEST


def facts_or_error(head: bytes) -> None:
    try:
        facts = gguf.read(head)
    except ConfigError:
        return
    assert facts.missing_bytes is None or 0 < facts.missing_bytes <= gguf.METADATA_BYTES


def pair(key: bytes, kind: int, body: bytes) -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, 1)
    return head + struct.pack("<Q", len(key)) + key + struct.pack("<I", kind) + body


@pytest.mark.parametrize(
    ("head", "says"),
    [
        (b"PK\x03\x04 a zip file", "not a GGUF"),
        (b"GGUF" + struct.pack("<I", 1) + bytes(40), "version 1"),
        (b"GGUF" + struct.pack(">I", 3) + bytes(40), "big-endian"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**40), "metadata keys"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2**40), "key without an end"),
        (pair(b"k", STRING, struct.pack("<Q", 2**60)), "longer than"),
        (pair(b"k", ARRAY, struct.pack("<IQ", STRING, 2**60)), "longer than"),
        (pair(b"k", ARRAY, struct.pack("<IQ", U64, 2**61)), "longer than"),
        (pair(b"k", ARRAY, struct.pack("<IQ", ARRAY, 1)), "list of unknown type 9"),
        (pair(b"k", 13, b""), "unknown type 13"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_is_refused_at_once(head: bytes, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        gguf.read(head)


def test_an_unknown_quantisation_and_an_unknown_pooling_are_not_invented() -> None:
    facts = gguf.read(written(llama(pooling_type=99) | {"general.file_type": 999}))
    assert (facts.quantisation, facts.file_type, facts.pooling) == (None, 999, None)
    assert not facts.is_embedding
