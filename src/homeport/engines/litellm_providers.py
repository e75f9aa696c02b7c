"""The providers that LiteLLM knows by a prefix (``groq/llama-3``), and those of them that homeport asks
itself.

A provider is asked natively where it has plain OpenAI Chat (or Anthropic Messages) below an address
that ends in ``/v1``, takes its key as a bearer token (``x-api-key``), and lists its models. All others,
clouds with signatures and dialects of their own, only LiteLLM reaches.

Names, addresses and variables are those of LiteLLM 1.109.1 (``litellm.types.utils.LlmProviders``,
``litellm_core_utils/get_llm_provider_logic.py``, and what that calls); where an address differs, the
reason stands beside it. None of the remote ones has been asked from here: they want accounts.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from homeport.facts import EngineName, UpstreamDialect


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """How a provider is asked natively."""

    base_url: str | None = None
    """None: the configuration has to say it."""
    base_variables: tuple[str, ...] = ()
    key_variables: tuple[str, ...] = ()
    dialect: UpstreamDialect = "openai_chat"
    engine: EngineName | None = None
    """The server software, where the name says it; else it is asked."""


def _named(word: str, base_url: str | None = None, engine: EngineName | None = None) -> Provider:
    """LiteLLM's usual variables: ``WORD_API_BASE`` and ``WORD_API_KEY``."""
    return Provider(
        base_url=base_url,
        base_variables=(f"{word}_API_BASE",),
        key_variables=(f"{word}_API_KEY",),
        engine=engine,
    )


_OPENAI: Final = Provider(
    base_url="https://api.openai.com/v1",
    base_variables=("OPENAI_BASE_URL", "OPENAI_API_BASE"),
    key_variables=("OPENAI_API_KEY",),
)

NATIVE: Final[Mapping[str, Provider]] = {
    "openai": _OPENAI,
    "custom_openai": _OPENAI,
    "openai_like": _named("OPENAI_LIKE"),
    "anthropic": Provider(
        base_url="https://api.anthropic.com/v1",
        base_variables=("ANTHROPIC_API_BASE", "ANTHROPIC_BASE_URL"),
        key_variables=("ANTHROPIC_API_KEY",),
        dialect="anthropic",
    ),
    # Servers of one's own. An ``ollama`` is asked on its OpenAI side, in place of its own API.
    "hosted_vllm": _named("HOSTED_VLLM"),
    "llamafile": _named("LLAMAFILE", "http://127.0.0.1:8080/v1"),
    "lm_studio": _named("LM_STUDIO"),
    "ollama": _named("OLLAMA", "http://localhost:11434/v1", "ollama"),
    "ollama_chat": _named("OLLAMA", "http://localhost:11434/v1", "ollama"),
    "litellm_proxy": _named("LITELLM_PROXY"),
    # Operators with plain OpenAI Chat.
    "cerebras": _named("CEREBRAS", "https://api.cerebras.ai/v1"),
    "deepseek": _named("DEEPSEEK", "https://api.deepseek.com/v1"),  # LiteLLM: /beta, for prefixes
    "groq": _named("GROQ", "https://api.groq.com/openai/v1"),
    "mistral": _named("MISTRAL", "https://api.mistral.ai/v1"),
    "moonshot": _named("MOONSHOT", "https://api.moonshot.ai/v1"),
    "nvidia_nim": _named("NVIDIA_NIM", "https://integrate.api.nvidia.com/v1"),
    "openrouter": Provider(
        base_url="https://openrouter.ai/api/v1",
        base_variables=("OPENROUTER_API_BASE",),
        key_variables=("OPENROUTER_API_KEY", "OR_API_KEY"),
    ),
    "sambanova": _named("SAMBANOVA", "https://api.sambanova.ai/v1"),
    "together_ai": Provider(
        base_url="https://api.together.ai/v1",
        base_variables=("TOGETHER_AI_API_BASE",),
        key_variables=(
            *("TOGETHER_API_KEY", "TOGETHER_AI_API_KEY"),
            *("TOGETHERAI_API_KEY", "TOGETHER_AI_TOKEN"),
        ),
    ),
    "xai": _named("XAI", "https://api.x.ai/v1"),
}

_OTHERS: Final = """
    a2a a2a_agent abliteration ai21 ai21_chat aiand aihubmix aiml aiohttp_openai amazon_nova
    anthropic_text anyscale apertis assemblyai auto_router aws_polly aws_textract azure azure_ai
    azure_speech azure_text baseten bedrock bedrock_mantle bigmodel black_forest_labs bytez
    charity_engine chatgpt chutes clarifai cloudflare codestral cohere cohere_chat cometapi
    compactifai cursor custom dashscope databricks datarobot deepgram deepinfra docker_model_runner
    dotprompt edenai elevenlabs empower fal_ai featherless_ai fireworks_ai friendliai galadriel gdc
    gemini gigachat github github_copilot gmi gradient_ai helicone heroku huggingface hyperbolic
    inception infinity jina_ai lambda_ai langgraph lemonade libertai llamagate maritalk meta
    meta_llama milvus minimax modelscope morph nano-gpt nebius nlp_cloud novita nscale nvidia_riva
    oci oobabooga opencode_go ovhcloud parasail perplexity petals pg_vector poe predibase publicai
    qwencloud ragflow recraft replicate runwayml sagemaker sagemaker_chat sagemaker_nova sail sap
    sarvam scaleway snowflake soniox stability synthetic tencent text-completion-codestral
    text-completion-inception text-completion-openai topaz triton typesafe v0 veniceai
    vercel_ai_gateway vertex_ai vertex_ai_beta vllm volcengine voyage wandb watsonx watsonx_text
    xiaomi_mimo xinference zai
"""
"""``vllm`` is vLLM inside LiteLLM's own process; a vLLM server is ``hosted_vllm``. And
``text-completion-openai`` asks for completions where clients ask for chat."""

ONLY_LITELLM: Final = frozenset(_OTHERS.split())

_FAMILIES: Final = (
    (("gpt-", "chatgpt-", "o1", "o3", "o4", "text-embedding-", "ft:gpt-"), "openai"),
    (("claude-",), "anthropic"),
    (("gemini-",), "vertex_ai"),
    (("command-",), "cohere_chat"),
)
"""Names without a prefix that LiteLLM knows; of thousands those by their beginning that are common."""


def split(model: str, custom: str | None) -> tuple[str | None, str]:
    """LiteLLM's ``model`` and ``custom_llm_provider`` → the provider, and its name for the model.

    None where LiteLLM would not know the provider either. LiteLLM 1.109.1, ``get_llm_provider``: the
    provider's own name in front of the model is taken off, once.
    """
    prefix, slash, rest = model.partition("/")
    if custom is not None:
        return custom, rest if slash and prefix == custom else model
    if slash and (prefix in NATIVE or prefix in ONLY_LITELLM):
        return prefix, rest
    families = (name for starts, name in _FAMILIES if model.startswith(starts))
    return next(families, None), model
