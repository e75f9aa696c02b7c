"""The usage of an answer for which the engine was asked more than once.

That is so where the gateway runs a search, looks for tools, or asks once more for a call that was none.
Each time the engine reads a prompt that begins with the one before, and the client hears of one answer.
``RoundUsage`` puts the rounds' counts together (``Usage.earlier``); what is told of them differs by
dialect (docs/dialects.md 3.14):

- ``summed``, all that was read and written: Anthropic's counts are cumulative, and ``iterations``
  beside them has the rounds one by one, the last of which is the conversation's size. Metrics, too.
- ``as_one``, what one prompt of that size would have cost: OpenAI's dialects have no such list, and
  their clients (Codex) take the sum of prompt and answer for the conversation's size.
"""

from collections.abc import Iterable

import msgspec

from homeport.wire.events import Event, Usage, UsageReport


class RoundUsage:
    """The first stage of a round: notes its usage, and adds those of the rounds before."""

    def __init__(self, earlier: tuple[Usage, ...]) -> None:
        self.usage: Usage | None = None
        """The engine's last word on this round."""
        self._earlier = earlier

    def __repr__(self) -> str:
        return f"<RoundUsage {len(self._earlier)} earlier, now {self.usage!r}>"

    @property
    def is_idle(self) -> bool:
        return True  # to text it does nothing

    def feed(self, event: Event) -> list[Event]:
        if not isinstance(event, UsageReport):
            return [event]
        self.usage = event.usage
        if not self._earlier:
            return [event]
        return [UsageReport(msgspec.structs.replace(event.usage, earlier=self._earlier))]


def rounds(usage: Usage) -> tuple[Usage, ...]:
    """Each round by itself, the last one last."""
    return (*usage.earlier, msgspec.structs.replace(usage, earlier=()))


def usage_in(events: Iterable[Event]) -> Usage | None:
    """The usage that an answer's events report."""
    for event in events:
        if isinstance(event, UsageReport):
            return event.usage
    return None


def summed(usage: Usage) -> Usage:
    if not usage.earlier:
        return usage
    every = rounds(usage)
    return Usage(
        sum(one.prompt_tokens for one in every),
        sum(one.completion_tokens for one in every),
        _sum(*(one.cached_tokens for one in every)),
        _sum(*(one.reasoning_tokens for one in every)),
        usage.prefill_tokens_per_s,
    )


def as_one(usage: Usage) -> Usage:
    """The last prompt; of it counts as cached what was not read anew in any round. All that was
    written."""
    if not usage.earlier:
        return usage
    total = summed(usage)
    read = total.prompt_tokens - (total.cached_tokens or 0)
    cached = None if total.cached_tokens is None else max(0, usage.prompt_tokens - read)
    return msgspec.structs.replace(total, prompt_tokens=usage.prompt_tokens, cached_tokens=cached)


def _sum(*counts: int | None) -> int | None:
    """None where nobody counted."""
    known = [count for count in counts if count is not None]
    return sum(known) if known else None
