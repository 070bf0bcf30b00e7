"""Paths, globs, lists and question files become questions grouped by clip."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from omnidrop_cli.batch.inputs import find_media, gather
from omnidrop_cli.config import Request
from omnidrop_cli.errors import UsageError

TEMPLATE = Request("", "")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.mp4", "a.WAV", "notes.txt", ".hidden.mp4", "deep/er/c.mkv", ".git/d.mp4", "deep/picture.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def names(paths: list[str], base: Path) -> list[str]:
    return [Path(path).relative_to(base).as_posix() for path in paths]


def test_folder_is_searched_recursively_for_clips_only(folder: Path) -> None:
    assert names(find_media([str(folder)]), folder) == ["a.WAV", "b.mp4", "deep/er/c.mkv"]


def test_file_named_alone_is_taken_whatever_its_suffix(folder: Path) -> None:
    assert names(find_media([str(folder / "deep/picture.jpg")]), folder) == ["deep/picture.jpg"]


def test_glob_matches_sorted_and_a_file_counts_once(folder: Path) -> None:
    found = find_media([str(folder / "**/*.m*"), str(folder / "b.mp4")])
    assert names(found, folder) == ["b.mp4", "deep/er/c.mkv"]


def test_bracketed_file_name_is_no_glob(folder: Path) -> None:
    (folder / "take[1].mp4").touch()
    assert names(find_media([str(folder / "take[1].mp4")]), folder) == ["take[1].mp4"]


def test_list_file_is_relative_to_itself(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    (folder / "notes.txt").write_text("# takes\n\nb.mp4\n  deep/er/c.mkv  \ngone.mp4\nhttps://example.org/v.mp4\n")
    found = find_media([str(folder / "notes.txt")])
    assert found == [str(folder / "b.mp4"), str(folder / "deep/er/c.mkv"), str(folder / "gone.mp4"), "https://example.org/v.mp4"]


def test_list_from_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("x.mp4\ny.mp4\n"))
    assert find_media(["-"]) == ["x.mp4", "y.mp4"]


@pytest.mark.parametrize(("path", "message"), [("no.mp4", "no file or folder"), ("*.mkv", "matches nothing"), ("empty", "holds no clips")])
def test_path_to_nothing_is_an_error(path: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=message):
        find_media([path])


def test_every_question_meets_every_clip_once(folder: Path) -> None:
    groups = gather([str(folder), str(folder / "b.mp4")], ["who?", "what?", "who?"], TEMPLATE)
    assert [[one.job.question for one in group] for group in groups] == [["who?", "what?"]] * 3


def write(path: Path, *rows: object) -> str:
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return str(path)


def test_question_file_groups_by_clip_and_stretch(tmp_path: Path) -> None:
    file = write(
        tmp_path / "q.jsonl",
        {"media": "a.mp4", "question": "one?", "id": 7},
        {"media": "b.mp4", "question": "two?"},
        {"media": "a.mp4", "question": "three?", "system": "Be brief."},
        {"media": "a.mp4", "question": "four?", "start": 2, "end": 3.5},
        {"media": "b.mp4"},
    )
    groups = gather([], ["common?"], TEMPLATE, file)
    assert [[one.job.question for one in group] for group in groups] == [["one?", "three?"], ["two?", "common?"], ["four?"]]
    assert groups[0][0].id == "7"
    assert groups[0][1].job.system == "Be brief."
    assert (groups[2][0].job.media_options.start_s, groups[2][0].job.media_options.end_s) == (2.0, 3.5)
    assert groups[0][0].job.media == str(tmp_path / "a.mp4")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"media": "a.mp4", "question": ', "line 2: not JSON"),
        ('{"question": "who?"}', 'no "media"'),
        ("[1]", 'no "media"'),
        ('{"media": "a.mp4", "qestion": "who?"}', "unknown field 'qestion'"),
        ('{"media": "a.mp4"}', "no question"),
        ('{"media": "a.mp4", "question": " "}', "'question' is not text"),
        ('{"media": "a.mp4", "question": "who?", "start": "1:00"}', "'start' is not a number"),
        ('{"media": "a.mp4", "question": "who?", "end": NaN}', "'end' is not a number"),
        ('{"media": "a.mp4", "question": "who?", "id": [1]}', '"id" is neither'),
    ],
)
def test_wrong_line_is_named(line: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "q.jsonl"
    file.write_text("\n" + line + "\n")
    with pytest.raises(UsageError, match=message):
        gather([], [], TEMPLATE, str(file))


def test_line_separator_inside_a_question_does_not_split_the_line(tmp_path: Path) -> None:
    file = tmp_path / "q.jsonl"
    file.write_text('{"media": "a.mp4", "question": "one\u2028two?"}\n', encoding="utf-8")
    assert gather([], [], TEMPLATE, str(file))[0][0].job.question == "one\u2028two?"


def test_nothing_to_ask(folder: Path) -> None:
    with pytest.raises(UsageError, match="no question"):
        gather([str(folder)], [], TEMPLATE)
    with pytest.raises(UsageError, match="nothing to ask"):
        gather([], ["who?"], TEMPLATE)


def test_video_given_as_question_file(folder: Path) -> None:
    (folder / "b.mp4").write_bytes(b"\xff\xfe\x00\x81" * 50)
    with pytest.raises(UsageError, match="not a text file"):
        gather([], [], TEMPLATE, str(folder / "b.mp4"))
