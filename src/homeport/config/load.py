"""From files, environment and flags to ``Settings``: the only module here that touches the disk.

Flags win over the file, the file over the defaults in ``homeport.spec``. A file that nobody named
may be missing; one that was named (``--config``, ``HOMEPORT_CONFIG``) may not.

Everything wrong with the file is raised at once as ``CollectedConfigError``; so is everything wrong
with the flags. Show it and stop.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from homeport.config import nodes, rules, schema, values
from homeport.config.problems import CollectedConfigError, Problems, WrongValueError, near
from homeport.errors import ConfigError
from homeport.spec import ModelSettings, Settings

T = TypeVar("T")


class Overrides(msgspec.Struct, frozen=True, kw_only=True):
    """What flags say; None and empty mean that the flag was not given."""

    host: str | None = None
    port: int | None = None
    models: tuple[str, ...] = ()
    """``--model FILE``: served under its file name; the first becomes the default model."""
    upstreams: tuple[str, ...] = ()
    default_model: str | None = None
    strict_models: bool | None = None


NO_OVERRIDES: Final = Overrides()


def home(env: Mapping[str, str]) -> Path:
    """The folder of our files: HOMEPORT_HOME, else ``homeport`` under the XDG config home."""
    if own := env.get("HOMEPORT_HOME"):
        return Path(own).absolute()
    xdg = Path(env.get("XDG_CONFIG_HOME", ""))
    if not xdg.is_absolute():  # the XDG specification: ignore a relative one
        xdg = Path(env.get("HOME") or Path.home()) / ".config"
    return xdg / "homeport"


def config_file(file: Path | None, env: Mapping[str, str]) -> tuple[Path, bool]:
    """The file to read, and whether somebody named it (so that it must exist)."""
    if file is not None:
        return file.absolute(), True
    if named := env.get("HOMEPORT_CONFIG"):
        return Path(named).absolute(), True
    return home(env) / "config.yaml", False


def settings(
    file: Path | None, env: Mapping[str, str], overrides: Overrides = NO_OVERRIDES
) -> Settings:
    """Everything the user decided, checked.

    ``file`` is what ``--config`` says. Raises ``CollectedConfigError`` for the file or the flags, and
    ``ConfigError`` for a bind beyond this machine without a key.
    """
    path, named = config_file(file, env)
    base = Settings()
    if named or path.exists():
        base = read(path, env, knows_models=not overrides.upstreams)
    merged = _merge(base, overrides, env)
    if problem := rules.bind_problem(merged.server):
        problem.where = str(path) if overrides.host is None else "--host"
        raise problem
    return merged


def read(path: Path, env: Mapping[str, str], *, knows_models: bool = True) -> Settings:
    """The settings of one file. Raises ``CollectedConfigError``.

    ``knows_models`` is false when more models will be found at upstreams: names that the file does
    not define are then left to the catalog.
    """
    problems = Problems(str(path))
    data = _bytes_of(path)
    place = _place(path.parent, env)
    found = _built(nodes.decode(data, schema.ROOT, place, problems))
    for rule in rules.RULES + (rules.NAME_RULES if knows_models else ()):
        rule(found, problems)
    problems.raise_any()
    return _with_ids(found)


def _bytes_of(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            data = stream.read(schema.FILE_BYTES + 1)
    except FileNotFoundError:
        hint = "check --config and HOMEPORT_CONFIG; without them no file is needed"
        raise _file_error(path, "there is no such file", hint) from None
    except IsADirectoryError:
        raise _file_error(path, "is a folder", f"name the file: {path / 'config.yaml'}") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise _file_error(path, f"cannot be read: {reason}", "check its permissions") from None
    if len(data) > schema.FILE_BYTES:
        limit = f"a configuration has at most {schema.FILE_BYTES // 1024} KiB"
        raise _file_error(path, "is too large", f"{limit}; is this the right file?")
    return data


def _file_error(path: Path, message: str, hint: str) -> CollectedConfigError:
    return CollectedConfigError([ConfigError(message, where=str(path), hint=hint)])


def _place(folder: Path, env: Mapping[str, str]) -> values.Place:
    return values.Place(folder=str(folder), env=env, exists=os.path.exists)


def _built(found: Mapping[str, object]) -> Settings:
    """Values as ``nodes`` found them → ``Settings``; the names of keys and fields are the same."""
    lifecycle = found.get("lifecycle", {})
    assert isinstance(lifecycle, dict)
    plain = {
        **found,
        "models": _named("id", found.get("models", ())),
        "lifecycle": {**lifecycle, "groups": _named("name", lifecycle.get("groups", ()))},
    }
    return msgspec.convert(plain, Settings)


def _named(field: str, pairs: object) -> list[dict[str, object]]:
    """A mapping by name → a list of things that know their name."""
    assert isinstance(pairs, tuple)
    return [{**fields, field: name} for name, fields in pairs]


def _with_ids(found: Settings) -> Settings:
    """``default_model`` and its sibling may be written as an alias; from here on they are ids."""
    ids = {alias: m.id for m in found.models for alias in m.aliases} | {
        m.id: m.id for m in found.models
    }

    def id_of(name: str | None) -> str | None:
        return ids.get(name, name) if name else None

    return msgspec.structs.replace(
        found,
        default_model=id_of(found.default_model),
        autocomplete_model=id_of(found.autocomplete_model),
    )


# --------------------------------------------------------------------------- flags


def _merge(base: Settings, flags: Overrides, env: Mapping[str, str]) -> Settings:
    """The file's settings with what the flags say instead."""
    check = _Flags(_place(Path.cwd(), env))
    models = check.each("--model", flags.models, _model)
    upstreams = check.each("--upstream", flags.upstreams, values.base_url)
    host = check.one("--host", flags.host, values.host)
    port = check.one("--port", _text(flags.port), values.port_or_free)
    default = check.one("--default-model", flags.default_model, values.model_id)
    check.no_twins("--model", models)
    check.raise_any()
    merged = msgspec.structs.replace(
        base,
        server=msgspec.structs.replace(
            base.server, host=_or(host, base.server.host), port=_or(port, base.server.port)
        ),
        models=_models(models, base.models),
        default_model=default or (models[0].id if models else base.default_model),
        strict_models=_or(flags.strict_models, base.strict_models),
        upstreams=upstreams,
    )
    if default is not None and not upstreams:
        _require_model(default, merged)
    return _with_ids(merged)


