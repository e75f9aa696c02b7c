"""Which engine a model is for, and how that is started: by a process or by a container. Pure.

``engine_for``, in this order:

1. ``engine:`` says so.
2. ``command:`` is there: ``custom``.
3. The files say so: each engine's ``recognises`` is asked, in the order of ``STARTS``.
4. A model on the hub of which nothing lies here is judged by its name, as people name such
   repositories: ``mlx-community/…`` and ``…-MLX…``, ``…-GGUF``, else weights as Hugging Face has them.

``command`` and ``container_command`` put together what the engine's file has in its ``START``. The
user's ``args`` come last and win.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from homeport.engines import (
    containers,
    detect,
    llamacpp,
    mlx,
    sglang,
    trtllm,
    vllm,
    weights,
)
from homeport.engines.commands import Group, Image, Place, Start, with_args
from homeport.engines.hub_files import not_here
from homeport.errors import ConfigError
from homeport.facts import Command, EngineName, Machine, ModelFiles
from homeport.settings import ModelSettings

STARTS: Final[Mapping[EngineName, Start]] = {
    module.START.engine: module.START for module in (trtllm, llamacpp, mlx, vllm, sglang)
}
"""What is one engine's alone stands before what several can read."""

_MLX_NAME = re.compile(r"^mlx-community/|[-_.]mlx(?:[-_.]|$)", re.IGNORECASE)
_GGUF_NAME = re.compile(r"[-_.]gguf(?::[^/]*)?$|:[^/]+$", re.IGNORECASE)


def engine_for(model: ModelSettings, files: ModelFiles | None, machine: Machine) -> EngineName:
    """Return the engine that starts ``model``.

    ``files`` is what lies at its path, None where it has none. Raises ``ConfigError`` when nothing
    here can start it.
    """
    if model.engine is not None:  # 1.
        return _startable(model, model.engine)
    if model.command:  # 2.
        return "custom"
    if files is not None:  # 3.
        for engine, start in STARTS.items():
            if start.recognises(files, machine):
                return engine
        raise _unknown(model, files, machine)
    if model.hub is not None:  # 4.
        return _by_name(model, model.hub, machine)
    raise ConfigError("a model without a path cannot be started", key=f"models.{model.id}.path")


def command(
    model: ModelSettings,
    files: ModelFiles | None,
    machine: Machine,
    *,
    port: int,
    api_key: str | None,
    binary: str | None = None,
    python: str | None = None,
) -> Command:
    """Return how to start ``model`` as a process on ``port``.

    ``binary`` is the engine's executable, or a Python that has it; without one llama.cpp is the
    embedded one, and every other engine a ``ConfigError``. ``python`` is the Python that ``binary``
    runs in, where that is known.
    """
    engine = engine_for(model, files, machine)
    if engine == "custom":
        return _custom(model, port)
    start = STARTS[engine]
    _check_files(model, files, engine)
    place = Place(port=port, model=model.path or model.hub or model.id)
    arguments, context = start.arguments, start.context(model, files)
    if start.child is not None and python is None:
        api_key = None  # the plain server takes none
    if binary is not None:
        prefix = start.prefix(binary, context, python)
    elif engine == "llamacpp":
        prefix, arguments = llamacpp.EMBEDDED, llamacpp.embedded
    else:
        absent = f"{start.script} was not found"
        if files is None and model.hub is not None:
            absent = f"{not_here(model.hub, model.id).says}; {absent}"
        raise ConfigError(
            absent,
            key=f"models.{model.id}.engine",
            hint=f"{start.install}"
            + ("; or set runner: container" if start.image is not None else ""),
        )
    groups = (*arguments(model, files, machine, place), *_key_flag(start, api_key))
    return Command(
        argv=(*prefix, *with_args(groups, model.args)),
        env=tuple(_env(start, model, api_key).items()),
        engine=engine,
        api_key=_key(start, api_key),
        model=start.known_as(model, place),
        answers_busy=start.answers_busy,
        context_tokens=context,
    )


def container_command(
    model: ModelSettings,
    files: ModelFiles | None,
    machine: Machine,
    *,
    port: int,
    api_key: str | None,
    name: str,
    labels: Mapping[str, str] | None = None,
    docker: str = "docker",
    hub_cache: str | None = None,
) -> Command:
    """Return how to start ``model`` in a container called ``name``, in the foreground.

    ``hub_cache`` is this machine's Hugging Face cache (``~/.cache/huggingface``).
    """
    engine = engine_for(model, files, machine)
    start = STARTS.get(engine)
    if start is None or start.image is None:
        raise ConfigError(
            f"homeport runs {engine} as a process only",
            key=f"models.{model.id}.runner",
            hint="delete this line",
        )
    _check_files(model, files, engine)
    place, mounts = containers.place(model, files, port, hub_cache)
    image, env = start.image, _env(start, model, api_key)
    options = containers.options(
        model, image, machine, mounts, name=name, port=port, env=env, labels=labels or {}
    )
    groups = (*start.arguments(model, files, machine, place), *_key_flag(start, api_key))
    entry = image.entry
    return Command(
        argv=(
            *(docker, "run", *_words(options)),
            *(("--entrypoint", entry[0]) if entry else ()),
            image.reference(machine, model.image, model.version),
            *entry[1:],
            *with_args(groups, model.args),
        ),
        env=tuple(pair for pair in env.items() if not containers.is_for_client(pair[0])),
        engine=engine,
        api_key=_key(start, api_key),
        model=start.known_as(model, place),
        answers_busy=start.answers_busy,
        container=name,
    )


