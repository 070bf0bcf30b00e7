"""AVUT (arXiv 2503.19951), the human-written part: 1,734 questions about 691 videos.

Reads tsinghua-ee/AVUTBenchmark: `AV_Human_data.json`, `data/{youtube id}.mp4`, some named `…_fullsize.mp4`. The paper of OmniDrop does not
say which part it used; this is the one that OmniZip and OmniPack used, and the full model's score agrees.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from omnidrop_cli.evaluate import dataset_files, prompts
from omnidrop_cli.evaluate.items import Benchmark, Hub, Question


def read(root: Path) -> list[Question]:
    """The questions of a directory. Raises `DatasetError`."""
    path = dataset_files.find(root, "AV_Human_data.json")
    questions = []
    for row in dataset_files.rows(path):
        video = PurePosixPath(str(dataset_files.value(row, "video_path", path)))
        places = [f"{folder}{name}.mp4" for folder in ("data/", "", "videos/") for name in (video.stem, f"{video.stem}_fullsize")]
        questions.append(
            Question(
                id=str(dataset_files.value(row, "QA_id", path)),
                media=dataset_files.clip(root, [str(video), *places]),
                text=str(dataset_files.value(row, "question", path)),
                # An empty option keeps its letter: one question's right answer is an empty option.
                options=tuple(f"{letter}. {row[f'option_{letter}']}" for letter in "ABCDEF" if row.get(f"option_{letter}") is not None),
                answer=str(dataset_files.value(row, "answer", path)).strip().upper(),
                labels={"task": str(row.get("task_type", "")), "video": str(row.get("video_type", ""))},
            )
        )
    return questions


BENCHMARK = Benchmark(
    name="avut",
    title="AVUT (human-written part)",
    read=read,
    prompt=prompts.letter_directly,
    system=prompts.SELECT_SYSTEM,
    max_new_tokens=100,
    source="prompt and system prompt of KD-TAO/OmniZip eval/eval_avut.py",
    hub=Hub("tsinghua-ee/AVUTBenchmark", ("AV_Human_data.json", "data/*.mp4")),
)
