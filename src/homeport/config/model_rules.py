"""What must hold for a model and for models beside each other, as ``config.rules`` has it for the rest.

``misfits`` judges one model by itself, so that flags are judged by it, too; the rules put file and
line to what it finds.
"""

from collections.abc import Iterator
from itertools import combinations
from typing import Final, NamedTuple

from homeport.config.model_keys import MODEL, OURS
from homeport.config.problems import KeyPath, Problems, near
from homeport.config.values import ALSO_ENGINES
from homeport.engines.hub_files import hub_id
from homeport.facts import EngineName
from homeport.settings import Group, ModelSettings, Settings

NEVER_STARTED: Final[frozenset[EngineName]] = frozenset({"ollama", "openai_compatible"})
"""Engines that we find running, or that are no particular one."""


class Misfit(NamedTuple):
    key: str
    message: str
    hint: str


def misfits(model: ModelSettings) -> Iterator[Misfit]:
    """What does not go together in one model that has a source."""
    if not model.is_ours:
        return
    yield from _engine_misfits(model)
    if model.command:
        yield from _command_misfits(model)
    if model.runner == "container" and (model.binary or model.command):
        key = "binary" if model.binary else "command"
        yield Misfit(
            key,
            "runs as a process; this model has 'runner: container'",
            f"delete {key} or runner",
        )
    if model.runner == "process" and model.image:
        yield Misfit("image", "this model has 'runner: process'", "delete image or runner")
    engine = "custom" if model.command else model.engine
    if model.sleep is not None and engine not in ("vllm", None):
        yield Misfit("sleep", f"only vllm sleeps; the engine is {engine}", "delete this line")


def _engine_misfits(model: ModelSettings) -> Iterator[Misfit]:
    if model.engine in NEVER_STARTED:
        hint = f"start it yourself and write upstream: URL, or name one of {_STARTED}"
        yield Misfit("engine", f"homeport does not start {model.engine}", hint)
    if model.engine == "custom" and not model.command:
        hint = "add command: my-server --port {port} --weights {model}"
        yield Misfit("engine", "'custom' needs a 'command'", hint)
    if model.hub and model.engine not in ("llamacpp", "custom", None):
        quant = hub_id(model.hub).choice
        if quant is not None:
            yield Misfit(
                "hub",
                f"':{quant}' picks a GGUF file, which {model.engine} is not given",
                f"delete ':{quant}', or write engine: llamacpp",
            )


def _command_misfits(model: ModelSettings) -> Iterator[Misfit]:
    if model.engine not in ("custom", None):
        hint = "delete command, or write engine: custom"
        yield Misfit("command", f"is for 'engine: custom'; this one is {model.engine}", hint)
    if not any("{port}" in word for word in model.command):
        hint = "put {port} where the command line tells the server its port: --port {port}"
        yield Misfit("command", "does not say where the port goes", hint)


_STARTED: Final = "llamacpp, vllm, sglang, trtllm and mlx"


# --------------------------------------------------------------------------- one model


SOURCES: Final = (*OURS, "upstream")
"""Where a model comes from; ``via: litellm`` alone is LiteLLM's to know."""


def one_source(settings: Settings, problems: Problems) -> None:
    """Each model has one source. A wrong one has been reported: judge what is written."""
    for model in settings.models:
        here = ("models", model.id)
        written = [key for key in SOURCES if problems.has((*here, key))]
        if not written and model.via == "litellm":
            if not problems.has((*here, "upstream_model")):
                message = "has no 'upstream_model', by which LiteLLM knows it"
                problems.add(here, message, "add upstream_model: azure/gpt-4o, or a source")
        elif not written:
            message = "has no 'path', 'hub', 'upstream' or 'command'"
            problems.add(here, message, "add path: FILE, or upstream: http://127.0.0.1:8080/v1")
        several = [key for key in written if key != "command" or "upstream" in written]
        if len(several) > 1:
            message = f"has both '{several[0]}' and '{several[1]}'"
            problems.add(here, message, "keep the one that serves this model")


def no_stray_keys(settings: Settings, problems: Problems) -> None:
    """Keys that mean nothing without their sibling would be ignored in silence."""
    for model in settings.models:
        here = ("models", model.id)
        sources = [key for key in MODEL.one_of if problems.has((*here, key))]
        for key in MODEL.keys:
            is_stray = key.only_with and sources and not set(key.only_with) & set(sources)
            if is_stray and problems.has((*here, key.name)):
                goes_with = "', '".join(key.only_with)
                message = f"goes only with '{goes_with}'; this model has '{sources[0]}'"
                problems.add((*here, key.name), message, "delete this line")


