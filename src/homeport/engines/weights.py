"""Which of the files at a model's path an engine loads.

A path is a file or a folder (``spec.ModelFiles``). Of a GGUF that was split, the first part names all
others: ``NAME-00001-of-00003.gguf`` (llama.cpp's ``llama-gguf-split``). A model that sees has its eyes
in a second GGUF beside it, the projector, which is always called ``mmproj…`` or ``…mmproj…``.
"""

import re
from posixpath import basename

from homeport.spec import ModelFiles

_PART = re.compile(r"(.*)-\d{5}-of-(\d{5})\.gguf", re.IGNORECASE | re.DOTALL)
_WEIGHTS = (".safetensors", ".gguf", ".npz", ".bin", ".pt", ".pth", ".engine")
"""In this order: a folder often has its weights twice, and engines take the first of these."""


def gguf(files: ModelFiles) -> str | None:
    """Return the GGUF that llama.cpp is started with (of a split one, its first part), by its name.

    In a folder, the first one by name that is no projector.
    """
    if not files.is_folder:
        name = basename(files.path)
        return name if name.lower().endswith(".gguf") else None
    names = (name for name, _ in files.names if name.lower().endswith(".gguf"))
    return min((name for name in names if not is_projector(name)), default=None)


def is_projector(name: str) -> bool:
    return "mmproj" in basename(name).lower() and name.lower().endswith(".gguf")


def projector(files: ModelFiles) -> str | None:
    """Return the projector beside the model: in the same folder, the largest one.

    (Repositories offer one projector in several precisions. Only one is loaded; the largest is the
    safe guess for memory and loses no sight.)
    """
    model = gguf(files)
    folder = model.rpartition("/")[0] if model else ""
    sizes = {
        size: name
        for name, size in files.names
        if is_projector(name) and name.rpartition("/")[0] == folder and name != model
    }
    return sizes[max(sizes)] if sizes else None


def parts(name: str, files: ModelFiles) -> tuple[str, ...]:
    """Return all files that the GGUF ``name`` consists of."""
    match = _PART.fullmatch(name)
    if match is None:
        return (name,)
    stem, count = match[1], match[2]
    others = (_PART.fullmatch(other) for other, _ in files.names)
    return tuple(sorted(o[0] for o in others if o and (o[1], o[2]) == (stem, count)))


def gguf_bytes(files: ModelFiles, *, with_projector: bool = True) -> int:
    """Return the size of what llama.cpp loads; 0 when there is no GGUF."""
    name = gguf(files)
    if name is None:
        return 0
    loaded = {*parts(name, files)}
    if with_projector and (eyes := projector(files)):
        loaded.add(eyes)
    return sum(size for other, size in files.names if other in loaded)


def folder_bytes(files: ModelFiles) -> int:
    """Return the size of the weights that the other engines load."""
    for suffix in _WEIGHTS:
        if size := sum(size for name, size in files.names if name.lower().endswith(suffix)):
            return size
    return 0
