"""Single values: the text of a YAML scalar or a flag in, a checked value out.

A value is read by the type that its key wants, never by what YAML guesses from its looks: ``port:
"11899"`` is a number, a model called ``no`` is not false, ``args: [-c, 8192]`` is text. That rids us
of YAML's traps in one go.

Readers raise ``WrongValueError`` (message and hint). They do not repeat a value that may be a
secret. What they need to know of the world comes in with ``Place``; no I/O here.
"""

import math
import os.path
import re
import shlex
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Final, get_args
from urllib.parse import urlsplit

import msgspec

from homeport.config.problems import WrongValueError, near
from homeport.engines import hub_files
from homeport.errors import ConfigError
from homeport.facts import EngineName, UpstreamDialect
from homeport.settings import BackendName, RunnerName

MAX_ID: Final = 256
"""Longest model id or alias; file systems end names at 255."""

ENGINES: Final[tuple[str, ...]] = get_args(EngineName)
STARTED_ENGINES: Final[tuple[str, ...]] = ("llamacpp", "vllm", "sglang", "trtllm", "mlx")
"""``custom`` aside, which takes a command line."""
BACKENDS: Final[tuple[str, ...]] = get_args(BackendName)
DIALECTS: Final[tuple[str, ...]] = get_args(UpstreamDialect)
RUNNERS: Final[tuple[str, ...]] = get_args(RunnerName)
IMAGE_TYPES: Final = ("prebuilt", "build")
REQUEST_FIELDS: Final = (
    *("max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "min_p"),
    *("presence_penalty", "frequency_penalty", "repetition_penalty", "seed", "reasoning_effort"),
)
"""What ``request_defaults`` may have."""
ALSO_ENGINES: Final = {"llama": "llamacpp", "llama.cpp": "llamacpp"}
"""Other spellings; ``llama`` is that of ``models.yaml`` files."""
_BOOLEANS: Final = {
    **dict.fromkeys(("true", "yes", "on"), True),
    **dict.fromkeys(("false", "no", "off"), False),
}
_UNITS: Final = {
    "": 1,
    "b": 1,
    **{f"{letter}ib": 1024**n for n, letter in enumerate("kmg", 1)},
    **{f"{letter}b": 1000**n for n, letter in enumerate("kmg", 1)},
}
_DURATIONS: Final = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_MODEL_FILES: Final = (".gguf", ".safetensors", ".bin", ".engine")
_VARIABLE: Final = re.compile(r"os\.environ/(?P<litellm>\w+)|\$\{(?P<shell>\w+)\}")


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where values are read: what relative paths, ``~`` and variables mean there."""

    folder: str
    env: Mapping[str, str]
    exists: Callable[[str], bool]


def text(value: str, place: Place) -> str:
    if not value.strip():
        raise WrongValueError("is empty", "write a value, or leave the key out")
    return value


def any_text(value: str, place: Place) -> str:
    """Also empty. It goes to a process, which cannot take a NUL."""
    if "\0" in value:
        raise WrongValueError("holds a NUL character", "delete the character")
    return value


def boolean(value: str, place: Place) -> bool:
    answer = _BOOLEANS.get(value.casefold())
    if answer is None:
        raise WrongValueError(f"must be true or false, is '{value}'", "write true or false")
    return answer


def _whole(value: str, hint: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9][0-9_]{0,18}", value):
        raise WrongValueError(f"must be a whole number, is '{value}'", hint)
    return int(value)


def port(value: str, place: Place) -> int:
    hint = "write a number from 1 to 65535"
    number = _whole(value, hint)
    if not 1 <= number <= 65535:
        raise WrongValueError(f"is not a port: {number}", hint)
    return number


def port_or_free(value: str, place: Place) -> int:
    """For a flag: 0 lets the system choose, and the start-up talk tells. No use in a file."""
    return 0 if value == "0" else port(value, place)


def count(value: str, place: Place) -> int:
    thousands = re.fullmatch(r"([1-9][0-9]{0,6})k(i?b)?", value.strip().casefold())
    written = f"{int(thousands[1]) * 1024}, not {value.strip()}" if thousands else "32768, not 32k"
    number = _whole(value, f"write the number out: {written}")
    if number < 1:
        raise WrongValueError(
            f"must be at least 1, is {number}", "leave the key out for the default"
        )
    return number


def seconds(value: str, place: Place) -> float:
    found = re.fullmatch(r"([0-9_.e+-]+)\s*([a-z]*)", value.strip().casefold())
    try:
        number = float(found[1]) * _DURATIONS[found[2]] if found else math.nan
    except (ValueError, KeyError):
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise WrongValueError(
            f"must be a number of seconds above 0, is '{value}'", "write 30 or 0.5, 10m or 1h"
        )
    return number


def seconds_or_zero(value: str, place: Place) -> float:
    """As ``seconds``; 0 switches the thing off."""
    return 0.0 if value in ("0", "0.0") else seconds(value, place)


def size(value: str, place: Place) -> int:
    found = re.fullmatch(r"([0-9]{1,18})\s*([a-z]*)", value.strip().casefold())
    factor = _UNITS.get(found[2], 0) if found else 0
    number = factor * int(found[1]) if found else 0
    if number == 0:
        raise WrongValueError(
            f"must be a size, is '{value}'", "write bytes, or 64MiB, 512KiB, 1GiB"
        )
    return number


def size_or_zero(value: str, place: Place) -> int:
    """As ``size``; 0 switches the thing off."""
    return 0 if value == "0" else size(value, place)


def model_id(value: str, place: Place) -> str:
    if not value or value != value.strip() or not value.isprintable():
        raise WrongValueError(
            "is not a model name", "use printable characters, no spaces at the ends"
        )
    if len(value) > MAX_ID:
        raise WrongValueError(
            f"is longer than {MAX_ID} characters", "give the model a shorter name"
        )
    if "*" in value:
        raise WrongValueError(
            "a model's name holds no '*'", "wildcards go under 'aliases:' at the top level"
        )
    return value


def alias_pattern(value: str, place: Place) -> str:
    model_id(value.replace("*", "x"), place)
    return value


def host(value: str, place: Place) -> str:
    bare = value.removeprefix("[").removesuffix("]")
    try:
        return str(ip_address(bare))
    except ValueError:
        pass
    if ":" in value or "/" in value:
        raise WrongValueError(
            f"must be an address or a name alone, is '{value}'",
            "the port has a key of its own: port",
        )
    if not re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,252})", value):
        raise WrongValueError(f"is not a host name: '{value}'", "write 127.0.0.1, ::1 or a name")
    return value.casefold()


def origin(value: str, place: Place) -> str:
    hint = "write scheme, name and port as the browser does: https://chat.example.org:8443"
    scheme, _, rest = value.removesuffix("/").partition("://")
    if scheme not in ("http", "https") or not re.fullmatch(r"[^/?#@\s*]+", rest):
        raise WrongValueError(f"is not an origin: '{value}'", hint)
    return f"{scheme}://{rest.casefold()}"


def base_url(value: str, place: Place) -> str:
    """Base URL without a trailing slash; a bare ``http://host:port`` gets ``/v1``."""
    return _url(value, "/v1")


def site(value: str, place: Place) -> str:
    """The same for what is no model server: nothing is added."""
    return _url(value, "")


def _url(value: str, default_path: str) -> str:
    hint = f"write it like http://127.0.0.1:8080{default_path}"
    try:
        parts = urlsplit(value.strip())
        has_name = bool(parts.hostname) and parts.port != 0  # .port raises when out of range
    except ValueError:
        has_name = False
    if not has_name or parts.scheme not in ("http", "https") or re.search(r"\s", value.strip()):
        raise WrongValueError("is not an http:// or https:// address", hint)
    if parts.username is not None or parts.password is not None:
        raise WrongValueError("holds a user name or password", "put the secret in api_key: ${NAME}")
    if parts.query or parts.fragment:
        raise WrongValueError("has a query or fragment", hint)
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/') or default_path}"


def sha256(value: str, place: Place) -> str:
    hint = "`homeport key new` makes a key and prints the lines to paste here"
    if value.startswith("hp-"):
        raise WrongValueError("is the key itself; only its SHA-256 belongs in a file", hint)
    if not re.fullmatch(r"[0-9a-fA-F]{64}", value):
        raise WrongValueError("must be a SHA-256: 64 hexadecimal digits", hint)
    return value.casefold()


def engine(value: str, place: Place) -> str:
    return _engine(value, ENGINES)


def started_engine(value: str, place: Place) -> str:
    """The same for what homeport starts: for a word that is none, only such are suggested. Of one that
    is never started, the model's rules say what to do instead."""
    return _engine(value, STARTED_ENGINES)


def _engine(value: str, suggested: tuple[str, ...]) -> str:
    known = ALSO_ENGINES.get(value, value)
    if known not in ENGINES:
        hint = near(value, (*suggested, *ALSO_ENGINES))
        raise WrongValueError(f"is not an engine: '{value}'", hint)
    return known


def backend(value: str, place: Place) -> str:
    return _one_of(BACKENDS, ALSO_ENGINES.get(value, value), "a backend with defaults")


def dialect(value: str, place: Place) -> str:
    return _one_of(DIALECTS, value, "a dialect")


def via(value: str, place: Place) -> str:
    return _one_of(("native", "litellm"), value, "a way to a model")


def runner(value: str, place: Place) -> str:
    return _one_of(RUNNERS, value, "a runner")


def image_type(value: str, place: Place) -> str:
    return _one_of(IMAGE_TYPES, value, "a type of image")


def _one_of(words: tuple[str, ...], value: str, what: str) -> str:
    if value not in words:
        raise WrongValueError(f"is not {what}: '{value}'", near(value, words))
    return value


def sleep_level(value: str, place: Place) -> int:
    if value not in ("1", "2"):
        raise WrongValueError(
            f"must be 1 or 2, is '{value}'", "leave the key out to stop the engine instead"
        )
    return int(value)


def secret(value: str, place: Place) -> str:
    """The text, or what ``${NAME}`` or ``os.environ/NAME`` (as in LiteLLM) holds."""
    found = _VARIABLE.fullmatch(value.strip())
    if found is None:
        return key(value, place)
    name = found["litellm"] or found["shell"]
    if not place.env.get(name):
        raise WrongValueError(
            f"environment variable {name} is not set", f"set it first: export {name}=..."
        )
    return _for_header(place.env[name])


def key(value: str, place: Place) -> str:
    """A key as it is."""
    return _for_header(text(value, place))


def _for_header(value: str) -> str:
    """A key is sent in a header; what none can carry would fail with every request."""
    if not value.isascii() or not value.isprintable():
        raise WrongValueError(
            "holds characters that no key has", "look for a line break, or a letter outside ASCII"
        )
    return value


def regex(value: str, place: Place) -> str:
    try:
        re.compile(text(value, place))
    except re.error as error:
        raise WrongValueError(
            f"is not a regular expression: {error}", "single quotes keep backslashes as they are"
        ) from None
    return value


def database(value: str, place: Place) -> str:
    """A PostgreSQL URL as it is, also from a variable; else a file, which need not exist."""
    found = _VARIABLE.fullmatch(value.strip())
    if found is not None:
        value = secret(value, place)
    if value.startswith(("postgresql://", "postgres://")):
        return value
    if "://" in value:
        raise WrongValueError(
            "is no database that homeport knows", "write postgresql://..., or a file for SQLite"
        )
    return absolute(text(value, place), place)


def path(value: str, place: Place) -> str:
    """Absolute; relative ones start at the configuration file's folder. Must exist."""
    full = absolute(text(value, place), place)
    if not place.exists(full):
        hint = "check the name"
        if full != value:
            hint += f"; it was looked for at {full}"
        if is_hub_id(value):
            hint += "; a model on the Hugging Face hub is named by hub: ORG/NAME"
        raise WrongValueError(f"there is no file or folder '{value}'", hint)
    return full


def hub_id(value: str, place: Place) -> str:
    if not is_hub_id(value):
        raise WrongValueError(
            f"is not a model on the Hugging Face hub: '{value}'",
            "write ORG/NAME, or ORG/NAME:Q4_K_M for one GGUF of it; a file goes under path",
        )
    return value


def is_hub_id(value: str) -> bool:
    """By its form alone; a file's name is none."""
    try:
        repository = hub_files.hub_id(value).repo
    except ConfigError:
        return False
    return not repository.casefold().endswith(_MODEL_FILES)


def image(value: str, place: Place) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][\w.\-/:@]*", value, re.ASCII):
        raise WrongValueError(
            f"is not a container image: '{value}'", "write NAME, NAME:TAG or REGISTRY/NAME:TAG"
        )
    return value


