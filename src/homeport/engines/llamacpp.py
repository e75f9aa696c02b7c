"""llama.cpp: its facts, its command line, and what its answers say about a model.

Seen on llama.cpp b11549 (inside xllamacpp 2026.10). Two ways to run it answer alike: the system's
``llama-server``, and the embedded one, a child process of ours (``homeport.runtime.llamacpp_child``)
that takes the same flags.

Context: llama.cpp divides ``-c`` among its slots, so that we ask for ``context x slots``; it caps a
slot at the model's own training context by itself.
"""

import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

from homeport.engines import weights
from homeport.engines.answers import first_int, items, strings
from homeport.engines.commands import Group, Image, Place, Start
from homeport.engines.hub_files import in_words, not_here
from homeport.errors import ConfigError
from homeport.facts import EngineFacts, Machine, ModelFacts, ModelFiles
from homeport.settings import ModelSettings

FACTS = EngineFacts(
    engine="llamacpp",
    named_tool_choice=False,  # an object is read as "auto" (common/chat.cpp, b11549)
    strict_tools=False,  # ignored
    schema_bounds=False,  # GBNF fails on big maxLength, pattern, bounds: all tools then fail
    thinking_budget_key="thinking_budget_tokens",
    extensions=frozenset({"top_k", "min_p", "typical_p", "repeat_penalty"}),
    token_count="chat_input_tokens",
    routes=frozenset({"completions", "embeddings", "rerank", "infill"}),
    id_slot=True,
    progress=True,
    repeats_prefill=True,
    image_in_tool=True,
    # Its HTTP server (cpp-httplib) has a thread wait on each open connection, for up to 5 s. In a burst
    # new connections queue for threads that were free a moment ago and wait like that now: 25 requests
    # at once were up to 5 s late while idle connections were kept (b11549).
    keeps_connections=False,
)

SLOTS = 2
"""One for the conversation, one for the small requests that agents send beside it: on one slot
those would push the conversation out of the KV cache."""
DEFAULT_CTX = 32768
"""Context per slot where none is asked for: an agent's first prompt has 15-25k tokens, and the KV
memory of a model's full context (often 128k and more) seldom fits."""
EMBEDDED = (sys.executable, "-m", "homeport.runtime.llamacpp_child")
NAMED = 5
"""Of several models in a folder; a folder of downloads may have dozens."""
EMBEDDING_BATCH = 2048
"""An embedding input must fit into one physical batch; llama.cpp's own 512 cuts documents short."""


def recognises(files: ModelFiles, machine: Machine) -> bool:
    """A GGUF, by its name or its first bytes, or a folder that has one."""
    is_file = not files.is_folder and files.head.startswith(b"GGUF")
    return is_file or weights.gguf(files) is not None


def arguments(
    model: ModelSettings, files: ModelFiles | None, machine: Machine, place: Place
) -> Iterator[Group]:
    """Those of ``llama-server``."""
    yield from _model(model, files, place)
    yield from _common(model, place)
    yield ("--jinja",)
    yield ("--metrics",)
    yield ("--slots",)


def embedded(
    model: ModelSettings, files: ModelFiles | None, machine: Machine, place: Place
) -> Iterator[Group]:
    """Those of ``runtime.llamacpp_child``, which has switched on by itself what needs it.

    Raises ``ConfigError`` for settings that it cannot follow.
    """
    if model.args:
        raise ConfigError(
            "args need a llama-server binary; the embedded llama.cpp takes none",
            key=f"models.{model.id}.args",
            hint="set binary, or remove args",
        )
    if files is None and model.hub is not None:
        absent = not_here(model.hub, model.id)
        raise ConfigError(
            f"{absent.says}; the embedded llama.cpp does not download models",
            key=f"models.{model.id}.hub",
            hint=f"{absent.hint}; from the hub: homeport pull {model.hub}",
        )
    yield from _model(model, files, place)
    yield from _common(model, place)


def _common(model: ModelSettings, place: Place) -> Iterator[Group]:
    slots = model.slots or SLOTS
    yield "--host", place.host
    yield "--port", str(place.port)
    yield "--alias", model.id
    yield "-c", str((model.ctx or DEFAULT_CTX) * slots)
    yield "-np", str(slots)
    if model.embeddings:
        yield ("--embeddings",)
        yield "-ub", str(EMBEDDING_BATCH)


