"""Whole evaluations: official layouts, real clips, a tiny random thinker; then resume, failures, torn files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from omnidrop_cli.config import GenerationConfig, ModelConfig
from omnidrop_cli.engine import session as engine
from omnidrop_cli.engine.encoded_prompt import PromptSource
from omnidrop_cli.engine.session import Session
from omnidrop_cli.errors import DatasetError, UsageError
from omnidrop_cli.evaluate import method_specs, score_tables, summary
from omnidrop_cli.evaluate.benchmarks import avut, dailyomni, videomme, worldsense
from omnidrop_cli.evaluate.evaluation import Run, execute, model_facts, pending, with_timing
from omnidrop_cli.evaluate.items import Benchmark, Question, Row
from omnidrop_cli.evaluate.results import ResultsFile, load
from omnidrop_cli.model.random_weights import tiny_thinker
from omnidrop_cli.prune.audio_selector import AudioSelector, save_selector
from tests.clips import Clips
from tests.evaluate import datasets

METHODS = "none,omnidrop@0.3,random@0.3"


@pytest.fixture(scope="module")
def session() -> Session:
    return Session(tiny_thinker())


def make_run(benchmark: Benchmark, methods: str = METHODS, text_first: bool = False) -> Run:
    return Run(
        benchmark,
        tuple(method_specs.parse([methods])),
        ModelConfig("random:tiny"),
        replace(benchmark.media_options, max_frames=4),
        GenerationConfig(max_new_tokens=3),
        text_first,
    )


def evaluate(run: Run, questions: Sequence[Question], session: Session, path: Path) -> dict[str, Row]:
    with ResultsFile(path) as results:
        execute(run, pending(run, questions, results), session, results)
        return dict(results.rows)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Files that were opened, by name."""
    seen: list[str] = []
    original = engine.open_clips

    def counting(job, *args, **kwargs):  # type: ignore[no-untyped-def]
        seen.append(Path(job.media).name)
        return original(job, *args, **kwargs)

    monkeypatch.setattr(engine, "open_clips", counting)
    return seen


