"""``homeport uninstall``: what ``install`` and ``proxy start`` have made is taken away again.

1. What runs without containers is stopped.
2. Containers, networks and the images that were built here go; images that were pulled stay, since
   others may use them. Data goes only if that is asked for.
3. Of ``services/`` all goes that is as it was written. What the user has changed or put there stays.
4. ``.env`` stays while there is data: the database's password is in it. So it does where Docker cannot
   be asked whether there is any, if containers were ever started or stopped from here.

``litellm_config.yaml`` goes while it is as it was written; ``config.yaml`` and all else beside
``services/`` is the user's, and not looked at.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from homeport.config import load
from homeport.errors import StackError
from homeport.stack import staged
from homeport.stack.alone import alone
from homeport.stack.background.process import Background
from homeport.stack.background.unit import Unit
from homeport.stack.containers import compose, litellm_file
from homeport.stack.containers.docker_client import Docker
from homeport.stack.installing import files_plan, remains
from homeport.stack.installing.files_plan import Removal
from homeport.stack.installing.install import sums_of
from homeport.stack.installing.remains import Remains
from homeport.stack.layout import Layout
from homeport.stack.proxy import Tell


class Uninstalled(msgspec.Struct, frozen=True, kw_only=True):
    """What was done, by names."""

    services: str
    stopped: tuple[str, ...] = ()
    """What ran without containers."""
    containers: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    images_kept: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    volumes_kept: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    files_kept: tuple[str, ...] = ()
    env_kept: bool = False
    """``.env``, for the sake of the data."""
    no_docker: str = ""
    """Why Docker was not asked."""

    @property
    def is_nothing(self) -> bool:
        """Nothing was there, of all that would have gone."""
        return not (self.stopped or self.containers or self.images or self.volumes or self.files)


def uninstall(
    layout: Layout,
    env: Mapping[str, str],
    docker: Docker | StackError,
    tell: Tell,
    *,
    volumes: bool,
) -> Uninstalled:
    """``docker`` is the reason why, where it cannot be asked. Raises ``StackError``; what was done till
    then is done, and the same again goes on."""
    with alone(load.state_home(env) / "install", tell):
        stopped = _stop_local(env, tell)
        found, in_use = None, tuple[str, ...]()
        if isinstance(docker, Docker):
            found = remains.find(docker)
            in_use = remains.remove(docker, found, tell, volumes=volumes)
        env_kept = layout.env_file.is_file() and _may_have_data(found, env, volumes)
        files = _remove_files(layout, env_kept)
        others = litellm_file.removed(layout)
    there = found or remains.NOTHING
    return Uninstalled(
        services=str(layout.services),
        stopped=stopped,
        containers=tuple(sorted(there.containers.values())),
        images=tuple(sorted(name for name in there.built.values() if name not in in_use)),
        images_kept=(*in_use, *there.pulled),
        volumes=there.volumes if volumes else (),
        volumes_kept=() if volumes else there.volumes,
        files=(*files.gone, *others),
        files_kept=_folded(files.kept),
        env_kept=env_kept,
        no_docker=docker.message if isinstance(docker, StackError) else "",
    )


def _stop_local(env: Mapping[str, str], tell: Tell) -> tuple[str, ...]:
    stopped = []
    for each, words in ((Unit(env), "a service of your systemd"), (Background(env), "a process")):
        if each.was_started and each.stop(tell):
            stopped.append(words)
    return tuple(stopped)


def _may_have_data(found: Remains | None, env: Mapping[str, str], volumes: bool) -> bool:
    if found is None:
        return (load.state_home(env) / compose.FOLDER).is_dir()
    return bool(found.volumes) and not volumes


def _remove_files(layout: Layout, env_kept: bool) -> Removal:
    """And the folders that are empty then. With ``.env`` it stays known whether that is ours."""
    written = layout.written()
    found = sums_of(layout, lambda path: files_plan.is_asked(path, (), written))
    keep = (files_plan.ENV, layout.manifest.name) if env_kept else ()
    removal = files_plan.removal(found, written, keep)
    try:
        # The manifest last: what is interrupted can go on.
        for path in sorted(removal.gone, key=lambda path: path == layout.manifest.name):
            (layout.services / path).unlink(missing_ok=True)
        if env_kept and files_plan.ENV in written:
            left = {files_plan.ENV: written[files_plan.ENV]}
            staged.write(layout.manifest, msgspec.json.encode(left), staged.READABLE)
    except OSError as error:
        raise StackError(
            f"{error.filename} cannot be removed: {error.strerror}",
            hint="look at the owner of its folder, and run `homeport uninstall` again",
        ) from None
    for folder, _, _ in os.walk(layout.services, topdown=False):
        with suppress(OSError):  # something is in it
            Path(folder).rmdir()
    return removal


def _folded(paths: tuple[str, ...]) -> tuple[str, ...]:
    """A folder's name stands for all that is in it."""
    return tuple(dict.fromkeys(f"{p.partition('/')[0]}/" if "/" in p else p for p in paths))
