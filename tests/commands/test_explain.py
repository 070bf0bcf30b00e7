"""`omnidrop explain` with the built-in model on the bundled clip."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.clips import Clips
from tests.commands.running import Done, environment, run

QUESTION = "What is said while the car is shown?"


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Done, Path]:
    folder = tmp_path_factory.mktemp("explain")
    files = ("-o", "report.html", "--embed-media", "--overlay", "o.mp4", "--png", "s.png", "--svg", "k.svg")
    return run("explain", "demo", QUESTION, "--model", "nano", "--methods", "omnidrop,seats", *files, cwd=folder), folder


def test_every_file_is_written_and_the_answer_goes_to_stdout(done: tuple[Done, Path]) -> None:
    result, folder = done
    assert result.code == 0, result.err
    assert result.out == "garden\n"
    page = (folder / "report.html").read_text()
    assert "data:video/mp4;base64," in page
    assert QUESTION in page
    data = json.loads(page.split('id="data">', 1)[1].split("</script>", 1)[0])
    assert [report["pruning"]["method"] for report in data["reports"]] == ["omnidrop", "seats"]
    assert data["full"]["pruning"]["method"] == "none"
    assert data["reports"][0]["attention"]["layers"]
    assert data["marks"][0]["key_chunks"]
    assert data["marks"][1]["windows"]
    assert (folder / "o.mp4").read_bytes()[4:8] == b"ftyp"
    assert (folder / "s.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "k.svg").read_text().startswith("<svg")


def test_what_the_page_saves_renders_again_without_a_model(done: tuple[Done, Path], tmp_path: Path) -> None:
    page = (done[1] / "report.html").read_text()
    data = json.loads(page.split('id="data">', 1)[1].split("</script>", 1)[0])
    (tmp_path / "saved.json").write_text(json.dumps({name: value for name, value in data.items() if name not in ("film", "sound")}))
    again = run("explain", "saved.json", "-o", "again.html", cwd=tmp_path, OMNIDROP_MODEL="no-such-model")
    assert again.code == 0, again.err
    assert again.out == "garden\n"
    assert "seats" in (tmp_path / "again.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("demo",), "no question was given"),
        (("nope.json",), "nope.json cannot be read"),
        (("nope.json", "what?"), "a saved report has its question"),
        (("demo", "what?", "-o", "nowhere/r.html"), "no folder"),
        (("demo", "what?", "--methods", "omnidrip"), "unknown method"),
        (("demo", "what?", "--methods", ","), "--methods names none"),
        (("demo", "demo2", "which?", "-o", "r.html"), "shows one clip, and there are 2"),
        (("demo", "demo2", "which?", "--overlay", "o.mp4"), "shows one clip, and there are 2"),
        (("demo", "what?", "-o", "r.html", "--svg", "./r.html"), "r.html was given for two results"),
        (("what?", "https://example.org/x.mp4"), "the question comes after the clip"),
    ],
)
def test_mistakes_are_one_line(arguments: tuple[str, ...], words: str, tmp_path: Path) -> None:
    result = run("explain", *arguments, "--model", "nano", cwd=tmp_path)
    assert result.code == 2
    assert words in result.err
    assert "Traceback" not in result.err
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("text", ["[]", "not json", '{"schema": 1, "kind": "error"}'])
def test_a_file_that_is_no_report_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "saved.json").write_text(text)
    result = run("explain", "saved.json", cwd=tmp_path)
    assert result.code == 2
    assert "saved.json" in result.err


def test_without_a_file_the_terminal_shows_it(tmp_path: Path) -> None:
    result = run("explain", "demo", QUESTION, "--model", "nano", "--no-full", cwd=tmp_path)
    assert result.code == 0
    assert "share of the layers that see each moment" in result.err
    assert not [*tmp_path.iterdir()]


def test_several_clips_are_drawn_in_the_terminal(tmp_path: Path) -> None:
    result = run("explain", "demo", "demo2", "which?", "--model", "nano", "--no-full", "--svg", "k.svg", cwd=tmp_path)
    assert result.code == 0, result.err
    drawn = (tmp_path / "k.svg").read_text()
    assert "clip&#160;1:&#160;demo" in drawn
    assert "clip&#160;2:&#160;demo2" in drawn


def test_the_clip_is_never_replaced_by_its_page(clips: Clips, tmp_path: Path) -> None:
    clip = tmp_path / "a.mp3"
    clip.write_bytes(clips["mp3"].read_bytes())
    for flag in ("-o", "--overlay", "--png", "--svg"):
        result = run("explain", "a.mp3", "what?", "--model", "nano", flag, "a.mp3", cwd=tmp_path)
        assert result.code == 2
        assert "a.mp3 would replace a file that this command reads" in result.err
    assert clip.read_bytes() == clips["mp3"].read_bytes()


def test_a_sheet_without_pillow_is_refused_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util\nfind = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, package=None: None if name == 'PIL' else find(name, package)\n"
    )
    path = os.pathsep.join((str(tmp_path), environment()["PYTHONPATH"]))
    result = run("explain", "demo", QUESTION, "--model", "no-such-model", "--png", "s.png", cwd=tmp_path, PYTHONPATH=path)
    assert (result.code, result.out) == (2, "")
    assert "needs Pillow" in result.err
    assert "pip install" in result.err
