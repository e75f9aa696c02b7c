"""Settings as plain data that may be shown: no secret in it.

Redacted are the master key, the metrics token, keys of upstreams and search services, values of
environment variables (``HF_TOKEN`` lives there), and arguments that follow or are joined to a flag
which sounds like a secret. A key's SHA-256 is shortened: it is no secret, but nobody needs all of
it on a screen.
"""

import re
from typing import Any, Final

import msgspec

from homeport.settings import (
    BackendDefaults,
    LifecycleSettings,
    ModelSettings,
    Route,
    SearchAccount,
    ServerSettings,
    Settings,
    StoreSettings,
    WebSearchSettings,
)

HIDDEN: Final = "(hidden)"
_PASSWORD: Final = re.compile(r"(://[^:/@]*:)[^@]*(?=@)|(password=)[^&]*", re.IGNORECASE)
"""In a database's URL."""
_SECRET_FLAG: Final = re.compile(r"-(.*[-_])?(key|token|secret|password)([-_].*)?", re.IGNORECASE)
"""Whole words only: ``--hf-token``, but neither ``--tokenizer`` nor ``--max-tokens``."""


def shown(settings: Settings) -> dict[str, Any]:
    """The settings in the shape of the configuration file."""
    server = _plain(settings.server)
    for key in server["keys"]:
        key["sha256"] = key["sha256"][:8] + "..."
    for name in ("master_key", "metrics_token"):
        if server[name]:
            server[name] = HIDDEN
    plain: dict[str, Any] = {
        "server": server,
        "models": {model.id: _model(model) for model in settings.models},
        **({"routes": {r.id: _route(r) for r in settings.routes}} if settings.routes else {}),
        "defaults": {"backends": {n: _backend(common) for n, common in settings.defaults.backends}},
        "lifecycle": _lifecycle(settings.lifecycle),
        "aliases": dict(settings.aliases),
        "default_model": settings.default_model,
        "autocomplete_model": settings.autocomplete_model,
        "strict_models": settings.strict_models,
        "discover": settings.discover,
        "small_models": list(settings.small_models),
    }
    if search := _search(settings.web_search):
        plain["web_search"] = search
    plain["store"] = _store(settings.store)
    if settings.upstreams:
        plain["upstreams"] = list(settings.upstreams)
    return plain


def _model(model: ModelSettings) -> dict[str, Any]:
    """Only what is set: a model with a path has a dozen keys that do not concern it."""
    plain = _plain(model)
    plain["command"] = _arguments(model.command)
    if model.api_key:
        plain["api_key"] = HIDDEN
    plain["headers"] = {name: HIDDEN for name, _ in model.headers}
    plain["request_defaults"] = dict(model.request_defaults)
    del plain["id"]
    return _started_with(model, plain, _UNSET)


def _route(route: Route) -> dict[str, Any]:
    plain = _plain(route)
    del plain["id"]
    return {**plain, "models": dict(plain["models"])}


def _backend(common: BackendDefaults) -> dict[str, Any]:
    return _started_with(common, _plain(common), _plain(BackendDefaults()))


def _started_with(
    value: ModelSettings | BackendDefaults, plain: dict[str, Any], unset: dict[str, Any]
) -> dict[str, Any]:
    plain["args"] = _arguments(value.args)
    plain["env"] = {name: HIDDEN for name, _ in value.env}
    return {name: each for name, each in plain.items() if each not in (unset[name], {})}


def _lifecycle(settings: LifecycleSettings) -> dict[str, Any]:
    plain = _plain(settings)
    plain["groups"] = {group.pop("name"): group for group in plain["groups"]}
    return plain


def _store(settings: StoreSettings) -> dict[str, Any]:
    plain = _plain(settings)
    if settings.url is not None:
        plain["url"] = _PASSWORD.sub(rf"\1\2{HIDDEN}", settings.url)
    return plain


def _search(settings: WebSearchSettings) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for name in settings.__struct_fields__:
        match getattr(settings, name):
            case SearchAccount(url=url):
                plain[name] = {"api_key": HIDDEN, **({"url": url} if url else {})}
            case str() as url:
                plain[name] = url
    return plain


def _plain(
    value: (
        StoreSettings | ServerSettings | ModelSettings | Route | BackendDefaults | LifecycleSettings
    ),
) -> dict[str, Any]:
    """As JSON has it: ``to_builtins`` would leave tuples, which YAML and tests tell from lists."""
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(value))
    return plain


_UNSET: Final = _plain(ModelSettings(id=""))


def _arguments(args: tuple[str, ...]) -> list[str]:
    result: list[str] = []
    after_secret = False
    for arg in args:
        flag, equals, _ = arg.partition("=")
        is_secret = bool(_SECRET_FLAG.fullmatch(flag))
        if after_secret:
            result.append(HIDDEN)
        else:
            result.append(f"{flag}={HIDDEN}" if is_secret and equals else arg)
        after_secret = is_secret and not equals and not after_secret
    return result
