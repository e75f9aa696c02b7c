"""Which of the files at a model's path an engine loads.

A path is a file or a folder (``facts.ModelFiles``). Of a GGUF that was split, the first part names all
others: ``NAME-00001-of-00003.gguf`` (llama.cpp's ``llama-gguf-split``). A model that sees has its eyes
in a second GGUF beside it, the projector, which is always called ``mmproj…`` or ``…mmproj…``.
"""

import re
from posixpath import basename

from homeport.facts import ModelFiles

_PART = re.compile(r"(.*)-\d{5}-of-(\d{5})\.gguf", re.IGNORECASE | re.DOTALL)
_PRECISION = re.compile(
    r"(?:^|[-_.])(?:ud[-_])?(?:i?q\d\w*|tq\d\w*|bf16|fp?16|fp?32|mxfp4\w*)$", re.IGNORECASE
)
_WEIGHTS = (".safetensors", ".gguf", ".npz", ".bin", ".pt", ".pth", ".engine")
"""In this order: a folder often has its weights twice, and engines take the first of these."""


def gguf(files: ModelFiles) -> str | None:
    """Return the GGUF that llama.cpp is started with (of a split one, its first part), by its name.

    In a folder, the first one by name that is no projector.
    """
    if not files.is_folder:
        name = basename(files.path)
        return name if name.lower().endswith(".gguf") else None
    return min(ggufs(files), default=None)


def ggufs(files: ModelFiles) -> tuple[str, ...]:
    """Return all GGUFs there that are no projector."""
    names = (name for name, _ in files.names if name.lower().endswith(".gguf"))
    return tuple(name for name in names if not is_projector(name))


def is_projector(name: str) -> bool:
    return "mmproj" in basename(name).lower() and name.lower().endswith(".gguf")


def projector(files: ModelFiles) -> str | None:
    """Return the model's projector: in the same folder, the largest one.

    (Repositories offer one projector in several precisions. Only one is loaded; the largest is the
    safe guess for memory and loses no sight.)

    With another model's projector llama.cpp does not start. So it has to bear the model's name, or
    none while there is one model only: ``mmproj-F16.gguf``.
    """
    model = gguf(files)
    if model is None:
        return None
    folder = model.rpartition("/")[0]
    named = _stem(model)
    is_alone = {_stem(name) for name in ggufs(files)} <= {named}
    sizes = {
        size: name
        for name, size in files.names
        if is_projector(name)
        and name.rpartition("/")[0] == folder
        and name != model
        and (is_alone if (stem := _stem(name)) in ("", "model") else stem in named or named in stem)
    }
    return sizes[max(sizes)] if sizes else None


def _stem(name: str) -> str:
    """The model's name in a file's name: without what says part, precision and projector."""
    stem = _PART.sub(r"\1.gguf", basename(name)).lower().removesuffix(".gguf")
    return _PRECISION.sub("", re.sub(r"[-_.]?mmproj[-_.]?", "", stem))


def parts(name: str, files: ModelFiles) -> tuple[str, ...]:
    """Return all files that the GGUF ``name`` consists of."""
    match = _PART.fullmatch(name)
    if match is None:
        return (name,)
    stem, count = match[1], match[2]
    others = (_PART.fullmatch(other) for other, _ in files.names)
    return tuple(sorted(o[0] for o in others if o and (o[1], o[2]) == (stem, count)))


def part_count(name: str) -> int:
    """Return how many files the GGUF ``name`` consists of, by what its name says."""
    match = _PART.fullmatch(name)
    return int(match[2]) if match else 1


def loaded(files: ModelFiles, *, with_projector: bool = True) -> tuple[str, ...]:
    """Return the files that llama.cpp loads; none when there is no GGUF."""
    name = gguf(files)
    if name is None:
        return ()
    eyes = projector(files) if with_projector else None
    return (*(parts(name, files) or (name,)), *((eyes,) if eyes else ()))


def gguf_bytes(files: ModelFiles, *, with_projector: bool = True) -> int:
    """Return the size of what llama.cpp loads; 0 when there is no GGUF."""
    wanted = {*loaded(files, with_projector=with_projector)}
    return sum(size for name, size in files.names if name in wanted)


def folder_bytes(files: ModelFiles) -> int:
    """Return the size of the weights that the other engines load."""
    for suffix in _WEIGHTS:
        if size := sum(size for name, size in files.names if name.lower().endswith(suffix)):
            return size
    return 0
