"""Reports to JSON and back, exactly; other schemas and incomplete files refused."""

from __future__ import annotations

import json
import math
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnidrop_cli.errors import MediaError
from omnidrop_cli.outputs import Answer, DraftCounts, Report, Trace
from omnidrop_cli.report.json import comparison_from_dict, comparison_to_dict, error_to_dict, from_dict, to_dict
from tests.report import samples


def through_text(value: dict[str, Any]) -> dict[str, Any]:
    parsed = json.loads(json.dumps(value, allow_nan=False))
    assert isinstance(parsed, dict)
    return parsed


def assert_same(left: Report, right: Report, kept: bool) -> None:
    for field in fields(Report):
        if field.name != "trace":
            assert getattr(left, field.name) == getattr(right, field.name), field.name
    for field in fields(Trace):
        if field.name != "kept":
            assert getattr(left.trace, field.name) == getattr(right.trace, field.name), field.name
    assert len(left.trace.kept) == (len(right.trace.kept) if kept else 0)
    assert all(np.array_equal(a, b) for a, b in zip(left.trace.kept, right.trace.kept, strict=False))


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize(
    "report", [samples.report(), samples.full_report(), samples.report(clips=(samples.clip(frame_size=None, frames=0, fps=None),))]
)
def test_round_trip(report: Report, kept: bool) -> None:
    assert_same(from_dict(through_text(to_dict(report, kept=kept))), report, kept)


def test_counts_of_drafts_round_trip() -> None:
    answer = Answer("The quick brown fox.", tuple(range(6)), "eos", drafts=DraftCounts(steps=3, drafted=4, accepted=2))
    value = through_text(to_dict(samples.report(answer=answer)))
    assert value["prompt_lookup"] == {"steps": 3, "drafted": 4, "accepted": 2}
    assert from_dict(value).answer == answer
    assert "prompt_lookup" not in to_dict(samples.report())


def test_a_clip_with_one_track_round_trips() -> None:
    report = samples.report(clips=(samples.clip(source=replace(samples.clip().source, video=None, sha256="ab12")),))
    assert from_dict(through_text(to_dict(report))).clips == report.clips


@settings(max_examples=50)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=80))
def test_kept_sets_survive_as_runs(depth: list[int]) -> None:
    """`depth[i]` is how many of the six nested sets hold token i."""
    sets = tuple(np.flatnonzero(np.array(depth) > index) for index in range(6))
    counts = samples.Counts(text=0, audio=0, video=len(depth))
    trace = Trace("m", counts, (counts,) * 5, (counts,) * 5, sets)
    report = samples.report(trace=trace, prompt=counts)
    back = from_dict(through_text(to_dict(report, kept=True)))
    assert all(np.array_equal(a, b) for a, b in zip(back.trace.kept, sets, strict=True))


def test_kept_sets_are_compact() -> None:
    plain = sum(len(json.dumps(rows.tolist())) for rows in samples.report().trace.kept)
    assert len(json.dumps(to_dict(samples.report(), kept=True)["tokens"]["layers_survived"])) < plain / 50


def test_comparison_round_trip() -> None:
    comparison = samples.comparison()
    back = comparison_from_dict(through_text(comparison_to_dict(comparison, kept=True)))
    assert_same(back.full, comparison.full, True)
    assert_same(back.pruned, comparison.pruned, True)
    assert (back.agreement, back.first_difference, back.first_token_kl) == (0.625, 5, 0.0312)


def test_an_infinite_divergence_is_valid_json() -> None:
    comparison = replace(samples.comparison(), first_token_kl=math.inf)
    assert comparison_from_dict(through_text(comparison_to_dict(comparison))).first_token_kl == math.inf


def test_fields_a_reader_relies_on() -> None:
    value = to_dict(samples.report())
    assert (value["schema"], value["kind"]) == (1, "report")
    assert value["answer"] == "The quick brown fox."
    assert value["media"]["fps_effective"] == 2.0
    assert value["media"]["has_audio"] is True
    assert value["tokens"]["prompt"] == {"text": 42, "audio": 150, "video": 864, "total": 1056}
    assert value["tokens"]["generated"] == 6
    assert len(value["tokens"]["entering"]) == 12
    assert value["pruning"]["retention_after"] == pytest.approx(samples.report().trace.retention_after)
    assert value["timing_s"]["first_token"] == 14.8
    assert value["memory_mb"]["kind"] == "allocated on the GPU"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": 2}, "schema 2"),
        ({"schema": None}, "schema None"),
        ({"kind": "comparison"}, "not a report"),
        ({"media": None}, "incomplete"),
        ({"tokens": {}}, "incomplete"),
    ],
)
def test_what_is_no_report_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        from_dict({**to_dict(samples.report()), **change})


def test_fields_of_a_later_version_are_passed_over() -> None:
    value = to_dict(samples.report())
    value["model"]["colour"] = "blue"
    value["timing_s"]["dream"] = 1.0
    assert_same(from_dict(value), samples.report(), False)


def test_an_error_is_a_row_too() -> None:
    row = error_to_dict(["a.mp4"], "what?", MediaError("a.mp4: no such file", "check the path"))
    assert row["error"] == {"type": "MediaError", "message": "a.mp4: no such file", "hint": "check the path"}
    assert row["media"]["asked"] == "a.mp4"


def test_no_password_is_written_down() -> None:
    address = "http://me:secret@host/a.mp4"
    job = replace(samples.report().job, media=address)
    for row in (to_dict(replace(samples.report(), job=job)), error_to_dict([address], "what?", MediaError("gone"))):
        assert row["media"]["asked"] == "http://host/a.mp4"
        assert "secret" not in json.dumps(row)
