"""What llama.cpp allocates beside the weights: the KV cache and the compute buffer.

Both are allocated whole at the start, so that they can be computed from the metadata.

**KV cache** (``llama-kv-cache.cpp``, ``llama-kv-cache-iswa.cpp``). For each layer with attention, K and
V of ``KV heads x head length`` numbers per cell. The cells are the context, divided among the slots in
equal shares, each padded to 256. A layer with a sliding window has cells for the window and one
physical batch only, for each slot. Layers with a recurrent state in place of attention have that
state in 32-bit numbers, once per slot, whatever the context.

**Compute buffer** (``llama-context.cpp``, ``sched_reserve``: the largest graph is laid out once). As
``ubatch`` tokens pass through, these are alive at the same time:

* the hidden state, ``4 * embedding`` per token,
* the widest result: the logits, ``4 * vocabulary``, or three vectors of the feed-forward part,
* the attention mask, ``2`` per token and cell of one slot; without flash attention the mask takes 4,
  and the scores ``4 * heads`` more.

Seen to agree with what b11549 prints for the demo model: 4.6 MiB at 512 cells, 36.1 at 32768, 68.1 at
65536 (here 4.9, 36.4, 68.4).
"""

from collections.abc import Mapping, Sequence
from typing import Final

from homeport.engines import flags
from homeport.engines.gguf import GgufFacts
from homeport.engines.llamacpp import DEFAULT_CTX, EMBEDDING_BATCH, SLOTS
from homeport.settings import ModelSettings

UBATCH: Final = 512
"""llama.cpp's own physical batch."""
PAD: Final = 256
UNKNOWN_LAYERS: Final = 64
"""A deep model of usual width, for a file that does not say how it is built."""
UNKNOWN_LAYER: Final = 2 * 1024

CACHE_BYTES: Final[Mapping[str, float]] = {
    "f32": 4.0,
    "f16": 2.0,
    "bf16": 2.0,
    "q8_0": 34 / 32,
    "q5_1": 24 / 32,
    "q5_0": 22 / 32,
    "q4_1": 20 / 32,
    "q4_0": 18 / 32,
    "iq4_nl": 18 / 32,
}
"""Bytes per number for ``--cache-type-k`` and ``-v``: blocks of 32 with their scales."""

SLIDING_PERIODS: Final[Mapping[str, int]] = {
    "afmoe": 4,
    "cohere2": 4,
    "exaone-moe": 4,
    "exaone4": 4,
    "gemma-embedding": 6,
    "gemma2": 2,
    "gemma3": 6,
    "gemma3n": 5,
    "gpt-oss": 2,
    "olmo2": 4,
    "plamo3": 8,
    "smallthinker": 4,
}
"""Each so many-th layer sees everything, the others their window: llama.cpp's own knowledge
(``src/models/*.cpp``, 2026) of files that do not say it. A window without a known period counts as
none: rather too much than too little."""

WITHOUT_CACHE: Final = frozenset(
    {
        *("bert", "eurobert", "gemma-embedding", "jina-bert-v2", "jina-bert-v3", "modern-bert"),
        *("neo-bert", "nomic-bert", "nomic-bert-moe"),
    }
)
"""Encoders read a text at once and remember nothing."""


