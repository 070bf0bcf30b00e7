"""Every lasting file has one place; XDG variables win, and on Linux nothing has moved."""

from __future__ import annotations

import sys
from pathlib import Path

import platformdirs
import pytest

from omnidrop_cli import paths

ON_LINUX = {
    "clips": ".cache/omnidrop/media",
    "encoder outputs": ".cache/omnidrop/features",
    "transformers checks": ".cache/omnidrop/transformers.json",
    "benchmarks": ".cache/omnidrop/benchmarks",
    "quantised copies": ".local/share/omnidrop/models",
    "settings": ".config/omnidrop/config.toml",
    "chat history": ".local/state/omnidrop/chat_history",
    "answers": ".local/state/omnidrop/history.db",
}
VARIABLES = ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME")


@pytest.mark.skipif(sys.platform != "linux", reason="Linux' places")
def test_places_on_linux_are_where_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable in VARIABLES:
        monkeypatch.delenv(variable)
    assert {holds: str(place().relative_to(tmp_path)) for holds, place in paths.PLACES.items()} == ON_LINUX


@pytest.mark.parametrize("system", ["unix.Unix", "macos.MacOS", "windows.Windows"])
def test_variables_win_everywhere(system: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, name = system.split(".")
    monkeypatch.setattr(platformdirs, "PlatformDirs", getattr(__import__(f"platformdirs.{module}", fromlist=[name]), name))
    for variable in VARIABLES:
        monkeypatch.setenv(variable, str(tmp_path / variable))
    parents = {holds: place().relative_to(tmp_path).parts[:2] for holds, place in paths.PLACES.items()}
    assert set(parents.values()) == {(variable, "omnidrop") for variable in VARIABLES}
    assert parents["settings"][0] == "XDG_CONFIG_HOME"


def test_without_variables_a_mac_uses_its_own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from platformdirs.macos import MacOS

    monkeypatch.setattr(platformdirs, "PlatformDirs", MacOS)
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable in VARIABLES:
        monkeypatch.delenv(variable)
    assert paths.downloads() == tmp_path / "Library" / "Caches" / "omnidrop" / "media"
