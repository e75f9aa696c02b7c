"""YAML text in, plain values by the schema out; every complaint has its line.

PyYAML composes the text into nodes (``yaml.compose``: no tag is ever executed, and each node knows
its line). We walk these nodes along ``config.schema`` ourselves: what the schema does not expect is
never visited, so that YAML aliases cannot build bombs out of nested copies; the number of visits is
bounded as well, against wide ones.

WrongValueError values are reported and left out; the walk goes on, so that one run shows everything.
"""

from collections.abc import Callable
from typing import Final, NoReturn

import yaml

from homeport.config import instead
from homeport.config.kinds import (
    ANY_TEXT,
    FLAG,
    WORDS,
    Kind,
    ListOf,
    MapOf,
    Scalar,
    Section,
    Words,
)
from homeport.config.problems import KeyPath, Problems, WrongValueError, near
from homeport.config.schema import homes
from homeport.config.values import Place

MAX_VISITS: Final = 50_000
"""Nodes read from one file. A 1 MiB file without aliases stays well below; copies by alias do not."""

_TAG: Final = "tag:yaml.org,2002:"
_NULL: Final = _TAG + "null"
_STRING: Final = _TAG + "str"
_MERGE: Final = _TAG + "merge"
_PLAIN_TAGS: Final = frozenset(
    _TAG + name
    for name in ["str", "int", "float", "bool", "null", "timestamp", "value", "map", "seq"]
)
"""What YAML itself makes of untagged text; anything else was written as ``!tag`` by the user."""


Strangers = Callable[[KeyPath], None]
"""Is told of the keys that the schema does not have."""


class _SkippedError(Exception):
    """The value is left out: it is not set, or it was wrong and has been reported."""


class _TooManyError(Exception):
    """MAX_VISITS is used up."""


def decode(
    data: bytes,
    schema: Section,
    place: Place,
    problems: Problems,
    strangers: Strangers | None = None,
) -> dict[str, object]:
    """The values of a whole file. What is wrong goes to ``problems``.

    ``strangers`` is for files of other programs: unknown keys are not wrong then, and merge keys are
    understood.
    """
    root = _compose(data, problems)
    if root is None:
        return {}
    try:
        values = _Reader(place, problems, strangers).value(root, schema, ())
        assert isinstance(values, dict)  # that is what a Section reads as
        return values
    except _TooManyError:
        problems.add((), "the file is too large", f"at most {MAX_VISITS} values, copies included")
    except _SkippedError:
        pass
    return {}


def _compose(data: bytes, problems: Problems) -> yaml.Node | None:
    """The root node; None for an empty file and after a reported error."""
    try:
        text = data.decode("utf-8-sig")  # editors on Windows write a byte order mark
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problems.add((), "is not UTF-8 text", "save the file as UTF-8", line=line)
        return None
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = " ".join(filter(None, [error.context, error.problem])) or "cannot be read"
        hint = "use spaces, not tabs, to indent" if "\\t" in message else _syntax_hint(message)
        problems.add((), f"YAML: {message}", hint, line=mark.line + 1 if mark else None)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problems.add((), "YAML: holds a control character", "delete the character", line=line)
    except RecursionError:
        problems.add((), "YAML: nested too deeply", "write it flatter, as in the documentation")
    except (ValueError, OverflowError) as error:  # PyYAML on "\Uffffffff"
        problems.add((), f"YAML: {error}", "look for a wrong \\U escape")
    return None


def _syntax_hint(message: str) -> str:
    if "single document" in message:
        return "one document per file: delete the line '---' and what follows"
    if "alias" in message:  # PyYAML: "found undefined alias", "while scanning an alias"
        return "a pattern that begins with '*' needs quotes: '*-mini': qwen"
    return "look at this line and the one above: indentation, a missing ':' or an open quote"


