"""``homeport config``: look at the configuration without starting anything."""

import os
import shutil
from pathlib import Path
from typing import NamedTuple

import click
import msgspec

from homeport.cli import output, serve_cmd
from homeport.config import json_schema, load, redact
from homeport.config.litellm_compat import Notice
from homeport.config.problems import Problems
from homeport.errors import ConfigError
from homeport.spec import Machine, ModelSettings, Settings


@click.group()
def config() -> None:
    """Check or show the configuration."""


@config.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Answer as JSON on stdout.")
@click.pass_context
def check(ctx: click.Context, file: Path | None, as_json: bool) -> None:
    """Check FILE, or the file that `homeport serve` would read.

    Shows every error at once, and of each model what would start it on this machine. Exit code 0 when
    all is well, 1 otherwise.
    """
    serve_cmd.set_up_logs("error")
    path, named = load.config_file(file, os.environ)
    errors: tuple[ConfigError, ...] = ()
    starts, notices = Starts(), list[Notice]()
    try:
        load.settings(file, os.environ, more_rules=[starts], tell=notices.append)
    except ConfigError as problem:
        errors = getattr(problem, "errors", (problem,))
    if as_json:
        output.data_json(
            {
                "file": str(path),
                "ok": not errors,
                "errors": list(map(_plain, errors)),
                "models": [start._asdict() for start in starts.found],
                "notices": [msgspec.to_builtins(notice) for notice in notices],
            }
        )
        ctx.exit(1 if errors else 0)
    for start in starts.found:
        output.row((start.model, 32), (start.engine, 18), (start.source, 0))
    if not errors:
        serve_cmd.tell_notices(notices)
    for each in errors:
        output.config_error(each)
    if not errors and (named or path.exists()):
        output.say(f"{path}: no errors")
    elif not errors:
        output.say(f"{path}: there is no such file, so the defaults apply")
    ctx.exit(1 if errors else 0)


class Start(NamedTuple):
    """What would serve a model."""

    model: str
    engine: str
    runner: str | None
    source: str


class Starts:
    """A rule: what homeport is to start, it can start on this machine: its files are right, and its
    engine is installed. ``found`` holds what would start each model."""

    def __init__(self) -> None:
        self.found: list[Start] = []

    def __call__(self, settings: Settings, problems: Problems) -> None:
        if any(model.is_ours for model in settings.models):
            from homeport.runtime.choosing import with_engines
            from homeport.runtime.machine import read_machine  # these need a moment
            from homeport.runtime.nvml import Cards

            machine = read_machine(Cards.open())
            settings = with_engines(load.with_defaults(settings), machine)
        for model in settings.models:
            if model.upstream is not None:
                self.found.append(Start(model.id, model.engine or "asked", None, model.upstream))
            elif model.via == "litellm":
                self.found.append(
                    Start(model.id, "litellm", None, model.upstream_model or model.id)
                )
            elif model.path or model.hub or model.command:  # else that has been told
                self._judge(model, machine, problems)

    def _judge(self, model: ModelSettings, machine: Machine, problems: Problems) -> None:
        from homeport.runtime.starting import command_for

        if model.binary is not None and shutil.which(model.binary) is None:
            message = f"'{model.binary}' is not on the PATH, or no program"
            problems.add(
                ("models", model.id, "binary"), message, "check the name; `which` finds it"
            )
            return
        try:
            engine = command_for(model, machine, 1, "key").engine
        except ConfigError as wrong:
            here = ("models", model.id, wrong.key.rpartition(".")[2] or "path")
            problems.add(here, wrong.message, wrong.hint)
        else:
            source = model.path or model.hub or model.command[0]
            runner = model.runner or "process"
            self.found.append(Start(model.id, engine, runner, source))


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


@config.group()
def export() -> None:
    """Write the configuration for another program, to stdout."""


@export.command("litellm")
@click.option("--config", "file", type=click.Path(path_type=Path), help="Configuration file.")
@click.option("--claude", is_flag=True, help="Every claude-* name leads to the default model.")
def export_litellm(file: Path | None, claude: bool) -> None:
    """A configuration of LiteLLM's for the models that are configured here.

    No key is written down: LiteLLM finds them in its environment, by the names that stderr lists.
    """
    import yaml

    from homeport.engines.litellm import exported

    settings = load.settings(file, os.environ)
    if not settings.models:
        raise ConfigError(
            "no model is configured",
            where=str(load.config_file(file, os.environ)[0]),
            hint="add models:, or name a file by --config",
        )
    found = exported(settings, claude=claude)
    output.data(yaml.safe_dump(found.config, sort_keys=False, allow_unicode=True).rstrip("\n"))
    if found.variables:
        output.say(f"LiteLLM needs these in its environment: {', '.join(found.variables)}")
