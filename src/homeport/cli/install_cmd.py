"""``homeport install`` and ``homeport uninstall``: the stack's files, images and data."""

import os

import click

from homeport.cli import output
from homeport.errors import StackError
from homeport.stack import install as stack
from homeport.stack.compose import Compose
from homeport.stack.docker_client import Docker
from homeport.stack.files_plan import Step
from homeport.stack.layout import Layout

EXIT_FAILED = 1


@click.command()
@click.option(
    "--with",
    "chosen",
    multiple=True,
    type=click.Choice(stack.PROFILES),
    help="A service beside gateway and database; repeat it for several.",
)
@click.option("--no-images", is_flag=True, help="Only the files; images come with the first start.")
@click.option("--json", "as_json", is_flag=True, help="What was done, as JSON on stdout.")
def install(chosen: tuple[str, ...], no_images: bool, as_json: bool) -> None:
    """Write the container stack into services/ of the configuration's folder, and get its images.

    It can be done again: files that you have changed stay, and secrets stay the same.
    """
    layout = Layout.of(os.environ)
    done = stack.install_files(layout, os.environ, chosen or None)
    _tell_files(done)
    failed = [] if no_images else _images(layout, done)
    if as_json:
        files = {step.path: step.action for step in done.files}
        output.data_json(
            {
                "services": done.services,
                "profiles": done.profiles,
                "files": files,
                "failed": [each.message for each in failed],
            }
        )
    for each in failed:
        output.stack_error(each)
    if failed:
        raise SystemExit(EXIT_FAILED)
    output.say("next: homeport proxy start")


def _tell_files(done: stack.Installed) -> None:
    written = [step for step in done.files if step.action in ("new", "updated")]
    output.say(f"{done.services}: {len(written)} of {len(done.files)} files written")
    for step in done.files:
        if step.action in ("kept", "beside"):
            output.say(f"  {_kept(step)}")
    if done.new_key:
        output.say(f"  the key that clients need: {done.new_key}")
        output.say("  (HOMEPORT_MASTER_KEY in services/.env; it is not shown again)")


def _kept(step: Step) -> str:
    new = f"; the new one is {step.path}.new" if step.action == "beside" else ""
    return f"{step.path} stays as you have changed it{new}"


def _images(layout: Layout, done: stack.Installed) -> list[StackError]:
    docker = Docker(layout, os.environ)
    docker.check()
    output.say("images:")
    with output.Work() as work:
        return stack.get_images(Compose(docker), done.profiles, work.step, work.now)
