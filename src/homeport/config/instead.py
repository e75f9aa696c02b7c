"""What to write instead of YAML that has the wrong shape: hints with the user's own names.

The shapes that people try are few: a list where each entry has a name, an entry's settings that are not
indented under it, a single value where there are several. Pure.
"""

from typing import Final

import yaml

from homeport.config.kinds import ListOf, MapOf, Section

NAMING: Final = ("name", "id", "model_name", "model")
"""Settings by which other programs' lists name an entry."""
SHOWN: Final = 3
LONGEST: Final = 60


def of_mapping(node: yaml.Node, kind: Section | MapOf | None, path: tuple[str | int, ...]) -> str:
    """Where there should be a mapping."""
    if not path:
        return "write 'key: value' lines, as 'models:' and below it"
    if isinstance(kind, MapOf) and isinstance(node, yaml.SequenceNode):
        names = [name for each in node.value[:SHOWN] if (name := _name(each))]
        if isinstance(kind.item, Section):
            first, *others = names or ["NAME"]
            more = f"; so for {', '.join(others)}" if others else ""
            below = f"a line '{first}:', and its settings indented below it"
            return f"write without '-': {below}{more}"
        return f"write without '-': '{names[0] if names else 'NAME'}: ...' lines"
    if isinstance(kind, Section) and isinstance(node, yaml.ScalarNode):
        if kind.bare is not None:
            return kind.bare(node.value, "")
        return f"write the settings on lines below it: {_some(kind)}"
    return "write 'key: value' lines"


def of_list(node: yaml.Node, kind: ListOf) -> str:
    """Where there should be a list."""
    bare = kind.item.bare if isinstance(kind.item, Section) else None
    if bare is not None and isinstance(node, yaml.ScalarNode):
        return bare(node.value, "")
    if bare is not None and isinstance(node, yaml.MappingNode) and node.value:
        name, value = _text(node.value[0][0]), _text(node.value[0][1])
        if isinstance(kind.item, Section) and kind.item.key(name):
            return f"put a '-' before '{name}:', and indent the lines below it"
        return bare(value, name)
    return "write [a, b], or one '- ...' line for each"


def is_beside(name: str, node: yaml.Node, kind: MapOf) -> bool:
    """A setting of an entry that stands where the entries do: it is not indented enough."""
    if not isinstance(kind.item, Section) or kind.item.short or isinstance(node, yaml.MappingNode):
        return False
    is_empty = isinstance(node, yaml.ScalarNode) and not node.value
    return kind.item.key(name) is not None and not is_empty


def _name(node: yaml.Node) -> str:
    """What an entry of a list is called; empty where that cannot be seen."""
    if not isinstance(node, yaml.MappingNode):
        return ""
    pairs = {_text(key): value for key, value in node.value}
    named = (_text(pairs[naming]) for naming in NAMING if naming in pairs)
    alone = next(iter(pairs), "") if len(pairs) == 1 else ""  # `- coder: {path: ...}`
    return next(filter(None, named), alone)


def _text(node: yaml.Node) -> str:
    """Of a single value that can be shown; else empty."""
    text = node.value if isinstance(node, yaml.ScalarNode) else ""
    return text if text.isprintable() and len(text) <= LONGEST else ""


def _some(section: Section) -> str:
    """Settings to begin with."""
    names = [key.name for key in section.keys if key.required] or list(section.one_of)
    names = names or [key.name for key in section.keys]
    return ", ".join(f"'{name}: ...'" for name in names[:SHOWN])
