"""Memory and its limits, as files of the kernel tell them."""

import platform
from pathlib import Path

import psutil
import pytest

from homeport.runtime.machine import read_machine, read_memory
from homeport.runtime.nvml import Cards

MIB = 1024 * 1024
NO_LIMIT_V1 = str(2**63 - 4096)


def group(folder: Path, files: dict[str, object]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(f"{text}\n")


def v2(limit: object, usage: int, inactive: int = 0) -> dict[str, object]:
    stat = f"anon 5\ninactive_file {inactive}\nactive_file 7"
    return {"memory.max": limit, "memory.current": usage, "memory.stat": stat}


def v1(limit: object, usage: int, inactive: int = 0) -> dict[str, object]:
    return {
        "memory.limit_in_bytes": limit,
        "memory.usage_in_bytes": usage,
        "memory.stat": f"inactive_file 1\ntotal_inactive_file {inactive}",
    }


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return tmp_path / "cgroup"


def test_the_innermost_limit_counts(tmp_path: Path, own: Path) -> None:
    own.write_text("0::/a/b\n")
    group(tmp_path / "mount/a/b", v2(300 * MIB, 100 * MIB, 40 * MIB))
    group(tmp_path / "mount/a", v2(900 * MIB, 100 * MIB))
    group(tmp_path / "mount", {})
    memory = read_memory(own, tmp_path / "mount")
    assert (memory.total_bytes, memory.available_bytes) == (300 * MIB, 240 * MIB)


def test_a_group_around_ours_may_be_tighter(tmp_path: Path, own: Path) -> None:
    own.write_text("0::/a/b\n")
    group(tmp_path / "mount/a/b", v2("max", 100 * MIB))
    group(tmp_path / "mount/a", v2(200 * MIB, 190 * MIB))
    memory = read_memory(own, tmp_path / "mount")
    assert (memory.total_bytes, memory.available_bytes) == (200 * MIB, 10 * MIB)


@pytest.mark.parametrize("path", ["/", "/docker/of/the/host", "/../outside"])
def test_in_a_container_the_mount_is_our_group(tmp_path: Path, own: Path, path: str) -> None:
    own.write_text(f"0::{path}\n")
    group(tmp_path / "mount", v2(64 * MIB, 80 * MIB))
    memory = read_memory(own, tmp_path / "mount")
    assert (memory.total_bytes, memory.available_bytes) == (64 * MIB, 0)


def test_version_1(tmp_path: Path, own: Path) -> None:
    own.write_text("5:cpu,cpuacct:/x\n4:memory:/box\n1:name=systemd:/\n0::/\n")
    group(tmp_path / "mount/memory/box", v1(128 * MIB, 100 * MIB, 28 * MIB))
    group(tmp_path / "mount/memory", v1(NO_LIMIT_V1, 10**9))
    memory = read_memory(own, tmp_path / "mount")
    assert (memory.total_bytes, memory.available_bytes) == (128 * MIB, 56 * MIB)


@pytest.mark.parametrize("text", ["", "nonsense", "0::/", "4:memory:/box", "\udcff"])
def test_without_a_limit_it_is_the_machines(tmp_path: Path, own: Path, text: str) -> None:
    own.write_bytes(text.encode(errors="surrogateescape"))
    group(tmp_path / "mount", {"memory.max": "max", "memory.current": 5})
    memory = read_memory(own, tmp_path / "mount")
    assert memory.total_bytes == psutil.virtual_memory().total
    assert 0 < memory.available_bytes < memory.total_bytes


def test_this_machine() -> None:
    machine = read_machine(Cards())
    assert machine.system == {"Linux": "linux", "Darwin": "darwin"}.get(platform.system(), "other")
    assert machine.gpus == ()
    assert 0 < machine.memory_bytes <= psutil.virtual_memory().total
