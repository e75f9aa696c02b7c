"""``homeport pull``: a model from the Hugging Face hub into its cache.

The model's path is the answer (stdout). On a terminal one line shows how far it is; elsewhere each
tenth gets a line; ``--json`` makes everything JSON lines on stdout.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec

from homeport.cli import output
from homeport.engines.hub_files import in_words
from homeport.runtime.hub import Chosen, FromCache, Loading, Progress, PullEvent, Retrying
from homeport.runtime.hub import pull as pull_model
from homeport.runtime.hub_faults import PullError

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130  # as shells say of Ctrl-C
REDRAW_S = 0.1
BAR_WIDTH = 24


@click.command()
@click.argument("model", metavar="ORG/NAME[:QUANTISATION]")
@click.option(
    "--json", "as_json", is_flag=True, help="Progress and answer as JSON lines on stdout."
)
def pull(model: str, as_json: bool) -> None:
    """Download a model from the Hugging Face hub into its cache, and print where it lies.

    Of a repository of GGUF files one is loaded: the quantisation named, else Q4_K_M or the nearest to
    it. Run again, it goes on where it stopped, and loads nothing twice.
    """
    path = pulled(model, as_json=as_json)
    if as_json:
        _event("pulled", model=model, path=str(path))
    else:
        output.data(str(path))


def pulled(model: str, *, as_json: bool) -> Path:
    """The model's path, after loading what is missing. Exits where that is impossible."""
    try:
        return pull_model(model, teller(as_json=as_json))
    except PullError as error:
        output.error(error.message, hint=error.hint)
        raise SystemExit(EXIT_FAILED) from None
    except KeyboardInterrupt:
        output.say("\nstopped; the same command goes on from here")
        raise SystemExit(EXIT_INTERRUPTED) from None


def teller(*, as_json: bool) -> Progress:
    if as_json:
        return JsonTeller()
    return BarTeller() if output.is_terminal() else LineTeller()


class _Teller(ABC):
    """Tells it in words: everything but how far it is."""

    def __call__(self, event: PullEvent) -> None:
        match event:
            case Chosen():
                self.chosen(event)
            case Loading():
                self.loading(event)
            case Retrying(file=file, reason=reason, pause_s=pause_s):
                self.say(f"  {file}: {reason}; going on in {pause_s:g} s")
            case FromCache(reason=reason):
                output.warning(reason, hint="what is in the cache is used as it is")

    def chosen(self, event: Chosen) -> None:
        choice, missing = event.choice, event.missing_bytes
        count = f"{len(choice.files)} file{'s' * (len(choice.files) != 1)}"
        rest = f"{in_words(missing)} to load" if missing else "all there"
        self.say(f"{event.repo}: {count}, {in_words(choice.size_bytes)}, {rest}")
        if choice.note:
            self.say(f"  {choice.note}")

    @abstractmethod
    def loading(self, event: Loading) -> None:
        """How far it is."""

    def say(self, text: str) -> None:
        output.say(text)


class LineTeller(_Teller):
    """A line for each tenth, for logs."""

    def __init__(self) -> None:
        self._tenths = 0

    def loading(self, event: Loading) -> None:
        tenths = _percent(event) // 10
        if tenths > self._tenths:
            self._tenths = tenths
            self.say(f"  {tenths * 10:3} %  {_amount(event)}")


class BarTeller(_Teller):
    """One line that is written over."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began: tuple[float, int] | None = None
        self._drawn_at = -REDRAW_S
        self._is_drawn = False

    def loading(self, event: Loading) -> None:
        now = self._clock()
        began_at, began_bytes = self._began = self._began or (now, event.done_bytes)
        is_last = event.done_bytes == event.total_bytes
        if now - self._drawn_at < REDRAW_S and not is_last:
            return
        self._drawn_at, self._is_drawn = now, True
        rate = (event.done_bytes - began_bytes) / (now - began_at) if now > began_at else 0.0
        full = BAR_WIDTH * _percent(event) // 100
        bar = "█" * full + "░" * (BAR_WIDTH - full)
        text = f"  {_percent(event):3} % {bar} {_amount(event)}"
        if rate and not is_last:
            left_s = round((event.total_bytes - event.done_bytes) / rate)
            text += f"  {in_words(round(rate))}/s  {left_s // 60}:{left_s % 60:02} left"
        output.status(f"{text}  {event.file}")
        if is_last:
            self.say("")

    def say(self, text: str) -> None:
        """Below the line, which stays; the next one is drawn anew."""
        if self._is_drawn and text:
            output.say("")
        self._is_drawn = False
        output.say(text)


class JsonTeller:
    """One JSON object a line; of the progress each hundredth."""

    def __init__(self) -> None:
        self._percent = -1

    def __call__(self, event: PullEvent) -> None:
        match event:
            case Loading() if _percent(event) == self._percent:
                pass
            case Loading():
                self._percent = _percent(event)
                _event("loading", **msgspec.structs.asdict(event))
            case Chosen(repo=repo, choice=choice, missing_bytes=missing):
                files = [{"name": f.name, "size_bytes": f.size_bytes} for f in choice.files]
                _event("chosen", repo=repo, files=files, missing_bytes=missing, note=choice.note)
            case Retrying():
                _event("retrying", **msgspec.structs.asdict(event))
            case FromCache(reason=reason):
                _event("from_cache", reason=reason)


def _percent(event: Loading) -> int:
    return 100 * event.done_bytes // event.total_bytes if event.total_bytes else 100


def _amount(event: Loading) -> str:
    return f"{in_words(event.done_bytes)} of {in_words(event.total_bytes)}"


def _event(name: str, **facts: Any) -> None:
    output.data(msgspec.json.encode({"event": name, **facts}).decode())
