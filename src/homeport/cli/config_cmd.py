"""``homeport config``: look at the configuration without starting anything."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import msgspec

from homeport.cli import output, serve_cmd
from homeport.config import json_schema, load, redact
from homeport.config.litellm_compat import Notice
from homeport.config.problems import Problems
from homeport.config.profiles import VARIABLE
from homeport.errors import ConfigError
from homeport.facts import Machine
from homeport.settings import ModelSettings, Settings


@click.group()
def config() -> None:
    """Check or show the configuration."""


@config.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--profile", metavar="NAME", help="Check with this profile only.")
@click.option("--json", "as_json", is_flag=True, help="Answer as JSON on stdout.")
@click.pass_context
def check(ctx: click.Context, file: Path | None, profile: str | None, as_json: bool) -> None:
    """Check the configuration and its profiles.

    That is FILE, or the file that `homeport serve` would read, and each profile over it.
    Shows every error at once, and of each model what would start it on this machine. Exit code 0 when
    all is well, 1 otherwise.
    """
    serve_cmd.set_up_logs("error")
    path, _ = load.config_file(file, os.environ)
    found = _checked(file, profile)
    names: list[str] = []
    if file is None and profile is None and load.takes_profiles(path):
        names = list(load.profile_files(os.environ))
    others = {name: _checked(file, name) for name in names}
    if as_json:
        profiles = [
            {"profile": name, "file": str(one.profile), **_judged(one)}
            for name, one in others.items()
        ]
        notices = [msgspec.to_builtins(notice) for notice in found.notices]
        output.data_json(
            {"file": str(path), **_judged(found), "notices": notices, "profiles": profiles}
        )
    else:
        _tell(found, path)
        for name, one in others.items():
            _tell_profile(name, one, [*found.errors])
    ctx.exit(1 if found.errors or any(one.errors for one in others.values()) else 0)


class Checked(NamedTuple):
    """What came of checking a configuration, with a profile or without."""

    profile: Path | None
    errors: tuple[ConfigError, ...]
    starts: "list[Start]"
    notices: list[Notice]


def _checked(file: Path | None, profile: str | None) -> Checked:
    """Without a ``profile`` there is none, whatever the environment says."""
    env = {**os.environ, VARIABLE: ""}
    errors: tuple[ConfigError, ...] = ()
    path, starts, notices = None, Starts(), list[Notice]()
    try:
        path = load.profile_file(profile, env)
        load.settings(file, env, more_rules=[starts], tell=notices.append, profile=profile)
    except ConfigError as problem:
        errors = getattr(problem, "errors", (problem,))
    return Checked(path, errors, starts.found, notices)


def _judged(found: Checked) -> dict[str, Any]:
    return {
        "ok": not found.errors,
        "errors": list(map(_plain, found.errors)),
        "models": [start._asdict() for start in found.starts],
    }


def _tell(found: Checked, path: Path) -> None:
    for start in found.starts:
        output.row((start.model, 32), (start.engine, 18), (start.source, 0))
    for each in found.errors:
        output.config_error(each)
    if found.errors:
        return
    serve_cmd.tell_notices(found.notices)
    over = f"{found.profile} over " if found.profile else ""
    if path.exists():
        output.say(f"{over}{path}: no errors")
    else:
        output.say(f"{over}{path}: there is no such file, so the defaults apply")


def _tell_profile(name: str, found: Checked, told: Sequence[ConfigError]) -> None:
    """Only the errors that the configuration does not have by itself."""
    known = {str(error) for error in told}
    new = [error for error in found.errors if str(error) not in known]
    for each in new:
        output.config_error(each)
    if not new:
        output.say(f"{found.profile}: no errors" + " of its own" * bool(told))


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
@click.option("--profile", metavar="NAME", help="Put this profile over the configuration.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of YAML.")
def show(file: Path | None, profile: str | None, as_json: bool) -> None:
    """Show the settings in effect. Defaults are filled in, and secrets hidden."""
    plain = redact.shown(load.settings(file, os.environ, profile=profile))
    if as_json:
        output.data_json(plain)
    else:
        import yaml  # not needed for JSON

        output.data(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True).rstrip("\n"))


@config.command()
@click.option(
    "--profiles", "of_profiles", is_flag=True, help="Print the schema of profiles instead."
)
def schema(of_profiles: bool) -> None:
    """Print the configuration's JSON Schema. Editors check and complete by it."""
    output.data_json(json_schema.of_profiles() if of_profiles else json_schema.json_schema())


@config.group()
def export() -> None:
    """Write the configuration for another program."""


@export.command("litellm")
@click.option("--config", "file", type=click.Path(path_type=Path), help="Configuration file.")
@click.option("--claude", is_flag=True, help="Every claude-* name leads to the default model.")
def export_litellm(file: Path | None, claude: bool) -> None:
    """Write a configuration for LiteLLM to stdout.

    It has the models that are configured here.
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
