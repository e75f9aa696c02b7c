"""Files that are written whole or not at all, for those who may read them."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from homeport.stack import staged


def mode(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


def test_a_secret_is_for_its_owner_alone_whoever_could_read_it_before(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "key"
    staged.write(file, b"old", staged.READABLE)
    assert mode(file) == 0o644
    staged.write(file, b"new")
    assert (mode(file), file.read_bytes()) == (0o600, b"new")
    assert os.listdir(file.parent) == ["key"]


def test_what_lies_aside_from_before_is_no_way_to_another_file(tmp_path: Path) -> None:
    """A link there is removed, and not written through."""
    other = tmp_path / "other"
    other.write_bytes(b"theirs")
    (tmp_path / ".key.part").symlink_to(other)
    staged.write(tmp_path / "key", b"secret")
    assert other.read_bytes() == b"theirs"
    assert (tmp_path / "key").read_bytes() == b"secret"


def test_of_a_failure_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "deep" / "key"

    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device") as raised:
        staged.write(file, b"secret")
    assert raised.value.filename == str(file)
    assert os.listdir(tmp_path) == []
