"""`omnidrop doctor`: everything an issue report needs, gathered without ever failing.

Knows: which facts of a machine matter here. Does not know how to repair any of them. Every probe stands alone: one that fails is
reported as the finding it is.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnidrop_cli import paths
from omnidrop_cli.commands._console import ConsoleFlags, JsonFlag, Screen, dump, emit, stdout_console

if TYPE_CHECKING:
    from rich.console import RenderableType

EXAMPLES = ("omnidrop doctor", "omnidrop doctor --json")

PACKAGES = ("torch", "transformers", "bitsandbytes", "accelerate", "av", "soundfile", "yt-dlp", "numpy", "typer", "rich", "flash-attn")

CODECS = ("h264", "hevc", "vp9", "av1", "gif", "aac", "mp3", "opus", "vorbis", "flac")


def doctor(console: ConsoleFlags, as_json: JsonFlag = False) -> None:
    """Show versions, devices, codecs, caches, models and settings: what to paste into an issue. Never fails."""
    with Screen(console) as screen:
        findings: dict[str, Any] = {}
        for name, probe in PROBES.items():
            screen.stage(name)
            findings[name] = _attempt(probe)
    if as_json:
        emit(dump({"schema": 1, "kind": "doctor", **findings}), None)
        return
    out = stdout_console(console)
    for part in _render(findings):
        out.print(part)


def _attempt(probe: Callable[[], Any]) -> Any:
    try:
        return probe()
    except Exception as error:  # a broken installation is exactly what this command is run on
        return {"problem": f"{type(error).__name__}: {error}"}


# ---------------------------------------------------------------- probes


def _program() -> dict[str, str]:
    from omnidrop_cli import __version__

    return {"omnidrop": __version__, "python": platform.python_version(), "platform": platform.platform(), "executable": sys.executable}


def _packages() -> dict[str, dict[str, Any]]:
    from importlib import metadata

    wanted = _requirements()
    found: dict[str, dict[str, Any]] = {}
    for name in PACKAGES:
        try:
            version: str | None = metadata.version(name)
        except metadata.PackageNotFoundError:
            version = None
        required = wanted.get(name)
        found[name] = {"version": version, "tested": required, "ok": _within(version, required)}
    return found


def _requirements() -> dict[str, str]:
    """Package -> version range, as this installation declares; empty where it runs from a source tree."""
    from importlib import metadata

    try:
        lines = metadata.requires("omnidrop-cli") or []
    except metadata.PackageNotFoundError:
        return {}
    matches = (re.match(r"([\w.-]+)(?:\[[^]]*\])?\s*([^;]*)", line) for line in lines if "extra ==" not in line)
    return {match[1].lower(): match[2].strip() for match in matches if match}


def _within(version: str | None, required: str | None) -> bool | None:
    """Whether a version lies in the tested range; None where there is no range to hold it against."""
    if not required:
        return None
    if version is None:
        return False
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(required).contains(version, prereleases=True)


def _device() -> dict[str, Any]:
    import torch

    found: dict[str, Any] = {"threads": torch.get_num_threads(), "memory_mb": _memory_mb(), "cuda": torch.version.cuda, "gpus": []}
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(index)
            major, minor = torch.cuda.get_device_capability(index)
            about = {"name": torch.cuda.get_device_name(index), "total_mb": total // 10**6, "free_mb": free // 10**6}
            found["gpus"].append({**about, "capability": f"{major}.{minor}", "bfloat16": torch.cuda.is_bf16_supported()})
    return found


def _memory_mb() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 10**6
    except (AttributeError, ValueError, OSError):  # not every platform tells
        return None


def _codecs() -> dict[str, Any]:
    import av

    missing = [name for name in CODECS if name not in av.codecs_available]
    return {"ffmpeg": av.ffmpeg_version_info, "readable": [name for name in CODECS if name not in missing], "missing": missing}


def _caches() -> list[dict[str, Any]]:
    from huggingface_hub.constants import HF_HUB_CACHE

    folders = {"models": Path(HF_HUB_CACHE), **{holds: place() for holds, place in paths.PLACES.items()}}
    return [{"holds": holds, "path": str(folder), **_size(folder)} for holds, folder in folders.items()]


def _size(folder: Path) -> dict[str, Any]:
    """Bytes of the files below, links not followed, and whether more could be written there."""
    size = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                size += os.lstat(os.path.join(place, name)).st_size
            except OSError:  # it went away meanwhile
                continue
    nearest = next(parent for parent in (folder, *folder.parents) if parent.exists())
    return {"size_mb": round(size / 1e6, 1), "writable": os.access(nearest, os.W_OK)}


def _models() -> list[dict[str, Any]]:
    from omnidrop_cli.model.local import entries

    return [
        {"name": entry.name, "kind": entry.kind, "size_mb": entry.size_bytes // 10**6, "quant": entry.quant, "problem": entry.problem}
        for entry in entries()
    ]


def _settings() -> dict[str, dict[str, Any]]:
    from dataclasses import asdict

    from omnidrop_cli.settings import effective

    return {name: asdict(setting) for name, setting in effective().items()}


PROBES: Mapping[str, Callable[[], Any]] = {
    "program": _program,
    "packages": _packages,
    "device": _device,
    "codecs": _codecs,
    "caches": _caches,
    "models": _models,
    "settings": _settings,
}

# ---------------------------------------------------------------- rendering


def _render(findings: Mapping[str, Any]) -> Iterator[RenderableType]:
    from rich.text import Text

    from omnidrop_cli.report.layout import facts
    from omnidrop_cli.report.text import one_line

    for name, finding in findings.items():
        yield Text(name, style="bold")
        if isinstance(finding, Mapping) and "problem" in finding:
            yield Text(f"  {one_line(finding['problem'])}", style="yellow")
            continue
        yield facts((f"  {label}", Text(one_line(line), style="yellow" if bad else "")) for label, line, bad in _LINES[name](finding))


Line = tuple[str, str, bool]
"""What it is, what was found, whether that wants attention."""


def _program_lines(found: Mapping[str, str]) -> Iterator[Line]:
    return ((name, value, False) for name, value in found.items())


def _package_lines(found: Mapping[str, Mapping[str, Any]]) -> Iterator[Line]:
    for name, about in found.items():
        tested = f" (tested: {about['tested']})" if about["tested"] else ""
        yield name, f"{about['version'] or 'not installed'}{tested}", about["ok"] is False


def _device_lines(found: Mapping[str, Any]) -> Iterator[Line]:
    memory = f", {found['memory_mb'] / 1e3:.1f} GB of memory" if found["memory_mb"] else ""
    yield "cpu", f"{found['threads']} threads{memory}", False
    yield "torch's CUDA", found["cuda"] or "none: this torch runs on the CPU", False
    for gpu in found["gpus"]:
        yield "gpu", f"{gpu['name']}, {gpu['free_mb'] / 1e3:.1f} of {gpu['total_mb'] / 1e3:.1f} GB free, sm {gpu['capability']}", False


def _codec_lines(found: Mapping[str, Any]) -> Iterator[Line]:
    yield "ffmpeg", found["ffmpeg"], False
    yield "readable", " ".join(found["readable"]), False
    if found["missing"]:
        yield "missing", " ".join(found["missing"]), True


def _cache_lines(found: list[Mapping[str, Any]]) -> Iterator[Line]:
    for cache in found:
        yield cache["holds"], f"{cache['path']}, {cache['size_mb']:g} MB{'' if cache['writable'] else ', read-only'}", not cache["writable"]


def _model_lines(found: list[Mapping[str, Any]]) -> Iterator[Line]:
    for model in found:
        problem = f": {model['problem']}" if model["problem"] else ""
        yield model["name"], f"{model['size_mb']} MB, {model['quant']}{problem}", bool(problem)
    if not found:
        yield "none", "no model is on this disk", True


def _setting_lines(found: Mapping[str, Mapping[str, Any]]) -> Iterator[Line]:
    for name, setting in found.items():
        if setting["origin"] != "default":
            yield name, f"{setting['value']} (from {setting['origin']})", False
    yield "all others", "as built in", False


_LINES: Mapping[str, Callable[[Any], Iterator[Line]]] = {
    "program": _program_lines,
    "packages": _package_lines,
    "device": _device_lines,
    "codecs": _codec_lines,
    "caches": _cache_lines,
    "models": _model_lines,
    "settings": _setting_lines,
}
