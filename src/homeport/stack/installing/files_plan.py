"""Which of the stack's files are written or removed, and which belong to the user by now. Pure.

``install`` remembers the SHA-256 of what it wrote. A file that is still as it was written is brought up
to date; one that somebody changed stays, and the new one is laid beside it as ``NAME.new``, if there
is anything new in it. What is ours, unchanged, and not needed any more goes: files of another version,
a ``NAME.new`` that has been taken over, and with ``uninstall`` all of it.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatch
from typing import Final, Literal, NamedTuple

Action = Literal["new", "same", "updated", "kept", "beside", "removed"]

BESIDE: Final = ".new"
WHEELS: Final = "gateway/homeport-*.whl"
"""The image is built from the one that is there; of another version, it would be two."""
ENV: Final = ".env"
"""It grows by lines, and is never replaced; but it is remembered, too: unchanged, it may go."""
OURS: Final = frozenset({"manifest.json", "migrated.json"})
"""What ``install`` notes for itself."""


class Step(NamedTuple):
    path: str
    """Below ``services/``."""
    action: Action
    """``kept``: it was changed, and there is nothing new; ``beside``: it was changed, and the new one
    is written as ``NAME.new``."""
    data: bytes = b""


class Removal(NamedTuple):
    """What ``uninstall`` does with the files below ``services/``."""

    gone: tuple[str, ...]
    kept: tuple[str, ...]
    """The user has changed them, or has put them there."""


def plan(
    shipped: Mapping[str, bytes], found: Mapping[str, str], written: Mapping[str, str]
) -> list[Step]:
    """``found`` are the sums of the files that are there, of those that are asked for; ``written`` are
    those of what was written last."""
    steps = [
        Step(path, _action(path, digest(data), found.get(path), written), data)
        for path, data in shipped.items()
    ]
    laid_beside = {step.path + BESIDE for step in steps if step.action in ("kept", "beside")}
    gone = set(found) - set(shipped) - laid_beside - {ENV}
    steps += [Step(path, "removed") for path in sorted(gone) if _is_ours(path, found, written)]
    return steps


def is_asked(path: str, shipped: Collection[str], written: Collection[str]) -> bool:
    """Whether the sum of this file has to be known."""
    plain = path.removesuffix(BESIDE)
    return plain in shipped or plain in written or fnmatch(path, WHEELS)


def removal(
    found: Mapping[str, str], written: Mapping[str, str], keep: Collection[str] = ()
) -> Removal:
    """``found`` are all files, with the sums of those that were asked for; ``keep`` are those that stay
    for a reason of their own."""
    there = sorted(set(found) - set(keep))
    gone = [path for path in there if path in OURS or _is_ours(path, found, written)]
    return Removal(tuple(gone), tuple(path for path in there if path not in gone))


def sums(steps: Iterable[Step]) -> dict[str, str]:
    """What is remembered of this: for each file what was offered last."""
    return {step.path: digest(step.data) for step in steps if step.action != "removed"}


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _action(path: str, new: str, there: str | None, written: Mapping[str, str]) -> Action:
    if there is None:
        return "new"
    if there == new:
        return "same"
    if there == written.get(path):
        return "updated"
    return "kept" if written.get(path) == new else "beside"


def _is_ours(path: str, found: Mapping[str, str], written: Mapping[str, str]) -> bool:
    wrote = written.get(path) or written.get(path.removesuffix(BESIDE))
    return wrote == found[path] or fnmatch(path, WHEELS)
