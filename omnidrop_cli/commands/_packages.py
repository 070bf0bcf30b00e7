"""Versions of the packages omnidrop depends on, against the ranges it was tested with."""

from __future__ import annotations

from typing import NamedTuple

PACKAGES = ("torch", "transformers", "bitsandbytes", "accelerate", "av", "soundfile", "yt-dlp", "numpy", "typer", "rich", "flash-attn")


class Package(NamedTuple):
    """An installed version (None: not installed), the tested range (None: unknown), and whether the one lies in the other."""

    version: str | None
    tested: str | None
    ok: bool | None


def package_states() -> dict[str, Package]:
    """The state of every package that matters here, by name."""
    ranges = _ranges()
    return {name: _state(name, ranges.get(name)) for name in PACKAGES}


def _state(name: str, tested: str | None) -> Package:
    from importlib import metadata

    try:
        version: str | None = metadata.version(name)
    except metadata.PackageNotFoundError:
        version = None
    return Package(version, tested, within(version, tested))


def within(version: str | None, tested: str | None) -> bool | None:
    """Whether a version lies in the tested range; None where there is no range."""
    if not tested:
        return None
    if version is None:
        return False
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(tested).contains(version, prereleases=True)


def _ranges() -> dict[str, str]:
    """Package to version range, as this installation declares; empty where omnidrop runs from a source tree."""
    from importlib import metadata

    from packaging.requirements import Requirement

    try:
        lines = metadata.requires("omnidrop-cli") or []
    except metadata.PackageNotFoundError:
        return {}
    wanted = [Requirement(line) for line in lines]
    return {one.name.lower(): str(one.specifier) for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})}
