"""What ``defaults.backends`` of the configuration means for one model. Pure.

Which engine a model is for is known at two times: when the configuration is read, where it says so;
else when the model's files have been looked at. So ``merged`` is called twice, each time for the
models whose engine has just become known, and leaves the others alone.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from homeport.facts import EngineName
from homeport.settings import BackendDefaults, Defaults, ModelSettings

_NONE: Final = BackendDefaults()


def merged(
    models: Sequence[ModelSettings], engines: Mapping[str, EngineName], defaults: Defaults
) -> tuple[ModelSettings, ...]:
    """All models, in their order; those that ``engines`` (by model id) speaks of have that engine,
    and its defaults below their own settings.

    A default port is for one model only: the first that has none of its own.
    """
    known: Mapping[str, BackendDefaults] = dict(defaults.backends)
    taken = {model.port for model in models}
    result = []
    for model in models:
        engine = engines.get(model.id)
        if engine is not None:
            common = known.get(engine, _NONE)
            model = _below(common, replace(model, engine=engine))
            if model.port is None and common.port not in taken:
                model = replace(model, port=common.port)
                taken.add(common.port)
        result.append(model)
    return tuple(result)


def _below(common: BackendDefaults, model: ModelSettings) -> ModelSettings:
    """``runner``: an image of the model's own asks for a container, one in the defaults does not;
    there it may stand for the days when a container is wanted."""
    return replace(
        model,
        version=model.version or _version_for(model, common),
        image=model.image or common.image,
        runner=model.runner or ("container" if model.image else common.runner),
        args=common.args + model.args,
        env=tuple({**dict(common.env), **dict(model.env)}.items()),
        ctx=model.ctx or common.ctx,
        slots=model.slots or common.slots,
        ttl_s=model.ttl_s or common.ttl_s,
    )


def _version_for(model: ModelSettings, common: BackendDefaults) -> str | None:
    """A tag belongs to its image: the default one is not put behind an image of the model's own."""
    return None if model.image else common.version
