"""Reading an engine's command line as the engine will: what the user's ``args`` set.

All engines that we start let a later flag win over an earlier one. vLLM, SGLang and TensorRT-LLM take
``_`` and ``-`` in names alike; llama.cpp has ``-`` only.
"""

from collections.abc import Sequence


def value(args: Sequence[str], *names: str) -> str | None:
    """Return what the last of ``names`` is set to (``--name value`` or ``--name=value``)."""
    found = None
    for index, arg in enumerate(args):
        name, is_joined, joined = arg.partition("=")
        if _same(name) in names:
            found = joined if is_joined else next(iter(args[index + 1 : index + 2]), None)
    return found


def is_set(args: Sequence[str], *names: str) -> bool:
    """Whether one of ``names``, which take no value, stands there."""
    return any(_same(arg) in names for arg in args)


def number(args: Sequence[str], *names: str) -> int | None:
    """Like ``value``; None also for what is not a whole number from 0 on."""
    text = value(args, *names)
    return int(text) if text is not None and text.isascii() and text.isdecimal() else None


def fraction(args: Sequence[str], *names: str) -> float | None:
    """Like ``value``; None also for what is not above 0 and at most 1."""
    text = value(args, *names)
    try:
        share = float(text) if text is not None else 0.0
    except ValueError:
        return None
    return share if 0 < share <= 1 else None


def names(args: Sequence[str]) -> frozenset[str]:
    """Return the long flags among ``args``, in one spelling. (Of short ones a value may look the
    same: ``-1``.)"""
    return frozenset(_same(arg.partition("=")[0]) for arg in args if arg.startswith("--"))


def _same(name: str) -> str:
    return name.replace("_", "-") if name.startswith("--") else name
