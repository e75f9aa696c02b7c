"""LiteLLM's ``config.yaml`` as it is → our ``Settings``.

A file is LiteLLM's when it has a ``model_list``. It is read by the tables in ``config.litellm_keys``,
and judged as strictly as our own where a key is understood. A key that is not, or that homeport does
otherwise, is no error: it becomes a ``Notice``, which says what happens instead. What deployments
become is told in ``config.litellm_models``.

No I/O here: files that are included come in by ``bytes_of``.
"""

import hashlib
import os.path
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final

import msgspec
import yaml
from msgspec.structs import replace

from homeport.config import litellm_keys, litellm_models, nodes
from homeport.config.litellm_keys import NOT_SERVED, Unset
from homeport.config.problems import CollectedConfigError, KeyPath, Problems, near, shown
from homeport.config.schema import ROOT as OURS
from homeport.config.values import Place
from homeport.errors import ConfigError
from homeport.settings import ApiKey, ServerSettings, Settings

SIGNS: Final = ("model_list", "litellm_settings", "router_settings", "general_settings")
"""Top-level keys that only a file of LiteLLM's has."""
MAX_FILES: Final = 100
"""Included ones."""

Tell = Callable[["Notice"], None]
BytesOf = Callable[[str], bytes]


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """Something in the file that homeport does not do, or does otherwise."""

    where: str
    key: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.key}: {self.message}"


def unheard(notice: Notice) -> None:
    """For those who only want the settings."""


def is_litellm(data: bytes) -> bool:
    """Whether this is a file of LiteLLM's; false for what cannot be read at all."""
    if not any(sign.encode() in data for sign in SIGNS):
        return False
    try:
        root = yaml.compose(data.decode("utf-8-sig"), Loader=yaml.SafeLoader)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError):
        return False
    if not isinstance(root, yaml.MappingNode):
        return False
    names = {key.value for key, _ in root.value if isinstance(key, yaml.ScalarNode)}
    return "model_list" in names or (bool(names & {*SIGNS}) and not names & {*OURS.names()})


def settings(
    path: str, data: bytes, place: Place, bytes_of: BytesOf, tell: Tell = unheard
) -> Settings:
    """The settings of a file and of those that it includes. Raises ``CollectedConfigError``."""
    files = list(_files(path, data, place, bytes_of))
    merged = _merged(files)
    first = files[0]
    deployments = [
        litellm_models.Deployment(
            item, file.problems, ("model_list", position), partial(file.params_at, position)
        )
        for file in files
        for position, item in file.found.get("model_list", ())
    ]
    heard: list[Notice] = []

    def note(problems: Problems, path: KeyPath, message: str) -> None:
        where = f"{problems.file}:{problems.line_of(path)}"
        heard.append(Notice(where=where, key=shown(path), message=message))

    if not deployments and not any(file.problems.errors for file in files):
        hint = "add '- model_name: ...' with its litellm_params"
        first.problems.add(("model_list",), "names no model", hint)
    made = litellm_models.made(deployments, merged, first.problems, first.env, note)
    if errors := [error for file in files for error in file.problems.errors]:
        raise CollectedConfigError(errors)
    only_litellm = made.via_litellm
    for file in files:
        for stranger in file.strangers:
            if not any(file.problems is p and stranger[:2] == at for p, at in only_litellm):
                note(file.problems, stranger, _fate(stranger))
    for notice in heard:
        tell(notice)
    return Settings(
        server=_server(merged, first.env),
        models=made.models,
        routes=made.routes,
        aliases=made.aliases,
        strict_models=True,  # LiteLLM answers 400 to a name that it does not know
        discover=False,
    )


def _server(merged: Mapping[str, Any], env: Mapping[str, str]) -> ServerSettings:
    """LiteLLM's master key is asked of everybody."""
    key = merged["general_settings"].get("master_key") or env.get("LITELLM_MASTER_KEY")
    if not key or isinstance(key, Unset):
        return ServerSettings()
    digest = hashlib.sha256(str(key).encode()).hexdigest()
    return ServerSettings(master_key=key, keys=(ApiKey(name="master_key", sha256=digest),))


