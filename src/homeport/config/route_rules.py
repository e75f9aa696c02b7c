"""What must hold for routes, as ``config.rules`` has it for the rest."""

from homeport.config.problems import Problems, near
from homeport.settings import Settings


def routes_lead_somewhere(settings: Settings, problems: Problems) -> None:
    """The deployments of a route are models of this file."""
    models = {model.id: model for model in settings.models}
    for route in settings.routes:
        here = ("routes", route.id)
        if route.id in models:
            problems.add(here, f"'{route.id}' is a model already", "choose another name")
        for name, _ in route.models:
            if name not in models:
                problems.add(
                    (*here, "models", name), f"there is no model '{name}'", near(name, models)
                )
        if not route.models and not problems.errors:  # else they are among those that are wrong
            problems.add((*here, "models"), "names no model", "write models: {NAME: 1}")
        kinds = {models[name].embeddings for name, _ in route.models if name in models}
        if len(kinds) > 1:
            message = "has chat models and embedding models"
            problems.add((*here, "models"), message, "make two routes")


def fallbacks_lead_somewhere(settings: Settings, problems: Problems) -> None:
    known = {name for model in settings.models for name in (model.id, *model.aliases)}
    known |= {route.id for route in settings.routes}
    for route in settings.routes:
        for position, name in enumerate(route.fallbacks):
            here = ("routes", route.id, "fallbacks", position)
            if name == route.id:
                problems.add(here, "is this route itself", "delete it")
            elif name not in known:
                problems.add(here, f"there is no model '{name}'", near(name, known))
