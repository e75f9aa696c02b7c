"""The engines of models of which the configuration names none: found by looking at their files.

With its engine, a model gets what ``defaults.backends`` say of it. Where the configuration names the
engine, that has been done when it was read (``config.load``).
"""

from contextlib import suppress

from msgspec.structs import replace

from homeport.engines.defaults import merged
from homeport.errors import ConfigError
from homeport.facts import EngineName, Machine
from homeport.runtime.starting import engine_of
from homeport.settings import Settings


def with_engines(settings: Settings, machine: Machine) -> Settings:
    """Return the settings with the engine of each model that we start.

    A model that nothing here can start stays as it is: its start will tell why. Reads files.
    """
    engines: dict[str, EngineName] = {}
    for model in settings.models:
        if model.is_ours and model.engine is None:
            with suppress(ConfigError):
                engines[model.id] = engine_of(model, machine)
    return replace(settings, models=merged(settings.models, engines, settings.defaults))
