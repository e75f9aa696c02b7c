"""LiteLLM between the gateway and llama-server: the file that it is given where it has none, and what
the gateway is told of the names in it. Pure.

**What is written** where the user has no file: the local model by its name and by ``claude-*``, both at
llama-server's Chat Completions; it is ``engines.litellm``'s export of such a model, with two settings
more. LiteLLM neither tries a request again nor leaves a deployment alone after a failure: there is one,
and while it restarts the next request should find it as soon as it is back.

**What the gateway is told**: each name of ``model_list`` is a model of its own, asked at LiteLLM as
``engine: litellm``, so that it is sent nothing that LiteLLM would refuse or hand on. A pattern becomes
an alias pattern of a model whose name at LiteLLM is the same pattern: what a client says for the ``*``
arrives there (``runtime.route``). A name that is not in the file goes to a default which is.

Of the file nothing else is read but the master key, since LiteLLM's file wins over its environment.
"""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
import yaml

from homeport.engines.litellm import exported
from homeport.errors import ConfigError
from homeport.settings import ModelSettings, Settings

KEY_VARIABLE: Final = "HOMEPORT_BOOT_LITELLM_KEY"
"""By which the gateway gets LiteLLM's key."""
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1", "0.0.0.0"})
_FROM_ENV: Final = "os.environ/"

HEAD: Final = """\
# LiteLLM's configuration. `homeport boot` has written it, because there was none: now it is yours, and
# will not be touched again.
"""


class Name(msgspec.Struct, frozen=True, kw_only=True):
    """One ``model_name`` of the file."""

    name: str
    is_embedding: bool = False
    api_base: str | None = None
    """Where its deployments are, if all are at one address that the file tells."""

    @property
    def is_pattern(self) -> bool:
        return "*" in self.name


class LiteLLMFile(msgspec.Struct, frozen=True, kw_only=True):
    names: tuple[Name, ...]
    key: str | None = None
    """``general_settings.master_key``, as it stands there."""
    includes: tuple[str, ...] = ()
    """More files, beside this one."""

    def __repr__(self) -> str:  # shows no key
        return f"LiteLLMFile({[name.name for name in self.names]})"


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """The context of the model at a port of this machine."""

    port: int
    tokens: int


# --------------------------------------------------------------------------- its file


def written(model_id: str, base_url: str) -> str:
    """The file for a model that llama-server has."""
    model = ModelSettings(id=model_id, upstream=base_url, upstream_model=model_id)
    settings = Settings(models=(model,), default_model=model_id, strict_models=True)
    config = exported(settings, claude=True).config
    config["litellm_settings"] |= {
        "num_retries": 0,
        "request_timeout": 24 * 3600,  # the gateway knows how long an engine may take
        # Else /v1/messages, for who asks LiteLLM itself, would become /v1/responses.
        "use_chat_completions_url_for_anthropic_messages": True,
    }
    config["router_settings"] = {"num_retries": 0, "disable_cooldowns": True}
    return HEAD + str(yaml.safe_dump(config, sort_keys=False))


