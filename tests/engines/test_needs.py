"""How much memory a model will need, by its files.

Numbers that llama.cpp itself printed are marked as seen; that the sum agrees with what a running
engine uses is in ``tests/runtime/test_memory.py``.
"""

from importlib.resources import files as resources
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.engines import gguf, llamacpp_memory, needs
from homeport.facts import MIB, Gpu, Machine, ModelFiles
from homeport.settings import ModelSettings
from tests.support.gguf import gguf as written
from tests.support.gguf import llama

GIB = 1024 * MIB
CPU = Machine(memory_bytes=64 * GIB)
CARD = Gpu(total_bytes=24 * GIB, free_bytes=23 * GIB)
ONE_CARD = Machine(gpus=(CARD,), memory_bytes=64 * GIB)
TWO_CARDS = Machine(gpus=(CARD, CARD), memory_bytes=64 * GIB)
DEMO = resources("homeport.demo").joinpath("demo.gguf").read_bytes()


def model(*args: str, **settings: Any) -> ModelSettings:
    return ModelSettings(**{"id": "m", "path": "/m/m.gguf", "args": args} | settings)


def gguf_files(size: int = 100 * MIB, head: bytes = b"", **metadata: Any) -> ModelFiles:
    head = head or written(llama(**metadata))
    return ModelFiles(path="/m/m.gguf", names=(("m.gguf", size),), head=head)


def folder(size: int, **config: Any) -> ModelFiles:
    names = (("model.safetensors", size), ("config.json", 500))
    return ModelFiles(path="/m", is_folder=True, names=names, config=config)


def kv(*args: str, ctx: int = 4096, slots: int = 1, **metadata: Any) -> int:
    facts = gguf.read(written(llama(**metadata)))
    return llamacpp_memory.kv_bytes(
        facts, llamacpp_memory.Shape(model(*args, ctx=ctx, slots=slots), facts)
    )


# --------------------------------------------------------------------------- llama.cpp


@pytest.mark.parametrize(
    ("ctx", "slots", "cache_mib", "buffer_mib"),
    [(512, 1, 0.94, 4.64), (2048, 2, 7.5, 6.14), (32768, 2, 120, 36.14), (262144, 2, 960, 260.14)],
)
def test_cache_and_buffer_of_the_demo_model_are_as_llamacpp_printed_them(
    ctx: int, slots: int, cache_mib: float, buffer_mib: float
) -> None:
    facts = gguf.read(DEMO)
    shape = llamacpp_memory.Shape(model(ctx=ctx, slots=slots), facts)
    assert llamacpp_memory.kv_bytes(facts, shape) / MIB == pytest.approx(cache_mib, rel=0.01)
    found = llamacpp_memory.compute_bytes(facts, shape) / MIB
    assert buffer_mib <= found < buffer_mib + 0.3


@pytest.mark.parametrize(
    ("architecture", "layers", "kv_heads", "vocabulary", "buffer_mib"),
    # Seen in many logs: CUDA0 compute buffer of Llama 2 7B and Llama 3 8B with flash attention.
    [("llama", 32, 32, 32000, 70.5), ("llama", 32, 8, 128256, 258.5)],
)
def test_the_buffer_of_well_known_models(
    architecture: str, layers: int, kv_heads: int, vocabulary: int, buffer_mib: float
) -> None:
    metadata = {
        "architecture": architecture,
        "block_count": layers,
        "embedding_length": 4096,
        "attention__head_count": 32,
        "attention__head_count_kv": kv_heads,
        "vocab_size": vocabulary,
    }
    facts = gguf.read(written(llama(**metadata) | {"tokenizer.ggml.tokens": ""}))
    shape = llamacpp_memory.Shape(model(ctx=512, slots=1), facts)
    assert llamacpp_memory.compute_bytes(facts, shape) / MIB == pytest.approx(buffer_mib, rel=0.01)


def test_the_cache_is_f16_keys_and_values_per_layer_cell_and_slot() -> None:
    # 4 layers, 2 KV heads of 256 / 8 = 32 numbers, keys and values of 2 bytes
    assert kv() == 4 * 4096 * 2 * 32 * 2 * 2
    assert kv(slots=3) == 3 * kv()
    assert kv(attention__key_length=64, attention__value_length=32) == kv() * 3 // 2
    assert kv(attention__head_count_kv=[2, 1, 1, 0]) == kv() // 2
    assert kv(attention__shared_kv_layers=1) == kv() * 3 // 4


def test_the_users_flags_count() -> None:
    assert kv("-ctk", "q8_0", "--cache-type-v=q4_0") == kv() * (34 + 18) // 128
    assert kv("-c", "8192") == 2 * kv()
    assert kv("-c", "0") == kv(ctx=8192)  # the model's own context
    assert kv("-c", "8192", "-np", "4") == 2 * kv()
    assert kv("-ctk", "nonsense") == kv()


