"""Our settings as LiteLLM's ``config.yaml``, for those who go (back) to LiteLLM. Pure.

1. Every name that clients may use becomes a ``model_name``: ids, aliases, patterns. Where unknown names
   go to the default model, ``*`` does.
2. A model behind an upstream is asked there, without homeport; one whose engine homeport starts is
   asked at homeport's own port.
3. No key is written down. Each becomes ``os.environ/NAME``, and ``Exported.variables`` lists the names.

The prefix decides by which route LiteLLM asks. ``openai/`` turns ``/v1/messages`` into
``/v1/responses``, which most local servers lack (LiteLLM 1.109.1,
``llms/anthropic/messages/native/handler.py``: ``_RESPONSES_API_PROVIDERS``). ``hosted_vllm/`` asks any
server with Chat Completions for those, whichever API the client speaks; so that is what local servers
get, and ``openai/`` is for OpenAI. Seen with the real proxy (``tests/e2e/test_litellm_export.py``).
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from homeport.engines.litellm_providers import NATIVE
from homeport.engines.litellm_proxy import is_beyond
from homeport.settings import ModelSettings, Route, Settings

LOCAL_PREFIX: Final = "hosted_vllm"
OWN_KEY: Final = "HOMEPORT_API_KEY"
MASTER_KEY: Final = "LITELLM_MASTER_KEY"

_SECRET: Final = re.compile(
    r"(.*[-_])?(authorization|cookie|key|token|secret|password|auth)([-_].*)?", re.I
)
_ANYWHERE: Final = ("0.0.0.0", "::")


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    config: dict[str, Any]
    variables: dict[str, str]
    """What has to be in LiteLLM's environment, with the values that stand in our configuration; empty
    where they do not."""

    def __repr__(self) -> str:  # shows no key
        return f"Exported(variables={list(self.variables)})"


def exported(settings: Settings, *, claude: bool = False) -> Exported:
    """The configuration; with ``claude``, every ``claude-*`` name leads to the default model."""
    writer = _Writer(settings)
    names = {name: to for name, to in _names(settings, claude=claude) if to in writer.known}
    entries = [entry for name, to in names.items() for entry in writer.entries(name, to)]
    config: dict[str, Any] = {
        "model_list": entries,
        "litellm_settings": {"drop_params": True},
        "router_settings": _router(settings, names),
    }
    # Without one, or with a weak one, LiteLLM 1.109 does not start.
    config["general_settings"] = {"master_key": f"os.environ/{MASTER_KEY}"}
    writer.variables[MASTER_KEY] = settings.server.master_key or ""
    config = {section: value for section, value in config.items() if value}
    return Exported(config=config, variables=dict(sorted(writer.variables.items())))


def _names(settings: Settings, *, claude: bool) -> Iterator[tuple[str, str]]:
    """Every name, and the id of the model or route that it means; the first of two counts."""
    found: dict[str, str] = {route.id: route.id for route in settings.routes}
    for model in settings.models:
        if model.listed and "*" not in (model.upstream_model or ""):
            found.setdefault(model.id, model.id)
    for model in settings.models:
        found |= {alias: model.id for alias in model.aliases if alias not in found}
    for alias, to in settings.aliases:
        found.setdefault(alias, found.get(to, to))
    chat = (model.id for model in settings.models if not model.embeddings and model.listed)
    default = settings.default_model or next(chat, None)
    if default is not None:
        if claude:
            found.setdefault("claude-*", found.get(default, default))
        if not settings.strict_models:
            found.setdefault("*", found.get(default, default))
    yield from found.items()


def _router(settings: Settings, names: Mapping[str, str]) -> dict[str, Any]:
    """LiteLLM has one number for all routes: the most patient route's."""
    if not settings.routes:
        return {}
    routes = {route.id: route for route in settings.routes}
    fallbacks = [
        {name: list(routes[to].fallbacks)}
        for name, to in names.items()
        if to in routes and routes[to].fallbacks
    ]
    found: dict[str, Any] = {
        "num_retries": max(route.retries for route in settings.routes),
        "cooldown_time": max(route.cooldown_s for route in settings.routes),
    }
    return {**found, "fallbacks": fallbacks} if fallbacks else found


