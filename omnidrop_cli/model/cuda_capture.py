"""Records work on a CUDA device as a graph, so that the host launches all of it at once. In: a step; out: what runs it again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from threading import Lock

import torch

Capture = Callable[[Callable[[], None]], Callable[[], None]]
"""Runs a step once as a warm-up, records a second run that has no effect, and returns what replays the record."""


class CudaCapture:
    """`Capture` by `torch.cuda.CUDAGraph`.

    One side stream for all captures: libraries keep a workspace of tens of megabytes for every stream they have seen. Nothing is handed
    back to the driver before a capture, as `torch.cuda.graph` does, since the next prefill would ask for it all again.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream: torch.cuda.Stream | None = None
        self._lock = Lock()

    def __call__(self, step: Callable[[], None]) -> Callable[[], None]:
        """Raises `RuntimeError` for a step that waits for the host, or for one that finds too little memory."""
        with self._lock, torch.cuda.device(self._device):
            side = self._stream = self._stream or torch.cuda.Stream()
            graph = torch.cuda.CUDAGraph()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                step()  # libraries make their workspaces on first use of a stream, which a capture forbids
                torch.cuda.synchronize()
                graph.capture_begin(capture_error_mode="thread_local")  # another thread may be busy with the next clip
                try:
                    step()
                except BaseException:
                    with suppress(RuntimeError):  # it fails for the reason that is on its way already
                        graph.capture_end()
                    raise
                graph.capture_end()
            torch.cuda.current_stream().wait_stream(side)
        return graph.replay


@lru_cache
def capture_on(device: torch.device) -> Capture | None:
    """What records work on `device`, the same for every caller; None where there is nothing to record, as on a CPU."""
    return CudaCapture(device) if device.type == "cuda" else None
