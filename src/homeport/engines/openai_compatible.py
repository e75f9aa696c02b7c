"""Any server with ``/v1/chat/completions`` and ``/v1/models`` that we know no more about.

Also the common way to read ``/v1/models``: the context's name differs from server to server, and
no name means two things.
"""

from collections.abc import Mapping
from typing import Any

from homeport.engines.answers import first_int, items, strings
from homeport.facts import EngineFacts, ModelFacts

FACTS = EngineFacts(
    engine="openai_compatible",
    schema_bounds=False,  # many of them have llama.cpp inside (LM Studio, KoboldCpp, Jan)
    extensions=frozenset(),  # OpenAI itself answers 400 to fields that it does not know
    template_kwargs=False,  # likewise
)

_CONTEXT_KEYS = (
    "max_model_len",  # vLLM, SGLang
    "context_length",  # OpenRouter, Together
    "context_window",  # Groq
    "max_context_length",  # LM Studio (its own route), Mistral
)


def model_facts(models: object) -> tuple[ModelFacts, ...]:
    """Return the models of a ``/v1/models`` answer."""
    return tuple(_listed(item) for item in items(models))


def _listed(item: Mapping[str, Any]) -> ModelFacts:
    architecture = item.get("architecture")
    inputs = strings(architecture.get("input_modalities")) if isinstance(architecture, dict) else ()
    return ModelFacts(
        name=item["id"],
        context_tokens=first_int(item, *_CONTEXT_KEYS),
        created_at_s=first_int(item, "created"),
        vision="image" in inputs if inputs else None,
    )
