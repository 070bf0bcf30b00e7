"""Video-MME (arXiv 2405.21075): 900 videos, 2,700 questions, without subtitles.

Reads lmms-lab/Video-MME: one row a question, `data/{videoID}.mp4`; columns video_id, duration, domain, videoID, question_id, task_type,
question, options, answer.
"""

from __future__ import annotations

from pathlib import Path

from omnidrop_cli.config import MediaConfig
from omnidrop_cli.evaluate import dataset_files, prompts
from omnidrop_cli.evaluate.items import Benchmark, Hub, Question

_FILES = ("videomme/*.parquet", "*.parquet", "videomme.json", "videomme.jsonl", "Video-MME.json")


COLUMNS = dataset_files.Columns("question", "options", "answer", {"duration": "duration", "domain": "domain", "task": "task_type"})


def read(root: Path) -> list[Question]:
    """The questions of a directory. Raises `DatasetError`."""
    path = dataset_files.find(root, *_FILES)
    questions = []
    for row in dataset_files.rows(path):
        video, name = dataset_files.value(row, "videoID", path), str(dataset_files.value(row, "question_id", path))
        places = [f"{folder}{video}{suffix}" for folder in ("data/", "videos/", "") for suffix in (".mp4", ".MP4", ".mkv")]
        questions.append(COLUMNS.read(row, path, name=name, media=dataset_files.clip(root, places)))
    return questions


BENCHMARK = Benchmark(
    name="videomme",
    title="Video-MME (without subtitles)",
    read=read,
    prompt=prompts.videomme,
    max_new_tokens=16,  # lmms-eval tasks/videomme
    media_options=MediaConfig(max_frames=768),  # 2 fps up to 768 frames, as OmniZip, SEATS and OmniPack run it
    source="prompt of the benchmark's README; 2 fps up to 768 frames, sound on",
    hub=Hub("lmms-lab/Video-MME", ("videomme/*.parquet", "videos_chunked_*.zip")),
)
