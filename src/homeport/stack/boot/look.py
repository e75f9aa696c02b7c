"""What the boot chain finds on the disk, and what it writes there before it starts anything.

Looking changes nothing, so that ``homeport boot --check`` can do it: ``findings`` answers the questions
of ``stack.boot.plan``, and ``prepare`` writes what a plan wants.

LiteLLM's executable is, in this order: ``LITELLM_BIN``; ``litellm`` on the PATH; ``litellm`` beside
homeport's own command, where ``scripts/install-homeport`` puts it; else the one that homeport installs
into its data folder at the first start, from its lock (``runtime.litellm``).
"""

import os
import secrets
import shutil
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from homeport.config import litellm_compat, load
from homeport.config.flags import MASTER_KEYS, Overrides
from homeport.config.values import is_hub_id
from homeport.engines import gguf, litellm_proxy
from homeport.engines.litellm_proxy import TAMPERED
from homeport.engines.llamacpp import DEFAULT_CTX
from homeport.errors import ConfigError
from homeport.facts import Machine
from homeport.runtime import choosing, starting
from homeport.runtime.litellm import LiteLLM as Installed
from homeport.settings import LiteLLMSettings, ModelSettings, Settings
from homeport.stack import staged
from homeport.stack.boot import litellm_config
from homeport.stack.boot.litellm_config import LiteLLMFile
from homeport.stack.boot.plan import (
    File,
    Findings,
    LiteLLM,
    Llama,
    Plan,
    Wishes,
    plan,
    wishes,
)

KEPT: Final = ("server", "store", "web_search", "small_models")
"""Sections of the gateway's own configuration that hold in front of LiteLLM, too: whatever says which
models there are is LiteLLM's matter then."""
KEY_FILE: Final = "master_key"
_YAML: Final = (".yaml", ".yml")


def planned(env: Mapping[str, str]) -> Plan:
    """What this environment, on this disk, wants started. Changes nothing. Raises ``ConfigError``."""
    wanted = wishes(env)
    return plan(wanted, findings(wanted, env), env, new_key())


def new_key() -> str:
    """``sk-`` because LiteLLM wants it so."""
    return f"sk-{secrets.token_hex(24)}"


def state_folder(env: Mapping[str, str]) -> Path:
    return load.state_home(env) / "boot"


def findings(wanted: Wishes, env: Mapping[str, str]) -> Findings:
    """Raises ``ConfigError`` for what is wanted and cannot be."""
    folder = state_folder(env)
    has_keys, config = _own_configuration(wanted, env)
    return Findings(
        python=sys.executable,
        state=str(folder),
        hostname=socket.gethostname(),
        llama=_llama(wanted, env) if wanted.llama else None,
        litellm=_litellm(wanted, env) if wanted.litellm else None,
        own_key=None if any(map(env.get, MASTER_KEYS)) else _read_key(folder / KEY_FILE),
        has_keys=has_keys,
        config=config,
    )


# --------------------------------------------------------------------------- llama-server


def _llama(wanted: Wishes, env: Mapping[str, str]) -> Llama:
    model = _model(wanted, env)
    command = starting.command_for(model, Machine(), wanted.llama_port, None)
    source = model.path or model.hub or model.id
    return Llama(
        model_id=model.id, model=source, command=command, context_tokens=_context_tokens(model)
    )


def _model(wanted: Wishes, env: Mapping[str, str]) -> ModelSettings:
    if (path := wanted.llama_model) is not None:
        return _flagged(path, env, "AUTO_INFER_LLAMA_CPP_MODEL")
    assert wanted.llama_config is not None
    path = wanted.llama_config
    if Path(path).suffix.lower() not in _YAML:
        return _flagged(path, env, "AUTO_INFER_LLAMA_CPP_CONFIG")
    found = choosing.with_engines(load.read(Path(path).absolute(), env), Machine())
    models = [m for m in found.models if m.engine == "llamacpp" and m.runner != "container"]
    default = [m for m in models if m.id == found.default_model]
    if not models:
        raise ConfigError(
            "has no model that llama.cpp serves",
            where=path,
            hint="models: {NAME: {path: /models/NAME.gguf}}",
        )
    return (default or models)[0]


def _flagged(path: str, env: Mapping[str, str], variable: str) -> ModelSettings:
    """As ``--model`` takes it."""
    if not Path(path).expanduser().exists() and not is_hub_id(path):
        raise ConfigError(
            f"there is no {path}",
            where=variable,
            hint="is the folder with the models mounted there?",
        )
    nothing = {"HOME": env["HOME"]} if "HOME" in env else {}
    flags = Overrides(models=(path,), engine="llamacpp")
    settings = load.settings(Path(os.devnull), nothing, flags)
    return settings.models[0]


def _context_tokens(model: ModelSettings) -> int | None:
    """What a slot will have: llama.cpp caps it at what the model was trained for."""
    files = starting.files_of(model)
    if model.args or files is None or not files.head:
        return None
    try:
        trained = gguf.read(files.head).context_length
    except ConfigError as error:
        error.where = files.path
        raise
    asked = model.ctx or DEFAULT_CTX
    return min(asked, trained) if trained is not None else None


# --------------------------------------------------------------------------- LiteLLM


def _litellm(wanted: Wishes, env: Mapping[str, str]) -> LiteLLM:
    config = Path(wanted.litellm_config or state_folder(env) / "litellm_config.yaml").absolute()
    file = _read_file(config) if config.exists() else None
    if (binary := _executable(wanted, env)) is not None:
        return LiteLLM(argv=(binary,), installs=False, config=str(config), file=file)
    own = Installed(
        url="",
        internal_key="",
        state_home=load.state_home(env),
        data_home=load.data_home(env),
        env=env,
    )
    locked = litellm_proxy.Plan(settings=LiteLLMSettings())
    return LiteLLM(
        argv=own.argv(locked, ()),
        installs=not own.is_installed(locked),
        config=str(config),
        file=file,
    )


