"""Paths, globs, lists and question files become questions grouped by clip."""

from __future__ import annotations

import io
import json
import os
import socket
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from omnidrop_cli.batch import inputs
from omnidrop_cli.batch.inputs import find_media, gather
from omnidrop_cli.batch.keys import stamp
from omnidrop_cli.config import MediaConfig, ModelConfig, Request
from omnidrop_cli.errors import OmnidropError, UsageError
from tests.clips import write as write_clip
from tests.media.http_server import File, Server
from tests.signals import pictures

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


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes in folders")
@pytest.mark.parametrize("pattern", ["", "*"])
def test_what_is_no_regular_file_is_left_out_with_a_line(pattern: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "endless.mp4").symlink_to("/dev/zero")
    (tmp_path / "good.mp4").touch()
    (tmp_path / "link.mp4").symlink_to(tmp_path / "good.mp4")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s.mp4"))
        notes: list[str] = []
        assert names(find_media([str(tmp_path / pattern)], notes.append), tmp_path) == ["good.mp4", "link.mp4"]
    assert sorted(notes) == [
        f"left out, a device is not a clip: {tmp_path}/endless.mp4",
        f"left out, a pipe is not a clip: {tmp_path}/pipe.mp4",
        f"left out, a socket is not a clip: {tmp_path}/s.mp4",
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes in folders")
def test_a_pipe_named_alone_is_one_error_row_and_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    assert find_media([str(tmp_path / "pipe.mp4")]) == [str(tmp_path / "pipe.mp4")]
    assert stamp(str(tmp_path / "pipe.mp4"), {}).content.startswith("irregular:")


def test_typescript_is_no_transport_stream(tmp_path: Path) -> None:
    text = "export const grüße = () => 'hello';\n" * 40
    for number in range(5):
        (tmp_path / f"index{number}.ts").write_text(text, encoding="utf-8")
    (tmp_path / "module.mts").write_text(text)
    (tmp_path / "cut.ts").write_bytes(text.encode()[:1023] + "ü".encode())  # the look ends within a letter
    write_clip(tmp_path / "real.ts", pictures(5))
    write_clip(tmp_path / "real.mp4", pictures(5))
    (tmp_path / "page.mp4").write_text("<html>")  # named like a clip and nothing else: a row with an error
    (tmp_path / "empty.ts").touch()
    notes: list[str] = []
    assert names(find_media([str(tmp_path)], notes.append), tmp_path) == ["empty.ts", "page.mp4", "real.mp4", "real.ts"]
    assert notes == [f"left out, text is not a clip: {', '.join(f'{tmp_path}/{n}.ts' for n in ('cut', 'index0', 'index1'))} and 4 more"]


def test_bracketed_file_name_is_no_glob(folder: Path) -> None:
    (folder / "take[1].mp4").touch()
    assert names(find_media([str(folder / "take[1].mp4")]), folder) == ["take[1].mp4"]


def test_list_file_is_relative_to_itself(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    (folder / "notes.txt").write_text("# takes\n\nb.mp4\n  deep/er/c.mkv  \ngone.mp4\nhttps://example.org/v.mp4\n")
    found = find_media([str(folder / "notes.txt")])
    assert found == [str(folder / "b.mp4"), str(folder / "deep/er/c.mkv"), str(folder / "gone.mp4"), "https://example.org/v.mp4"]


def test_list_from_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("\ufeffx.mp4\ny.mp4\n"))
    assert find_media(["-"]) == ["x.mp4", "y.mp4"]


def test_a_list_names_files_of_any_bytes(folder: Path) -> None:
    (folder / "list.txt").write_bytes(b"\xef\xbb\xbfcaf\xe9.mp4\n")
    assert [os.fsencode(Path(name).name) for name in find_media([str(folder / "list.txt")])] == [b"caf\xe9.mp4"]
    (folder / "list.txt").write_bytes("x.mp4".encode("utf-16"))
    with pytest.raises(UsageError, match="not a text file"):
        find_media([str(folder / "list.txt")])


@pytest.mark.parametrize(
    ("path", "message"), [("no.mp4", "no such file or folder"), ("*.mkv", "matches nothing"), ("empty", "holds no clips")]
)
def test_path_to_nothing_is_an_error(path: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OmnidropError, match=message):
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
        ('{"media": "a.mp4", "question": "who?", "id": 1.5}', '"id" is neither'),
        ('{"media": "a.mp4", "question": "who?", "id": true}', '"id" is neither'),
        ('{"media": " ", "question": "who?"}', 'no "media"'),
        ('{"media": 3, "question": "who?"}', 'no "media"'),
        ('{"media": "a.mp4", "question": 3}', "'question' is not text"),
        ('{"media": "a.mp4", "question": "who?", "system": ""}', "'system' is not text"),
        ('{"media": "a.mp4", "question": "who?", "start": -0.5}', "'start' is not a number"),
        ('{"media": "a.mp4", "question": "who?", "start": true}', "'start' is not a number"),
        ('{"media": "a.mp4", "question": "who?", "end": Infinity}', "'end' is not a number"),
        (f'{{"media": "a.mp4", "question": "who?", "start": {"9" * 400}}}', "'start' is not a number"),
    ],
)
def test_wrong_line_is_named(line: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "q.jsonl"
    file.write_text("\n" + line + "\n")
    with pytest.raises(UsageError, match=message):
        gather([], [], TEMPLATE, str(file))


def test_a_home_that_nobody_has_is_part_of_the_name(tmp_path: Path) -> None:
    groups = gather([], [], TEMPLATE, write(tmp_path / "q.jsonl", {"media": "~no-such-user/a.mp4", "question": "who?"}))
    assert groups[0][0].job.media.endswith("~no-such-user/a.mp4")


def test_a_line_without_a_setting_has_that_of_the_command_line(tmp_path: Path) -> None:
    template = replace(TEMPLATE, system="Be brief.", media_options=MediaConfig(start_s=2.0, end_s=9.0))
    file = write(
        tmp_path / "q.jsonl",
        {"media": "a.mp4", "question": "?"},
        {"media": "a.mp4", "question": "?", "start": 0, "system": "Be long."},
        {"media": "a.mp4", "question": "?", "end": 3},
    )
    found = [one.job for group in gather([], [], template, file) for one in group]
    assert [(job.media_options.start_s, job.media_options.end_s) for job in found] == [(2.0, 9.0), (0.0, 9.0), (2.0, 3.0)]
    assert [job.system for job in found] == ["Be brief.", "Be long.", "Be brief."]


def test_a_question_of_its_own_replaces_those_for_all(tmp_path: Path) -> None:
    file = write(tmp_path / "q.jsonl", {"media": "a.mp4", "question": "own?"}, {"media": "a.mp4"})
    assert [one.job.question for one in gather([], ["who?", "what?"], TEMPLATE, file)[0]] == ["own?", "who?", "what?"]


def test_the_same_question_counts_once_unless_it_has_another_name(tmp_path: Path) -> None:
    asked = {"media": "a.mp4", "question": "who?"}
    groups = gather([], [], TEMPLATE, write(tmp_path / "q.jsonl", asked, asked, {**asked, "id": "x"}, {**asked, "system": "s"}))
    assert [(one.id, one.job.system) for one in groups[0]] == [(None, None), ("x", None), (None, "s")]


def test_three_files_that_are_left_out_are_all_named(tmp_path: Path) -> None:
    for name in ("a.ts", "b.ts", "c.ts"):
        (tmp_path / name).write_text("let x = 1;")
    (tmp_path / "clip.mp4").touch()
    notes: list[str] = []
    find_media([str(tmp_path)], notes.append)
    assert notes == [f"left out, text is not a clip: {tmp_path}/a.ts, {tmp_path}/b.ts, {tmp_path}/c.ts"]


def test_a_list_may_have_the_largest_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "list.txt").write_text("a.mp4\nb.mp4\n")
    monkeypatch.setattr(inputs, "_LARGEST_LIST", 12)
    assert names(find_media([str(tmp_path / "list.txt")]), tmp_path) == ["a.mp4", "b.mp4"]
    monkeypatch.setattr(inputs, "_LARGEST_LIST", 11)
    with pytest.raises(UsageError, match="too large for a list"):
        find_media([str(tmp_path / "list.txt")])


