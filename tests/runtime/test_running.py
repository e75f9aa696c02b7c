"""The files by which the command line finds what runs."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import psutil
import pytest

from homeport.runtime.running import Running, announce, folders, running, withdraw

URL = "http://127.0.0.1:11899"


def test_where_they_lie(tmp_path: Path) -> None:
    state = tmp_path / "state"
    assert list(folders({}, state)) == [state / "running"]
    assert list(folders({"XDG_RUNTIME_DIR": "relative"}, state)) == [state / "running"]
    env = {"XDG_RUNTIME_DIR": "/run/user/1"}
    assert list(folders(env, state)) == [Path("/run/user/1/homeport"), state / "running"]


def test_announced_found_and_withdrawn(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "homeport"
    file = announce([folder], 11899, URL, "secret")
    assert file == folder / "11899.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (found,) = running([tmp_path / "none", folder])
    assert (found.url, found.pid, found.key) == (URL, os.getpid(), "secret")
    assert "secret" not in repr(found)
    withdraw(file)
    assert running([folder]) == []
    assert list(folder.iterdir()) == []
    withdraw(file)  # twice is harmless


def test_the_next_place_where_the_first_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    file = announce([tmp_path / "file" / "below", tmp_path / "good"], 1, URL, "k")
    assert file.parent == tmp_path / "good"
    with pytest.raises(OSError, match="below"):
        announce([tmp_path / "file" / "below"], 1, URL, "k")


def left_behind(folder: Path, port: int, pid: int, started_at_s: float) -> Path:
    one = Running(url=f"http://127.0.0.1:{port}", pid=pid, started_at_s=started_at_s, key="k")
    file = folder / f"{port}.json"
    file.write_bytes(msgspec.json.encode(one))
    return file


def test_what_was_left_behind_is_removed(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    began = psutil.Process().create_time()
    gone = left_behind(tmp_path, 1, ended.pid, began)
    pid_came_again = left_behind(tmp_path, 2, os.getpid(), began - 3600)
    alive = left_behind(tmp_path, 3, os.getpid(), began)
    assert [one.url for one in running([tmp_path])] == ["http://127.0.0.1:3"]
    assert [file.exists() for file in (gone, pid_came_again, alive)] == [False, False, True]


def test_another_process_s_file_is_not_withdrawn(tmp_path: Path) -> None:
    file = left_behind(tmp_path, 1, os.getppid(), 0.0)
    withdraw(file)
    assert file.exists()


def test_what_is_no_such_file_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "1.json").write_text("{}")
    (tmp_path / "2.json").write_text("not json")
    assert running([tmp_path]) == []
    assert len(list(tmp_path.iterdir())) == 2
