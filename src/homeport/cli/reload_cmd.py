"""``homeport reload``: the running homeport reads its configuration anew."""

from typing import Any

import click

from homeport.cli import control, output


@click.command()
@control.url_option
@click.option("--json", "as_json", is_flag=True, help="What has changed, as JSON.")
def reload(url: str | None, as_json: bool) -> None:
    """Take up the changed configuration file, and tell what that changes.

    Only models whose settings have changed get a new engine, and requests under way finish with the old
    one. A file with errors changes nothing.
    """
    done = control.find(url).ask("POST", "/admin/reload")
    if as_json:
        output.data_json(done)
    else:
        output.say(in_words(done))


def in_words(done: dict[str, Any]) -> str:
    """What a reload has changed."""
    parts = [
        f"{word} {', '.join(done[key])}"
        for key, word in (
            ("added", "added"),
            ("changed", "changed, with a new engine:"),
            ("adjusted", "changed, with the engine as it is:"),
            ("removed", "removed"),
            ("settings", "settings:"),
            ("needs_restart", "only after a restart:"),
        )
        if done[key]
    ]
    return "; ".join(parts) or "nothing has changed"
