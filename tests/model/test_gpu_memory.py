"""A GPU's memory, as fake drivers tell it: what they answer, refuse, or lack."""

from __future__ import annotations

import ctypes
import uuid
from types import SimpleNamespace
from typing import Any

import pytest

from omnidrop_cli.model import gpu_memory
from omnidrop_cli.model.gpu_memory import GpuMemory

CARD = uuid.uuid4()
TOTAL, FREE = 24_000_000_000, 9_000_000_000


def driver(**changed: Any) -> SimpleNamespace:
    def uuid_of(target: Any, device: Any) -> int:
        target._obj[:] = CARD.bytes
        return 0

    def total(target: Any, device: Any) -> int:
        target._obj.value = TOTAL
        return 0

    functions = {"cuInit": lambda flags: 0, "cuDeviceGet": lambda device, number: 0 if number == 0 else 101}
    return SimpleNamespace(**{**functions, "cuDeviceTotalMem_v2": total, "cuDeviceGetUuid": uuid_of, **changed})


def management(**changed: Any) -> SimpleNamespace:
    def handle(name: bytes, target: Any) -> int:
        return 0 if name == f"GPU-{CARD}".encode() else 6

    def info(handle: Any, target: Any) -> int:
        target._obj.free = FREE
        return 0

    functions = {"nvmlInit_v2": lambda: 0, "nvmlDeviceGetHandleByUUID": handle, "nvmlDeviceGetMemoryInfo": info}
    return SimpleNamespace(**{**functions, **changed})


def found(monkeypatch: pytest.MonkeyPatch, libraries: dict[str, Any], number: int = 0, torch: str = "2.13.0") -> GpuMemory | None:
    def load(name: str) -> Any:
        if name not in libraries:
            raise OSError(name)
        return libraries[name]

    monkeypatch.setattr(gpu_memory, "version", lambda _: torch)
    monkeypatch.setattr(ctypes, "CDLL", load)
    return gpu_memory.gpu_memory(number)


def test_free_and_total(monkeypatch: pytest.MonkeyPatch) -> None:
    libraries = {gpu_memory.DRIVER: driver(), gpu_memory.MANAGEMENT: management()}
    assert found(monkeypatch, libraries) == GpuMemory(FREE, TOTAL)
    assert found(monkeypatch, libraries, number=1) is None
    assert found(monkeypatch, libraries, torch="2.13.0+cpu") is None


@pytest.mark.parametrize("library", [None, management(nvmlInit_v2=lambda: 9), management(nvmlDeviceGetMemoryInfo=lambda *_: 3)])
def test_without_the_management_library_all_counts_as_free(library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    libraries = {gpu_memory.DRIVER: driver()} | ({} if library is None else {gpu_memory.MANAGEMENT: library})
    assert found(monkeypatch, libraries) == GpuMemory(TOTAL, TOTAL)


@pytest.mark.parametrize("libraries", [{}, {gpu_memory.DRIVER: driver(cuInit=lambda flags: 100)}])
def test_no_gpu(libraries: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(monkeypatch, libraries) is None


def test_this_machine_is_asked_without_an_error() -> None:
    memory = gpu_memory.gpu_memory()
    assert memory is None or 0 < memory.free <= memory.total
