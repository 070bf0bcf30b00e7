"""Answers held to a JSON schema: valid under a validator that is not ours, shown when they are complete, never half of one."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from omnidrop_cli.config import GenerationConfig, ModelConfig
from omnidrop_cli.engine.constraint import JsonConstraint, json_answer
from omnidrop_cli.engine.session import Session
from omnidrop_cli.errors import OmnidropError, UsageError
from omnidrop_cli.events import ProgressCallback
from omnidrop_cli.report.json import from_dict, to_dict

jsonschema = pytest.importorskip("jsonschema")

SCHEMAS: dict[str, dict[str, Any]] = {
    "enum": {"enum": ["red", "blue", 3, None]},
    "object": {
        "type": "object",
        "properties": {"shown": {"enum": ["dog", "car"]}, "sure": {"type": "boolean"}, "note": {"type": "string", "maxLength": 12}},
        "required": ["shown", "sure"],
        "additionalProperties": False,
    },
    "array": {"type": "array", "items": {"enum": ["dog", "car", "rocket"]}, "minItems": 2, "maxItems": 4},
    "bounds": {"type": "integer", "minimum": 17, "maximum": 23},
    "nested": {
        "type": "object",
        "properties": {"seen": {"type": "array", "maxItems": 3, "items": {"$ref": "#/$defs/thing"}}},
        "required": ["seen"],
        "additionalProperties": False,
        "$defs": {
            "thing": {
                "type": "object",
                "properties": {
                    "second": {"type": "number", "minimum": 0, "maximum": 9},
                    "what": {"type": "string", "pattern": "^[a-z]{1,6}$"},
                },
                "required": ["second", "what"],
                "additionalProperties": False,
            }
        },
    },
    "any of": {"anyOf": [{"type": "null"}, {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 2}]},
    "letters": {"type": "string", "enum": ["größer", '日本 "x"', "a\\b"]},
}
QUESTION = "What is shown after the car?"


class Pieces(ProgressCallback):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def text(self, piece: str) -> None:
        self.texts.append(piece)


@pytest.fixture(scope="module")
def nano() -> Session:
    return Session.load(ModelConfig("nano", feature_cache=False))


@pytest.mark.parametrize(
    "sampling", [{}, {"temperature": 2.0, "seed": 4, "top_p": 0.9}, {"repetition_penalty": 3.0}], ids=["greedy", "sampled", "penalty"]
)
@pytest.mark.parametrize("name", SCHEMAS)
def test_answers_are_valid(nano: Session, name: str, sampling: dict[str, Any]) -> None:
    report = nano.ask("demo", QUESTION, schema=SCHEMAS[name], **sampling)
    assert report.answer.finish_reason == "eos"
    value = json.loads(report.answer.text)
    jsonschema.validate(value, SCHEMAS[name])
    assert value == report.answer.parsed


def test_the_model_decides_inside_the_shape(nano: Session) -> None:
    """A number is its own JSON, so nano, which has never seen JSON, is right here as it is without a schema."""
    for low, high in ((0, 9), (1, 5), (2, 20)):
        report = nano.ask("demo", "How many beeps are there?", schema={"type": "integer", "minimum": low, "maximum": high})
        assert report.answer.parsed == 2


def test_both_answers_of_a_comparison_are_valid(nano: Session) -> None:
    both = nano.compare("demo", QUESTION, schema=SCHEMAS["array"])
    for report in (both.full, both.pruned):
        jsonschema.validate(report.answer.parsed, SCHEMAS["array"])


def test_an_answer_is_shown_when_it_is_complete_and_its_report_survives_json(nano: Session) -> None:
    pieces = Pieces()
    report = nano.ask("demo", QUESTION, schema=SCHEMAS["object"], progress=pieces)
    assert pieces.texts == [report.answer.text]
    value = to_dict(report)
    assert value["parsed"] == json.loads(value["answer"])
    assert to_dict(from_dict(value)) == value
    assert "parsed" not in to_dict(nano.ask("demo", QUESTION))


def test_an_answer_that_is_cut_is_an_error_and_nothing_of_it_is_shown(nano: Session) -> None:
    pieces = Pieces()
    with pytest.raises(OmnidropError, match="cut at 3 tokens, before its JSON was complete"):
        nano.ask("demo", QUESTION, schema=SCHEMAS["object"], max_new_tokens=3, progress=pieces)
    assert not pieces.texts


def test_an_answer_may_use_its_last_token(nano: Session) -> None:
    """The schema ends the answer: no token is spent on an end that is certain."""
    tokens = len(nano.ask("demo", QUESTION, schema={"enum": ["red", "blue"]}).answer.token_ids)
    assert nano.ask("demo", QUESTION, schema={"enum": ["red", "blue"]}, max_new_tokens=tokens).answer.parsed in ("red", "blue")


def test_a_prefix_that_happens_to_be_json_is_no_answer(nano: Session) -> None:
    """Cut after its first digits, a number is JSON and perhaps another number than the model was writing."""
    with pytest.raises(OmnidropError, match="before its JSON was complete"):
        nano.ask("demo", QUESTION, schema={"type": "integer", "minimum": 1, "maximum": 10**9}, max_new_tokens=1)


@pytest.mark.parametrize("text", ["1e999", "[" * 100_000, "1" * 5000])
def test_json_that_python_cannot_read_is_an_error(text: str) -> None:
    with pytest.raises(OmnidropError, match="cannot be read"):
        json_answer(text, (1,), "eos")


def test_tokens_that_were_tried_are_undone(nano: Session) -> None:
    """Decoding may look ahead and take less than it tried."""
    constraint, logits = JsonConstraint(nano.thinker, '{"enum": ["red", "blue"]}'), torch.zeros(nano.thinker.sizes.vocab)
    red, blue = (nano.thinker.tokenizer.encode(f'"{word}"', add_special_tokens=False) for word in ("red", "blue"))
    for tokens in (red[:3], blue[:2], red, [], blue[:3]):
        fresh = JsonConstraint(nano.thinker, '{"enum": ["red", "blue"]}')
        assert torch.equal(constraint.mask(logits, tokens), fresh.mask(logits, tokens))
    assert constraint.complete(red)
    assert not constraint.complete(red[:-1])
    assert constraint.mask(logits, red).isfinite().nonzero().flatten().tolist() == [nano.thinker.eos_ids[0]]


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "nonsense"}, "Invalid type"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"type": "integer", "minimum": 5, "maximum": 2}, "Unsatisfiable"),
        ({"$ref": "https://example.org/schema"}, "not present"),
    ],
)
def test_a_schema_that_cannot_be_followed_is_refused_before_anything_runs(nano: Session, schema: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        nano.ask("no such clip.mp4", QUESTION, schema=schema)


@pytest.mark.parametrize("other", [{"choices": ("a", "b")}, {"stop": ("x",)}])
def test_one_option_says_where_an_answer_ends(other: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="both say where an answer ends"):
        GenerationConfig(schema="{}", **other)


def test_a_missing_llguidance_is_one_line(nano: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "llguidance" else find(name, *rest))
    with pytest.raises(UsageError, match="needs llguidance") as caught:
        nano.ask("demo", QUESTION, schema={"type": "boolean"})
    assert caught.value.hint == 'pip install "llguidance>=1.7.5"'


def test_the_hint_is_what_the_extra_installs() -> None:
    from omnidrop_cli.json_schema import REQUIREMENT

    assert f'schema = ["{REQUIREMENT}"]' in (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
