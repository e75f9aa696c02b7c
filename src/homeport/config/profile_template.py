"""What `homeport profiles new` writes: a profile that works as it is, and shows what else it could say.

Prose begins with ``# `` and a word; lines that begin with ``#`` otherwise are examples, right as they
stand without it. Pure.
"""

import json
from typing import Final

from homeport.config.tiers import TIERS, fallback, tiers
from homeport.settings import Settings

_HEAD: Final = """\
# A set of settings for homeport, put over config.yaml. It has the same keys.
# To use it: homeport serve --profile {name} (or HOMEPORT_PROFILE={name}).
# What the two come to: homeport profiles show {name}
# What is commented out here are examples.

description: {description}
"""

_MODELS: Final = """
# Models: more of them, or other settings of those in config.yaml. Relative paths start here.
#models:
#  {model}:
#    ctx: 65536
"""

_NEW_MODEL: Final = """
# Models, beside those in config.yaml. Relative paths start here.
#models:
#  {model}:
#    hub: unsloth/Qwen3-8B-GGUF:Q4_K_M
#    ctx: 65536
"""

_TIERS: Final = """
# Which model answers for which name. Claude Code asks for these three tiers.
{mark}aliases:
{rows}
# The model for requests that name none, or one that is not known.
{mark}default_model: {default}

# A small one for an editor's completions.
#autocomplete_model: {default}
"""

_REST: Final = """
# The longest answer, and other bounds.
#server:
#  limits:
#    max_tokens: 8192

# What holds for all models of an engine.
#defaults:
#  backends:
#    llamacpp:
#      slots: 4
"""


def text(name: str, settings: Settings | None) -> str:
    """The profile's text. With the models of ``settings``, where there are some, the tiers are set as
    they are now; else they are an example."""
    known = settings.models if settings is not None else ()
    found = dict.fromkeys(TIERS, "my-model")
    default = "my-model"
    if settings is not None and known:
        default = fallback(settings) or known[0].id
        found = {tier: model or default for tier, model in tiers(settings).items()}
    mark = "" if known else "#"
    rows = "".join(f"{mark}  claude-{tier}-*: {_quoted(to)}\n" for tier, to in found.items())
    models = _MODELS if known else _NEW_MODEL
    return "".join(
        (
            _HEAD.format(name=name, description=_quoted(f"what {name} is for")),
            models.format(model=_quoted(known[0].id if known else default)),
            _TIERS.format(mark=mark, rows=rows, default=_quoted(default)),
            _REST,
        )
    )


def _quoted(name: str) -> str:
    """JSON's quotes are YAML's too, and any name may stand in them."""
    return json.dumps(name, ensure_ascii=False)
