"""The JSON files of a checkpoint, read as untrusted input: `read_config` returns the thinker's configuration, `sizes_of` its sizes.

Nothing in them makes this program run code of the checkpoint: what asks for that is refused.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omnidrop_cli.errors import ModelError
from omnidrop_cli.model.sizes import ThinkerSizes

MAX_JSON_BYTES = 64 * 1024**2
"""Largest JSON file read. The index of the 7B checkpoint has 0.3 MB."""

CODE_KEYS = ("auto_map", "custom_pipelines", "custom_generate")
"""Keys under which transformers looks for classes in files of the checkpoint."""

_DAMAGED = "the checkpoint is damaged or incomplete; download it again"


def read_json(path: Path) -> dict[str, Any] | None:
    """Read the object in a JSON file.

    Returns:
        The object, or None where there is no such file.

    Raises:
        ModelError: The file cannot be read, is too large or too deeply nested, or holds anything else.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ModelError(f"{path} is larger than {MAX_JSON_BYTES // 1024**2} MiB", "it is no file of a Qwen2.5-Omni checkpoint")
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except RecursionError as error:
        raise ModelError(f"{path} is nested too deeply", "it is no file of a Qwen2.5-Omni checkpoint") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}", _DAMAGED) from error
    if not isinstance(value, dict):
        raise ModelError(f"{path} holds no JSON object", _DAMAGED)
    return value


def read_config(directory: Path) -> dict[str, Any]:
    """Read config.json of a checkpoint. Raises `ModelError` where it is absent, unreadable or asks for code of the checkpoint."""
    path = directory / "config.json"
    config = read_json(path)
    if config is None:
        raise ModelError(f"{directory} holds no config.json", "give the directory of a Qwen2.5-Omni checkpoint")
    refuse_code(config, path)
    return config


def refuse_code(value: Any, path: Path) -> None:
    """Raise `ModelError` where an object, at any depth, names code in the checkpoint's own files."""
    for key in _keys(value):
        if key in CODE_KEYS:
            raise ModelError(
                f"{path} asks to run code of the checkpoint ({key}), which omnidrop never does",
                "use a checkpoint of transformers' own classes; where these files are one, remove the entry",
            )


def thinker_section(config: Mapping[str, Any], source: str) -> Mapping[str, Any]:
    """Return the thinker's part of a checkpoint's configuration. Raises `ModelError` for another kind of model."""
    thinker = config.get("thinker_config", config)
    kind = thinker.get("model_type") if isinstance(thinker, Mapping) else None
    if kind != "qwen2_5_omni_thinker":
        found = config.get("model_type")
        if found == "qwen2_5_omni":
            raise ModelError(f"the configuration of {source} has no thinker_config of Qwen2.5-Omni", _DAMAGED)
        name = found[:60] if isinstance(found, str) else "unknown"
        raise ModelError(f"{source} holds a model of type {name}, not Qwen2.5-Omni", "omnidrop runs Qwen2.5-Omni checkpoints only")
    section: Mapping[str, Any] = thinker
    return section


def sizes_of(thinker: Mapping[str, Any], source: str) -> ThinkerSizes:
    """Return the sizes in a thinker's configuration.

    Raises:
        ModelError: A size is missing or makes no sense, or the constants of positions do not.
    """
    try:
        sizes = ThinkerSizes.from_dict(thinker)
        _check_positions(thinker, sizes)
    except ValueError as error:
        raise ModelError(f"the configuration of {source} makes no sense: {error}", _DAMAGED) from error
    return sizes


def _check_positions(thinker: Mapping[str, Any], sizes: ThinkerSizes) -> None:
    """Check what transformers divides by or splits by without a look. Raises `ValueError`."""
    for key, default in (("position_id_per_seconds", 25), ("seconds_per_chunk", 2)):
        value = thinker.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 10_000:
            raise ValueError(f"{key} is {reprlib.repr(value)}, not a positive number")
    half = sizes.decoder.head_dim // 2
    for rotary in [found for name in ("rope_parameters", "rope_scaling") if (found := thinker["text_config"].get(name))] or [{}]:
        sections = rotary.get("mrope_section", [16, 24, 24]) if isinstance(rotary, Mapping) else rotary
        if not (isinstance(sections, list) and all(type(n) is int and n > 0 for n in sections) and sum(sections) == half):
            raise ValueError(f"mrope_section is {reprlib.repr(sections)}, not a list of whole numbers with sum {half}")
    if sizes.vision.window < sizes.vision.merge * sizes.vision.patch:
        raise ValueError(f"vision_config.window_size is {sizes.vision.window}, less than a merged patch")
    longest = thinker["audio_config"].get("max_source_positions", 1500)
    if not isinstance(longest, int) or longest < sizes.audio.window // 2:
        raise ValueError(f"audio_config.max_source_positions is {reprlib.repr(longest)}, less than a window")


def _keys(value: Any) -> Iterator[str]:
    """Yield the keys of all objects inside `value`. No recursion: the depth is the file's choice."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, Mapping):
            yield from item
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
