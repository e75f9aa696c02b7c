"""Which model a request means: an immutable catalog of ids, aliases and wildcards.

Clients name models in many ways: an SDK sends ``openai/NAME``, llama.cpp users a file path, Claude
Code a ``claude-*`` name that nobody here has ever loaded. ``Catalog.resolve`` tries, in this order:

1. **exact**: the id of a model;
2. **alias**: an alias without ``*`` from the configuration, then a model's own alias;
3. **normalised**: the id or alias that is left when letter case, leading ``provider/`` or folder
   parts and a ``.gguf`` suffix do not count; and after those, read in the same way, where the model
   comes from: its path, its name on the hub, its name at an upstream. The longest form decides, and a
   whole name beats the tail of one: ``openai/x`` means ``x`` before it means ``meta/x``;
4. **wildcard**: the configured pattern with the longest literal prefix (the text before its first
   ``*``); of equally long ones the first in file order. Letter case does not count;
5. **default**: the default model, for completions (an editor's) the autocomplete model where there is
   one; unless ``strict_models`` is set or case 3 found several models;
6. otherwise a 404 that lists what there is.

A missing or empty name starts at case 5, and ``strict_models`` does not matter to it: the client
has not asked for anything else. Cases 1 to 3 are the client's own words and are obeyed whatever the
kind of request: an upstream's list does not always tell which of its models can embed. Cases 4 and 5
are our guess, and a guess must fit the kind: an embeddings request never falls to a chat model, nor
a chat request to an embedding model. Vectors of the wrong model look right and spoil an index.

Where names clash, the first entry wins: an id before an alias, a configured alias before a model's
own. The result depends on the catalog and the name only, so answers are kept in a bounded dict.
"""

import difflib
from collections.abc import Iterable, Mapping
from typing import Final, Literal

import msgspec

from homeport.errors import ClientError

RequestKind = Literal["chat", "completions", "embeddings"]
"""``completions`` go on with a text, as an editor wants it; they are chat models' work, too."""
How = Literal["exact", "alias", "normalised", "wildcard", "default"]

MAX_NAME: Final = 1024
"""Longest name that is looked up; Linux file names end at 255 and few paths pass 1024."""
MAX_CACHED: Final = 1024
"""Names remembered beyond ids and aliases: with MAX_NAME about 1 MB at the worst."""
MAX_LISTED: Final = 8
"""Models named in an error message."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One model that can be asked for."""

    id: str
    aliases: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    """Where it comes from; not listed as names, but understood (case 3)."""
    is_embedding: bool = False
    is_listed: bool = True


class Resolution(msgspec.Struct, frozen=True):
    """The model that a name means, and which case of the module's list found it."""

    model_id: str
    how: How
    stars: tuple[str, ...] = ()
    """What each ``*`` of the wildcard stood for."""


class Wildcard(msgspec.Struct, frozen=True):
    """``pattern`` (with at least one ``*``) stands for ``target``, an id or alias."""

    pattern: str
    target: str

    @property
    def prefix(self) -> str:
        return self.pattern[: self.pattern.index("*")]

    def matches(self, name: str) -> bool:
        """Whether ``name`` fits; linear in its length, since a client chooses it."""
        return self.stars(name) is not None

    def stars(self, name: str) -> tuple[str, ...] | None:
        """What each ``*`` stands for in ``name``, the earlier ones as short as can be; None where it
        does not fit."""
        head, *middle, tail = self.pattern.casefold().split("*")
        folded = name.casefold()
        if len(folded) != len(name):  # some letters are two in small
            name = folded
        if len(name) < len(head) + len(tail):
            return None
        if not (folded.startswith(head) and folded.endswith(tail)):
            return None
        found: list[str] = []
        position, end = len(head), len(name) - len(tail)
        for part in middle:
            at = folded.find(part, position, end)
            if at < 0:
                return None
            found.append(name[position:at])
            position = at + len(part)
        return (*found, name[position:end])