def _model(value: str, place: values.Place) -> ModelSettings:
    """``--model FILE``: its id is the file name without ``.gguf``."""
    path = values.path(value, place)
    name = Path(path).name
    stem = name[: -len(".gguf")] if name.casefold().endswith(".gguf") else name
    return ModelSettings(id=values.model_id(stem, place), path=path)


def _models(
    ours: tuple[ModelSettings, ...], files: tuple[ModelSettings, ...]
) -> tuple[ModelSettings, ...]:
    """The flags' models, then the file's. Where the file has a model of the same id, the flag says
    only which file is served: its aliases and the rest stay."""
    known = {model.id: model for model in files if model.path is not None}
    ids = {model.id for model in ours}
    mine = (msgspec.structs.replace(known.get(m.id, m), path=m.path) for m in ours)
    return (*mine, *(model for model in files if model.id not in ids))


def _or(value: T | None, otherwise: T) -> T:
    return otherwise if value is None else value


def _text(value: int | None) -> str | None:
    return None if value is None else str(value)


def _require_model(name: str, merged: Settings) -> None:
    known = {n for model in merged.models for n in (model.id, *model.aliases)}
    if name not in known:
        raise CollectedConfigError(
            [
                ConfigError(
                    f"there is no model '{name}'", where="--default-model", hint=near(name, known)
                )
            ]
        )


class _Flags:
    """Checks flags with the readers that the file's keys have; collects what is wrong."""

    def __init__(self, place: values.Place) -> None:
        self._place = place
        self._errors: list[ConfigError] = []

    def one(
        self, flag: str, value: str | None, read_value: Callable[[str, values.Place], T]
    ) -> T | None:
        return next(iter(self.each(flag, () if value is None else (value,), read_value)), None)

    def each(
        self, flag: str, given: tuple[str, ...], read_value: Callable[[str, values.Place], T]
    ) -> tuple[T, ...]:
        result = []
        for value in given:
            try:
                result.append(read_value(value, self._place))
            except WrongValueError as wrong:
                self._errors.append(ConfigError(wrong.message, where=flag, hint=wrong.hint))
        return tuple(result)

    def no_twins(self, flag: str, models: tuple[ModelSettings, ...]) -> None:
        seen: set[str] = set()
        for model in models:
            if model.id in seen:
                message = f"two models would be called '{model.id}'"
                hint = "give them different names in a configuration file, under models"
                self._errors.append(ConfigError(message, where=flag, hint=hint))
            seen.add(model.id)

    def raise_any(self) -> None:
        if self._errors:
            raise CollectedConfigError(self._errors)
