"""Daily-Omni (arXiv 2505.17862): 684 videos of 30 or 60 seconds, 1,197 questions.

Reads liarliar/Daily-Omni (`qa.json`; `Videos/{id}/{id}_video.mp4`) and its parquet copy, whose `Choice` is a list printed without commas.
The first official script put the question before the video, the later one the video first (docs/user/evaluate.md).
"""

from __future__ import annotations

from pathlib import Path

from omnidrop_cli.evaluate import dataset_files, prompts
from omnidrop_cli.evaluate.items import Benchmark, Hub, Question

COLUMNS = dataset_files.Columns("Question", "Choice", "Answer", {"type": "Type", "duration": "video_duration", "video": "video_category"})


def read(root: Path) -> list[Question]:
    """The questions of a directory. Raises `DatasetError`."""
    path = dataset_files.find(root, "qa.json", "data/*.parquet", "*.parquet", "qa.jsonl")
    questions = []
    for number, row in enumerate(dataset_files.rows(path)):
        video = str(dataset_files.value(row, "video_id", path))
        places = [*(f"{folder}{video}/{video}_video.mp4" for folder in ("Videos/", "videos/", "")), f"{video}.mp4"]
        name = str(row.get("question_id", number))
        questions.append(COLUMNS.read(row, path, name=name, media=dataset_files.clip(root, places)))
    return questions


BENCHMARK = Benchmark(
    name="dailyomni",
    title="Daily-Omni",
    read=read,
    prompt=prompts.dailyomni,
    max_new_tokens=10,
    source="prompt and limits of Lliar-liar/Daily-Omni test_model/Qwen2.5-Omni/testmodel.py",
    hub=Hub("liarliar/Daily-Omni", ("qa.json", "Videos.tar")),
)
