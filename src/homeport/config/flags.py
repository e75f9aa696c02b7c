"""What the command line and the environment say, put over what the file says.

The order is always the same: a flag, else a variable of the environment, else the file, else the
default. Flags are checked by the readers that the file's keys have, and everything wrong with them is
raised at once. Pure: what exists is asked of ``Place``.
"""

from collections.abc import Callable, Iterable
from pathlib import PurePath
from typing import Final, Literal, TypeVar, cast

import msgspec
from msgspec.structs import replace

from homeport.config import values
from homeport.config.model_rules import misfits
from homeport.config.problems import CollectedConfigError, WrongValueError, near
from homeport.engines import hub_files, litellm_proxy
from homeport.errors import ConfigError
from homeport.facts import EngineName
from homeport.settings import (
    BackendDefaults,
    LiteLLMElsewhere,
    LiteLLMSettings,
    ModelSettings,
    RunnerName,
    Settings,
    StoreSettings,
)

T = TypeVar("T")

MODEL_PORTS: Final = ("MLX_DYNAMIC_PORT", "MLX_AUTOCOMPLETE_PORT")
"""Ports of the default and of the autocomplete model's engine."""
MASTER_KEYS: Final = ("HOMEPORT_MASTER_KEY", "LITELLM_MASTER_KEY")
"""The master key; the first that is set."""
LITELLM_URL: Final = "HOMEPORT_LITELLM_URL"
"""A LiteLLM that somebody else starts."""
STORE_URL: Final = "HOMEPORT_STORE_URL"
NO_STORE: Final = "off"
"""As its value: what ``store: off`` says in the file."""
UPSTREAM_LIST: Final = "HOMEPORT_UPSTREAM"
"""What ``--upstream`` says, as a list with commas."""


class Overrides(msgspec.Struct, frozen=True, kw_only=True):
    """What flags say; None and empty mean that the flag was not given."""

    host: str | None = None
    port: int | None = None
    models: tuple[str, ...] = ()
    """``--model PATH-or-hub-id``: served under its name; the first becomes the default model."""
    engine: str | None = None
    backend: str | None = None
    """``--backend``, the other spelling of ``--engine``."""
    runner: str | None = None
    upstreams: tuple[str, ...] = ()
    default_model: str | None = None
    autocomplete_model: str | None = None
    strict_models: bool | None = None
    max_tokens: int | None = None
    with_litellm: bool | None = None
    litellm_port: int | None = None
    litellm_alias: str | None = None
    litellm_version: str | None = None


def over(base: Settings, flags: Overrides, place: values.Place) -> Settings:
    """The file's settings with what flags and environment say instead. Raises
    ``CollectedConfigError``."""
    check = _Checks(place)
    upstreams = check.each("--upstream", flags.upstreams, values.base_url)
    upstreams = upstreams or check.listed(UPSTREAM_LIST, values.base_url)
    host = check.one("--host", flags.host, values.host)
    port = check.one("--port", _text(flags.port), values.port_or_free)
    max_tokens = check.one("--max-tokens", _text(flags.max_tokens), values.count)
    max_tokens = max_tokens or check.variable("MAX_TOKENS", values.count)
    master_keys = [check.variable(name, values.key) for name in MASTER_KEYS]
    metrics_token = check.variable("HOMEPORT_METRICS_TOKEN", values.key)
    more_hosts = check.listed("HOMEPORT_ALLOWED_HOSTS", values.host)
    kept = _store(base.store, check)
    litellm = _litellm(flags, base, check)
    flagged = _flagged_models(flags, check)
    models = _models(flagged, base.models)
    finder = _Finder(models, _other_names(base), check, _names_elsewhere(base, flagged, upstreams))
    default = finder.id_of("--default-model", flags.default_model)
    autocomplete = finder.id_of("--autocomplete-model", flags.autocomplete_model)
    check.raise_any()
    limits = base.server.limits
    return replace(
        base,
        server=replace(
            base.server,
            host=_or(host, base.server.host),
            port=_or(port, base.server.port),
            master_key=next(filter(None, master_keys), base.server.master_key),
            metrics_token=metrics_token or base.server.metrics_token,
            allowed_hosts=tuple(dict.fromkeys((*base.server.allowed_hosts, *more_hosts))),
            limits=replace(limits, max_tokens=max_tokens or limits.max_tokens),
        ),
        litellm=litellm,
        models=finder.models,
        default_model=default or (flagged[0].id if flagged else base.default_model),
        autocomplete_model=autocomplete or base.autocomplete_model,
        strict_models=_or(flags.strict_models, base.strict_models),
        store=kept,
        upstreams=upstreams,
    )


def store(said: StoreSettings, place: values.Place) -> StoreSettings:
    """The store's settings with what the environment says instead. Raises ``CollectedConfigError``."""
    check = _Checks(place)
    found = _store(said, check)
    check.raise_any()
    return found


def _store(said: StoreSettings, check: "_Checks") -> StoreSettings:
    """Where usage is remembered, or ``off``: in one variable, since a program that starts homeport
    decides both at once."""
    if check.place.env.get(STORE_URL) == NO_STORE:
        return replace(said, enabled=False)
    url = check.variable(STORE_URL, values.database)
    return said if url is None else replace(said, url=url)


