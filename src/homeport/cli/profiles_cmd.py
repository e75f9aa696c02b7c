"""``homeport profiles``: the sets of settings that can be put over the configuration."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click

from homeport.cli import output, table
from homeport.cli.table import Column
from homeport.config import load, profile_template, profiles, redact, tiers
from homeport.errors import ConfigError
from homeport.settings import Limits, ModelSettings, Settings

MODELS: Final = (
    Column("MODEL"),
    Column("CONTEXT", 2, is_number=True),
    Column("ENGINE", 3),
    Column("FROM", 1),
)
NOT_KNOWN: Final = "-"


@click.group("profiles")
def group() -> None:
    """List, show and make sets of settings, which are put over the configuration."""


@group.command("list")
@click.option("--config", "file", type=click.Path(path_type=Path), help="Configuration file.")
@click.option("--json", "as_json", is_flag=True, help="Answer as JSON on stdout.")
def list_(file: Path | None, as_json: bool) -> None:
    """List the profiles. A star marks the one that HOMEPORT_PROFILE names."""
    found = [_listed(name, path, file) for name, path in load.profile_files(os.environ).items()]
    if as_json:
        output.data_json(found)
    elif not found:
        folder = load.home(os.environ) / profiles.FOLDER
        output.say(f"there are none in {folder}; `homeport profiles new NAME` writes one")
    else:
        _tell_list(found)


@group.command()
@click.argument("name")
@click.option("--config", "file", type=click.Path(path_type=Path), help="Configuration file.")
@click.option("--json", "as_json", is_flag=True, help="As JSON on stdout, with every setting.")
def show(name: str, file: Path | None, as_json: bool) -> None:
    """Show what a profile makes of the settings.

    That is, what NAME and the configuration come to.
    Its models, who answers for which name, its limits. Secrets are hidden. A star marks the default
    model.
    """
    if problem := profiles.name_problem(name, "NAME"):
        raise problem
    path = load.profile_file(name, os.environ, where="NAME")
    assert path is not None  # there is a name
    settings = load.settings(file, os.environ, profile=name)
    said = load.description(path, os.environ)
    if as_json:
        output.data_json(
            {
                "name": name,
                "file": str(path),
                "config": str(load.config_file(file, os.environ)[0]),
                "description": said,
                "default_model": tiers.fallback(settings),
                "completions_model": tiers.completions(settings),
                "tiers": tiers.tiers(settings),
                "settings": redact.shown(settings),
            }
        )
        return
    output.data(f"{name}: {said}" if said else name)
    output.data(f"{path} over {load.config_file(file, os.environ)[0]}\n")
    _tell_models(settings)
    _tell_names(settings)
    _tell_limits(settings.server.limits)


@group.command()
@click.argument("name")
def new(name: str) -> None:
    """Write a new profile, with comments.

    It works as it is, and is yours to change. A profile that is there already is left alone.
    """
    if problem := profiles.name_problem(name, "NAME"):
        raise problem
    try:
        settings = load.settings(None, {**os.environ, profiles.VARIABLE: ""})
    except ConfigError:  # `homeport config check` tells
        settings = None
    path = load.new_profile(name, os.environ, profile_template.text(name, settings))
    output.data(str(path))
    output.say(
        f"edit it, then: homeport serve --profile {name}, or homeport proxy start --profile {name}"
    )


# --------------------------------------------------------------------------- list


def _listed(name: str, path: Path, file: Path | None) -> dict[str, Any]:
    try:
        settings = load.settings(file, os.environ, profile=name)
    except ConfigError:
        settings = None
    return {
        "name": name,
        "file": str(path),
        "description": load.description(path, os.environ),
        "is_chosen": os.environ.get(profiles.VARIABLE) == name,
        "is_right": settings is not None,
        "default_model": None if settings is None else tiers.fallback(settings),
    }


def _tell_list(found: Sequence[dict[str, Any]]) -> None:
    columns = (Column("PROFILE"), Column("DEFAULT MODEL", 1), Column("WHAT FOR", 2))
    rows = [
        (
            one["name"] + " *" * one["is_chosen"],
            one["default_model"] or NOT_KNOWN,
            one["description"] if one["is_right"] else f"(has errors) {one['description']}".strip(),
        )
        for one in found
    ]
    _tell_table(columns, rows)
    if wrong := [one["name"] for one in found if not one["is_right"]]:
        output.warning(
            f"not right: {', '.join(wrong)}", hint=f"homeport config check --profile {wrong[0]}"
        )


def _tell_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """The last column is cut where the terminal ends, before whole ones are left out."""
    *front, last = columns
    width = output.width()
    room = None
    if width is not None:
        taken = [max(len(c.title), *(len(row[i]) for row in rows)) for i, c in enumerate(front)]
        room = width - sum(taken) - len(table.GAP) * len(front)
    cut = [(*row[:-1], _cut(row[-1], room)) for row in rows]
    for cells in table.lines((*front, last), cut, width):
        output.cells(cells, table.GAP, colours={})


def _cut(text: str, room: int | None) -> str:
    if room is None or room < table.NARROWEST or len(text) <= room:
        return text
    return text[: room - 1] + "…"


# --------------------------------------------------------------------------- show


def _tell_models(settings: Settings) -> None:
    if not settings.models:
        output.data("no models of its own: those of upstreams, or that run on this machine\n")
        return
    default = tiers.fallback(settings)
    _tell_table(MODELS, [_model_cells(model, default) for model in settings.models])
    output.data("")


def _model_cells(model: ModelSettings, default: str | None) -> tuple[str, str, str, str]:
    source = model.path or model.hub or model.upstream or " ".join(model.command)
    return (
        model.id + " *" * (model.id == default),
        str(model.ctx or NOT_KNOWN),
        ("custom" if model.command else model.engine) or NOT_KNOWN,
        source or model.upstream_model or NOT_KNOWN,
    )


def _tell_names(settings: Settings) -> None:
    """Who answers for which name: the tiers first, since those are what profiles are made for."""
    rows = [(tier, model or NOT_KNOWN) for tier, model in tiers.tiers(settings).items()]
    rows.append(("other names", tiers.fallback(settings) or NOT_KNOWN))
    rows.append(("completions", tiers.completions(settings) or NOT_KNOWN))
    rows += list(settings.aliases)
    rows += [(route.id, " + ".join(name for name, _ in route.models)) for route in settings.routes]
    _tell_table((Column("NAME"), Column("ANSWERED BY")), rows)
    output.data("")


def _tell_limits(limits: Limits) -> None:
    """Those that are not the usual ones."""
    usual = Limits()
    said = [
        f"{name} {getattr(limits, name):,}".replace(",", " ")
        for name in limits.__struct_fields__
        if getattr(limits, name) != getattr(usual, name)
    ]
    output.data(f"limits: {', '.join(said) or 'the usual ones'}")
