"""The ``docker run`` of an engine: words only, ``runtime`` carries them out.

- It stays in the foreground and leaves nothing behind (``--rm``); its name and its labels are how it is
  found again after an unclean end.
- The engine's port is published on loopback only, under the same number.
- The model is mounted read-only, at ``/model``. A folder of the Hugging Face cache has links into its
  neighbour ``blobs``, so that there the whole of the model's cache is mounted.
- Values of the environment do not stand on the command line: ``--env NAME`` takes them from ours, that
  is, from ``Command.env``. What the Docker client itself would obey is the exception.
- A model by its name on the hub is downloaded into the Hugging Face cache of this machine.
"""

import posixpath
import re
from collections.abc import Iterator, Mapping
from typing import Final

from homeport.engines.commands import ANYWHERE, Group, Image, Place
from homeport.errors import ConfigError
from homeport.facts import Machine, ModelFiles
from homeport.settings import ModelSettings

MODEL: Final = "/model"
"""Where the model is, inside."""
HUB_CACHE: Final = "/huggingface"
"""Where this machine's Hugging Face cache is, inside (``HF_HOME``)."""
HUB_VOLUME: Final = "homeport-huggingface"
"""In place of this machine's own cache, where that is not known."""

_CLIENT: Final = re.compile(r"PATH|HOME|DOCKER_\w+|LD_\w+|\w+_PROXY", re.IGNORECASE)


def is_for_client(variable: str) -> bool:
    """Whether the Docker client itself would obey the variable, if it were in its environment."""
    return bool(_CLIENT.fullmatch(variable))


def options(
    model: ModelSettings,
    image: Image,
    machine: Machine,
    mounts: tuple[Group, ...],
    *,
    name: str,
    port: int,
    env: Mapping[str, str],
    labels: Mapping[str, str],
) -> Iterator[Group]:
    """The words between ``docker run`` and the image."""
    yield ("--rm",)
    yield ("--init",)  # signals reach the engine, and nobody stays a zombie
    yield "--name", name
    for label, value in {"homeport.instance": model.id, **labels}.items():
        yield "--label", f"{label}={value}"
    if machine.gpus:
        yield "--gpus", "all"
    yield image.options
    yield "--publish", f"127.0.0.1:{port}:{port}"
    yield from mounts
    for variable, value in env.items():
        yield "--env", (f"{variable}={value}" if is_for_client(variable) else variable)
    if model.hub is not None:
        yield "--env", f"HF_HOME={HUB_CACHE}"
        yield "--env", "HF_TOKEN"  # not set here: not set there


def place(
    model: ModelSettings, files: ModelFiles | None, port: int, hub_cache: str | None
) -> tuple[Place, tuple[Group, ...]]:
    """Return how the engine sees the model, and the mounts that make it so."""
    if files is None:
        if model.hub is None:
            raise ConfigError(
                "a model without a path cannot be started", key=f"models.{model.id}.path"
            )
        volume = ("--volume", f"{hub_cache or HUB_VOLUME}:{HUB_CACHE}")
        return Place(host=ANYWHERE, port=port, model=model.hub), (volume,)
    source, inside = _mounted(files)
    if "," in source or '"' in source:  # the separator of --mount, and what would quote it
        raise ConfigError(
            "a path with a comma or a quotation mark cannot be mounted into a container",
            where=source,
            key=f"models.{model.id}.path",
        )
    mount = ("--mount", f"type=bind,source={source},target={MODEL},readonly")
    return Place(host=ANYWHERE, port=port, model=inside), (mount,)


def _mounted(files: ModelFiles) -> tuple[str, str]:
    """Return the folder to mount and the model's path inside.

    1. In a folder ``models--ORG--NAME/snapshots/REVISION`` of the Hugging Face cache: from
       ``models--…`` on.
    2. A folder: itself.
    3. A file: its folder, for the other parts and the projector.
    """
    parts = files.path.split("/")
    for index, part in enumerate(parts):
        if part.startswith("models--") and parts[index + 1 : index + 2] == ["snapshots"]:  # 1.
            return "/".join(parts[: index + 1]), "/".join((MODEL, *parts[index + 1 :]))
    if files.is_folder:  # 2.
        return files.path, MODEL
    folder, file = posixpath.split(files.path)  # 3.
    return folder or ".", posixpath.join(MODEL, file)