class _Writer:
    """Models → entries of ``model_list``."""

    def __init__(self, settings: Settings) -> None:
        server = settings.server
        host = "127.0.0.1" if server.host in _ANYWHERE else server.host
        self._own_url = f"http://{f'[{host}]' if ':' in host else host}:{server.port}/v1"
        self._has_keys = settings.needs_key
        self._models = {model.id: model for model in settings.models}
        self._routes = {route.id: route for route in settings.routes}
        self.known = self._models.keys() | self._routes.keys()
        self.variables: dict[str, str] = {}

    def entries(self, name: str, to: str) -> Iterator[dict[str, Any]]:
        route = self._routes.get(to)
        if route is None:
            yield self._entry(name, self._models[to])
            return
        for member, weight in route.models:
            entry = self._entry(name, self._models[member])
            entry["litellm_params"]["weight"] = weight
            entry.setdefault("model_info", {})["id"] = _deployment_id(name, route, member)
            yield entry

    def _entry(self, name: str, model: ModelSettings) -> dict[str, Any]:
        params: dict[str, Any] = {
            **self._where(model),
            **dict(model.request_defaults),
        }
        if model.headers:
            params["extra_headers"] = {
                header: self._hidden(model, header, text) if _SECRET.fullmatch(header) else text
                for header, text in model.headers
            }
        if model.timeout_s is not None:
            params["timeout"] = model.timeout_s
        info: dict[str, Any] = {}
        if model.embeddings:
            info["mode"] = "embedding"
        if model.ctx is not None:
            info["max_input_tokens"] = model.ctx
        entry: dict[str, Any] = {"model_name": name, "litellm_params": params}
        return {**entry, "model_info": info} if info else entry

    def _where(self, model: ModelSettings) -> dict[str, Any]:
        """``model``, ``api_base`` and ``api_key``."""
        if is_beyond(model):
            return {
                "model": model.upstream_model,
                **{name: self._param(model, name, text) for name, text in model.litellm_params},
            }
        if model.upstream is None:
            params = {"model": f"{LOCAL_PREFIX}/{model.id}", "api_base": self._own_url}
            if self._has_keys:
                params["api_key"] = self._variable(OWN_KEY, "")
            return params
        known = model.upstream_model or model.id
        for prefix, provider in NATIVE.items():
            if model.upstream == provider.base_url and not provider.base_url.startswith("http://"):
                params = {"model": f"{prefix}/{known}"}
                if model.api_key is not None:
                    params["api_key"] = self._providers(model, provider.key_variables[0])
                return params
        root = model.upstream.removesuffix("/v1")
        if model.dialect == "anthropic":  # LiteLLM adds /v1/messages
            params = {"model": f"anthropic/{known}", "api_base": root}
        elif model.engine == "ollama":  # LiteLLM adds /api/chat
            params = {"model": f"ollama_chat/{known}", "api_base": root}
        else:
            params = {"model": f"{LOCAL_PREFIX}/{known}", "api_base": model.upstream}
        if model.api_key is not None:
            params["api_key"] = self._hidden(model, "api_key", model.api_key)
        return params

    def _param(self, model: ModelSettings, name: str, text: str) -> Any:
        """Numbers and lists as such; a secret that stands in the clear does not stay there."""
        if text.startswith("os.environ/"):
            self.variables.setdefault(text.removeprefix("os.environ/"), "")
            return text
        if _SECRET.fullmatch(name):
            return self._hidden(model, name, text)
        try:
            return msgspec.json.decode(text)
        except msgspec.DecodeError:
            return text

    def _providers(self, model: ModelSettings, variable: str) -> str:
        """The provider's own variable; unless some other model there has another key, or none: LiteLLM
        would send it that one."""
        keys = {m.api_key for m in self._models.values() if m.upstream == model.upstream}
        if keys == {model.api_key}:
            return self._variable(variable, model.api_key or "")
        return self._hidden(model, "api_key", model.api_key or "")

    def _hidden(self, model: ModelSettings, what: str, value: str) -> str:
        plain = re.sub(r"[^A-Z0-9]+", "_", f"{model.id}_{what}".upper()).strip("_")
        return self._variable(f"_{plain}" if plain[:1].isdigit() else plain, value)

    def _variable(self, name: str, value: str) -> str:
        """A variable that holds this value: one more, where its name is taken by another's."""
        number, free = 2, name
        while self.variables.get(free, value) != value or free == MASTER_KEY:
            number, free = number + 1, f"{name}_{number}"
        self.variables[free] = value
        return f"os.environ/{free}"


def _deployment_id(name: str, route: Route, member: str) -> str:
    """Of several names for one route only its own keeps the deployments' ids: LiteLLM wants them to
    differ."""
    return member if name == route.id else f"{name}/{member}"
