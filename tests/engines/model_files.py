"""What lies at a model's path, made up: for tests of what is decided from it."""

from __future__ import annotations

from typing import Any

from homeport.facts import Gpu, Machine, ModelFiles

GIB = 1024**3
PLAIN = Machine(memory_bytes=16 * GIB)
CUDA = Machine(memory_bytes=64 * GIB, gpus=(Gpu(total_bytes=24 * GIB, free_bytes=24 * GIB),))
APPLE = Machine(system="darwin", is_apple_silicon=True, memory_bytes=32 * GIB)

GGUF = b"GGUF\x03\x00\x00\x00"


def gguf(path: str, *neighbours: str) -> ModelFiles:
    """A file, with what lies beside it."""
    name = path.rpartition("/")[2]
    names = tuple((other, 1) for other in (name, *neighbours))
    return ModelFiles(path=path, names=names, head=GGUF)


def folder(*names: str, path: str = "/models/m", **more: Any) -> ModelFiles:
    return ModelFiles(path=path, is_folder=True, names=tuple((n, 1) for n in names), **more)


def hugging_face(**more: Any) -> ModelFiles:
    """A folder as Hugging Face has them; ``config`` and the rest as given."""
    given = {"config": {"model_type": "qwen3"}, "format": "pt", **more}
    return folder("config.json", "model.safetensors", "tokenizer.json", **given)


def tensorrt() -> ModelFiles:
    config = {"version": "1.2.1", "pretrained_config": {}, "build_config": {}}
    return folder("config.json", "rank0.engine", config=config)
