"""``homeport proxy``: what is installed on this machine, started, stopped and watched."""

import os

import click

from homeport.cli import output
from homeport.stack.compose import Compose
from homeport.stack.docker_client import Docker
from homeport.stack.layout import Layout
from homeport.stack.proxy import Proxy, Wanted


@click.group()
def proxy() -> None:
    """Start, stop and watch the homeport that is installed on this machine."""


def _found() -> Proxy:
    return Compose(Docker(Layout.of(os.environ), os.environ))


@proxy.command()
@click.option("--no-db", is_flag=True)
@click.option("--debug", is_flag=True)
@click.option("--profile", metavar="NAME")
def start(no_db: bool, debug: bool, profile: str | None) -> None:
    with output.Work() as work:
        started = _found().start(Wanted(profile=profile, no_db=no_db, debug=debug), work.step)
    output.say(f"homeport is healthy: {started.url}")


@proxy.command()
@click.option("--stop-db", is_flag=True)
def stop(stop_db: bool) -> None:
    with output.Work() as work:
        was = _found().stop(work.step, stop_db=stop_db)
    output.say("stopped" if was else "nothing ran")


@proxy.command()
def status() -> None:
    output.data_json(_found().status())


@proxy.command()
def health() -> None:
    output.data_json(_found().health())


@proxy.command()
@click.option("-f", "--follow", is_flag=True)
@click.option("--lines", type=int, default=100)
def logs(follow: bool, lines: int) -> None:
    for line in _found().logs(lines=lines, follow=follow):
        output.lines([line])
