"""``homeport serve``: from flags to a running gateway, and what it tells the person before it.

What a person wants to see: where it listens, which model answers, what to type next. Logs of the
running gateway go to stderr as events; ``--json`` turns the start-up talk into JSON lines on stdout
for programs that start homeport.
"""

import gc
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
import structlog

from homeport import litellm
from homeport.cli import output, pull_cmd, reload_cmd
from homeport.config import dialects, load
from homeport.config.flags import Overrides
from homeport.config.litellm_compat import Notice
from homeport.engines import detect
from homeport.errors import ConfigError
from homeport.facts import Endpoint, ModelFacts
from homeport.runtime import log_file as log_files
from homeport.settings import ModelSettings, Settings

if TYPE_CHECKING:  # heavy
    from homeport.engines.litellm_proxy import Plan
    from homeport.runtime.discovery import Found
    from homeport.runtime.leftovers import Leftovers
    from homeport.server.admin import Reloaded

EXIT_CUT = 1  # requests under way were cut
LEVELS = ("debug", "info", "warning", "error")


@click.command()
@click.option("--config", "file", type=click.Path(path_type=Path), help="Configuration file.")
@click.option("--profile", metavar="NAME", help="A set over it: `homeport profiles list`.")
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
    help="The same, after loading what is missing of it (`homeport pull`).",
)
@click.option("--engine", metavar="NAME", help="What starts it: llamacpp, vllm, mlx, ...")
@click.option("--backend", metavar="NAME", help="The same as --engine.")
@click.option("--runner", metavar="NAME", help="process (the default) or container.")
@click.option("--alias", "aliases", multiple=True, metavar="NAME", help="More names of the model.")
@click.option("--ctx", type=click.IntRange(min=256), metavar="N", help="Context per request.")
@click.option(
    "--upstream",
    "upstreams",
    multiple=True,
    metavar="URL",
    help="A server that runs already, e.g. http://127.0.0.1:8080/v1; all its models are listed.",
)
@click.option("--llama-server", "binary", metavar="PATH", help="The llama-server to use.")
@click.option("--host", metavar="HOST", help="Address to listen on (default 127.0.0.1).")
@click.option("--port", type=int, metavar="N", help="Port (default 11899; 0 takes a free one).")
@click.option("--default-model", metavar="NAME", help="Model for names that nobody knows.")
@click.option("--autocomplete-model", metavar="NAME", help="The same for editors' completions.")
@click.option("--max-tokens", type=int, metavar="N", help="The longest answer.")
@click.option("--strict-models", is_flag=True, default=None, help="404 for unknown names instead.")
@click.option(
    "--no-discover",
    "no_discover",
    is_flag=True,
    help="Do not look for model servers on this machine's usual ports.",
)
@click.option(
    "--with-litellm", is_flag=True, default=None, help="Run LiteLLM's proxy beside homeport."
)
@click.option("--litellm-port", type=int, metavar="N", help="LiteLLM's port (default 4000).")
@click.option("--litellm-alias", metavar="NAME", help="LiteLLM's name for the default model.")
@click.option("--litellm-version", metavar="X", help="Another LiteLLM than the one verified.")
@click.option("--demo", "demo", is_flag=True, help="Serve the demo model, whatever runs here.")
@click.option(
    "--log-level", type=click.Choice(LEVELS), default="warning", show_default=True, help="For logs."
)
@click.option(
    "--log-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Say everything into this file; beyond 8 MiB it becomes FILE.1.",
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


def _with_flags(model: ModelSettings, ctx: int | None, binary: str | None) -> ModelSettings:
    return msgspec.structs.replace(model, ctx=ctx or model.ctx, binary=binary or model.binary)


def _say_into(file: Path) -> None:
    try:
        log_files.take_over(file)
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be written: {error.strerror}", where="--log-file"
        ) from None


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


# --------------------------------------------------------------------------- talk


