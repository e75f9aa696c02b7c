"""``homeport serve``: from flags to a running gateway. What it says meanwhile is in ``narrators``.

Logs of the running gateway go to stderr as events; ``--json`` turns the start-up talk into JSON lines
on stdout for programs that start homeport.
"""

import gc
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec
import structlog

from homeport import litellm
from homeport.cli import numbers, output, pull_cmd
from homeport.cli.narrators import JsonNarrator, TerminalNarrator
from homeport.config import dialects, load
from homeport.config.flags import Overrides
from homeport.config.litellm_compat import Notice
from homeport.demo import demo_model_path
from homeport.errors import ConfigError
from homeport.runtime import log_file as log_files
from homeport.settings import ModelSettings, Settings

EXIT_CUT = 1  # requests under way were cut
LEVELS = ("debug", "info", "warning", "error")


@click.command()
@click.option("--config", "file", type=click.Path(path_type=Path), help="Configuration file.")
@click.option("--profile", metavar="NAME", help="A set of settings (`homeport profiles list`).")
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="PATH|HUB-ID",
    help="A model to serve: file, folder, or ORG/NAME on the Hugging Face hub.",
)
@click.option(
    "--download-model",
    "downloads",
    multiple=True,
    metavar="HUB-ID",
    help="A model of the hub to serve, after downloading what is missing (`homeport pull`).",
)
@click.option("--engine", metavar="NAME", help="The model's engine: llamacpp, vllm, mlx, ...")
@click.option("--backend", metavar="NAME", help="The same as --engine.")
@click.option(
    "--runner", metavar="NAME", help="The engine runs as: process (default) or container."
)
@click.option(
    "--alias", "aliases", multiple=True, metavar="NAME", help="Another name of the model."
)
@click.option("--ctx", type=numbers.CONTEXT, metavar="N", help="Context per request, in tokens.")
@click.option(
    "--upstream",
    "upstreams",
    multiple=True,
    metavar="URL",
    help="A server that runs already, e.g. http://127.0.0.1:8080/v1; all its models are listed.",
)
@click.option("--llama-server", "binary", metavar="PATH", help="The llama-server to use.")
@click.option("--host", metavar="HOST", help="Address to listen on (default 127.0.0.1).")
@click.option(
    "--port",
    type=numbers.PORT_OR_FREE,
    metavar="N",
    help="Port (default 11899; 0 takes a free one).",
)
@click.option("--default-model", metavar="NAME", help="Model for names that nobody knows.")
@click.option("--autocomplete-model", metavar="NAME", help="Model for editors' completions.")
@click.option("--max-tokens", type=numbers.COUNT, metavar="N", help="The longest answer.")
@click.option(
    "--strict-models", is_flag=True, default=None, help="Answer 404 to names that nobody knows."
)
@click.option(
    "--no-discover",
    "no_discover",
    is_flag=True,
    help="Do not look for model servers on this machine's usual ports.",
)
@click.option(
    "--with-litellm", is_flag=True, default=None, help="Run LiteLLM's proxy beside homeport."
)
@click.option(
    "--litellm-port", type=numbers.PORT, metavar="N", help="LiteLLM's port (default 4000)."
)
@click.option("--litellm-alias", metavar="NAME", help="LiteLLM's name for the default model.")
@click.option("--litellm-version", metavar="X", help="Another LiteLLM than the one verified.")
@click.option("--demo", "demo", is_flag=True, help="Serve the demo model, whatever runs here.")
@click.option(
    "--log-level",
    type=click.Choice(LEVELS),
    default="warning",
    show_default=True,
    help="What is logged.",
)
@click.option(
    "--log-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Log into this file; beyond 8 MiB it becomes FILE.1.",
)
@click.option("--json", "as_json", is_flag=True, help="Start-up talk as JSON lines on stdout.")
def serve(
    *,
    file: Path | None,
    profile: str | None,
    models: tuple[str, ...],
    downloads: tuple[str, ...],
    engine: str | None,
    backend: str | None,
    runner: str | None,
    aliases: tuple[str, ...],
    ctx: int | None,
    upstreams: tuple[str, ...],
    binary: str | None,
    host: str | None,
    port: int | None,
    default_model: str | None,
    autocomplete_model: str | None,
    max_tokens: int | None,
    strict_models: bool | None,
    no_discover: bool,
    with_litellm: bool | None,
    litellm_port: int | None,
    litellm_alias: str | None,
    litellm_version: str | None,
    demo: bool,
    log_level: str,
    log_file: Path | None,
    as_json: bool,
) -> None:
    """Serve models on one port, in the OpenAI and the Anthropic API.

    Without --model, --upstream and a configuration, the model servers that run on this machine are
    served; where there is none, a small demo model that comes with homeport.
    """
    if log_file is not None:
        _say_into(log_file)
    models += downloads
    if demo:
        _refuse_beside_demo(
            ("--model", models),
            ("--upstream", upstreams),
            ("--default-model", default_model),
            ("--autocomplete-model", autocomplete_model),
        )
    flags = Overrides(
        host=host,
        port=port,
        models=models,
        engine=engine,
        backend=backend,
        runner=runner,
        upstreams=upstreams,
        default_model=default_model,
        autocomplete_model=autocomplete_model,
        max_tokens=max_tokens,
        strict_models=strict_models,
        with_litellm=with_litellm,
        litellm_port=litellm_port,
        litellm_alias=litellm_alias,
        litellm_version=litellm_version,
    )

    def read() -> Settings:
        """At the start, and for each reload."""
        notices: list[Notice] = []
        settings = load.settings(file, os.environ, flags, tell=notices.append, profile=profile)
        tell_notices(notices)
        if demo:
            settings = msgspec.structs.replace(
                settings, models=(), upstreams=(), default_model=None, autocomplete_model=None
            )
        if not models and (ctx is not None or binary is not None):
            from homeport.app import with_demo  # heavy, see below

            settings = with_demo(settings)
        flagged = len(models) or len(settings.models)
        return msgspec.structs.replace(
            settings,
            default_aliases=aliases,
            discover=settings.discover and not (no_discover or demo),
            models=tuple(
                _with_flags(model, ctx, binary) if i < flagged else model
                for i, model in enumerate(settings.models)
            ),
        )

    settings = read()
    for model in downloads:  # the settings are right: now it is worth the wait
        pull_cmd.pulled(model, as_json=as_json)
    tell_unverified(settings)
    if not as_json and (chosen := load.profile_file(profile, os.environ)) is not None:
        output.say(f"profile {chosen.stem} ({chosen})")
    set_up_logs(log_level, dated=log_file is not None)
    from homeport.app import App  # heavy: the server, only once the flags are right

    records = dialects.load(load.home(os.environ), output.warning)
    narrator = JsonNarrator() if as_json else TerminalNarrator()
    app = App(
        settings,
        narrator,
        records,
        state_home=load.state_home(os.environ),
        data_home=load.data_home(os.environ),
        reread=read,
    )
    tame_garbage_collector()
    if not app.run():
        sys.exit(EXIT_CUT)