def image_of(engine: EngineName) -> Image | None:
    """The engine's usual image."""
    start = STARTS.get(engine)
    return start.image if start is not None else None


# --------------------------------------------------------------------------- which engine


def _startable(model: ModelSettings, engine: EngineName) -> EngineName:
    if engine == "custom" and not model.command:
        raise ConfigError(
            "'custom' needs a 'command'",
            key=f"models.{model.id}.engine",
            hint="add command: my-server --port {port} --weights {model}",
        )
    if engine in STARTS or engine == "custom":
        return engine
    raise ConfigError(
        f"homeport does not start {engine}",
        key=f"models.{model.id}.engine",
        hint="start it yourself and give its URL as upstream",
    )


def _by_name(model: ModelSettings, hub: str, machine: Machine) -> EngineName:
    if _MLX_NAME.search(hub):
        return "mlx"
    if _GGUF_NAME.search(hub):
        return "llamacpp"
    if machine.gpus:
        return "vllm"
    if machine.is_apple_silicon:
        return "mlx"
    absent = not_here(hub, model.id)
    raise ConfigError(
        f"{absent.says}; by its name it has weights as Hugging Face has them, and {_NO_CARD}",
        key=f"models.{model.id}.hub",
        hint=f"{absent.hint}; of a model on the hub {_gguf_of_it(machine)}",
    )


def _unknown(model: ModelSettings, files: ModelFiles, machine: Machine) -> ConfigError:
    if not files.is_folder:
        detect.check_gguf(files.path, files.head)  # raises: else llama.cpp had recognised it
    if vllm.is_hugging_face(files):
        return ConfigError(
            f"weights as Hugging Face has them, and {_NO_CARD}",
            where=files.path,
            key=f"models.{model.id}.path",
            hint=_gguf_of_it(machine),
        )
    return ConfigError(
        f"no model that homeport knows ({_found(files)})",
        where=files.path,
        key=f"models.{model.id}.path",
        hint="a model is a .gguf file, or a folder with one, or with config.json and .safetensors; "
        "or name the engine",
    )


_NO_CARD: Final = "no CUDA device was found"
_WITHOUT_A_CARD: Final[Mapping[EngineName, str]] = {
    "vllm": "'engine: vllm', if it is its CPU build",
    "mlx": "'engine: mlx'",
}


def _gguf_of_it(machine: Machine) -> str:
    """What to do about weights for a card that is not there."""
    others = [say for name, say in _WITHOUT_A_CARD.items() if name in machine.engines]
    more = f"; or name an engine that is installed: {', or '.join(others)}" if others else ""
    return f"take a GGUF, which llama.cpp runs anywhere (homeport pull ORG/NAME-GGUF){more}"


def _found(files: ModelFiles) -> str:
    names = [name for name, _ in files.names]
    if not names:
        return "the folder is empty"
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return "found: " + ", ".join(names[:4]) + more


# --------------------------------------------------------------------------- what it is given


def _check_files(model: ModelSettings, files: ModelFiles | None, engine: EngineName) -> None:
    """An engine that was named must be able to read what is there."""
    if files is None or engine != "llamacpp":
        return
    if not files.is_folder:
        detect.check_gguf(files.path, files.head)
    elif weights.gguf(files) is None:
        raise ConfigError(
            f"no GGUF model ({_found(files)})",
            where=files.path,
            key=f"models.{model.id}.path",
            hint="llama.cpp reads GGUF files only; look for a download of the model named *.gguf",
        )


def _custom(model: ModelSettings, port: int) -> Command:
    """Of what it takes we know nothing: no key but the user's own, no ``/health``, and perhaps one
    thread."""
    source = model.path or model.hub or model.id
    argv = (w.replace("{port}", str(port)).replace("{model}", source) for w in model.command)
    return Command(
        argv=(*argv, *model.args),
        env=model.env,
        engine="custom",
        api_key=model.api_key,
        ready_path="/v1/models",
        answers_busy=False,
    )


def _env(start: Start, model: ModelSettings, api_key: str | None) -> dict[str, str]:
    key = {start.key_env: api_key} if start.key_env and api_key else {}
    return {**start.env(model), **key, **dict(model.env)}


def _key(start: Start, api_key: str | None) -> str | None:
    return api_key if start.key_env or start.key_flag else None


def _key_flag(start: Start, api_key: str | None) -> tuple[Group, ...]:
    return ((start.key_flag, api_key),) if start.key_flag and api_key else ()


def _words(groups: Iterable[Group]) -> tuple[str, ...]:
    return tuple(word for group in groups for word in group)
