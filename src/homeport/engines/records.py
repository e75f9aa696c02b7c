"""The dialect record: what was found out about one engine, one version, one model, and facts from it.

Shipped defaults (``FACTS`` of each engine's file) are what we believe of an engine; a record is what
``homeport check --save`` has seen of yours. ``learned`` merges the two: only what was seen for sure
overrules a default. All pure; ``config.dialects`` has the files.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

import msgspec

from homeport.engines.findings import Finding
from homeport.facts import Endpoint, EngineFacts, EngineName, Feature, ModelFacts

SCHEMA_PROBES: Final = (
    "schema_max_length",
    "schema_min_length",
    "schema_pattern",
    "schema_bounds",
)
FLAGS: Final[Mapping[str, str]] = {
    "system_inside": "system_inside",
    "tool_choice_named": "named_tool_choice",
    "tool_choice_required": "tool_choice",
    "parallel_tool_calls": "parallel_tool_calls",
    "image_in_tool": "image_in_tool",
    "reasoning_effort": "reasoning_effort",
    "template_kwargs": "template_kwargs",
    "stream_usage": "stream_usage",
}
"""Probe → the fact that it decides by itself."""

NATIVE_MESSAGES: Final[Mapping[str, frozenset[Feature]]] = {
    "messages_stream": frozenset({"stream"}),
    "messages_tools": frozenset({"tools", "tool_choice"}),
    "messages_stop": frozenset({"stop_sequences"}),
}
"""Probe → what its ``/v1/messages`` is right in, given that it is right in plain text."""

NATIVE_RESPONSES: Final[Mapping[str, frozenset[Feature]]] = {
    "responses_stream": frozenset({"stream"}),
    "responses_tools": frozenset({"tools", "tool_choice"}),
    "responses_schema": frozenset({"schema"}),
    "responses_reasoning": frozenset({"thinking"}),
}
"""The same of its ``/v1/responses``."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen, as it is in a file."""

    engine: EngineName
    version: str | None = None
    model: str
    checked_at: str = ""
    """When, in UTC; for people."""
    findings: dict[str, Finding]

    @property
    def file_name(self) -> str:
        parts = (self.engine, self.version or "unknown", self.model)
        return "-".join(re.sub(r"[^A-Za-z0-9._]+", "_", part) for part in parts) + ".json"


def record_for(endpoint: Endpoint, records: Iterable[Record]) -> Record | None:
    """The record of this engine, in this version, with this model; no other one counts."""
    engine = endpoint.engine
    wanted = (engine.engine, engine.version, endpoint.model.name)
    return next((r for r in records if (r.engine, r.version, r.model) == wanted), None)


def learned(endpoint: Endpoint, records: Iterable[Record]) -> Endpoint:
    """The endpoint with what its record says, where there is one."""
    record = record_for(endpoint, records)
    if record is None or endpoint.dialect != "openai_chat":
        return endpoint
    return msgspec.structs.replace(
        endpoint,
        engine=engine_facts(endpoint.engine, record.findings),
        model=model_facts(endpoint.model, record.findings),
    )


def engine_facts(facts: EngineFacts, findings: Mapping[str, Finding]) -> EngineFacts:
    """The facts, with what was seen for sure in place of the defaults."""
    changed: dict[str, Any] = {}
    seen = {feature: finding.result for feature, finding in findings.items()}
    for probe, fact in FLAGS.items():
        if seen.get(probe) in ("yes", "no"):
            changed[fact] = seen[probe] == "yes"
    if changed.get("tool_choice") is False:
        changed["named_tool_choice"] = False
    bounds = [seen.get(probe, "unsure") for probe in SCHEMA_PROBES]
    if "no" in bounds:  # where none breaks, the default stays: four keywords do not stand for all
        changed["schema_bounds"] = False
    if (key := _reasoning_key(seen)) is not None:
        changed["reasoning_key"] = key
    if (count := _token_count(seen)) is not None:
        changed["token_count"] = count
    if seen.get("count_chat_input_tokens") == seen.get("count_tokenize") == "no":
        changed["token_count"] = None
    if seen.get("top_k") == "yes":
        changed["extensions"] = facts.extensions | {"top_k"}
    elif seen.get("top_k") == "no":
        changed["extensions"] = facts.extensions - {"top_k"}
    changed["native_messages"] = _native(seen, ("messages",), NATIVE_MESSAGES)
    # Nearly all clients of this one stream: where the stream is wrong, nothing is believed.
    plain = ("responses", "responses_stream")
    changed["native_responses"] = _native(seen, plain, NATIVE_RESPONSES)
    return msgspec.structs.replace(facts, **changed)


def model_facts(facts: ModelFacts, findings: Mapping[str, Finding]) -> ModelFacts:
    """Likewise; what the engine itself says of its model counts more."""
    finding = findings.get("image")
    if facts.vision is not None or finding is None or finding.result == "unsure":
        return facts
    return msgspec.structs.replace(facts, vision=finding.result == "yes")


def _reasoning_key(
    seen: Mapping[str, str],
) -> Literal["reasoning_content", "reasoning"] | None:
    """The one that the model was seen to read, if it is not both."""
    content, plain = seen.get("reasoning_content") == "yes", seen.get("reasoning") == "yes"
    if content == plain:
        return None
    return "reasoning_content" if content else "reasoning"


def _token_count(seen: Mapping[str, str]) -> Literal["chat_input_tokens", "tokenize"] | None:
    if seen.get("count_chat_input_tokens") == "yes":
        return "chat_input_tokens"
    return "tokenize" if seen.get("count_tokenize") == "yes" else None


def _native(
    seen: Mapping[str, str], plain: Iterable[str], native: Mapping[str, frozenset[Feature]]
) -> frozenset[Feature] | None:
    """What it is right in; None where one of the probes that stand for plain text is not passed."""
    if any(seen.get(probe) != "yes" for probe in plain):
        return None
    right = [features for probe, features in native.items() if seen.get(probe) == "yes"]
    return frozenset().union(*right)
