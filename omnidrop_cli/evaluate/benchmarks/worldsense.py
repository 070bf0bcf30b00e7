"""WorldSense (arXiv 2502.04326): 1,662 videos, 3,172 questions of three or four options.

Reads both published layouts. honglyhly/WorldSense: `worldsense_qa.json`, {video: {facts, task0: {...}, task1: {...}}}, clips in `videos/`.
lmms-lab/WorldSense: parquet rows, whose `candidates` are sometimes lists printed without commas.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omnidrop_cli.config import MediaConfig
from omnidrop_cli.errors import DatasetError
from omnidrop_cli.evaluate import dataset_files, prompts
from omnidrop_cli.evaluate.items import Benchmark, Hub, Question


def read(root: Path) -> list[Question]:
    """The questions of a directory. Raises `DatasetError`."""
    path = dataset_files.find(root, "worldsense_qa.json", "data/*.parquet", "*.parquet", "worldsense.json", "worldsense.jsonl")
    return _by_video(path, root) if path.name == "worldsense_qa.json" else _by_row(path, root)


def _by_video(path: Path, root: Path) -> list[Question]:
    videos = dataset_files.load_json(path)
    if not isinstance(videos, dict):
        raise DatasetError(f"{path}: expected an object of videos", "is it WorldSense's own worldsense_qa.json?")
    return [
        _question(f"{name}/{key}", dataset_files.clip(root, _places(name)), task, facts, path)
        for name, facts in videos.items()
        for key, task in facts.items()
        if re.fullmatch(r"task\d+", key)
    ]


def _by_row(path: Path, root: Path) -> list[Question]:
    return [
        _question(
            str(dataset_files.value(row, "index", path)),
            dataset_files.clip(root, _places(str(dataset_files.value(row, "video_path", path)))),
            row,
            row,
            path,
        )
        for row in dataset_files.rows(path)
    ]


def _places(name: str) -> list[str]:
    """Where a video may lie, given its id or the path that a row tells."""
    stem = Path(name).stem
    return [f"videos/{stem}.mp4", f"{stem}.mp4", name.removeprefix("./")]


def _question(name: str, media: str, task: Mapping[str, Any], facts: Mapping[str, Any], path: Path) -> Question:
    return Question(
        id=name,
        media=media,
        text=str(dataset_files.value(task, "question", path)),
        options=dataset_files.options(dataset_files.value(task, "candidates", path)),
        answer=str(dataset_files.value(task, "answer", path)).strip(),
        labels={
            "domain": str(facts.get("domain", "")),
            "audio": _classes(facts.get("audio_class")),
            "duration": str(facts.get("duration", "")),
            "task": str(task.get("task_type", "")),
        },
    )


def _classes(raw: object) -> str:
    """The kinds of sound in a clip, from a list or from a printed one: "Event + Speech"."""
    names = re.findall(r"\w+", raw) if isinstance(raw, str) else [str(name) for name in raw] if isinstance(raw, list) else []
    return " + ".join(sorted(names))


BENCHMARK = Benchmark(
    name="worldsense",
    title="WorldSense",
    read=read,
    prompt=prompts.letter_directly,
    system=prompts.SELECT_SYSTEM,
    max_new_tokens=100,
    media_options=MediaConfig(max_frames=128),  # OmniZip's cap
    source="prompt, system prompt and caps of KD-TAO/OmniZip eval/eval_worldsense.py",
    hub=Hub("honglyhly/WorldSense", ("worldsense_qa.json", "*.zip", "videos/*")),
)
