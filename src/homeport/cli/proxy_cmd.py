"""``homeport proxy``: the homeport of this machine, in containers or in the background.

What runs it is chosen by ``stack.choosing`` and looks the same from here (``stack.proxy``).
"""

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import click

from homeport.cli import control, output, table
from homeport.cli.ps_cmd import duration
from homeport.cli.table import Column
from homeport.stack.proxy import Check, Member, Proxy, Started, Wanted

EXIT_UNHEALTHY: Final = 1
COLUMNS: Final = (
    Column("NAME"),
    Column("STATE"),
    Column("HEALTH", 1),
    Column("SINCE", 4, is_number=True),
    Column("ADDRESS", 2),
    Column("", 3),
)
COLOURS: Final = {"healthy": "32", "starting": "33", "unhealthy": "31", "died": "31"}

F = TypeVar("F", bound=Callable[..., Any])


@click.group()
def proxy() -> None:
    """Start, stop and watch the homeport of this machine, with all that belongs to it.

    In containers where `homeport install` has been run and there is a Docker, else in the background:
    as a systemd user unit, or as a process.
    """


def _options(command: F) -> F:
    for option in (
        click.option(
            "--profile", metavar="NAME", help="A named set of models (`homeport profiles`)."
        ),
        click.option("--debug", is_flag=True, help="Log everything."),
        click.option("--no-db", is_flag=True, help="Without database and usage records."),
        _local,
    ):
        command = option(command)
    return command


_local = click.option(
    "--local", is_flag=True, help="Without containers, even where they are installed."
)


@proxy.command()
@_options
@click.option("--json", "as_json", is_flag=True, help="Answer as JSON on stdout.")
def start(local: bool, no_db: bool, debug: bool, profile: str | None, as_json: bool) -> None:
    """Start homeport, and wait until it is healthy.

    One that runs already as it is wanted stays; one that runs otherwise is an error, since a start cuts
    nobody off: `homeport proxy restart` does.
    """
    _check_profile(profile)
    found = _chosen(local, says_why=True)
    with output.Work() as work:
        started = found.start(Wanted(profile=profile, no_db=no_db, debug=debug), work.step)
    _tell(found, started, as_json)


@proxy.command()
@_options
@click.option("--json", "as_json", is_flag=True, help="Answer as JSON on stdout.")
def restart(local: bool, no_db: bool, debug: bool, profile: str | None, as_json: bool) -> None:
    """Stop homeport, and start it again. Without options it runs as it ran."""
    _check_profile(profile)
    found = _chosen(local, says_why=True)
    wanted = Wanted(profile=profile, no_db=no_db, debug=debug)
    with output.Work() as work:
        started = found.restart(wanted if wanted != Wanted() else None, work.step)
    _tell(found, started, as_json)


@proxy.command()
@_local
@click.option("--stop-db", is_flag=True, help="Stop the database, too; its data stays.")
def stop(local: bool, stop_db: bool) -> None:
    """Stop homeport when its requests have ended."""
    with output.Work() as work:
        has_run = _chosen(local).stop(work.step, stop_db=stop_db)
    output.say("stopped" if has_run else "nothing runs")


@proxy.command()
@_local
@click.option("--json", "as_json", is_flag=True, help="Answer as JSON on stdout.")
def status(local: bool, as_json: bool) -> None:
    """Show what runs, since when, and where."""
    found = _chosen(local).status()
    if as_json:
        output.data_json(found)
        return
    shown = table.lines(COLUMNS, [_cells(member) for member in found.members], output.width())
    for member, cells in zip([None, *found.members], shown, strict=True):
        colours = {1: member.state, 2: member.health} if member else {}
        output.cells(
            cells, table.GAP, {at: COLOURS[word] for at, word in colours.items() if word in COLOURS}
        )
    _warn(found.members)


@proxy.command()
@_local
@click.option("--json", "as_json", is_flag=True, help="Answer as JSON on stdout.")
def health(local: bool, as_json: bool) -> None:
    """Ask each part whether it is healthy.

    The exit code is 1 when one is not.
    That no model can answer, or the database takes no usage records, is a warning, and 0.
    """
    found = _chosen(local).health()
    if as_json:
        output.data_json(found)
    else:
        for check in found.checks:
            word = "healthy" if check.is_healthy else "unhealthy"
            text = f"{word:<9}  {check.name}" + (f": {check.why}" if check.why else "")
            output.cells([text], "", {0: COLOURS[word]})
        if not found.checks:
            output.say("nothing runs")
        _warn(found.checks)
    if not found.is_healthy:
        raise SystemExit(EXIT_UNHEALTHY)


@proxy.command()
@_local
@click.option("-f", "--follow", is_flag=True, help="Go on with what is said from now on.")
@click.option(
    "--lines",
    type=click.IntRange(min=0),
    default=100,
    show_default=True,
    help="Show this many lines at most.",
)
@click.option(
    "--service", metavar="NAME", help="Only what this service says (`homeport proxy status`)."
)
def logs(local: bool, follow: bool, lines: int, service: str | None) -> None:
    """Show the logs of homeport and its services."""
    try:
        for line in _chosen(local).logs(lines=lines, follow=follow, service=service):
            output.lines([line])
    except KeyboardInterrupt:
        raise SystemExit(control.EXIT_INTERRUPTED) from None
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _check_profile(name: str | None) -> None:
    """Whatever runs homeport is told a name only, and would blame a variable that nobody has set."""
    from homeport.config import load

    if name is not None:
        load.profile_file(name, os.environ)


def _chosen(local: bool, *, says_why: bool = False) -> Proxy:
    from homeport.stack.chosen import chosen  # Docker, processes: not for `--help`

    found, choice = chosen(os.environ, wants_local=local)
    if says_why:
        output.say(choice.why)
    return found


def _warn(found: Sequence[Member | Check | Started]) -> None:
    for each in found:
        for warning in each.warnings:
            output.warning(warning.what, hint=warning.hint)


def _tell(proxy: Proxy, started: Started, as_json: bool) -> None:
    if as_json:
        output.data_json(
            {
                "kind": proxy.kind,
                "url": started.url,
                "was_running": started.was_running,
                "without": started.without,
                "warnings": started.warnings,
            }
        )
        return
    output.say(
        f"homeport {'runs already' if started.was_running else 'is healthy'}: {started.url}"
        f"{', without ' + ', '.join(started.without) if started.without else ''}\n"
        f"  Claude Code:  ANTHROPIC_BASE_URL={started.url} ANTHROPIC_AUTH_TOKEN=KEY claude\n"
        f"  OpenAI SDKs:  OPENAI_BASE_URL={started.url}/v1 OPENAI_API_KEY=KEY\n"
        f"{KEY_IS[proxy.kind]}"
    )
    _warn([started])


_IN_FILE = "  KEY is HOMEPORT_MASTER_KEY of services/.env"
_ANY = "  KEY is any word, unless you have configured keys"
KEY_IS: Final = {"containers": _IN_FILE, "unit": _ANY, "process": _ANY}


def _cells(member: Member) -> list[str]:
    since = duration((datetime.now(UTC) - member.since).total_seconds()) if member.since else "-"
    health = "-" if member.health == "unknown" else member.health
    return [member.name, member.state, health, since, ", ".join(member.ports) or "-", member.detail]
