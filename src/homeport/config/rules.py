"""What must hold between settings: each single value is right, but do they fit together?

A rule takes the settings read so far (wrong values left out) and reports to ``Problems``; ``RULES``
is the list that ``config.load`` runs. What concerns models stands in ``config.model_rules``.
``bind_problem`` stands apart: it judges what is left after flags have been merged in, where no file
and line can be blamed. All pure.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from homeport.config import model_rules, route_rules
from homeport.config.keys import sha256_of
from homeport.config.problems import Problems, near
from homeport.engines import litellm_proxy
from homeport.errors import ConfigError
from homeport.settings import ServerSettings, Settings, is_loopback
from homeport.wire.search_services import SERVICES

Rule = Callable[[Settings, Problems], None]


def bind_problem(server: ServerSettings) -> ConfigError | None:
    """Refuses to listen beyond this machine without a key. A master key will do: clients need that
    one then (``ServerSettings.needs_key``).

    Whoever reaches the port could use the models, read what they say and load others; a warning
    would scroll by.
    """
    if server.keys or server.master_key or is_loopback(server.host):
        return None
    return ConfigError(
        f"listening on {server.host or 'all addresses'} lets other machines in, and no key is set",
        key="server.host",
        hint="make a key with `homeport key new` and paste its lines under server.keys; or set "
        "HOMEPORT_MASTER_KEY, which every client then needs; or listen on 127.0.0.1",
    )


def token_problem(server: ServerSettings) -> ConfigError | None:
    """Refuses a metrics token that opens more than ``/metrics``: it lies in a scraper's settings."""
    token = server.metrics_token
    if token is None:
        return None
    is_key = sha256_of(token) in {key.sha256 for key in server.keys}
    if not is_key and token != server.master_key:
        return None
    return ConfigError(
        f"is {'a key of server.keys' if is_key else 'the master key'} as well",
        key="server.metrics_token",
        hint="it is for /metrics alone: choose another, as `homeport key new` makes them",
    )


def litellm_problem(settings: Settings) -> ConfigError | None:
    """The same for LiteLLM's port, since whoever comes in there asks homeport; its version and name."""
    litellm = settings.litellm
    if not litellm.enabled:
        return None
    if problem := litellm_proxy.version_problem(litellm):
        return problem
    if litellm_proxy.NAME in {model.id for model in settings.models}:
        return ConfigError(
            f"a model is called '{litellm_proxy.NAME}', and so is LiteLLM beside it",
            key=f"models.{litellm_proxy.NAME}",
            hint="give the model another name",
        )
    problem = bind_problem(msgspec.structs.replace(settings.server, host=litellm.host))
    if problem is not None:
        problem.key = "litellm.host"
    return problem


def key_names_differ(settings: Settings, problems: Problems) -> None:
    seen: set[str] = set()
    for position, key in enumerate(settings.server.keys):
        if key.name in seen:
            message = f"another key is called '{key.name}'"
            problems.add(("server", "keys", position), message, "give each key its own name")
        seen.add(key.name)


def names_are_unique(settings: Settings, problems: Problems) -> None:
    """A name means one model: ids, the models' aliases, and configured aliases do not clash."""
    owner = {model.id: model.id for model in settings.models}

    def already(name: str) -> str:
        what = "the id" if name == owner[name] else "an alias"
        return f"'{name}' is {what} of model '{owner[name]}' already"

    for model in settings.models:
        for position, alias in enumerate(model.aliases):
            if owner.setdefault(alias, model.id) != model.id:
                here = ("models", model.id, "aliases", position)
                problems.add(here, already(alias), "choose another alias")
    for pattern, _ in settings.aliases:
        if pattern in owner:
            hint = "delete this line, or rename one of them"
            problems.add(("aliases", pattern), already(pattern), hint)


def aliases_lead_somewhere(settings: Settings, problems: Problems) -> None:
    known = _names(settings)
    for pattern, target in settings.aliases:
        if target not in known:
            problems.add(("aliases", pattern), f"there is no model '{target}'", near(target, known))


def default_exists(settings: Settings, problems: Problems) -> None:
    known = _names(settings)
    name = settings.default_model
    if name is not None and name not in known:
        problems.add(("default_model",), f"there is no model '{name}'", near(name, known))


def autocomplete_exists(settings: Settings, problems: Problems) -> None:
    name = settings.autocomplete_model
    if name is not None and name not in _names(settings):
        hint = near(name, _names(settings))
        problems.add(("autocomplete_model",), f"there is no model '{name}'", hint)


def autocomplete_can_write(settings: Settings, problems: Problems) -> None:
    name = settings.autocomplete_model
    for model in settings.models:
        if model.embeddings and name in (model.id, *model.aliases):
            hint = "name a model that writes text"
            problems.add(("autocomplete_model",), f"'{name}' is an embedding model", hint)


def one_search_service(settings: Settings, problems: Problems) -> None:
    """Each search goes to one service; which of two would be a guess."""
    named = [name for name in SERVICES if problems.has(("web_search", name))]
    for name in named[1:]:
        message = f"searches go to '{named[0]}' already"
        problems.add(("web_search", name), message, "keep one service")


def _names(settings: Settings) -> set[str]:
    names = {n for model in settings.models for n in (model.id, *model.aliases)}
    return names | {route.id for route in settings.routes}


RULES: Final[tuple[Rule, ...]] = (
    key_names_differ,
    model_rules.one_source,
    model_rules.no_stray_keys,
    model_rules.settings_fit,
    model_rules.ports_differ,
    model_rules.groups_exist,
    model_rules.residents_can_coexist,
    model_rules.memory_suffices,
    model_rules.backends_are_plain,
    route_rules.routes_lead_somewhere,
    route_rules.fallbacks_lead_somewhere,
    names_are_unique,
    autocomplete_can_write,
    one_search_service,
)

NAME_RULES: Final[tuple[Rule, ...]] = (aliases_lead_somewhere, default_exists, autocomplete_exists)
"""Only where all models are known beforehand: ``--upstream`` servers bring models of their own."""
