"""Which of the stack's files are written, and which belong to the user by now. Pure.

``install`` remembers the SHA-256 of what it wrote. A file that is still as it was written is brought up
to date; one that somebody changed stays, and the new one is laid beside it as ``NAME.new``, if there
is anything new in it.
"""

import hashlib
from collections.abc import Mapping
from typing import Literal, NamedTuple

Action = Literal["new", "same", "updated", "kept", "beside"]


class Step(NamedTuple):
    path: str
    """Below ``services/``."""
    action: Action
    """``kept``: it was changed, and there is nothing new; ``beside``: it was changed, and the new one
    is written as ``NAME.new``."""
    data: bytes


def plan(
    shipped: Mapping[str, bytes], found: Mapping[str, bytes], written: Mapping[str, str]
) -> list[Step]:
    """``found`` are the files that are there, of those in ``shipped``; ``written`` are the sums of what
    was written last."""
    return [
        Step(path, _action(path, data, found.get(path), written), data)
        for path, data in shipped.items()
    ]


def _action(path: str, data: bytes, there: bytes | None, written: Mapping[str, str]) -> Action:
    if there is None:
        return "new"
    if there == data:
        return "same"
    if digest(there) == written.get(path):
        return "updated"
    return "kept" if written.get(path) == digest(data) else "beside"


def sums(steps: list[Step]) -> dict[str, str]:
    """What is remembered of this: for each file what was offered last."""
    return {step.path: digest(step.data) for step in steps}


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
