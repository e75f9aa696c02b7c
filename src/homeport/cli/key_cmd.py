"""``homeport key``: API keys for clients."""

import os

import click

from homeport.cli import output
from homeport.config import keys, load
from homeport.errors import ConfigError


@click.group()
def key() -> None:
    """Make API keys for clients."""


@key.command()
@click.option("--name", help="Whose key it is, for the logs (default: its own).")
@click.option("--json", "as_json", is_flag=True, help="Answer as JSON on stdout.")
def new(name: str | None, as_json: bool) -> None:
    """Make a key and print it, once.

    homeport keeps only its SHA-256.
    The key goes to stdout, the lines for the configuration file to stderr.
    """
    if name is not None and not name.strip():
        raise ConfigError("is empty", where="--name", hint="say whose key it is: --name laptop")
    made = keys.new_key()
    sha256 = keys.sha256_of(made)
    name = name or keys.own_name(sha256)
    names = _names()
    if name in names:
        output.warning(
            f"the configuration has a key called '{name}' already",
            hint="put the new lines in place of the old ones, or take another --name",
        )
    if as_json:
        output.data_json({"name": name, "key": made, "sha256": sha256})
        return
    output.say("The key, shown only this once; give it to the client:\n")
    output.data(made)
    where = "below the keys that are in" if names else "to"
    lines = keys.yaml_lines(name, sha256, is_first=not names)
    output.say(f"\nAdd this {where} the configuration file:\n\n{lines}")
    if not names:
        output.say("Another key goes below that, without the lines 'server:' and 'keys:'.")


def _names() -> list[str]:
    """Of the keys that are configured; none where the configuration has errors, which are told
    elsewhere."""
    try:
        return [key.name for key in load.settings(None, os.environ).server.keys]
    except ConfigError:
        return []