def image_tag(value: str, place: Place) -> str:
    if not re.fullmatch(r"[\w][\w.+-]{0,127}", value, re.ASCII):
        raise WrongValueError(f"is not a version: '{value}'", "write the image's tag: v0.12.0")
    return value


def words(value: str, place: Place) -> tuple[str, ...]:
    """A command line, split as a shell would; nothing in it is expanded."""
    try:
        return tuple(shlex.split(any_text(value, place)))
    except ValueError as error:  # shlex: "No closing quotation"
        raise WrongValueError(
            f"cannot be split: {str(error).casefold()}", "close the quote, or write a list"
        ) from None


def flag(value: str, place: Place) -> str:
    """The name of a flag as mappings of arguments write it: ``max_model_len``, or a flag itself."""
    if re.fullmatch(r"-{1,2}[A-Za-z0-9][\w.-]*", value, re.ASCII):
        return value
    if not re.fullmatch(r"[A-Za-z][\w.-]*", value, re.ASCII):
        raise WrongValueError(
            f"is not a flag: '{value}'", "write max_model_len, or --max-model-len"
        )
    return f"-{value}" if len(value) == 1 else "--" + value.replace("_", "-")


def executable(value: str, place: Place) -> str:
    """A name for the search on PATH, or a path as above when it holds a slash."""
    return path(value, place) if "/" in value else text(value, place)


