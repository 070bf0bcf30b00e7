"""WorldSense (arXiv 2502.04326): 1,662 videos, 3,172 questions of three or four options.

Reads both published layouts. honglyhly/WorldSense: `worldsense_qa.json`, {video: {facts, task0: {...}, task1: {...}}}, clips in `videos/`.
lmms-lab/WorldSense: parquet rows, whose `candidates` are sometimes lists printed without commas.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omnidrop_cli.config import MediaConfig
from omnidrop_cli.errors import DatasetError
from omnidrop_cli.evaluate import dataset_files, prompts
from omnidrop_cli.evaluate.items import Benchmark, Hub, Question

COLUMNS = dataset_files.Columns(
    "question", "candidates", "answer", {"domain": "domain", "audio": "audio_class", "duration": "duration", "task": "task_type"}
)


def read(root: Path) -> list[Question]:
    """The questions of a directory. Raises `DatasetError`."""
    path = dataset_files.find(root, "worldsense_qa.json", "data/*.parquet", "*.parquet", "worldsense.json", "worldsense.jsonl")
    rows = _by_video(path) if path.name == "worldsense_qa.json" else _by_row(path)
    return [
        COLUMNS.read(
            {**row, "audio_class": _classes(row.get("audio_class"))}, path, name=name, media=dataset_files.clip(root, _places(video))
        )
        for name, video, row in rows
    ]


def _by_video(path: Path) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Name, video and row of every question: the facts of its video, and its own."""
    videos = dataset_files.load_json(path)
    if not isinstance(videos, dict):
        raise DatasetError(f"{path}: expected an object of videos", "is it WorldSense's own worldsense_qa.json?")
    for video, facts in videos.items():
        for key, task in facts.items():
            if re.fullmatch(r"task\d+", key):
                yield f"{video}/{key}", video, {**facts, **task}


def _by_row(path: Path) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for row in dataset_files.rows(path):
        yield str(dataset_files.value(row, "index", path)), str(dataset_files.value(row, "video_path", path)), row


def _places(video: str) -> list[str]:
    """Where a video may lie, given its id or the path in its row."""
    stem = Path(video).stem
    return [f"videos/{stem}.mp4", f"{stem}.mp4", video.removeprefix("./")]


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
