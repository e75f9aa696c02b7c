"""Thinking that a model marks with tags in its text, as thinking: one of the ``stages``.

Only where an answer begins with it. Which tags there are is a table, ``THINK_TAGS``.
"""

from typing import Final, Literal, NamedTuple

from homeport.wire.call_text import MAX_HEAD_CHARS, fit_literal, skip_space
from homeport.wire.events import Event, Start, TextDelta, ThinkingDelta, UsageReport


class ThinkTags(NamedTuple):
    """How a model marks its thinking. ``then`` may follow the end and is no text."""

    open: str
    close: str
    then: str = ""


THINK_TAGS: Final = (
    ThinkTags("<think>", "</think>"),  # DeepSeek R1 (2025-01), QwQ, Qwen3, GLM-4.5, MiniMax-M2
    ThinkTags("<thinking>", "</thinking>"),  # fine-tunes on older sets
    ThinkTags("[THINK]", "[/THINK]"),  # Magistral 2507
    ThinkTags("<seed:think>", "</seed:think>"),  # Seed-OSS (2025-08)
    ThinkTags(  # gpt-oss (2025-08), where an engine leaves harmony's marks in
        "<|channel|>analysis<|message|>",
        "<|end|>",
        "<|start|>assistant<|channel|>final<|message|>",
    ),
)


class ThinkSplitter:
    """An answer that begins with ``<think>``: what stands up to the end tag becomes thinking.

    1. At the start: held back while it may still become a tag; white space is nothing yet.
    2. Inside: passed on as thinking, but for what may be the beginning of the end tag.
    3. Behind: white space is dropped.
    4. From then on, in any other answer, and when the engine reports thinking itself: text is text.

    ``starts_inside``: the model's template has opened the tag already, so that only its end comes.
    """

    def __init__(self, *, starts_inside: bool = False) -> None:
        self._starts_inside = starts_inside
        self._state: Literal["start", "inside", "behind", "passing"] = "start"
        self._tags = THINK_TAGS[0]
        self._held = ""
        self._has_thought = False

    def __repr__(self) -> str:
        return f"<ThinkSplitter {self._state} held={len(self._held)}>"

    @property
    def is_idle(self) -> bool:
        return self._state == "passing"

    def feed(self, event: Event) -> list[Event]:
        if self._state == "passing":
            return [event]
        match event:
            case TextDelta(text=text):
                self._held += text
                return self._advance()
            case Start() | UsageReport():
                return [event]
            case _:
                return [*self._let_out(), event]

    def _advance(self) -> list[Event]:
        events: list[Event] = []
        state = None
        while state != self._state:
            state = self._state
            match state:
                case "start":
                    self._at_start()
                case "inside":
                    events += self._inside()
                case "behind":
                    self._behind()
                case "passing":
                    events += self._let_out()
        return events

    def _at_start(self) -> None:  # case 1
        at = skip_space(self._held, 0)
        if at > MAX_HEAD_CHARS:
            self._state = "passing"
            return
        for tags in THINK_TAGS:
            verdict = fit_literal(tags.open, self._held, at)
            if verdict == "yes":
                self._tags, self._held = tags, self._held[at + len(tags.open) :]
                self._state = "inside"
            if verdict != "no":
                return
        self._state = "inside" if self._starts_inside else "passing"

    def _inside(self) -> list[Event]:  # case 2
        if not self._has_thought:
            self._held = self._held[skip_space(self._held, 0) :]
        thought, closed, rest = self._held.partition(self._tags.close)
        if closed:
            self._held, self._state = rest, "behind"
        else:
            keep = _overlap(thought, self._tags.close)
            thought, self._held = thought[: len(thought) - keep], thought[len(thought) - keep :]
        self._has_thought = self._has_thought or bool(thought)
        return [ThinkingDelta(thought)] if thought else []

    def _behind(self) -> None:  # case 3
        self._held = self._held[skip_space(self._held, 0) :]
        if self._tags.then:
            verdict = fit_literal(self._tags.then, self._held, 0)
            if verdict == "more":
                return
            if verdict == "yes":
                self._held = self._held[len(self._tags.then) :]
                self._tags = self._tags._replace(then="")
                self._behind()
                return
        if self._held:
            self._state = "passing"

    def _let_out(self) -> list[Event]:  # case 4
        text, self._held = self._held, ""
        is_thinking = self._state == "inside"
        self._state = "passing"
        if not text:
            return []
        return [ThinkingDelta(text) if is_thinking else TextDelta(text)]


def _overlap(text: str, mark: str) -> int:
    """How many characters at the end of ``text`` may be the beginning of ``mark``."""
    for size in range(min(len(mark) - 1, len(text)), 0, -1):
        if text.endswith(mark[:size]):
            return size
    return 0
