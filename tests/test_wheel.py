"""What `pip install` puts on a user's disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def files() -> dict[str, int]:
    """Path in the wheel to size in bytes."""
    found = WheelBuilder(str(ROOT)).recurse_included_files()
    return {entry.distribution_path: Path(entry.path).stat().st_size for entry in found if "__pycache__" not in entry.path}


def test_the_weights_and_the_benchmark_are_in_it(files: dict[str, int]) -> None:
    assets = "omnidrop_cli/nano/assets/"
    assert {f"{assets}model.safetensors", f"{assets}benchmark.jsonl", f"{assets}demo/demo.mp4"} <= files.keys()
    assert "omnidrop_cli/nano/world/benchmark.py" in files, "`evaluate nano` draws its clips"
    assert "omnidrop_cli/py.typed" in files


def test_training_and_developers_code_are_not(files: dict[str, int]) -> None:
    assert all(name.startswith("omnidrop_cli/") for name in files)
    assert not [name for name in files if name.startswith("omnidrop_cli/nano/train")]


def test_the_wheel_stays_small(files: dict[str, int]) -> None:
    assert sum(files.values()) < 14.5e6, "12.1 MB of it are nano's weights"
