"""Small copies of the benchmarks, in their official layouts, about synthetic clips.

Each holds three clips: one with pictures and speech, one without sound, and one file that is no video. A fourth is missing.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tests.clips import Clips

OPTIONS = ["A. a square", "B. a circle", "C. the river", "D. nothing"]


def _clip(clips: Clips, name: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(clips[name], target)


def _no_video(target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("no video in here")


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def videomme_rows() -> list[dict[str, Any]]:
    """Rows with the columns of lmms-lab/Video-MME: two questions about each of three clips, one about a missing one."""
    names = ["spoken_01x", "spoken_01x", "-silent_02", "-silent_02", "broken_03x", "broken_03x", "missing_04"]
    return [
        {
            "video_id": f"{number // 2 + 1:03d}",
            "duration": ["short", "medium", "long"][number % 3],
            "domain": "Knowledge" if number < 4 else "Sports Competition",
            "sub_category": "Astronomy",
            "url": f"https://example.org/watch?v={name}",
            "videoID": name,
            "question_id": f"{number // 2 + 1:03d}-{number % 2 + 1}",
            "task_type": ["Counting Problem", "OCR Problems"][number % 2],
            "question": f"What is shown in scene {number}?",
            "options": OPTIONS,
            "answer": "ABCD"[number % 4],
        }
        for number, name in enumerate(names)
    ]


def videomme(root: Path, clips: Clips, parquet: bool = False) -> Path:
    if parquet:
        import pyarrow
        from pyarrow import parquet as files

        (root / "videomme").mkdir(parents=True)
        rows = videomme_rows()
        for shard, part in enumerate((rows[:3], rows[3:])):
            files.write_table(pyarrow.Table.from_pylist(part), root / "videomme" / f"test-0000{shard}-of-00002.parquet")
    else:
        _write(root / "videomme.json", videomme_rows())
    _clip(clips, "tone_video", root / "data" / "spoken_01x.mp4")
    _clip(clips, "tiny", root / "data" / "-silent_02.mp4")
    _no_video(root / "data" / "broken_03x.mp4")
    return root


def worldsense(root: Path, clips: Clips) -> Path:
    """worldsense_qa.json as honglyhly/WorldSense has it: tasks inside videos, three options in one question."""
    tasks = {
        "task0": {
            "task_domain": "Recognition",
            "task_type": "Audio Recognition",
            "question": "What is heard?",
            "answer": "B",
            "candidates": ["A. a bell", "B. a beep", "C. rain"],
        },
        "task1": {
            "task_domain": "Reasoning",
            "task_type": "Causal Reasoning",
            "question": "Why?",
            "answer": "D",
            "candidates": OPTIONS,
        },
    }
    facts = {
        "video_caption": "",
        "domain": "Music",
        "sub_category": "Piano",
        "audio_class": ["Music", "Event"],
        "duration": "<1min",
        "video_duration": "6s",
    }
    _write(
        root / "worldsense_qa.json",
        {"vidAAAA1": {"video_id": "vidAAAA1", **facts, **tasks}, "vidBBBB2": {"video_id": "vidBBBB2", **facts, "task0": tasks["task0"]}},
    )
    _clip(clips, "tone_video", root / "videos" / "vidAAAA1.mp4")
    return root


def avut(root: Path, clips: Clips) -> Path:
    base = {
        "url": "https://example.org",
        "video_type": "vlog",
        "answer": "A",
        "option_A": "a beep",
        "option_B": "a word",
        "option_C": "",
        "option_D": "rain",
    }
    _write(
        root / "AV_Human_data.json",
        [
            {
                "video_id": 1,
                "task_type": "Audio Event Location",
                "question": "When?",
                "video_path": "data/one.mp4",
                "QA_id": 455,
                **base,
                "answer": "c ",
            },
            {"video_id": 2, "task_type": "OCR Matching", "question": "What?", "video_path": "data/two.mp4", "QA_id": 456, **base},
            {
                "video_id": 2,
                "task_type": "OCR Matching",
                "question": "Who?",
                "video_path": "data/two.mp4",
                "QA_id": 457,
                **base,
                "option_E": "all",
                "option_F": None,
            },
        ],
    )
    _clip(clips, "tone_video", root / "data" / "one.mp4")
    _clip(clips, "tiny", root / "data" / "two_fullsize.mp4")
    return root


def dailyomni(root: Path, clips: Clips, listing: bool = False) -> Path:
    """qa.json of liarliar/Daily-Omni; with `listing` the choices as the parquet copy prints them."""
    choices: Any = "['A. a square' \"B. the cat's bell\"\n 'C. the river' 'D. nothing']" if listing else OPTIONS
    row = {
        "Question": "What comes after the beep?",
        "Choice": choices,
        "Answer": "C",
        "video_id": "xyz_1",
        "Type": "Event Sequence",
        "content_parent_category": "Life",
        "content_fine_category": "Home",
        "video_category": "Howto & Style",
        "video_duration": "30s",
    }
    _write(root / "qa.json", [row, {**row, "Type": "Inference", "Answer": "A"}])
    _clip(clips, "tone_video", root / "Videos" / "xyz_1" / "xyz_1_video.mp4")
    return root
