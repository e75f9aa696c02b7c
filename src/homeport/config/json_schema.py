"""The configuration as a JSON Schema, for editors: made from the table in ``config.schema``.

Editors complete keys by it, show their manual, and underline what is wrong. It is draft 7, which the
YAML language server knows best. It says what can be said of one value at a time; what has to fit
together (``config.rules``), and what exists, only ``homeport config check`` knows.

homeport reads every value as text, whatever YAML makes of it (``config.values``), so a number in quotes
is as good as one without: the schema takes both.

``schema.json`` beside this module is the outcome, for programs that want a file; a test compares them.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from homeport.config import values
from homeport.config.kinds import ANY_TEXT, Key, Kind, ListOf, MapOf, Scalar, Section, Words
from homeport.config.profiles import PROFILE
from homeport.config.schema import ROOT

Fragment = dict[str, Any]

_PLAIN: Final = ["string", "number", "boolean"]
"""What is text to us: YAML makes numbers and truths of some."""
_TEXT: Final[Fragment] = {"type": _PLAIN}
_WHOLE: Final = r"^[+-]?[0-9][0-9_]*$"


def _number(least: int, most: int | None = None) -> Fragment:
    bounds = {"minimum": least} | ({} if most is None else {"maximum": most})
    return {
        "anyOf": [{"type": "integer", **bounds}, {"type": "string", "pattern": _WHOLE}],
    }


def _words(known: tuple[str, ...]) -> Fragment:
    return {"enum": list(known)}


def _like(pattern: str) -> Fragment:
    return {"type": "string", "pattern": pattern}


_SECONDS: Final[Fragment] = {
    "anyOf": [
        {"type": "number", "exclusiveMinimum": 0},
        _like(r"^\s*[0-9_.eE+-]+\s*([mM]?[sS]|[mMhHdD])?\s*$"),
    ]
}

_SIZE: Final = _like(r"^\s*[0-9]+\s*([kKmMgG]?[iI]?[bB])?\s*$")

FRAGMENTS: Final[Mapping[Callable[..., object], Fragment]] = {
    values.header_name: _TEXT,
    values.request_field: _words(values.REQUEST_FIELDS),
    values.request_value: _TEXT,
    values.weight: _TEXT,
    values.via: _words(("native", "litellm")),
    values.times: _number(0),
    values.text: _TEXT,
    values.any_text: _TEXT,
    values.boolean: {
        "anyOf": [
            {"type": "boolean"},
            _like(
                r"^([tT][rR][uU][eE]|[fF][aA][lL][sS][eE]|[yY][eE][sS]|[nN][oO]|[oO]([nN]|[fF][fF]))$"
            ),
        ]
    },
    values.port: _number(1, 65535),
    values.count: _number(1),
    values.seconds: _SECONDS,
    values.seconds_or_zero: {"anyOf": [{"const": 0}, *_SECONDS["anyOf"]]},
    values.size: {"anyOf": [{"type": "integer", "minimum": 1}, _SIZE]},
    values.size_or_zero: {"anyOf": [{"type": "integer", "minimum": 0}, _SIZE]},
    values.host: {"type": "string"},
    values.origin: _like(r"^https?://"),
    values.base_url: _like(r"^\s*https?://"),
    values.site: _like(r"^\s*https?://"),
    values.sha256: _like(r"^[0-9a-fA-F]{64}$"),
    values.secret: _TEXT,
    values.regex: _TEXT,
    values.database: _TEXT,
    values.path: _TEXT,
    values.hub_id: _like(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][^\s]*$"),
    values.executable: _TEXT,
    values.engine: _words((*values.ENGINES, *values.ALSO_ENGINES)),
    values.backend: _words((*values.BACKENDS, *values.ALSO_ENGINES)),
    values.dialect: _words(values.DIALECTS),
    values.runner: _words(values.RUNNERS),
    values.image: {"type": "string"},
    values.image_type: _words(values.IMAGE_TYPES),
    values.image_tag: _TEXT,
    values.sleep_level: {"enum": [1, 2, "1", "2"]},
    values.model_id: _TEXT,
    values.alias_pattern: _TEXT,
    values.variable_name: _like(r"^[A-Za-z_][A-Za-z0-9_]*$"),
}
"""By reader: what an editor can check of it."""


def json_schema() -> Fragment:
    """The whole configuration file."""
    return _whole("homeport configuration", ROOT)


def of_profiles() -> Fragment:
    """A profile: what it may have of that. Whether a model has a source, only both files together
    know."""
    return _whole("homeport profile", PROFILE)


def _whole(title: str, root: Section) -> Fragment:
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": title, **_of(root)}


def _of(kind: Kind) -> Fragment:
    match kind:
        case Scalar():
            return dict(FRAGMENTS[kind.read])
        case ListOf():
            items: Fragment = {"type": "array", "items": _of(kind.item)}
            return {"anyOf": [_of(kind.item), items]} if kind.one_ok else items
        case MapOf():
            return _map(kind)
        case Words():
            return _command_line(kind)
        case Section():
            return _section(kind)


def _map(kind: MapOf) -> Fragment:
    """Its keys are text whatever YAML thinks, so that only their form can be wrong."""
    key = FRAGMENTS[kind.key.read]
    names = {"propertyNames": key} if "type" not in key or key["type"] == "string" else {}
    return {"type": "object", **names, "additionalProperties": _of(kind.item)}


def _command_line(kind: Words) -> Fragment:
    """A list, one text, or flags with their values; a flag alone has none."""
    word = _of(ANY_TEXT)
    forms: list[Fragment] = [{"type": _PLAIN}, {"type": "array", "items": word}]
    if kind.flags:
        value = {"anyOf": [{"type": [*_PLAIN, "null"]}, {"type": "array", "items": word}]}
        forms.append({"type": "object", "additionalProperties": value})
    return {"anyOf": forms}


def _section(kind: Section) -> Fragment:
    properties: Fragment = {}
    for key in kind.keys:
        for name in filter(None, (key.name, key.also)):
            properties[name] = _key(key)
    required = [key.name for key in kind.keys if key.required]
    found: Fragment = {"type": "object", "properties": properties, "additionalProperties": False}
    if required:
        found["required"] = required
    if kind.one_of:
        found["anyOf"] = [{"required": [name]} for name in kind.one_of]
    whole = found if required or kind.one_of else _or_nothing(found)
    short = kind.key(kind.short) if kind.short else None
    return whole if short is None else {"anyOf": [_of(short.kind), whole]}


def _key(key: Key) -> Fragment:
    fragment = _of(key.kind)
    text = re.sub(r"`([^`]*)`", r"\1", key.doc)
    default = f" Default: {key.default}." if key.default else ""
    return {
        "description": text + default,
        **(fragment if key.required else _or_nothing(fragment)),
    }


def _or_nothing(fragment: Fragment) -> Fragment:
    """A key with nothing after it counts as left out."""
    match fragment:
        case {"type": str(one), **rest} if one != "null":
            return {"type": [one, "null"], **rest}
        case {"type": [*some], **rest}:
            return {"type": list(dict.fromkeys([*some, "null"])), **rest}
        case {"enum": [*some], **rest}:
            return {"enum": [*some, None], **rest}
        case {"anyOf": [*some], **rest}:
            return {"anyOf": [*some, {"type": "null"}], **rest}
    raise AssertionError(f"a form of schema that nobody thought of: {fragment}")
