"""What ``homeport serve`` says: to the person in front of it, or with ``--json`` to the program that
started it.

A person wants to see where it listens, which model answers, and what to type next; and is told what
cannot work before trying it.
"""

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from homeport import litellm
from homeport.cli import output, reload_cmd
from homeport.demo import demo_model_path
from homeport.engines import detect
from homeport.errors import ConfigError
from homeport.facts import Endpoint, ModelFacts
from homeport.settings import ModelSettings, Settings

if TYPE_CHECKING:  # heavy
    from homeport.engines.litellm_proxy import Plan
    from homeport.runtime.discovery import Found
    from homeport.runtime.leftovers import Leftovers
    from homeport.runtime.start_news import Failure
    from homeport.server.admin import Reloaded


class TerminalNarrator:
    """Says it to a person, on stderr."""

    def __init__(self) -> None:
        self._url, self._key = "", "local"
        self._default: ModelSettings | None = None
        self._is_ready = self._has_told = False
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
        self._default = _default_of(settings)
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
        may_answer = self._default.id == model_id if self._default else not self._has_told
        self._tell_how()
        if may_answer and not _is_demo(self._default):
            self._tell_if_small(model_id, endpoint.model.context_tokens)

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
            how_to = DEMO if _is_demo(self._default) else HOW_TO
            output.say(how_to.format(url=self._url, key=self._key, homeport=_homeport()))

    def _tell_if_small(self, model_id: str, context: int | None) -> None:
        """Claude Code would say so itself, or the engine, after a while and in other words."""
        if context is None or context >= CLAUDE_CODE_TOKENS:
            return
        is_ours = self._default is not None and self._default.path is not None
        more = "serve it with --ctx 65536" if is_ours else "give it more in its server's settings"
        output.warning(
            f"{model_id} has {context} tokens of context, Claude Code needs {CLAUDE_CODE_TOKENS}",
            hint=f"{more}; or `claude --bare`, which needs {CLAUDE_BARE_TOKENS}",
        )

    def model_failed(self, model_id: str, failure: "Failure") -> None:
        output.error(failure.reason, hint=failure.hint)
        output.say(f"  {failure.after}")

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

    def forced(self, waited_s: float | None) -> None:
        if waited_s is None:
            output.say("stopping at once; requests under way are cut")
        else:
            output.say(
                f"requests under way are cut: they had {waited_s:g} s to finish "
                "(server.limits.drain_timeout_s)"
            )

    def stopped(self) -> None:
        output.say("stopped")


def _default_of(settings: Settings) -> ModelSettings | None:
    """Who answers names that nobody knows; None where the servers that run tell."""
    by_id = {model.id: model for model in settings.models}
    if settings.default_model is not None:
        return by_id.get(settings.default_model)
    return next(iter(settings.models), None)


def _is_demo(model: ModelSettings | None) -> bool:
    return model is not None and model.path == str(demo_model_path())


def _homeport() -> str:
    """The command, as it can be typed here: after `make serve` it is on nobody's PATH."""
    called = Path(sys.argv[0])
    is_called_so = called.name == "homeport" and shutil.which("homeport") is None
    return str(called) if is_called_so else "homeport"


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

CLAUDE_CODE_TOKENS = 30_000
CLAUDE_BARE_TOKENS = 8_000
"""The least context with which Claude Code was seen to work, as it is and with ``--bare``
(docs/claude-code.md)."""

DEMO = """
  This is the demo model: a toy, to see that everything
  works. It greets, echoes and calls a tool. Claude Code's
  full prompt takes it a minute, and the answer is junk;
  with --bare it works:

  Claude Code:  ANTHROPIC_BASE_URL={url} ANTHROPIC_AUTH_TOKEN={key} claude --bare -p "Hello"
  OpenAI SDKs:  OPENAI_BASE_URL={url}/v1 OPENAI_API_KEY={key}

  A real model next: a file, the hub's, or one that runs:

  {homeport} serve --model path/to/model.gguf
  {homeport} serve --download-model ORG/NAME
  {homeport} serve --upstream http://127.0.0.1:8080/v1
"""
"""Talk fits into 60 columns; lines that are copied are not broken."""

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

    def model_failed(self, model_id: str, failure: "Failure") -> None:
        self._tell("model_failed", model=model_id, **failure._asdict())

    def upstream_down(self, url: str, reason: str) -> None:
        self._tell("upstream_down", upstream=url, reason=reason)

    def reloaded(self, done: "Reloaded") -> None:
        self._tell("reloaded", **msgspec.to_builtins(done))

    def reload_failed(self, errors: tuple[ConfigError, ...]) -> None:
        self._tell("reload_failed", errors=[str(each) for each in errors])

    def draining(self, requests: int) -> None:
        self._tell("draining", requests=requests)

    def forced(self, waited_s: float | None) -> None:
        self._tell("forced", waited_s=waited_s)

    def stopped(self) -> None:
        self._tell("stopped")

    def _tell(self, event: str, **facts: Any) -> None:
        try:
            output.data(msgspec.json.encode({"event": event, **facts}).decode())
        except BrokenPipeError:  # who started us has read enough and left; serving goes on
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
