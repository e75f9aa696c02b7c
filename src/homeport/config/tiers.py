"""Which model answers for the tiers that Claude Code asks for, by the settings alone. Pure.

Upstreams and servers that are found may bring models of their own; what only they could answer is not
known here.
"""

from collections.abc import Mapping
from typing import Final

from homeport.errors import ClientError
from homeport.routing.catalog import Catalog, Entry, RequestKind
from homeport.settings import Settings

TIERS: Final[Mapping[str, str]] = {
    "opus": "claude-opus-4-6",
    "sonnet": "claude-sonnet-4-6",
    "haiku": "claude-haiku-4-5",
}
"""A name of each, as Claude Code sends them; dates may follow."""


def tiers(settings: Settings) -> dict[str, str | None]:
    """The model of each tier; None where there is none, or it is not known yet."""
    catalog = _catalog(settings)
    return {tier: _model(catalog, name) for tier, name in TIERS.items()}


def fallback(settings: Settings) -> str | None:
    """The model for names that nobody knows."""
    return None if settings.strict_models else _model(_catalog(settings), "")


def completions(settings: Settings) -> str | None:
    """The model for an editor's completions."""
    return _model(_catalog(settings), "", "completions")


def _model(catalog: Catalog, name: str, kind: RequestKind = "chat") -> str | None:
    try:
        return catalog.resolve(name, kind=kind).model_id
    except ClientError:
        return None


def _catalog(settings: Settings) -> Catalog:
    """As it is when homeport runs, less what upstreams bring."""
    entries = [Entry(id=route.id) for route in settings.routes] + [
        Entry(id=model.id, aliases=model.aliases, is_embedding=model.embeddings)
        for model in settings.models
    ]
    first = (entry.id for entry in entries if not entry.is_embedding)
    return Catalog(
        entries,
        aliases=settings.aliases,
        default=settings.default_model or next(first, None),
        autocomplete=settings.autocomplete_model,
        strict_models=settings.strict_models,
    )
