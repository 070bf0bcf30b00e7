"""Prompt lookup: every answer is the one of step-by-step greedy decoding, and so is the cache behind it, whatever was drafted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from omnidrop_cli.config import GenerationConfig, ModelConfig, PruningConfig, Request
from omnidrop_cli.engine import prompt_lookup
from omnidrop_cli.engine.decode_step import read_together, step
from omnidrop_cli.engine.encoded_prompt import PromptSource
from omnidrop_cli.engine.generate import generate
from omnidrop_cli.engine.prefill import Prefilled
from omnidrop_cli.engine.prompt_lookup import BREAK, NGRAMS, KnownText, conversation_text
from omnidrop_cli.engine.session import Session
from omnidrop_cli.errors import UsageError
from omnidrop_cli.model.random_weights import tiny_thinker
from omnidrop_cli.model.thinker import Thinker
from omnidrop_cli.outputs import Answer, Report
from omnidrop_cli.prune.methods import names
from tests.engine.test_decode_step import SHAPES, assert_same, lengths_for, ragged

Clips = Mapping[str, Path]

IDS = torch.arange(10, 60)
QUESTIONS = ("What is said?", "What is shown?", "What is said while the car is shown?", "How many beeps are there?", "Is the rocket shown?")


# ---------------------------------------------------------------- drafts


def slow_draft(ids: Sequence[int], count: int) -> list[int]:
    """The definition: try the longest n-gram first and the latest place first; text that ends is followed by its own draft."""
    for size in NGRAMS:
        tail = list(ids[-size:])
        for start in range(len(ids) - size - 1, -1, -1):
            if len(tail) == size and list(ids[start : start + size]) == tail:
                text = list(ids)
                for place in range(start + size, start + size + count):
                    if text[place] == BREAK:
                        break
                    text.append(text[place])
                return text[len(ids) :]
    return []


@given(st.lists(st.integers(BREAK, 3), max_size=40), st.integers(0, 40), st.integers(0, 9))
def test_a_draft_is_what_followed_the_last_tokens(ids: list[int], cut: int, count: int) -> None:
    known = KnownText(ids[:cut])
    known.extend(ids[cut:])
    assert known.draft(count) == slow_draft(ids, count)


@pytest.mark.parametrize(
    ("ids", "draft"),
    [
        ([1, 2, 3, 4, 9, 1, 2], [3, 4, 9, 1, 2]),
        ([1, 2, 7, 0, 1, 2, 8, 0, 1, 2], [8, 0, 1, 2, 8]),  # the latest occurrence, and on behind the end of the text
        ([5, 1, 2, 7, 0, 1, 2, 8, 5, 1, 2], [7, 0, 1, 2, 8]),  # three tokens before two
        ([1, 2, 3, BREAK, 1, 2], [3]),
        ([4, 4, 4], [4, 4, 4, 4, 4]),
        ([1, 2, 3], []),
        ([1], []),
        ([], []),
    ],
)
def test_examples(ids: list[int], draft: list[int]) -> None:
    assert KnownText(ids).draft(5) == draft


def test_known_text_is_earlier_answers_and_the_prompt_without_its_media() -> None:
    thinker = tiny_thinker(2)
    spec = thinker.spec
    prompt = torch.tensor([spec.video, 5, 6, spec.video, spec.audio, spec.video, 7, 8, 9])
    assert conversation_text(thinker, prompt) == [BREAK, 5, 6, BREAK, 7, 8, 9]
    assert conversation_text(thinker, prompt, [(1, 2), (3,)]) == [8, 9, 1, 2, BREAK, 8, 9, 3, BREAK, 5, 6, BREAK, 7, 8, 9]


# ---------------------------------------------------------------- the rows of a step


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [1, 2, 8])
def test_rows_read_together_equal_steps(shape: tuple[int, int, int, int], count: int) -> None:
    thinker = tiny_thinker(*shape)
    lengths = lengths_for(thinker, 250)  # some layers grow to another block of storage on the way
    one, other = ragged(thinker, lengths), ragged(thinker, lengths)
    tokens = [7, 99, 3, 3, 200, 15, 60, 1][:count]
    together = read_together(thinker, one, tokens, position=300)
    singly = torch.stack([step(thinker, other, token, 300 + place) for place, token in enumerate(tokens)])
    torch.testing.assert_close(together, singly, rtol=1e-4, atol=5e-5)
    assert_same(one, other)


# ---------------------------------------------------------------- answers from a random cache


def prefilled(thinker: Thinker, longest: int = 90) -> Prefilled:
    logits = torch.randn(thinker.sizes.vocab, generator=torch.Generator().manual_seed(3))
    return Prefilled(ragged(thinker, lengths_for(thinker, longest)), logits, longest + 30, state=None)  # type: ignore[arg-type]


def answers(
    thinker: Thinker, width: int, earlier: Sequence[Sequence[int]] = (), **options: object
) -> tuple[tuple[Answer, list[str]], tuple[Answer, list[str]]]:
    """Answer and streamed pieces without and with prompt lookup; both leave the same cache."""
    starts, found = (prefilled(thinker), prefilled(thinker)), []
    for start, lookup in zip(starts, (0, width), strict=True):
        pieces: list[str] = []
        settings = GenerationConfig(**{"max_new_tokens": 40, **options}, prompt_lookup=lookup)  # type: ignore[arg-type]
        found.append((generate(thinker, start, IDS, settings, pieces.append, earlier=earlier), pieces))
    assert_same(*(start.cache for start in starts))
    return found[0], found[1]


def oracle(monkeypatch: pytest.MonkeyPatch, tokens: Sequence[int], right: int) -> None:
    """Let drafts be the greedy answer `tokens`, as far as `right` tokens, and then wrong."""

    class Oracle(KnownText):
        def __init__(self, ids: Sequence[int]) -> None:
            super().__init__([])

        def draft(self, count: int) -> list[int]:
            ahead = list(tokens[len(self._ids) :][:count])
            return ahead[:right] + [(token + 1) % 250 for token in ahead[right:]]

    monkeypatch.setattr(prompt_lookup, "KnownText", Oracle)


@pytest.fixture(scope="module")
def endless() -> Thinker:
    return replace(tiny_thinker(4, seed=2), eos_ids=())


@pytest.fixture(scope="module")
def greedy(endless: Thinker) -> tuple[int, ...]:
    return generate(endless, prefilled(endless), IDS, GenerationConfig(max_new_tokens=40)).token_ids


def test_a_random_model_repeats_itself(endless: Thinker) -> None:
    """Random thinkers run in circles, which makes drafts that hold and drafts that do not."""
    (expected, pieces), (found, found_pieces) = answers(endless, 7)
    assert found.token_ids == expected.token_ids
    assert "".join(found_pieces) == "".join(pieces) == expected.text


@pytest.mark.parametrize("width", [1, 3, 7])
@pytest.mark.parametrize("right", [0, 1, 2, 7])
@pytest.mark.parametrize("most", [1, 2, 7, 40])
def test_the_answer_is_the_greedy_one_however_much_of_a_draft_holds(
    endless: Thinker, greedy: tuple[int, ...], monkeypatch: pytest.MonkeyPatch, width: int, right: int, most: int
) -> None:
    oracle(monkeypatch, greedy, right)
    (expected, pieces), (found, found_pieces) = answers(endless, width, max_new_tokens=most)
    assert found.token_ids == expected.token_ids == greedy[:most]
    assert (found.text, found.finish_reason) == (expected.text, "length")
    assert found_pieces == pieces
    drafts = found.drafts
    assert drafts is not None
    assert drafts.steps + drafts.accepted == most - 1, "the first token comes from the prefill, every step gives one more than it accepts"
    full = min(width, right)
    assert drafts.steps == -(-(most - 1) // (1 + full))
    assert (drafts.accepted == drafts.drafted) == (full == width or most <= 2)


@pytest.mark.parametrize("end", range(1, 14))
def test_an_end_token_inside_a_draft(endless: Thinker, greedy: tuple[int, ...], monkeypatch: pytest.MonkeyPatch, end: int) -> None:
    ending = replace(endless, eos_ids=(greedy[end],))
    stop = greedy.index(greedy[end])
    oracle(monkeypatch, greedy, 7)
    (expected, _), (found, _) = answers(ending, 5)
    assert (found.text, found.token_ids, found.finish_reason) == (expected.text, greedy[:stop], "eos")
    assert expected.token_ids == greedy[:stop]
    assert found.drafts is not None
    assert found.drafts.drafted == found.drafts.accepted == stop - found.drafts.steps, "nothing is drafted from the end token on"


@pytest.mark.parametrize("at", range(2, 20))
def test_a_stop_text_inside_a_draft(endless: Thinker, greedy: tuple[int, ...], monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    letter = endless.tokenizer.decode([greedy[at]])
    if not (letter.isascii() and letter.strip()):
        letter = next(endless.tokenizer.decode([token]) for token in greedy[at:] if 33 <= token < 127)
    oracle(monkeypatch, greedy, 7)
    (expected, pieces), (found, found_pieces) = answers(endless, 6, stop=(letter,))
    assert (found.text, found.token_ids, found.finish_reason) == (expected.text, expected.token_ids, expected.finish_reason)
    assert found.finish_reason == "stop"
    assert found_pieces == pieces
    assert found.drafts is not None
    assert found.drafts.accepted <= len(found.token_ids) - found.drafts.steps


@pytest.mark.parametrize("right", [0, 2, 7])
def test_a_repetition_penalty_sees_the_draft_as_written(endless: Thinker, monkeypatch: pytest.MonkeyPatch, right: int) -> None:
    penalised = generate(endless, prefilled(endless), IDS, GenerationConfig(max_new_tokens=40, repetition_penalty=1.3)).token_ids
    oracle(monkeypatch, penalised, right)
    (expected, _), (found, _) = answers(endless, 4, repetition_penalty=1.3)
    assert found.token_ids == expected.token_ids == penalised


def test_an_earlier_answer_is_drafted_from_its_first_token_on(endless: Thinker, greedy: tuple[int, ...]) -> None:
    (expected, _), (found, _) = answers(endless, 7, [greedy[:12]], max_new_tokens=12)
    assert found.token_ids == expected.token_ids
    assert found.drafts is not None
    assert found.drafts.steps == 2


@pytest.mark.parametrize("shape", SHAPES)
def test_other_shapes(shape: tuple[int, int, int, int]) -> None:
    (expected, _), (found, _) = answers(replace(tiny_thinker(*shape), eos_ids=()), 7)
    assert found.token_ids == expected.token_ids


# ---------------------------------------------------------------- whole questions


def same_answers(mine: Report, plain: Report) -> None:
    one, other = mine.answer, plain.answer
    assert (one.text, one.token_ids, one.finish_reason) == (other.text, other.token_ids, other.finish_reason)
    assert mine.trace.kv_lengths == plain.trace.kv_lengths
    assert (other.drafts is None) == (one.drafts is not None)


@pytest.fixture(scope="module")
def tiny() -> Session:
    return Session(replace(tiny_thinker(6), eos_ids=()))


@pytest.mark.parametrize("method", sorted(names()))
def test_every_method(tiny: Session, clips: Clips, method: str) -> None:
    options = {"selector": "untrained"} if method == "omnisift" else {}
    choice = PruningConfig(method, None if method == "none" else 0.4, options=options)
    request = Request(str(clips["speech_video"]), "abcabc what is said?", method=choice, generation=GenerationConfig(max_new_tokens=64))
    plain = tiny.run(request)
    found = tiny.run(replace(request, generation=replace(request.generation, prompt_lookup=5)))
    same_answers(found, plain)
    assert found.answer.drafts is not None
    assert found.answer.drafts.accepted > 0, "nothing was drafted that held: this shows nothing"


@pytest.fixture(scope="module")
def nano() -> Session:
    return Session.load(ModelConfig("nano"))


@pytest.mark.parametrize("eos", [True, False])
@pytest.mark.parametrize("choice", [PruningConfig("none"), PruningConfig("omnidrop", 0.3)])
def test_conversations_with_the_built_in_model(nano: Session, choice: PruningConfig, eos: bool) -> None:
    """Without its end tokens nano writes on: ten times as many drafts."""
    session = Session(nano.thinker if eos else replace(nano.thinker, eos_ids=()), nano.store)

    def talk(lookup: int) -> list[Report]:
        conversation = session.chat("demo", method=choice.name, keep=choice.keep, max_new_tokens=32, prompt_lookup=lookup)
        return [conversation.ask(question) for question in (*QUESTIONS, *QUESTIONS)]

    plain, found = talk(0), talk(7)
    for mine, theirs in zip(found, plain, strict=True):
        same_answers(mine, theirs)
    again = [report.answer.drafts for report in found[len(QUESTIONS) :]]
    assert sum(drafts.accepted for drafts in again if drafts) > 0


def test_a_conversation_that_is_remembered_is_drafted_from(nano: Session) -> None:
    source = PromptSource(Request("demo", "What is said?", method=PruningConfig("none")))
    first = nano.answer(nano.encode(source))
    history = [("What is said?", first.answer.text)]
    plain = nano.answer(nano.encode(replace(source, history=history)))
    request = replace(source.request, generation=GenerationConfig(prompt_lookup=7))
    found = nano.answer(nano.encode(replace(source, request=request, history=history)))
    same_answers(found, plain)
    assert found.answer.drafts is not None
    assert found.answer.drafts.drafted > 0


def test_drafts_serve_greedy_decoding_only() -> None:
    with pytest.raises(UsageError, match=r"`prompt_lookup` is 4 and `temperature` 0\.7"):
        GenerationConfig(prompt_lookup=4, temperature=0.7)


def test_json_of_a_schema_is_the_same(nano: Session) -> None:
    """The grammar goes along the draft, and back where it does not hold; nothing is read past complete JSON."""
    pytest.importorskip("llguidance")
    word = {"type": "string", "maxLength": 12}
    schema = {"type": "array", "items": {"enum": ["music garden", "music goodbye"]}, "minItems": 6, "maxItems": 6}
    for shape in (schema, {"type": "array", "items": word, "minItems": 3, "maxItems": 4}):
        plain, found = (nano.ask("demo", "What is said?", schema=shape, prompt_lookup=lookup) for lookup in (0, 5))
        same_answers(found, plain)
        assert found.answer.parsed == plain.answer.parsed
        assert found.answer.drafts is not None
        assert found.answer.drafts.drafted > 0