def tell_notices(notices: Sequence[Notice]) -> None:
    """What a LiteLLM file asks for and homeport does otherwise, as one list."""
    if notices:
        output.warning("not everything in this LiteLLM configuration means the same here:")
    for notice in notices:
        output.say(f"  {notice}")


def tell_unverified(settings: Settings) -> None:
    version = settings.litellm.version
    if settings.litellm.enabled and version not in (None, litellm.VERSION):
        output.warning(
            f"LiteLLM {version} was not verified, and is installed without a lock",
            hint=f"without --litellm-version (litellm.version) it is {litellm.VERSION}",
        )


def tame_garbage_collector() -> None:
    """What is loaded by now stays, and need not be looked at again. A request makes some hundred
    objects, and hardly a cycle: at the default threshold (700) the collector would look around with
    every other request. Measured: 7 % of a translated one."""
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def _refuse_beside_demo(*named: tuple[str, object]) -> None:
    """Who names a model wants to have it."""
    if flags := [flag for flag, value in named if value]:
        raise ConfigError(
            f"serves the demo model alone, and cannot stand beside {' and '.join(flags)}",
            where="--demo",
            hint=f"leave out --demo to serve what {' and '.join(flags)} says; "
            f"to have both, name the demo's file too: --model {demo_model_path()}",
        )


def _with_flags(model: ModelSettings, ctx: int | None, binary: str | None) -> ModelSettings:
    return msgspec.structs.replace(model, ctx=ctx or model.ctx, binary=binary or model.binary)


def _say_into(file: Path) -> None:
    """Logs, and what engines print past us, go into the file; the talk goes there, too, and stays
    where the person sees it."""
    if not file.parent.is_dir():
        raise ConfigError(
            f"there is no folder {file.parent}",
            where="--log-file",
            hint="a misspelt path would be a log that nobody finds; make the folder first",
        )
    try:
        before = log_files.take_over(file)
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be written: {error.strerror}", where="--log-file"
        ) from None
    output.tell_too(*before)
    output.say_there(f"logs go to {file}")


def set_up_logs(level: str, *, dated: bool = False) -> None:
    """``dated`` for logs that are read on another day."""
    number = getattr(logging, level.upper())
    logging.basicConfig(level=max(number, logging.WARNING), format="%(message)s", stream=sys.stderr)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # "Invalid HTTP request" and so on
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(
                fmt="%Y-%m-%d %H:%M:%S" if dated else "%H:%M:%S", utc=False
            ),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer(
                colors=output.wants_colour(sys.stderr),
                exception_formatter=structlog.dev.plain_traceback,
            ),
        ],
        cache_logger_on_first_use=True,
    )
