"""Which files of a repository on the Hugging Face hub make up a model.

A repository is one of two kinds:

* **GGUF**: the same model several times over, in different quantisations; one of them is wanted, with
  all of its parts where it is split (``…-00001-of-00003.gguf``), and with the projector for images
  (``mmproj``) where there is one.
* **a folder**: weights with their configuration and tokenizer. All of it is wanted, but the weights
  once only: many repositories have them in several formats.

Which GGUF (``org/name:CHOICE``), in this order:

1. the only one whose quantisation is ``CHOICE`` (letter case does not count; ``UD-`` may be left out);
2. the only one whose file is called so;
3. without ``CHOICE``: the only one there is, or the first of ``USUAL`` that is there just once;
4. else a ``ConfigError`` that lists what there is.

Repositories with both kinds are folders, unless something is chosen. Names and sizes are all that is
looked at: the same rules judge a listing of the hub and what lies in the cache.
"""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Final, NamedTuple

import msgspec

from homeport.errors import ConfigError

USUAL: Final = (
    "Q4_K_M",  # what most publishers recommend: a quarter of the size, little is lost
    "UD-Q4_K_XL",
    "Q4_K_S",
    "IQ4_NL",
    "IQ4_XS",
    "Q4_0",
    "MXFP4",  # published in that form
    "MXFP4_MOE",
    "Q5_K_M",
    "Q8_0",
)
"""What is taken where nothing is chosen."""

PROJECTORS: Final = ("F16", "BF16", "Q8_0", "F32")
"""The same for projectors, which are small: llama.cpp's own choice first."""

_HUB_ID = re.compile(
    r"(?P<repo>[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})(?::(?P<choice>[\w./+-]{1,200}))?",
    re.ASCII,
)
_PART = re.compile(r"-(\d{5})-of-(\d{5})$")
_QUANTISATION = re.compile(
    r"(?<![a-z0-9])"
    r"((?:UD-)?(?:I?Q\d(?:_[a-z0-9]{1,3})*|TQ\d_\d|MXFP4(?:_MOE)?|NVFP4|BF16|FP?16|FP?32|FP8))"
    r"(?![a-z0-9])",
    re.IGNORECASE,
)
_WEIGHTS = (".safetensors", ".bin", ".pth", ".pt", ".engine")
"""Of a folder, by preference; engines read none of the others."""
_OTHER_WEIGHTS = (".gguf", ".h5", ".msgpack", ".onnx", ".onnx_data", ".ot", ".tflite", ".mlmodel")
_OTHER_COPIES = ("original", "onnx", "openvino", "coreml", "metal")
"""Folders in which publishers put the same weights once more."""
_PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg", ".mp4", ".pdf")


class HubId(msgspec.Struct, frozen=True):
    """``org/name``, and what is chosen of it."""

    repo: str
    choice: str | None = None

    def __str__(self) -> str:
        return f"{self.repo}:{self.choice}" if self.choice else self.repo

    @property
    def folder(self) -> str:
        """Where the cache keeps it."""
        return "models--" + self.repo.replace("/", "--")


class HubFile(msgspec.Struct, frozen=True):
    name: str
    """Relative, with forward slashes."""
    size_bytes: int


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """What makes up the model."""

    files: tuple[HubFile, ...]
    """In the order of loading: the small ones first, so that where the weights are, all is."""
    main: str = ""
    """The file that an engine is given; empty where it is given the folder."""
    note: str = ""
    """What a person would want to know of how it was chosen."""

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)


def hub_id(text: str) -> HubId:
    """Raises ``ConfigError`` for what is no id."""
    found = _HUB_ID.fullmatch(text)
    if not found or ".." in text or "--" in found["repo"]:  # as the hub has it
        raise ConfigError(
            f"not a model on the Hugging Face hub: '{text}'",
            hint="write ORG/NAME, or ORG/NAME:Q4_K_M for one GGUF of it",
        )
    return HubId(found["repo"], found["choice"])


