"""The running homeport, as commands see it: where it is, and its admin API.

Which one: ``--url``, else ``HOMEPORT_URL`` (``MLX_WRAPPER_URL`` means the same in scripts that were
written for another launcher), else the one that runs on this machine: it has told so
(``runtime.running``), or is the stack's (``stack.containers.reached``). Its key: the one that was told
with it; of a homeport elsewhere,
``HOMEPORT_MASTER_KEY`` or ``LITELLM_MASTER_KEY``. Never from the command line, which everybody on the
machine can read.

These commands are typed often: nothing heavy is imported here.
"""

import http.client
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar
from urllib.parse import quote, urlsplit

import click

from homeport.cli import output
from homeport.runtime import running

if TYPE_CHECKING:
    from homeport.stack.containers.reached import Reached

TIMEOUT_S: Final = 60.0
"""Of silence. Where something takes long, homeport says so every 15 s."""
EXIT_FAILED: Final = 1
EXIT_INTERRUPTED: Final = 130
MODELS: Final = "/admin/models"
KEYS: Final = ("HOMEPORT_MASTER_KEY", "LITELLM_MASTER_KEY")
URLS: Final = ("HOMEPORT_URL", "MLX_WRAPPER_URL")

F = TypeVar("F", bound=Callable[..., Any])


def url_option(command: F) -> F:
    return click.option("--url", metavar="URL", help="Address of a homeport elsewhere.")(command)


def path_of(model: str, action: str = "") -> str:
    return f"{MODELS}/{quote(model, safe='')}" + (f"/{action}" if action else "")


def fail(message: str, hint: str = "") -> NoReturn:
    output.error(message, hint=hint)
    raise SystemExit(EXIT_FAILED)


class Control:
    """One homeport. Whatever goes wrong is told to the person, and ends the command."""

    def __init__(self, url: str, key: str | None) -> None:
        self.url = url
        self._key = key

    def ask(self, method: str, path: str) -> Any:
        """The whole answer."""
        with self._answer(method, path, "application/json") as answer:
            return json.loads(answer.read())

    def stream(self, method: str, path: str) -> Iterator[tuple[str, Any]]:
        """Name and content of each event."""
        with self._answer(method, path, "text/event-stream") as answer:
            event = ""
            for line in answer:
                field, _, value = line.decode().rstrip("\n").partition(": ")
                if field == "event":
                    event = value
                elif field == "data":
                    yield event, json.loads(value)

    @contextmanager
    def _answer(self, method: str, path: str, accept: str) -> Iterator[http.client.HTTPResponse]:
        parts = urlsplit(self.url)
        kind = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        connection = kind(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
        headers = {"accept": accept}
        if self._key:
            headers["authorization"] = f"Bearer {self._key}"
        try:
            connection.request(method, parts.path + path, headers=headers)
            answer = connection.getresponse()
            if answer.status != 200:
                self._refused(answer.status, answer.read())
            yield answer
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            fail(f"{self.url} does not answer: {reason}", "is homeport running there?")
        finally:
            connection.close()

    def _refused(self, status: int, body: bytes) -> NoReturn:
        try:
            error = json.loads(body)["error"]
            message = error["message"]
        except (ValueError, LookupError, TypeError):
            fail(f"{self.url} answers with {status}", "is that homeport?")
        if status == 401:
            fail(f"{self.url}: {message}", f"set {KEYS[0]} to its server.master_key")
        if errors := error.get("errors"):
            for each in errors:
                head = ": ".join(filter(None, (each["where"], each["key"], each["message"])))
                output.error(head, hint=each["hint"])
            fail("the configuration was not taken up; everything goes on as before")
        fail(message)


def find(url: str | None) -> Control:
    """The homeport that is meant."""
    named = url or next(filter(None, map(os.environ.get, URLS)), None)
    here = _running(os.environ)
    if named is not None:
        named = _plain(named)
        key = next((one.key for one in here if one.url == named), None)
        return Control(named, key or next(filter(None, map(os.environ.get, KEYS)), None))
    if not here:
        fail(
            "no homeport runs here",
            "start it with `homeport serve` or `homeport proxy start`; for one elsewhere, --url or "
            "HOMEPORT_URL",
        )
    if len(here) > 1:
        listed = ", ".join(one.url for one in here)
        fail(f"{len(here)} homeports run here: {listed}", f"say which: --url {here[0].url}")
    return Control(here[0].url, here[0].key)


def here(env: Mapping[str, str]) -> list[Control]:
    """All that run on this machine."""
    return [Control(one.url, one.key) for one in _running(env)]


def _running(env: Mapping[str, str]) -> "list[running.Running | Reached]":
    from homeport.config import load  # takes longer than all else here
    from homeport.stack.layout import Layout

    here: list[running.Running | Reached] = []
    here += running.running(running.folders(env, load.state_home(env)))
    if Layout.of(env).is_installed:
        from homeport.stack.containers import reached  # Docker: only where there is a stack

        stack = reached.gateway(env)
        here += [stack] if stack else []
    return here


def _plain(url: str) -> str:
    """As the files have it: scheme, host, port; ``/v1`` behind it does not matter."""
    url = url if "://" in url else f"http://{url}"
    url = url.rstrip("/").removesuffix("/v1")
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good:
        fail(f"'{url}' is no address of a server", "write it like http://127.0.0.1:11899")
    return url.replace("//localhost", "//127.0.0.1", 1)
