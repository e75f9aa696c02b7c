"""The boot chain of a container, from its environment: what is started, in which order, and how it is
known to be ready. Pure.

A container image for inference has one entrypoint, ``homeport boot``, and its environment says what of
the chain it wants (``wishes``); what lies on the disk comes in as ``Findings`` (``stack.boot.look``)::

    clients ──▶ gateway :11899 ──▶ LiteLLM :8000 ──▶ llama-server :8080
                      └───────── without LiteLLM ────────┘

Each member is started when the one before it is ready, and ended before the one before it. What the
gateway asks:

1. LiteLLM is in the chain: LiteLLM, by the names that its file has (``stack.boot.litellm_config``).
2. Only llama-server is: that one, whatever it calls its model.
3. Neither is: what the gateway's own configuration says, else what is found, as ever.

Only the gateway listens on all interfaces, and it wants a key of everybody. LiteLLM and llama-server
are for the gateway alone: llama-server has no key, and LiteLLM's opens more than the models.

Keys travel by the environment of each member, which has no more of them than it needs: a command line
can be read by everybody on the machine.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from homeport.config.flags import MASTER_KEYS
from homeport.engines import litellm_proxy
from homeport.errors import ConfigError
from homeport.facts import Command
from homeport.stack.boot import litellm_config
from homeport.stack.boot.litellm_config import LiteLLMFile

LLAMA_PORT: Final = 8080
LITELLM_PORT: Final = 8000
GATEWAY_PORT: Final = 11899

LITELLM_KEY: Final = "LITELLM_MASTER_KEY"

EXIT_CUT: Final = 1
EXIT_CONFIG: Final = 2
EXIT_LLAMA: Final = 3
EXIT_LITELLM: Final = 4
EXIT_GATEWAY: Final = 5
"""What ``homeport boot`` exits with: requests, or members, were cut off; the configuration is wrong; a
member has been given up."""

STOP_GRACE_S: Final = 10.0
DRAIN_GRACE_S: Final = 60.0
"""The gateway lets answers under way finish for ``server.limits.drain_timeout_s`` (30 s), and has then
its engines to end, and the store to write."""

_YES: Final = frozenset({"1", "true", "yes", "on"})
_NO: Final = frozenset({"", "0", "false", "no", "off"})


# --------------------------------------------------------------------------- what is wanted


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """What the environment says."""

    llama: bool = False
    llama_config: str | None = None
    """A model, or a configuration of ours that has one."""
    llama_model: str | None = None
    litellm: bool = False
    litellm_config: str | None = None
    litellm_binary: str | None = None
    llama_port: int = LLAMA_PORT
    litellm_port: int = LITELLM_PORT
    port: int = GATEWAY_PORT


def wishes(env: Mapping[str, str]) -> Wishes:
    """Raises ``ConfigError`` for what is neither yes nor no, no port, or not to be had together."""
    found = Wishes(
        llama=_switch(env, "AUTO_INFER_LLAMA_CPP_ON_BOOT"),
        llama_config=env.get("AUTO_INFER_LLAMA_CPP_CONFIG") or None,
        llama_model=env.get("AUTO_INFER_LLAMA_CPP_MODEL") or None,
        litellm=_switch(env, "AUTO_INFER_LITELLM_ON_BOOT"),
        litellm_config=env.get("AUTO_INFER_LITELLM_CONFIG") or None,
        litellm_binary=env.get("LITELLM_BIN") or None,
        llama_port=_port(env, "LLAMA_PORT", LLAMA_PORT),
        litellm_port=_port(env, "LITELLM_PORT", LITELLM_PORT),
        port=_port(env, "HOMEPORT_PORT", GATEWAY_PORT),
    )
    ports = (found.llama_port, found.litellm_port, found.port)
    if len(set(ports)) < len(ports):
        raise ConfigError(
            f"two members of the chain would listen on one port: {', '.join(map(str, ports))}",
            where="LLAMA_PORT, LITELLM_PORT, HOMEPORT_PORT",
            hint="give each its own",
        )
    if found.llama and found.llama_config and found.llama_model:
        raise ConfigError(
            "names a model, and AUTO_INFER_LLAMA_CPP_CONFIG does so too",
            where="AUTO_INFER_LLAMA_CPP_MODEL",
            hint="set one of them",
        )
    if found.llama and not (found.llama_config or found.llama_model):
        raise ConfigError(
            "llama-server is wanted, and no model is named",
            where="AUTO_INFER_LLAMA_CPP_ON_BOOT",
            hint="set AUTO_INFER_LLAMA_CPP_MODEL to a .gguf file, or AUTO_INFER_LLAMA_CPP_CONFIG "
            "to one, to a folder with one, or to a YAML file of homeport's",
        )
    return found


def _switch(env: Mapping[str, str], name: str) -> bool:
    value = env.get(name, "").strip().casefold()
    if value in _YES or value in _NO:
        return value in _YES
    raise ConfigError(
        f"must be on or off, is '{env[name]}'", where=name, hint="write 1, or 0 (or nothing)"
    )


def _port(env: Mapping[str, str], name: str, default: int) -> int:
    value = env.get(name) or str(default)
    if re.fullmatch(r"[0-9]{1,5}", value) and 1 <= int(value) <= 65535:
        return int(value)
    raise ConfigError(f"is no port: '{value}'", where=name, hint="write a number from 1 to 65535")


# --------------------------------------------------------------------------- what was found


class Llama(msgspec.Struct, frozen=True, kw_only=True):
    """llama-server, as the engine's own code starts it."""

    model_id: str
    model: str
    """The file, for people."""
    command: Command
    context_tokens: int | None = None
    """Of one request; None where it is not known beforehand."""


