"""Which parsers an engine is started with: for tool calls, and for thinking.

vLLM and TensorRT-LLM must be told in which form a model writes its tool calls; SGLang finds it out
(``auto``), llama.cpp and MLX look at the template themselves. How a model is recognised, in this
order:

1. **Its chat template**, which shows the form to the model: by marks that no other form has.
2. **Its architecture** (``model_type`` of ``config.json``), where the template is not at hand or shows
   nothing.
3. **Its name**, where nothing else is known: a model on the hub that has not been downloaded.

A wrong parser is worse than none for thinking: some engines do not start with one whose tags the
tokenizer lacks. So thinking is only parsed where the family is known and, if the template is at hand,
it has the tags. For tool calls vLLM gets a parser in any case (``UNKNOWN``): without one it answers
400 to every request with tools, and what the parser does not recognise stays text, out of which
``wire.rescue`` takes it.

Names of parsers: vLLM 0.32.0 (``tool_parsers/__init__.py``, ``reasoning/__init__.py``); TensorRT-LLM's
``serve/tool_parser/tool_parser_factory.py`` and ``llmapi/reasoning_parser.py`` of winter 2025/26.
"""

import re
from typing import Final

import msgspec

from homeport.facts import ModelFiles
from homeport.settings import ModelSettings


class Parsers(msgspec.Struct, frozen=True, kw_only=True):
    """Names of parsers, None where the engine has none for this form."""

    vllm: str | None = None
    trtllm: str | None = None


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """Models that write alike."""

    name: str
    marks: tuple[str, ...] = ()
    """All of them stand in its chat template."""
    types: tuple[str, ...] = ()
    """``model_type``, or how it begins where a ``*`` ends it."""
    pattern: str = ""
    """Found in its name, whatever the case."""
    calls: Parsers = Parsers()
    thoughts: Parsers = Parsers()
    tags: tuple[str, ...] = ("</think>",)
    """One of them stands in the template of a model of the family that thinks."""


_QWEN_THOUGHTS: Final = Parsers(vllm="qwen3", trtllm="qwen3")
_R1: Final = Parsers(vllm="deepseek_r1", trtllm="deepseek-r1")