@pytest.fixture
def encoders(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Clips that passed the encoders."""
    seen: list[str] = []
    original = engine.encode_media

    def counting(thinker, prompt, *args, **kwargs):  # type: ignore[no-untyped-def]
        seen.append(prompt.text)
        return original(thinker, prompt, *args, **kwargs)

    monkeypatch.setattr(engine, "encode_media", counting)
    return seen


def test_videomme_end_to_end(tmp_path: Path, clips: Clips, session: Session, encoders: list[str], opened: list[str]) -> None:
    questions = videomme.read(datasets.videomme(tmp_path / "data", clips))
    run = make_run(videomme.BENCHMARK)
    rows = evaluate(run, questions, session, tmp_path / "out" / "rows.jsonl")
    assert len(rows) == 7 * 3
    assert len(encoders) == 2, "the encoders run once per readable clip, for all questions and methods"
    assert opened == ["spoken_01x.mp4", "-silent_02.mp4", "broken_03x.mp4", "missing_04.mp4"], "each file is opened once, broken or not"
    by_method = {method.label: [rows[run.key(question, method)] for question in questions] for method in run.methods}
    for label, mine in by_method.items():
        assert [row.error is None for row in mine] == [True] * 4 + [False] * 3
        for row in mine[:4]:
            assert row.measured is not None
            assert row.method == label
            assert 0 < row.measured.prefill_s < 30
            assert row.measured.media_tokens < row.measured.tokens
            if label == "none":
                assert row.measured.retention_after == row.measured.retention_entering == 1.0
                assert row.measured.flops_pruned == row.measured.flops_full
            else:
                assert row.measured.retention_after == pytest.approx(
                    0.3, abs=0.08
                )  # to within a token's rounding: a clip here has a few dozen
                assert row.measured.retention_entering > row.measured.retention_after
                assert row.measured.flops_pruned < row.measured.flops_full
    errors = [row.error for row in by_method["none"] if row.error is not None]
    assert all(error["type"] == "MediaError" and error["message"] for error in errors)
    assert "missing_04.mp4" in str(errors[-1]["message"])


def test_a_method_that_cannot_work_with_a_prompt_fails_alone(
    tmp_path: Path, clips: Clips, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Session._check

    def check(self, method, prompt):  # type: ignore[no-untyped-def]
        if method.name == "random":
            raise UsageError("random: not with this clip")
        original(self, method, prompt)

    monkeypatch.setattr(Session, "_check", check)
    questions = videomme.read(datasets.videomme(tmp_path / "data", clips))[:2]
    run = make_run(videomme.BENCHMARK, "random@0.3,none")
    rows = evaluate(run, questions, session, tmp_path / "rows.jsonl")
    assert sorted((row.method, row.error is None) for row in rows.values()) == [("none", True)] * 2 + [("random@0.3", False)] * 2


def test_the_answer_equals_that_of_a_single_ask(tmp_path: Path, clips: Clips, session: Session) -> None:
    questions = videomme.read(datasets.videomme(tmp_path / "data", clips))[:2]
    run = make_run(videomme.BENCHMARK)
    rows = evaluate(run, questions, session, tmp_path / "rows.jsonl")
    for question in questions:
        for method in run.methods:
            assert rows[run.key(question, method)].answer == session.run(run.job(question, method)).answer.text


def test_a_second_run_does_nothing_but_retry_failures(tmp_path: Path, clips: Clips, session: Session, encoders: list[str]) -> None:
    root = datasets.videomme(tmp_path / "data", clips)
    questions, path = videomme.read(root), tmp_path / "rows.jsonl"
    run = make_run(videomme.BENCHMARK)
    evaluate(run, questions, session, path)
    before = path.read_bytes()
    with ResultsFile(path) as results:
        todo = pending(run, questions, results)
        assert {question.id for question, _ in todo} == {"003-1", "003-2", "004-1"}
    (root / "data" / "broken_03x.mp4").write_bytes(clips["tiny"].read_bytes())
    encoders.clear()
    rows = evaluate(run, questions, session, path)
    assert len(encoders) == 1
    assert path.read_bytes().startswith(before), "rows are only ever appended"
    assert sum(row.error is not None for row in rows.values()) == 3
    assert load(path) == rows

    more = make_run(videomme.BENCHMARK, METHODS + ",omnidrop@0.5")
    with ResultsFile(path) as results:
        assert [[method.label for method in missing] for _, missing in pending(more, questions[:4], results)] == [["omnidrop@0.5"]] * 4


def test_a_torn_line_is_cut_and_done_again(tmp_path: Path, clips: Clips, session: Session) -> None:
    questions, path = videomme.read(datasets.videomme(tmp_path / "data", clips))[:2], tmp_path / "rows.jsonl"
    run = make_run(videomme.BENCHMARK, "none")
    rows = evaluate(run, questions, session, path)
    whole = path.read_bytes()
    for size in range(len(whole) - 1, len(whole) - 40, -7):
        path.write_bytes(whole[:size])
        again = evaluate(run, questions, session, path)
        assert {key: row.answer for key, row in again.items()} == {key: row.answer for key, row in rows.items()}
        assert load(path) == again


def test_two_runs_on_one_file_refuse_each_other(tmp_path: Path) -> None:
    with ResultsFile(tmp_path / "rows.jsonl"), pytest.raises(UsageError, match="another process"), ResultsFile(tmp_path / "rows.jsonl"):
        pass
    with ResultsFile(tmp_path / "rows.jsonl"):
        pass


def test_other_files_and_other_models_are_refused(tmp_path: Path, clips: Clips, session: Session) -> None:
    path = tmp_path / "notes.jsonl"
    for notes in ('{"my": "notes"}\n', "a line without an end", '{"schema": 1, "batch": {}}\n'):
        path.write_text(notes)
        with pytest.raises(DatasetError, match="line 1: not a result"), ResultsFile(path):
            pass
        assert path.read_text() == notes
    with pytest.raises(UsageError, match="is a folder"), ResultsFile(tmp_path):
        pass

    questions, path = videomme.read(datasets.videomme(tmp_path / "data", clips))[:2], tmp_path / "rows.jsonl"
    evaluate(make_run(videomme.BENCHMARK, "none"), questions[:1], session, path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[0]["model"]["dtype"] = "bfloat16"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(UsageError, match="bfloat16"):
        evaluate(make_run(videomme.BENCHMARK, "none"), questions, session, path)


def test_a_retrained_selector_makes_another_model(tmp_path: Path) -> None:
    """A row of `omnisift` depends on the selector next to the thinker's weights; one file must not mix two."""
    said = set()
    for name in ("none", "one", "other"):
        thinker = replace(tiny_thinker(), directory=tmp_path / name)
        (tmp_path / name).mkdir()
        if name != "none":
            selector = AudioSelector(thinker.model.config.text_config.hidden_size, 64)
            save_selector(selector, tmp_path / name / "selector.safetensors")
        said.add(model_facts(Session(thinker))["weights"])
    assert len(said) == 3


def test_questions_of_a_clip_stand_together_and_methods_take_turns(tmp_path: Path) -> None:
    questions = [Question(str(at), f"clip{at % 3}.mp4", "?", ("A. a", "B. b"), "A") for at in range(6)]
    with ResultsFile(tmp_path / "rows.jsonl") as results:
        work = pending(make_run(videomme.BENCHMARK), questions, results)
    assert [question.id for question, _ in work] == ["0", "3", "1", "4", "2", "5"]
    assert [order[0].label for _, order in work] == ["none", "omnidrop@0.3", "random@0.3"] * 2


def test_published_timing_moves_the_frames_and_names_other_rows(tmp_path: Path, clips: Clips, encoders: list[str]) -> None:
    """At one frame a second a pair of frames lasts two seconds; the published layout says one."""
    (question, *_) = videomme.read(datasets.videomme(tmp_path / "data", clips))
    true = make_run(videomme.BENCHMARK, "none")
    true = replace(true, media_options=replace(true.media_options, fps=1.0, max_frames=8))
    published = replace(true, timing="published")
    assert true.key(question, true.methods[0]) != published.key(question, published.methods[0])
    seconds = []
    for run in (true, published):
        session = with_timing(Session(tiny_thinker()), run.timing)
        read = session.encode(PromptSource(run.job(question, run.methods[0])))
        seconds.append(read.prompt.media[0].seconds_per_grid)
        rows = evaluate(run, [question], session, tmp_path / f"{run.timing}.jsonl")
        assert rows[run.key(question, run.methods[0])].answer is not None
    assert seconds == [pytest.approx(2.0, rel=0.1), 1.0]


def test_keys_of_rows_with_true_timing_are_those_of_older_files() -> None:
    question = Question("q", "clip.mp4", "What?", ("A. a", "B. b"), "A")
    run = make_run(videomme.BENCHMARK, "none")
    job = asdict(replace(run.job(question, run.methods[0]), media="", model=replace(run.model, device="auto", graph=True)))
    facts = ["videomme", "q", False, job]
    assert run.key(question, run.methods[0]) == hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]