class LiteLLM(msgspec.Struct, frozen=True, kw_only=True):
    """LiteLLM's proxy: its executable with what comes first, and its file."""

    argv: tuple[str, ...]
    installs: bool
    """It is not installed yet, and will be at its first start."""
    config: str
    file: LiteLLMFile | None
    """None: there is none, and it will be written."""


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """What lies on the disk, and what this container is."""

    python: str
    state: str
    """The folder for what is written for the chain."""
    hostname: str
    llama: Llama | None = None
    litellm: LiteLLM | None = None
    own_key: str | None = None
    """The key that an earlier boot has made."""
    has_keys: bool = False
    """The gateway's configuration has keys for its clients."""
    config: Mapping[str, Any] = {}
    """What of the gateway's configuration holds whatever it is put in front of."""


# --------------------------------------------------------------------------- what will be done


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One process of the chain."""

    name: str
    """In front of each line of its output."""
    title: str
    command: Command
    port: int
    ready_url: str
    """Answers 200 when the next member may be started."""
    exit_code: int
    """The chain's, when this member has been given up."""
    grace_s: float = STOP_GRACE_S
    """From SIGTERM to SIGKILL."""
    hopeless: tuple[int, ...] = ()
    """Exit statuses that another start would not change; the chain has the same then."""
    cut: tuple[int, ...] = ()
    """Exit statuses by which it says, after a SIGTERM, that it has cut something off."""