def test_line_separator_inside_a_question_does_not_split_the_line(tmp_path: Path) -> None:
    file = tmp_path / "q.jsonl"
    file.write_text('{"media": "a.mp4", "question": "one\u2028two?"}\n', encoding="utf-8")
    assert gather([], [], TEMPLATE, str(file))[0][0].job.question == "one\u2028two?"


def test_bundled_clips_are_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.txt").write_text("demo2\n")
    file = write(tmp_path / "q.jsonl", {"media": "demo", "question": "who?"})
    groups = gather(["demo", "list.txt"], ["what?"], TEMPLATE, file)
    assert [[(one.job.media, one.job.question) for one in group] for group in groups] == [
        [("demo", "who?"), ("demo", "what?")],
        [("demo2", "what?")],
    ]
    assert stamp("demo", {}).size > 0
    assert stamp("demo", {}).content != stamp("demo2", {}).content
    (tmp_path / "demo2").touch()
    assert find_media(["list.txt"]) == ["demo2"]
    assert stamp("demo2", {}).size == 0


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes")
def test_questions_may_come_through_a_pipe(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.write(writer, b'{"media": "/a.mp4", "question": "who?"}\n')
    os.close(writer)
    assert len(gather([], [], TEMPLATE, f"/dev/fd/{reader}")) == 1
    os.close(reader)


@pytest.mark.skipif(sys.platform == "win32", reason="no devices")
def test_an_endless_list_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "_LARGEST_LIST", 1 << 16)
    with pytest.raises(UsageError, match="too large for a list"):
        gather([], [], TEMPLATE, "/dev/zero")


