"""The wheel and the source archive contain what an installation needs: the licence, the weights, the metadata."""

from __future__ import annotations

import email
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hatchling import build

ROOT = Path(__file__).parent.parent


@contextmanager
def working_directory(path: Path) -> Iterator[None]:
    """Hatchling builds the project of the current directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        yield


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    folder = tmp_path_factory.mktemp("wheel")
    with working_directory(ROOT):
        name = build.build_wheel(str(folder))
    with zipfile.ZipFile(folder / name) as archive:
        yield archive


def test_the_wheel_has_the_licence_and_the_metadata(wheel: zipfile.ZipFile) -> None:
    folder = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")).rpartition("/")[0]
    metadata = email.message_from_bytes(wheel.read(f"{folder}/METADATA"))
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("License-File") == ["LICENSE"]
    assert wheel.read(f"{folder}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    assert b"omnidrop = omnidrop_cli.__main__:main" in wheel.read(f"{folder}/entry_points.txt")


def test_the_wheel_has_the_built_in_model_and_not_its_training(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    assets = {f"omnidrop_cli/{path.relative_to(ROOT / 'omnidrop_cli')}" for path in (ROOT / "omnidrop_cli/nano/assets").rglob("*.*")}
    assert assets
    assert assets <= names
    assert {"omnidrop_cli/py.typed", "omnidrop_cli/nano/world/benchmark.py"} <= names, "`evaluate nano` draws its clips"
    assert not [name for name in names if name.startswith(("omnidrop_cli/nano/train", "tests", "docs"))]


def test_the_wheel_stays_small(wheel: zipfile.ZipFile) -> None:
    assert sum(entry.file_size for entry in wheel.infolist()) < 15e6, "12.1 MB of it are the built-in weights"


def test_the_source_archive_has_the_licence_the_docs_and_the_tests(tmp_path: Path) -> None:
    with working_directory(ROOT):
        name = build.build_sdist(str(tmp_path))
    with tarfile.open(tmp_path / name) as archive:
        names = {member.partition("/")[2] for member in archive.getnames()}
    assert {"LICENSE", "README.md", "CHANGELOG.md", "docs/index.md", "tests/test_packaging.py"} <= names
    assert {name for name in names if name.startswith("omnidrop_cli/nano/train/")}
    assert not [name for name in names if "__pycache__" in name]