class Shape:
    """How the engine will be started: what our command line and the user's ``args`` come to."""

    def __init__(self, model: ModelSettings, facts: GgufFacts) -> None:
        args = model.args
        self.slots = flags.number(args, "-np", "--parallel") or model.slots or SLOTS
        ours = (model.ctx or DEFAULT_CTX) * self.slots
        theirs = flags.number(args, "-c", "--ctx-size")
        if theirs == 0:  # llama.cpp: the model's own context
            theirs = facts.context_length
        context = theirs or ours
        is_unified = flags.is_set(args, "-kvu", "--kv-unified")
        self.streams = 1 if is_unified else self.slots
        self.cells = _padded(-(-context // self.streams))
        """Of one stream; a unified cache is one stream for all slots."""
        self.ubatch = flags.number(args, "-ub", "--ubatch-size") or (
            EMBEDDING_BATCH if model.embeddings else UBATCH
        )
        self.k_bytes = _cache_bytes(args, "-ctk", "--cache-type-k")
        self.v_bytes = _cache_bytes(args, "-ctv", "--cache-type-v")
        self.is_swa_full = flags.is_set(args, "--swa-full")
        self.is_flash = flags.value(args, "-fa", "--flash-attn") not in ("off", "0", "disabled")

    def window_cells(self, window: int) -> int:
        """Cells of one stream for a layer that sees ``window`` tokens back."""
        seqs = self.slots if self.streams == 1 else 1
        return _padded(min(self.cells, window * seqs + self.ubatch))


def kv_bytes(facts: GgufFacts, shape: Shape) -> int:
    """Return the size of the KV cache, and of recurrent states."""
    if facts.architecture in WITHOUT_CACHE:
        return 0
    if facts.block_count is None:
        return UNKNOWN_LAYERS * UNKNOWN_LAYER * shape.streams * shape.cells
    total = 0.0
    for layer in range(facts.block_count - (facts.shared_kv_layers or 0)):
        if _is_recurrent(facts, layer):
            total += _state_bytes(facts) * shape.slots
            continue
        slides = not shape.is_swa_full and _slides(facts, layer)
        cells = shape.window_cells(facts.sliding_window or 0) if slides else shape.cells
        total += cells * shape.streams * _cell_bytes(facts, shape, layer, slides=slides)
    return int(total)


def compute_bytes(facts: GgufFacts, shape: Shape) -> int:
    """Return the size of the compute buffer."""
    embedding = facts.embedding_length or UNKNOWN_LAYER
    experts = (facts.expert_used_count or 0) * (facts.expert_feed_forward_length or 0)
    widest = max(facts.vocabulary or 0, 3 * max(facts.feed_forward_length or 0, experts))
    is_encoder = facts.architecture in WITHOUT_CACHE
    cells = shape.ubatch if is_encoder else shape.cells
    mask = 2 if shape.is_flash and not is_encoder else 4 + 4 * max(facts.head_counts, default=1)
    if facts.sliding_window and not shape.is_swa_full:
        cells += shape.window_cells(facts.sliding_window)  # a mask of its own
    return shape.ubatch * (4 * (embedding + widest) + mask * cells)


# --------------------------------------------------------------------------- layers


def _cell_bytes(facts: GgufFacts, shape: Shape, layer: int, *, slides: bool) -> float:
    heads = _of_layer(facts.head_counts, layer, 1)
    kv_heads = _of_layer(facts.kv_head_counts, layer, heads)
    usual = (facts.embedding_length or UNKNOWN_LAYER) // max(heads, 1)
    key, value = facts.key_length or usual, facts.value_length or usual
    if slides:
        key, value = facts.key_length_swa or key, facts.value_length_swa or value
    if facts.is_mla:
        value = 0  # a view of the key
    return kv_heads * (key * shape.k_bytes + value * shape.v_bytes)


def _slides(facts: GgufFacts, layer: int) -> bool:
    if not facts.sliding_window:
        return False
    if facts.sliding_layers:
        return layer < len(facts.sliding_layers) and facts.sliding_layers[layer]
    period = facts.sliding_period or SLIDING_PERIODS.get(facts.architecture or "", 1)
    return layer % period < period - 1


def _is_recurrent(facts: GgufFacts, layer: int) -> bool:
    if facts.attention_interval:
        return (layer + 1) % facts.attention_interval != 0
    return _of_layer(facts.kv_head_counts, layer, 1) == 0


def _state_bytes(facts: GgufFacts) -> int:
    """``n_embd_r`` and ``n_embd_s`` of ``llama-hparams.cpp``: the convolution's inputs, the state."""
    inner, size = facts.state_inner or 0, facts.state_size or 0
    inputs = max((facts.state_conv or 1) - 1, 0) * (inner + 2 * (facts.state_groups or 0) * size)
    return 4 * (inputs + inner * size)


def _of_layer(counts: tuple[int, ...], layer: int, otherwise: int) -> int:
    if len(counts) == 1:
        return counts[0]
    return counts[layer] if layer < len(counts) else otherwise


def _cache_bytes(args: Sequence[str], *names: str) -> float:
    return CACHE_BYTES.get(flags.value(args, *names) or "f16", 2.0)


def _padded(cells: int) -> int:
    return -(-cells // PAD) * PAD
