"""``homeport install`` and ``homeport uninstall``: the stack's files, images and data."""

import os
import sys
from typing import Final

import click
from msgspec.structs import replace

from homeport.cli import output
from homeport.errors import StackError
from homeport.runtime.nvml import Cards
from homeport.stack.containers import reached
from homeport.stack.containers.compose import Compose
from homeport.stack.containers.docker_client import Docker
from homeport.stack.installing import install as stack
from homeport.stack.installing import uninstall as removing
from homeport.stack.installing.files_plan import Step
from homeport.stack.installing.migrate import Migration
from homeport.stack.installing.uninstall import Uninstalled
from homeport.stack.layout import Layout

EXIT_FAILED: Final = 1
SERVICES: Final = click.Choice(stack.PROFILES)


@click.command()
@click.option(
    "--with",
    "add",
    multiple=True,
    type=SERVICES,
    help="A service beside gateway and database; repeat it for several. It stays chosen.",
)
@click.option(
    "--without", "drop", multiple=True, type=SERVICES, help="A service to do without from now on."
)
@click.option(
    "--no-images", is_flag=True, help="Write the files only; images come with the first start."
)
@click.option("--json", "as_json", is_flag=True, help="What was done, as JSON on stdout.")
def install(add: tuple[str, ...], drop: tuple[str, ...], no_images: bool, as_json: bool) -> None:
    """Write the container stack into services/ of the configuration's folder, and get its images.

    It can be done again: files that you have changed stay, and secrets stay the same. What an older
    layout (run-claude) has is copied over, once. Exit status 1 means that something could not be had:
    Docker, or an image; the files are written all the same.
    """
    if both := sorted(set(add) & set(drop)):
        raise click.UsageError(f"--with and --without {', '.join(both)}")
    layout = Layout.of(os.environ)
    done = stack.install_files(
        layout,
        os.environ,
        add=add,
        drop=drop,
        has_gpu=_has_gpu,
        tell=output.say,
    )
    failed: list[StackError] = []
    try:
        docker = None if no_images else _docker(layout)
        if isinstance(docker, Docker):
            done = replace(done, notes=(*done.notes, *_unknown_profiles(docker)))
        _tell_files(done)
        failed = [] if docker is None else _images(docker, done)
        if as_json:
            output.data_json(_as_json(done, failed))
        for each in failed:
            output.stack_error(each)
    finally:  # also when somebody has waited for Docker or images long enough
        _tell_key(done)
    if failed:
        raise SystemExit(EXIT_FAILED)
    output.say(f"next: homeport proxy {_next(done)}")


@click.command()
@click.option("--volumes", is_flag=True, help="Delete the data, too: usage, metrics, dashboards.")
@click.option("--yes", is_flag=True, help="Delete data without asking.")
@click.option("--json", "as_json", is_flag=True, help="What was done, as JSON on stdout.")
def uninstall(volumes: bool, yes: bool, as_json: bool) -> None:
    """Take away what `homeport install` and `homeport proxy start` have made.

    Your configuration stays, and what you have changed or put into services/; data stays without
    --volumes.
    """
    layout = Layout.of(os.environ)
    docker = _docker(layout)
    if volumes and isinstance(docker, StackError):
        hint = "start it; without --volumes the files can be removed now"
        raise StackError(f"no data can be deleted: {docker.message}", hint=hint)
    if volumes and not yes:
        _ask(layout.project)
    with output.Work() as work:
        done = removing.uninstall(layout, os.environ, docker, work.step, volumes=volumes)
    if as_json:
        output.data_json(done)
    _tell_removed(done)


# --------------------------------------------------------------------------- install


def _tell_files(done: stack.Installed) -> None:
    written = [step for step in done.files if step.action in ("new", "updated")]
    output.say(f"{done.services}: {len(written)} of {len(done.files)} files written")
    for step in done.files:
        if step.action in ("kept", "beside"):
            output.say(f"  {_kept(step)}")
    if done.migrated is not None:
        _tell_migrated(done.migrated)
    for name in done.dropped:
        output.say(
            f"  {name} is left out from now on; if it runs, `homeport proxy restart` ends it"
        )
    for note in done.notes:
        output.say(f"  {note}")


