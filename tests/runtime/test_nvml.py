"""Cards, asked through the real ``pynvml``; the library under it is ours (``fake_nvml.c``).

No card was there: that NVIDIA's own library answers alike is not shown.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from homeport.runtime.nvml import Cards

SOURCE = Path(__file__).with_name("fake_nvml.c")
GIB = 1024**3
ASKED = """
import json, os, sys, structlog
from structlog.testing import capture_logs
with capture_logs() as logs:
    from homeport.runtime.nvml import Cards
    cards = Cards.open()
    shared = json.loads(os.environ.get("SHARED", "[0, 0]"))
    gpus = [[gpu.total_bytes, gpu.free_bytes] for gpu in cards.gpus(*shared)]
    cards.gpus(*shared)
    used = cards.used_by(json.loads(os.environ.get("PIDS", "[]")))
    cards.used_by([1])
print(json.dumps({"count": cards.count, "gpus": gpus, "used": used, "logs": logs}))
"""

Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    """``ask(NAME=value, …)``: what ``Cards`` says in a process with that environment.

    A process each, because ``pynvml`` loads its library once.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler for the fake NVML")
    folder = tmp_path_factory.mktemp("nvml")
    library = folder / "libnvidia-ml.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, SOURCE], check=True)

    def answer(**env: str) -> Any:
        usual = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}
        run = subprocess.run(
            [sys.executable, "-c", ASKED],
            env={**usual, "LD_LIBRARY_PATH": str(folder), **env},
            capture_output=True,
            check=True,
        )
        return json.loads(run.stdout)

    return answer


TWO = f"{24 * GIB}:{20 * GIB}:0:0,{48 * GIB}:{8 * GIB}:0:0"


def test_cards_and_their_memory(ask: Ask) -> None:
    found = ask(FAKE_NVML_CARDS=TWO)
    assert found["gpus"] == [[24 * GIB, 20 * GIB], [48 * GIB, 8 * GIB]]
    assert found["logs"] == []


def test_what_a_process_tree_uses_on_all_cards(ask: Ask) -> None:
    processes = "0:11:100,0:12:5,1:11:30,1:99:7000"
    found = ask(FAKE_NVML_CARDS=TWO, FAKE_NVML_PROCESSES=processes, PIDS="[11, 12, 13]")
    assert found["used"] == 135


def test_processes_that_it_does_not_list_use_what_nobody_knows(ask: Ask) -> None:
    found = ask(FAKE_NVML_CARDS=TWO, FAKE_NVML_PROCESSES="0:11:100", PIDS="[12]")
    assert found["used"] is None
    unknown = f"0:11:{2**64 - 1}"  # NVML_VALUE_NOT_AVAILABLE
    found = ask(FAKE_NVML_CARDS=TWO, FAKE_NVML_PROCESSES=unknown, PIDS="[11]")
    assert found["used"] is None


@pytest.mark.parametrize(
    ("visible", "totals"),
    [
        ("1", [48]),
        ("1,0", [48, 24]),
        ("GPU-00000001", [48]),
        ("0,7,1", [24]),
        ("-1", []),
        ("", []),
        ("MIG-1", []),
    ],
)
def test_only_cards_that_engines_will_see_count(ask: Ask, visible: str, totals: list[int]) -> None:
    found = ask(FAKE_NVML_CARDS=TWO, CUDA_VISIBLE_DEVICES=visible)
    assert [total // GIB for total, _ in found["gpus"]] == totals


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({"FAKE_NVML_CARDS": f"{GIB}:{GIB}:0:1"}, "instances"),
        ({"FAKE_NVML_CARDS": f"{GIB}:{GIB}:4:0"}, "Permission"),
        ({"FAKE_NVML_CARDS": TWO, "FAKE_NVML_PROCESSES": "refused"}, "Permission"),
        ({"FAKE_NVML_INIT": "18", "FAKE_NVML_CARDS": TWO}, "mismatch"),
        ({"FAKE_NVML_INIT": "9", "FAKE_NVML_CARDS": TWO}, "Not Loaded"),
    ],
    ids=["mig", "memory refused", "processes refused", "driver updated", "no driver"],
)
def test_what_cannot_be_asked_is_told_once_and_left_out(
    ask: Ask, env: dict[str, str], says: str
) -> None:
    found = ask(**env, PIDS="[11]")
    assert found["used"] is None
    (line,) = found["logs"]
    assert line["log_level"] == "warning"
    assert says in line["error"]
    if "FAKE_NVML_PROCESSES" not in env:
        assert found["gpus"] == []


def test_a_card_without_memory_of_its_own_has_the_machines(ask: Ask) -> None:
    unified = "0:0:3:0,0:0:3:0"  # NVML_ERROR_NOT_SUPPORTED
    assert ask(FAKE_NVML_CARDS=unified, SHARED="[128, 100]")["gpus"] == [[128, 100]]


def test_without_a_driver_there_are_no_cards_and_no_news(monkeypatch: pytest.MonkeyPatch) -> None:
    import pynvml

    def missing() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", missing)
    with capture_logs() as logs:
        cards = Cards.open()
    assert (cards.count, cards.gpus(), cards.used_by([1])) == (0, (), None)
    assert [line["log_level"] for line in logs] == ["debug"]
