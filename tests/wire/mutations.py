"""Mutations: small changes of the source, each of which switches one rule off.

``Code`` changes one piece of a function, ``Entry`` a table, ``Value`` a constant. Each can be applied
for a while and undone; ``rows`` says which rule each of them belongs to.
"""

import ast
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import msgspec


@dataclass(frozen=True, eq=False)
class Code:
    """A function with one piece of its source, which occurs once in it, replaced by another."""

    function: Callable[..., Any]
    old: str
    new: str

    def __str__(self) -> str:
        old, new = (" ".join(text.split()) for text in (self.old, self.new))
        return f"{self.function.__name__}: {old} → {new or '(nothing)'}"

    @property
    def plain(self) -> Any:
        """The function itself: the code of a method or of a cached function stands below."""
        return inspect.unwrap(self.function)

    def mutated(self) -> Any:
        source = inspect.getsource(self.plain)
        assert source.count(self.old) == 1, f"{self}: found {source.count(self.old)} times"
        [definition] = ast.parse(textwrap.dedent(source.replace(self.old, self.new))).body
        assert isinstance(definition, ast.FunctionDef | ast.AsyncFunctionDef)
        definition.decorator_list = []
        names: dict[str, Any] = dict(self.plain.__globals__)
        module = ast.Module([definition], [])
        exec(compile(module, f"<mutant of {self.plain.__name__}>", "exec"), names)
        return names[definition.name].__code__

    @contextmanager
    def applied(self) -> Iterator[None]:
        function, code = self.plain, self.plain.__code__
        forget = getattr(self.function, "cache_clear", lambda: None)
        function.__code__ = self.mutated()
        forget()
        try:
            yield
        finally:
            function.__code__ = code
            forget()


GONE = object()


@dataclass(frozen=True, eq=False)
class Entry:
    """A table with one entry changed or taken out."""

    table: dict[Any, Any]
    key: Any
    new: Any = GONE

    def __str__(self) -> str:
        new = getattr(self.new, "__name__", self.new)
        return f"[{self.key!r}] {'taken out' if self.new is GONE else f'= {new!r}'}"

    @contextmanager
    def applied(self) -> Iterator[None]:
        before = dict(self.table)
        if self.new is GONE:
            del self.table[self.key]
        else:
            self.table[self.key] = self.new
        try:
            yield
        finally:
            self.table.clear()
            self.table.update(before)


@dataclass(frozen=True, eq=False)
class Value:
    """A constant changed, in its module or class and wherever it was imported to."""

    owner: ModuleType | type
    name: str
    new: Any
    change: str = ""

    def __str__(self) -> str:
        return f"{self.owner.__name__}.{self.name}: {self.change or repr(self.new)}"

    @contextmanager
    def applied(self) -> Iterator[None]:
        old = getattr(self.owner, self.name)
        modules = [m for name, m in sys.modules.items() if name.startswith("homeport.")]
        places: list[Any] = [m for m in modules if getattr(m, self.name, GONE) is old]
        places += [self.owner] if self.owner not in places else []
        for place in places:
            setattr(place, self.name, self.new)
        try:
            yield
        finally:
            for place in places:
                setattr(place, self.name, old)


Mutation = Code | Entry | Value


def facts(module: ModuleType, **fields: Any) -> Value:
    """An engine that is believed to be another than it is."""
    return Value(module, "FACTS", msgspec.structs.replace(module.FACTS, **fields), str(fields))
