"""``homeport config``: look at the configuration without starting anything."""

import os
from pathlib import Path

import click

from homeport.cli import output
from homeport.config import json_schema, load, redact
from homeport.errors import ConfigError


@click.group()
def config() -> None:
    """Check or show the configuration."""


@config.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Answer as JSON on stdout.")
@click.pass_context
def check(ctx: click.Context, file: Path | None, as_json: bool) -> None:
    """Check FILE, or the file that `homeport serve` would read.

    Shows every error at once. Exit code 0 when all is well, 1 otherwise.
    """
    path, named = load.config_file(file, os.environ)
    errors: tuple[ConfigError, ...] = ()
    try:
        load.settings(file, os.environ)
    except ConfigError as problem:
        errors = getattr(problem, "errors", (problem,))
    if as_json:
        output.data_json({"file": str(path), "ok": not errors, "errors": list(map(_plain, errors))})
    elif errors:
        for each in errors:
            output.config_error(each)
    elif named or path.exists():
        output.say(f"{path}: no errors")
    else:
        output.say(f"{path}: there is no such file, so the defaults apply")
    ctx.exit(1 if errors else 0)


def _plain(error: ConfigError) -> dict[str, str]:
    return {
        "where": error.where,
        "key": error.key,
        "message": error.message,
        "hint": error.hint,
    }


@config.command()
@click.option("--config", "file", type=click.Path(path_type=Path), help="Configuration file.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of YAML.")
def show(file: Path | None, as_json: bool) -> None:
    """Show the settings in effect, defaults filled in and secrets hidden."""
    plain = redact.shown(load.settings(file, os.environ))
    if as_json:
        output.data_json(plain)
    else:
        import yaml  # not needed for JSON

        output.data(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True).rstrip("\n"))


@config.command()
def schema() -> None:
    """Print the JSON Schema of the configuration file, for editors."""
    output.data_json(json_schema.json_schema())
