"""The ``homeport`` command: a table of subcommands, each loaded when it is used.

``homeport --help`` answers at once, since the help line stands in the table and no subcommand's
module (YAML, the server, an engine) is imported for it.

A ``ConfigError`` from any subcommand ends here: printed, exit code 2, no traceback; and so does a
``StackError``, with 1. Whatever way it fails, ``--json`` gets its errors as JSON (``output``).
"""

from importlib import import_module
from itertools import takewhile
from typing import Any, Final, NamedTuple

import click

from homeport import __version__
from homeport.cli import output
from homeport.errors import ConfigError, StackError

EXIT_FAILED: Final = 1
EXIT_CONFIG: Final = 2
JSON: Final = "--json"


class Subcommand(NamedTuple):
    module: str
    attribute: str
    help: str


COMMANDS: Final = {
    "serve": Subcommand("homeport.cli.serve_cmd", "serve", "Serve models on one port."),
    "boot": Subcommand("homeport.cli.boot_cmd", "boot", "Start a container's chain of servers."),
    "pull": Subcommand(
        "homeport.cli.pull_cmd", "pull", "Download a model from the Hugging Face hub."
    ),
    "ps": Subcommand("homeport.cli.ps_cmd", "ps", "Show what every model is doing."),
    "load": Subcommand(
        "homeport.cli.model_cmds", "load", "Load a model, and wait until it is ready."
    ),
    "unload": Subcommand("homeport.cli.model_cmds", "unload", "Stop a model's engine."),
    "restart": Subcommand(
        "homeport.cli.model_cmds", "restart", "Stop a model's engine, and start it again."
    ),
    "logs": Subcommand("homeport.cli.logs_cmd", "logs", "Show what a model's engine says."),
    "reload": Subcommand("homeport.cli.reload_cmd", "reload", "Take up a changed configuration."),
    "usage": Subcommand("homeport.cli.usage_cmd", "usage", "Show what was asked of which model."),
    "install": Subcommand("homeport.cli.install_cmd", "install", "Write the container stack."),
    "uninstall": Subcommand(
        "homeport.cli.install_cmd", "uninstall", "Take away what homeport has installed."
    ),
    "proxy": Subcommand("homeport.cli.proxy_cmd", "proxy", "Start and stop homeport as a service."),
    "config": Subcommand("homeport.cli.config_cmd", "config", "Check or show the configuration."),
    "profiles": Subcommand(
        "homeport.cli.profiles_cmd", "group", "List, show and make sets of settings."
    ),
    "check": Subcommand("homeport.cli.check_cmd", "check", "Ask an engine what it can do."),
    "key": Subcommand("homeport.cli.key_cmd", "key", "Make API keys for clients."),
}


class LazyGroup(click.Group):
    """Takes its subcommands from ``COMMANDS``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = COMMANDS.get(cmd_name)
        if found is None:
            return None
        command: click.Command = getattr(import_module(found.module), found.attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.help) for name, command in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        output.begin(as_json=JSON in takewhile("--".__ne__, ctx.args))
        try:
            return self._carried_out(ctx)
        except (SystemExit, click.exceptions.Exit):
            output.errors_json()
            raise
        except click.UsageError as problem:
            output.note(problem.format_message())
            output.errors_json()
            raise

    def _carried_out(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ConfigError as problem:
            output.config_error(problem)
            ctx.exit(EXIT_CONFIG)
        except StackError as problem:
            output.stack_error(problem)
            ctx.exit(EXIT_FAILED)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="homeport %(version)s")
def main() -> None:
    """One port for every local model: the OpenAI and the Anthropic API in front of your engines."""
