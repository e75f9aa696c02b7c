"""The log of a homeport in the background: bounded by its writer, read while it is written."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from homeport.runtime import log_file

LIMIT = 2000

WRITER = """
import os, sys
from pathlib import Path
from homeport.runtime import log_file
log_file.take_over(Path(sys.argv[1]), int(sys.argv[2]))
exec(sys.stdin.read())
"""


def write(file: Path, program: str, limit: int = LIMIT) -> subprocess.CompletedProcess[bytes]:
    """A process that has its log there; what it says elsewhere is in the result."""
    words = [sys.executable, "-c", WRITER, str(file), str(limit)]
    return subprocess.run(words, input=program.encode(), capture_output=True, timeout=60)


def lines_of(file: Path) -> list[str]:
    return [
        line
        for each in (log_file.before(file), file)
        if each.exists()
        for line in each.read_text().splitlines()
    ]


def test_everything_that_a_process_says_is_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "state" / "proxy.log"
    done = write(
        file,
        "import logging\n"
        "print('to stdout'); print('to stderr: ü\\udcff', file=sys.stderr)\n"
        "logging.basicConfig(stream=sys.stderr); logging.warning('logged')\n"
        "os.write(2, b'past Python\\n'); print(sys.stderr.isatty()); raise ValueError('at the end')",
    )
    assert (done.stdout, done.stderr) == (b"", b"")
    said = file.read_text()
    assert said.startswith(
        "to stdout\nto stderr: ü\\udcff\nWARNING:root:logged\npast Python\nFalse"
    )
    assert said.endswith("ValueError: at the end\n")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_it_is_bounded_and_no_line_is_cut(tmp_path: Path) -> None:
    file = tmp_path / "log"
    write(file, "for n in range(1000): print(f'line {n:04}', file=(sys.stdout, sys.stderr)[n % 2])")
    line = len("line 0000\n")
    assert file.stat().st_size <= LIMIT + line
    assert LIMIT < log_file.before(file).stat().st_size <= LIMIT + line
    numbers = [int(line.removeprefix("line ")) for line in lines_of(file)]
    assert numbers == list(range(numbers[0], 1000)), "the last ones, and none lost between"
    assert len(numbers) > LIMIT / line


def test_the_next_process_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "log"
    write(file, "print('first')")
    write(file, "print('second')")
    assert lines_of(file) == ["first", "second"]


def test_a_file_that_somebody_removes_comes_back(tmp_path: Path) -> None:
    file = tmp_path / "log"
    write(file, f"os.unlink({str(file)!r}); print('lost with it'); print('here again')")
    assert lines_of(file) == ["here again"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
def test_nothing_fails_because_the_disk_is_full(tmp_path: Path) -> None:
    file, good = tmp_path / "log", tmp_path / "good"
    program = (
        "full = os.open('/dev/full', os.O_WRONLY); os.dup2(full, 1); os.dup2(full, 2)\n"
        f"print('cannot be written', flush=True); open({str(good)!r}, 'w').write('went on')"
    )
    assert write(file, program).returncode == 0
    assert good.read_text() == "went on"


def test_the_last_lines_come_from_both_files(tmp_path: Path) -> None:
    file = tmp_path / "log"
    assert log_file.last(file, 5) == []
    log_file.before(file).write_bytes(b"a\nb\n")
    file.write_bytes(b"c\r\nd\xff")
    assert log_file.last(file, 3) == ["b", "c", "d\N{REPLACEMENT CHARACTER}"]
    assert log_file.last(file, 0) == []


def test_lines_since_a_place(tmp_path: Path) -> None:
    file = tmp_path / "log"
    assert log_file.since(file, log_file.place_of(file), 9) == ()
    file.write_text("old\n")
    place = log_file.place_of(file)
    with file.open("a") as stream:
        stream.write("1\n2\n3\n")
    assert log_file.since(file, place, 2) == ("2", "3")
    os.replace(file, log_file.before(file))
    file.write_text("4\n")
    assert log_file.since(file, place, 9) == ("4",), "replaced since then: all of it is newer"


class Script:
    """What happens each time that the follower waits; then it is enough."""

    def __init__(self, *steps: object) -> None:
        self._steps = iter(steps)

    def __call__(self, seconds: float) -> None:
        step = next(self._steps, None)
        if step is None:
            raise EOFError
        if callable(step):
            step()


def all_of(lines: Iterator[str]) -> list[str]:
    found = []
    try:
        for line in lines:
            found.append(line)  # noqa: PERF402  (kept when the iterator raises)
    except EOFError:
        pass
    return found


def test_a_follower_misses_nothing(tmp_path: Path) -> None:
    file = tmp_path / "log"

    def add(text: str) -> None:
        with file.open("a") as stream:
            stream.write(text)

    def replace() -> None:
        add("before\nit is replaced\n")
        os.replace(file, log_file.before(file))
        add("new file\n")

    def remove() -> None:
        add("and removed\n")
        file.unlink()

    script = Script(
        lambda: add("1\n2 is"),
        lambda: add(" whole now\n"),
        replace,
        lambda: add("3\n"),
        remove,
        lambda: None,
        lambda: add("once more\n"),
        lambda: None,
    )
    assert all_of(log_file.followed(file, 5, script)) == [
        *("1", "2 is whole now", "before", "it is replaced", "new file", "3", "and removed"),
        "once more",
    ]


def test_a_follower_begins_with_the_last_lines(tmp_path: Path) -> None:
    file = tmp_path / "log"
    log_file.before(file).write_text("a\nb\n")
    file.write_text("c\nd\nbegun")

    def end_it() -> None:
        with file.open("a") as stream:
            stream.write(" and ended\n")

    found = all_of(log_file.followed(file, 3, Script(end_it, lambda: None)))
    assert found == ["b", "c", "d", "begun and ended"]
