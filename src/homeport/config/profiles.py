"""Profiles: named sets of settings that are put over the configuration, ``profiles/NAME.yaml``.

A profile has the keys of the configuration, and a ``description``. How the two become one:

1. A value or a list of the profile takes the place of the configuration's.
2. A section is merged key by key, and a mapping whose names the user chooses name by name: ``models``,
   ``aliases``, ``env``. Names that only the profile has come first, since order decides where nothing
   else does: which model is the default, which of two patterns of equal length is taken.
3. A model's source (``path``, ``hub``, ``command``, ``upstream``) takes the place of another source,
   and what does not go with the new one is left out.
4. Two things are one value each (``WHOLE``): what stands behind a route, since a deployment that the
   profile does not name would go on getting its share of the requests; and ``web_search``, since there
   is one service.

Nothing can be taken away but a list's items; names that nobody asks for cost nothing. What is about the
machine, or about who may come in, is not a profile's to say (``REFUSED``).

Each file is read by itself, with its own lines; rules between settings see the outcome only, and
``Layers`` knows which of the files a complaint belongs to. No I/O here: ``config.load`` reads the
files.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from msgspec.structs import replace

from homeport.config.kinds import TEXT, Key, Kind, MapOf, Section
from homeport.config.model_keys import MODEL, ROUTE
from homeport.config.model_rules import SOURCES
from homeport.config.problems import KeyPath, Problems, near
from homeport.config.schema import ROOT
from homeport.errors import ConfigError

FOLDER: Final = "profiles"
ENDING: Final = ".yaml"
VARIABLE: Final = "HOMEPORT_PROFILE"
"""The profile's name, where no flag says it."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

_WHERE: Final = "says where homeport listens"
_WHO: Final = "says who may come in"
REFUSED: Final[Mapping[tuple[str, ...], str]] = {
    ("server", "host"): _WHERE,
    ("server", "port"): _WHERE,
    ("server", "keys"): _WHO,
    ("server", "master_key"): _WHO,
    ("server", "metrics_token"): _WHO,
    ("server", "allowed_hosts"): _WHO,
    ("server", "allowed_origins"): _WHO,
    ("litellm", "host"): "says where LiteLLM listens",
    ("litellm", "port"): "says where LiteLLM listens",
    ("store",): "says what is remembered, and where",
}
"""Keys of the configuration that no profile has: they hold whatever is served."""

WHOLE: Final = tuple(filter(None, (ROUTE.key("models"), ROOT.key("web_search"))))
"""Keys that are one value, though they look like many."""

DESCRIPTION: Final = Key(
    name="description",
    kind=TEXT,
    default="none",
    doc="What the profile is for, in a line; `homeport profiles list` shows it.",
    example="coding, with the big model for opus",
)


def _allowed(section: Section, path: tuple[str, ...] = ()) -> Section:
    """The section less what is refused. A model needs no source here: it may have one already."""
    keys = []
    for key in section.keys:
        here = (*path, key.name)
        kind = key.kind
        if here in REFUSED:
            continue
        if isinstance(kind, Section):
            kind = _allowed(kind, here)
        elif isinstance(kind, MapOf) and isinstance(kind.item, Section):
            kind = MapOf(kind.key, replace(kind.item, one_of=()))
        keys.append(replace(key, kind=kind))
    return Section(tuple(keys), section.one_of, section.short)


READ: Final = Section((DESCRIPTION, *ROOT.keys))
"""A profile is read by this: what is refused is known, so that its complaint can say more."""
PROFILE: Final = Section((DESCRIPTION, *_allowed(ROOT).keys))
"""What a profile may have."""


def name_problem(name: str, where: str) -> ConfigError | None:
    """Refuses what is no file's name everywhere, or leads out of the folder."""
    if _NAME.fullmatch(name):
        return None
    hint = "use letters, digits, '-', '_' and '.', and a letter or digit first"
    return ConfigError(f"'{name}' is no name of a profile", where=where, hint=hint)


def missing(name: str, known: Iterable[str], folder: str, where: str) -> ConfigError:
    """There is no such profile; which there are."""
    names = sorted(known)
    guess = near(name, names)
    if not names:
        hint = f"there are none in {folder}; `homeport profiles new {name}` writes one"
    elif guess.startswith("did you mean"):
        hint = f"{guess} There are: {', '.join(names)} (in {folder})"
    else:
        hint = f"there are: {', '.join(names)} (in {folder}); `homeport profiles new` writes one"
    return ConfigError(f"there is no profile '{name}'", where=where, hint=hint)


