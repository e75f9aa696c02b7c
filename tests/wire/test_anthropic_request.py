"""Anthropic requests as engines get them: one small case per row of docs/dialects.md 3.1. Here are
fields and the system prompt. ``test_anthropic_content`` has the turns, ``test_anthropic_tools`` the
tools."""

import json
from typing import Any

import msgspec
import pytest

from homeport.engines import llamacpp, mlx, ollama, sglang, trtllm, vllm
from homeport.errors import ClientError
from homeport.facts import EngineFacts
from homeport.wire import anthropic
from tests.wire.anthropic_support import IMAGE, PLAIN, SCHEMA, TEXT, request, result, sent

# --------------------------------------------------------------------------- plain fields


@pytest.mark.row("3.1 model")
def test_model_is_the_upstreams() -> None:
    assert sent()["model"] == "local"


@pytest.mark.row("3.1 max_tokens", "3.1 max_tokens: 0")
@pytest.mark.parametrize(("asked", "expected"), [(64, 64), (0, 1), (128000, 128000)])
def test_max_tokens(asked: int, expected: int) -> None:
    assert sent(max_tokens=asked)["max_tokens"] == expected


@pytest.mark.row("3.1 max_tokens")
def test_max_tokens_beyond_the_context_is_no_limit_for_vllm() -> None:
    assert "max_tokens" not in sent(engine=vllm.FACTS, max_tokens=128000)
    assert "max_tokens" not in sent(engine=vllm.FACTS, max_tokens=4096)
    assert sent(engine=vllm.FACTS, max_tokens=4095)["max_tokens"] == 4095


@pytest.mark.row("3.1 stop_sequences")
def test_stop_sequences_lose_empty_ones() -> None:
    assert sent(stop_sequences=["a", "", "b", "c", "d", "e"])["stop"] == ["a", "b", "c", "d", "e"]
    assert "stop" not in sent(stop_sequences=[""])


@pytest.mark.row("3.1 temperature, top_p", "3.1 top_k")
def test_sampling() -> None:
    body = sent(temperature=0.5, top_p=0.9, top_k=40)
    assert (body["temperature"], body["top_p"], body["top_k"]) == (0.5, 0.9, 40)
    assert "top_k" not in sent(engine=EngineFacts(extensions=frozenset()), top_k=40)


@pytest.mark.row("3.1 unknown field")
def test_what_is_never_forwarded() -> None:
    fields: dict[str, Any] = {
        "metadata": {"user_id": "{}"},
        "service_tier": "auto",
        "speed": "fast",
        "inference_geo": "us",
        "container": "c",
        "diagnostics": {},
        "betas": ["x"],
        "context_management": {"edits": []},
        "cache_control": {"type": "ephemeral"},
        "safeguards": [{}],
        "something_new": 1,
    }
    assert sent(**fields) == sent()


@pytest.mark.row("3.3 15")
def test_streams_always_ask_for_usage() -> None:
    assert sent(stream=True)["stream_options"] == {"include_usage": True}
    assert "stream_options" not in sent(stream=False)
    assert "stream_options" not in sent(engine=EngineFacts(stream_usage=False), stream=True)


# --------------------------------------------------------------------------- thinking, effort, format


@pytest.mark.row("3.1 output_config.effort")
@pytest.mark.parametrize(
    ("engine", "xhigh", "top"),
    [
        (PLAIN, "high", "high"),
        (llamacpp.FACTS, "high", "high"),
        (vllm.FACTS, "xhigh", "max"),
        (sglang.FACTS, "max", "max"),
        (ollama.FACTS, "high", "high"),
    ],
    ids=lambda value: value.engine if isinstance(value, EngineFacts) else value,
)
def test_effort(engine: EngineFacts, xhigh: str, top: str) -> None:
    words = {"low": "low", "medium": "medium", "high": "high", "xhigh": xhigh, "max": top}
    for effort, expected in {**words, "something_new": "high"}.items():
        body = sent(engine=engine, output_config={"effort": effort})
        assert body["reasoning_effort"] == expected
        assert "reasoning_effort" not in sent(engine=mlx.FACTS, output_config={"effort": effort})


@pytest.mark.row("3.1 its output_config.effort")
def test_effort_of_a_system_turn_wins_and_the_last_one_most() -> None:
    turns = [
        {"role": "user", "content": "q"},
        {"role": "system", "content": "s", "output_config": {"effort": "high"}},
        {"role": "system", "content": "s", "output_config": {"effort": "low"}},
    ]
    assert sent(turns, output_config={"effort": "medium"})["reasoning_effort"] == "low"


@pytest.mark.row("3.1 thinking: enabled")
def test_thinking_enabled_with_a_budget() -> None:
    thinking = {"type": "enabled", "budget_tokens": 2000}
    body = sent(engine=llamacpp.FACTS, thinking=thinking)
    assert body["chat_template_kwargs"] == {"enable_thinking": True}
    assert body["thinking_budget_tokens"] == 2000
    assert sent(engine=vllm.FACTS, thinking=thinking)["thinking_token_budget"] == 2000


