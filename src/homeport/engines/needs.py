"""How much memory an engine will need, judged before it is started.

What is reserved for a start is the largest of three numbers: what the user declared
(``memory_bytes``), what was measured when the same model last ran with the same settings
(``runtime.remembered``), and the estimate made here. The estimate is of the memory that the engine
computes in: the cards' where there are CUDA devices, else the machine's.

1. **llama.cpp**: the files (all parts, and the projector), the KV cache, the compute buffer
   (``engines.llamacpp_memory``), and what the process itself takes.
2. **vLLM, SGLang, TensorRT-LLM** on a card take a share of it, whatever the model:
   ``--gpu-memory-utilization``, ``--mem-fraction-static``, ``--free_gpu_memory_fraction``; vLLM on a
   CPU does so with the machine's memory.
3. **MLX and all others**: the weights, the KV cache by ``config.json``, and the process itself.

Not in it: what grows with use. llama.cpp keeps prompts of conversations that lost their slot in host
memory (up to 1 GiB as we start it, 8 GiB by its own default), MLX keeps up to ten prompt caches.
"""

from collections.abc import Mapping
from posixpath import basename
from typing import Any, Final

from homeport.engines import flags, gguf, llamacpp_memory, weights
from homeport.engines.answers import first_int
from homeport.engines.llamacpp import DEFAULT_CTX, SLOTS
from homeport.errors import ConfigError
from homeport.facts import MIB, EngineName, Gpu, Machine, ModelFiles
from homeport.settings import ModelSettings

GIB: Final = 1024 * MIB

LLAMACPP_BYTES: Final = 32 * MIB
"""The process itself, on a CPU (seen: 26 MiB, b11549)."""
CUDA_BYTES: Final = 512 * MIB
"""A process's context and kernels on a card: 300 to 500 MB by common experience. Not verified."""
PYTHON_BYTES: Final = 512 * MIB
"""An engine in Python with its libraries, before it has loaded anything."""
FIT_MARGIN_BYTES: Final = GIB
"""llama.cpp leaves so much of each card free, and keeps in host memory what then does not fit
(``--fit``, on by default; ``fit_params_target`` of b11549)."""
KV_NUMBER_BYTES: Final = 2
LAYERS: Final = 4096
"""A ``config.json`` with more layers is a wrong one."""

SHARES: Final[Mapping[EngineName, tuple[float, tuple[str, ...]]]] = {
    "vllm": (0.92, ("--gpu-memory-utilization",)),  # 0.32, config/cache.py; 0.9 up to 0.16
    # Static only. SGLang chooses it by the card, and plans the rest for activations and graphs.
    "sglang": (0.9, ("--mem-fraction-static",)),  # its documentation, 2026
    # Of what the weights leave free (its documentation, 2026).
    "trtllm": (0.9, ("--free-gpu-memory-fraction", "--kv-cache-free-gpu-memory-fraction")),
}
"""Engines that take a share of the card: the share, and the flag that sets it."""
_CARDS: Final = (
    ("-tp", "--tensor-parallel-size", "--tp-size", "--tp"),
    ("-pp", "--pipeline-parallel-size", "--pp-size"),
)
"""The flags by which these engines are spread over cards; the numbers multiply."""


def need_bytes(
    model: ModelSettings,
    files: ModelFiles,
    machine: Machine,
    *,
    engine: EngineName | None = None,
    remembered_bytes: int | None = None,
) -> int:
    """Return what is to be free before ``model`` is started; 0 when nothing is known about it.

    ``engine`` is the one that was chosen for it, ``remembered_bytes`` what it took last time.
    """
    estimate = estimate_bytes(model, files, machine, engine=engine)
    return max(estimate, model.memory_bytes or 0, remembered_bytes or 0)


def estimate_bytes(
    model: ModelSettings,
    files: ModelFiles,
    machine: Machine,
    *,
    engine: EngineName | None = None,
) -> int:
    """Return what ``model`` will need, by its files alone; 0 when they do not tell."""
    is_gguf = files.head.startswith(b"GGUF") or weights.gguf(files) is not None
    chosen = engine or model.engine or ("llamacpp" if is_gguf else None)
    if chosen == "llamacpp":  # 1.
        return _llamacpp_bytes(model, files, machine)
    if chosen is not None and chosen in SHARES and (cards := _cards(model, machine, chosen)):  # 2.
        return _share_bytes(chosen, model, files, cards)
    return _folder_bytes(model, files)  # 3.


# --------------------------------------------------------------------------- 1. llama.cpp