def read(data: bytes, path: str) -> LiteLLMFile:
    """Raises ``ConfigError`` for what is no file of LiteLLM's."""
    try:
        found = yaml.safe_load(data.decode("utf-8-sig"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"is no YAML: {error}", where=path, hint="correct the file") from error
    if not isinstance(found, dict):
        raise _wrong(path, "is no configuration of LiteLLM's")
    general = found.get("general_settings") or {}
    key = general.get("master_key") if isinstance(general, dict) else None
    includes = found.get("include") or []
    return LiteLLMFile(
        names=_names(found.get("model_list") or [], path),
        key=str(key) if key else None,
        includes=tuple(map(str, includes)) if isinstance(includes, list) else (),
    )


def joined(first: LiteLLMFile, others: list[LiteLLMFile]) -> LiteLLMFile:
    """A file and those that it includes: their lists are added, anything else of theirs wins."""
    names = {name.name: name for file in (first, *others) for name in file.names}
    keys = [file.key for file in (first, *others) if file.key]
    return LiteLLMFile(names=tuple(names.values()), key=keys[-1] if keys else None)


def _names(entries: object, path: str) -> tuple[Name, ...]:
    if not isinstance(entries, list):
        raise _wrong(path, "model_list is no list")
    found: dict[str, list[Mapping[str, Any]]] = {}
    for entry in entries:
        if not isinstance(entry, dict) or not entry.get("model_name"):
            raise _wrong(path, "an entry of model_list has no model_name")
        found.setdefault(str(entry["model_name"]), []).append(entry)
    return tuple(_name(name, same) for name, same in found.items())


def _name(name: str, entries: list[Mapping[str, Any]]) -> Name:
    params = [entry.get("litellm_params") or {} for entry in entries]
    infos = [entry.get("model_info") or {} for entry in entries]
    bases = {param.get("api_base") for param in params if isinstance(param, dict)}
    base = next(iter(bases)) if len(bases) == 1 else None
    modes = {info.get("mode") for info in infos if isinstance(info, dict)}
    return Name(
        name=name,
        is_embedding=modes == {"embedding"},
        api_base=base if isinstance(base, str) else None,
    )


def _wrong(path: str, message: str) -> ConfigError:
    return ConfigError(
        message, where=path, hint="model_list has entries with model_name and litellm_params"
    )


def master_key(file: LiteLLMFile, env: Mapping[str, str]) -> str | None:
    """The key that the file says, where it says one."""
    if file.key is None or not file.key.startswith(_FROM_ENV):
        return file.key
    return env.get(file.key.removeprefix(_FROM_ENV)) or None


# --------------------------------------------------------------------------- the gateway


def gateway_models(
    file: LiteLLMFile, base_url: str, context: Context | None = None
) -> dict[str, Any]:
    """The part of the gateway's configuration that says what is asked of LiteLLM at ``base_url``.

    Raises ``ConfigError`` for a file without names.
    """
    if not file.names:
        raise ConfigError(
            "LiteLLM's configuration names no model",
            where="AUTO_INFER_LITELLM_CONFIG",
            hint="the gateway knows LiteLLM's models by model_list",
        )
    ids = _ids(file)
    models = {ids[n.name]: _model(n, base_url, context) for n in file.names}
    aliases = {name: model_id for name, model_id in ids.items() if name != model_id}
    chat = [n for n in file.names if not n.is_embedding]
    plain = [n for n in chat if not n.is_pattern]
    found = {"models": models, "aliases": aliases, "discover": False}
    if first := next(iter((*plain, *chat)), None):
        found["default_model"] = ids[first.name]
    return found


def _ids(file: LiteLLMFile) -> dict[str, str]:
    """Each name's model id: itself, or for a pattern what is left of it without stars."""
    found = {n.name: n.name for n in file.names if not n.is_pattern}
    taken = set(found)
    for pattern in (n.name for n in file.names if n.is_pattern):
        plain = pattern.replace("*", "").strip("/-_:. ") or "any"
        number, free = 2, plain
        while free in taken:
            number, free = number + 1, f"{plain}-{number}"
        taken.add(free)
        found[pattern] = free
    return found


def _model(name: Name, base_url: str, context: Context | None) -> dict[str, Any]:
    model: dict[str, Any] = {
        "upstream": base_url,
        "upstream_model": name.name,
        "engine": "litellm",
        "api_key": f"${{{KEY_VARIABLE}}}",
    }
    if name.is_pattern:
        model["listed"] = False
    if name.is_embedding:
        model["embeddings"] = True
    if context is not None and _is_at(name.api_base, context.port):
        model["ctx"] = context.tokens
    return model


def _is_at(api_base: str | None, port: int) -> bool:
    try:
        parts = urlsplit(api_base or "")
        return parts.hostname in _LOOPBACK and parts.port == port
    except ValueError:
        return False