def test_layers_with_a_sliding_window_keep_the_window_and_one_batch() -> None:
    window = {"attention__sliding_window": 1024, "ctx": 65536}
    full, slid = kv(ctx=65536) // 4, 4 * kv(ctx=1024 + 512) // 16
    listed = [True, True, False, True]
    assert kv(**window, attention__sliding_window_pattern=listed) == full + 3 * slid
    assert kv(**window, attention__sliding_window_pattern=4) == full + 3 * slid
    assert kv(**window, architecture="gpt-oss") == 2 * full + 2 * slid
    assert kv(**window) == 4 * full  # whoever does not say which layers, has none for us
    assert kv("--swa-full", **window, architecture="gpt-oss") == 4 * full
    assert kv(**window, architecture="gpt-oss", slots=2) == 2 * (2 * full + 2 * slid)


def test_recurrent_layers_have_a_state_of_fixed_size() -> None:
    state = {"ssm__inner_size": 512, "ssm__state_size": 16, "ssm__conv_kernel": 4}
    one = 4 * (3 * 512 + 512 * 16)
    every_second = kv(**state, full_attention_interval=2)
    assert every_second == kv() // 2 + 2 * one
    assert kv(**state, attention__head_count_kv=[0, 2, 0, 2], slots=2) == kv() + 2 * 2 * one


def test_compressed_keys_are_the_values_too() -> None:
    latent = {
        "attention__head_count_kv": 1,
        "attention__key_length": 576,
        "attention__value_length": 512,
        "attention__key_length_mla": 192,
    }
    assert kv(**latent) == 4 * 4096 * 576 * 2


def test_an_encoder_keeps_nothing() -> None:
    assert kv(architecture="bert") == 0


def test_without_flash_attention_the_scores_are_kept() -> None:
    plain = needs.estimate_bytes(model(ctx=32768), gguf_files(), CPU)
    scores = needs.estimate_bytes(model("-fa", "off", ctx=32768), gguf_files(), CPU)
    assert scores - plain == 512 * 32768 * (2 + 4 * 8)


def test_projector_and_parts_are_in_it() -> None:
    head = written(llama())
    alone = ModelFiles(path="/m/a.gguf", names=(("a.gguf", GIB),), head=head)
    both = ModelFiles(path="/m/a.gguf", names=(("a.gguf", GIB), ("mmproj.gguf", MIB)), head=head)
    assert (
        needs.estimate_bytes(model(), both, CPU) - needs.estimate_bytes(model(), alone, CPU) == MIB
    )
    assert needs.estimate_bytes(model("--no-mmproj"), both, CPU) == needs.estimate_bytes(
        model(), alone, CPU
    )


def test_an_embedding_model_has_no_eyes() -> None:
    head = written(llama())
    both = ModelFiles(path="/m/a.gguf", names=(("a.gguf", GIB), ("mmproj.gguf", MIB)), head=head)
    alone = ModelFiles(path="/m/a.gguf", names=(("a.gguf", GIB),), head=head)
    embedding = model(embeddings=True)
    assert needs.estimate_bytes(embedding, both, CPU) == needs.estimate_bytes(embedding, alone, CPU)


def test_a_gguf_by_another_name_is_one_all_the_same() -> None:
    head = written(llama())
    named = ModelFiles(path="/m/a.gguf", names=(("a.gguf", GIB),), head=head)
    blob = ModelFiles(path="/m/sha256-12", names=(("sha256-12", GIB), ("other", 5)), head=head)
    assert needs.estimate_bytes(model(), blob, CPU) == needs.estimate_bytes(model(), named, CPU)


def test_on_cards_llamacpp_never_takes_more_than_they_have() -> None:
    small, big = gguf_files(GIB), gguf_files(60 * GIB)
    on_cpu = needs.estimate_bytes(model(), small, CPU)
    assert needs.estimate_bytes(model(), small, ONE_CARD) == (
        on_cpu - needs.LLAMACPP_BYTES + needs.CUDA_BYTES
    )
    assert needs.estimate_bytes(model(), big, ONE_CARD) == 23 * GIB
    assert needs.estimate_bytes(model(), big, TWO_CARDS) == 46 * GIB


def test_a_file_that_tells_nothing_is_taken_for_a_large_one() -> None:
    unread = needs.estimate_bytes(model(), gguf_files(head=b"GGUF"), CPU)
    assert unread > needs.estimate_bytes(model(), gguf_files(), CPU)
    assert needs.estimate_bytes(model(), gguf_files(head=b"nonsense"), CPU) > 100 * MIB
    assert needs.estimate_bytes(model(), gguf_files(architecture="clip"), CPU) == unread


