"""Which parsers a model needs, and that the engines have them."""

from __future__ import annotations

import pytest

from homeport.engines.parsers import FAMILIES, UNKNOWN, Parsers, family_of, parsers
from homeport.settings import ModelSettings
from tests.engines import flag_tables
from tests.engines.model_files import hugging_face


def named(name: str) -> ModelSettings:
    return ModelSettings(id="m", hub=name)


@pytest.mark.parametrize(
    ("template", "kind", "family"),
    [
        ('{{"<tool_call>\\n{"name": ...}"}}', "qwen2", "hermes"),
        ("<tool_call> … <think> … </think>", "qwen3", "qwen3"),
        ("<tool_call>\n<function=f>\n<parameter=p>", "qwen3_moe", "qwen3-coder"),
        ("<tool_call>f\n<arg_key>k</arg_key><arg_value>v</arg_value></think>", "glm4_moe", "glm"),
        ("[AVAILABLE_TOOLS] [TOOL_CALLS]", "mistral", "mistral"),
        ("<|python_tag|>", "llama", "llama-3"),
        ("<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>", "deepseek_v3", "deepseek-v3"),
        ("{% if thinking %}<｜tool▁calls▁begin｜>", "deepseek_v3", "deepseek-v3.1"),
        ("<|start|>assistant<|channel|>commentary", "gpt_oss", "gpt-oss"),
        ("<|tool_calls_section_begin|>", "kimi_k2", "kimi-k2"),
        ("<minimax:tool_call>", "minimax_m2", "minimax-m2"),
        ("{{ messages }}", "llama4", "llama-4"),  # the template tells nothing
        ("{{ messages }}", "novel", "unknown"),
    ],
)
def test_by_template_and_architecture(template: str, kind: str, family: str) -> None:
    files = hugging_face(chat_template=template, config={"model_type": kind})
    assert family_of(ModelSettings(id="m", path="/models/m"), files).name == family


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("Qwen/Qwen2.5-7B-Instruct", "hermes"),
        ("Qwen/Qwen3-8B", "qwen3"),
        ("Qwen/Qwen3-Coder-30B-A3B-Instruct", "qwen3-coder"),
        ("meta-llama/Llama-3.3-70B-Instruct", "llama-3"),
        ("meta-llama/Llama-4-Scout-17B-16E-Instruct", "llama-4"),
        ("mistralai/Mistral-Small-3.2-24B-Instruct-2506", "mistral"),
        ("mistralai/Devstral-Small-2507", "mistral"),
        ("openai/gpt-oss-20b", "gpt-oss"),
        ("zai-org/GLM-4.6", "glm"),
        ("deepseek-ai/DeepSeek-R1", "deepseek-v3"),
        ("deepseek-ai/DeepSeek-V3.1", "deepseek-v3.1"),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "deepseek-r1-distill"),
        ("moonshotai/Kimi-K2-Instruct", "kimi-k2"),
        ("MiniMaxAI/MiniMax-M2", "minimax-m2"),
        ("ibm-granite/granite-3.3-8b-instruct", "granite"),
        ("someone/novel-7b", "unknown"),
    ],
)
def test_by_name(name: str, family: str) -> None:
    assert family_of(named(name), None).name == family


def test_thinking_is_parsed_only_where_the_template_has_its_tags() -> None:
    """Else vLLM may not start: some parsers want their tags in the vocabulary."""
    model = ModelSettings(id="m", path="/models/m")
    with_tags = hugging_face(chat_template="<tool_call> </think>")
    without = hugging_face(chat_template="<tool_call>", config={"model_type": "qwen3"})
    assert parsers(model, with_tags)[1].vllm == "qwen3"
    assert parsers(model, without)[1] == Parsers()


def test_an_unknown_model_still_may_be_sent_tools() -> None:
    calls, thoughts = parsers(named("someone/novel-7b"), None)
    assert (calls.vllm, calls.trtllm, thoughts) == ("hermes", None, Parsers())


def test_engines_have_all_of_them() -> None:
    vllm, trtllm = flag_tables.table("vllm-0.32.0"), flag_tables.table("trtllm-2026")
    for family in (*FAMILIES, UNKNOWN):
        for name, calls, thoughts in (
            ("vllm", vllm["--tool-call-parser"], vllm["--reasoning-parser"]),
            ("trtllm", trtllm["--tool_parser"], trtllm["--reasoning_parser"]),
        ):
            assert getattr(family.calls, name) in (None, *calls), family.name
            assert getattr(family.thoughts, name) in (None, *thoughts), family.name
