"""A seeded subset of the fuzzing in tests/benchmarks/fuzz_media.py: damaged files are decoded or refused, nothing else."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.fuzz_media import Worker, apply, fuzz, minimal


def test_damaged_files_are_decoded_or_refused(tmp_path: Path) -> None:
    result = fuzz(count=150, seed=20, keep=tmp_path)
    assert result["failures"] == []
    assert int(result["inputs"]) == 150  # type: ignore[call-overload]
    assert int(result["ok"]) > 50  # type: ignore[call-overload]


def test_a_failing_change_is_cut_down(tmp_path: Path) -> None:
    class Picky(Worker):
        def check(self, path: Path) -> str:
            return "crash" if path.read_bytes()[7] == 1 else "ok"

    data = bytes(20)
    change = [(3, b"\x05\x06"), (7, b"\x01"), (9, b"\x02\x03")]
    assert apply(data, change)[7] == 1
    assert minimal(data, change, Picky(), tmp_path / "x") == [(7, b"\x01")]
