"""The facts by which ``choosing`` chooses, looked up; and what was chosen, ready for use."""

import shutil
from collections.abc import Mapping

from homeport.stack.background.process import Background
from homeport.stack.background.unit import Unit
from homeport.stack.choosing import Choice, Facts, choice
from homeport.stack.containers.compose import Compose
from homeport.stack.containers.docker_client import Docker
from homeport.stack.layout import Layout
from homeport.stack.proxy import Proxy


def chosen(env: Mapping[str, str], *, wants_local: bool = False) -> tuple[Proxy, Choice]:
    """What ``homeport proxy`` means for the user with this environment, and why."""
    background, unit, layout = Background(env), Unit(env), Layout.of(env)
    found = choice(
        Facts(
            wants_local=wants_local,
            started="process" if background.was_started else "unit" if unit.was_started else None,
            is_installed=layout.is_installed,
            has_docker=shutil.which("docker", path=env.get("PATH")) is not None,
            has_systemd=unit.is_possible,
        )
    )
    match found.kind:
        case "process":
            return background, found
        case "unit":
            return unit, found
        case "containers":
            return Compose(Docker(layout, env)), found