@given(st.binary(max_size=300), st.integers(1, 10**7), st.integers(1, 64))
def test_any_metadata_gives_a_number(data: bytes, ctx: int, slots: int) -> None:
    files = gguf_files(head=b"GGUF" + data)
    for machine in (CPU, ONE_CARD):
        assert needs.need_bytes(model(ctx=ctx, slots=slots), files, machine) > 0


# --------------------------------------------------------------------------- shares of a card


@pytest.mark.parametrize(
    ("engine", "args", "gib"),
    [
        ("vllm", (), 24 * 0.92),
        ("vllm", ("--gpu-memory-utilization", "0.5"), 12),
        ("vllm", ("--gpu_memory_utilization=0.25",), 6),
        ("vllm", ("--gpu-memory-utilization", "7"), 24 * 0.92),
        ("vllm", ("--kv-cache-memory-bytes", str(3 * GIB)), 3 + 10 + 0.5),
        ("sglang", ("--mem-fraction-static", "0.5"), 12),
        ("trtllm", ("--free_gpu_memory_fraction", "0.5"), 10 + 14 / 2),
        ("trtllm", ("--kv_cache_free_gpu_memory_fraction", "1.0"), 24),
        ("vllm", ("-tp", "2", "--gpu-memory-utilization", "0.5"), 24),
        ("sglang", ("--tp-size", "4", "--mem-fraction-static", "0.5"), 24),
    ],
)
def test_a_share_of_the_cards(engine: Any, args: tuple[str, ...], gib: float) -> None:
    found = needs.estimate_bytes(
        model(*args, path="/m"), folder(10 * GIB), TWO_CARDS, engine=engine
    )
    assert found == pytest.approx(gib * GIB)


def test_vllm_on_a_cpu_takes_a_share_of_the_memory() -> None:
    files = folder(2 * GIB)
    share = needs.estimate_bytes(model("--gpu-memory-utilization=0.25"), files, CPU, engine="vllm")
    assert share == 16 * GIB
    exact = model(path="/m", env=(("VLLM_CPU_KVCACHE_SPACE", "4"),))
    assert needs.estimate_bytes(exact, files, CPU, engine="vllm") == 6 * GIB + needs.PYTHON_BYTES


# --------------------------------------------------------------------------- config.json


def test_weights_and_cache_by_config_json() -> None:
    config = {"num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8}
    config |= {"hidden_size": 4096, "head_dim": 128}
    files = folder(4 * GIB, **config)
    found = needs.estimate_bytes(model(path="/m", ctx=32768, slots=1), files, CPU, engine="mlx")
    assert found == 4 * GIB + needs.PYTHON_BYTES + 36 * 2 * 8 * 128 * 2 * 32768


@pytest.mark.parametrize(
    ("config", "vectors"),
    [
        (
            {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 64},
            2 * 2 * 4 * 16 * 100,
        ),
        ({"num_hidden_layers": 3, "kv_lora_rank": 512, "qk_rope_head_dim": 64}, 3 * 576 * 100),
        (
            {
                "num_hidden_layers": 4,
                "num_attention_heads": 1,
                "head_dim": 8,
                "sliding_window": 10,
                "layer_types": ["sliding_attention", "full_attention", "linear_attention"],
            },
            16 * (10 + 100 + 0 + 100),
        ),
        ({"text_config": {"num_hidden_layers": 1, "num_attention_heads": 1, "head_dim": 8}}, 1600),
        ({}, 0),
        ({"num_hidden_layers": 10**9}, 0),
        ({"num_hidden_layers": "many"}, 0),
    ],
)
def test_the_cache_by_config_json(config: dict[str, Any], vectors: int) -> None:
    assert needs.config_kv_bytes(config, 100) == vectors * 2


# --------------------------------------------------------------------------- what is reserved


def test_the_largest_of_declared_estimated_and_remembered() -> None:
    files = gguf_files()
    estimate = needs.estimate_bytes(model(), files, CPU)
    assert needs.need_bytes(model(), files, CPU) == estimate
    assert needs.need_bytes(model(memory_bytes=1), files, CPU) == estimate
    assert needs.need_bytes(model(memory_bytes=9 * GIB), files, CPU) == 9 * GIB
    assert needs.need_bytes(model(), files, CPU, remembered_bytes=8 * GIB) == 8 * GIB


def test_nothing_known_is_nothing_needed_unless_it_is_declared() -> None:
    nothing = ModelFiles(path="org/name")
    custom = model(path=None, command=("server",), engine="custom")
    assert needs.need_bytes(custom, nothing, CPU) == 0
    assert needs.need_bytes(model(engine="llamacpp"), nothing, ONE_CARD) == 0
    declared = model(path=None, command=("server",), engine="custom", memory_bytes=GIB)
    assert needs.need_bytes(declared, nothing, CPU) == GIB
