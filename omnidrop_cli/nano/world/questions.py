"""Questions about a timeline, with their true answers in plain English.

A question is only asked where its answer is beyond doubt; "nothing" and "no" are answers like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from omnidrop_cli.nano.world.scenario import Scenario, Show
from omnidrop_cli.nano.world.vocabulary import COLOURS, WORDS, items

LONGEST_LIST = 6
"""Things an answer lists at most."""


@dataclass(frozen=True, slots=True)
class WorldQuestion:
    """`kind` is what is asked, `category` the benchmark's group, `options` the other answers that would be of the same sort.

    `style` names the multiple-choice format, "" for an open question; then `answer` is a letter.
    """

    kind: str
    category: str
    text: str
    answer: str
    options: tuple[str, ...] = ()
    style: str = ""


WORDINGS: dict[str, tuple[str, ...]] = {
    "said": ("What is said?", "What does the voice say?", "Which words are spoken?", "Write down what is said."),
    "said first": ("What is said first?", "What is the first word?", "Which word is spoken first?"),
    "said last": ("What is said last?", "What is the last word?", "Which word is spoken last?"),
    "said after": ("What is said after {a}?", "Which word follows {a}?", "Which word comes after {a}?"),
    "shown": ("What is shown?", "What can be seen?", "Which things are shown?", "What is on the screen?"),
    "shown first": ("What is shown first?", "What is shown at the start?", "What comes first on the screen?"),
    "shown last": ("What is shown last?", "What is shown at the end?", "What comes last on the screen?"),
    "shown after": ("What is shown after {a}?", "What comes after {a}?", "What follows {a}?"),
    "said while": (
        "What is said while {a} is shown?",
        "What does the voice say while {a} is on the screen?",
        "Which word is said with {a}?",
    ),
    "shown when": (
        "What is shown when the voice says {a}?",
        "What is on the screen when {a} is said?",
        "What can be seen with the word {a}?",
    ),
    "count beeps": ("How many beeps are there?", "How many beeps can be heard?", "Count the beeps."),
    "count shown": ("How many things are shown?", "How many things can be seen?", "Count the things on the screen."),
    "count words": ("How many words are said?", "How many words are spoken?", "Count the words."),
    "colour": ("Which colour is the {a}?", "What colour does the {a} have?", "What is the colour of the {a}?"),
    "side": ("Is {a} on the left or on the right?", "On which side is {a}, left or right?"),
    "height": ("Is {a} at the top or at the bottom?", "Where is {a}, top or bottom?"),
    "half": ("In which half is {a} shown?", "Is {a} in the first or in the second half?"),
    "second": ("At which second does {a} appear?", "After how many seconds does {a} appear?", "When does {a} appear?"),
    "is shown": ("Is {a} shown?", "Can {a} be seen?", "Does {a} appear?"),
    "is said": ("Is {a} said?", "Does the voice say {a}?", "Can the word {a} be heard?"),
    "speech": ("Is there any speech?", "Does anyone speak?", "Is anything said?"),
    "number": ("Which number is shown?", "What number can be read?"),
    "sign": ("What does the sign say?", "Which word can be read?"),
}
"""Kind to paraphrases; {a} is what the question is about."""

CATEGORIES: dict[str, str] = {
    "said": "transcript", "shown": "list", "said first": "order", "said last": "order", "said after": "order",
    "shown first": "order", "shown last": "order", "shown after": "order", "said while": "said while shown",
    "shown when": "shown when said", "count beeps": "count", "count shown": "count", "count words": "count", "colour": "colour",
    "side": "where", "height": "where", "half": "when", "second": "when", "is shown": "presence", "is said": "presence",
    "speech": "presence", "number": "reading", "sign": "reading",
}  # fmt: skip
"""Kind to category of the benchmark."""


@dataclass(frozen=True, slots=True)
class _Draft:
    """A question before its wording is chosen."""

    kind: str
    answer: str
    about: str = ""
    options: tuple[str, ...] = ()


def ask(timeline: Scenario, rng: np.random.Generator) -> list[WorldQuestion]:
    """Every question the clip can be asked, once each, each in a random wording."""
    drafts = [draft for maker in _MAKERS for draft in maker(timeline, rng)]
    return [_worded(draft, rng) for draft in drafts]


def _worded(draft: _Draft, rng: np.random.Generator) -> WorldQuestion:
    wordings = WORDINGS[draft.kind]
    text = wordings[int(rng.integers(len(wordings)))].format(a=draft.about)
    return WorldQuestion(draft.kind, CATEGORIES[draft.kind], text, draft.answer, draft.options)


# ---------------------------------------------------------------- sound


def _hearing(timeline: Scenario, rng: np.random.Generator) -> Iterator[_Draft]:
    words = [w.word for w in timeline.words]
    if not timeline.has_audio:
        yield _Draft("speech", "no")
        yield _Draft("said", "nothing")
        return
    others = tuple(w for w in WORDS if w not in words)
    yield _Draft("speech", "yes" if words else "no")
    yield _Draft("said", " ".join(words) if words else "nothing", options=_shuffled_lists(words, WORDS, " ", rng))
    if timeline.beeps or rng.random() < 0.3:
        yield _Draft("count beeps", str(len(timeline.beeps)), options=_near(len(timeline.beeps)))
    if words:
        yield _Draft("count words", str(len(words)), options=_near(len(words)))
        asked = words[int(rng.integers(len(words)))] if rng.random() < 0.5 else others[int(rng.integers(len(others)))]
        yield _Draft("is said", "yes" if asked in words else "no", asked)
    if len(words) > 1:
        yield _Draft("said first", words[0], options=tuple(words[1:]) + others[:4])
        yield _Draft("said last", words[-1], options=tuple(words[:-1]) + others[:4])
        place = int(rng.integers(len(words) - 1))
        yield _Draft("said after", words[place + 1], words[place], tuple(w for w in words if w != words[place + 1]) + others[:4])


# ---------------------------------------------------------------- sight


def _seeing(timeline: Scenario, rng: np.random.Generator) -> Iterator[_Draft]:
    if not timeline.has_video:
        yield _Draft("shown", "nothing")
        return
    shows = timeline.shows
    names = [s.item.text for s in shows]
    others = _other_items(names, rng)
    if len(names) <= LONGEST_LIST:
        yield _Draft("shown", ", ".join(names) if names else "nothing", options=_shuffled_lists(names, others, ", ", rng))
    yield _Draft("count shown", str(len(names)), options=_near(len(names)))
    if not shows:
        return
    one = shows[int(rng.integers(len(shows)))]
    if rng.random() < 0.5:
        yield _Draft("is shown", "yes", one.item.phrase)
    else:
        absent = next(i for i in (items()[j] for j in rng.permutation(len(items()))) if all(i.name != s.item.name for s in shows))
        yield _Draft("is shown", "no", absent.phrase)
    yield from _ordered(timeline, others, rng)
    for show in shows:
        if show.item.colour:
            yield _Draft("colour", show.item.colour, show.item.name, tuple(c for c in COLOURS if c != show.item.colour))
        if show.item.kind == "digit":
            yield _Draft("number", show.item.text, options=tuple(str(d) for d in range(10) if str(d) != show.item.text))
        if show.item.kind == "sign":
            yield _Draft("sign", show.item.text, options=tuple(i.name for i in items() if i.kind == "sign" and i != show.item))


def _ordered(timeline: Scenario, others: tuple[str, ...], rng: np.random.Generator) -> Iterator[_Draft]:
    """First, last, and what follows; only where the things in question are alone on the screen."""
    shows = timeline.shows
    names, alone = [s.item.text for s in shows], [not timeline.shown_with(s) for s in shows]
    if len(shows) > 1 and alone[0]:
        yield _Draft("shown first", names[0], options=tuple(names[1:]) + others[:4])
    if len(shows) > 1 and alone[-1]:
        yield _Draft("shown last", names[-1], options=tuple(names[:-1]) + others[:4])
    pairs = [k for k in range(len(shows) - 1) if alone[k] and alone[k + 1]]
    if pairs:
        k = pairs[int(rng.integers(len(pairs)))]
        yield _Draft("shown after", names[k + 1], shows[k].item.phrase, tuple(n for n in names if n != names[k + 1]) + others[:4])


def _placing(timeline: Scenario, rng: np.random.Generator) -> Iterator[_Draft]:
    """Where and when: only things that keep clear of the middle."""
    for show in timeline.shows:
        middle = show.centre((show.start_s + show.end_s) / 2)
        still = abs(show.begin[0] - show.end[0]) + abs(show.begin[1] - show.end[1]) < 0.05
        if still and abs(middle[0] - 0.5) > 0.14:
            yield _Draft("side", "left" if middle[0] < 0.5 else "right", show.item.phrase)
        if still and abs(middle[1] - 0.5) > 0.14:
            yield _Draft("height", "top" if middle[1] < 0.5 else "bottom", show.item.phrase)
        half = timeline.duration_s / 2
        if show.end_s <= half or show.start_s >= half:
            yield _Draft("half", "first half" if show.end_s <= half else "second half", show.item.phrase, ("both",))
        if show.start_s == int(show.start_s) and timeline.duration_s <= 12:
            yield _Draft("second", str(int(show.start_s)), show.item.phrase, _near(int(show.start_s)))


# ---------------------------------------------------------------- both


def _binding(timeline: Scenario, rng: np.random.Generator) -> Iterator[_Draft]:
    if not (timeline.has_audio and timeline.has_video):
        return
    said = [w.word for w in timeline.words]
    shown = [s.item.text for s in timeline.shows]
    extra_words = tuple(WORDS[i] for i in rng.permutation(len(WORDS))[:4] if WORDS[i] not in said)
    extra_shown = _other_items(shown, rng)[:4]
    for show in timeline.shows:
        words = [w.word for w in timeline.words_during(show)]
        if not words and rng.random() > 0.25:
            continue
        options = tuple(w for w in said if w not in words) + extra_words
        yield _Draft("said while", " ".join(words) if words else "nothing", show.item.phrase, options if len(words) == 1 else ())
    for word in timeline.words:
        shows: tuple[Show, ...] = timeline.shows_during(word)
        if not shows and rng.random() > 0.25:
            continue
        answer = ", ".join(s.item.text for s in shows) if shows else "nothing"
        options = tuple(n for n in shown if all(n != s.item.text for s in shows)) + extra_shown
        yield _Draft("shown when", answer, word.word, options if len(shows) == 1 else ())


_MAKERS: tuple[Callable[[Scenario, np.random.Generator], Iterator[_Draft]], ...] = (_hearing, _seeing, _placing, _binding)


# ---------------------------------------------------------------- other answers of the same sort


def _near(number: int) -> tuple[str, ...]:
    return tuple(str(n) for n in range(max(0, number - 3), number + 5) if n != number)


def _other_items(names: Sequence[str], rng: np.random.Generator) -> tuple[str, ...]:
    """Six names that are not shown and share no word with those that are."""
    taken = {word for name in names for word in name.split()}
    pool = items()
    picked: list[str] = []
    for index in rng.permutation(len(pool)):
        if not taken & set(pool[index].text.split()):
            picked.append(pool[index].text)
        if len(picked) == 6:
            break
    return tuple(picked)


def _shuffled_lists(true: Sequence[str], others: Sequence[str], joint: str, rng: np.random.Generator) -> tuple[str, ...]:
    """Wrong lists that look like the true one: another order, or one thing replaced."""
    if not true:
        return ()
    wrong: set[str] = set()
    for _ in range(12):
        trial = list(true)
        spare = [o for o in others if o not in true]
        trial[int(rng.integers(len(trial)))] = spare[int(rng.integers(len(spare)))]
        if rng.random() < 0.5:
            rng.shuffle(trial)
        wrong.add(joint.join(trial))
    return tuple(sorted(wrong - {joint.join(true)}))