def variable_name(value: str, place: Place) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
        raise WrongValueError(f"is not a variable name: '{value}'", "use letters, digits and _")
    return value


def header_name(value: str, place: Place) -> str:
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}", value):  # RFC 9110, 5.6.2
        raise WrongValueError(f"is not the name of a header: '{value}'", "write X-My-Header")
    return value


def request_field(value: str, place: Place) -> str:
    return _one_of(REQUEST_FIELDS, value, "a field with a default")


def request_value(value: str, place: Place) -> int | float | str:
    """A number, or a word (``reasoning_effort``)."""
    if re.fullmatch(r"[a-z_]{1,32}", value) and value not in ("nan", "inf", "infinity"):
        return value
    return number(value, place)


def number(value: str, place: Place) -> int | float:
    try:
        found = int(value) if re.fullmatch(r"[+-]?[0-9]{1,18}", value) else float(value)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise WrongValueError(f"must be a number, is '{value}'", "write 0.7 or 8192")
    return found


def weight(value: str, place: Place) -> float:
    found = float(number(value, place))
    if found < 0:
        raise WrongValueError(f"must be 0 or more, is {value}", "write 1, 2.5, or 0 for a spare")
    return found


def times(value: str, place: Place) -> int:
    """0, 1, 2, …"""
    return 0 if value == "0" else count(value, place)


def absolute(value: str, place: Place) -> str:
    if value == "~" or value.startswith("~/"):
        value = place.env.get("HOME", "~") + value[1:]
    return os.path.normpath(os.path.join(place.folder, value))