# --------------------------------------------------------------------------- one over the other


class Layer(NamedTuple):
    """What a file says, by the names of the table, and where it says it."""

    found: Mapping[str, object]
    problems: Problems


def refuse(profile: Layer, config: str) -> None:
    """Complains of the keys that no profile has; ``config`` is the file where they belong."""
    for path, why in REFUSED.items():
        if profile.problems.has(path):
            message = f"{why}, which is the same with every profile"
            profile.problems.add(path, message, f"write it into {config}")


def over(config: Layer, profile: Layer) -> tuple[dict[str, object], Problems]:
    """The two as one, and who is told what is wrong with it."""
    merge = _Merge()
    found = merge.section(ROOT, config.found, profile.found, ())
    return found, Layers(config.problems, profile.problems, frozenset(merge.hidden))


class _Merge:
    """One merge. ``hidden`` are the places of the configuration that have no effect any more."""

    def __init__(self) -> None:
        self.hidden: set[KeyPath] = set()

    def section(
        self, kind: Section, old: Mapping[str, Any], new: Mapping[str, Any], path: KeyPath
    ) -> dict[str, object]:
        result = dict(old)
        if kind is MODEL:
            for name in _left_out(old, new):
                self.hidden.add((*path, name))
                del result[name]
        for key in kind.keys:
            if key.name not in new:
                continue
            here = (*path, key.name)
            if key.name not in result or key in WHOLE:
                self.hidden.add(here)
                result[key.name] = new[key.name]
            else:
                result[key.name] = self._value(key.kind, result[key.name], new[key.name], here)
        return result

    def _value(self, kind: Kind, old: Any, new: Any, path: KeyPath) -> object:
        match kind:
            case Section():
                return self.section(kind, old, new, path)
            case MapOf():
                return self._names(kind.item, dict(old), dict(new), path)
            case _:
                self.hidden.add(path)
                return new

    def _names(
        self, kind: Kind, old: dict[str, object], new: dict[str, object], path: KeyPath
    ) -> tuple[tuple[str, object], ...]:
        first = tuple((name, value) for name, value in new.items() if name not in old)
        rest = (
            (name, self._value(kind, value, new[name], (*path, name)) if name in new else value)
            for name, value in old.items()
        )
        return (*first, *rest)


def _left_out(old: Mapping[str, object], new: Mapping[str, object]) -> list[str]:
    """The keys of a model that do not go with the source that its profile names."""
    sources = {name for name in SOURCES if name in new}
    if not sources:
        return []
    there = sources | {name for name in ("via",) if name in {*old, *new}}
    return [
        key.name
        for key in MODEL.keys
        if key.name in old
        and (key.name in SOURCES or (key.only_with and not there & set(key.only_with)))
    ]


class Layers(Problems):
    """What is wrong with the outcome: each complaint goes to the file that says the thing."""

    def __init__(self, config: Problems, profile: Problems, hidden: frozenset[KeyPath]) -> None:
        super().__init__(profile.file)
        self._config, self._profile, self._hidden = config, profile, hidden

    def has(self, path: KeyPath) -> bool:
        return self._profile.has(path) or self._is_in_effect(path)

    def line_of(self, path: KeyPath) -> int:
        return self._holder(path).line_of(path)

    def add(self, path: KeyPath, message: str, hint: str, *, line: int | None = None) -> None:
        self._holder(path).add(path, message, hint, line=line)

    @property
    def errors(self) -> list[ConfigError]:
        return [*self._config.errors, *self._profile.errors]

    def _is_in_effect(self, path: KeyPath) -> bool:
        """Whether the configuration has it, and the profile nothing in its place."""
        starts = (path[:length] for length in range(1, len(path) + 1))
        return self._config.has(path) and not any(start in self._hidden for start in starts)

    def _holder(self, path: KeyPath) -> Problems:
        """Who has the key, or the nearest one around it."""
        while path:
            if self._profile.has(path):
                return self._profile
            if self._is_in_effect(path):
                return self._config
            path = path[:-1]
        return self._profile