def names_upstreams(flags: Overrides, place: values.Place) -> bool:
    """Whether flags or environment name servers that bring models of their own."""
    return bool(flags.upstreams or place.env.get(UPSTREAM_LIST))


def with_ports(settings: Settings, place: values.Place) -> Settings:
    """The ports that the environment gives to the engines of the default and the autocomplete
    model. Raises ``CollectedConfigError``."""
    check = _Checks(place)
    first = (model.id for model in settings.models if not model.embeddings)
    default = settings.default_model or next(first, None)
    models = {model.id: model for model in settings.models}
    for name, model_id in zip(MODEL_PORTS, (default, settings.autocomplete_model), strict=True):
        port = check.variable(name, values.port)
        model = models.get(model_id or "")
        if port is None or model is None or not model.is_ours:
            continue
        taken = [other.id for other in models.values() if other.port == port and other != model]
        if port == settings.server.port:
            taken.append("the gateway")
        if taken:
            hint = "choose another, or unset it for a free one"
            check.wrong(name, f"port {port} is that of {taken[0]} already", hint)
        models[model.id] = replace(model, port=port)
    check.raise_any()
    return replace(settings, models=tuple(models.values()))


def _litellm(flags: Overrides, base: Settings, check: "_Checks") -> LiteLLMSettings:
    """Flags, else the ``litellm`` section, else ``defaults.backends.litellm``."""
    said, common = base.litellm, dict(base.defaults.backends).get("litellm", BackendDefaults())
    port = check.one("--litellm-port", _text(flags.litellm_port), values.port)
    alias = check.one("--litellm-alias", flags.litellm_alias, values.model_id)
    version = check.one("--litellm-version", flags.litellm_version, values.image_tag)
    elsewhere = _litellm_elsewhere(check)
    merged = replace(
        said,
        enabled=elsewhere is not None or _or(flags.with_litellm, said.enabled),
        elsewhere=elsewhere,
        port=port or said.port or common.port,
        alias=alias or said.alias or common.alias,
        version=version or said.version or common.version,
        runner=said.runner or common.runner,
        image=said.image or common.image,
        env=tuple({**dict(common.env), **dict(said.env)}.items()),
    )
    given = {"--litellm-port": port, "--litellm-alias": alias, "--litellm-version": version}
    for flag, value in given.items():
        if value is not None and elsewhere is not None and flag != "--litellm-alias":
            check.wrong(flag, f"LiteLLM runs elsewhere, as {LITELLM_URL} says", "leave one out")
        if value is not None and not merged.enabled:
            check.wrong(flag, "speaks of LiteLLM, which is not wanted", "add --with-litellm")
    return merged


def _litellm_elsewhere(check: "_Checks") -> LiteLLMElsewhere | None:
    """What the environment says of a LiteLLM that homeport does not start: all or nothing."""
    url = check.variable(LITELLM_URL, values.base_url)
    if url is None:
        return None
    names = (litellm_proxy.OWN_KEY, litellm_proxy.INTERNAL_KEY)
    own, internal = (check.variable(name, values.key) for name in names)
    for name, key in zip(names, (own, internal), strict=True):
        if key is None:
            check.wrong(LITELLM_URL, f"needs {name} as well", "both sides have the same keys")
    return LiteLLMElsewhere(base_url=url, api_key=own or "", internal_key=internal or "")


Elsewhere = Literal["none", "found", "upstreams"]


def _names_elsewhere(
    base: Settings, flagged: tuple[ModelSettings, ...], upstreams: tuple[str, ...]
) -> Elsewhere:
    """Where models may come from that nobody names here."""
    if upstreams:
        return "upstreams"
    return "none" if base.models or flagged or not base.discover else "found"


# --------------------------------------------------------------------------- models


def _flagged_models(flags: Overrides, check: "_Checks") -> tuple[ModelSettings, ...]:
    """``--model``, with what ``--engine`` and ``--runner`` say of it."""
    models = check.each("--model", flags.models, _model)
    engine = check.one("--engine", flags.engine, values.started_engine)
    backend = check.one("--backend", flags.backend, values.started_engine)
    if engine and backend and engine != backend:
        message = f"--engine says {engine} already; they mean the same"
        check.wrong("--backend", message, "give one of them")
    engine, runner = engine or backend, check.one("--runner", flags.runner, values.runner)
    if (engine or runner) and not flags.models:
        flag = "--runner" if runner else "--engine" if flags.engine else "--backend"
        hint = f"add --model; for a model of the configuration file write {flag[2:]}: there"
        check.wrong(flag, "says how --model is served, and there is none", hint)
    found = tuple(_served(model, engine, runner) for model in models)
    check.no_twins("--model", found)
    for model in found:
        for _, message, hint in misfits(model):
            check.wrong("--model", f"{model.id}: {message}", hint)
    return found


def _served(model: ModelSettings, engine: str | None, runner: str | None) -> ModelSettings:
    return replace(
        model, engine=cast(EngineName | None, engine), runner=cast(RunnerName | None, runner)
    )


