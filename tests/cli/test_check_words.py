"""What `homeport check` says to a person: everything it may find has words, and fits a terminal."""

from __future__ import annotations

import pytest

from homeport.cli import check_words
from homeport.engines.findings import Finding, Probe, Result
from homeport.engines.openai_compatible import FACTS
from homeport.engines.probes import PROBES
from homeport.engines.records import engine_facts

BY_FEATURE = {probe.feature: probe for probe in PROBES}
LONG = Finding(
    "unsure", "status 500: image input is not supported - hint: if this\nis " + "x " * 60
)


def rows(feature: str, result: Result, width: int | None = 60) -> list[str]:
    return check_words.row(BY_FEATURE[feature], Finding(result, "seen"), "openai_chat", width)


def test_there_are_words_for_all_that_an_engine_may_lack() -> None:
    assert set(check_words.LACKING) == set(BY_FEATURE)


def test_there_are_words_for_all_that_may_be_learned() -> None:
    """Each fact that a record changes, with every probe saying yes, and every one no."""
    said = set()
    for result in ("yes", "no"):
        findings = {feature: Finding(result, "") for feature in BY_FEATURE}
        findings["reasoning"] = Finding("unsure", "")
        after = engine_facts(FACTS, findings)
        said |= {n for n in FACTS.__struct_fields__ if getattr(FACTS, n) != getattr(after, n)}
    assert said > {"native_messages", "native_responses", "tool_choice", "token_count"}
    assert said | {"schema_bounds", "vision"} <= set(check_words.LEARNED)


@pytest.mark.parametrize("width", [60, 80])
@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.feature)
def test_no_row_is_wider_than_the_terminal(probe: Probe, width: int) -> None:
    for finding in (Finding("yes", "x" * 200), Finding("no", "x" * 200), LONG):
        lines = check_words.row(probe, finding, "openai_chat", width)
        assert max(map(len, lines)) <= width
        assert all(line.startswith(" " * check_words.LABEL_WIDTH) for line in lines[1:])


def test_a_lack_says_what_becomes_of_it() -> None:
    """Whoever wants Claude Code must not read that the engine's Anthropic API is wrong, and no more."""
    first, *below = rows("messages", "no")
    assert first == "no      its own /v1/messages has Anthropic's shape"
    assert " ".join(" ".join(below).split()) == (
        "no harm: homeport translates, and Claude Code works without it"
    )
    assert rows("messages", "yes") == ["ok      its own /v1/messages has Anthropic's shape"]
    assert rows("messages", "unsure")[1].strip() == "seen"


def test_an_upstream_that_is_asked_in_anthropic_s_dialect_is_not_translated_for() -> None:
    lines = check_words.row(BY_FEATURE["messages"], Finding("no", "wrong: id"), "anthropic", 80)
    assert lines[1].strip() == "wrong: id"


def test_no_terminal_gets_one_row_for_each() -> None:
    (line,) = rows("tool_choice_named", "no", None)
    assert line.startswith("no      tool_choice naming a tool: homeport offers")


def test_what_follows_of_it_all() -> None:
    def of(result: Result) -> str:
        return check_words.verdict({"tool_choice_auto": Finding(result, "")})

    assert "Claude Code and Codex need" in of("yes")
    assert "takes no tools" in of("no")
    assert check_words.verdict({}) == of("unsure") == ""


def test_what_differs_is_told_in_words() -> None:
    told = check_words.changes(
        {"system_inside": True, "native_messages": frozenset({"tools", "stream"})},
        "llamacpp",
        is_saved=False,
    )
    assert "--save" in told
    assert "- system turns in mid-conversation stay in their place: yes" in told
    assert told.endswith("beside plain text: stream, tools")
    assert "nothing to keep" in check_words.changes({}, "vllm", is_saved=False)
