"""From a model's settings to the ``Command`` that starts its engine: what has to be looked up.

``engines.starting`` decides; here its questions are answered: what lies at the path, where the
engine's executable is, where Docker and this machine's Hugging Face cache are.

A model on the hub that lies whole in the cache (``hub.local_path``) is started from there, as if its
path had been written; any other is left to its engine, which may load it.

An executable is looked for in this order: the model's ``binary``; the PATH; the Python that homeport
itself runs in, where the engine is installed as a module. Its own Python is the executable itself, or
the one that a script's first line names.
"""

import importlib.util
import os
import re
import secrets
import shutil
import sys

import msgspec
import structlog

from homeport.engines import starting
from homeport.engines.commands import Start
from homeport.errors import ConfigError
from homeport.facts import Command, EngineName, Machine, ModelFiles
from homeport.runtime import identity
from homeport.runtime.container import OWNER
from homeport.runtime.files import model_files
from homeport.runtime.hub import local_path
from homeport.settings import ModelSettings

log = structlog.get_logger()

_FIRST_LINE = re.compile(
    r"#!\s*(?:/usr/bin/env\s+(?:-S\s+)?|/bin/sh\n'{3}exec'\s+)?"
    r"(?P<quote>\"?)(?P<python>[^\n\"]*?python[\d.]*)(?P=quote)\s"
)
"""Installers write the path of the Python; through ``sh`` where it is too long for a first line."""


def at_home(model: ModelSettings) -> ModelSettings:
    """The model, with its path where it lies in the cache of the hub."""
    if model.hub is None or model.path is not None or model.command:
        return model
    path = local_path(model.hub)
    return model if path is None else msgspec.structs.replace(model, path=str(path))


def files_of(model: ModelSettings) -> ModelFiles | None:
    """Read what lies at the model's path; None where it has none.

    Raises ``ConfigError`` when it cannot be read.
    """
    model = at_home(model)
    if model.path is None or model.command:  # a command may make of its path what it likes
        return None
    try:
        return model_files(model.path)
    except ConfigError as error:
        error.key = f"models.{model.id}.path"
        raise


def engine_of(model: ModelSettings, machine: Machine) -> EngineName:
    """Return the engine that starts ``model``. Raises ``ConfigError`` when none here can."""
    return starting.engine_for(model, files_of(model), machine)


def command_for(model: ModelSettings, machine: Machine, port: int, api_key: str | None) -> Command:
    """Return how to start ``model`` on ``port``, by the runner that it names.

    Raises ``ConfigError`` when the model cannot be read, nothing here can start it, or what would
    is not installed.
    """
    model = at_home(model)
    files = files_of(model)
    if model.runner == "container":
        docker = shutil.which("docker")
        if docker is None:
            raise ConfigError(
                "docker was not found",
                key=f"models.{model.id}.runner",
                hint="install Docker, or set runner: process",
            )
        return starting.container_command(
            model,
            files,
            machine,
            port=port,
            api_key=api_key,
            name=container_name(model, port),
            labels={OWNER: str(identity.own())},
            docker=docker,
            hub_cache=hub_cache(),
        )
    engine = starting.engine_for(model, files, machine)
    start = starting.STARTS.get(engine)
    binary = model.binary or (_found(start) if start is not None else None)
    python = python_of(binary) if start is not None and start.child and binary else None
    if start is not None and start.child and binary and python is None:
        log.warning(
            "engine.plain", model=model.id, binary=binary, reason="its Python was not found"
        )
    return starting.command(
        model, files, machine, port=port, api_key=api_key, binary=binary, python=python
    )


def container_name(model: ModelSettings, port: int) -> str:
    """Unique for ever: what is ended by its name must not be another one, which somebody started on
    the same port meanwhile."""
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", model.id).strip("-.")
    return f"homeport-{plain}-{port}-{secrets.token_hex(3)}"


def hub_cache() -> str:
    """The folder that ``huggingface_hub`` takes: ``HF_HOME``, else below the user's cache."""
    default = os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    return os.path.abspath(os.path.expanduser(os.environ.get("HF_HOME") or default))


def installed() -> tuple[EngineName, ...]:
    """The engines that can be started as a process without further words."""
    return tuple(engine for engine, start in starting.STARTS.items() if _found(start))


def _found(start: Start) -> str | None:
    path = shutil.which(start.script)
    if path is None and start.module and _is_installed(start.module.partition(".")[0]):
        return sys.executable
    return path


def python_of(binary: str) -> str | None:
    """The Python that an executable runs in; None for what is no Python script."""
    path = shutil.which(binary)
    if path is None or os.path.basename(path).startswith("python"):
        return path
    try:
        with open(path, "rb") as file:
            head = file.read(1024).decode("utf-8", "replace")
    except OSError:
        return None
    found = _FIRST_LINE.match(head)
    return shutil.which(found["python"]) if found else None


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