class Catalog:
    """All models by all their names. Immutable: a change of models makes a new catalog.

    ``aliases`` are the configured ``(pattern, model id or alias)`` pairs in file order; those with a
    ``*`` are wildcards. A pattern whose model is not served (its upstream is down) is kept: asking
    for it is a 404 that says so, not a silent fall to the default.
    """

    def __init__(
        self,
        entries: Iterable[Entry] = (),
        *,
        aliases: Iterable[tuple[str, str]] = (),
        default: str | None = None,
        autocomplete: str | None = None,
        strict_models: bool = False,
    ) -> None:
        models: dict[str, Entry] = {}
        for entry in entries:
            models.setdefault(entry.id, entry)
        pairs = tuple(aliases)
        own = {alias: m.id for m in reversed(models.values()) for alias in reversed(m.aliases)}
        configured = {pattern: to for pattern, to in reversed(pairs) if "*" not in pattern}
        wildcards = (Wildcard(pattern, to) for pattern, to in pairs if "*" in pattern)

        self._models: Mapping[str, Entry] = models
        self._own_aliases: Mapping[str, str] = own
        self._dangling = {a: to for a, to in configured.items() if self._id_of(to) is None}
        self._wildcards = sorted(wildcards, key=lambda w: -len(w.prefix))  # stable: file order
        self._default, self._autocomplete = default, autocomplete
        self._strict = strict_models

        found = {a: Resolution(i, "alias") for a, i in own.items() if a not in self._dangling}
        for alias, to in configured.items():
            if (target := self._id_of(to)) is not None:
                found[alias] = Resolution(target, "alias")
        found |= {model_id: Resolution(model_id, "exact") for model_id in models}
        self._found = found
        names = [(name, resolution.model_id) for name, resolution in found.items()]
        sources = [(source, m.id) for m in models.values() for source in m.sources]
        self._forms = {**_index(sources), **_index(names)}
        self._cache: dict[tuple[str, RequestKind], Resolution] = {}

    def __repr__(self) -> str:
        return (
            f"Catalog(models={len(self._models)}, names={len(self._found)}, "
            f"wildcards={len(self._wildcards)}, default={self._default!r}, "
            f"autocomplete={self._autocomplete!r}, strict={self._strict})"
        )

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All models, in the order given."""
        return tuple(self._models.values())

    @property
    def default(self) -> str | None:
        """The default model's id; None when there is none, or it is not served now."""
        return self._id_of(self._default) if self._default else None

    def get(self, model_id: str) -> Entry | None:
        """The model with exactly this id."""
        return self._models.get(model_id)

    def resolve(self, name: str | None, *, kind: RequestKind) -> Resolution:
        """The model that ``name`` means.

        Raises ``ClientError("not_found", param="model")``: send it to the client, whose message
        names near matches or some of the models there are.
        """
        if name and (hit := self._found.get(name)) is not None:  # cases 1 and 2
            return hit
        key = (name or "", kind)
        if (known := self._cache.get(key)) is not None:
            return known
        answer = self._search(key[0], kind)
        if len(self._cache) >= MAX_CACHED:  # names are the clients' to invent: start again
            self._cache.clear()
        self._cache[key] = answer
        return answer

    def _search(self, name: str, kind: RequestKind) -> Resolution:
        """Cases 2 (when it dangles) to 6."""
        if not name.strip():  # case 5, for a request that names no model
            return self._by_default(name, kind)
        if len(name) > MAX_NAME:
            raise ClientError(
                "not_found",
                f"the model name is {len(name)} characters long; {MAX_NAME} is the longest",
                param="model",
            )
        if name in self._dangling:  # case 2: what it stands for is not here
            raise self._not_served(name, self._dangling[name])
        candidates = self._candidates(name)
        if len(candidates) == 1:  # case 3
            return Resolution(candidates[0], "normalised")
        for wildcard in self._wildcards:  # case 4
            if (stars := wildcard.stars(name)) is not None:
                return self._by_wildcard(name, wildcard, stars, kind)
        if candidates:  # case 6: several models
            raise ClientError(
                "not_found",
                f"model {_short(name)} is ambiguous: it could be {_listed(candidates)}",
                param="model",
            )
        if self._strict:  # case 6: none
            raise self._unknown(name, kind)
        return self._by_default(name, kind)  # case 5

    def _candidates(self, name: str) -> tuple[str, ...]:
        """Case 3: the ids that the longest known form of ``name`` may mean."""
        for form in _forms_of(name):
            if (ids := self._forms.get(form)) is not None:
                return ids
        return ()

    def _by_wildcard(
        self, name: str, wildcard: Wildcard, stars: tuple[str, ...], kind: RequestKind
    ) -> Resolution:
        model_id = self._id_of(wildcard.target)
        if model_id is None:
            raise self._not_served(name, wildcard.target, pattern=wildcard.pattern)
        if not self._fits(model_id, kind):
            how = f"model {_short(name)} is not known here, and its wildcard '{wildcard.pattern}'"
            raise self._unfit(how, model_id, kind)
        return Resolution(model_id, "wildcard", stars)

    def _by_default(self, name: str, kind: RequestKind) -> Resolution:
        default = (self._autocomplete if kind == "completions" else None) or self._default
        if default is None:
            raise self._unknown(name, kind)
        model_id = self._id_of(default)
        if model_id is None:
            raise self._not_served(name or "(none)", default)
        if not self._fits(model_id, kind):
            named = f"model {_short(name)} is not known here" if name else "no model is named"
            raise self._unfit(f"{named}, and the default", model_id, kind)
        return Resolution(model_id, "default")

    def _id_of(self, name: str) -> str | None:
        return name if name in self._models else self._own_aliases.get(name)

    def _fits(self, model_id: str, kind: RequestKind) -> bool:
        return self._models[model_id].is_embedding == (kind == "embeddings")

    def _names_for(self, kind: RequestKind) -> list[str]:
        return sorted(i for i in self._models if self._fits(i, kind))

    def unknown(self, name: str) -> ClientError:
        """To be raised where no default answers; names what is near, or some of all models."""
        return self._unknown(name, None)

    def _unknown(self, name: str, kind: RequestKind | None) -> ClientError:
        what = f"model {_short(name)} is not known here" if name else "no model is named"
        close = difflib.get_close_matches(name[:200], self._found, n=3, cutoff=0.6)
        names = (self._names_for(kind) if kind else []) or sorted(self._models)
        if close:
            what += f"; did you mean {_listed(close, 'or')}?"
        elif names:
            what += f"; models here: {_listed(names)}"
        else:
            what += "; no model is served"
        return ClientError("not_found", what, param="model")

    def _unfit(self, how: str, model_id: str, kind: RequestKind) -> ClientError:
        wrong, right = ("a chat", "embedding") if kind == "embeddings" else ("an embedding", "chat")
        names = self._names_for(kind)
        there = f"{right} models here: {_listed(names)}" if names else f"no {right} model is served"
        message = f"{how} ('{model_id}') is {wrong} model; {there}"
        return ClientError("not_found", message, param="model")

    def _not_served(self, name: str, target: str, *, pattern: str = "") -> ClientError:
        by = f" (by '{pattern}')" if pattern else ""
        message = f"model {_short(name)} stands for '{target}'{by}, which is not served now"
        return ClientError("not_found", message, param="model")


