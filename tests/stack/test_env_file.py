"""``services/.env``: what is written is read back, by us and by Docker Compose itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from homeport.stack import env_file
from homeport.stack.env_file import Variable

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,12}", fullmatch=True)
SAID = st.text(
    st.characters(codec="utf-8", exclude_characters="\0") | st.sampled_from("'\"\\$#` \n\t=")
)
"""All that an environment can hold, and often what has a meaning in the file."""
WITHOUT_SHRINKING = [phase for phase in Phase if phase is not Phase.shrink]
"""Each example is a run of Compose."""
HARD = (
    "",
    "plain-1.2:3/4,5@6+7=8%9",
    "two words",
    " around ",
    "it's",
    'say "hi"',
    'it\'s "both"',
    "ends in \\",
    "\\",
    "\\\\",
    "a\\nb",
    "\\'",
    "'\\",
    "$HOME",
    "${HOME}",
    "$$",
    "it's $5",
    "\\$x'",
    "# no comment",
    "a #b",
    "a\nb",
    "a\r\nb\n",
    "\t",
    "`date`",
    "!{}[]*?~|&;<>()",
    "ü€\u2028\x0b\x85",
)


def written(values: dict[str, str]) -> str:
    return env_file.completed("", [Variable(name, value) for name, value in values.items()])


@given(st.dictionaries(NAMES, SAID, max_size=5))
def test_what_is_written_is_read_back(values: dict[str, str]) -> None:
    text = written(values)
    assert env_file.values(text) == values
    assert env_file.unread(text) == []
    assert all(line.is_literal for line in env_file.lines(text))
    assert env_file.decoded(env_file.encoded(text)) == text


@given(st.dictionaries(NAMES, SAID, max_size=5), st.dictionaries(NAMES, SAID, max_size=5))
def test_changes_are_read_back_and_the_rest_stays(
    before: dict[str, str], new: dict[str, str]
) -> None:
    text = env_file.changed(written(before), new)
    assert env_file.values(text) == {**before, **new}


@given(st.binary())
def test_any_bytes_survive(data: bytes) -> None:
    text = env_file.decoded(data)
    env_file.values(text)
    kept = env_file.encoded(env_file.completed(text, []))
    assert kept.rstrip(b"\n") == env_file.encoded(text).rstrip(b"\n") or not text.strip()


def test_what_a_user_wrote_stays_as_it_stands() -> None:
    mine = '# mine\nexport A = \'x\'  # why\n\nB="a\\"b\\nc"\nC=plain # comment\nD=\n'
    assert env_file.values(mine) == {"A": "x", "B": 'a"b\nc', "C": "plain", "D": ""}
    text = env_file.completed(mine, [Variable("A", "other"), Variable("E", "new", "For E.")])
    assert text == f"{mine.rstrip()}\n\n# For E.\nE=new\n"
    assert env_file.changed(mine, {"A": "x", "C": "it's"}) == mine.replace(
        "C=plain # comment", 'C="it\'s"'
    )


def test_of_a_name_that_is_there_twice_the_last_counts() -> None:
    assert env_file.values("A=1\nA=2\n") == {"A": "2"}


def test_a_line_that_is_not_understood_is_none() -> None:
    text = 'A="begins\nhere"\nB=1\nnonsense\n# KEY=comment\nC=\'open\n'
    assert env_file.values(text) == {"B": "1"}
    assert env_file.unread(text) == [1, 2, 4, 6]


def test_what_no_environment_can_hold_is_none() -> None:
    text = "A=1\0\nB=1\n"
    assert env_file.values(text) == {"B": "1"}
    assert env_file.unread(text) == [1]


def test_lines_know_whether_they_mean_other_variables() -> None:
    text = 'A=$X\nB=\'$X\'\nC="$X"\nD="\\$X"\nE=x\n'
    assert [line.is_literal for line in env_file.lines(text)] == [False, True, False, True, True]


def test_a_missing_file_is_empty(tmp_path: Path) -> None:
    assert env_file.read(tmp_path / ".env") == {}


# --- Docker Compose is the judge ----------------------------------------------------------------


@pytest.fixture(scope="module")
def compose() -> str:
    docker = shutil.which("docker")
    asked = [docker or "", "compose", "version"]
    if docker is None or subprocess.run(asked, capture_output=True).returncode:
        pytest.skip("no Docker Compose here")
    return docker


def as_compose_reads(docker: str, folder: Path, text: str, names: list[str]) -> dict[str, str]:
    """By both ways: as a variable of the compose file, and as a container's environment."""
    (folder / ".env").write_bytes(env_file.encoded(text))
    by_name = {name: "${" + name + "}" for name in names}
    services = {
        "named": {"image": "x", "environment": by_name},
        "whole": {"image": "x", "env_file": [".env"]},
    }
    (folder / "compose.yaml").write_text(json.dumps({"name": "x", "services": services}))
    env = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "DOCKER_CONFIG")}
    said = subprocess.run(
        [docker, "compose", "config", "--format=json"], cwd=folder, env=env, capture_output=True
    )
    assert said.returncode == 0, said.stderr.decode()
    read = json.loads(said.stdout)["services"]
    found = [
        {name: str(value).replace("$$", "$") for name, value in service["environment"].items()}
        for service in (read["named"], read["whole"])
    ]
    assert found[0] == found[1]
    return found[0]


def test_compose_reads_what_is_hard(compose: str, tmp_path: Path) -> None:
    values = {f"V{number}": value for number, value in enumerate(HARD)}
    assert as_compose_reads(compose, tmp_path, written(values), list(values)) == values


@settings(max_examples=8, deadline=None, phases=WITHOUT_SHRINKING)
@given(st.lists(SAID, min_size=20, max_size=20))
def test_compose_reads_what_is_written(compose: str, said: list[str]) -> None:
    values = {f"V{number}": value for number, value in enumerate(said)}
    with tempfile.TemporaryDirectory() as folder:
        assert as_compose_reads(compose, Path(folder), written(values), list(values)) == values


@settings(max_examples=8, deadline=None, phases=WITHOUT_SHRINKING)
@given(
    st.lists(
        st.builds(
            lambda quote, value: f"{quote}{value}{quote}",
            st.sampled_from(["", "'", '"']),
            st.text(" \\'\"#=,nxyz19é", max_size=8),
        ),
        min_size=20,
        max_size=20,
    )
)
def test_we_read_what_compose_reads(compose: str, said: list[str]) -> None:
    """Of what a user may have written: what we understand, Compose reads alike."""
    text = "".join(f"V{number}={value}\n" for number, value in enumerate(said))
    text = "".join(line.text + "\n" for line in env_file.lines(text))
    values = env_file.values(text)
    with tempfile.TemporaryDirectory() as folder:
        assert as_compose_reads(compose, Path(folder), text, list(values)) == values