def _llamacpp_bytes(model: ModelSettings, files: ModelFiles, machine: Machine) -> int:
    has_eyes = not model.embeddings and not flags.is_set(model.args, "--no-mmproj")
    size = weights.gguf_bytes(files, with_projector=has_eyes)
    if not size and not files.is_folder:  # a file that is called otherwise, as in Ollama's store
        size = dict(files.names).get(basename(files.path), 0)
    if not size:
        return 0
    facts = _gguf_facts(files)
    shape = llamacpp_memory.Shape(model, facts)
    size += llamacpp_memory.kv_bytes(facts, shape) + llamacpp_memory.compute_bytes(facts, shape)
    if not machine.gpus:
        return size + LLAMACPP_BYTES
    usable = sum(max(gpu.total_bytes - FIT_MARGIN_BYTES, 0) for gpu in machine.gpus)
    return min(size + CUDA_BYTES, usable)


def _gguf_facts(files: ModelFiles) -> gguf.GgufFacts:
    unknown = gguf.GgufFacts(version=0)
    try:
        facts = gguf.read(files.head)
    except ConfigError:  # told when it is started; here it only means that nothing is known
        return unknown
    return unknown if facts.architecture == "clip" else facts  # the projector's head, in a folder


# --------------------------------------------------------------------------- 2. a share of the card


def _cards(model: ModelSettings, machine: Machine, engine: EngineName) -> tuple[Gpu, ...]:
    """The cards that it takes a share of."""
    if not machine.gpus:
        # vLLM's CPU backend (0.32, v1/worker/cpu_worker.py) treats the memory as its card.
        whole = Gpu(total_bytes=machine.memory_bytes, free_bytes=machine.memory_bytes)
        return (whole,) if engine == "vllm" and machine.memory_bytes else ()
    count = 1
    for names in _CARDS:
        count *= flags.number(model.args, *names) or 1
    return machine.gpus[:count]


def _share_bytes(
    engine: EngineName, model: ModelSettings, files: ModelFiles, cards: tuple[Gpu, ...]
) -> int:
    usual, names = SHARES[engine]
    share = flags.fraction(model.args, *names) or usual
    total = sum(card.total_bytes for card in cards)
    if engine == "trtllm":
        size = min(weights.folder_bytes(files), total)
        return int(size + (total - size) * share)
    cache = _vllm_cache_bytes(model) if engine == "vllm" else None
    if cache is not None:
        return weights.folder_bytes(files) + cache + PYTHON_BYTES
    return int(total * share)


def _vllm_cache_bytes(model: ModelSettings) -> int | None:
    """A cache of a set size: the share does not count then."""
    exact = flags.number(model.args, "--kv-cache-memory-bytes")
    gib = dict(model.env).get("VLLM_CPU_KVCACHE_SPACE", "")
    return exact or (int(gib) * GIB if gib.isascii() and gib.isdecimal() else None)


# --------------------------------------------------------------------------- 3. weights and config.json


def _folder_bytes(model: ModelSettings, files: ModelFiles) -> int:
    size = weights.folder_bytes(files)
    if not size:
        return 0
    tokens = (model.ctx or DEFAULT_CTX) * (model.slots or SLOTS)
    return size + config_kv_bytes(files.config or {}, tokens) + PYTHON_BYTES


def config_kv_bytes(config: Mapping[str, Any], tokens: int) -> int:
    """Return the KV cache for ``tokens``, by a ``config.json`` of the transformers library.

    0 when it does not tell. A model that sees has the numbers of its text part in ``text_config``.
    """
    text = config.get("text_config")
    if isinstance(text, Mapping) and "num_hidden_layers" in text:
        config = text
    layers, heads = first_int(config, "num_hidden_layers"), first_int(config, "num_attention_heads")
    if layers is None or layers > LAYERS:
        return 0
    vector = _config_vector(config, heads or 1)
    kinds = config.get("layer_types")
    kinds = kinds if isinstance(kinds, list) else []
    window = first_int(config, "sliding_window") or tokens
    total = 0
    for layer in range(layers):
        kind = kinds[layer] if layer < len(kinds) else "full_attention"
        if kind == "linear_attention":
            continue
        total += min(tokens, window) if kind == "sliding_attention" else tokens
    return total * vector * KV_NUMBER_BYTES


def _config_vector(config: Mapping[str, Any], heads: int) -> int:
    """Numbers that one layer keeps of one token."""
    if rank := first_int(config, "kv_lora_rank"):  # DeepSeek: one compressed vector for K and V
        return rank + (first_int(config, "qk_rope_head_dim") or 0)
    length = first_int(config, "head_dim") or (first_int(config, "hidden_size") or 0) // heads
    return 2 * (first_int(config, "num_key_value_heads") or heads) * length
