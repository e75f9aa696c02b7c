"""Reading what lies at a model's path, as the engines judge it (``facts.ModelFiles``).

What is there may be anything, a home folder too: so the names are bounded in number and depth, and of
each file only a beginning is read. Nothing is loaded, and nothing outside the path but the neighbours
of a single file, which may be its other parts.
"""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from homeport.engines import gguf, weights
from homeport.engines.answers import decoded
from homeport.errors import ConfigError
from homeport.facts import MIB, ModelFiles

NAMES: Final = 4096
"""The largest models have some hundred files."""
DEPTH: Final = 2
"""Folders below the model's: repositories keep each quantisation in one of its own."""
STEP_BYTES: Final = MIB
JSON_BYTES: Final = 8 * MIB
"""``tokenizer_config.json`` with all its added tokens has up to 2 MB."""
TENSORS_BYTES: Final = 64 * 1024
"""Of a safetensors file: its header is JSON, and begins with what is wanted."""
FILES_KNOWN: Final = 256

_METADATA = re.compile(rb'"__metadata__"\s*:\s*(\{[^{}]*\})')


def model_files(path: str) -> ModelFiles:
    """Read what lies at ``path``. Raises ``ConfigError`` when it cannot be read."""
    try:
        found = _folder(Path(path)) if os.path.isdir(path) else _file(Path(path))
        return msgspec.structs.replace(found, least_bytes=tuple(_least_bytes(found)))
    except OSError as error:
        raise ConfigError(f"cannot read the model: {error.strerror}", where=path) from error


def _file(path: Path) -> ModelFiles:
    """Itself first, then its neighbours."""
    head, size = _gguf_head(path), path.stat().st_size
    near = (entry for entry in _entries(path.parent, 0) if entry[0] != path.name)
    names = ((path.name, size), *islice(near, NAMES))
    return ModelFiles(path=str(path), names=names, head=head)


def _folder(path: Path) -> ModelFiles:
    names = tuple(sorted(islice(_entries(path, DEPTH), NAMES)))
    first = {
        suffix: next((path / name for name, _ in names if name.lower().endswith(suffix)), None)
        for suffix in (".gguf", ".safetensors")
    }
    config = _json(path / "config.json")
    return ModelFiles(
        path=str(path),
        is_folder=True,
        names=names,
        head=_gguf_head(first[".gguf"]) if first[".gguf"] else b"",
        config=config if isinstance(config, dict) else None,
        chat_template=_chat_template(path),
        format=_format(first[".safetensors"]) if first[".safetensors"] else None,
    )


def _entries(folder: Path, depth: int, above: str = "") -> Iterator[tuple[str, int]]:
    """Names and sizes, without what is hidden; links are followed to files, and not to folders."""
    below = []
    with os.scandir(folder) as found:
        for entry in found:
            if entry.name.startswith("."):
                continue
            try:
                if entry.is_dir(follow_symlinks=False):
                    below.append(entry.name)
                elif entry.is_file():
                    yield above + entry.name, entry.stat().st_size
            except OSError:  # gone meanwhile, or a link to nowhere
                continue
    if depth:
        for name in sorted(below):
            try:
                yield from _entries(folder / name, depth - 1, f"{above}{name}/")
            except OSError:  # not ours to look into
                continue


class _Extent(NamedTuple):
    """How far a file goes, as it says itself."""

    head_bytes: int
    """Its metadata and the table of its tensors take so many at most."""
    least_bytes: int | None = None
    """A whole one has at least so many; None where that is not known."""


def _gguf_head(path: Path) -> bytes:
    """As much as the metadata takes; of any other file the first bytes."""
    with path.open("rb") as file:
        return file.read(_extent(path, _which(os.fstat(file.fileno()))).head_bytes)


def _least_bytes(files: ModelFiles) -> Iterator[tuple[str, int]]:
    """Of each GGUF that would be loaded; of a file that is called otherwise, as in Ollama's store,
    too."""
    folder = Path(files.path) if files.is_folder else Path(files.path).parent
    names = weights.loaded(files)
    if not names and not files.is_folder:
        names = (Path(files.path).name,)
    for name in names[:FILES_KNOWN]:
        with suppress(OSError):  # gone meanwhile
            least = _extent(folder / name, _which((folder / name).stat())).least_bytes
            if least is not None:
                yield name, least


def _which(now: os.stat_result) -> tuple[int, ...]:
    return now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns


@lru_cache(maxsize=FILES_KNOWN)
def _extent(path: Path, which: tuple[int, ...]) -> _Extent:
    """Known of ``which`` file it was, since each start of a model asks: a vocabulary of a hundred
    thousand words takes 50 ms to walk over."""
    with path.open("rb") as file:
        head = file.read(STEP_BYTES)
        while head.startswith(b"GGUF") and len(head) <= gguf.METADATA_BYTES:
            try:
                facts = gguf.read(head)
            except ConfigError:  # told by whoever wants to know more than its first bytes
                break
            missing = facts.missing_bytes
            if missing is None:
                return _Extent(len(head), facts.least_bytes)
            more = file.read(max(missing, len(head)))  # few passes over it
            if not more:  # it ends before its tensors begin
                return _Extent(len(head), len(head) + missing)
            head += more
    return _Extent(len(head))


def _chat_template(folder: Path) -> str | None:
    """1. A file of its own (transformers since 4.50).
    2. In ``chat_template.json``, as models have it that see.
    3. In ``tokenizer_config.json``: a text, or a list of named ones, of which the one for tools
       tells most."""
    try:
        with (folder / "chat_template.jinja").open("rb") as file:  # 1.
            return file.read(MIB).decode(errors="replace")
    except OSError:
        pass
    for name in ("chat_template.json", "tokenizer_config.json"):  # 2., 3.
        config = _json(folder / name)
        template: Any = config.get("chat_template") if isinstance(config, dict) else None
        if isinstance(template, list):
            named = {t.get("name"): t.get("template") for t in template if isinstance(t, dict)}
            template = named.get("tool_use") or named.get("default")
        if isinstance(template, str):
            return template
    return None


def _format(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            head = file.read(TENSORS_BYTES)
    except OSError:
        return None
    found = _METADATA.search(head)
    metadata = decoded(found[1]) if found else None
    value = metadata.get("format") if isinstance(metadata, dict) else None
    return value if isinstance(value, str) else None


def _json(path: Path) -> Any:
    """None for what is missing, too long or no JSON."""
    try:
        with path.open("rb") as file:
            body = file.read(JSON_BYTES + 1)
    except OSError:
        return None
    return decoded(body) if len(body) <= JSON_BYTES else None
