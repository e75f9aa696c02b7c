"""LiteLLM's deployments → our models, routes and aliases.

1. A ``model_name`` with one deployment becomes a model of that name; one with ``*``, a model named
   after what is behind it, and an alias pattern.
2. Deployments that are alike in everything but the name are one model with more names: so that two
   names of one llama.cpp server share its slots.
3. A ``model_name`` with several deployments, or with fallbacks, becomes a route; its deployments become
   models ``NAME#1``, ``NAME#2``, …, which are not listed.
4. Whom homeport cannot ask itself (``engines.litellm_providers``) becomes a model ``via: litellm``.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

import msgspec
from msgspec.structs import replace

from homeport.config.litellm_keys import Unset
from homeport.config.problems import KeyPath, Problems, WrongValueError, near
from homeport.config.values import REQUEST_FIELDS, Place, base_url
from homeport.engines import litellm_providers
from homeport.engines.litellm_providers import NATIVE, ONLY_LITELLM, Provider
from homeport.routing.catalog import Wildcard
from homeport.settings import ModelSettings, Route

Note = Callable[[Problems, KeyPath, str], None]

NATIVE_MODES: Final = frozenset({"chat", "completion", "responses", "embedding"})
RETRIES: Final = 2
"""LiteLLM 1.109.1: ``DEFAULT_MAX_RETRIES``."""
COOLDOWN_S: Final = 5.0
"""LiteLLM 1.109.1: ``DEFAULT_COOLDOWN_TIME_SECONDS``."""


class Deployment(NamedTuple):
    """One entry of ``model_list``, and where it stands."""

    item: Mapping[str, Any]
    problems: Problems
    path: KeyPath
    as_written: Callable[[], Mapping[str, Any]]
    """Its ``litellm_params`` as YAML has them, for LiteLLM itself."""

    @property
    def name(self) -> str:
        return str(self.item["model_name"])

    @property
    def params(self) -> Mapping[str, Any]:
        """Without what stands in variables that are not set."""
        params: Mapping[str, Any] = self.item["litellm_params"]
        return {key: value for key, value in params.items() if not isinstance(value, Unset)}

    @property
    def info(self) -> Mapping[str, Any]:
        info: Mapping[str, Any] = self.item.get("model_info", {})
        return {key: value for key, value in info.items() if not isinstance(value, Unset)}

    def unset(self, key: str) -> Unset | None:
        """The variable that a parameter stands in, where it is not set."""
        value = self.item["litellm_params"].get(key)
        return value if isinstance(value, Unset) else None

    def wrong(self, key: str, message: str, hint: str) -> None:
        self.problems.add((*self.path, "litellm_params", key), message, hint)


class Made(msgspec.Struct):
    """What a file becomes."""

    models: tuple[ModelSettings, ...]
    routes: tuple[Route, ...]
    aliases: tuple[tuple[str, str], ...]
    via_litellm: list[tuple[Problems, KeyPath]]
    """The deployments that only LiteLLM reaches."""


def made(
    deployments: list[Deployment],
    sections: Mapping[str, Any],
    problems: Problems,
    env: Mapping[str, str],
    note: Note,
) -> Made:
    """What deployments and settings become. What is wrong goes to the ``problems`` of its file, what
    concerns the settings to ``problems``; what is done otherwise is told to ``note``."""
    reader = _Reader(sections, env, note)
    groups: dict[str, list[tuple[Deployment, ModelSettings]]] = {}
    for deployment in deployments:
        if not isinstance(deployment.item["model_name"], Unset):
            model = reader.model(deployment)
            if model is not None:
                groups.setdefault(deployment.name, []).append((deployment, model))
    names = {deployment.name for deployment in deployments}
    reliability = _Reliability(sections, names, problems)
    namer = _Namer(names)
    routes: dict[str, Route] = {}
    ids: dict[str, str] = {}
    plain = [n for n, members in groups.items() if len(members) == 1 and not reliability.of(n)]
    for name in (*plain, *(name for name in groups if name not in plain)):
        members = groups[name]
        wanted = namer.id_for(name, members[0][1])
        if name in plain:
            ids[name] = namer.placed(wanted, members[0][1])
            continue
        weights = _weights([deployment for deployment, _ in members])
        inside = [
            namer.placed_inside(str(d.info.get("id") or f"{wanted}#{n}"), m)
            for n, (d, m) in enumerate(members, 1)
        ]
        behind = _summed(zip(inside, weights, strict=True))
        alike = (r for r in routes.values() if _behind(r) == (behind, reliability.of(name)))
        if (same := next(alike, None)) is not None:  # rule 2, for routes
            ids[name] = same.id
            continue
        ids[name] = wanted
        routes[name] = Route(
            id=wanted,
            models=behind,
            fallbacks=reliability.of(name),
            retries=reliability.retries,
            cooldown_s=reliability.cooldown_s,
            listed="*" not in (members[0][1].upstream_model or ""),
        )
    aliases = [(name, to) for name, to in ids.items() if name != to]
    aliases += reliability.group_aliases(ids)
    in_order = [routes[name] for name in groups if name in routes]
    return Made(namer.models, tuple(in_order), tuple(aliases), reader.via_litellm)


def _behind(route: Route) -> tuple[tuple[tuple[str, float], ...], tuple[str, ...]]:
    return route.models, route.fallbacks


class _Reader:
    """Entries of ``model_list`` → models without a name."""

    def __init__(self, sections: Mapping[str, Any], env: Mapping[str, str], note: Note) -> None:
        litellm, router = sections["litellm_settings"], sections["router_settings"]
        timeout = router.get("timeout") or litellm.get("request_timeout")
        self._timeout_s = None if isinstance(timeout, Unset) else timeout
        self._env, self._note = env, note
        self.via_litellm: list[tuple[Problems, KeyPath]] = []

    def model(self, deployment: Deployment) -> ModelSettings | None:
        """None where something is wrong that has been told."""
        params, info = deployment.params, deployment.info
        model, custom = params.get("model"), params.get("custom_llm_provider")
        if model is None:
            variable = deployment.unset("model")
            deployment.wrong("model", f"{variable} is not set", f"export {variable}=...")
            return None
        name, upstream_model = litellm_providers.split(model, custom)
        if name is None:
            hint = f"write openai/{model}, or add custom_llm_provider: openai"
            message = f"names no provider that LiteLLM knows: '{model}'"
            deployment.wrong("model", message, hint)
            return None
        settings = ModelSettings(
            id="",
            upstream_model=upstream_model,
            ctx=info.get("max_input_tokens"),
            embeddings=info.get("mode") == "embedding",
            request_defaults=tuple((k, params[k]) for k in REQUEST_FIELDS if k in params),
            headers=_headers(params),
            timeout_s=params.get("timeout") or params.get("stream_timeout") or self._timeout_s,
        )
        return self._placed(deployment, name, settings)

    def _placed(
        self, deployment: Deployment, name: str, settings: ModelSettings
    ) -> ModelSettings | None:
        """The model with the upstream that it is behind."""
        mode = deployment.info.get("mode", "chat")
        provider = NATIVE.get(name)
        if provider is None:
            why = f"only LiteLLM reaches {name}"
            if name not in ONLY_LITELLM:
                why = f"homeport does not know the provider '{name}'"
            return self._beyond(deployment, name, settings, why)
        if mode not in NATIVE_MODES:
            return self._beyond(deployment, name, settings, f"homeport has no mode '{mode}'")
        base = self._base_url(deployment, name, provider)
        if base is None:
            return None
        if not base.endswith("/v1"):
            why = f"homeport asks only addresses that end in /v1, and {base} does not"
            return self._beyond(deployment, name, settings, why)
        return replace(
            settings,
            upstream=base,
            api_key=self._key(deployment, provider, base),
            dialect=provider.dialect,
            engine=provider.engine,
        )

    def _beyond(
        self, deployment: Deployment, provider: str, settings: ModelSettings, why: str
    ) -> ModelSettings:
        here = (*deployment.path, "litellm_params", "model")
        self._note(deployment.problems, here, f"{why}: this one needs --with-litellm")
        self.via_litellm.append((deployment.problems, deployment.path))
        return replace(
            settings,
            via="litellm",
            upstream_model=f"{provider}/{settings.upstream_model}",
            litellm_params=_for_litellm(deployment.as_written()),
            headers=(),
            request_defaults=(),
        )

    def _base_url(self, deployment: Deployment, name: str, provider: Provider) -> str | None:
        if url := deployment.params.get("api_base"):
            return str(url)
        if unset := deployment.unset("api_base"):
            deployment.wrong("api_base", f"{unset} is not set", f"export {unset}=...")
            return None
        for variable in provider.base_variables:
            if value := self._env.get(variable):
                try:
                    return base_url(value, Place(folder="", env=self._env, exists=bool))
                except WrongValueError as wrong:
                    deployment.wrong("model", f"{variable} {wrong.message}", wrong.hint)
                    return None
        if provider.base_url is None:
            hint = f"add api_base: http://127.0.0.1:8000/v1, or export {provider.base_variables[0]}"
            deployment.wrong("model", f"'{name}' needs an api_base", hint)
        return provider.base_url

    def _key(self, deployment: Deployment, provider: Provider, base: str) -> str | None:
        """The variables of a provider are for the provider: its key goes to no other address."""
        if key := deployment.params.get("api_key"):
            return str(key)
        here = (*deployment.path, "litellm_params", "api_key")
        if unset := deployment.unset("api_key"):
            self._note(deployment.problems, here, f"{unset} is not set: asked without a key")
            return None
        if base == provider.base_url or any(v in self._env for v in provider.base_variables):
            known = (self._env.get(variable) for variable in provider.key_variables)
            return next(filter(None, known), None)
        return None


_TOLD: Final = frozenset({"model", "custom_llm_provider", "weight", "rpm", "tpm"})
"""What LiteLLM is told otherwise, or need not know."""


def _for_litellm(params: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple(
        (name, value if isinstance(value, str) else msgspec.json.encode(value).decode())
        for name, value in params.items()
        if name not in _TOLD and value is not None
    )


def _headers(params: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """``extra_headers`` win, as in LiteLLM."""
    found: dict[str, str] = {}
    for key in ("headers", "extra_headers"):
        found |= {name: text for name, text in params.get(key, ()) if not isinstance(text, Unset)}
    return tuple(found.items())


def _weights(deployments: list[Deployment]) -> list[float]:
    """The first of ``weight``, ``rpm`` and ``tpm`` that any has; without it, none gets anything while
    others can (LiteLLM 1.109.1, ``router_strategy/simple_shuffle.py``)."""
    for key in ("weight", "rpm", "tpm"):
        found = [float(deployment.params.get(key) or 0) for deployment in deployments]
        if any(number > 0 for number in found):
            return [max(number, 0.0) for number in found]
    return [1.0] * len(deployments)


def _summed(pairs: Iterable[tuple[str, float]]) -> tuple[tuple[str, float], ...]:
    """Deployments that turned out to be the same one, once."""
    total: dict[str, float] = {}
    for model_id, weight in pairs:
        total[model_id] = total.get(model_id, 0.0) + weight
    return tuple(total.items())


class _Namer:
    """Gives models their ids; those that are alike get one."""

    def __init__(self, taken: set[str]) -> None:
        self._taken = {name for name in taken if "*" not in name}
        self._placed: dict[ModelSettings, ModelSettings] = {}

    @property
    def models(self) -> tuple[ModelSettings, ...]:
        return tuple(self._placed.values())

    def id_for(self, name: str, model: ModelSettings) -> str:
        """``name`` itself, or for a pattern one that tells what is behind it."""
        if "*" not in name:
            return name
        behind = model.upstream_model or ""
        if "*" in behind:
            behind = name.replace("*", "").strip("/-_:. ") or "any"
        return self._free(behind)

    def placed(self, wanted: str, model: ModelSettings) -> str:
        """The id of the model that is exactly this one; made where there is none."""
        if model not in self._placed:
            listed = "*" not in (model.upstream_model or "")
            self._placed[model] = replace(model, id=wanted, listed=listed)
        return self._placed[model].id

    def placed_inside(self, wanted: str, model: ModelSettings) -> str:
        """The same for a deployment of a route; clients have names for those, and none for it."""
        if model not in self._placed:
            self._placed[model] = replace(model, id=self._free(wanted), listed=False)
        return self._placed[model].id

    def _free(self, wanted: str) -> str:
        number, free = 2, wanted
        while free in self._taken:
            number, free = number + 1, f"{wanted}-{number}"
        self._taken.add(free)
        return free


class _Reliability:
    """Retries, cooldown, fallbacks and other names of models; the router's before LiteLLM's."""

    def __init__(self, sections: Mapping[str, Any], names: set[str], problems: Problems) -> None:
        self._litellm, self._router = sections["litellm_settings"], sections["router_settings"]
        self._names, self._problems = names, problems
        self.retries = int(self._number("num_retries", RETRIES))
        self.cooldown_s = self._number("cooldown_time", COOLDOWN_S)
        self._fallbacks = self._all_fallbacks()

    def of(self, name: str) -> tuple[str, ...]:
        """The fallbacks of a model."""
        own = self._fallbacks.get(name)
        found = own if own is not None else self._fallbacks.get("*", ())
        return tuple(other for other in found if other != name)

    def group_aliases(self, ids: Mapping[str, str]) -> list[tuple[str, str]]:
        pairs = []
        for alias, target in self._router.get("model_group_alias", ()):
            name = target["model"]
            if self._is_known(name, ("router_settings", "model_group_alias", alias)):
                pairs.append((alias, ids.get(name, name)))
        return [(alias, to) for alias, to in pairs if alias not in ids]

    def _number(self, key: str, default: float) -> float:
        for section in (self._router, self._litellm):
            value = section.get(key)
            if value is not None and not isinstance(value, Unset):
                return float(value)
        return default

    def _all_fallbacks(self) -> dict[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        for title, section in (
            ("router_settings", self._router),
            ("litellm_settings", self._litellm),
        ):
            for entry in section.get("fallbacks", ()):
                for name, others in entry:
                    here = (title, "fallbacks")
                    if name == "*" or self._is_known(name, here):
                        good = tuple(other for other in others if self._is_known(other, here))
                        found.setdefault(name, good)
            here = (title, "default_fallbacks")
            default = section.get("default_fallbacks", ())
            if good := tuple(other for other in default if self._is_known(other, here)):
                found.setdefault("*", good)
        return found

    def _is_known(self, name: str, here: KeyPath) -> bool:
        patterns = (Wildcard(pattern, "") for pattern in self._names if "*" in pattern)
        if name in self._names or any(pattern.matches(name) for pattern in patterns):
            return True
        hint = near(name, self._names)
        self._problems.add(here, f"there is no model '{name}' in model_list", hint)
        return False
