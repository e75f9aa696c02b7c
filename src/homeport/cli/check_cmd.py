"""``homeport check``: asks an engine what it can do, and tells a table.

The table is the answer (stdout), in a person's words (``check_words``) or as JSON; with ``--save`` what
was seen becomes the engine's dialect record, by which ``homeport serve`` goes from then on.
"""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import msgspec

from homeport.cli import check_words, control, output, serve_cmd
from homeport.config import dialects, load
from homeport.engines import records
from homeport.engines.findings import Finding, Probe
from homeport.engines.litellm_proxy import is_beyond
from homeport.errors import ConfigError, UpstreamError
from homeport.facts import Endpoint
from homeport.runtime.probe import WANTS_KEY, base_url_of
from homeport.settings import ModelSettings, Settings


@click.command()
@click.argument("model", required=False)
@click.option("--config", "file", type=click.Path(path_type=Path), help="Configuration file.")
@click.option(
    "--upstream",
    "--url",
    "url",
    metavar="URL",
    help="A server that runs already; MODEL is one of its models then (default: its first).",
)
@click.option("--json", "as_json", is_flag=True, help="Answer as JSON on stdout.")
@click.option("--save", is_flag=True, help="Keep what was found; `homeport serve` goes by it.")
def check(model: str | None, file: Path | None, url: str | None, as_json: bool, save: bool) -> None:
    """Ask the engine of MODEL what it can do, feature by feature.

    MODEL is a model of the configuration, or a GGUF file; its engine is started where need be. Without
    MODEL it is the default model. Exit code 0 when the engine could be asked.
    """
    from homeport.app import run_check, with_demo  # heavy: the server

    serve_cmd.set_up_logs("error")  # what fails is told as the answer
    said = load.settings(file, os.environ)
    settings = with_demo(said)
    beside = _beside() if url is None else []
    if model is None and settings is not said:  # not the demo, where something else is served
        model = next((row["id"] for _, row in beside if row["is_default"]), None)
    chosen = _chosen(model, url, settings, beside)
    _spare_memory(chosen, beside)
    width = output.width()

    def ready(endpoint: Endpoint) -> None:
        engine = endpoint.engine
        version = f" {engine.version}" if engine.version else ""
        _say(f"{endpoint.model.name} at {endpoint.base_url} ({engine.engine}{version})", width)

    def told(probe: Probe, finding: Finding) -> None:
        if not as_json:
            for line in check_words.row(probe, finding, chosen.dialect, width):
                output.row((line, 0))

    try:
        endpoint, findings = run_check(chosen, settings.server.limits, ready, told)
    except UpstreamError as error:
        output.error(error.message, hint=_way_on(error.message, url))
        raise SystemExit(1) from None
    record = records.Record(
        engine=endpoint.engine.engine,
        version=endpoint.engine.version,
        model=endpoint.model.name,
        checked_at=datetime.now(UTC).isoformat(timespec="seconds"),
        findings=findings,
    )
    changes = _changes(endpoint, record)
    if as_json:
        output.data_json({"url": endpoint.base_url, **_plain(record), "changes": changes})
    else:
        _tell(record, changes, width, save=save)
    if save:
        _save(record)


def _way_on(message: str, url: str | None) -> str:
    """What to do about a server that cannot be asked. Keys are in the configuration only: a command
    line is there for everybody on the machine to read."""
    if url is None:
        return ""
    if WANTS_KEY in message:
        return f"put `upstream: {url}` and its api_key into the configuration, under models: NAME:"
    return "is the server up, and the URL right?"


def _beside() -> list[tuple[str, dict[str, Any]]]:
    """The models of the homeports that run on this machine, each with the address of its homeport."""
    return [
        (one.url, row)
        for one in control.here(os.environ)
        for row in one.ask("GET", control.MODELS)["models"]
    ]


def _spare_memory(chosen: ModelSettings, beside: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """An engine whose key only its homeport knows cannot be asked by us, and one more with the same
    model may be more than the machine has memory for."""
    for url, row in beside:
        if chosen.is_ours and row["id"] == chosen.id and row["pid"] is not None:
            control.fail(
                f"{chosen.id} is loaded by the homeport at {url}, and a check starts an engine of its "
                "own, which takes the model's memory a second time",
                f"homeport unload {chosen.id}; the next request loads it again",
            )


def _chosen(
    name: str | None,
    url: str | None,
    settings: Settings,
    beside: Sequence[tuple[str, dict[str, Any]]],
) -> ModelSettings:
    """The model to check. Raises ``ConfigError`` for a name that leads nowhere."""
    if url is not None:
        return _at(url, name, settings)
    by_name = {alias: model for model in settings.models for alias in (*model.aliases, model.id)}
    if name is None:
        name = settings.default_model or next((model.id for model in settings.models), None)
    if name in by_name and is_beyond(by_name[name]):
        hint = "what it does there, LiteLLM's documentation tells"
        raise ConfigError(f"'{name}' is only reached by LiteLLM", where="MODEL", hint=hint)
    if name in by_name:
        return by_name[name]
    if name is not None and name.endswith(".gguf"):
        path = Path(name).absolute()
        return ModelSettings(id=path.stem, path=str(path))
    hint = _hint_of(name, beside) or f"the configuration has: {', '.join(by_name)}"
    raise ConfigError(f"there is no model '{name}'", where="MODEL", hint=hint)


def _hint_of(name: str | None, beside: Sequence[tuple[str, dict[str, Any]]]) -> str:
    """How to check a model that runs here, by another configuration than the one we read."""
    for url, row in beside:
        if name in (row["id"], *row["aliases"]):
            if row["upstream"]:
                return f"the homeport at {url} has it: homeport check --upstream {row['upstream']}"
            return f"the homeport at {url} has it, by its own configuration: name that by --config"
    return ""


def _at(url: str, name: str | None, settings: Settings) -> ModelSettings:
    """A model of this server; with the key, where the configuration knows the server."""
    known = next(
        (m for m in settings.models if m.upstream and base_url_of(m.upstream) == base_url_of(url)),
        ModelSettings(id=name or "upstream"),
    )
    return msgspec.structs.replace(known, upstream=url, upstream_model=name)


def _changes(endpoint: Endpoint, record: records.Record) -> dict[str, Any]:
    """The facts that the record changes."""
    after = records.learned(endpoint, (record,))
    changed: dict[str, Any] = {}
    for before, now in ((endpoint.engine, after.engine), (endpoint.model, after.model)):
        for name in now.__struct_fields__:
            if getattr(before, name) != getattr(now, name):
                changed[name] = getattr(now, name)
    return changed


def _plain(record: records.Record) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(record)
    return plain


def _tell(
    record: records.Record, changes: dict[str, Any], width: int | None, *, save: bool
) -> None:
    """What follows of it all."""
    if verdict := check_words.verdict(record.findings):
        _say("\n" + verdict, width)
    _say("\n" + check_words.changes(changes, record.engine, is_saved=save), width)


def _say(text: str, width: int | None) -> None:
    for line in text.splitlines():
        output.say(check_words.wrapped(line, width))


def _save(record: records.Record) -> None:
    try:
        path = dialects.save(load.home(os.environ), record)
    except OSError as error:
        raise ConfigError(
            f"cannot write the record: {error.strerror}", where=str(error.filename)
        ) from None
    output.say(f"\nkept; `homeport serve` goes by it from its next start on:\n  {path}")
