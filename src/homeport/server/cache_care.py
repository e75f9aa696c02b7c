"""Keeps the engine's KV cache warm: places requests on slots, and watches that prompts only grow.

``routing.affinity`` decides which slot, ``wire.prefix`` finds where a prompt broke; here their state
lives, one per instance and one per conversation, both bounded. All of it is advice: a request whose
conversation is unknown, or whose engine has no slots, goes its way untouched.
"""

import hashlib
from collections import OrderedDict
from typing import Final

import structlog

from homeport.facts import Endpoint
from homeport.routing.affinity import Key, Slots, SmallModels, is_background, key_of
from homeport.runtime.instance import Instance
from homeport.server.calls import Call
from homeport.server.http import Http
from homeport.server.metrics import Metrics
from homeport.wire.faults import BAD_BODY
from homeport.wire.prefix import Block, Divergence, blocks_of, divergence

log = structlog.get_logger()

MAX_CONVERSATIONS: Final = 512
"""Fingerprints kept; about 30 KB for a conversation of 300 blocks."""


class Placed:
    """A request's body, and the slot to give back."""

    __slots__ = ("_body", "_slot", "_slots")

    def __init__(self, body: bytes, slots: Slots | None, slot: int | None) -> None:
        self._body, self._slots, self._slot = body, slots, slot

    def __enter__(self) -> bytes:
        return self._body

    def __exit__(self, *_: object) -> None:
        if self._slots is not None:
            self._slots.release(self._slot)


class CacheCare:
    def __init__(self, metrics: Metrics) -> None:
        self._metrics, self.small = metrics, SmallModels(())
        self._slots: dict[str, tuple[Endpoint, Slots]] = {}
        self._last: OrderedDict[Key, tuple[str, tuple[Block, ...]]] = OrderedDict()
        """The engine's route, and what it was sent there."""

    def __repr__(self) -> str:
        return f"<CacheCare {[slots for _, slots in self._slots.values()]} seen={len(self._last)}>"

    def place(self, http: Http, call: Call, instance: Instance, endpoint: Endpoint) -> "Placed":
        """``with care.place(…) as body:`` the engine's body, on a slot that is the request's own until
        the block ends.

        Raises ``ClientError`` as ``Call.engine_body`` does.
        """
        body = call.engine_body(endpoint)
        is_small = call.model in self.small
        session = key_of(http.headers, is_small=is_small)
        slots = self._slots_of(call, instance, endpoint)
        if session is None and slots is None:
            return Placed(body, None, None)
        background = is_background(
            has_tools=call.has_tools, size_bytes=len(body), is_small=is_small
        )
        if session is not None and not background:
            self._watch(http, instance, session, call.path, body)
        if slots is None:
            return Placed(body, None, None)
        slot = slots.pick(session or first_user_key(call), background=background)
        if slot is not None:
            http.notes.append((b"x-homeport-slot", b"%d" % slot))
            body = body[:-1] + b',"id_slot":%d}' % slot
        return Placed(body, slots, slot)

    def _slots_of(self, call: Call, instance: Instance, endpoint: Endpoint) -> Slots | None:
        """The instance's slots; new ones after a restart, which empties every cache, unless it was
        saved and restored."""
        if call.kind == "embeddings" or not endpoint.engine.id_slot:
            return None
        if (endpoint.model.slots or 1) < 2:
            return None
        known = self._slots.get(instance.id)
        if known is None or known[0] is not endpoint:
            slots = Slots(endpoint.model.slots or 1)
            if known is not None and endpoint.slots_restored and known[1].slots == slots.slots:
                slots = known[1]
            known = self._slots[instance.id] = (endpoint, slots)
        return known[1]

    def _watch(self, http: Http, instance: Instance, key: Key, path: str, body: bytes) -> None:
        try:
            blocks = blocks_of(body)
        except BAD_BODY:  # handed on unread, to who may know better
            return
        last_path, before = self._last.get(key, (path, None))
        self._last[key] = (path, blocks)
        self._last.move_to_end(key)
        if len(self._last) > MAX_CONVERSATIONS:
            self._last.popitem(last=False)
        if before is None or last_path != path:
            return  # in another dialect the same prompt has other bytes
        found = divergence(before, blocks)
        speed = self._metrics.prefill_speeds.get(instance.id)
        cost_s = round(found.lost_tokens / speed, 1) if found and speed else None
        http.notes.append((b"x-homeport-prefix", _told(found, cost_s).encode()))
        if found is not None:
            self._metrics.prefix_broken(instance.id, found.lost_tokens)
            log.info(
                "prefix.broken",
                model=instance.id,
                session=key.session,
                block=found.block,
                lost_tokens=found.lost_tokens,
                cost_s=cost_s,
            )


def first_user_key(call: Call) -> Key | None:
    """Clients without a session id: their first user turn tells conversations apart."""
    text = call.first_user_text
    return Key(hashlib.blake2b(text.encode(), digest_size=8).hexdigest()) if text else None


def _told(found: Divergence | None, cost_s: float | None) -> str:
    if found is None:
        return "kept"
    cost = "" if cost_s is None else f", {cost_s:g} s"
    return f"broken at {found.block}; about {found.lost_tokens} tokens lost{cost}"
