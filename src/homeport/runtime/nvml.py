"""CUDA devices and what processes use of them, by NVML, NVIDIA's management library.

The driver brings the library; the package ``nvidia-ml-py`` (module ``pynvml``) calls it. Everything can
be missing or refuse: no driver, a driver that was updated under a running kernel module, a container
that was given no card, a card cut into instances (MIG), a function that this card does not have. None
of that is an error: what cannot be asked is left out, and told once in the log.

Which cards count: those that ``CUDA_VISIBLE_DEVICES`` names, because engines inherit it from us.

Not verified on a GPU: written from NVML's documentation, tested with a library of our own making
(``tests/runtime/fake_nvml.c``) under the real ``pynvml``.
"""

import os
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, TypeVar

import structlog

from homeport.facts import Gpu

log = structlog.get_logger()

T = TypeVar("T")
UNIFIED: Final = Gpu(total_bytes=0, free_bytes=0)
"""Stands for a card without memory of its own; see ``Cards.gpus``."""


class Cards:
    """The CUDA devices of this machine; without any, it says so and nothing else.

    Calls may block while a sleeping driver wakes up (a second or more): ask from a thread.
    """

    def __init__(self, nvml: Any = None, env: Mapping[str, str] = os.environ) -> None:
        """``nvml`` is the module ``pynvml``, initialised; None where there are no cards."""
        self._nvml = nvml
        self._told: set[str] = set()
        self._handles = self._visible(env.get("CUDA_VISIBLE_DEVICES")) if nvml is not None else []

    @classmethod
    def open(cls, env: Mapping[str, str] = os.environ) -> "Cards":
        try:
            import pynvml  # here: `homeport --help` has no use for it

            pynvml.nvmlInit()
        except Exception as error:  # a broken driver must not keep models off the CPU
            # Without a driver this is the usual case, and no news.
            tell = log.debug if "NotFound" in type(error).__name__ else log.warning
            tell("nvml.absent", error=str(error) or repr(error))
            return cls()
        return cls(pynvml, env)

    @property
    def count(self) -> int:
        return len(self._handles)

    def gpus(self, shared_total: int = 0, shared_free: int = 0) -> tuple[Gpu, ...]:
        """Return the cards with their memory now.

        A card that shares the machine's memory (DGX Spark) has none that NVML could tell; the two
        numbers stand in for it, once. Cards that cannot be asked are left out.
        """
        found, is_shared = list[Gpu](), False
        for handle in self._handles:
            memory = self._ask("memory", self._memory, handle)
            if memory is not None and memory is not UNIFIED:
                found.append(memory)
            elif memory is UNIFIED and shared_total and not is_shared:
                is_shared = True
                found.append(Gpu(total_bytes=shared_total, free_bytes=shared_free))
        return tuple(found)

    def used_by(self, pids: Collection[int]) -> int | None:
        """Return what these processes use on all cards together; None when NVML lists none of them.

        It lists none either when it may not, or when our process ids are not the driver's (we run in
        a container).
        """
        total = None
        for handle in self._handles:
            for process in self._ask("processes", self._processes, handle) or ():
                if process.pid in pids and process.usedGpuMemory is not None:
                    total = (total or 0) + int(process.usedGpuMemory)
        return total

    def __repr__(self) -> str:
        return f"Cards({len(self._handles)})"

    # What follows may raise NVML's errors; ``_ask`` has them.

    def _memory(self, handle: Any) -> Gpu:
        try:
            memory = self._nvml.nvmlDeviceGetMemoryInfo(handle)
        except self._nvml.NVMLError as error:
            if error.value == self._nvml.NVML_ERROR_NOT_SUPPORTED:
                return UNIFIED
            raise
        return Gpu(total_bytes=int(memory.total), free_bytes=int(memory.free))

    def _processes(self, handle: Any) -> list[Any]:
        """Compute processes; an engine draws no graphics."""
        return list(self._nvml.nvmlDeviceGetComputeRunningProcesses(handle))

    def _visible(self, wanted: str | None) -> list[Any]:
        """Handles of the cards that engines will see, less those cut into instances.

        Numbers are taken in NVML's order, which is CUDA's with ``CUDA_DEVICE_ORDER=PCI_BUS_ID`` or
        with cards that are all alike. As in CUDA, the list ends at the first name that fits none.
        """
        count = self._ask("count", self._nvml.nvmlDeviceGetCount) or 0
        asked = [
            self._ask("handle", self._nvml.nvmlDeviceGetHandleByIndex, n) for n in range(count)
        ]
        if wanted is not None:
            chosen = list[Any]()
            for name in (part.strip() for part in wanted.split(",")):
                index = self._index_of(name, asked)
                if index is None:
                    break
                chosen.append(asked[index])
            asked = chosen
        return [handle for handle in asked if handle is not None and not self._is_cut(handle)]

    def _index_of(self, name: str, handles: list[Any]) -> int | None:
        if name.isascii() and name.isdecimal():
            return int(name) if int(name) < len(handles) else None
        for index, handle in enumerate(handles):
            if name.startswith("GPU-") and handle is not None:
                uuid = self._ask("uuid", self._nvml.nvmlDeviceGetUUID, handle)
                if isinstance(uuid, str) and uuid.startswith(name):
                    return index
        return None

    def _is_cut(self, handle: Any) -> bool:
        """Whether MIG is on: the card's own numbers are then nobody's."""
        try:
            mode, _ = self._nvml.nvmlDeviceGetMigMode(handle)
        except self._nvml.NVMLError:
            return False  # a card without MIG
        if mode:
            self._tell_once("mig", "this card is cut into instances (MIG), which are not counted")
        return bool(mode)

    def _ask(self, what: str, call: Callable[..., T], *args: Any) -> T | None:
        try:
            return call(*args)
        except (self._nvml.NVMLError, self._nvml.NVMLLibraryMismatchError) as error:
            self._tell_once(what, str(error))
            return None

    def _tell_once(self, what: str, error: str) -> None:
        if what not in self._told:
            self._told.add(what)
            log.warning("nvml.refused", asked=what, error=error)
