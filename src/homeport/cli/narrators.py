"""What ``homeport serve`` says: to the person in front of it, or with ``--json`` to the program that
started it.

A person wants to see where it listens, which model answers, and what to type next; and is told what
cannot work before trying it.
"""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from homeport import litellm
from homeport.cli import output, reload_cmd
from homeport.engines import detect
from homeport.errors import ConfigError
from homeport.facts import Endpoint, ModelFacts
from homeport.settings import Settings

if TYPE_CHECKING:  # heavy
    from homeport.engines.litellm_proxy import Plan
    from homeport.runtime.discovery import Found
    from homeport.runtime.leftovers import Leftovers
    from homeport.server.admin import Reloaded


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

    def forced(self, waited_s: float | None) -> None:
        self._tell("forced", waited_s=waited_s)

    def stopped(self) -> None:
        self._tell("stopped")

    def _tell(self, event: str, **facts: Any) -> None:
        try:
            output.data(msgspec.json.encode({"event": event, **facts}).decode())
        except BrokenPipeError:  # who started us has read enough and left; serving goes on
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
