"""Where omnidrop keeps what lasts: one function per kind of file, each under the platform's folder for that kind.

An XDG variable wins on every platform (`XDG_CACHE_HOME`, `XDG_CONFIG_HOME`, `XDG_DATA_HOME`, `XDG_STATE_HOME`); otherwise platformdirs
decides. On Linux that is ~/.cache, ~/.config, ~/.local/share and ~/.local/state. Nothing here creates a folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

APP = "omnidrop"


def downloads() -> Path:
    """The folder of clips fetched from addresses."""
    return _cache() / "media"


def features() -> Path:
    """The folder of encoder outputs."""
    return _cache() / "features"


def self_checks() -> Path:
    """The verdicts on transformers versions that were not tested."""
    return _cache() / "transformers.json"


def benchmarks() -> Path:
    """The folder of benchmarks fetched from the hub."""
    return _cache() / "benchmarks"


def models() -> Path:
    """The folder of quantised copies."""
    return _base("XDG_DATA_HOME", "user_data_dir") / "models"


def config_file() -> Path:
    """The user's settings."""
    return _base("XDG_CONFIG_HOME", "user_config_dir") / "config.toml"


def chat_history() -> Path:
    """The lines typed into `omnidrop chat`."""
    return _base("XDG_STATE_HOME", "user_state_dir") / "chat_history"


def history() -> Path:
    """The questions and answers that were kept."""
    return _base("XDG_STATE_HOME", "user_state_dir") / "history.db"


PLACES: Mapping[str, Callable[[], Path]] = {
    "clips": downloads,
    "encoder outputs": features,
    "transformers checks": self_checks,
    "benchmarks": benchmarks,
    "quantised copies": models,
    "settings": config_file,
    "chat history": chat_history,
    "answers": history,
}
"""Every place, by what lies there."""


def _cache() -> Path:
    return _base("XDG_CACHE_HOME", "user_cache_dir")


def _base(variable: str, kind: str) -> Path:
    if base := os.environ.get(variable):
        return Path(base) / APP
    import platformdirs

    dirs = platformdirs.PlatformDirs(APP, appauthor=False, roaming=kind == "user_config_dir")  # Windows: settings follow the user
    return Path(getattr(dirs, kind))
