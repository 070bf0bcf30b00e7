"""The calls of a capture on CUDA, in order, with a stand-in for `torch.cuda`."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch

from omnidrop_cli.model.cuda_capture import CudaCapture


class FakeCuda:
    """Stands for `torch.cuda`, which is not there: notes the order of calls. What a driver does with them, only a GPU can show."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        for name in ("device", "stream"):
            monkeypatch.setattr(torch.cuda, name, lambda *_: nullcontext())
        monkeypatch.setattr(torch.cuda, "Stream", lambda: self.note("new stream") or self)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda: self)
        monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
        monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: self)

    def note(self, call: str) -> None:
        self.calls.append(call)

    def wait_stream(self, _: object) -> None:
        self.note("wait")

    def capture_begin(self, capture_error_mode: str) -> None:
        self.note(f"begin {capture_error_mode}")

    def capture_end(self) -> None:
        self.note("end")
        if "broken" in self.calls:
            raise RuntimeError("operation failed due to a previous error during capture")

    def replay(self) -> None:
        self.note("replay")


def test_calls_of_a_capture_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda(monkeypatch)
    capture = CudaCapture(torch.device("cuda", 1))
    replay = capture(lambda: cuda.note("step"))
    replay()
    expected = ["wait", "step", "begin thread_local", "step", "end", "wait", "replay"]
    assert cuda.calls == ["new stream", *expected]
    cuda.calls.clear()
    capture(lambda: cuda.note("step"))()
    assert cuda.calls == expected, "one stream serves all captures"


def test_a_capture_that_breaks_off_is_ended_and_tells_its_own_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda(monkeypatch)

    def step() -> None:
        if "begin thread_local" in cuda.calls:
            cuda.note("broken")
            raise RuntimeError("operation not permitted when stream is capturing")

    with pytest.raises(RuntimeError, match="not permitted"):
        CudaCapture(torch.device("cuda"))(step)
    assert cuda.calls[-1] == "end"