class File(msgspec.Struct, frozen=True, kw_only=True):
    """A file to write before anything is started."""

    path: str
    text: str
    is_users: bool = False
    """It becomes the user's: written where it is missing, and left alone ever after."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    members: tuple[Member, ...]
    files: tuple[File, ...] = ()
    key_from: str
    """Where the key comes from that clients need: a variable; ``saved``, ``new``; ``configuration``
    where that has keys."""


def plan(wanted: Wishes, found: Findings, env: Mapping[str, str], new_key: str) -> Plan:
    """Return what to start. ``new_key`` is taken where no other key is there.

    Raises ``ConfigError`` for a chain that cannot be.
    """
    key, key_from = _key(found, env, new_key)
    own = {
        **env,
        "HOMEPORT_ALLOWED_HOSTS": _with(env.get("HOMEPORT_ALLOWED_HOSTS"), found.hostname),
    }
    if key_from != "configuration":
        own["HOMEPORT_MASTER_KEY"] = key
    first = (_llama(wanted, found.llama, env),) if found.llama is not None else ()
    if (litellm := found.litellm) is None:  # 2. and 3.
        if found.llama is not None:
            url = _url(wanted.llama_port)
            own["HOMEPORT_UPSTREAM"] = _with(env.get("HOMEPORT_UPSTREAM"), url)
        return Plan(members=(*first, _gateway(wanted, found, own)), key_from=key_from)
    files: tuple[File, ...] = ()
    if (file := litellm.file) is None:
        written = _litellm_file(wanted, found, litellm)
        files, file = (written,), litellm_config.read(written.text.encode(), written.path)
    own[litellm_config.KEY_VARIABLE] = litellm_key = (
        litellm_config.master_key(file, env) or env.get(LITELLM_KEY) or key
    )
    own.pop("AUTO_INFER_LITELLM_CONFIG", None)  # else the gateway would read it as its own
    settings = _gateway_file(wanted, found, file)
    gateway = _gateway(wanted, found, own, "--config", settings.path)
    return Plan(
        members=(*first, _litellm(wanted, litellm, env, litellm_key), gateway),
        files=(*files, settings),
        key_from=key_from,
    )


def _key(found: Findings, env: Mapping[str, str], new_key: str) -> tuple[str, str]:
    for name in MASTER_KEYS:
        if value := env.get(name):
            return value, name
    if found.has_keys:  # then only LiteLLM needs one, and nobody has to know it
        return new_key, "configuration"
    return (found.own_key, "saved") if found.own_key is not None else (new_key, "new")


def _llama(wanted: Wishes, llama: Llama, env: Mapping[str, str]) -> Member:
    own = dict(llama.command.env)
    kept = {k: v for k, v in env.items() if not _is_secret(k) and k != "LLAMA_API_KEY"}
    return Member(
        name="llama",
        title="llama-server",
        command=msgspec.structs.replace(
            llama.command, env=tuple({**kept, **own}.items()), inherits_env=False
        ),
        port=wanted.llama_port,
        ready_url=f"{_url(wanted.llama_port)}{llama.command.ready_path}",
        exit_code=EXIT_LLAMA,
    )


def _litellm(wanted: Wishes, litellm: LiteLLM, env: Mapping[str, str], key: str) -> Member:
    kept = {k: v for k, v in env.items() if not _is_secret(k)}
    own = {
        **litellm_proxy.FIXED,
        **kept,
        **litellm_proxy.without_proxy(env),
        LITELLM_KEY: key,
    }
    port = str(wanted.litellm_port)
    where = ("--host", "127.0.0.1", "--port", port, "--num_workers", "1")
    return Member(
        name="litellm",
        title="LiteLLM",
        command=Command(
            argv=(*litellm.argv, "--config", litellm.config, *where),
            env=tuple(own.items()),
            inherits_env=False,
            engine="litellm",
        ),
        port=wanted.litellm_port,
        ready_url=f"{_url(wanted.litellm_port)}{litellm_proxy.READY_PATH}",
        exit_code=EXIT_LITELLM,
    )


def _litellm_file(wanted: Wishes, found: Findings, litellm: LiteLLM) -> File:
    if found.llama is None:
        raise ConfigError(
            f"there is no {litellm.config}, and no model that LiteLLM could lead to",
            where="AUTO_INFER_LITELLM_CONFIG",
            hint="set AUTO_INFER_LLAMA_CPP_ON_BOOT=1 for a configuration that leads to "
            "llama-server, or write one",
        )
    text = litellm_config.written(found.llama.model_id, f"{_url(wanted.llama_port)}/v1")
    return File(path=litellm.config, text=text, is_users=True)


# --------------------------------------------------------------------------- the gateway


def _gateway(wanted: Wishes, found: Findings, env: Mapping[str, str], *words: str) -> Member:
    where = ("--host", "0.0.0.0", "--port", str(wanted.port))
    return Member(
        name="gateway",
        title="the gateway",
        command=Command(
            # -P: the folder in which the container starts is not searched for Python.
            argv=(found.python, "-P", "-m", "homeport", "serve", *where, *words),
            env=tuple(env.items()),
            inherits_env=False,
            engine="custom",
        ),
        port=wanted.port,
        ready_url=f"{_url(wanted.port)}/health",
        exit_code=EXIT_GATEWAY,
        grace_s=DRAIN_GRACE_S,
        hopeless=(EXIT_CONFIG,),
        cut=(EXIT_CUT,),
    )


def _gateway_file(wanted: Wishes, found: Findings, file: LiteLLMFile) -> File:
    """The gateway's own settings, and LiteLLM's names for models."""
    context = None
    if found.llama is not None and found.llama.context_tokens is not None:
        context = litellm_config.Context(port=wanted.llama_port, tokens=found.llama.context_tokens)
    settings = {
        **found.config,
        **litellm_config.gateway_models(file, f"{_url(wanted.litellm_port)}/v1", context),
    }
    text = msgspec.json.format(msgspec.json.encode(settings), indent=2).decode()  # JSON is YAML
    return File(path=f"{found.state}/gateway.yaml", text=text)


def _with(given: str | None, more: str) -> str:
    """One more value of a list with commas, the first one."""
    return ",".join(dict.fromkeys(filter(None, (more, *(given or "").split(",")))))


def _url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def _is_secret(name: str) -> bool:
    """What is the gateway's alone: its keys, its database."""
    return name.startswith("HOMEPORT_") or name in MASTER_KEYS