class NotHere(NamedTuple):
    says: str
    hint: str


def not_here(text: str, model_id: str) -> NotHere:
    """What is to be said first of a model on the hub that is not in the cache and cannot be started.

    ``--model`` with a typo in a file's name means one, too; the model is called like it then.
    """
    if model_id != hub_id(text).repo:
        says = f"'{text}' is not in the cache of the hub (which was not asked)"
        return NotHere(says, "a file or folder goes under path")
    says = (
        f"there is no file or folder '{text}' here, and as a Hugging Face id it is not in the cache"
    )
    return NotHere(f"{says} (the hub was not asked)", "check the spelling, if it is a file")


def chosen(wanted: HubId, files: Sequence[HubFile]) -> Choice:
    """Return the files to have. Raises ``ConfigError`` where there are none, or several ways."""
    ggufs = _ggufs(files)
    folder = _folder(files)
    if ggufs and (wanted.choice or not folder):
        return _gguf_choice(wanted, ggufs, files)
    if wanted.choice:
        raise ConfigError(
            "there is no GGUF to choose from",
            where=wanted.repo,
            hint=f"the whole model: {wanted.repo}" if folder else "",
        )
    if not folder:
        raise ConfigError(
            "there are no weights that an engine of homeport reads",
            where=wanted.repo,
            hint="look for a repository with *.safetensors or *.gguf files",
        )
    note = f"it has GGUF files too: {wanted.repo}:{ggufs[0].label}" if ggufs else ""
    return Choice(files=folder, note=note)


# --------------------------------------------------------------------------- GGUF


class _Gguf(msgspec.Struct, frozen=True):
    """One model in GGUF: its file, or its parts in their order."""

    stem: str
    """The file's name without folder, part and ``.gguf``."""
    files: tuple[HubFile, ...]

    @property
    def label(self) -> str:
        """Its quantisation, or its name where that tells none."""
        return quantisation(self.stem) or self.stem

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)

    # What it may be called in a choice, in small letters.

    def labels(self) -> set[str]:
        return {self.label.casefold()}

    def short_labels(self) -> set[str]:
        return {self.label.casefold().removeprefix("ud-")}

    def file_names(self) -> set[str]:
        names = (file.name.casefold().removesuffix(".gguf") for file in self.files)
        return {self.stem.casefold(), *names}


def quantisation(stem: str) -> str:
    """``qwen2.5-coder-3b-q4_k_m`` → ``Q4_K_M``; empty where the name tells none."""
    found = _QUANTISATION.findall(stem)
    return found[-1].upper() if found else ""


def _ggufs(files: Sequence[HubFile]) -> list[_Gguf]:
    """The whole models among the files; projectors and matrices are none."""
    groups: dict[str, list[HubFile]] = {}
    for file in sorted(files, key=lambda file: file.name):
        base = PurePosixPath(file.name).name.casefold()
        if base.endswith(".gguf") and "mmproj" not in base and "imatrix" not in base:
            groups.setdefault(_PART.sub("", file.name[: -len(".gguf")]), []).append(file)
    return [
        _Gguf(PurePosixPath(path).name, tuple(group))
        for path, group in groups.items()
        if _is_whole(group)
    ]


def _is_whole(files: Sequence[HubFile]) -> bool:
    """Whether no part is missing: of ``-00001-of-00003`` there are three."""
    parts = [_PART.search(file.name.rpartition(".")[0]) for file in files]
    counts = {int(part[2]) for part in parts if part}
    return not counts or (None not in parts and counts == {len(files)})


def _gguf_choice(wanted: HubId, ggufs: list[_Gguf], files: Sequence[HubFile]) -> Choice:
    one, note = (
        (_named(wanted, wanted.choice, ggufs), "") if wanted.choice else _usual(wanted, ggufs)
    )
    projector = _projector(one, files)
    return Choice(
        files=(*([projector] if projector else []), *one.files), main=one.files[0].name, note=note
    )