def _forms_of(name: str) -> list[str]:
    """The normalised forms, longest first: ``/M\\Org/X.GGUF`` → ``m/org/x, org/x, x``."""
    plain = name.strip().casefold().replace("\\", "/").strip("/").removesuffix(".gguf")
    parts = [part for part in plain.split("/") if part]
    return ["/".join(parts[start:]) for start in range(len(parts))]


def _index(names: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """Normalised form → the ids it may mean, from names and their ids. Whole names beat tails of
    names."""
    whole: dict[str, set[str]] = {}
    tails: dict[str, set[str]] = {}
    for name, model_id in names:
        for position, form in enumerate(_forms_of(name)):
            (tails if position else whole).setdefault(form, set()).add(model_id)
    return {form: tuple(sorted(ids)) for form, ids in (tails | whole).items()}


def _short(name: str) -> str:
    """The name in quotes, cut to a length that suits a message."""
    return f"'{name}'" if len(name) <= 80 else f"'{name[:77]}...'"


def _listed(names: Iterable[str], word: str = "and") -> str:
    """``'a', 'b' and 'c'``; past MAX_LISTED only a count."""
    quoted = [_short(name) for name in names]
    if len(quoted) > MAX_LISTED:
        return f"{', '.join(quoted[:MAX_LISTED])} and {len(quoted) - MAX_LISTED} more"
    return f" {word} ".join(filter(None, [", ".join(quoted[:-1]), *quoted[-1:]]))