def _model(value: str, place: values.Place) -> ModelSettings:
    """``--model``: a file or folder, whose name without ``.gguf`` is the id; else a name on the hub,
    which is the id itself."""
    if values.is_hub_id(value) and not place.exists(values.absolute(value, place)):
        wanted = hub_files.hub_id(value)
        return ModelSettings(id=wanted.repo, hub=value, aliases=(value,) if wanted.choice else ())
    path = values.path(value, place)
    name = PurePath(path).name
    stem = name[: -len(".gguf")] if name.casefold().endswith(".gguf") else name
    return ModelSettings(id=values.model_id(stem, place), path=path)


def _models(
    ours: tuple[ModelSettings, ...], files: tuple[ModelSettings, ...]
) -> tuple[ModelSettings, ...]:
    """The flags' models, then the file's. Where the file has a model of the same id, the flags say
    only which file is served, and by what: its aliases and the rest stay."""
    known = {model.id: model for model in files if model.is_ours}
    ids = {model.id for model in ours}
    mine = (_replaced(known[m.id], m) if m.id in known else m for m in ours)
    return (*mine, *(model for model in files if model.id not in ids))


def _replaced(written: ModelSettings, flag: ModelSettings) -> ModelSettings:
    return replace(
        written,
        path=flag.path,
        hub=flag.hub,
        engine=flag.engine or written.engine,
        runner=flag.runner or written.runner,
    )


def _other_names(base: Settings) -> dict[str, str]:
    """Routes, and aliases that are no patterns, with what they mean."""
    aliases = {alias: to for alias, to in base.aliases if "*" not in alias}
    return aliases | {route.id: route.id for route in base.routes}


class _Finder:
    """Finds the models that ``--default-model`` and its sibling name:

    1. by a name that is known;
    2. as ``--model`` would, which makes it one more model. ``org/name`` may as well be a name that an
       upstream has, so that with ``--upstream`` only files are taken so;
    3. else it is left to those who have not told their models yet, if there may be any.
    """

    def __init__(
        self,
        models: tuple[ModelSettings, ...],
        others: dict[str, str],
        check: "_Checks",
        elsewhere: Elsewhere,
    ) -> None:
        """``others`` are names beside those that models have themselves."""
        self.models, self._others = models, others
        self._check, self._elsewhere = check, elsewhere

    def id_of(self, flag: str, name: str | None) -> str | None:
        name = self._check.one(flag, name, values.model_id)
        own = {n: model.id for model in self.models for n in (*model.aliases, model.id)}
        ids = self._others | own
        if name is None or name in ids:  # 1.
            return ids.get(name or "")
        is_file = self._check.place.exists(values.absolute(name, self._check.place))
        if is_file or (values.is_hub_id(name) and self._elsewhere != "upstreams"):  # 2.
            return self._added(flag, name)
        if self._elsewhere == "none":
            self._check.wrong(flag, f"there is no model '{name}'", near(name, ids))
        return name  # 3.

    def _added(self, flag: str, name: str) -> str | None:
        model = self._check.one(flag, name, _model)
        if model is None:
            return None
        if model.id not in {known.id for known in self.models}:
            self.models += (model,)
        return model.id


def _or(value: T | None, otherwise: T) -> T:
    return otherwise if value is None else value


def _text(value: int | None) -> str | None:
    return None if value is None else str(value)


class _Checks:
    """Checks flags with the readers that the file's keys have; collects what is wrong."""

    def __init__(self, place: values.Place) -> None:
        self.place = place
        self._errors: list[ConfigError] = []

    def one(
        self, flag: str, value: str | None, read_value: Callable[[str, values.Place], T]
    ) -> T | None:
        return next(iter(self.each(flag, () if value is None else (value,), read_value)), None)

    def variable(self, name: str, read_value: Callable[[str, values.Place], T]) -> T | None:
        return self.one(name, self.place.env.get(name) or None, read_value)

    def listed(self, name: str, read_value: Callable[[str, values.Place], T]) -> tuple[T, ...]:
        """A variable with several values, commas between them."""
        given = (each.strip() for each in self.place.env.get(name, "").split(","))
        return self.each(name, filter(None, given), read_value)

    def each(
        self, flag: str, given: Iterable[str], read_value: Callable[[str, values.Place], T]
    ) -> tuple[T, ...]:
        result = []
        for value in given:
            try:
                result.append(read_value(value, self.place))
            except WrongValueError as wrong:
                self.wrong(flag, wrong.message, wrong.hint)
        return tuple(result)

    def wrong(self, flag: str, message: str, hint: str) -> None:
        self._errors.append(ConfigError(message, where=flag, hint=hint))

    def no_twins(self, flag: str, models: tuple[ModelSettings, ...]) -> None:
        seen: set[str] = set()
        for model in models:
            if model.id in seen:
                hint = "give them different names in a configuration file, under models"
                self.wrong(flag, f"two models would be called '{model.id}'", hint)
            seen.add(model.id)

    def raise_any(self) -> None:
        if self._errors:
            raise CollectedConfigError(self._errors)
