"""Timelines, questions and labels tell the same story."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnidrop_cli.evaluate import items, prompts
from omnidrop_cli.nano.train import drills
from omnidrop_cli.nano.train.labels import MediaLabels, class_index, label
from omnidrop_cli.nano.train.samples import thin
from omnidrop_cli.nano.world import multiple_choice
from omnidrop_cli.nano.world.questions import CATEGORIES, WORDINGS, WorldQuestion, ask
from omnidrop_cli.nano.world.scenario import Profile, Scenario, sample
from omnidrop_cli.nano.world.vocabulary import OBJECTS, PLACES, WORDS, media_classes
from omnidrop_cli.prompt.spec import PromptSpec

seeds = st.integers(0, 2**32 - 1)
PROFILES = (Profile(2, 10), Profile(10, 60, needle=1.0), Profile(2, 6, silent=1.0), Profile(2, 6, silent=0.0, sound_only=1.0))
profiles = st.sampled_from(PROFILES)


def of_kind(questions: list[WorldQuestion], kind: str) -> list[WorldQuestion]:
    return [question for question in questions if question.kind == kind]


def test_the_world_is_as_large_as_promised_and_unambiguous() -> None:
    assert len(OBJECTS) >= 100
    assert len(WORDS) >= 60
    classes = media_classes()
    assert len(classes) == len(set(classes)), "one name, one meaning, one modality"
    assert set(WORDINGS) == set(CATEGORIES)


@given(seeds, profiles)
@settings(max_examples=60)
def test_timelines_are_reproducible_and_tidy(seed: int, profile: Profile) -> None:
    clip = sample(np.random.default_rng(seed), profile)
    assert clip == sample(np.random.default_rng(seed), profile)
    assert clip.has_audio or clip.has_video
    assert len({w.word for w in clip.words}) == len(clip.words)
    assert len({s.item.name for s in clip.shows}) == len(clip.shows)
    for spoken in clip.words:
        assert 0 <= spoken.start_s < spoken.end_s <= clip.duration_s
    for before, after in zip(clip.words, clip.words[1:], strict=False):
        assert before.end_s < after.start_s
    for show in clip.shows:
        assert 0 <= show.start_s < show.end_s <= clip.duration_s
        assert all(0 <= part <= 1 for part in (*show.begin, *show.end))


@given(seeds)
@settings(max_examples=60)
def test_no_word_straddles_a_change_of_scene(seed: int) -> None:
    """Otherwise "what is said while X is shown" would be a matter of taste."""
    clip = sample(np.random.default_rng(seed), Profile(4, 12, silent=0.0, sound_only=0.0))
    borders = {show.start_s for show in clip.shows} | {show.end_s for show in clip.shows}
    for spoken in clip.words:
        assert not any(spoken.start_s < border < spoken.end_s for border in borders)


@given(seeds, profiles)
@settings(max_examples=60)
def test_answers_are_true(seed: int, profile: Profile) -> None:
    rng = np.random.default_rng(seed)
    clip = sample(rng, profile)
    questions = ask(clip, rng)
    words, names = [w.word for w in clip.words], [s.item.text for s in clip.shows]
    for question in of_kind(questions, "said"):
        assert question.answer == (" ".join(words) or "nothing")
    for question in of_kind(questions, "is said"):
        asked = next(w for w in WORDS if w in question.text.replace("?", "").split())
        assert (question.answer == "yes") == (asked in words)
    for question in of_kind(questions, "said after"):
        asked = [w for w in words if f" {w}?" in question.text]
        assert words[words.index(asked[0]) + 1] == question.answer
    for question in of_kind(questions, "count shown"):
        assert question.answer == str(len(names))
    for question in of_kind(questions, "colour"):
        assert any(show.item.colour == question.answer and show.item.name in question.text for show in clip.shows)
    for question in of_kind(questions, "second"):
        assert any(show.item.phrase in question.text and int(question.answer) == show.start_s for show in clip.shows)
    for question in of_kind(questions, "said while"):
        show = next(s for s in clip.shows if f"{s.item.phrase} " in question.text.replace("?", " "))
        inside = [w.word for w in clip.words if w.start_s >= show.start_s and w.end_s <= show.end_s]
        assert question.answer == (" ".join(inside) or "nothing")
    for question in questions:
        assert question.answer not in question.options
        assert question.answer


def test_yes_and_no_are_about_equally_often_right() -> None:
    rng = np.random.default_rng(5)
    answers = [q.answer for _ in range(300) for q in ask(sample(rng, Profile(4, 10)), rng) if q.kind in ("is shown", "is said")]
    assert 0.4 < answers.count("yes") / len(answers) < 0.6


@given(seeds, st.sampled_from(multiple_choice.STYLES))
@settings(max_examples=40)
def test_multiple_choice_holds_the_answer_once(seed: int, style: str) -> None:
    rng = np.random.default_rng(seed)
    for question in ask(sample(rng, Profile(4, 10)), rng):
        if multiple_choice.can_choose(question):
            made = multiple_choice.as_choice(question, style, rng)
            assert made.options[multiple_choice.LETTERS.index(made.answer)] == question.answer
            assert len(set(made.options)) == 4
            assert f"{made.answer}. {question.answer}" in made.text


@given(seeds)
@settings(max_examples=60)
def test_drills_hold_their_answer(seed: int) -> None:
    rng = np.random.default_rng(seed)
    echo, pick = drills.echo(rng), drills.pick(rng)
    assert echo.answer in echo.text
    right = pick.options[multiple_choice.LETTERS.index(pick.answer)]
    assert pick.text.count(right) >= 2
    assert f"{pick.answer}. {right}" in pick.text
    assert not {echo.kind, pick.kind} & set(CATEGORIES), "the benchmark asks no drills"


@given(seeds)
@settings(max_examples=60)
def test_partners_are_on_the_screen_together(seed: int) -> None:
    rng = np.random.default_rng(seed)
    clip = sample(rng, Profile(4, 12, silent=0.0, sound_only=0.0, pairs=0.5))
    for asked in drills.partner(clip, rng):
        (one,) = (show for show in clip.shows if asked.text.endswith(f" {show.item.phrase}?"))
        others = [show.item.text for show in clip.shows if show != one and show.start_s < one.end_s and one.start_s < show.end_s]
        assert asked.answer == (", ".join(others) or "nothing")
        assert asked.kind not in CATEGORIES, "the benchmark asks no drills"


def test_choice_wordings_are_the_benchmarks_own() -> None:
    options = ["dog", "cat", "sun", "key"]
    asked = items.Question(
        "1", "clip.mp4", "What is shown?", tuple(f"{letter}. {name}" for letter, name in zip("ABCD", options, strict=True)), "A"
    )
    for style, prompt in (
        ("videomme", prompts.videomme),
        ("worldsense", prompts.letter_directly),
        ("avut", prompts.letter_directly),
        ("dailyomni", prompts.dailyomni),
    ):
        assert multiple_choice.word("What is shown?", options, style) == prompt(asked)
    with pytest.raises(ValueError, match="unknown style"):
        multiple_choice.word("What is shown?", options, "exam")


@given(seeds, profiles)
@settings(max_examples=40)
def test_labels_follow_the_timeline(spec: PromptSpec, seed: int, profile: Profile) -> None:
    clip = sample(np.random.default_rng(seed), profile)
    labels = label(clip, spec)
    names = list(class_index())
    rows, cols = clip.cells
    assert int((~labels.audio).sum()) == clip.grids * rows * cols
    assert int(labels.audio.sum()) == round(clip.duration_s * 25) * clip.has_audio
    for number, show in enumerate(clip.shows):
        own = labels.classes[labels.event == number]
        if len(own):  # two things in one cell: the later one signs
            assert any(names[c] == show.item.name for c in own.flatten())
    assert not ({names[c] for c in labels.classes[labels.audio].flatten()} & set(PLACES))
    if clip.has_audio:
        heard = [names[c] for c in labels.classes[labels.audio, 0]]
        order = list(dict.fromkeys(name for name in heard if name in WORDS))
        assert order == [w.word for w in clip.words]


@given(seeds)
@settings(max_examples=40)
def test_places_in_labels_are_the_answers_to_where(spec: PromptSpec, seed: int) -> None:
    rng = np.random.default_rng(seed)
    clip = sample(rng, Profile(4, 12, silent=1.0))
    labels, names = label(clip, spec), list(class_index())
    for question in ask(clip, rng):
        if question.kind not in ("side", "height"):
            continue
        number = next(n for n, show in enumerate(clip.shows) if show.item.phrase in question.text)
        # Cells that hold nothing but this thing name its place, and never the opposite one.
        own = [t for t in np.nonzero(labels.event == number)[0] if set(clip.shows[number].item.classes) >= _things(labels, t, names)]
        said = {names[c] for t in own for c, w in zip(labels.classes[t], labels.weights[t], strict=True) if w > 0} & set(PLACES)
        axis = set(PLACES[:2] if question.kind == "side" else PLACES[2:])
        assert not own or said & axis == {question.answer}


def _things(labels: MediaLabels, token: int, names: list[str]) -> set[str]:
    carried = zip(labels.classes[token], labels.weights[token], strict=True)
    return {names[c] for c, weight in carried if weight > 0} - set(PLACES)


@given(seeds, st.floats(0.0, 1.0))
@settings(max_examples=40)
def test_thinning_leaves_every_event_a_token(spec: PromptSpec, seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    labels = label(sample(rng, Profile(10, 30, needle=0.5)), spec)
    chosen = thin(labels, rng, share)
    second = labels.positions[0] // 25
    for event in set(labels.event) - {-1}:
        assert set(second[labels.event == event]) == set(second[chosen][labels.event[chosen] == event]), "one of each second"
    assert (np.diff(chosen) > 0).all()


def test_a_clip_without_sound_and_picture_is_no_clip(spec: PromptSpec) -> None:
    empty = Scenario(2.0, (3, 3), False, False, (), (), (), 0.0, 0, False)
    with pytest.raises(ValueError, match="nothing to lay out"):
        label(empty, spec)
