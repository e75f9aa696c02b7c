"""``homeport pull`` at the terminal, in a log, and for programs."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from homeport.cli.pull_cmd import BarTeller, JsonTeller, LineTeller
from homeport.engines.hub_files import Choice, HubFile
from homeport.runtime.hub import Chosen, Loading, Retrying
from tests.support.fake_hub import FakeHub
from tests.support.terminal import Terminal

MB = 1_000_000
WEIGHTS = random.Random(1).randbytes(300_000)
FILES = {"it-Q4_K_M.gguf": WEIGHTS, "it-Q8_0.gguf": WEIGHTS + b"8"}
COMMAND = [sys.executable, "-m", "homeport", "pull"]
WITHIN_S = 30.0


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub(org__it=FILES) as hub:
        yield hub


@pytest.fixture
def env(hub: FakeHub, tmp_path: Path) -> dict[str, str]:
    home = {"HOME": str(tmp_path), "HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": hub.url}
    return {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **home}


def run(env: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *words], env=env, capture_output=True, text=True)


def loading(done_mb: float, total_mb: float = 1000, file: str = "it.gguf") -> Loading:
    return Loading(file=file, done_bytes=round(done_mb * MB), total_bytes=round(total_mb * MB))


# --- the command ------------------------------------------------------------------------------


def test_the_path_is_the_answer(env: dict[str, str], tmp_path: Path) -> None:
    done = run(env, "org/it")
    assert done.returncode == 0
    assert Path(done.stdout.strip()).read_bytes() == WEIGHTS
    lines = done.stderr.splitlines()
    assert lines[:2] == [
        "org/it: 1 file, 300 kB, 300 kB to load",
        "  took Q4_K_M; there are also Q8_0 (org/it:NAME)",
    ]
    assert lines[-1] == "  100 %  300 kB of 300 kB"
    again = run(env, "org/it")
    assert again.stdout == done.stdout
    assert again.stderr.splitlines()[0] == "org/it: 1 file, 300 kB, all there"


def test_json_lines(env: dict[str, str]) -> None:
    done = run(env, "org/it:Q8_0", "--json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [events[0]["event"], events[-1]["event"]] == ["chosen", "pulled"]
    assert events[0]["files"] == [{"name": "it-Q8_0.gguf", "size_bytes": 300_001}]
    assert {event["event"] for event in events[1:-1]} == {"loading"}
    assert events[-2]["done_bytes"] == events[-2]["total_bytes"] == 300_001
    assert events[-1]["model"] == "org/it:Q8_0"
    assert Path(events[-1]["path"]).name == "it-Q8_0.gguf"
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("model", "status", "said"),
    [
        (
            "org/it:Q5_K_M",
            2,
            "error: org/it: there is no GGUF called Q5_K_M\n  hint: choose one of\n",
        ),
        ("org/none", 1, "error: there is no org/none at "),
        ("file.gguf", 2, "error: not a model on the Hugging Face hub: 'file.gguf'\n  hint: "),
    ],
)
def test_errors_say_what_next(env: dict[str, str], model: str, status: int, said: str) -> None:
    done = run(env, model)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith(said)
    assert "hint: " in done.stderr


def test_ctrl_c_loses_nothing(hub: FakeHub, env: dict[str, str], tmp_path: Path) -> None:
    hub.hold_at = 200_000
    process = subprocess.Popen(
        [*COMMAND, "org/it"], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + WITHIN_S
    while not any("60 %" in line for line in iter(process.stderr.readline, "")):  # type: ignore[union-attr]
        assert time.monotonic() < deadline
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=WITHIN_S)
    assert process.returncode == 130
    assert said.strip().endswith("stopped; the same command goes on from here")
    hub.hold_at = None
    hub.released.set()
    assert Path(run(env, "org/it").stdout.strip()).read_bytes() == WEIGHTS
    first, second = hub.loads()
    assert first.range == ""
    start = int(second.range.removeprefix("bytes=").rstrip("-"))
    assert 100_000 < start <= 200_000


def test_a_bar_on_a_terminal(hub: FakeHub, env: dict[str, str], tmp_path: Path) -> None:
    hub.hold_at = 150_000
    with Terminal([*COMMAND, "org/it"], tmp_path, env) as terminal:
        terminal.until(r"\d+ % █+░+ \S+ kB of 300 kB .*it-Q4_K_M\.gguf")
        hub.released.set()
        screen = terminal.until("100 %")
        assert terminal.wait_end() == 0
    assert screen.count("% █") == 1, "one line, written over"
    assert "100 % ████████████████████████ 300 kB of 300 kB" in screen


# --- tellers ----------------------------------------------------------------------------------


def test_a_line_for_each_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    teller = LineTeller()
    for done in range(0, 1001, 5):
        teller(loading(done))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[0] == "   10 %  100 MB of 1.0 GB"
    assert lines[-1] == "  100 %  1.0 GB of 1.0 GB"


def test_the_bar_tells_pace_and_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    teller = BarTeller(clock=lambda: now[0])
    teller(loading(400))  # there before
    now[0] = 10.0
    teller(loading(500))
    assert "50 % ████████████░░░░░░░░░░░░ 500 MB of 1.0 GB  10.0 MB/s  0:50 left" in (
        capsys.readouterr().err
    )
    now[0] += 0.01
    teller(loading(501))
    assert capsys.readouterr().err == "", "not at every piece"


def test_what_is_said_meanwhile_gets_its_own_line(capsys: pytest.CaptureFixture[str]) -> None:
    teller = BarTeller()
    teller(loading(400))
    teller(Retrying(file="it.gguf", reason="cut", pause_s=1.0))
    assert capsys.readouterr().err.endswith("\n  it.gguf: cut; going on in 1 s\n")


def test_programs_get_a_hundredth_at_a_time(capsys: pytest.CaptureFixture[str]) -> None:
    teller = JsonTeller()
    choice = Choice(files=(HubFile("it.gguf", 1000 * MB),), main="it.gguf", note="so")
    teller(Chosen(repo="org/it", choice=choice, missing_bytes=5))
    for done in range(1001):
        teller(loading(done))
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert events[0] == {
        "event": "chosen",
        "repo": "org/it",
        "files": [{"name": "it.gguf", "size_bytes": 1000 * MB}],
        "missing_bytes": 5,
        "note": "so",
    }
    assert len(events) == 1 + 101
