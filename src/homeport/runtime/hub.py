"""Models from the Hugging Face hub: loaded into its cache, and found there again.

The cache is the one that all programs share (``HF_HOME``, ``HF_HUB_CACHE``; else
``~/.cache/huggingface/hub``), laid out as huggingface_hub documents it: ``blobs`` holds the contents by
their hash, ``snapshots/COMMIT`` names them, ``refs/main`` says which commit is current. We write
``refs/main`` last, so that a commit is current only when it is whole.

huggingface_hub does the talking with the hub (tokens, proxies, mirrors by ``HF_ENDPOINT``, offline
mode) and the naming in the cache. The bytes we load ourselves (``hub_transfer``): since 1.18 that
library begins every file anew (its issue 4196; read in 2.4), and an interrupted 20 GB have to be worth
something.

Bytes come by plain HTTP, not by the hub's Xet protocol, which cannot resume a file and which no mirror
speaks. Only files above 50 GB, which the hub gives away by Xet alone, are left to huggingface_hub.

``local_path`` needs neither the network nor that library, which takes half a second to import and which
nothing but ``pull`` imports.
"""

import contextlib
import functools
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from homeport.engines.hub_files import Choice, HubFile, HubId, chosen, hub_id, in_words
from homeport.errors import ConfigError
from homeport.runtime.hub_faults import (
    PullError,
    UnreachableError,
    faults_of_the_hub,
    not_a_hub,
)
from homeport.runtime.hub_transfer import CONNECT_TIMEOUT_S, PAUSES_S, Transfer, partial

if TYPE_CHECKING:
    from huggingface_hub import HfApi

PLAIN_HTTP_BYTES: Final = 50_000_000_000
"""Larger files the hub gives by Xet only (huggingface_hub 2.4, ``MAX_HTTP_DOWNLOAD_SIZE``)."""


# --------------------------------------------------------------------------- what a pull tells


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """It is known what to load."""

    repo: str
    choice: Choice
    missing_bytes: int


class Loading(msgspec.Struct, frozen=True, kw_only=True):
    """So much of all files is there; comes with every piece."""

    file: str
    done_bytes: int
    total_bytes: int


class Retrying(msgspec.Struct, frozen=True, kw_only=True):
    """A connection was lost; the file goes on where it stopped."""

    file: str
    reason: str
    pause_s: float


class FromCache(msgspec.Struct, frozen=True, kw_only=True):
    """The hub was not asked; what is in the cache is taken as it is."""

    reason: str


PullEvent = Chosen | Loading | Retrying | FromCache
Progress = Callable[[PullEvent], None]


# --------------------------------------------------------------------------- what is there


def cache_folder(env: Mapping[str, str]) -> Path:
    """Where the cache is; the order is huggingface_hub's."""
    home = env.get("HOME", "~")
    base = env.get("XDG_CACHE_HOME") or f"{home}/.cache"
    hf_home = env.get("HF_HOME") or f"{base}/huggingface"
    folder = env.get("HF_HUB_CACHE") or env.get("HUGGINGFACE_HUB_CACHE") or f"{hf_home}/hub"
    return Path(os.path.expandvars(folder)).expanduser()


def local_path(model_id: str) -> Path | None:
    """Return the GGUF file (of a split one its first part) or the folder of a model that is whole in
    the cache, else None. ``org/name:Q4_K_M`` is that GGUF and no other. Asks nobody.

    Raises ``ConfigError`` for what is no id.
    """
    wanted = hub_id(model_id)
    for snapshot in _snapshots(cache_folder(os.environ) / wanted.folder):
        with contextlib.suppress(ConfigError):  # nothing whole, or several: not in this one
            return _path_in(snapshot, chosen(wanted, _files_in(snapshot)))
    return None


def _path_in(snapshot: Path, choice: Choice) -> Path:
    return snapshot / choice.main if choice.main else snapshot


def _snapshots(storage: Path) -> Iterator[Path]:
    """The current one, then the others, the latest first."""
    folder = storage / "snapshots"
    try:
        current = folder / (storage / "refs" / "main").read_text().strip()
    except OSError:
        current = None
    if current and current.is_dir():
        yield current
    with contextlib.suppress(OSError):
        others = [path for path in folder.iterdir() if path.is_dir() and path != current]
        yield from sorted(others, key=lambda path: path.stat().st_mtime, reverse=True)


def _files_in(snapshot: Path) -> list[HubFile]:
    """Names without a blob behind them are not there."""
    paths = (path for path in snapshot.rglob("*") if path.is_file())
    return [HubFile(p.relative_to(snapshot).as_posix(), p.stat().st_size) for p in paths]


# --------------------------------------------------------------------------- pulling


def pull(model_id: str, progress: Progress, *, pauses_s: Sequence[float] = PAUSES_S) -> Path:
    """Load what is missing of a model, and return its path as ``local_path`` does. Blocks.

    Where the hub cannot be asked, what the cache has is good enough. Raises ``ConfigError`` for a wrong
    or ambiguous id, and ``PullError`` for all that comes from outside.
    """
    wanted = hub_id(model_id)
    from huggingface_hub import is_offline_mode

    if is_offline_mode():
        return _from_cache(
            wanted,
            progress,
            PullError(
                f"HF_HUB_OFFLINE is set, and {wanted} is not in {cache_folder(os.environ)}",
                hint="unset HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE) to load it",
            ),
        )
    try:
        with faults_of_the_hub(wanted.repo):
            return _Pull(wanted, progress, pauses_s).run()
    except UnreachableError as error:
        return _from_cache(wanted, progress, error)


