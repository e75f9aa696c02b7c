"""What a PromQL expression asks for: series by name and labels, and the labels that it groups by.

A reader for the expressions of this repository, not a judge of PromQL: Prometheus itself is that. Names
of functions, aggregations and labels must not be taken for names of metrics, nor the other way round.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<range>\[[^\]]*\])
      | (?P<number>\d+(?:\.\d+)?(?:ms|[smhdwy])?)
      | (?P<word>[a-zA-Z_:][\w:]*)
      | (?P<sign>=~|!~|!=|==|>=|<=|[-+*/%^<>=(){},@])""",
    re.VERBOSE,
)
LABELS_FOLLOW = {"by", "without", "on", "ignoring", "group_left", "group_right"}
OPERATORS = {"and", "or", "unless", "bool", "offset"}


@dataclass(frozen=True)
class Matcher:
    label: str
    sign: str
    value: str


@dataclass
class Asked:
    series: list[tuple[str, tuple[Matcher, ...]]] = field(default_factory=list)
    labels: set[str] = field(default_factory=set)
    """Grouped or matched by."""


def asked(expression: str) -> Asked:
    tokens, found, at = tokens_of(expression), Asked(), 0
    while at < len(tokens):
        kind, text = tokens[at]
        after = tokens[at + 1][1] if at + 1 < len(tokens) else ""
        at += 1
        if kind != "word" or text in OPERATORS:
            continue
        if text in LABELS_FOLLOW:
            assert after == "(", expression
            end = tokens.index(("sign", ")"), at)
            found.labels |= {word for kind, word in tokens[at:end] if kind == "word"}
            at = end + 1
        elif after != "(" and after not in LABELS_FOLLOW:
            matchers: list[Matcher] = []
            if after == "{":
                end = tokens.index(("sign", "}"), at)
                matchers = matchers_of(tokens[at + 1 : end])
                at = end + 1
            found.series.append((text, tuple(matchers)))
    return found


def tokens_of(expression: str) -> list[tuple[str, str]]:
    tokens, at = list[tuple[str, str]](), 0
    while at < len(expression):
        token = TOKEN.match(expression, at)
        assert token is not None, f"not PromQL at {at}: {expression}"
        at = token.end()
        assert token.lastgroup is not None
        if token.lastgroup != "space":
            tokens.append((token.lastgroup, token[0]))
    return tokens


def matchers_of(tokens: list[tuple[str, str]]) -> list[Matcher]:
    words = [text for _, text in tokens if text != ","]
    return [
        Matcher(label, sign, value[1:-1])
        for label, sign, value in zip(words[::3], words[1::3], words[2::3], strict=True)
    ]
