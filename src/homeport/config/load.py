"""From files, environment and flags to ``Settings``: the only module here that touches the disk.

Flags win over the environment, that over a profile, this over the file, the file over the defaults
in ``homeport.settings``; putting them over each other is ``config.flags``' work, and
``config.profiles``'. A file that nobody named may be missing; one that was named (``--config``,
``HOMEPORT_CONFIG``) may not.

Everything wrong with the file is raised at once as ``CollectedConfigError``; so is everything wrong
with the flags. Show it and stop.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from homeport.config import flags, litellm_compat, nodes, profiles, rules, schema, values
from homeport.config.flags import Overrides
from homeport.config.problems import CollectedConfigError, Problems
from homeport.engines import defaults
from homeport.errors import ConfigError
from homeport.facts import EngineName
from homeport.settings import Settings, StoreSettings

NO_FLAGS: Final = Overrides()
Exists = Callable[[str], bool]


def _is_here(path: str) -> bool:
    return os.path.exists(path)


CONFIG_VARIABLES: Final = ("HOMEPORT_CONFIG", "AUTO_INFER_LITELLM_CONFIG")
"""The configuration file, of the first one also its folder; the first that is set."""


def home(env: Mapping[str, str]) -> Path:
    """The folder of our files: HOMEPORT_CONFIG where that is a folder, else HOMEPORT_HOME, else
    ``homeport`` under the XDG config home."""
    if named := _named_folder(env):
        return named
    if own := env.get("HOMEPORT_HOME"):
        return Path(own).absolute()
    return xdg(env, "XDG_CONFIG_HOME", ".config") / "homeport"


def xdg(env: Mapping[str, str], name: str, otherwise: str) -> Path:
    """One of the user's folders, by the XDG specification: a relative one is ignored. ``otherwise`` is
    below the home."""
    folder = Path(env.get(name, ""))
    return folder if folder.is_absolute() else Path(env.get("HOME") or Path.home()) / otherwise


def _named_folder(env: Mapping[str, str]) -> Path | None:
    """What HOMEPORT_CONFIG names, if that is a folder or could become one."""
    named = env.get(CONFIG_VARIABLES[0])
    if not named:
        return None
    path = Path(named).absolute()
    is_folder = path.is_dir() or (not path.exists() and path.suffix not in (".yaml", ".yml"))
    return path if is_folder else None


def state_home(env: Mapping[str, str]) -> Path:
    """The folder of what we keep for ourselves from one run to the next; losing it loses no setting.

    ``state`` in HOMEPORT_HOME, else ``homeport`` under the XDG state home.
    """
    if own := env.get("HOMEPORT_HOME"):
        return Path(own).absolute() / "state"
    return xdg(env, "XDG_STATE_HOME", ".local/state") / "homeport"


def data_home(env: Mapping[str, str]) -> Path:
    """The folder of what is big and can be had again: ``data`` in HOMEPORT_HOME, else ``homeport``
    under the XDG data home."""
    if own := env.get("HOMEPORT_HOME"):
        return Path(own).absolute() / "data"
    return xdg(env, "XDG_DATA_HOME", ".local/share") / "homeport"


def config_file(file: Path | None, env: Mapping[str, str]) -> tuple[Path, bool]:
    """The file to read, and whether somebody named it (so that it must exist). A folder that is named
    has to exist, and need not have the file."""
    if file is not None:
        return file.absolute(), True
    named = next(filter(None, map(env.get, CONFIG_VARIABLES)), None)
    folder = _named_folder(env)
    if named is None or (folder is not None and folder.is_dir()):
        return home(env) / "config.yaml", False
    return Path(named).absolute(), True


def profile_files(env: Mapping[str, str]) -> dict[str, Path]:
    """The profiles there are, by name."""
    try:
        found = sorted((home(env) / profiles.FOLDER).glob(f"*{profiles.ENDING}"))
    except OSError:
        return {}
    return {file.stem: file for file in found if not profiles.name_problem(file.stem, "")}


def profile_file(name: str | None, env: Mapping[str, str], where: str = "--profile") -> Path | None:
    """The file of the profile that is named at ``where``, else by HOMEPORT_PROFILE; None where nobody
    wants one. Raises ``ConfigError`` where there is no such profile."""
    where = where if name else profiles.VARIABLE
    name = name or env.get(profiles.VARIABLE)
    if not name:
        return None
    if problem := profiles.name_problem(name, where):
        raise problem
    known = profile_files(env)
    if name not in known:
        raise profiles.missing(name, known, str(home(env) / profiles.FOLDER), where)
    return known[name]


def settings(
    file: Path | None,
    env: Mapping[str, str],
    overrides: Overrides = NO_FLAGS,
    more_rules: Sequence[rules.Rule] = (),
    tell: litellm_compat.Tell = litellm_compat.unheard,
    *,
    profile: str | None = None,
    exists: Exists = _is_here,
) -> Settings:
    """Everything the user decided, checked; the files by ``more_rules``, too.

    ``file`` is what ``--config`` says, ``profile`` what ``--profile`` does; ``tell`` hears what of a
    LiteLLM file has no effect. ``exists`` knows which files there are where the settings hold. Raises
    ``CollectedConfigError`` for files or flags, and ``ConfigError`` for a bind beyond this machine
    without a key.
    """
    path, named = config_file(file, env)
    base, place = Settings(), _place(Path.cwd(), env, exists)
    over = profile_file(profile, env)
    if named or path.exists() or over is not None:
        base = read(
            path,
            env,
            profile=over,
            may_be_missing=not named,
            knows_models=not flags.names_upstreams(overrides, place),
            more_rules=more_rules,
            tell=tell,
            exists=exists,
        )
    merged = _with_ids(flags.over(base, overrides, place))
    merged = with_defaults(flags.with_ports(merged, place))
    if problem := rules.bind_problem(merged.server):
        problem.where = str(path) if overrides.host is None else "--host"
        raise problem
    if problem := rules.litellm_problem(merged) or rules.token_problem(merged.server):
        raise problem
    return merged


def store(file: Path | None, env: Mapping[str, str]) -> tuple[StoreSettings, ConfigError | None]:
    """Where usage is kept, and what else is wrong with the configuration, for a command that needs no
    more of it. Raises ``ConfigError`` where it is the store's settings that are wrong, or where the
    file cannot be read at all."""
    try:
        return settings(file, env).store, None
    except ConfigError as error:
        wrong = error
    path, named = config_file(file, env)
    place = _place(path.parent, env, _is_here)
    data = _bytes_of(path) if named or path.exists() else b""
    said: Mapping[str, object] = {}
    if not litellm_compat.is_litellm(data):  # these have no store
        problems = Problems(str(path))
        said = nodes.decode(data, schema.ROOT, place, problems)
        own = [each for each in problems.errors if each.key.split(".")[0] in ("", "store")]
        if own:
            raise CollectedConfigError(own)
    found = msgspec.convert(said.get("store", {}), StoreSettings)
    return flags.store(found, place), wrong


def read(
    path: Path,
    env: Mapping[str, str],
    *,
    profile: Path | None = None,
    may_be_missing: bool = False,
    knows_models: bool = True,
    more_rules: Sequence[rules.Rule] = (),
    tell: litellm_compat.Tell = litellm_compat.unheard,
    exists: Exists = _is_here,
) -> Settings:
    """The settings of one file, ours or LiteLLM's; of ours with those of a profile over them. Raises
    ``CollectedConfigError``.

    ``knows_models`` is false when more models will be found at upstreams: names that the file does
    not define are then left to the catalog; so are those of a file that names no model at all.
    """
    problems = Problems(str(path))
    data = b"" if may_be_missing and not path.exists() else _bytes_of(path)
    place = _place(path.parent, env, exists)
    if litellm_compat.is_litellm(data):
        if profile is not None:
            raise _file_error(profile, *_NOT_OVER_LITELLM)
        found = litellm_compat.settings(
            str(path), data, place, lambda name: _bytes_of(Path(name)), tell
        )
        for rule in more_rules:
            rule(found, problems)
        problems.raise_any()
        return found
    said: Mapping[str, object] = nodes.decode(data, schema.ROOT, place, problems)
    if profile is not None:
        layer = _profile(profile, env, exists)
        profiles.refuse(layer, str(path))
        said, problems = profiles.over(profiles.Layer(said, problems), layer)
    found = _built(said)
    knows_models = knows_models and bool(found.models or not found.discover)
    for rule in (*rules.RULES, *(rules.NAME_RULES if knows_models else ()), *more_rules):
        rule(found, problems)
    problems.raise_any()
    return _with_ids(found)


_NOT_OVER_LITELLM: Final = (
    "a profile goes over a configuration of homeport's own, and the one in use is LiteLLM's",
    "leave the profile out, or write models: into config.yaml; a LiteLLM file has its own aliases "
    "(router_settings.model_group_alias)",
)


def description(profile: Path, env: Mapping[str, str]) -> str:
    """What a profile says of itself, however wrong the rest of it may be."""
    try:
        return str(_profile(profile, env).found.get("description", ""))
    except ConfigError:
        return ""


def new_profile(name: str, env: Mapping[str, str], text: str) -> Path:
    """Writes a new profile. Raises ``ConfigError`` where there is one already, or no writing."""
    path = home(env) / profiles.FOLDER / f"{name}{profiles.ENDING}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        hint = "edit it, or choose another name"
        raise ConfigError("this profile is there already", where=str(path), hint=hint) from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"cannot be written: {reason}", where=str(path)) from None
    return path


def takes_profiles(path: Path) -> bool:
    """Whether a profile can be put over this file, which may be missing, but not unreadable."""
    try:
        return not path.exists() or not litellm_compat.is_litellm(_bytes_of(path))
    except ConfigError:
        return False


def _profile(file: Path, env: Mapping[str, str], exists: Exists = _is_here) -> profiles.Layer:
    problems = Problems(str(file))
    place = _place(file.parent, env, exists)
    found = nodes.decode(_bytes_of(file), profiles.READ, place, problems)
    return profiles.Layer(found, problems)


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


def _place(folder: Path, env: Mapping[str, str], exists: Exists) -> values.Place:
    return values.Place(folder=str(folder), env=env, exists=exists)


def _built(found: Mapping[str, object]) -> Settings:
    """Values as ``nodes`` found them → ``Settings``; the names of keys and fields are the same."""
    lifecycle = found.get("lifecycle", {})
    assert isinstance(lifecycle, dict)
    plain = {
        **found,
        "models": _named("id", found.get("models", ())),
        "routes": _named("id", found.get("routes", ())),
        "lifecycle": {**lifecycle, "groups": _named("name", lifecycle.get("groups", ()))},
    }
    return msgspec.convert(plain, Settings)


def _named(field: str, pairs: object) -> list[dict[str, object]]:
    """A mapping by name → a list of things that know their name."""
    assert isinstance(pairs, tuple)
    return [{**fields, field: name} for name, fields in pairs]


def with_defaults(found: Settings) -> Settings:
    """The defaults of the engines that are named; the others' follow when they are known."""
    engines: dict[str, EngineName] = {}
    for model in found.models:
        if model.is_ours and (engine := "custom" if model.command else model.engine):
            engines[model.id] = engine
    models = defaults.merged(found.models, engines, found.defaults)
    return msgspec.structs.replace(found, models=models)


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
