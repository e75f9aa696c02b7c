"""What differs between two configurations, by the keys of the file: for a reload. Models are told apart
from this, by the roster. Pure."""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from homeport.settings import Settings

NEEDS_RESTART: Final = frozenset(
    {"server.host", "server.port", "discover", "lifecycle.saved_slots_bytes", "store"}
)
"""Looked at once, when homeport starts."""

_SECTIONS: Final = ("server", "lifecycle", "litellm")
_LEFT_OUT: Final = ("models", "defaults")
"""``defaults`` change models, and are told there."""


def changed_keys(before: Settings, after: Settings) -> tuple[str, ...]:
    """The keys whose values differ."""
    return tuple(_changed(before, after, ""))


def _changed(before: Any, after: Any, prefix: str) -> Iterator[str]:
    assert isinstance(before, msgspec.Struct)
    for name in before.__struct_fields__:
        old, new = getattr(before, name), getattr(after, name)
        if old == new or name in _LEFT_OUT:
            continue
        if name in _SECTIONS:
            yield from _changed(old, new, f"{name}.")
        else:
            yield prefix + name
