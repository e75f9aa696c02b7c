"""API keys for clients: made here, shown once, kept only as SHA-256.

A key has 32 random bytes, so a plain fast hash is enough: there is nothing to guess, and the server
hashes one per request. ``hp-`` lets people and secret scanners see what it is.
"""

import hashlib
import json
import secrets
import shlex
import string
from typing import Final

PREFIX: Final = "hp-"
RANDOM_BYTES: Final = 32
PREFIXES: Final = (PREFIX, "sk-")
"""What keys begin with, here and elsewhere."""
DIGITS: Final = 64


def new_key() -> str:
    return PREFIX + secrets.token_urlsafe(RANDOM_BYTES)


def sha256_of(key: str) -> str:
    """What ``server.keys[].sha256`` holds for this key."""
    return hashlib.sha256(key.encode()).hexdigest()


def instead_of(text: str, name: str) -> str:
    """What the configuration should have in place of a key or its SHA-256, which is ``name``'s. The
    text is never repeated: it may be a key that does not look like one."""
    called = json.dumps(name or "laptop")
    is_digest = len(text) == DIGITS and set(text.lower()) <= set(string.hexdigits)
    if is_digest or text.startswith(PREFIXES):
        sha256 = text.lower() if is_digest else sha256_of(text)
        return f"write - {{name: {called}, sha256: {sha256}}}: whose it is, and not the key itself"
    whose = shlex.quote(name or "laptop")
    return f"`homeport key new --name {whose}` makes a key, and says what to write"


def own_name(sha256: str) -> str:
    """Of a key whose holder has none: no other key is called so."""
    return f"key-{sha256[:8]}"


def yaml_lines(name: str, sha256: str, *, is_first: bool) -> str:
    """The lines to paste into the configuration. JSON quoting is valid YAML for any name."""
    head = "server:\n  keys:\n" if is_first else ""
    return f"{head}    - name: {json.dumps(name)}\n      sha256: {sha256}\n"