@pytest.mark.row("3.1 thinking: enabled")
def test_a_budget_is_sent_only_where_it_is_known() -> None:
    thinking = {"type": "enabled", "budget_tokens": 2000}
    for engine in (PLAIN, sglang.FACTS, trtllm.FACTS, mlx.FACTS, ollama.FACTS):
        assert "2000" not in json.dumps(sent(engine=engine, thinking=thinking))


@pytest.mark.row("3.1 thinking: disabled")
def test_thinking_disabled() -> None:
    body = sent(thinking={"type": "disabled"}, output_config={"effort": "high"})
    assert body["reasoning_effort"] == "none"
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    body = sent(engine=mlx.FACTS, thinking={"type": "disabled"})
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert "reasoning_effort" not in body
    for engine in (trtllm.FACTS, ollama.FACTS):
        body = sent(engine=engine, thinking={"type": "disabled"})
        assert body["reasoning_effort"] == "none"
        assert "chat_template_kwargs" not in body


@pytest.mark.row("3.1 thinking.display")
@pytest.mark.parametrize("display", ["omitted", "summarized", "updates"])
def test_how_thinking_is_displayed_does_not_reach_the_engine(display: str) -> None:
    """It is streamed in any case: without it the client could not send it back, and the prompt of
    the next turn would be another one than the engine has cached."""
    thinking = {"type": "enabled", "budget_tokens": 2000}
    plain = sent(engine=llamacpp.FACTS, thinking=thinking)
    assert sent(engine=llamacpp.FACTS, thinking={**thinking, "display": display}) == plain


@pytest.mark.row("3.1 thinking: adaptive, others")
@pytest.mark.parametrize("kind", ["adaptive", "between_tools", "something_new"])
def test_thinking_adaptive_is_the_models_own_default(kind: str) -> None:
    assert sent(thinking={"type": kind, "display": "omitted"}) == sent()


@pytest.mark.row("3.1 output_config.format")
def test_output_format() -> None:
    body = sent(output_config={"format": {"type": "json_schema", "schema": SCHEMA}})
    assert body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True},
    }


# --------------------------------------------------------------------------- system


@pytest.mark.row("3.1 system")
def test_system_blocks_are_one_leading_message() -> None:
    blocks = [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}, TEXT]
    [system, _] = sent(system=blocks)["messages"]
    assert system == {"role": "system", "content": "a\n\nlook"}
    assert sent(system="a")["messages"][0] == {"role": "system", "content": "a"}
    assert len(sent(system="")["messages"]) == 1


BILLING = "x-anthropic-billing-header: cc_version=2.1.329.934; cc_entrypoint=cli;"


@pytest.mark.row("3.1 system")
def test_the_billing_block_is_dropped_first_and_only_first() -> None:
    billing = {"type": "text", "text": BILLING}
    assert sent(system=[billing, TEXT])["messages"][0]["content"] == "look"
    assert BILLING in sent(system=[TEXT, billing])["messages"][0]["content"]
    assert sent(system=f"{BILLING}\nYou are.")["messages"][0]["content"] == "You are."
    assert [m["role"] for m in sent(system=[billing])["messages"]] == ["user"]


@pytest.mark.row('3.1 role: "system" inside')
def test_a_system_turn_inside_is_folded_in_place_and_never_hoisted() -> None:
    turns: list[dict[str, Any]] = [
        {"role": "user", "content": "q"},
        {"role": "system", "content": "s"},
    ]
    for content in ("s", [{"type": "text", "text": "s"}]):  # Claude Code sends both, at times
        turns[1]["content"] = content
        messages = sent(turns, system="You are.")["messages"]
        assert [m["role"] for m in messages] == ["system", "user"]
        assert messages[1]["content"] == "q\n<system>\ns\n</system>"


@pytest.mark.row('3.1 role: "system" inside')
def test_a_first_system_turn_without_a_system_field_is_a_turn_all_the_same() -> None:
    turns = [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]
    [message] = sent(turns)["messages"]
    assert message == {"role": "user", "content": "<system>\ns\n</system>\nq"}


# --------------------------------------------------------------------------- the whole body


@pytest.mark.row("3.1 count_tokens")
def test_count_tokens_needs_no_max_tokens() -> None:
    body = b'{"model":"m","messages":[{"role":"user","content":"q"}]}'
    assert anthropic.decode(body, counting=True).max_tokens is None
    with pytest.raises(ClientError, match=r"^max_tokens: Field required$"):
        anthropic.decode(body)


def test_a_thousand_levels_of_results_are_refused() -> None:
    block: dict[str, Any] = TEXT
    for _ in range(400):
        block = result([block])
    body = msgspec.json.encode(
        {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": [block]}]}
    )
    with pytest.raises(ClientError, match="nested too deeply"):
        anthropic.decode(body)


def test_images_are_noticed_wherever_they_stand() -> None:
    assert request([IMAGE]).has_images
    assert request([result([IMAGE])]).has_images
    assert not request([TEXT]).has_images
