"""`omnidrop ask`, on a pipeline that is not there: what goes where, and what becomes of the flags."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from omnidrop_cli import paths
from omnidrop_cli.commands._complete import methods
from omnidrop_cli.config import GenerationConfig, MediaConfig, ModelConfig, PruningConfig, Request
from omnidrop_cli.errors import UsageError
from omnidrop_cli.nano.world.demo_clips import QUESTIONS
from omnidrop_cli.outputs import Choice
from omnidrop_cli.report.json import comparison_from_dict, from_dict
from tests.clips import Clips
from tests.commands.fake_pipeline import FakePipeline
from tests.commands.running import Done, environment, program, run

Run = Callable[..., Done]
ANSWER = "The quick brown fox.\n"


def test_the_answer_alone_is_on_stdout(omnidrop: Run, pipeline: FakePipeline) -> None:
    done = omnidrop("ask", "clip.mp4", "what?")
    assert (done.code, done.out) == (0, ANSWER)
    assert done.err.count("\n") == 2
    assert "retention" not in done.err
    assert "warning: the clip has [bold]no[/] sound[31m" in done.err


@pytest.mark.parametrize("flags", [["--no-stream"], ["--quiet"], ["--no-table"], ["--table"], ["-v"], ["--compare"], ["--no-color"]])
def test_no_flag_changes_stdout(omnidrop: Run, pipeline: FakePipeline, flags: list[str]) -> None:
    assert omnidrop("ask", "clip.mp4", "what?", *flags).out == ANSWER


def test_quiet_says_nothing(omnidrop: Run, pipeline: FakePipeline) -> None:
    assert omnidrop("ask", "clip.mp4", "what?", "--quiet").err == ""


@pytest.mark.parametrize("words", [["clip.mp4", "what?", "-q"], ["clip.mp4", "what?", "-q", "--keep", "0.3"], ["-q", "clip.mp4", "what?"]])
def test_the_former_quiet_still_works_and_says_so(omnidrop: Run, pipeline: FakePipeline, words: list[str], tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").touch()
    done = omnidrop("ask", *words)
    assert (done.out, pipeline.jobs[0].question) == (ANSWER, "what?")
    assert done.err == "warning: -q is the question in every command; --quiet has no short form any more\n"


def test_q_is_the_question(omnidrop: Run, pipeline: FakePipeline) -> None:
    done = omnidrop("ask", "clip.mp4", "-q", "what?")
    assert (done.out, pipeline.jobs[0].media, pipeline.jobs[0].question) == (ANSWER, "clip.mp4", "what?")
    assert "deprecated" not in done.err
    assert "was given twice" in str(omnidrop("ask", "clip.mp4", "what?", "-q", "who?").error)
    assert "no question was given" in str(omnidrop("ask", "clip.mp4").error)


def test_tables_are_shown_on_request_and_in_comparisons(omnidrop: Run, pipeline: FakePipeline) -> None:
    ask = ("ask", "clip.mp4", "what?")
    assert "retention" in omnidrop(*ask, "--table").err
    assert "retention" in omnidrop(*ask, "-v").err
    assert "agreement" in omnidrop(*ask, "--compare").err
    for quiet in ("--no-table", "--quiet"):
        done = omnidrop(*ask, "--compare", quiet)
        assert "agreement" not in done.err
        assert "unpruned: The quick" in done.err
        assert done.out == ANSWER


def test_an_answer_that_was_cut_is_said_always(omnidrop: Run, pipeline: FakePipeline) -> None:
    pipeline.reason = "length"
    for flags in ([], ["--quiet"], ["--no-table"], ["--json"], ["--table"]):
        said = omnidrop("ask", "clip.mp4", "what?", *flags).err
        assert said.count("warning: the answer was cut at 2 tokens; raise --max-new-tokens") == 1, flags


def test_choices_reach_the_model_and_their_probabilities_are_shown(omnidrop: Run, pipeline: FakePipeline) -> None:
    pipeline.choices = (Choice("yes", 0.8301, -0.5), Choice("no", 0.1695, -2.1), Choice("maybe", 0.0004, -8.0))
    done = omnidrop("ask", "clip.mp4", "what?", "--choices", "yes, no,maybe")
    assert pipeline.jobs[0].generation.choices == ("yes", "no", "maybe")
    assert done.out == ANSWER
    assert "omnidrop: yes 83 % · no 17 % · maybe <0.1 %\n" in done.err
    assert "83 %" not in omnidrop("ask", "clip.mp4", "what?", "--choices", "yes,no", "--quiet").err
    for wrong in ("yes", "yes,", "yes,yes"):
        assert "at least two are needed" in str(omnidrop("ask", "clip.mp4", "what?", "--choices", wrong).error)


def test_an_answer_by_a_schema_is_json_or_nothing(omnidrop: Run) -> None:
    ask = (
        "ask",
        "demo",
        "What is said?",
        "--model",
        "nano",
        "--schema",
        '{"type": "array", "items": {"enum": [1, 2]}, "minItems": 3, "maxItems": 3}',
    )
    assert len(json.loads(omnidrop(*ask).out)) == 3
    for flags in ([], ["--no-stream"], ["--compare"], ["-o", "answer.json"]):
        done = omnidrop(*ask, "--max-new-tokens", "2", *flags)
        assert (done.out, Path("answer.json").exists()) == ("", False)
        assert "the answer was cut at 2 tokens" in str(done.error)
    failed = run(*ask, "--max-new-tokens", "2", "--json")
    assert failed.code == 1
    assert json.loads(failed.out)["kind"] == "error"
    for wrong in ("{", '{"type": "x"}', "no-such-file.json"):
        mistake = run("ask", "no-such-clip.mp4", "what?", "--schema", wrong)
        assert (mistake.code, mistake.err.count("\n"), mistake.out) == (2, 2, "")


def test_a_clip_on_stdin_is_a_file_for_the_model_and_stdin_in_the_report(omnidrop: Run, pipeline: FakePipeline) -> None:
    done = omnidrop("ask", "-", "what?", "--json", stdin="the clip")
    assert Path(pipeline.jobs[0].media).parent == paths.downloads()
    value = json.loads(done.out)
    assert (value["media"]["asked"], value["media"]["path"]) == ("-", "-")
    assert not any(paths.downloads().iterdir())
    both = json.loads(omnidrop("ask", "-", "what?", "--json", "--compare", stdin="the clip").out)
    assert both["full"]["media"]["asked"] == both["pruned"]["media"]["asked"] == "-"
    assert "both read from stdin" in str(omnidrop("ask", "-", "-", stdin="x").error)
    for command in (["chat", "-"], ["explain", "-", "what?"]):
        assert "does not read a clip from stdin" in str(omnidrop(*command, stdin="x").error)


def test_a_real_clip_on_stdin(clips: Clips) -> None:
    with open(clips["speech_video"], "rb") as file:
        done = subprocess.run(program("inspect", "-", "--json"), stdin=file, capture_output=True, env=environment(), check=True)
    value = json.loads(done.stdout)
    assert value["frames"] == json.loads(run("inspect", str(clips["speech_video"]), "--json").out)["frames"] > 0
    assert value["media"]["path"] == "-"


def test_without_a_terminal_stages_are_shown_on_request_only(omnidrop: Run, pipeline: FakePipeline) -> None:
    assert "prefill" not in omnidrop("ask", "clip.mp4", "what?", "--no-table").err
    said = omnidrop("ask", "clip.mp4", "what?", "--no-table", "-v").err.splitlines()
    assert said[:3] == ["fetch clip.mp4", "decode", "load"]


def test_a_warning_is_said_once(omnidrop: Run, pipeline: FakePipeline) -> None:
    assert omnidrop("ask", "clip.mp4", "what?").err.count("no[/] sound") == 1


def test_json_is_one_document_that_reads_back(omnidrop: Run, pipeline: FakePipeline) -> None:
    done = omnidrop("ask", "clip.mp4", "what?", "--json")
    assert done.out.count("\n") == 1
    report = from_dict(json.loads(done.out))
    assert (report.job.media, report.job.question, report.answer.text) == ("clip.mp4", "what?", ANSWER.strip())


def test_compare_shows_both_and_answers_pruned(omnidrop: Run, pipeline: FakePipeline) -> None:
    done = omnidrop("ask", "clip.mp4", "what?", "--compare")
    assert done.out == ANSWER
    assert "agreement" in done.err
    assert "[-jumps-]." in done.err
    value = json.loads(omnidrop("ask", "clip.mp4", "what?", "--compare", "--json").out)
    assert comparison_from_dict(value).first_difference == 5


def test_output_goes_into_a_file(omnidrop: Run, pipeline: FakePipeline, tmp_path: Path) -> None:
    done = omnidrop("ask", "clip.mp4", "what?", "-o", "answer.txt")
    assert done.out == ""
    assert (tmp_path / "answer.txt").read_text() == ANSWER
    omnidrop("ask", "clip.mp4", "what?", "-o", "answer.json", "--json")
    assert json.loads((tmp_path / "answer.json").read_text())["schema"] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answer.json", "answer.txt"]


def test_an_answer_cannot_steer_a_terminal(omnidrop: Run, pipeline: FakePipeline) -> None:
    pipeline.pieces[:] = ["\x1b[2Jred", "\x1b", "]0;t\x07", " \u202eevil\r [bold]x[/]"]
    for flags in ([], ["--no-stream"], ["--json"], ["--compare"]):
        done = omnidrop("ask", "\x1b[31mclip\u202e.mp4", "what?", "-v", *flags)
        assert not set(done.out + done.err) & set("\x1b\x07\r\u202e"), flags
    assert omnidrop("ask", "clip.mp4", "what?").out == "[2Jred]0;t evil [bold]x[/]\n"


@pytest.mark.parametrize("pieces", [[], [""], ["\x1b"], ["one\n"], ["one\n", "two"]])
def test_stdout_ends_with_one_newline(omnidrop: Run, pipeline: FakePipeline, pieces: list[str]) -> None:
    pipeline.pieces[:] = pieces
    for flags in ([], ["--no-stream"]):
        expected = "".join(pieces).replace("\x1b", "").removesuffix("\n") + "\n"
        assert omnidrop("ask", "clip.mp4", "what?", *flags).out == expected


def test_flags_become_the_job(omnidrop: Run, pipeline: FakePipeline) -> None:
    flags = "--start 1:30 --end 0:02:00.5 --fps 1 --max-frames 8 --min-pixels 1000 --max-pixels 90000 --no-audio"
    flags += " -m omnidrop -k 0.25 --option beta=10 --option shape=exponential --seed 7"
    flags += " --model 3b --quant int8 --device cpu --dtype float32 --offline"
    flags += (
        " --max-new-tokens 5 --temperature 0.5 --top-p 0.9 --repetition-penalty 1.1 --stop END --stop . --system Short. --revision main"
    )
    omnidrop("ask", "clip.mp4", " what? ", *flags.split())
    job = pipeline.jobs[0]
    assert job.question == "what?"
    assert job.system == "Short."
    assert job.media_options == MediaConfig(90.0, 120.5, 1.0, 4, 8, 1000, 90000, use_audio=False)
    assert job.method == PruningConfig("omnidrop", 0.25, None, {"beta": "10", "shape": "exponential"}, 7)
    assert job.model == ModelConfig("3b", "int8", "cpu", "float32", "sdpa", "main", True)
    assert job.generation == GenerationConfig(5, 0.5, 0.9, 1.1, ("END", "."), 7)


def test_a_composition_is_a_method(omnidrop: Run, pipeline: FakePipeline) -> None:
    omnidrop("ask", "clip.mp4", "what?", "--method", "seats+omnidrop", "--option", "omnidrop.beta=10")
    assert pipeline.jobs[0].method == PruningConfig("seats+omnidrop", None, None, {"omnidrop.beta": "10"})


def test_a_shell_completes_methods_and_compositions() -> None:
    assert methods("omnid") == ["omnidrop"]
    expected = ["omnidrop", "omnizip", "omnisift", "omnipack", "omnifocus", "omniblend"]
    assert methods("seats+om") == [f"seats+{name}" for name in expected]


def test_no_flags_make_the_default_job(omnidrop: Run, pipeline: FakePipeline) -> None:
    omnidrop("ask", "clip.mp4", "what?")
    assert pipeline.jobs == [Request("clip.mp4", "what?")]


def test_the_question_may_come_from_stdin(omnidrop: Run, pipeline: FakePipeline) -> None:
    omnidrop("ask", "clip.mp4", "-", stdin="what is\nsaid?\n")
    assert pipeline.jobs[0].question == "what is\nsaid?"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["clip.mp4", ""], "the question is empty"),
        (["clip.mp4", " \n"], "the question is empty"),
        (["", "what?"], "no clip given"),
        (["clip.mp4", "what?", "--keep", "0"], "--keep is 0; it must be a number above 0 and at most 1"),
        (["clip.mp4", "what?", "--keep", "2"], "--keep is 2"),
        (["clip.mp4", "what?", "--keep", "nan"], "--keep is nan"),
        (["clip.mp4", "what?", "-m", "omnidrip"], "unknown method 'omnidrip'"),
        (["clip.mp4", "what?", "-m", "seats+omnidrip"], "unknown method 'omnidrip'"),
        (["clip.mp4", "what?", "-m", "seats+omnidrop+none"], "is not two methods"),
        (["clip.mp4", "what?", "-m", "fastv+omnidrop"], "fastv chooses nothing before"),
        (["clip.mp4", "what?", "--preset", "paper-50"], "no preset 'paper-50'"),
        (["clip.mp4", "what?", "--keep", "0.3", "--preset", "paper-30"], "--keep and --preset both"),
        (["clip.mp4", "what?", "--option", "beta"], "--option beta is not KEY=VALUE"),
        (["clip.mp4", "what?", "--option", "gamma=1"], "no option 'gamma'"),
        (["clip.mp4", "what?", "--option", "beta=x"], "beta"),
        (["clip.mp4", "what?", "--no-audio", "--no-video"], "--no-audio and --no-video leave nothing"),
        (["clip.mp4", "what?", "--start", "soon"], "--start is 'soon'; it must be a time"),
        (["clip.mp4", "what?", "--start", "9", "--end", "8"], "--end is 8 s, which is not after --start at 9 s"),
        (["clip.mp4", "what?", "--min-frames", "9", "--max-frames", "8"], "--min-frames is 9"),
        (["clip.mp4", "what?", "--quant", "nf5"], "--quant is 'nf5'"),
        (["clip.mp4", "what?", "--temperature", "-1"], "--temperature is -1"),
        (["clip.mp4", "what?", "--temperature", "1e-38"], "--temperature is 1e-38; it must be 0, or a number at least 0.01"),
        (["clip.mp4", "what?", "--min-pixels", "5"], "--min-pixels is 5; it must be a whole number at least 784"),
        (["clip.mp4", "what?", "--fps", "Infinity"], "--fps is inf"),
        (["clip.mp4", "what?", "--option", "lambda_div=Infinity"], "option lambda_div is inf"),
        (["clip.mp4", "what?", "-o", "."], "is a folder"),
        (["clip.mp4", "what?", "-o", "none/a.txt"], "there is no folder"),
    ],
)
def test_mistakes_are_refused_before_the_pipeline(omnidrop: Run, pipeline: FakePipeline, arguments: list[str], words: str) -> None:
    done = omnidrop("ask", *arguments)
    assert isinstance(done.error, UsageError)
    assert words in done.error.message
    assert done.error.hint
    assert not pipeline.jobs


def test_the_file_sets_what_no_flag_does(omnidrop: Run, pipeline: FakePipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("omnidrop.toml").write_text('keep = 0.5\nmax-frames = 8\nmodel = "3b"\ntable = false\noffline = true')
    done = omnidrop("ask", "clip.mp4", "what?", "--max-frames", "16")
    job = pipeline.jobs[-1]
    assert (job.method.keep, job.media_options.max_frames, job.model.name, job.model.offline) == (0.5, 16, "3b", True)
    assert "retention" not in done.err
    monkeypatch.setenv("OMNIDROP_KEEP", "0.4")
    omnidrop("ask", "clip.mp4", "what?", "--no-offline")
    assert (pipeline.jobs[-1].method.keep, pipeline.jobs[-1].model.offline) == (0.4, False)


def test_a_stronger_budget_replaces_a_weaker_one(omnidrop: Run, pipeline: FakePipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("omnidrop.toml").write_text('preset = "paper-20"')
    omnidrop("ask", "clip.mp4", "what?", "--keep", "0.5")
    assert (pipeline.jobs[-1].method.keep, pipeline.jobs[-1].method.preset) == (0.5, None)
    monkeypatch.setenv("OMNIDROP_KEEP", "0.4")
    omnidrop("ask", "clip.mp4", "what?")
    assert (pipeline.jobs[-1].method.keep, pipeline.jobs[-1].method.preset) == (0.4, None)
    omnidrop("ask", "clip.mp4", "what?", "--preset", "paper-30")
    assert (pipeline.jobs[-1].method.keep, pipeline.jobs[-1].method.preset) == (None, "paper-30")


def test_a_bad_variable_and_a_bad_file_are_named(omnidrop: Run, pipeline: FakePipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMNIDROP_KEEP", "7")
    assert "OMNIDROP_KEEP is 7" in str(omnidrop("ask", "clip.mp4", "what?").error)
    Path("omnidrop.toml").write_text("kep = 1")
    assert "omnidrop.toml: unknown key 'kep'" in str(omnidrop("ask", "clip.mp4", "what?").error)
    assert omnidrop("ask", "--help").code == 0


def test_the_questions_about_the_bundled_clips_are_listed() -> None:
    done = run("ask", "demo", "--list")
    assert done.code == 0, done.err
    assert [line.split(maxsplit=1) for line in done.out.splitlines()] == [[item.clip, item.question] for item in QUESTIONS]


def test_nano_by_name_says_once_that_it_knows_only_its_world(clips: Clips) -> None:
    elsewhere = run("ask", str(clips["speech_video"]), "What is said?", "--model", "nano", "--max-frames", "4")
    assert elsewhere.code == 0, elsewhere.err
    assert elsewhere.err.count("nano only knows its demo world") == 1
    assert "demo world" not in run("ask", "demo", "What is said?", "--model", "nano").err