FAMILIES: Final[tuple[Family, ...]] = (
    Family(
        name="gpt-oss",
        marks=("<|channel|>", "<|start|>"),
        types=("gpt_oss",),
        pattern=r"gpt-oss",
        calls=Parsers(vllm="openai"),
        thoughts=Parsers(vllm="openai_gptoss"),
        tags=("<|channel|>",),
    ),
    Family(
        name="kimi-k2",
        marks=("<|tool_calls_section_begin|>",),
        types=("kimi_k2*",),
        pattern=r"kimi-k2",
        calls=Parsers(vllm="kimi_k2", trtllm="kimi_k2"),
        thoughts=Parsers(vllm="kimi_k2"),
    ),
    Family(
        name="minimax-m2",
        marks=("<minimax:tool_call>",),
        types=("minimax_m2",),
        pattern=r"minimax-m2",
        calls=Parsers(vllm="minimax_m2"),
        thoughts=Parsers(vllm="minimax_m2"),
    ),
    Family(
        name="glm",
        marks=("<arg_key>", "<arg_value>"),
        types=("glm4_moe*", "glm4v_moe"),
        pattern=r"glm-?(?:4\.[5-9]|5)",
        calls=Parsers(vllm="glm45"),
        thoughts=Parsers(vllm="glm45"),
    ),
    Family(
        name="deepseek-v3.2",
        marks=("<｜DSML｜function_calls>",),
        types=("deepseek_v32",),
        pattern=r"deepseek-v3\.2",
        calls=Parsers(vllm="deepseek_v32", trtllm="deepseek_v32"),
        thoughts=Parsers(vllm="deepseek_v3"),
    ),
    Family(
        name="deepseek-v3.1",
        marks=("<｜tool▁calls▁begin｜>", "thinking"),
        pattern=r"deepseek-v3\.1",
        calls=Parsers(vllm="deepseek_v31", trtllm="deepseek_v31"),
        thoughts=Parsers(vllm="deepseek_v3"),
    ),
    Family(
        name="deepseek-v3",
        marks=("<｜tool▁calls▁begin｜>",),
        types=("deepseek_v3",),
        pattern=r"deepseek-(?:v3|r1)(?!-distill)",
        calls=Parsers(vllm="deepseek_v3", trtllm="deepseek_v3"),
        thoughts=_R1,
    ),
    Family(  # a distilled R1 thinks, and was not taught to call
        name="deepseek-r1-distill",
        pattern=r"r1-distill",
        thoughts=_R1,
    ),
    Family(
        name="qwen3-coder",
        marks=("<function=", "<parameter="),
        types=("qwen3_5*", "qwen3_next_coder"),
        pattern=r"qwen-?3(?:\.\d)?-coder|qwen-?3\.[5-9]",
        calls=Parsers(vllm="qwen3_coder", trtllm="qwen3_coder"),
        thoughts=_QWEN_THOUGHTS,
    ),
    Family(
        name="mistral",
        marks=("[TOOL_CALLS]",),
        types=("mistral*", "mixtral", "ministral*", "pixtral"),
        pattern=r"mi[ns]tral|mixtral|devstral|pixtral|magistral|codestral",
        calls=Parsers(vllm="mistral"),
        thoughts=Parsers(vllm="mistral"),
        tags=("[THINK]",),
    ),
    Family(
        name="llama-4",
        types=("llama4*",),
        pattern=r"llama-?4",
        calls=Parsers(vllm="llama4_pythonic"),
        tags=(),
    ),
    Family(
        name="llama-3",
        marks=("<|python_tag|>",),
        types=("mllama",),
        pattern=r"llama-?3",
        calls=Parsers(vllm="llama3_json"),
        tags=(),
    ),
    Family(
        name="granite",
        marks=("<|tool_call|>",),
        types=("granite",),
        pattern=r"granite-?3",
        calls=Parsers(vllm="granite"),
        thoughts=Parsers(vllm="granite"),
        tags=("Here is my thought process",),
    ),
    Family(
        name="granite-4",
        types=("granitemoehybrid",),
        pattern=r"granite-?4",
        calls=Parsers(vllm="granite4"),
        tags=(),
    ),
    Family(
        name="phi-4-mini",
        pattern=r"phi-?4-mini",
        calls=Parsers(vllm="phi4_mini_json"),
        tags=(),
    ),
    Family(  # Qwen 2.5 and 3, Hermes, and many that were tuned in their form; the last by its marks
        name="qwen3",
        marks=("<tool_call>", "</think>"),
        types=("qwen3*",),
        pattern=r"qwen-?3|qwq",
        calls=Parsers(vllm="hermes", trtllm="qwen3"),
        thoughts=_QWEN_THOUGHTS,
    ),
    Family(
        name="hermes",
        marks=("<tool_call>",),
        types=("qwen2*",),
        pattern=r"hermes|qwen",
        calls=Parsers(vllm="hermes", trtllm="qwen3"),
        tags=(),
    ),
)
"""In this order: the forms of the later ones occur within the earlier ones."""

UNKNOWN: Final = Family(name="unknown", calls=Parsers(vllm="hermes"), tags=())
"""``hermes`` asks nothing of the tokenizer, and its form is the commonest."""


def parsers(model: ModelSettings, files: ModelFiles | None) -> tuple[Parsers, Parsers]:
    """Return those for tool calls and those for thinking."""
    template = files.chat_template if files is not None else None
    family = family_of(model, files)
    thinks = template is None or any(tag in template for tag in family.tags)
    return family.calls, family.thoughts if thinks else Parsers()


def family_of(model: ModelSettings, files: ModelFiles | None) -> Family:
    template = files.chat_template if files is not None else None
    if template is not None:  # 1.
        for family in FAMILIES:
            if family.marks and all(mark in template for mark in family.marks):
                return family
    kind = (files.config or {}).get("model_type") if files is not None else None
    if isinstance(kind, str):  # 2.
        for family in FAMILIES:
            if any(_fits(kind, pattern) for pattern in family.types):
                return family
    name = f"{model.hub or model.path or ''} {model.id}"  # 3.
    for family in FAMILIES:
        if family.pattern and re.search(family.pattern, name, re.IGNORECASE):
            return family
    return UNKNOWN


def _fits(kind: str, pattern: str) -> bool:
    return kind.startswith(pattern[:-1]) if pattern.endswith("*") else kind == pattern