def _from_cache(wanted: HubId, progress: Progress, error: PullError) -> Path:
    path = local_path(str(wanted))
    if path is None:
        raise error
    progress(FromCache(reason=error.message))
    return path


class _File(msgspec.Struct, frozen=True, kw_only=True):
    """One file as the hub lists it."""

    name: str
    size_bytes: int
    etag: str | None
    """What its blob is called."""
    sha256: str | None


class _Pull:
    """One pull: listing, check of the disk, files one after the other."""

    def __init__(self, wanted: HubId, progress: Progress, pauses_s: Sequence[float]) -> None:
        self._wanted, self._progress, self._pauses_s = wanted, progress, pauses_s
        self._storage = cache_folder(os.environ) / wanted.folder
        self._done_bytes = self._total_bytes = 0

    def run(self) -> Path:
        from huggingface_hub import HfApi, constants
        from huggingface_hub.utils import disable_progress_bars

        disable_progress_bars()  # ours is the only one
        # Else it asks the hub which agents there are, and reports ours and the versions of libraries.
        constants.HF_HUB_DISABLE_TELEMETRY = True
        listed, self._commit = self._listing(HfApi())
        choice = chosen(self._wanted, [HubFile(f.name, f.size_bytes) for f in listed.values()])
        files = [listed[file.name] for file in choice.files]
        self._total_bytes = choice.size_bytes
        missing_bytes = sum(file.size_bytes - self._have_bytes(file) for file in files)
        self._progress(Chosen(repo=self._wanted.repo, choice=choice, missing_bytes=missing_bytes))
        _check_disk(missing_bytes, self._storage)
        for file in files:
            self._load(file)
        self._make_current()
        return _path_in(self._snapshot, choice)

    @property
    def _snapshot(self) -> Path:
        return self._storage / "snapshots" / self._commit

    def _listing(self, api: "HfApi") -> tuple[dict[str, _File], str]:
        try:
            info = api.model_info(self._wanted.repo, files_metadata=True, timeout=CONNECT_TIMEOUT_S)
        except (KeyError, TypeError, ValueError) as error:  # no JSON, or not that of a model
            raise not_a_hub(error) from None
        if not info.sha or not re.fullmatch(r"[0-9a-f]{7,64}", info.sha):
            raise PullError(f"the hub names no commit of {self._wanted.repo}")
        files = {}
        for entry in info.siblings or ():
            lfs = entry.lfs
            files[entry.rfilename] = _File(
                name=entry.rfilename,
                size_bytes=entry.size or 0,
                etag=lfs.sha256 if lfs else entry.blob_id,
                sha256=lfs.sha256 if lfs else None,
            )
        return files, info.sha

    def _have_bytes(self, file: _File) -> int:
        """What of the file is there already, by its blob or the beginning of it."""
        if (self._snapshot / file.name).exists():
            return file.size_bytes
        for blob in [self._blob(file.etag)] if file.etag else []:
            if blob.exists():
                return file.size_bytes
            with contextlib.suppress(OSError):
                return min(partial(blob).stat().st_size, file.size_bytes)
        return 0

    def _blob(self, etag: str) -> Path:
        if not re.fullmatch(r"[\w-]{1,128}", etag, re.ASCII):  # it becomes a file's name
            raise PullError(f"the hub names a file's content {etag!r}")
        return self._storage / "blobs" / etag

    def _load(self, file: _File) -> None:
        """Have the blob, then let huggingface_hub give it its name in the snapshot."""
        from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

        pointer = self._snapshot / file.name
        if not pointer.exists() and file.size_bytes <= PLAIN_HTTP_BYTES:
            url = hf_hub_url(self._wanted.repo, file.name, revision=self._commit)
            etag = get_hf_file_metadata(url, retry_on_errors=True).etag
            if etag is None:
                raise PullError(f"the hub does not identify the content of {file.name}")
            blob = self._blob(etag)
            if not blob.exists():
                self._transfer(url, file).into(blob)
        try:
            hf_hub_download(
                self._wanted.repo, file.name, revision=self._commit, cache_dir=self._storage.parent
            )
        except (RuntimeError, ValueError) as error:  # Xet's, or there is no Xet for a large file
            raise PullError(f"{file.name} was not loaded: {error}", hint="try again") from error
        self._done_bytes += file.size_bytes
        self._tell(file, 0)

    def _transfer(self, url: str, file: _File) -> Transfer:
        def lost(reason: str, pause_s: float) -> None:
            self._progress(Retrying(file=file.name, reason=reason, pause_s=pause_s))

        return Transfer(
            url,
            file.name,
            file.size_bytes,
            file.sha256,
            came=functools.partial(self._tell, file),
            lost=lost,
            pauses_s=self._pauses_s,
        )

    def _tell(self, file: _File, bytes_of_it: int) -> None:
        self._progress(
            Loading(
                file=file.name,
                done_bytes=self._done_bytes + bytes_of_it,
                total_bytes=self._total_bytes,
            )
        )

    def _make_current(self) -> None:
        ref = self._storage / "refs" / "main"
        ref.parent.mkdir(parents=True, exist_ok=True)
        made = ref.with_name(f"main.{os.getpid()}")
        made.write_text(self._commit)
        made.replace(ref)


def _check_disk(missing_bytes: int, folder: Path) -> None:
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free_bytes = shutil.disk_usage(there).free
    if missing_bytes > free_bytes:
        raise PullError(
            f"it needs {in_words(missing_bytes)}, and there are {in_words(free_bytes)} free in {there}",
            hint="make room, or set HF_HOME to a folder on a larger disk",
        )