def _model(model: ModelSettings, files: ModelFiles | None, place: Place) -> Iterator[Group]:
    """The weights: of a split GGUF the first part; and the projector beside them."""
    if files is None:
        yield ("--hf-repo" if model.hub else "-m"), place.model
        return
    _check_whole(model, files)
    name = weights.gguf(files)
    if name is None:  # a file that is called otherwise, as in Ollama's store
        yield "-m", place.model
        return
    folder = place if files.is_folder else place.parent
    parts = weights.parts(name, files) or (name,)
    _check_complete(model, files, parts)
    if files.is_folder:
        _check_only_one(model, files, parts)
    yield "-m", folder.beside(parts[0])
    if (projector := weights.projector(files)) is not None and not model.embeddings:
        yield "--mmproj", folder.beside(projector)


def _check_complete(model: ModelSettings, files: ModelFiles, parts: tuple[str, ...]) -> None:
    wanted = weights.part_count(parts[0])
    if len(parts) < wanted:
        raise ConfigError(
            f"{len(parts)} of the {wanted} files of this model are there",
            where=files.path,
            key=f"models.{model.id}.path",
            hint="download the others into the same folder",
        )


def _check_whole(model: ModelSettings, files: ModelFiles) -> None:
    """llama.cpp would tell of the tensor that it misses, and again at each start."""
    unused = {weights.projector(files)} if model.embeddings else set()
    sizes = dict(files.names)
    for name, least in files.least_bytes:
        size = sizes.get(name, least)
        if size < least and name not in unused:
            raise ConfigError(
                f"{name} is cut off: {_of_at_least(size, least)}",
                where=files.path,
                key=f"models.{model.id}.path",
                hint="its download broke off: download it again",
            )


def _of_at_least(size: int, least: int) -> str:
    """``3.0 of at least 4.2 MB``; in bytes where that would say the same twice."""
    has, wants = in_words(size), in_words(least)
    if has == wants:
        return f"{size} of at least {least} bytes"
    (number, unit), (_, other) = has.split(), wants.split()
    return f"{number if unit == other else has} of at least {wants}"


def _check_only_one(model: ModelSettings, files: ModelFiles, parts: tuple[str, ...]) -> None:
    others = [name for name in weights.ggufs(files) if name not in parts]
    firsts = sorted({(weights.parts(name, files) or (name,))[0] for name in others})
    if firsts:
        models = (parts[0], *firsts)
        more = f" and {len(models) - NAMED} more" if len(models) > NAMED else ""
        raise ConfigError(
            f"this folder has {len(models)} models: {', '.join(models[:NAMED])}{more}",
            where=files.path,
            key=f"models.{model.id}.path",
            hint="write the path of one of them",
        )


IMAGE: Final = Image(
    # docs/docker.md of llama.cpp (2026-11): tags are server-b<build>, server-cuda-b<build>; the entry
    # point is llama-server, at a place that changed over time. Not looked up: this very build.
    name="ghcr.io/ggml-org/llama.cpp",
    version="server-cuda-b11549",
    cpu=("ghcr.io/ggml-org/llama.cpp", "server-b11549"),
)

START: Final = Start(
    engine="llamacpp",
    recognises=recognises,
    arguments=arguments,
    script="llama-server",
    install="install llama.cpp, which brings llama-server, and put its folder on the PATH, or give it "
    "as binary",
    key_env="LLAMA_API_KEY",
    image=IMAGE,
)


def model_facts(models: object, props: Mapping[str, Any]) -> tuple[ModelFacts, ...]:
    """Return the models of ``/v1/models``; ``/props`` (may be empty) adds what the first one has.

    ``/props`` speaks of the one model that the server loaded. A router (several models behind one
    ``llama-server``) has props of its own, which lack ``total_slots``.
    """
    found = tuple(_listed(item) for item in items(models))
    if len(found) != 1 or "total_slots" not in props:
        return found
    listed = found[0]
    settings, modalities = props.get("default_generation_settings"), props.get("modalities")
    one = ModelFacts(
        name=listed.name,
        aliases=listed.aliases,
        created_at_s=listed.created_at_s,
        context_tokens=first_int(settings, "n_ctx") or listed.context_tokens,  # per slot
        slots=first_int(props, "total_slots"),
        vision=bool(modalities.get("vision")) if isinstance(modalities, dict) else listed.vision,
    )
    return (one,)


def _listed(item: Mapping[str, Any]) -> ModelFacts:
    architecture = item.get("architecture")
    inputs = strings(architecture.get("input_modalities")) if isinstance(architecture, dict) else ()
    return ModelFacts(
        name=item["id"],
        aliases=tuple(name for name in strings(item.get("aliases")) if name != item["id"]),
        created_at_s=first_int(item, "created"),
        context_tokens=first_int(item.get("meta"), "n_ctx"),
        vision="image" in inputs if inputs else None,
    )