def _named(wanted: HubId, choice: str, ggufs: list[_Gguf]) -> _Gguf:
    word = choice.casefold().removesuffix(".gguf")
    for names in (_Gguf.labels, _Gguf.short_labels, _Gguf.file_names):  # 1. and 2.
        fitting = [gguf for gguf in ggufs if word in names(gguf)]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            raise _listing(wanted, f"there are {len(fitting)} GGUF models called {choice}", fitting)
    raise _listing(wanted, f"there is no GGUF called {choice}", ggufs)


def _usual(wanted: HubId, ggufs: list[_Gguf]) -> tuple[_Gguf, str]:
    if len(ggufs) == 1:
        return ggufs[0], ""
    for label in USUAL:  # 3.
        fitting = [gguf for gguf in ggufs if gguf.label == label]
        if len(fitting) == 1:
            others = ", ".join(dict.fromkeys(g.label for g in ggufs if g is not fitting[0]))
            return fitting[0], f"took {label}; there are also {others} ({wanted.repo}:NAME)"
        if fitting:
            break
    raise _listing(wanted, "which of its GGUF models?", ggufs)  # 4.


def _listing(wanted: HubId, problem: str, ggufs: list[_Gguf]) -> ConfigError:
    labels = [gguf.label for gguf in ggufs]
    names = [g.label if labels.count(g.label) == 1 else g.stem for g in ggufs]
    if len(set(names)) < len(names):  # the same file in several folders
        names = [gguf.files[0].name for gguf in ggufs]
    width = max(map(len, names))
    lines = (
        f"    {wanted.repo}:{name:<{width}}  {in_words(gguf.size_bytes):>8}"
        for name, gguf in zip(names, ggufs, strict=True)
    )
    return ConfigError(problem, where=wanted.repo, hint="choose one of\n" + "\n".join(lines))


def _projector(model: _Gguf, files: Sequence[HubFile]) -> HubFile | None:
    """The one to go with the model: one in its folder, else in the root."""
    found = [f for f in files if re.search(r"mmproj[^/]*\.gguf$", f.name, re.IGNORECASE)]
    home = PurePosixPath(model.files[0].name).parent
    beside = [f for f in found if PurePosixPath(f.name).parent == home] or found

    def rank(file: HubFile) -> tuple[int, str]:
        label = quantisation(PurePosixPath(file.name).stem).replace("FP", "F")
        return PROJECTORS.index(label) if label in PROJECTORS else len(PROJECTORS), file.name

    return min(beside, key=rank, default=None)


# --------------------------------------------------------------------------- folders


def _folder(files: Sequence[HubFile]) -> tuple[HubFile, ...]:
    """All files but for weights in other formats and pictures; nothing where weights are missing."""
    kept = [f for f in files if not f.name.startswith(".") and not _is_other(f.name)]
    weights = next((w for s in _WEIGHTS if (w := [f for f in kept if f.name.endswith(s)])), [])
    if any(PurePosixPath(f.name).name.startswith("model") for f in weights):
        weights = [f for f in weights if not f.name.startswith("consolidated")]  # Mistral's copy
    if not weights or not _shards_are_whole(weights):
        return ()
    small = [f for f in kept if not f.name.endswith(_WEIGHTS)]
    return (*sorted(small, key=_by_name), *sorted(weights, key=_by_name))


def _by_name(file: HubFile) -> str:
    return file.name


def _is_other(name: str) -> bool:
    path = name.casefold()
    return path.endswith(_OTHER_WEIGHTS + _PICTURES) or path.partition("/")[0] in _OTHER_COPIES


def _shards_are_whole(weights: Sequence[HubFile]) -> bool:
    groups: dict[str, list[HubFile]] = {}
    for file in weights:
        groups.setdefault(_PART.sub("", file.name.rpartition(".")[0]), []).append(file)
    return all(_is_whole(group) for group in groups.values())


def in_words(size_bytes: int) -> str:
    """``1.9 GB``, in powers of ten, as disks and the hub's own pages count."""
    size = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 99.5 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