def test_text_first_changes_the_prompt_and_the_key(tmp_path: Path, clips: Clips, session: Session, encoders: list[str]) -> None:
    questions = dailyomni.read(datasets.dailyomni(tmp_path / "data", clips))
    first, after = make_run(dailyomni.BENCHMARK, "none", text_first=True), make_run(dailyomni.BENCHMARK, "none")
    path = tmp_path / "rows.jsonl"
    evaluate(after, questions, session, path)
    rows = evaluate(first, questions, session, path)
    assert len(rows) == 4
    assert [text.index("<|VIDEO|>") > text.index("Your task is") for text in encoders] == [False, True]


@pytest.mark.parametrize(("module", "make", "count"), [(worldsense, datasets.worldsense, 3), (avut, datasets.avut, 3)])
def test_other_layouts_end_to_end(tmp_path: Path, clips: Clips, session: Session, module, make, count: int) -> None:  # type: ignore[no-untyped-def]
    questions = module.read(make(tmp_path / "data", clips))
    run = make_run(module.BENCHMARK)
    rows = evaluate(run, questions, session, tmp_path / "rows.jsonl")
    assert len(rows) == count * 3
    answers = {method.label: {question.id: rows[run.key(question, method)] for question in questions} for method in run.methods}
    made = summary.summarise(module.BENCHMARK, questions, answers, run.media_options)
    assert [method.method for method in made.methods] == METHODS.split(",")
    text = score_tables.markdown(made)
    assert all(f"| {name} |" in text for name in METHODS.split(","))
    json.dumps(made.to_json())
