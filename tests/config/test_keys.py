"""Keys: enough randomness, the right hash, lines that can be pasted."""

import base64
import hashlib

import pytest

from homeport.config import keys
from tests.config.conftest import Read


def test_a_key_is_32_random_bytes_after_the_prefix() -> None:
    made = {keys.new_key() for _ in range(50)}
    assert len(made) == 50
    for key in made:
        assert key.startswith("hp-")
        assert len(base64.urlsafe_b64decode(key.removeprefix("hp-") + "=")) == 32


def test_sha256_is_that_of_the_whole_key() -> None:
    assert keys.sha256_of("hp-x") == hashlib.sha256(b"hp-x").hexdigest()


@pytest.mark.parametrize(
    "name", ["laptop", "no", "null", "a: b", 'say "hi"', "Büro ☕", "- x", "#1"]
)
def test_the_lines_can_be_pasted_whatever_the_name(name: str, read: Read) -> None:
    sha256 = keys.sha256_of(keys.new_key())
    (key,) = read(keys.yaml_lines(name, sha256, is_first=True)).server.keys
    assert (key.name, key.sha256) == (name, sha256)