def _fate(path: KeyPath) -> str:
    """What happens instead of what the key says."""
    section = next((str(step) for step in reversed(path[:-1]) if isinstance(step, str)), "")
    name = str(path[-1])
    if section == "model_list":
        section = ""
    known = NOT_SERVED.get(section, {})
    if name in known:
        return f"has no effect: {known[name]}"
    table = _SECTIONS.get(section)
    guess = near(name, table.names()) if table else ""
    hint = f"; {guess}" if guess.startswith("did you mean") else ""
    return f"is not known to homeport, and has no effect{hint}"


_SECTIONS: Final = {
    "": litellm_keys.ROOT,
    "litellm_params": litellm_keys.PARAMS,
    "litellm_settings": litellm_keys.LITELLM_SETTINGS,
    "router_settings": litellm_keys.ROUTER_SETTINGS,
    "general_settings": litellm_keys.GENERAL_SETTINGS,
}


# --------------------------------------------------------------------------- files


class _File:
    """One file, read. Its keys are those of ``litellm_keys.ROOT``."""

    def __init__(self, path: str, data: bytes, place: Place) -> None:
        self.problems, self.strangers, self._data = Problems(path), list[KeyPath](), data
        place = replace(place, folder=os.path.dirname(path))
        self.env = {**place.env, **self._variables(data, place)}
        place = replace(place, env=self.env)
        self.found: dict[str, Any] = nodes.decode(
            data, litellm_keys.ROOT, place, self.problems, self._stranger
        )

    def params_at(self, position: int) -> Mapping[str, Any]:
        """``litellm_params`` of an entry, all of them, as they are written."""
        try:
            whole = yaml.safe_load(self._data.decode("utf-8-sig"))
        except yaml.YAMLError:  # a tag, where nobody has looked yet
            hint = "delete the tags (!...) in this file"
            self.problems.add(("model_list", position), "cannot be handed to LiteLLM", hint)
            return {}
        params: Mapping[str, Any] = whole["model_list"][position]["litellm_params"]
        return params

    def _stranger(self, path: KeyPath) -> None:
        if len(path) == 1 and OURS.key(str(path[0])) is not None:
            message = "is a key of homeport's own, in a file that is LiteLLM's by its model_list"
            self.problems.add(path, message, "keep two files, or write the models under models:")
        elif "model_info" not in path:
            self.strangers.append(path)

    def _variables(self, data: bytes, place: Place) -> dict[str, str]:
        """What the file itself sets; all else that is wrong is told by the second reading."""
        only = litellm_keys.ROOT.key("environment_variables")
        assert only is not None
        scratch = Problems(self.problems.file)
        table = type(litellm_keys.ROOT)((only,))
        found = nodes.decode(data, table, place, scratch, lambda path: None)
        pairs: Any = found.get("environment_variables", ())
        return {name: str(value) for name, value in pairs if not isinstance(value, Unset)}


def _files(path: str, data: bytes, place: Place, bytes_of: BytesOf) -> Iterator[_File]:
    """The file, then those that it includes, each once (LiteLLM 1.109.1,
    ``proxy/common_utils/config_includes.py``)."""
    seen, waiting = {path}, [(path, data)]
    while waiting:
        here, data = waiting.pop(0)
        file = _File(here, data, place)
        yield file
        for position, name in enumerate(file.found.get("include", ())):
            there = os.path.normpath(os.path.join(os.path.dirname(here), name))
            if there in seen or len(seen) > MAX_FILES:
                continue
            seen.add(there)
            try:
                waiting.append((there, bytes_of(there)))
            except ConfigError as error:
                file.problems.add(("include", position), f"'{name}' {error.message}", error.hint)


def _merged(files: list[_File]) -> dict[str, Any]:
    """The sections; a later file's in place of an earlier one's."""
    merged: dict[str, Any] = {
        name: {} for name in ("litellm_settings", "router_settings", "general_settings")
    }
    for file in files:
        merged |= {name: file.found[name] for name in merged if name in file.found}
    return merged