def _next(done: stack.Installed) -> str:
    """A start cuts nobody off, and so takes nothing up that runs already otherwise."""
    is_other = any(step.action in ("new", "updated") for step in done.files)
    return "restart" if done.dropped or (is_other and reached.gateway(os.environ)) else "start"


def _tell_key(done: stack.Installed) -> None:
    if done.new_key:
        output.say(f"the key that clients need: {done.new_key}")
        output.say("  (HOMEPORT_MASTER_KEY in services/.env; it is not shown again)")


def _kept(step: Step) -> str:
    new = f"; the new one is {step.path}.new" if step.action == "beside" else ""
    return f"{step.path} stays as you have changed it{new}"


def _tell_migrated(migrated: Migration) -> None:
    output.say(f"copied from {' and '.join(migrated.folders)}, which stay as they are:")
    for text in migrated.taken:
        output.say(f"  {text}")
    output.say("not taken:")
    for text in migrated.left:
        output.say(f"  {text}")


def _unknown_profiles(docker: Docker) -> list[str]:
    """Nothing where Compose cannot tell: that it cannot is told with the images."""
    try:
        return Compose(docker).unknown_profiles()
    except StackError:
        return []


def _images(docker: Docker | StackError, done: stack.Installed) -> list[StackError]:
    if isinstance(docker, StackError):
        hint = f"the files are written; {docker.hint}, or later `homeport install` again"
        return [StackError(docker.message, hint=hint, said=docker.said)]
    output.say("images:")
    with output.Work() as work:
        return stack.get_images(Compose(docker), done.profiles, work.begin, work.step, work.now)


def _as_json(done: stack.Installed, failed: list[StackError]) -> dict[str, object]:
    migrated = done.migrated
    return {
        "services": done.services,
        "profiles": done.profiles,
        "files": {step.path: step.action for step in done.files},
        "migrated": migrated
        and {"from": migrated.folders, "taken": migrated.taken, "left": migrated.left},
        "notes": done.notes,
        "failed": [each.message for each in failed],
    }


def _has_gpu() -> bool:
    from homeport.cli.serve_cmd import set_up_logs  # what NVML says is for stderr

    set_up_logs("warning")
    return Cards.open(os.environ).count > 0


def _docker(layout: Layout) -> Docker | StackError:
    """The reason, where there is none that answers."""
    try:
        docker = Docker(layout, os.environ)
        docker.check()
    except StackError as problem:
        return problem
    return docker


# --------------------------------------------------------------------------- uninstall


def _ask(project: str) -> None:
    if not sys.stdin.isatty():
        raise click.UsageError("--volumes deletes data; add --yes where nobody can be asked")
    output.say(f"The data of {project} will be deleted: usage records, metrics, dashboards.")
    click.confirm("Delete it?", abort=True, err=True)


def _tell_removed(done: Uninstalled) -> None:
    if done.is_nothing:
        output.say(f"nothing is installed in {done.services}")
    for word, names in (
        ("stopped", done.stopped),
        ("containers removed", done.containers),
        ("images removed", done.images),
        ("data deleted", done.volumes),
    ):
        if names:
            output.say(f"{word}: {', '.join(names)}")
    if done.files:
        output.say(f"{done.services}: {len(done.files)} files removed")
    for path in done.files_kept:
        output.say(f"  {path} stays: you have changed it, or put it there")
    if done.volumes_kept:
        output.say(f"data stays: {', '.join(done.volumes_kept)}")
        output.say("  `homeport uninstall --volumes` deletes it")
    if done.env_kept:
        output.say("services/.env stays: the password of the database is in it")
    if done.images_kept:
        output.say(f"images stay, since others may use them: {', '.join(done.images_kept)}")
    if done.no_docker:
        output.say(f"containers, images and data were not looked at: {done.no_docker}")
        output.say("  when Docker answers, `homeport uninstall` again")
