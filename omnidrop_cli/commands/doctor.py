"""`omnidrop doctor`: everything an issue report needs. Every probe stands alone: one that fails is reported as a finding."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnidrop_cli import paths
from omnidrop_cli.commands._console import Console, dump, emit
from omnidrop_cli.commands._options import ConsoleFlags, JsonFlags
from omnidrop_cli.commands._packages import package_states

if TYPE_CHECKING:
    from rich.console import RenderableType

EXAMPLES = ("omnidrop doctor", "omnidrop doctor --json")

CODECS = ("h264", "hevc", "vp9", "av1", "gif", "aac", "mp3", "opus", "vorbis", "flac")


def doctor(result: JsonFlags, console: ConsoleFlags) -> None:
    """Show versions, devices, codecs, folders, models and settings: what to paste into an issue. Never fails."""
    with Console(console) as screen:
        findings: dict[str, Any] = {}
        for name, probe in PROBES.items():
            screen.stage(name)
            findings[name] = _attempt(probe)
    if result.as_json:
        emit(dump({"schema": 1, "kind": "doctor", **findings}))
    else:
        screen.print(*_render(findings))


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
    return {name: state._asdict() for name, state in package_states().items()}


def _transformers() -> dict[str, Any]:
    """Whether the installed version works; one that was never checked is checked now."""
    from dataclasses import asdict

    from omnidrop_cli.model.self_check import known_verdict, run_check

    return asdict(known_verdict() or run_check())


def _device() -> dict[str, Any]:
    import torch

    from omnidrop_cli import kernels

    found: dict[str, Any] = {"threads": torch.get_num_threads(), "memory_mb": _memory_mb(), "cuda": torch.version.cuda, "gpus": []}
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(index)
            major, minor = torch.cuda.get_device_capability(index)
            about = {"name": torch.cuda.get_device_name(index), "total_mb": total // 10**6, "free_mb": free // 10**6}
            about |= {"capability": f"{major}.{minor}", "bfloat16": torch.cuda.is_bf16_supported()}
            found["gpus"].append({**about, "kernels_problem": kernels.problem(torch.device("cuda", index))})
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
    """Bytes of the file or of those below, links not followed, and whether it exists and could be written to."""
    size = folder.stat().st_size if folder.is_file() else 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                size += os.lstat(os.path.join(place, name)).st_size
            except OSError:  # it went away meanwhile
                continue
    nearest = next(parent for parent in (folder, *folder.parents) if parent.exists())
    return {"size_mb": round(size / 1e6, 1), "exists": folder.exists(), "writable": os.access(nearest, os.W_OK)}


def _models() -> list[dict[str, Any]]:
    from omnidrop_cli.model.local import entries

    return [
        {"name": entry.name, "kind": entry.kind, "size_mb": entry.size_bytes // 10**6, "quant": entry.quant, "problem": entry.problem}
        for entry in entries()
    ]


def _settings() -> dict[str, dict[str, Any]]:
    from omnidrop_cli.settings import effective

    return {name: {"value": setting.value, "origin": setting.origin} for name, setting in effective().items()}


PROBES: Mapping[str, Callable[[], Any]] = {
    "program": _program,
    "packages": _packages,
    "transformers": _transformers,
    "device": _device,
    "codecs": _codecs,
    "caches": _caches,
    "models": _models,
    "settings": _settings,
}

# ---------------------------------------------------------------- rendering


def _render(findings: Mapping[str, Any]) -> Iterator[RenderableType]:
    from rich.text import Text

    from omnidrop_cli.report.columns import facts
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
        allowed = f" (allowed: {about['tested']})" if about["tested"] else ""
        yield name, f"{about['version'] or 'not installed'}{allowed}", about["ok"] is False


def _transformers_lines(found: Mapping[str, Any]) -> Iterator[Line]:
    works = "works (tested)" if found["tested"] else "passes the self-check (not among the tested versions)"
    yield found["version"], found["failed"] or works, found["failed"] is not None


def _device_lines(found: Mapping[str, Any]) -> Iterator[Line]:
    memory = f", {found['memory_mb'] / 1e3:.1f} GB of memory" if found["memory_mb"] else ""
    yield "cpu", f"{found['threads']} threads{memory}", False
    yield "torch's CUDA", found["cuda"] or "none: this torch runs on the CPU", False
    for gpu in found["gpus"]:
        yield "gpu", f"{gpu['name']}, {gpu['free_mb'] / 1e3:.1f} of {gpu['total_mb'] / 1e3:.1f} GB free, sm {gpu['capability']}", False
        slow = f"do not run, prefill and answers are slower: {gpu['kernels_problem']}"
        yield "kernels", slow if gpu["kernels_problem"] else "run (Triton)", gpu["kernels_problem"] is not None


def _codec_lines(found: Mapping[str, Any]) -> Iterator[Line]:
    yield "ffmpeg", found["ffmpeg"], False
    yield "readable", " ".join(found["readable"]), False
    if found["missing"]:
        yield "missing", " ".join(found["missing"]), True


def _cache_lines(found: list[Mapping[str, Any]]) -> Iterator[Line]:
    for place in found:
        size = f"{place['size_mb']:g} MB" if place["exists"] else "not there"
        yield place["holds"], f"{place['path']}, {size}{'' if place['writable'] else ', read-only'}", not place["writable"]


def _model_lines(found: list[Mapping[str, Any]]) -> Iterator[Line]:
    for model in found:
        problem = f": {model['problem']}" if model["problem"] else ""
        quant = "not quantized" if model["quant"] == "none" else model["quant"]
        yield model["name"], f"{model['size_mb']} MB, {quant}{problem}", bool(problem)
    if not found:
        yield "none", "no model is on this disk", True


def _setting_lines(found: Mapping[str, Mapping[str, Any]]) -> Iterator[Line]:
    changed = {name: setting for name, setting in found.items() if setting["origin"] != "default"}
    for name, setting in changed.items():
        yield name, f"{setting['value']} (from {setting['origin']})", False
    yield "all others" if changed else "all", "as built in", False


_LINES: Mapping[str, Callable[[Any], Iterator[Line]]] = {
    "program": _program_lines,
    "packages": _package_lines,
    "transformers": _transformers_lines,
    "device": _device_lines,
    "codecs": _codec_lines,
    "caches": _cache_lines,
    "models": _model_lines,
    "settings": _setting_lines,
}
