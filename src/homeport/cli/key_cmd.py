"""``homeport key``: API keys for clients."""

import click

from homeport.cli import output
from homeport.config import keys
from homeport.errors import ConfigError


@click.group()
def key() -> None:
    """Make API keys for clients."""


@key.command()
@click.option("--name", default="default", show_default=True, help="Whose key it is, for the logs.")
@click.option("--json", "as_json", is_flag=True, help="Answer as JSON on stdout.")
def new(name: str, as_json: bool) -> None:
    """Make a key and print it, once.

    homeport keeps only its SHA-256.
    The key goes to stdout, the lines for the configuration file to stderr.
    """
    if not name.strip():
        raise ConfigError("is empty", where="--name", hint="say whose key it is: --name laptop")
    made = keys.new_key()
    sha256 = keys.sha256_of(made)
    if as_json:
        output.data_json({"name": name, "key": made, "sha256": sha256})
        return
    output.say("The key, shown only this once; give it to the client:\n")
    output.data(made)
    output.say(f"\nAdd this to the configuration file:\n\n{keys.yaml_lines(name, sha256)}")
