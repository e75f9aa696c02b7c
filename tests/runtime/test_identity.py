"""Which process a process is, and the notes about engines."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.facts import Command
from homeport.runtime import identity, ledger
from homeport.runtime.identity import Identity
from homeport.runtime.ledger import MARK, Ledger


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


def fate(of: Identity) -> str:
    return of.fate


def changed(one: Identity, **values: object) -> Identity:
    return msgspec.structs.replace(one, **values)


def test_a_process_is_alive_until_it_ends(sleeper: subprocess.Popen[bytes]) -> None:
    one = identity.of(sleeper.pid)
    assert one is not None
    assert one == identity.of(sleeper.pid)
    assert one != identity.own()
    assert fate(one) == "alive"
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert fate(one) == "gone", "nobody has collected it, but it has ended"
    assert identity.of(sleeper.pid) is None
    sleeper.wait()
    assert fate(one) == "gone"


def test_the_same_on_other_systems(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "_ON_LINUX", False)
    identity._own.cache_clear()
    try:
        one = identity.of(sleeper.pid)
        assert one is not None
        assert (fate(one), one.boot) == ("alive", "")
        sleeper.kill()
        os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
        assert fate(one) == "gone"
    finally:
        identity._own.cache_clear()


def test_a_pid_that_has_come_again_is_another_process() -> None:
    assert changed(identity.own(), started="1").fate == "gone"


def test_before_the_last_boot_all_are_gone() -> None:
    """Whatever lives under that pid now."""
    assert changed(identity.own(), boot="another").fate == "gone"


@pytest.mark.parametrize("values", [{"host": "another"}, {"pids": "1"}])
def test_of_what_is_elsewhere_nobody_knows(values: dict[str, str]) -> None:
    """Another machine, whose boot is another too; another container."""
    assert changed(identity.own(), **values).fate == "unknown"
    assert changed(identity.own(), host="another", boot="another").fate == "unknown"


def test_written_and_read() -> None:
    own = identity.own()
    assert identity.parsed(str(own)) == own
    for text in ("", "1", "1:2:3:4", "x:1:b:p:h", str(own) + "\n", "-1:1:b:p:h"):
        assert identity.parsed(text) is None


# --------------------------------------------------------------------------- the notes


def command(*argv: str) -> Command:
    return Command(argv=argv, env=(("A", "b"),))


def test_a_note_lies_there_while_the_engine_runs(tmp_path: Path) -> None:
    notes = Ledger(tmp_path / "engines")
    assert notes.read() == []
    entry = notes.begin("m", command("llama-server", "--port", "1"))
    ((path, record),) = notes.read()
    assert record is not None
    assert (record.model, record.program, record.first) == ("m", "llama-server", None)
    assert record.owner == identity.own()
    assert entry.command.env == (("A", "b"), (MARK, record.mark))
    entry.spawned(os.getpid())
    ((_, again),) = notes.read()
    assert again is not None
    assert (again.first, again.mark) == (identity.own(), record.mark)
    assert path.parent.stat().st_mode & 0o077 == 0
    entry.remove()
    entry.remove()
    assert notes.read() == []
    assert list(path.parent.iterdir()) == []


@given(st.binary(max_size=300))
def test_a_broken_note_is_one_that_says_nothing(data: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "1-x.json").write_bytes(data)
        ((_, record),) = Ledger(Path(folder)).read()
        assert record is None


def test_a_note_cut_anywhere_is_none(tmp_path: Path) -> None:
    Ledger(tmp_path).begin("m", command("x"))
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        assert Ledger(tmp_path).read() == [(path, None)]
    path.write_bytes(b"[" * (2 * ledger.FILE_BYTES))
    assert Ledger(tmp_path).read() == [(path, None)]


def test_a_disk_that_is_full_stops_no_engine(tmp_path: Path) -> None:
    (tmp_path / "engines").write_text("not a folder")
    notes = Ledger(tmp_path / "engines")
    entry = notes.begin("m", command("x"))
    entry.spawned(os.getpid())
    entry.remove()
    assert notes.read() == []
