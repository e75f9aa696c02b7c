"""What a stack has in Docker, by the labels that Compose gives: seen, stopped, removed.

The stack's files are not needed for that: they may be gone, or broken.
"""

import os
from collections.abc import Iterable
from typing import Final

import msgspec

from homeport.errors import StackError
from homeport.stack.containers.docker_client import Docker
from homeport.stack.layout import Layout
from homeport.stack.proxy import GATEWAY, Tell

STOP_S: Final = 150.0
"""The longest grace period of a service, and what Docker takes itself."""
LAST: Final = "database"
"""Services with this in their names are stopped when nobody writes into them any more."""
TIMESCALE: Final = "timescaledb"


class Remains(msgspec.Struct, frozen=True, kw_only=True):
    """Names for people; Docker's ids where there are better ones for it."""

    containers: dict[str, str]
    """Id → service."""
    networks: tuple[str, ...]
    volumes: tuple[str, ...]
    built: dict[str, str]
    """Id → name of the images that were built for it."""
    pulled: tuple[str, ...]
    """Images that its containers run, and others may, too."""


NOTHING: Final = Remains(containers={}, networks=(), volumes=(), built={}, pulled=())


def find(docker: Docker) -> Remains:
    """Raises ``StackError``; so too where another stack has the name."""
    project = docker.layout.project
    of_project = f"--filter=label=com.docker.compose.project={project}"
    images = _rows(docker, "images", of_project, "--no-trunc", "--format={{.ID}}\t{{.Repository}}")
    # Those of earlier builds have lost their name.
    built = {
        each: each.removeprefix("sha256:")[:12] if name == "<none>" else name
        for each, name in images
    }
    rows = _rows(
        docker,
        *("ps", "--all", "--no-trunc", of_project),
        '--format={{.ID}}\t{{.Label "com.docker.compose.service"}}\t{{.Image}}'
        '\t{{.Label "com.docker.compose.project.working_dir"}}',
    )
    _refuse_others(project, docker.layout, {row[3] for row in rows})
    containers = [(row[0], row[1], row[2]) for row in rows]
    return Remains(
        containers={each: service for each, service, _ in containers},
        networks=tuple(_words(docker, "network", "ls", of_project, "--format={{.Name}}")),
        volumes=tuple(_words(docker, "volume", "ls", of_project, "--format={{.Name}}")),
        built=built,
        pulled=tuple(
            sorted(
                {
                    image
                    for _, _, image in containers
                    if image.partition(":")[0] not in built.values() and image not in built
                }
            )
        ),
    )


def _refuse_others(project: str, layout: Layout, folders: Iterable[str]) -> None:
    """Raises ``StackError`` for containers that were made from another folder, which is still there.
    One that has gone may have been ours: folders are moved."""
    ours = os.path.realpath(layout.services)
    for folder in folders:
        if os.path.isdir(folder) and os.path.realpath(folder) != ours:
            raise StackError(
                f"the containers of {project} are not those of {layout.services}, but of {folder}",
                hint="take that stack away there; or name the one that is meant: COMPOSE_PROJECT_NAME "
                f"in {layout.env_file}",
            )


def remove(docker: Docker, found: Remains, tell: Tell, *, volumes: bool) -> tuple[str, ...]:
    """All but the pulled images, and the volumes only if that is asked for. The gateway is stopped
    first, databases last. Returns the built images that something else uses. Raises ``StackError``."""
    if found.containers:
        services = sorted(set(found.containers.values()), key=_rank)
        tell(f"stopping {', '.join(services)}; requests under way have 30 s")
    for rank in sorted({_rank(service) for service in found.containers.values()}):
        ids = [each for each, service in found.containers.items() if _rank(service) == rank]
        docker.ask("stop", *ids, within_s=STOP_S)
        docker.ask("rm", "--force", "--volumes", *ids)  # of the volumes those without a name
    for network in found.networks:
        docker.ask("network", "rm", network)
    if volumes and found.volumes:
        docker.ask("volume", "rm", *found.volumes, within_s=STOP_S)
    return tuple(name for each, name in found.built.items() if not _removed(docker, each))


def _removed(docker: Docker, image: str) -> bool:
    try:
        docker.ask("image", "rm", "--force", image)
    except StackError:
        return False
    return True


def _rank(service: str) -> int:
    return 0 if service == GATEWAY else 2 if LAST in service or service == TIMESCALE else 1


def _words(docker: Docker, *words: str) -> Iterable[str]:
    return docker.ask(*words).split()


def _rows(docker: Docker, *words: str) -> list[list[str]]:
    return [line.split("\t") for line in docker.ask(*words).splitlines()]
