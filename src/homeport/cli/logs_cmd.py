"""``homeport logs``: what a model's engine has said, and says."""

import click

from homeport.cli import control, output


@click.command()
@click.argument("model")
@click.option("-f", "--follow", is_flag=True, help="Go on with what it says from now on.")
@click.option(
    "--lines",
    type=click.IntRange(min=0),
    default=100,
    show_default=True,
    help="Show this many lines at most.",
)
@control.url_option
def logs(model: str, follow: bool, lines: int, url: str | None) -> None:
    """Show what MODEL's engine has said, over its restarts."""
    found = control.find(url)
    path = f"{control.path_of(model, 'logs')}?lines={lines}"
    if not follow:
        said = found.ask("GET", path)["lines"]
        output.lines(said)
        if not said and lines:
            output.say(f"{model} has said nothing yet")
        return
    try:
        for event, content in found.stream("GET", f"{path}&follow=true"):
            match event:
                case "lines":
                    if content["dropped"]:
                        output.say(f"… {content['dropped']} lines were too fast, and are lost")
                    output.lines(content["lines"])
                case "configured_anew":
                    output.say(f"… {model} has been configured anew; this is its next engine")
                case "gone":
                    output.say(f"… {model} has been taken out of the configuration")
    except KeyboardInterrupt:
        raise SystemExit(control.EXIT_INTERRUPTED) from None
