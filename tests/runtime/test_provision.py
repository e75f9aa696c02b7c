"""What is reserved for a model: declared, estimated, remembered; and measured when it runs."""

from pathlib import Path

import msgspec
import pytest

from homeport.demo import demo_model_path
from homeport.facts import MIB, Machine
from homeport.runtime.memory import Memory, budget_bytes
from homeport.runtime.nvml import Cards
from homeport.runtime.provision import Provision
from homeport.runtime.remembered import Remembered, key_of
from homeport.settings import ModelSettings

BIG = Machine(memory_bytes=8 * 1024 * MIB)
SMALL = Machine(memory_bytes=40 * MIB)
DEMO = ModelSettings(id="demo", path=str(demo_model_path()), ctx=2048)


@pytest.fixture
def remembered(tmp_path: Path) -> Remembered:
    return Remembered(tmp_path / "memory.json")


def provision(machine: Machine, remembered: Remembered) -> Provision:
    return Provision(machine, Memory(Cards()), remembered)


def test_the_largest_of_three_counts(remembered: Remembered) -> None:
    made = provision(BIG, remembered)
    estimated = made.need_bytes(DEMO)
    assert estimated > 10 * MIB
    remembered.remember(key_of(DEMO, "llamacpp", BIG), "demo", 2 * estimated)
    assert made.need_bytes(DEMO) == 2 * estimated
    declared = msgspec.structs.replace(DEMO, memory_bytes=3 * estimated)
    assert made.need_bytes(declared) == 3 * estimated


def test_an_estimate_never_asks_for_more_than_there_is(remembered: Remembered) -> None:
    made = provision(SMALL, remembered)
    assert made.need_bytes(DEMO) == budget_bytes(SMALL)
    declared = msgspec.structs.replace(DEMO, memory_bytes=100 * MIB)
    assert (
        made.need_bytes(declared) == 100 * MIB
    )  # the user knows better, and is told that it is much


def test_what_is_not_known_needs_nothing(remembered: Remembered, tmp_path: Path) -> None:
    made = provision(BIG, remembered)
    assert made.need_bytes(ModelSettings(id="no", path=str(tmp_path / "no.gguf"))) == 0
    assert made.need_bytes(ModelSettings(id="no", path="x", memory_bytes=5)) == 5
