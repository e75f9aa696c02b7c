"""What a dialect record changes in the facts of an engine, and for whom."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from homeport.engines.detect import FACTS
from homeport.engines.findings import Finding, Result
from homeport.engines.records import Record, engine_facts, learned, model_facts, record_for
from homeport.facts import Endpoint, EngineFacts, ModelFacts

PLAIN = FACTS["openai_compatible"]


def findings(**results: Result) -> dict[str, Finding]:
    return {feature: Finding(result, "") for feature, result in results.items()}


@pytest.mark.parametrize(
    ("results", "changed"),
    [
        ({}, {}),
        ({"system_inside": "yes"}, {"system_inside": True}),
        ({"system_inside": "unsure"}, {}),
        ({"tool_choice_named": "no"}, {"named_tool_choice": False}),
        ({"tool_choice_named": "unsure"}, {}),
        ({"tool_choice_required": "no"}, {"tool_choice": False, "named_tool_choice": False}),
        ({"template_kwargs": "yes"}, {"template_kwargs": True}),
        ({"stream_usage": "no"}, {"stream_usage": False}),
        ({"image_in_tool": "yes"}, {"image_in_tool": True}),
        ({"schema_pattern": "no"}, {"schema_bounds": False}),
        ({"reasoning": "yes"}, {"reasoning_key": "reasoning"}),
        ({"reasoning": "yes", "reasoning_content": "yes"}, {}),
        ({"count_tokenize": "yes"}, {"token_count": "tokenize"}),
        ({"count_chat_input_tokens": "yes"}, {"token_count": "chat_input_tokens"}),
        ({"top_k": "yes"}, {"extensions": frozenset({"top_k"})}),
        ({"messages": "yes"}, {"native_messages": frozenset()}),
        (
            {"messages": "yes", "messages_stream": "yes", "messages_tools": "no"},
            {"native_messages": frozenset({"stream"})},
        ),
        ({"messages": "no", "messages_stream": "yes"}, {}),
        ({"responses": "yes"}, {}),
        ({"responses": "yes", "responses_stream": "no", "responses_tools": "yes"}, {}),
        (
            {"responses": "yes", "responses_stream": "yes", "responses_tools": "yes"},
            {"native_responses": frozenset({"stream", "tools", "tool_choice"})},
        ),
        (
            {
                "responses": "yes",
                "responses_stream": "yes",
                "responses_schema": "yes",
                "responses_reasoning": "yes",
                "responses_tools": "unsure",
            },
            {"native_responses": frozenset({"stream", "schema", "thinking"})},
        ),
    ],
)
def test_only_what_was_seen_for_sure_overrules(
    results: dict[str, Result], changed: dict[str, Any]
) -> None:
    assert engine_facts(PLAIN, findings(**results)) == msgspec.structs.replace(PLAIN, **changed)


def test_bounds_that_broke_nothing_leave_the_default() -> None:
    survived = findings(
        schema_max_length="yes", schema_min_length="yes", schema_pattern="yes", schema_bounds="yes"
    )
    for facts in FACTS.values():
        assert engine_facts(facts, survived).schema_bounds is facts.schema_bounds


def test_no_route_counts() -> None:
    none = findings(count_chat_input_tokens="no", count_tokenize="no")
    assert engine_facts(FACTS["vllm"], none).token_count is None


def test_vision_is_learned_where_the_engine_does_not_tell() -> None:
    seen = findings(image="no")
    assert model_facts(ModelFacts(name="m"), seen).vision is False
    assert model_facts(ModelFacts(name="m", vision=True), seen).vision is True
    assert model_facts(ModelFacts(name="m"), findings(image="unsure")).vision is None


def endpoint(**fields: Any) -> Endpoint:
    engine = EngineFacts(engine="vllm", version="1")
    return msgspec.structs.replace(
        Endpoint(base_url="http://h/v1", engine=engine, model=ModelFacts(name="m")), **fields
    )


def test_a_record_counts_for_its_own_version_and_model_only() -> None:
    record = Record(
        engine="vllm", version="1", model="m", findings=findings(tool_choice_named="no")
    )
    assert learned(endpoint(), (record,)).engine.named_tool_choice is False
    for other in (
        endpoint(model=ModelFacts(name="n")),
        endpoint(engine=EngineFacts(engine="vllm", version="2")),
        endpoint(engine=EngineFacts(engine="sglang", version="1")),
    ):
        assert record_for(other, (record,)) is None
        assert learned(other, (record,)) == other
    native = endpoint(dialect="anthropic")
    assert learned(native, (record,)) == native


def test_a_file_name_is_one() -> None:
    record = Record(engine="vllm", model="org/../a model", findings={})
    assert record.file_name == "vllm-unknown-org_.._a_model.json"
