"""The demo model as Hugging Face has models: for engines that read no GGUF.

`write(folder)` makes a folder of the packaged GGUF, with the same weights, tokenizer and chat template.
Standard library only, so that it needs no engine's environment.

The one subtle point: llama.cpp keeps the rows of each rotary head as pairs, Hugging Face as two halves.
Matrices are f16 in both; the norms, f32 in a GGUF, become f16.
"""

from __future__ import annotations

import io
import json
import struct
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from homeport.demo import demo_model_path

TOKENIZER = Path(__file__).resolve().parents[2] / "demo-model" / "tokenizer.json"
END, PAD = "<|im_end|>", "<|endoftext|>"
F32, F16 = 0, 1
NAMES = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
OUTER = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
}
SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}


def write(folder: Path) -> Path:
    """Returns `folder`, with the model in it."""
    folder.mkdir(parents=True, exist_ok=True)
    with demo_model_path().open("rb") as file:
        facts, tensors = read(file)
    tokenizer = json.loads(TOKENIZER.read_text("utf-8"))
    ids = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    template = facts["tokenizer.chat_template"]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
    (folder / "chat_template.jinja").write_text(template, "utf-8")
    files: dict[str, Any] = {
        "config.json": config(facts, ids),
        "generation_config.json": {
            "eos_token_id": [ids[END], ids[PAD]],
            "pad_token_id": ids[PAD],
        },
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": END,
            "pad_token": PAD,
            "model_max_length": facts["llama.context_length"],
            "clean_up_tokenization_spaces": False,
            "chat_template": template,
        },
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    write_tensors(folder / "model.safetensors", tensors, facts)
    return folder


def config(facts: dict[str, Any], ids: dict[str, int]) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "vocab_size": len(facts["tokenizer.ggml.tokens"]),
        "hidden_size": facts["llama.embedding_length"],
        "num_hidden_layers": facts["llama.block_count"],
        "num_attention_heads": facts["llama.attention.head_count"],
        "num_key_value_heads": facts["llama.attention.head_count_kv"],
        "head_dim": facts["llama.attention.key_length"],
        "intermediate_size": facts["llama.feed_forward_length"],
        "max_position_embeddings": facts["llama.context_length"],
        "rope_theta": facts["llama.rope.freq_base"],
        "rms_norm_eps": facts["llama.attention.layer_norm_rms_epsilon"],
        "tie_word_embeddings": True,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": None,
        "eos_token_id": ids[END],
        "pad_token_id": ids[PAD],
        "torch_dtype": "float16",
    }


# --------------------------------------------------------------------------- weights

Tensor = tuple[tuple[int, ...], bytes]
"""Shape, rows first, and f16 values."""


def write_tensors(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """A safetensors file: the length of its header, the header, the values."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    body = io.BytesIO()
    for name, (shape, data) in tensors.items():
        if name.endswith(("attn_q.weight", "attn_k.weight")):
            data = halves(data, shape, facts["llama.attention.key_length"])
        begin = body.tell()
        body.write(data)
        offsets = [begin, body.tell()]
        header[name_of(name)] = {"dtype": "F16", "shape": list(shape), "data_offsets": offsets}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + body.getvalue())


def name_of(name: str) -> str:
    outer = {
        "token_embd.weight": "model.embed_tokens.weight",
        "output_norm.weight": "model.norm.weight",
    }
    if name in outer:
        return outer[name]
    _, number, part, _ = name.split(".")
    return f"model.layers.{number}.{NAMES[part]}.weight"


def halves(data: bytes, shape: tuple[int, ...], head: int) -> bytes:
    """Rows as pairs to rows as halves, head by head."""
    size = shape[1] * 2
    rows = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(
        row
        for first in range(0, len(rows), head)
        for half in (0, 1)
        for row in rows[first + half : first + head : 2]
    )


# --------------------------------------------------------------------------- GGUF


def read(file: BinaryIO) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The metadata and the tensors, as f16."""
    assert file.read(4) == b"GGUF"
    _, tensor_count, pair_count = struct.unpack("<IQQ", file.read(20))
    facts = {}
    for _ in range(pair_count):
        key = text(file)
        facts[key] = value(file, number(file, "I"))
    places = {}
    for _ in range(tensor_count):
        name = text(file)
        shape = tuple(number(file, "Q") for _ in range(number(file, "I")))[::-1]
        places[name] = (shape, number(file, "I"), number(file, "Q"))
    start = file.tell() + -file.tell() % facts.get("general.alignment", 32)
    tensors = {}
    for name, (shape, kind, offset) in places.items():
        file.seek(start + offset)
        tensors[name] = (shape, as_f16(file, kind, prod(shape)))
    return facts, tensors


def as_f16(file: BinaryIO, kind: int, count: int) -> bytes:
    if kind == F16:
        return file.read(count * 2)
    assert kind == F32, f"type {kind}"
    return struct.pack(f"<{count}e", *struct.unpack(f"<{count}f", file.read(count * 4)))


def value(file: BinaryIO, kind: int) -> Any:
    if kind == 8:
        return text(file)
    if kind == 9:
        of, count = number(file, "I"), number(file, "Q")
        return [value(file, of) for _ in range(count)]
    return number(file, SCALARS[kind])


def text(file: BinaryIO) -> str:
    return file.read(number(file, "Q")).decode()


def number(file: BinaryIO, code: str) -> Any:
    return struct.unpack("<" + code, file.read(struct.calcsize(code)))[0]