class _Reader:
    """One walk. Every method takes a node, what it should be, and its key path."""

    def __init__(self, place: Place, problems: Problems, strangers: Strangers | None) -> None:
        self._place, self._problems, self._strangers = place, problems, strangers
        self._visits = 0

    def value(self, node: yaml.Node, kind: Kind, path: KeyPath) -> object:
        """The node as ``kind`` says; raises ``_SkippedError`` when there is no good value."""
        self._visits += 1
        if self._visits > MAX_VISITS:
            raise _TooManyError
        if node.tag not in _PLAIN_TAGS:
            self._wrong(path, f"has the tag {node.tag}", "tags (!...) are not used here; delete it")
        if not _is_text(node):
            self._wrong(
                path, "holds half a character", "write the character instead of \\u escapes"
            )
        match kind:
            case Scalar():
                return self._scalar(node, kind, path)
            case ListOf():
                return self._list(node, kind, path)
            case MapOf():
                return self._map(node, kind, path)
            case Words():
                return self._words(node, kind, path)
            case Section():
                return self._section(node, kind, path)

    def _section(self, node: yaml.Node, schema: Section, path: KeyPath) -> dict[str, object]:
        if schema.short and isinstance(node, yaml.ScalarNode) and not _is_null(node):
            key = schema.key(schema.short)
            assert key is not None
            return {key.name: self.value(node, key.kind, path)}
        result: dict[str, object] = {}
        written: set[str] = set()
        for name, child in self._pairs(node, path, schema):
            key = schema.key(name)
            if key is None:
                self._unknown(name, schema, path)
                continue
            if name != key.name and not self._problems.has((*path, key.name)):
                self._problems.note((*path, key.name), child.start_mark.line + 1)
            if key.name in written:
                message = f"'{key.name}' and '{key.also}' are the same key"
                self._problems.add(
                    (*path, name), message, f"keep '{key.name}' and delete the other"
                )
                continue
            if not _is_null(child):  # `sha256:` with nothing after it is missing, too
                written.add(key.name)
            try:
                result[key.name] = self.value(child, key.kind, (*path, name))
            except _SkippedError:
                continue
        for key in schema.keys:
            if key.required and key.name not in written:
                self._problems.add(path, f"'{key.name}' is missing", f"add {key.name}: ...")
        if any(k.required and k.name not in result for k in schema.keys):
            raise _SkippedError
        return result

    def _map(
        self, node: yaml.Node, kind: MapOf, path: KeyPath
    ) -> tuple[tuple[object, object], ...]:
        result: dict[object, object] = {}
        entry = ""
        for name, child in self._pairs(node, path, kind):
            here = (*path, name)
            try:
                if entry and instead.is_beside(name, child, kind):
                    message = f"'{name}' stands beside '{entry}', not in it"
                    self._wrong(here, message, f"indent it two spaces more than '{entry}:'")
                entry = name
                key = self._checked(name, kind.key, here)
                if key in result:
                    self._wrong(here, f"'{key}' is here already, by another name", "keep one")
                result[key] = self._member(child, kind.item, here)
            except _SkippedError:
                continue
        return tuple(result.items())

    def _list(self, node: yaml.Node, kind: ListOf, path: KeyPath) -> tuple[object, ...]:
        if _is_null(node):
            return ()
        if kind.one_ok and isinstance(node, yaml.ScalarNode):
            return (self.value(node, kind.item, path),)
        if not isinstance(node, yaml.SequenceNode):
            message = f"must be a list, is {_called(node)}"
            self._wrong(path, message, instead.of_list(node, kind))
        result: list[object] = []
        for position, child in enumerate(node.value):
            here = (*path, position)
            self._problems.note(here, child.start_mark.line + 1)
            try:
                item = self._member(child, kind.item, here)
            except _SkippedError:
                continue
            result.append((position, item) if kind.numbered else item)
        return tuple(result)

    def _words(self, node: yaml.Node, kind: Words, path: KeyPath) -> tuple[object, ...]:
        if isinstance(node, yaml.ScalarNode) and not _is_null(node):
            split = self._scalar(node, WORDS, path)
            assert isinstance(split, tuple)
            return split
        if kind.flags and isinstance(node, yaml.MappingNode):
            return self._flags(node, path)
        return self._list(node, ListOf(ANY_TEXT), path)

    def _flags(self, node: yaml.Node, path: KeyPath) -> tuple[object, ...]:
        """``{max_model_len: 8192, enforce_eager: true}`` → what a command line has instead."""
        result: list[object] = []
        for name, child in self._pairs(node, path):
            try:
                flag = self._checked(name, FLAG, (*path, name))
                values: tuple[object, ...] = ()
                if not isinstance(child, yaml.ScalarNode):
                    values = self._list(child, ListOf(ANY_TEXT), (*path, name))
                elif child.value == "false" and child.tag != _STRING:
                    continue
                elif not _is_null(child) and (child.value != "true" or child.tag == _STRING):
                    values = (self.value(child, ANY_TEXT, (*path, name)),)
            except _SkippedError:
                continue
            result += (flag, *values)
        return tuple(result)

    def _member(self, node: yaml.Node, kind: Kind, path: KeyPath) -> object:
        """An item of a list or map: unlike a section's key, it cannot just be left out."""
        if isinstance(kind, Scalar) and _is_null(node):
            self._wrong(path, "has no value", 'write one; "" is empty text')
        return self.value(node, kind, path)

    def _scalar(self, node: yaml.Node, kind: Scalar, path: KeyPath) -> object:
        if _is_null(node):  # `key:` with nothing after it: as if it were not there
            raise _SkippedError
        if not isinstance(node, yaml.ScalarNode):
            message = f"must be a single value ({kind.says}), is {_called(node)}"
            self._wrong(path, message, "write one value after the ':'")
        return self._checked(node.value, kind, path)

    def _checked(self, text: str, kind: Scalar, path: KeyPath) -> object:
        try:
            return kind.read(text, self._place)
        except WrongValueError as wrong:
            self._problems.add(path, wrong.message, wrong.hint)
            raise _SkippedError from wrong

    def _pairs(
        self, node: yaml.Node, path: KeyPath, kind: Section | MapOf | None = None
    ) -> list[tuple[str, yaml.Node]]:
        """A mapping's keys and value nodes; each key is noted with its line."""
        if _is_null(node):
            return []
        if not isinstance(node, yaml.MappingNode):
            what = "the file" if not path else "this"
            message = f"{what} must be a mapping, is {_called(node)}"
            self._wrong(path, message, instead.of_mapping(node, kind, path))
        result: dict[str, yaml.Node] = {}
        merged: list[yaml.Node] = []
        for key_node, child in node.value:
            self._visits += 1
            if self._visits > MAX_VISITS:
                raise _TooManyError
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode) or not _is_text(key_node):
                self._problems.add(path, "a key must be text", "write 'key: value'", line=line)
            elif key_node.tag == _MERGE and self._strangers is not None:
                merged += child.value if isinstance(child, yaml.SequenceNode) else [child]
            elif key_node.tag == _MERGE:
                self._problems.add(
                    path, "merge keys (<<) are not supported", "write the keys out", line=line
                )
            elif key_node.value in result:
                first = self._problems.line_of((*path, key_node.value))
                message = f"is here twice; the first is on line {first}"
                hint = "keep one: YAML would silently take the last"
                self._problems.add((*path, key_node.value), message, hint, line=line)
            else:
                result[key_node.value] = child
                self._problems.note((*path, key_node.value), line)
        for other in merged:  # what is written out wins, then the first that is merged
            for name, child in self._pairs(other, path):
                result.setdefault(name, child)
        return list(result.items())

    def _unknown(self, name: str, schema: Section, path: KeyPath) -> None:
        if self._strangers is not None:
            self._strangers((*path, name))
            return
        hint = near(name, schema.names())
        if (elsewhere := homes(name)) and not hint.startswith("did you mean"):
            hint = f"'{name}' belongs under '{elsewhere[0]}'"
        self._problems.add((*path, name), "unknown key", hint)

    def _wrong(self, path: KeyPath, message: str, hint: str) -> NoReturn:
        self._problems.add(path, message, hint)
        raise _SkippedError


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == _NULL


def _is_text(node: yaml.Node) -> bool:
    """False for a lone surrogate (``"\\ud800"``), which nothing could print or send."""
    try:
        if isinstance(node, yaml.ScalarNode):
            node.value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _called(node: yaml.Node) -> str:
    match node:
        case yaml.MappingNode():
            return "a mapping"
        case yaml.SequenceNode():
            return "a list"
        case _:
            return "a single value"
