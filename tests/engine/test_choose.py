"""Choices are scored as the stock model would score each text written out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from omnidrop_cli.config import GenerationConfig, PruningConfig, Request
from omnidrop_cli.engine.choose import choose
from omnidrop_cli.engine.encode import embed
from omnidrop_cli.engine.encoded_prompt import EncodedPrompt, PromptSource
from omnidrop_cli.engine.prefill import prefill
from omnidrop_cli.engine.session import Session
from omnidrop_cli.errors import UsageError
from omnidrop_cli.events import ProgressCallback
from omnidrop_cli.model.random_weights import tiny_thinker
from omnidrop_cli.prompt.chat_template import plain_ids
from omnidrop_cli.report.json import from_dict, to_dict
from tests.engine.oracle import DenseRun

Clips = Mapping[str, Path]
TEXTS = ("yes", "no", "a long answer", "yes, it is")


@pytest.fixture(scope="module")
def session() -> Session:
    return Session(tiny_thinker(6))


def encoded_by(session: Session, clips: Clips, method: str) -> EncodedPrompt:
    keep = None if method == "none" else 0.3
    return session.encode(PromptSource(Request(str(clips["speech_video"]), "is it?", method=PruningConfig(method, keep))))


@pytest.mark.parametrize("method", ["none", "omnidrop"])
def test_probabilities_are_those_of_the_texts_written_out(session: Session, clips: Clips, method: str) -> None:
    thinker, encoded = session.thinker, encoded_by(session, clips, method)
    prompt, embeds = encoded.prompt, embed(session.thinker, encoded.prompt, encoded.features)
    prefilled = prefill(thinker, prompt, embeds, encoded.features, encoded.method)
    lengths = prefilled.cache.lengths
    answer = choose(thinker, prefilled, TEXTS)
    assert prefilled.cache.lengths == lengths
    assert [choice.text for choice in answer.choices] == list(TEXTS)

    expected = []
    for text in TEXTS:
        ids, dense, total = plain_ids(text, thinker.tokenizer, thinker.spec), DenseRun(thinker.adapter, prefilled.trace), 0.0
        hidden = dense.prefill(embeds, torch.from_numpy(prompt.positions)[:, None])[-1]
        with torch.inference_mode():
            for offset, token in enumerate(ids):
                total += float(thinker.adapter.lm_head(hidden).double().log_softmax(-1)[token])
                hidden = dense.step(token, prompt.next_position + offset)[-1]
            ends = thinker.adapter.lm_head(hidden).double().softmax(-1)[list(thinker.eos_ids)].sum()
        expected.append(total + math.log(float(ends)))
    assert [choice.log_probability for choice in answer.choices] == pytest.approx(expected, abs=1e-4)
    shares = torch.tensor(expected).double().softmax(0).tolist()
    assert [choice.probability for choice in answer.choices] == pytest.approx(shares, abs=1e-4)
    best = max(range(len(TEXTS)), key=expected.__getitem__)
    assert (answer.text, answer.finish_reason) == (TEXTS[best], "choice")
    assert answer.token_ids == tuple(plain_ids(TEXTS[best], thinker.tokenizer, thinker.spec))


def test_a_request_with_choices_answers_with_one_and_its_report_survives_json(session: Session, clips: Clips) -> None:
    pieces: list[str] = []

    class Listener(ProgressCallback):
        def text(self, piece: str) -> None:
            pieces.append(piece)

    report = session.ask(clips["speech_video"], "is it?", choices=("yes", "no"), keep=0.3, progress=Listener())
    assert report.answer.text in ("yes", "no")
    assert "".join(pieces) == report.answer.text
    assert sum(choice.probability for choice in report.answer.choices) == pytest.approx(1)
    value = to_dict(report)
    assert [choice["text"] for choice in value["choices"]] == ["yes", "no"]
    again = from_dict(value)
    assert again.answer == report.answer
    assert again.job.generation == report.job.generation
    assert "choices" not in to_dict(session.ask(clips["speech_video"], "is it?", max_new_tokens=1))


@pytest.mark.parametrize("choices", [("yes",), ("yes", "yes"), ("yes", " ")])
def test_choices_that_leave_none(choices: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="at least two"):
        GenerationConfig(choices=choices)


def test_choices_that_are_one_to_the_tokenizer(session: Session, clips: Clips, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = encoded_by(session, clips, "omnidrop")
    request = replace(encoded.request, generation=GenerationConfig(choices=("yes", "no")))
    monkeypatch.setattr("omnidrop_cli.engine.choose.plain_ids", lambda *_: [1])
    with pytest.raises(UsageError, match="not all different"):
        session.answer(replace(encoded, source=replace(encoded.source, request=request)))
