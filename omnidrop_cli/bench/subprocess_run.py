"""One measurement in a process of its own: its memory peak is its own, and nothing is warm that a user would find cold.

Libraries load and inputs are prepared before the clock runs.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from omnidrop_cli.bench.measurement import Sample
from omnidrop_cli.engine import process_memory
from omnidrop_cli.errors import OmnidropError

Tell = Callable[[], dict[str, Any]]
"""JSON-ready facts about what was made, asked for when the clock has stopped. "other_peak_mb" is memory of processes that were run."""

Work = Callable[[], Tell]
"""What is measured."""

_SHARE = 0.8
"""Share of the free memory that a child may take: a tool that reads a whole film into memory must not end other programs."""


class Unavailable(Exception):
    """Why something cannot be measured here."""


def in_child(prepare: Callable[..., Work], *arguments: Any) -> Sample:
    """Measure `prepare(*arguments)()` in a new process: importable function, picklable arguments. Failures become `Sample.problem`."""
    command = [sys.executable, "-c", f"from {__name__} import serve; serve()"]
    done = subprocess.run(command, input=pickle.dumps((prepare, arguments)), capture_output=True, check=False)
    if done.returncode == 0:
        sample: Sample = pickle.loads(done.stdout)
        return sample
    last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no reason given"]
    return Sample(problem=f"ended by signal {-done.returncode}" if done.returncode < 0 else last[0])


def serve() -> None:
    """The child's side: the work on stdin, the sample on stdout, whatever libraries print on stderr."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    prepare, arguments = pickle.load(sys.stdin.buffer)
    _limit_memory()
    try:
        sample = measured(prepare(*arguments))
    except Unavailable as error:
        sample = Sample(problem=str(error))
    except OmnidropError as error:
        sample = Sample(problem=error.message)
    except MemoryError:
        sample = Sample(problem=f"took more than {_SHARE:.0%} of the free memory")
    except Exception as error:  # another tool's own failure is a result, too
        sample = Sample(problem=" ".join(f"{type(error).__name__}: {error}".split())[:200])
    pickle.dump(sample, out)
    out.close()


def measured(work: Work) -> Sample:
    """One run of `work` in this process."""
    process_memory.reset_peak()
    before = process_memory.now_mb()
    cpu, start = cpu_seconds(), time.perf_counter()
    tell = work()
    seconds, cpu = time.perf_counter() - start, cpu_seconds() - cpu
    peak = process_memory.peak_mb()
    facts = tell()
    return Sample(seconds, cpu, peak + facts.pop("other_peak_mb", 0.0), before, facts)


def cpu_seconds() -> float:
    """Processor seconds of this process, all its threads and the children it has waited for."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system  # a finer clock than times.user


def _limit_memory() -> None:
    if sys.platform != "linux":
        return
    import resource

    with suppress(OSError, ValueError), open("/proc/meminfo") as handle:
        free = next(int(line.split()[1]) * 1024 for line in handle if line.startswith("MemAvailable:"))
        resource.setrlimit(resource.RLIMIT_DATA, (int(_SHARE * free), resource.getrlimit(resource.RLIMIT_DATA)[1]))
