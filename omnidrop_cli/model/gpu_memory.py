"""Memory of an NVIDIA GPU, asked of its driver: importing torch takes seconds, and its context takes memory.

Without a GPU, a driver, or a torch built for CUDA there is none.
"""

from __future__ import annotations

import ctypes
import os
import uuid
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

WINDOWS = os.name == "nt"
DRIVER = "nvcuda.dll" if WINDOWS else "libcuda.so.1"
MANAGEMENT = "nvml.dll" if WINDOWS else "libnvidia-ml.so.1"


@dataclass(frozen=True, slots=True)
class GpuMemory:
    """Bytes of a card, and how many of them no process holds."""

    free: int
    total: int


class _Info(ctypes.Structure):
    _fields_ = [("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong)]


def gpu_memory(number: int = 0) -> GpuMemory | None:
    """Memory of the visible GPU `number`, as CUDA counts them; None where there is none.

    Where the management library does not answer, all memory counts as free.
    """
    try:
        if version("torch").endswith("+cpu"):
            return None
        driver = ctypes.CDLL(DRIVER)
    except (PackageNotFoundError, OSError):
        return None
    device, size, name = ctypes.c_int(), ctypes.c_size_t(), (ctypes.c_ubyte * 16)()
    found = _all(
        (driver.cuInit, 0),
        (driver.cuDeviceGet, ctypes.byref(device), number),
        (driver.cuDeviceTotalMem_v2, ctypes.byref(size), device),
        (driver.cuDeviceGetUuid, ctypes.byref(name), device),
    )
    return GpuMemory(_free(bytes(name)) or size.value, size.value) if found else None


def _free(name: bytes) -> int | None:
    """Free bytes of the card of this UUID, whose number differs between CUDA and the management library."""
    try:
        library = ctypes.CDLL(MANAGEMENT)
    except OSError:
        return None
    handle, info = ctypes.c_void_p(), _Info()
    found = _all(
        (library.nvmlInit_v2,),
        (library.nvmlDeviceGetHandleByUUID, f"GPU-{uuid.UUID(bytes=name)}".encode(), ctypes.byref(handle)),
        (library.nvmlDeviceGetMemoryInfo, handle, ctypes.byref(info)),
    )
    return info.free if found else None


def _all(*calls: tuple[Any, ...]) -> bool:
    """Whether every function, with its arguments behind it, returned 0; the first that does not ends the row."""
    return all(function(*arguments) == 0 for function, *arguments in calls)