def _executable(wanted: Wishes, env: Mapping[str, str]) -> str | None:
    path = env.get("PATH", os.defpath)
    if wanted.litellm_binary is not None:
        found = shutil.which(wanted.litellm_binary, path=path)
        if found is None:
            raise ConfigError(
                f"is no executable: {wanted.litellm_binary}",
                where="LITELLM_BIN",
                hint="unset it for a litellm on the PATH, or for the one that homeport installs",
            )
    else:
        beside = os.path.dirname(os.path.abspath(sys.argv[0]))
        found = shutil.which("litellm", path=os.pathsep.join((path, beside)))
    if found is not None and (version := version_of(found)) in TAMPERED:
        raise ConfigError(
            f"LiteLLM {version} was tampered with, and is not started",
            where=found,
            hint="install another version",
        )
    return found


def version_of(executable: str) -> str | None:
    """The version of an installed LiteLLM, by its files: nothing of it is run."""
    folder = Path(executable).resolve().parent.parent
    for place in ("lib/python3*/site-packages", "lib/python3*/dist-packages"):
        for found in folder.glob(f"{place}/litellm-*.dist-info"):
            return found.name.removeprefix("litellm-").removesuffix(".dist-info")
    return None


def _read_file(path: Path) -> LiteLLMFile:
    """The file with those that it includes; their paths start at its folder."""
    first = litellm_config.read(_bytes(path), str(path))
    others = [litellm_config.read(_bytes(path.parent / i), i) for i in first.includes]
    return litellm_config.joined(first, others)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"cannot be read: {error.strerror}", where=str(path), hint="check its permissions"
        ) from error


# --------------------------------------------------------------------------- the gateway


def _own_configuration(wanted: Wishes, env: Mapping[str, str]) -> tuple[bool, dict[str, Any]]:
    """Whether the gateway's own configuration has keys, and what of it holds in front of LiteLLM.

    It is judged here once: a chain should not be started for a gateway that will refuse its file."""
    without = {k: v for k, v in env.items() if k not in (*MASTER_KEYS, "HOMEPORT_STORE_URL")}
    if wanted.litellm:
        without.pop("AUTO_INFER_LITELLM_CONFIG", None)
    if wanted.llama and not wanted.litellm:
        without["HOMEPORT_UPSTREAM"] = f"http://127.0.0.1:{wanted.llama_port}"
    path, _ = load.config_file(None, without)
    loopback = Overrides(host="127.0.0.1")  # the bind is ours to answer for
    settings: Settings = load.settings(None, without, loopback)
    has_keys = bool(settings.server.keys or settings.server.master_key)
    if not path.exists() or litellm_compat.is_litellm(data := path.read_bytes()):
        return has_keys, {}
    # As text: the reader of the configuration judges by the key, and not by what YAML guesses.
    found = yaml.load(data.decode("utf-8-sig"), Loader=yaml.BaseLoader) or {}
    kept = {name: found[name] for name in KEPT if name in found}
    store = kept.get("store")
    if isinstance(store, dict) and not {":", "$"} & {*str(store.get("url", ":"))}:
        kept["store"] = {**store, "url": settings.store.url}  # a path started at that file
    return has_keys, kept


def _read_key(file: Path) -> str | None:
    """None where there is none yet. One that cannot be read is no reason to make another: clients have
    it. Raises ``ConfigError``."""
    try:
        return file.read_text("ascii").strip() or None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise ConfigError(
            f"the master key cannot be read: {reason}",
            where=str(file),
            hint="check its owner; or remove it, and another one is made",
        ) from None


# --------------------------------------------------------------------------- writing


def prepare(planned: Plan, env: Mapping[str, str]) -> None:
    """Write the plan's files, and its key where that is new. Raises ``ConfigError``."""
    folder = state_folder(env)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if planned.key_from == "new":
            staged.write(folder / KEY_FILE, f"{client_key(planned)}\n".encode())
    except OSError as error:
        raise _unwritable(folder, error, "set HOMEPORT_HOME to a folder that can be") from error
    for file in planned.files:
        _write_file(file)


def client_key(planned: Plan) -> str:
    """The key that clients need."""
    return dict(planned.members[-1].command.env).get("HOMEPORT_MASTER_KEY", "")


def _write_file(file: File) -> None:
    path = Path(file.path)
    hint = "make its folder writable, or write the file yourself" if file.is_users else ""
    try:
        if not file.is_users:
            staged.write(path, file.text.encode())
        elif not path.exists():  # somebody may have been faster: it is theirs then
            staged.write(path, file.text.encode(), staged.READABLE)
    except OSError as error:
        raise _unwritable(path, error, hint) from error


def _unwritable(path: Path, error: OSError, hint: str) -> ConfigError:
    return ConfigError(f"cannot be written: {error.strerror}", where=str(path), hint=hint)


def told(planned: Plan) -> dict[str, Any]:
    """A plan as ``--json`` shows it: no value of any variable is in it."""
    return {
        "members": [
            {
                "name": member.name,
                "title": member.title,
                "port": member.port,
                "command": member.command.argv,
                "ready": member.ready_url,
                "exit_code": member.exit_code,
            }
            for member in planned.members
        ],
        "files": [file.path for file in planned.files],
        "key": planned.key_from,
    }
