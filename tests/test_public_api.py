"""The names a library user sees: what is exported, and what `ask`, `compare`, `stream` and `chat` do with their arguments."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

import omnidrop_cli as omnidrop
from omnidrop_cli.request import request_options


@pytest.fixture(scope="module")
def session() -> omnidrop.Session:
    return omnidrop.load("nano", device="cpu", feature_cache=False)


QUESTION = "What is said while the car is shown?"


def test_every_public_name_loads_and_dir_lists_nothing_else() -> None:
    assert dir(omnidrop) == sorted(omnidrop.__all__)
    for name in omnidrop.__all__:
        assert getattr(omnidrop, name) is not None
    with pytest.raises(AttributeError):
        omnidrop.nothing  # noqa: B018


def test_options_reach_the_run(session: omnidrop.Session) -> None:
    report = session.ask("demo", QUESTION, method="random", keep=0.5, seed=7, max_new_tokens=2, end_s=4.0, system="Be brief.")
    request = report.job
    assert (request.method.name, request.method.keep, request.method.seed) == ("random", 0.5, 7)
    assert (request.generation.max_new_tokens, request.generation.seed) == (2, 7)
    assert (request.media_options.end_s, request.system) == (4.0, "Be brief.")
    assert report.clip.duration_s <= 4.0
    assert report.trace.retention_after == pytest.approx(0.5, abs=0.01)
    assert len(report.answer.token_ids) <= 2


def test_every_option_belongs_to_a_configuration() -> None:
    known = request_options()
    assert {"keep", "method", "preset", "method_options", "seed", "fps", "start_s", "max_new_tokens", "temperature", "system"} <= set(known)
    assert len(known["seed"]) == 2


def test_a_misspelt_option_is_named(session: omnidrop.Session) -> None:
    with pytest.raises(omnidrop.UsageError, match="'kep'") as caught:
        session.ask("demo", QUESTION, kep=0.3)
    assert caught.value.hint == "did you mean keep?"
    with pytest.raises(omnidrop.UsageError, match="'quantt'"):
        omnidrop.load("nano", quantt="none")


def test_the_report_names_the_model_that_answered(session: omnidrop.Session) -> None:
    report = session.run(omnidrop.Request("demo", QUESTION, model=omnidrop.ModelConfig("7b")))
    assert report.job.model.name == "nano"
    assert report.model.name == "nano"


def test_a_stream_gives_the_answer_piece_by_piece(session: omnidrop.Session) -> None:
    expected = session.ask("demo", QUESTION).answer.text
    stream = session.stream("demo", QUESTION)
    assert "".join(stream) == expected
    assert stream.report is not None
    assert stream.report.answer.text == expected


def test_a_stream_raises_what_the_run_raises(session: omnidrop.Session, tmp_path: Path) -> None:
    with pytest.raises(omnidrop.MediaError):
        list(session.stream(tmp_path / "missing.mp4", QUESTION))


def test_compare_repeats_the_prefills(session: omnidrop.Session) -> None:
    comparison = session.compare("demo", QUESTION, keep=0.3, rounds=3)
    assert comparison.full.trace.retention_after == 1.0
    assert comparison.pruned.trace.retention_after == pytest.approx(0.3, abs=0.01)
    assert len(comparison.full_repeats) == len(comparison.pruned_repeats) == 3
    assert all(timings.prefill_s > 0 for timings in (*comparison.full_repeats, *comparison.pruned_repeats))


def test_a_chat_remembers(session: omnidrop.Session) -> None:
    chat = session.chat("demo", keep=0.5)
    first = chat.ask("What is said?")
    assert chat.turns == [("What is said?", first.answer.text)]


def test_threads_take_turns(session: omnidrop.Session) -> None:
    """One session in several threads: every thread gets the answer it would get alone."""
    questions = [QUESTION, "What is said?", "What is shown first?"]
    alone = [session.ask("demo", question).answer.text for question in questions]
    together: dict[int, list[str]] = {}

    def work(number: int) -> None:
        together[number] = [session.ask("demo", question).answer.text for question in questions]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[number] for number in range(4)] == [alone] * 4


def test_methods_and_get_method() -> None:
    assert {"none", "omnidrop", "seats"} <= set(omnidrop.methods())
    assert omnidrop.get_method(omnidrop.PruningConfig("omnidrop", 0.3)).name == "omnidrop"
