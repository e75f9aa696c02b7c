"""What the table of keys is made of: rows, sections, and the kinds of values.

A ``Scalar`` has its reader in ``config.values``, which is the check.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from homeport.config import values


class Scalar(msgspec.Struct, frozen=True):
    """One value: what the reference calls it, and the reader that checks it."""

    says: str
    read: Callable[[str, values.Place], object]


class ListOf(msgspec.Struct, frozen=True):
    """A list; with ``one_ok`` a single value may stand for a list of one. With ``numbered`` it is read
    as ``(position, item)`` pairs, since wrong items are left out."""

    item: "Kind"
    one_ok: bool = False
    numbered: bool = False


class MapOf(msgspec.Struct, frozen=True):
    """A mapping whose keys the user chooses; read as ``(key, value)`` pairs in file order."""

    key: Scalar
    item: "Kind"


class Words(msgspec.Struct, frozen=True):
    """A command line: a list, or one text that is split as a shell would. With ``flags`` also a
    mapping of flags to values, as ``models.yaml`` files have it: ``true`` is the flag alone,
    ``false`` leaves it out."""

    flags: bool = False


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """One row: a key of a section."""

    name: str
    kind: "Kind"
    doc: str
    default: str = ""
    """As the reference shows it; the value itself is in ``homeport.settings``."""
    example: str = ""
    also: str = ""
    """A second spelling."""
    required: bool = False
    only_with: tuple[str, ...] = ()
    """Sibling keys; without one of them this one means nothing."""


class Section(msgspec.Struct, frozen=True):
    """A mapping with known keys."""

    keys: tuple[Key, ...]
    one_of: tuple[str, ...] = ()
    """At least one of these has to be there."""
    short: str = ""
    """The key that a single value in place of the mapping stands for."""
    bare: Callable[[str, str], str] | None = None
    """What to write instead of a single value; it gets the value, and a name where there is one."""

    def key(self, name: str) -> Key | None:
        return next((k for k in self.keys if name in (k.name, k.also)), None)

    def names(self) -> list[str]:
        return [k.name for k in self.keys] + [k.also for k in self.keys if k.also]


Kind = Scalar | ListOf | MapOf | Words | Section

TEXT: Final = Scalar("text", values.text)
ANY_TEXT: Final = Scalar("text", values.any_text)
WORDS: Final = Scalar("command line", values.words)
FLAG: Final = Scalar("flag", values.flag)
BOOLEAN: Final = Scalar("true or false", values.boolean)
PORT: Final = Scalar("number, 1 to 65535", values.port)
COUNT: Final = Scalar("whole number", values.count)
SECONDS: Final = Scalar("seconds", values.seconds)
SECONDS_OR_ZERO: Final = Scalar("seconds", values.seconds_or_zero)
SIZE: Final = Scalar("bytes, or a size as 64MiB", values.size)
SIZE_OR_ZERO: Final = Scalar("bytes, or a size as 64MiB, or 0", values.size_or_zero)
HOST: Final = Scalar("address or host name", values.host)
ORIGIN: Final = Scalar("origin", values.origin)
URL: Final = Scalar("http:// or https:// address", values.base_url)
SITE: Final = Scalar("http:// or https:// address", values.site)
SHA256: Final = Scalar("64 hexadecimal digits", values.sha256)
REGEX: Final = Scalar("regular expression", values.regex)
DATABASE: Final = Scalar("file, or postgresql:// address", values.database)
SECRET: Final = Scalar("text, ${NAME} or os.environ/NAME", values.secret)
PATH: Final = Scalar("file or folder", values.path)
HUB_ID: Final = Scalar("ORG/NAME or ORG/NAME:QUANT", values.hub_id)
EXECUTABLE: Final = Scalar("name on PATH, or file", values.executable)
ENGINE: Final = Scalar("engine", values.engine)
BACKEND: Final = Scalar("backend", values.backend)
DIALECT: Final = Scalar("dialect", values.dialect)
VIA: Final = Scalar("native or litellm", values.via)
RUNNER: Final = Scalar("process or container", values.runner)
IMAGE: Final = Scalar("container image", values.image)
IMAGE_TYPE: Final = Scalar("prebuilt or build", values.image_type)
IMAGE_TAG: Final = Scalar("image tag", values.image_tag)
SLEEP_LEVEL: Final = Scalar("1 or 2", values.sleep_level)
MODEL_ID: Final = Scalar("model", values.model_id)
GROUP_NAME: Final = Scalar("group", values.model_id)
PATTERN: Final = Scalar("name or pattern", values.alias_pattern)
VARIABLE: Final = Scalar("variable", values.variable_name)
HEADER: Final = Scalar("header", values.header_name)
REQUEST_FIELD: Final = Scalar("field", values.request_field)
REQUEST_VALUE: Final = Scalar("number or word", values.request_value)
WEIGHT: Final = Scalar("number", values.weight)
TIMES: Final = Scalar("whole number, or 0", values.times)
