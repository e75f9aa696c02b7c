"""What the ways to start an engine have in common: the words in which each engine's file tells its own.

A ``Start`` has everything about one engine: which files are for it, its executable, its arguments, its
image. ``engines.starting`` makes a ``Command`` of it, for a process or for a container; the arguments
are the same, but for the place: a container listens on all of its own addresses, and sees the model
elsewhere.

Arguments come as groups, a flag with its values. What the user's ``args`` set is left out of ours
(``with_args``): an engine that checks a value refuses ours even where theirs follows.
"""

import posixpath
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from homeport.engines import flags
from homeport.facts import EngineName, Machine, ModelFiles
from homeport.settings import ModelSettings

Group = tuple[str, ...]
"""A flag with its values, or positional words."""

LOOPBACK: Final = "127.0.0.1"
ANYWHERE: Final = "0.0.0.0"
"""Inside a container, whose port is published on loopback."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where the engine runs, as it sees that itself."""

    host: str = LOOPBACK
    port: int
    model: str
    """A path, or a name on the hub."""

    @property
    def parent(self) -> "Place":
        """The same, for the folder that ``model`` lies in."""
        return msgspec.structs.replace(self, model=posixpath.dirname(self.model) or ".")

    def beside(self, name: str) -> str:
        """Return the path of a file of the folder that ``model`` is."""
        return posixpath.join(self.model, name)


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """The container image of an engine, and what its documentation wants of ``docker run``."""

    name: str
    version: str
    """The tag."""
    entry: tuple[str, ...] = ()
    """Executable and first words inside; the image's own entry point when empty."""
    cpu: tuple[str, str] | None = None
    """Another name and tag for machines without a CUDA device; None: it does not run there."""
    options: Group = ()

    def reference(self, machine: Machine, name: str | None, version: str | None) -> str:
        """Return the image with its tag; ``name`` and ``version`` are the user's.

        A name of the user's that has a tag or a digest is taken as it is.
        """
        usual = (self.name, self.version) if machine.gpus or self.cpu is None else self.cpu
        if name is not None and version is None:
            tail = name.rpartition("/")[2]
            return name if ":" in tail or "@" in tail else f"{name}:{usual[1]}"
        return f"{name or usual[0]}:{version or usual[1]}"


Recognises = Callable[[ModelFiles, Machine], bool]
Arguments = Callable[[ModelSettings, ModelFiles | None, Machine, Place], Iterable[Group]]


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """How one engine is started."""

    engine: EngineName
    recognises: Recognises
    """Whether the files are a model for it, on this machine."""
    arguments: Arguments
    """Raises ``ConfigError`` for settings that it cannot follow."""
    script: str
    """Its executable, by the name that it has on the PATH."""
    words: Group = ()
    """What comes first behind it."""
    module: str = ""
    """The Python module that does the same (``python -m``)."""
    module_words: Group = ()
    install: str
    """How to get it, for an error's hint."""
    key_env: str | None = None
    """The variable that takes the API key: everyone on a machine can read a command line."""
    key_flag: str | None = None
    """For an engine without such a variable."""
    env: Callable[[ModelSettings], dict[str, str]] = lambda _: {}
    known_as: Callable[[ModelSettings, Place], str | None] = lambda model, _: model.id
    """The name under which it will know the model; None where it decides by itself."""
    answers_busy: bool = True
    """Whether its probe is answered while it computes."""
    child: str | None = None
    """A program of ours, for the engine's own Python: its server, and what that lacks. Told the context
    first, 0 for one that is not known. Only with it is there a key."""
    context: Callable[[ModelSettings, ModelFiles | None], int | None] = lambda model, files: None
    """The context that it will have, where it cannot tell itself."""
    image: Image | None = None

    def prefix(self, binary: str, context: int | None = None, python: str | None = None) -> Group:
        """Return the beginning of the command line; ``binary`` may be a Python that has it, ``python``
        is the one that it runs in, where that is known."""
        if self.child is not None and python is not None:
            return (python, self.child, str(context or 0))
        if self.module and binary.rpartition("/")[2].startswith("python"):
            return (binary, "-m", self.module, *self.module_words)
        return (binary, *self.words)


def with_args(groups: Iterable[Group], args: Sequence[str]) -> tuple[str, ...]:
    """Return all of ``groups`` that ``args`` do not set themselves, then ``args``."""
    ours = (group for group in groups if not flags.names(args) & flags.names(group))
    return (*(word for group in ours for word in group), *args)
