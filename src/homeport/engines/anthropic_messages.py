"""Servers that speak Anthropic Messages only (``dialect: anthropic``): how they are asked, their facts.

What is known of the engine's chat side means nothing here. Of an engine that nobody recognised we
believe that Anthropic, or something that hands on to Anthropic, is behind it.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from homeport.engines.answers import first_int, items
from homeport.facts import EngineFacts, ModelFacts, UpstreamDialect

VERSION: Final = "2023-06-01"
"""Of the API. The later one (2026-10-21) refuses sampling settings, which clients of OpenAI send."""


def auth_headers(api_key: str | None, dialect: UpstreamDialect) -> dict[str, str]:
    """The headers with which an upstream of this dialect knows us."""
    if dialect == "anthropic":
        version = {"anthropic-version": VERSION}
        return version if api_key is None else {**version, "x-api-key": api_key}
    return {} if api_key is None else {"authorization": f"Bearer {api_key}"}


def speaking(facts: EngineFacts) -> EngineFacts:
    """The facts of an engine that is asked in Anthropic's dialect."""
    is_unknown = facts.engine == "openai_compatible"
    return msgspec.structs.replace(
        facts,
        token_count="messages",
        routes=frozenset(),
        id_slot=False,
        max_tokens_over_context=True,
        schema_bounds=facts.schema_bounds or is_unknown,
        reads_billing_line=is_unknown,
        replays_thinking=not is_unknown,  # Anthropic refuses thinking that it has not signed
    )


def model_facts(models: object) -> tuple[ModelFacts, ...]:
    """Return the models of an Anthropic ``/v1/models`` answer."""
    return tuple(_listed(item) for item in items(models))


def _listed(item: Mapping[str, Any]) -> ModelFacts:
    return ModelFacts(
        name=item["id"],
        context_tokens=first_int(item, "max_input_tokens", "max_model_len"),
        output_tokens=first_int(item, "max_tokens"),
    )
