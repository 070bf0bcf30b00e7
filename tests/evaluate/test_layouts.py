"""The published layouts, read from copies of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from omnidrop_cli.errors import DatasetError
from omnidrop_cli.evaluate import dataset_files
from omnidrop_cli.evaluate.benchmarks import avut, dailyomni, videomme, worldsense
from tests.clips import Clips
from tests.evaluate import datasets


@pytest.mark.parametrize("parquet", [False, True])
def test_videomme(tmp_path: Path, clips: Clips, parquet: bool) -> None:
    if parquet:
        pytest.importorskip("pyarrow")
    questions = videomme.read(datasets.videomme(tmp_path, clips, parquet))
    assert [question.id for question in questions] == ["001-1", "001-2", "002-1", "002-2", "003-1", "003-2", "004-1"]
    first = questions[0]
    assert first.media == str(tmp_path / "data" / "spoken_01x.mp4")
    assert first.options == tuple(datasets.OPTIONS)
    assert (first.text, first.answer) == ("What is shown in scene 0?", "A")
    assert first.labels == {"duration": "short", "domain": "Knowledge", "task": "Counting Problem"}
    assert questions[-1].media == str(tmp_path / "data" / "missing_04.mp4")


def test_worldsense_by_video(tmp_path: Path, clips: Clips) -> None:
    questions = worldsense.read(datasets.worldsense(tmp_path, clips))
    assert [question.id for question in questions] == ["vidAAAA1/task0", "vidAAAA1/task1", "vidBBBB2/task0"]
    assert questions[0].media == questions[1].media == str(tmp_path / "videos" / "vidAAAA1.mp4")
    assert questions[0].options == ("A. a bell", "B. a beep", "C. rain")
    assert questions[0].labels == {"domain": "Music", "audio": "Event + Music", "duration": "<1min", "task": "Audio Recognition"}


def test_worldsense_by_row(tmp_path: Path) -> None:
    rows = [
        {
            "index": 12,
            "video_path": "./videos/abc.mp4",
            "question": "?",
            "candidates": "['A. one'\xa0'B. it\\'s two' 'C. three' 'D. four']",
            "answer": "B",
            "task_type": "T",
            "domain": "D",
            "duration": "1-2min",
            "audio_class": "['Speech' 'Event']",
        }
    ]
    (tmp_path / "worldsense.json").write_text(json.dumps(rows), encoding="utf-8")
    (question,) = worldsense.read(tmp_path)
    assert question.id == "12"
    assert question.media == str(tmp_path / "videos" / "abc.mp4")
    assert question.options == ("A. one", "B. it's two", "C. three", "D. four")
    assert question.labels["audio"] == "Event + Speech"


def test_avut(tmp_path: Path, clips: Clips) -> None:
    questions = avut.read(datasets.avut(tmp_path, clips))
    assert [question.id for question in questions] == ["455", "456", "457"]
    assert questions[0].answer == "C"
    assert questions[0].options == ("A. a beep", "B. a word", "C. ", "D. rain")
    assert questions[2].options[-1] == "E. all"
    assert questions[1].media == str(tmp_path / "data" / "two_fullsize.mp4")


@pytest.mark.parametrize("listing", [False, True])
def test_dailyomni(tmp_path: Path, clips: Clips, listing: bool) -> None:
    questions = dailyomni.read(datasets.dailyomni(tmp_path, clips, listing))
    assert [question.id for question in questions] == ["0", "1"]
    assert questions[0].options[1] == ("B. the cat's bell" if listing else "B. a circle")
    assert [option[0] for option in questions[0].options] == ["A", "B", "C", "D"]
    assert Path(questions[0].media).is_file()
    assert questions[0].labels == {"type": "Event Sequence", "duration": "30s", "video": "Howto & Style"}


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (["A. x", "B. y"], ("A. x", "B. y")),
        (["x", "y"], ("A. x", "B. y")),
        ("['A. x', 'B. y']", ("A. x", "B. y")),
        ('["A. x", "B. y"]', ("A. x", "B. y")),
        ("['A. x' 'B. y']", ("A. x", "B. y")),
        ("['x' 'y' 'z']", ("A. x", "B. y", "C. z")),
        ("['A. he said \"no\" \"yes\"', 'B. y']", ('A. he said "no" "yes"', "B. y")),
        ("['A. x', 'B. don't know', 'C. z']", ("A. x", "B. don't know", "C. z")),
        ("A. x\nB. y\nC. z", ("A. x", "B. y", "C. z")),
        ("A) x B) y", ("A) x", "B) y")),
        ("A. vitamin B is good\nB. y", ("A. vitamin B is good", "B. y")),
    ],
)
def test_options_in_every_spelling(raw: object, expected: tuple[str, ...]) -> None:
    assert dataset_files.options(raw) == expected


def test_parquet_without_pyarrow_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(DatasetError, match="needs pyarrow") as caught:
        dataset_files.rows(tmp_path / "x.parquet")
    assert caught.value.hint == 'pip install "pyarrow>=15"'


def test_wrong_directories_and_files(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such directory"):
        videomme.read(tmp_path / "absent")
    with pytest.raises(DatasetError, match=r"none of AV_Human_data\.json is in it"):
        avut.read(tmp_path)
    (tmp_path / "AV_Human_data.json").write_text("[{")
    with pytest.raises(DatasetError, match="cannot be read as JSON"):
        avut.read(tmp_path)
    (tmp_path / "AV_Human_data.json").write_text('[{"QA_id": 1}]')
    with pytest.raises(DatasetError, match="a row has no 'video_path'"):
        avut.read(tmp_path)
    (tmp_path / "worldsense_qa.json").write_text("[]")
    with pytest.raises(DatasetError, match="expected an object of videos"):
        worldsense.read(tmp_path)


@pytest.mark.parametrize("name", ["../secret.mp4", "videos/../../secret.mp4", "/etc/secret.mp4"])
def test_a_row_that_names_a_clip_outside_of_the_data_set_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DatasetError, match="outside of the data set"):
        dataset_files.clip(tmp_path, [name])