def test_a_playlist_is_its_clips(tmp_path: Path) -> None:
    server = Server()
    clips = [server.url("/one.mp3"), server.url("/two.mp3")]
    items = "".join(f'<item><title>x</title><enclosure url="{clip}" type="audio/mpeg" length="1"/></item>' for clip in clips)
    server.files["/feed"] = File(
        "application/rss+xml", f'<?xml version="1.0"?><rss version="2.0"><channel>{items}</channel></rss>'.encode()
    )
    file = write(
        tmp_path / "q.jsonl", {"media": server.url("/feed"), "question": "when?"}, {"media": server.url("/one.mp3"), "question": "?"}
    )
    groups = gather([server.url("/feed")], ["who?"], TEMPLATE, file)
    assert [[one.job.media for one in group] for group in groups] == [[clips[0]] * 3, [clips[1]] * 2]
    server.hits.clear()
    offline = replace(TEMPLATE, model=ModelConfig(offline=True))
    assert [group[0].job.media for group in gather([server.url("/feed")], ["who?"], offline)] == [server.url("/feed")]
    assert server.hits == []
    server.close()


def test_nothing_to_ask(folder: Path) -> None:
    with pytest.raises(UsageError, match="no question"):
        gather([str(folder)], [], TEMPLATE)
    with pytest.raises(UsageError, match="nothing to ask"):
        gather([], ["who?"], TEMPLATE)


def test_video_given_as_question_file(folder: Path) -> None:
    (folder / "b.mp4").write_bytes(b"\xff\xfe\x00\x81" * 50)
    with pytest.raises(UsageError, match="not a text file"):
        gather([], [], TEMPLATE, str(folder / "b.mp4"))
