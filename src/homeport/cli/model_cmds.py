"""``homeport load``, ``unload``, ``restart``: the same thing to three purposes. homeport is told, and
tells how far it is: on a terminal in one line that is written over, elsewhere line by line."""

from collections.abc import Iterable
from typing import Any, Final

import click

from homeport.cli import control, output
from homeport.cli.control import Control

STEPS: Final = {
    "queued": "waiting for its turn",
    "starting": "starting",
    "waiting_for_memory": "waiting until memory is free",
    "loading": "loading",
    "stopping": "stopping",
    "asking": "asking its server",
}


@click.command()
@click.argument("model")
@control.url_option
def load(model: str, url: str | None) -> None:
    """Load MODEL, and wait until it is ready.

    Others are stopped to make room as they would be for a request.
    """
    _carry_out(control.find(url), model, "load")


@click.command()
@click.argument("model", required=False)
@click.option("--all", "is_all", is_flag=True, help="Stop every model's engine.")
@control.url_option
def unload(model: str | None, is_all: bool, url: str | None) -> None:
    """Stop MODEL's engine, when its requests have ended. A later request starts it again."""
    if (model is None) != is_all:
        raise click.UsageError("name a model, or --all")
    found = control.find(url)
    if model is not None:
        _carry_out(found, model, "unload")
        return
    rows = found.ask("GET", control.MODELS)["models"]
    loaded = [
        r["id"] for r in rows if not r["upstream"] and r["state"] not in ("stopped", "failed")
    ]
    if not loaded:
        output.say("nothing is loaded")
    for name in loaded:
        _carry_out(found, name, "unload")


@click.command()
@click.argument("model")
@control.url_option
def restart(model: str, url: str | None) -> None:
    """Stop MODEL's engine, when its requests have ended, and start it again."""
    _carry_out(control.find(url), model, "restart")


def _carry_out(found: Control, model: str, action: str) -> None:
    teller = _Teller(model)
    try:
        for event, content in found.stream("POST", control.path_of(model, action)):
            match event:
                case "progress":
                    teller.step(content)
                case "done":
                    teller.end(_said_of(content))
                    return
                case "failed":
                    teller.clear()
                    first, *more = content["error"]["message"].splitlines()
                    output.error(first)
                    output.quote(more)
                    raise SystemExit(control.EXIT_FAILED)
    except KeyboardInterrupt:
        teller.clear()
        output.say("not waiting any more; what has begun goes on")
        raise SystemExit(control.EXIT_INTERRUPTED) from None
    teller.clear()
    control.fail("homeport has ended before that was done")


class _Teller:
    """Says steps; on a terminal over one another, so that only the end stays."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._is_terminal = output.is_terminal()
        self._said = ""

    def step(self, step: dict[str, Any]) -> None:
        if step["step"] == "ready":
            return
        text = _words(step)
        if self._is_terminal:
            line = f": {step['line']}" if step.get("line") else ""
            output.status(f"{self._model}: {text}{line}")
        elif text != self._said:
            output.say(f"{self._model}: {text}")
        self._said = text

    def clear(self) -> None:
        if self._is_terminal and self._said:
            output.clear_status()

    def end(self, text: str) -> None:
        self.clear()
        output.say(text)


def _words(step: dict[str, Any]) -> str:
    match step["step"]:
        case "evicting":
            return f"stopping {step['model']} to make room"
        case "draining":
            count = step.get("in_flight", 0)
            return f"waiting for {count} request{'s' * (count != 1)}" if count else "stopping"
        case "backoff":
            first = next(iter((step.get("reason") or "").splitlines()), "")
            return f"it has ended{': ' * bool(first)}{first}; it is started again"
        case str() as name:
            return STEPS.get(name, name)
    raise AssertionError(step)


def _said_of(row: dict[str, Any]) -> str:
    if row["state"] != "ready":
        return f"{row['id']} is {row['state']}"
    facts: Iterable[str | None] = (
        row["engine"],
        f"{row['context_tokens']} tokens of context" if row["context_tokens"] else None,
        f"port {row['port']}" if row["port"] else None,
    )
    return f"{row['id']} is ready ({', '.join(filter(None, facts))})"
