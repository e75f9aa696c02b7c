"""Settings as plain data that may be shown: no secret in it.

Redacted are keys of upstreams and search services, values of environment variables (``HF_TOKEN`` lives
there), and arguments that follow or are joined to a flag which sounds like a secret. A key's SHA-256 is
shortened: it is no secret, but nobody needs all of it on a screen.
"""

import re
from typing import Any, Final

import msgspec

from homeport.spec import (
    ModelSettings,
    SearchAccount,
    ServerSettings,
    Settings,
    WebSearchSettings,
)

HIDDEN: Final = "(hidden)"
_SECRET_FLAG: Final = re.compile(r"-(.*[-_])?(key|token|secret|password)([-_].*)?", re.IGNORECASE)
"""Whole words only: ``--hf-token``, but neither ``--tokenizer`` nor ``--max-tokens``."""


def shown(settings: Settings) -> dict[str, Any]:
    """The settings in the shape of the configuration file."""
    server = _plain(settings.server)
    for key in server["keys"]:
        key["sha256"] = key["sha256"][:8] + "..."
    plain: dict[str, Any] = {
        "server": server,
        "models": {model.id: _model(model) for model in settings.models},
        "aliases": dict(settings.aliases),
        "default_model": settings.default_model,
        "strict_models": settings.strict_models,
    }
    if search := _search(settings.web_search):
        plain["web_search"] = search
    if settings.upstreams:
        plain["upstreams"] = list(settings.upstreams)
    return plain


def _model(model: ModelSettings) -> dict[str, Any]:
    """Only what is set: a model with a path has a dozen keys that do not concern it."""
    plain = _plain(model)
    plain["args"] = _arguments(model.args)
    plain["env"] = {name: HIDDEN for name, _ in model.env}
    if model.api_key:
        plain["api_key"] = HIDDEN
    del plain["id"]
    return {name: value for name, value in plain.items() if value not in (_UNSET[name], {})}


def _search(settings: WebSearchSettings) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for name in settings.__struct_fields__:
        match getattr(settings, name):
            case SearchAccount(url=url):
                plain[name] = {"api_key": HIDDEN, **({"url": url} if url else {})}
            case str() as url:
                plain[name] = url
    return plain


def _plain(value: ServerSettings | ModelSettings) -> dict[str, Any]:
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
