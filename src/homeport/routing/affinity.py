"""Which slot of an engine a request should use, so that conversations keep their KV cache.

An engine with several slots (llama.cpp) keeps one cached prompt per slot. Left alone it gives a
request any free slot; a title request of 300 tokens then overwrites the 60 000-token prefix of a
conversation, whose next turn costs minutes of prefill in place of a second.

The policy, for ``slots`` ≥ 2 (one slot leaves nothing to choose):

1. A conversation (``Key``: session and agent, or the hash of its first user turn) is pinned to a slot
   at its first request and comes back to it. Sub-agents are conversations of their own.
2. Background requests are never pinned. They take a slot that no conversation holds, the last one
   first, and otherwise queue on the last one, which no conversation is given. With two slots only,
   sub-agents share it: main conversations come first.
3. A conversation whose slot is busy goes to an idle slot for this once, unpinned ones first, and
   keeps its pin: its cache is still there.
4. A new conversation takes an unpinned slot, else the one whose conversation was silent longest.
5. When every slot that a conversation may use is busy, no slot is named: the engine queues it.

What is background is told by two things, neither of which is enough. Clients run their small jobs
(titles, summaries of fetched pages, classification) without tools, and ask for them under the name of a
*small model* (Claude Code: its haiku tier). But a page that is summarised may be longer than a
conversation; and a user with a single model may have every name lead to it, the small one too, and work
under that name, or let sub-agents do so. Hence:

======= ===== ========= ==================================================================
tools   long  small     it is
======= ===== ========= ==================================================================
no      no    any       background
no      yes   yes       background: a job on a long text
no      yes   no        a conversation: a chat application's
yes     any   no        a conversation
yes     any   yes       with an agent's id, that agent's conversation; without one, a conversation
                        apart from the session's main one (``Key.is_small``), which it never
                        pushes out. If the session has no other, it *is* the main one.
======= ===== ========= ==================================================================

Pure: the caller says which request begins and ends; time is a counter of requests.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

import msgspec

from homeport.routing.catalog import Wildcard

SESSION_HEADERS: Final = (
    b"x-claude-code-session-id",
    b"x-session-affinity",
    b"x-session-id",
    b"session-id",
    b"session_id",
)
"""Claude Code, opencode (both of the next two), Codex (with ``_`` in older versions)."""

AGENT_HEADERS: Final = (b"x-claude-code-agent-id", b"thread-id")

MAX_ID: Final = 200
"""Longest session or agent id that is looked at; UUIDs have 36 characters."""

MAX_KEYS: Final = 1024
"""Conversations remembered; a lost pin costs one prefill."""


SHORT_BYTES: Final = 16 * 1024
"""An engine's body below about 4k tokens."""


class SmallModels:
    """The names of small models: patterns, in which ``*`` is any text. Letter case does not count."""

    def __init__(self, patterns: Iterable[str]) -> None:
        patterns = tuple(patterns)
        self._names = frozenset(p.casefold() for p in patterns if "*" not in p)
        self._wildcards = tuple(Wildcard(p, "") for p in patterns if "*" in p)
        self._known = lru_cache(maxsize=256)(self._matches)  # clients say the same few names

    def __repr__(self) -> str:
        return f"SmallModels({sorted(self._names)}, {[w.pattern for w in self._wildcards]})"

    def __contains__(self, name: str) -> bool:
        # A name is what a client has written, of any length: only usual ones are worth keeping.
        return self._known(name) if len(name) <= MAX_ID else self._matches(name)

    def _matches(self, name: str) -> bool:
        if name.casefold() in self._names:
            return True
        return any(wildcard.matches(name) for wildcard in self._wildcards)


def is_background(*, has_tools: bool, size_bytes: int, is_small: bool) -> bool:
    """The table above."""
    return not has_tools and (is_small or size_bytes <= SHORT_BYTES)


class Key(msgspec.Struct, frozen=True):
    """One conversation: everything that shares a growing prompt."""

    session: str
    agent: str = ""
    is_small: bool = False
    """Asked for as a small model, and by no agent."""


def key_of(
    headers: Mapping[bytes, bytes], first_user_hash: str = "", *, is_small: bool = False
) -> Key | None:
    """The conversation that a request belongs to; None when nothing tells."""
    for name in SESSION_HEADERS:
        if session := headers.get(name):
            agent = next((v for name in AGENT_HEADERS if (v := headers.get(name))), b"")
            return Key(
                session[:MAX_ID].decode("latin-1"),
                agent[:MAX_ID].decode("latin-1"),
                is_small and not agent,
            )
    return Key(first_user_hash) if first_user_hash else None


class Slots:
    """The slots of one instance. ``pick`` and ``release`` come in pairs."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._pins: dict[Key, int] = {}  # in order of last use, the latest at the end
        self._busy: dict[int, int] = {}

    def __repr__(self) -> str:
        return f"<Slots {self.slots} pins={len(self._pins)} busy={sorted(self._busy)}>"

    def pick(self, key: Key | None, *, background: bool) -> int | None:
        """The slot to name, now in use; None: name none."""
        slot = self._choose(key, background=background)
        if slot is not None:
            self._busy[slot] = self._busy.get(slot, 0) + 1
        return slot

    def release(self, slot: int | None) -> None:
        """The request that was given ``slot`` has ended."""
        if slot is None:
            return
        left = self._busy[slot] - 1
        if left:
            self._busy[slot] = left
        else:
            del self._busy[slot]

    def _choose(self, key: Key | None, *, background: bool) -> int | None:
        if self.slots < 2 or (key is None and not background):
            return None
        if background or key is None:  # case 2
            free = self._idle(reversed(range(self.slots)), avoid_pinned=True)
            return self.slots - 1 if free is None else free
        pinned = self._pins.pop(key, None)
        if pinned is None:
            return self._new(key)
        self._pins[key] = pinned  # now the latest used
        if pinned not in self._busy:  # case 1
            return pinned
        return self._idle(range(self.slots))  # case 3

    def _new(self, key: Key) -> int | None:
        """Case 4. The last slot stays free of conversations, but for sub-agents when there are two."""
        is_sub = key.agent or (key.is_small and Key(key.session) in self._pins)
        usable = range(1, 2) if self.slots == 2 and is_sub else range(self.slots - 1)
        slot = self._idle(usable, avoid_pinned=True)
        if slot is None:
            held = (s for s in self._pins.values() if s in usable and s not in self._busy)
            slot = next(held, None)
            self._pins = {k: s for k, s in self._pins.items() if s != slot}
        if slot is not None:
            self._pins[key] = slot
            while len(self._pins) > MAX_KEYS:
                del self._pins[next(iter(self._pins))]
        return slot

    def _idle(self, slots: Iterable[int], *, avoid_pinned: bool = False) -> int | None:
        """An idle slot, unpinned ones first."""
        idle = [slot for slot in slots if slot not in self._busy]
        taken = set(self._pins.values())
        free = [slot for slot in idle if slot not in taken]
        if free:
            return free[0]
        return None if avoid_pinned or not idle else idle[0]
