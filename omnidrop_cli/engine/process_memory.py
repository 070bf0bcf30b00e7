"""How much memory a process holds, now and at its widest.

Imports nothing heavy, so that a process that never loads torch can be measured.
"""

from __future__ import annotations

import sys

_FIELDS = {"now": "VmRSS:", "peak": "VmHWM:"}


def reset_peak() -> None:
    """Start a new peak. Outside Linux it cannot be reset and spans the process."""
    if sys.platform == "linux":
        try:
            with open("/proc/self/clear_refs", "w") as handle:
                handle.write("5")
        except OSError:
            return  # some containers mount /proc read-only


def peak_mb() -> float:
    """Widest resident size in megabytes (1e6 bytes) since `reset_peak`."""
    found = of_process("peak")
    if found is not None:
        return found
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def now_mb() -> float:
    """Resident size in megabytes; the peak where the platform tells no more."""
    found = of_process("now")
    return peak_mb() if found is None else found


def of_process(what: str, pid: int | str = "self") -> float | None:
    """Megabytes of any running process, `what` being "now" or "peak"; None where the platform does not tell or it is gone."""
    if sys.platform != "linux":
        return None
    try:
        with open(f"/proc/{pid}/status") as handle:
            for line in handle:
                if line.startswith(_FIELDS[what]):
                    return int(line.split()[1]) * 1024 / 1e6
    except OSError:
        pass
    return None
