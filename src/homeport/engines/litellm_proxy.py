"""LiteLLM's proxy as an engine: what it is told about our models, and how it is started. Pure.

It stands beside homeport, not in front of it or behind it; homeport starts it, or somebody else
does who gives both the same keys (``LiteLLMElsewhere``: the container stack):

* What it knows of a model of ours is homeport's own address, with a key of its own (``INTERNAL_KEY``),
  made for each run where homeport starts it. A request with that key is never given to LiteLLM again,
  so that nothing goes round in circles, and it meets the same leases, slots and switches as every
  other.
* Models ``via: litellm`` are those that homeport reaches by asking LiteLLM: providers that only LiteLLM
  reaches, or a model of ours that somebody wants to have gone through LiteLLM.

Of the environment it gets what ``child`` passes on, and the variables of providers (``PROVIDERS``).
Seen on LiteLLM 1.109.1; of ``supported_endpoints``: ``llms/anthropic/messages/native/handler.py``
there.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from homeport.errors import ConfigError
from homeport.facts import Command, EngineFacts
from homeport.litellm import VERSION
from homeport.settings import LiteLLMSettings, ModelSettings, Settings

FACTS: Final = EngineFacts(
    engine="litellm",
    strict_tools=False,  # some providers refuse the field; LiteLLM drops only what it knows of
    extensions=frozenset(),  # what is not OpenAI's goes on to providers, which refuse it
    template_kwargs=False,  # likewise
    routes=frozenset({"completions", "embeddings", "rerank"}),
)

NAME: Final = "litellm"
"""Its id, for ``ps`` and ``logs``; no model may have it while it runs."""
PORT: Final = 4000
ALIAS: Final = "local-model"
IMAGE: Final = "ghcr.io/berriai/litellm"
TAMPERED: Final = frozenset({"1.82.7", "1.82.8"})
"""Releases that stole keys (24 March 2026, BerriAI/litellm#24512); withdrawn since, and never
started."""

HOP: Final = "x-homeport-hop"
"""A header of requests that come from a LiteLLM which homeport has told of: they are not given to
LiteLLM again. Anybody may send it."""
URL: Final = "HOMEPORT_URL"
INTERNAL_KEY: Final = "HOMEPORT_INTERNAL_KEY"
OWN_KEY: Final = "LITELLM_MASTER_KEY"
LISTED: Final = "HOMEPORT_LISTED"
"""Variables by which it is told where homeport is, its key there, homeport's key here, and which models
there are."""

FIXED: Final[Mapping[str, str]] = {
    "LITELLM_MODE": "PRODUCTION",  # else it reads every .env above its folder
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # no look-up on the network
    "LITELLM_TELEMETRY": "False",
    "DISABLE_ADMIN_UI": "True",
    "NO_DOCS": "True",
    "NO_REDOC": "True",
    "PYTHONUNBUFFERED": "1",
}

PROVIDERS: Final = re.compile(
    r"\w+_(?:API_KEY|API_TOKEN|ACCESS_TOKEN|API_BASE|API_VERSION)"
    r"|(?:AWS|AZURE|VERTEXAI|VERTEX|GOOGLE|GEMINI|WATSONX|DATABRICKS|SNOWFLAKE|OCI|SAP|CLOUDFLARE)_\w+"
    r"|HF_TOKEN|HUGGINGFACE_\w+|GITHUB_TOKEN|DEFAULT_VERTEXAI_\w+"
)
"""Variables that LiteLLM's providers read. ``…_BASE_URL`` is not among them: clients set those, to
lead here."""
_NAMED: Final = re.compile(r"os\.environ/(\w+)")


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """All that LiteLLM is told; when it changes, LiteLLM is started anew."""

    settings: LiteLLMSettings
    ids: tuple[str, ...] = ()
    """Models that it finds at homeport, beside any other name."""
    beyond: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()
    """Models that it reaches itself, with their parameters."""

    @property
    def port(self) -> int:
        return self.settings.port or PORT

    @property
    def alias(self) -> str:
        return self.settings.alias or ALIAS

    @property
    def is_locked(self) -> bool:
        """Whether it is the version that was verified, from the lock."""
        return self.settings.version in (None, VERSION)

    @property
    def listed(self) -> tuple[str, ...]:
        """All models that it is told of."""
        return (self.alias, *self.ids, *(name for name, _ in self.beyond))

    @property
    def model(self) -> ModelSettings:
        """Its instance's settings: it never makes room for anybody."""
        runner, elsewhere = self.settings.runner, self.settings.elsewhere
        if elsewhere is not None:
            return ModelSettings(
                id=NAME,
                engine="litellm",
                upstream=elsewhere.base_url,
                upstream_model=self.alias,
                api_key=elsewhere.api_key,
            )
        return ModelSettings(
            id=NAME, engine="litellm", port=self.port, pinned=True, preload=True, runner=runner
        )


def plan_for(settings: Settings) -> Plan | None:
    """None where LiteLLM is not wanted."""
    if not settings.litellm.enabled:
        return None
    native = (m.id for m in settings.models if not is_beyond(m) and m.listed)
    beyond = ((m.id, _params(m)) for m in settings.models if is_beyond(m))
    routes = (route.id for route in settings.routes if route.listed)
    return Plan(
        settings=settings.litellm,
        ids=tuple(dict.fromkeys((*native, *routes))),
        beyond=tuple(beyond),
    )


def is_beyond(model: ModelSettings) -> bool:
    """Whether only LiteLLM reaches it."""
    has_source = model.path or model.hub or model.command or model.upstream
    return model.via == "litellm" and not has_source


def _params(model: ModelSettings) -> tuple[tuple[str, str], ...]:
    name = model.upstream_model or model.id
    return (("model", name), *((k, v) for k, v in model.litellm_params if k != "model"))


# --------------------------------------------------------------------------- its configuration


def config(plan: Plan) -> dict[str, Any]:
    """Its ``config.yaml``. No key stands in it: they come by the environment."""
    ours = (_at_homeport(name, name) for name in (plan.alias, *plan.ids))
    beyond = ({"model_name": i, "litellm_params": _marked(_plain(p))} for i, p in plan.beyond)
    return {
        "model_list": [*ours, *beyond, _at_homeport("*", "*")],
        "litellm_settings": {
            "callbacks": "callback.homeport",
            "drop_params": True,
            "use_chat_completions_url_for_anthropic_messages": True,
            "num_retries": 0,  # homeport knows when another try makes sense
            "request_timeout": 24 * 3600,  # and how long an engine may take
        },
        "router_settings": {"num_retries": 0, "disable_cooldowns": True},
        "general_settings": {"custom_auth": "callback.admit"},
    }


def _at_homeport(name: str, asked: str) -> dict[str, Any]:
    return {
        "model_name": name,
        "litellm_params": {
            "model": f"openai/{asked}",
            "api_base": f"os.environ/{URL}_V1",
            "api_key": f"os.environ/{INTERNAL_KEY}",
        },
        # homeport speaks Messages itself: they are handed on as they are.
        "model_info": {"supported_endpoints": ["/v1/messages", "/v1/chat/completions"]},
    }


def _marked(params: dict[str, Any]) -> dict[str, Any]:
    """An address that somebody has written down may be our own: then we shall know who asks."""
    if "api_base" in params:
        params["extra_headers"] = {**params.get("extra_headers", {}), HOP: NAME}
    return params


def _plain(params: Iterable[tuple[str, str]]) -> dict[str, Any]:
    return {name: _value(name, text) for name, text in params}


def _value(name: str, text: str) -> Any:
    """Numbers and lists as such; what is a name, a key or a version stays text."""
    if name.endswith(("key", "version", "id", "name", "model", "token", "secret")):
        return text
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


# --------------------------------------------------------------------------- how it is started


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where everything is."""

    url: str
    """homeport's root, as LiteLLM reaches it."""
    internal_key: str
    folder: str
    """With ``config.yaml`` and ``callback.py``."""
    python: str
    child: str
    lock: str
    environments: str
    """The folder of all installations."""
    digest: str
    """Of the lock: an installation from another lock is another one."""
    python_tag: str
    owner: str = ""
    """Which homeport it belongs to, for a container's label."""
    uv: str | None = None
    docker: str | None = None


def environment(plan: Plan, place: Place) -> str:
    """The folder of its installation."""
    version = plan.settings.version or VERSION
    which = f"{version}-{place.digest}" if plan.is_locked else version
    return f"{place.environments}/litellm-{which}-{place.python_tag}"


DONE: Final = "installed"
"""The file in it which says that it is whole."""


def version_problem(settings: LiteLLMSettings) -> ConfigError | None:
    if settings.version not in TAMPERED:
        return None
    return ConfigError(
        f"LiteLLM {settings.version} was tampered with, and is not started",
        key="litellm.version",
        hint=f"leave it out for {VERSION}, which was verified",
    )


def command(plan: Plan, place: Place, env: Mapping[str, str], port: int, api_key: str) -> Command:
    """Return how to start it; ``env`` is homeport's own environment."""
    settings = plan.settings
    if problem := version_problem(settings):
        raise problem
    more = {
        **passed_on(plan, env, place.url),
        **FIXED,
        **dict(settings.env),
        URL: place.url,
        f"{URL}_V1": f"{place.url}/v1",
        INTERNAL_KEY: place.internal_key,
        OWN_KEY: api_key,
        LISTED: msgspec.json.encode(plan.listed).decode(),
        **without_proxy(env),
    }
    arguments = ("--host", settings.host, "--port", str(port), "--num_workers", "1")
    if settings.runner == "container":
        return _container(plan, place, env, more, arguments, port, api_key)
    return Command(
        argv=argv(plan, place, ("--config", f"{place.folder}/config.yaml", *arguments)),
        env=tuple({**_basic(env), **more}.items()),
        inherits_env=False,
        engine="litellm",
        api_key=api_key,
        ready_path=READY_PATH,
    )


def argv(plan: Plan, place: Place, arguments: tuple[str, ...]) -> tuple[str, ...]:
    """The command line that installs LiteLLM where it is not installed yet, and is LiteLLM then."""
    how = ("--lock", place.lock) if plan.is_locked else ("--version", str(plan.settings.version))
    uv = ("--uv", place.uv) if place.uv is not None else ()
    child = (place.python, "-I", place.child, environment(plan, place), DONE)
    return (*child, *how, *uv, "--", *arguments)


READY_PATH: Final = "/health/liveliness"
_INSIDE: Final = "/etc/homeport"


def _container(
    plan: Plan,
    place: Place,
    env: Mapping[str, str],
    more: Mapping[str, str],
    arguments: tuple[str, ...],
    port: int,
    api_key: str,
) -> Command:
    """On the network of this machine: it has to reach homeport's loopback address."""
    settings = plan.settings
    if place.docker is None:
        raise ConfigError(
            "docker was not found",
            key="litellm.runner",
            hint="install Docker, or set runner: process",
        )
    image, tag = settings.image or IMAGE, f"main-v{settings.version or VERSION}"
    if ":" not in image.rpartition("/")[2] and "@" not in image:
        image = f"{image}:{tag}"
    tag_of_start = hashlib.sha256(api_key.encode()).hexdigest()[:6]
    name = f"homeport-{NAME}-{port}-{tag_of_start}"
    named = tuple(word for variable in more for word in ("--env", variable))
    return Command(
        argv=(
            *(place.docker, "run", "--rm", "--init", "--name", name, "--network", "host"),
            *("--label", f"homeport.instance={NAME}", "--label", f"homeport.owner={place.owner}"),
            *("--mount", f"type=bind,source={place.folder},target={_INSIDE},readonly"),
            *named,
            *(image, "--config", f"{_INSIDE}/config.yaml", *arguments),
        ),
        env=tuple({**_basic(env), **_dockers(env), **more}.items()),
        inherits_env=False,
        engine="litellm",
        api_key=api_key,
        ready_path=READY_PATH,
        container=name,
    )


def passed_on(plan: Plan, env: Mapping[str, str], url: str) -> dict[str, str]:
    """The keys of providers, and what the parameters of models name; no address of ours."""
    texts = (text for _, params in plan.beyond for _, text in params)
    named = {name for text in texts for name in _NAMED.findall(text)}
    known = {k: v for k, v in env.items() if PROVIDERS.fullmatch(k) or k in named}
    return {k: v for k, v in known.items() if not v.startswith(url)}  # in circles


def _basic(env: Mapping[str, str]) -> dict[str, str]:
    """What ``child`` needs, to install and to hand on."""
    return {k: v for k, v in env.items() if k in _BASIC or k.startswith(("PIP_", "UV_"))}


def _dockers(env: Mapping[str, str]) -> dict[str, str]:
    return {k: v for k, v in env.items() if k.startswith("DOCKER_")}


_BASIC: Final = frozenset(
    {
        *("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "TZ", "XDG_CACHE_HOME"),
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
        *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    }
)


def without_proxy(env: Mapping[str, str]) -> dict[str, str]:
    """A proxy is for providers, not for this machine."""
    given = env.get("NO_PROXY") or env.get("no_proxy") or ""
    both = ",".join(filter(None, (given, "127.0.0.1,localhost,::1")))
    return {"NO_PROXY": both, "no_proxy": both}