def settings_fit(settings: Settings, problems: Problems) -> None:
    for model in settings.models:
        for key, message, hint in misfits(model):
            problems.add(("models", model.id, key), message, hint)


# --------------------------------------------------------------------------- beside each other


def ports_differ(settings: Settings, problems: Problems) -> None:
    owner = {settings.server.port: "the gateway (server.port)"}
    wanted: list[tuple[KeyPath, int | None, str]]
    wanted = (
        [(("litellm", "port"), settings.litellm.port, "LiteLLM (litellm.port)")]
        + [
            (("models", model.id, "port"), model.port, f"model '{model.id}'")
            for model in settings.models
        ]
        + [
            ((*_backend_path(name, problems), "port"), backend.port, f"defaults.backends.{name}")
            for name, backend in settings.defaults.backends
        ]
    )
    for here, port, what in wanted:
        if port is not None and owner.setdefault(port, what) != what:
            hint = "choose another, or leave it out for a free one"
            problems.add(here, f"port {port} is that of {owner[port]} already", hint)


def groups_exist(settings: Settings, problems: Problems) -> None:
    names = {group.name for group in settings.lifecycle.groups}
    for model in settings.models:
        if model.group is not None and model.group not in names:
            here = ("models", model.id, "group")
            hint = near(model.group, names) if names else "add it under lifecycle.groups"
            problems.add(here, f"there is no group '{model.group}'", hint)
    for group in settings.lifecycle.groups:
        for position, other in enumerate(group.apart_from):
            place = ("lifecycle", "groups", group.name, "apart_from", position)
            if other == group.name:
                hint = "a group whose models run one at a time is one without together: true"
                problems.add(place, "is this group itself", hint)
            elif other not in names:
                problems.add(place, f"there is no group '{other}'", near(other, names))


def residents_can_coexist(settings: Settings, problems: Problems) -> None:
    """Pinned models are never stopped to make room, so two that are kept apart would leave one of
    them waiting for ever. Preloaded ones would stop each other at every start."""
    groups = {group.name: group for group in settings.lifecycle.groups}
    for word, kept in (
        ("pinned", [model for model in settings.models if model.pinned]),
        ("preload", [model for model in settings.models if model.preload]),
    ):
        for one, two in combinations(kept, 2):
            if are_apart(groups.get(one.group or ""), groups.get(two.group or "")):
                message = f"'{one.id}' is too, and the groups never let both run"
                hint = f"delete {word} from one of them, or change lifecycle.groups"
                problems.add(("models", two.id, word), message, hint)


def are_apart(one: Group | None, two: Group | None) -> bool:
    """Whether models of these groups never run at the same time."""
    if one is None or two is None:
        return False
    if one.name == two.name:
        return not one.together
    return two.name in one.apart_from or one.name in two.apart_from


def memory_suffices(settings: Settings, problems: Problems) -> None:
    """As far as it is written down."""
    limit = settings.lifecycle.memory_bytes
    if limit is None:
        return
    for model in settings.models:
        if (model.memory_bytes or 0) > limit:
            here = ("models", model.id, "memory_bytes")
            message = "is more than lifecycle.memory_bytes: the model could never start"
            problems.add(here, message, "raise the one or lower the other")
    pinned = sum(model.memory_bytes or 0 for model in settings.models if model.pinned)
    if pinned > limit:
        message = "the pinned models need more than this together"
        problems.add(("lifecycle", "memory_bytes"), message, "raise it, or pin fewer models")


def backends_are_plain(settings: Settings, problems: Problems) -> None:
    """``alias`` is LiteLLM's."""
    for name, backend in settings.defaults.backends:
        here = _backend_path(name, problems)
        if backend.alias is not None and name != "litellm":
            hint = "a model's aliases stand under models"
            problems.add((*here, "alias"), "goes only with litellm", hint)


def _backend_path(name: str, problems: Problems) -> KeyPath:
    """Where an engine's defaults stand, by the spelling that the file has."""
    spellings = [also for also, engine in ALSO_ENGINES.items() if engine == name]
    paths: Iterator[KeyPath] = (
        ("defaults", "backends", spelling) for spelling in (*spellings, name)
    )
    return next(path for path in paths if problems.has(path))
