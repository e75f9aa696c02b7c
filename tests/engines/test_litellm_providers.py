"""LiteLLM's providers: which one a model is for, and which of them are asked natively."""

import pytest

from homeport.engines.litellm_providers import NATIVE, ONLY_LITELLM, split


@pytest.mark.parametrize(
    ("model", "custom", "expected"),
    [
        ("openai/a", None, ("openai", "a")),
        ("openai/org/a", None, ("openai", "org/a")),
        ("openrouter/anthropic/claude-x", None, ("openrouter", "anthropic/claude-x")),
        ("bedrock/converse/x", None, ("bedrock", "converse/x")),
        ("org/a", "openai", ("openai", "org/a")),
        ("openai/a", "openai", ("openai", "a")),
        ("groq/a", "openai", ("openai", "groq/a")),
        ("gpt-4o", None, ("openai", "gpt-4o")),
        ("claude-opus-5", None, ("anthropic", "claude-opus-5")),
        ("org/a", None, (None, "org/a")),
        ("llama", None, (None, "llama")),
    ],
)
def test_split(model: str, custom: str | None, expected: tuple[str | None, str]) -> None:
    assert split(model, custom) == expected


def test_nobody_is_in_both_lists() -> None:
    assert not NATIVE.keys() & ONLY_LITELLM


@pytest.mark.parametrize("name", NATIVE)
def test_a_native_one_can_be_asked(name: str) -> None:
    """homeport's routes stand below ``/v1``; and there is some way to say where the server is."""
    provider = NATIVE[name]
    assert provider.base_url is None or provider.base_url.endswith("/v1")
    assert provider.base_variables
    assert provider.key_variables