class TerminalNarrator:
    """Says it to a person, on stderr."""

    def __init__(self) -> None:
        self._url, self._key = "", "local"
        self._is_demo = self._is_ready = self._has_told = False
        self._found: set[str] = set()

    def found(self, found: "Found") -> None:
        server = f"{detect.title(found.engine)} on port {found.port}"
        match found.state:
            case "ready":
                self._found.update(model.name for model in found.models)
                output.say(f"found {server}: {_listed(found.models)}")
            case "loading":
                output.say(f"found {server}, which is still loading")
            case "wants_key":
                output.warning(f"{server} wants a key, and is left alone", hint=WANTS_KEY)
            case "gateway":
                output.warning(
                    f"LiteLLM on port {found.port} may lead back here, and is left alone",
                    hint=f"to serve its models all the same: --upstream {found.url}/v1",
                )

    def cleaned_up(self, left: "Leftovers") -> None:
        ended = [f"{model} ({n} process{'es' * (n != 1)})" for model, n in left.processes]
        if ended := [*ended, *(f"the container {name}" for name in left.containers)]:
            output.say(f"ended what a homeport has left that was killed: {', '.join(ended)}")
        for name in left.unclear:
            output.warning(
                f"the container {name} belongs to a homeport that cannot be seen from here",
                hint=f"if that one has gone: docker rm --force {name}",
            )

    def listening(self, url: str, settings: Settings) -> None:
        self._url = url
        self._key = "YOUR-KEY" if settings.needs_key else "local"
        self._is_demo = [model.id for model in settings.models] == ["homeport-demo"]
        output.say(f"homeport listens on {url}  (Ctrl-C stops)")
        self._tell_how()

    def model_loading(self, model_id: str) -> None:
        output.say(f"  loading {model_id} …")

    def model_ready(self, model_id: str, endpoint: Endpoint) -> None:
        if model_id not in self._found:  # else it has been named
            context = endpoint.model.context_tokens
            size = f", {context} tokens of context" if context else ""
            output.say(f"  {model_id} is ready ({endpoint.engine.engine}{size})")
        self._is_ready = True
        self._tell_how()

    def installing_litellm(self, plan: "Plan") -> None:
        version = plan.settings.version or litellm.VERSION
        output.say(
            f"  installing LiteLLM {version}, once; this takes a minute (`homeport logs litellm`)"
        )

    def litellm_ready(self, endpoint: Endpoint, plan: "Plan") -> None:
        url = endpoint.base_url.removesuffix("/v1")
        output.say(f"  LiteLLM is ready on {url}; there the default model is {plan.alias}")

    def _tell_how(self) -> None:
        """What to type next, once, when there is something to talk to."""
        if self._url and self._is_ready and not self._has_told:
            self._has_told = True
            how = HOW_TO.format(url=self._url, key=self._key)
            output.say((f"{DEMO}\n" if self._is_demo else "") + how)

    def model_failed(self, model_id: str, reason: str) -> None:
        output.error(
            reason, hint=f"requests for {model_id} get a 503 until it starts; it is tried again"
        )

    def upstream_down(self, url: str, reason: str) -> None:
        output.warning(reason, hint=f"start the server at {url}; it is asked every two seconds")

    def reloaded(self, done: "Reloaded") -> None:
        output.say("configuration read anew: " + reload_cmd.in_words(msgspec.to_builtins(done)))

    def reload_failed(self, errors: tuple[ConfigError, ...]) -> None:
        for each in errors:
            output.config_error(each)
        output.say("the configuration was not taken up; everything goes on as before")

    def draining(self, requests: int) -> None:
        waiting = (
            f"waiting for {requests} request{'s' * (requests != 1)}" if requests else "stopping"
        )
        output.say(f"{waiting}; Ctrl-C again to stop at once" if requests else waiting)

    def forced(self) -> None:
        output.say("stopping at once; requests under way are cut")

    def stopped(self) -> None:
        output.say("stopped")


def _listed(models: Sequence[ModelFacts]) -> str:
    shown = [
        model.name + (f" ({model.context_tokens} tokens)" if model.context_tokens else "")
        for model in models[:MAX_LISTED]
    ]
    more = len(models) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


MAX_LISTED = 8
"""An Ollama may have dozens."""

WANTS_KEY = (
    "write it into the configuration file: a model with its upstream and api_key; "
    "or leave discovery out with --no-discover"
)

DEMO = """
  This is the demo model: a few million weights that can greet, echo and call a tool.
  Serve a real one:   homeport serve --model path/to/model.gguf
  or a running one:   homeport serve --upstream http://127.0.0.1:8080/v1"""

HOW_TO = """
  Claude Code:  ANTHROPIC_BASE_URL={url} ANTHROPIC_AUTH_TOKEN={key} claude
  OpenAI SDKs:  OPENAI_BASE_URL={url}/v1 OPENAI_API_KEY={key}
"""


class JsonNarrator:
    """One JSON object a line, on stdout: ``{"event": …}``."""

    def found(self, found: "Found") -> None:
        models = [
            {"model": model.name, "context_tokens": model.context_tokens} for model in found.models
        ]
        self._tell(
            "found", upstream=found.url, state=found.state, engine=found.engine, models=models
        )

    def cleaned_up(self, left: "Leftovers") -> None:
        processes = [{"model": model, "processes": count} for model, count in left.processes]
        self._tell("cleaned_up", ended=processes, containers=left.containers, unclear=left.unclear)

    def listening(self, url: str, settings: Settings) -> None:
        port = int(url.rpartition(":")[2])
        self._tell("listening", url=url, port=port)

    def model_loading(self, model_id: str) -> None:
        self._tell("model_loading", model=model_id)

    def installing_litellm(self, plan: "Plan") -> None:
        self._tell("installing_litellm", version=plan.settings.version or litellm.VERSION)

    def litellm_ready(self, endpoint: Endpoint, plan: "Plan") -> None:
        url = endpoint.base_url.removesuffix("/v1")
        self._tell("litellm_ready", url=url, alias=plan.alias)

    def model_ready(self, model_id: str, endpoint: Endpoint) -> None:
        self._tell(
            "model_ready",
            model=model_id,
            engine=endpoint.engine.engine,
            context_tokens=endpoint.model.context_tokens,
        )

    def model_failed(self, model_id: str, reason: str) -> None:
        self._tell("model_failed", model=model_id, reason=reason)

    def upstream_down(self, url: str, reason: str) -> None:
        self._tell("upstream_down", upstream=url, reason=reason)

    def reloaded(self, done: "Reloaded") -> None:
        self._tell("reloaded", **msgspec.to_builtins(done))

    def reload_failed(self, errors: tuple[ConfigError, ...]) -> None:
        self._tell("reload_failed", errors=[str(each) for each in errors])

    def draining(self, requests: int) -> None:
        self._tell("draining", requests=requests)

    def forced(self) -> None:
        self._tell("forced")

    def stopped(self) -> None:
        self._tell("stopped")

    def _tell(self, event: str, **facts: Any) -> None:
        try:
            output.data(msgspec.json.encode({"event": event, **facts}).decode())
        except BrokenPipeError:  # who started us has read enough and left; serving goes on
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
