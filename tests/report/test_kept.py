"""Surviving tokens: as records, and as JSON that gives the token map and the kept sets back."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnidrop_cli.outputs import Modality, TokenMap
from omnidrop_cli.report.json import comparison_from_dict, comparison_to_dict, from_dict, to_dict
from omnidrop_cli.report.kept import kept_to_dict, token_map_from_dict
from tests.report import samples


def through_text(value: dict[str, Any]) -> dict[str, Any]:
    parsed = json.loads(json.dumps(value, allow_nan=False))
    assert isinstance(parsed, dict)
    return parsed


def assert_same_map(left: TokenMap, right: TokenMap) -> None:
    for field in fields(TokenMap):
        ours, theirs = getattr(left, field.name), getattr(right, field.name)
        assert ours.dtype == theirs.dtype, field.name
        np.testing.assert_allclose(ours, theirs, atol=2e-3 if field.name == "time_s" else 0, err_msg=field.name)


@settings(max_examples=40)
@given(
    grids=st.integers(0, 40),
    rows=st.integers(1, 4),
    columns=st.integers(1, 5),
    audio=st.integers(0, 300),
    seconds_per_grid=st.floats(0.05, 7),
    seed=st.integers(0, 99),
)
def test_places_and_depths_round_trip(grids: int, rows: int, columns: int, audio: int, seconds_per_grid: float, seed: int) -> None:
    if not grids and not audio:
        return
    tokens = samples.token_map(grids, rows, columns, audio, seconds_per_grid)
    report = samples.placed_report(tokens, seed=seed)
    back = from_dict(through_text(to_dict(report, kept=True)))
    assert back.token_map is not None
    assert_same_map(back.token_map, tokens)
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(back.trace.kept, report.trace.kept, strict=True))


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(1, 4), st.integers(1, 5), st.integers(0, 90)), min_size=1, max_size=4),
    st.integers(0, 99),
)
def test_places_in_several_clips_round_trip(shapes: list[tuple[int, int, int, int]], seed: int) -> None:
    if not all(grids or audio for grids, _, _, audio in shapes):
        return
    report = samples.several_clips(*shapes, seed=seed)
    value = through_text(to_dict(report, kept=True))
    assert len(value["kept"]["more_clips"]) == len(value["more_media"]) == len(shapes) - 1
    back = from_dict(value)
    assert (back.job.all_media, back.clips) == (report.job.all_media, report.clips)
    assert back.token_map is not None
    assert report.token_map is not None
    assert_same_map(back.token_map, report.token_map)
    for ours, theirs in zip(back.kept, report.kept, strict=True):
        assert np.array_equal(ours.clip, theirs.clip)
        assert np.array_equal(ours.index, theirs.index)


def survivors(value: dict[str, Any], layer: int) -> set[tuple[str, float, int, int, int]]:
    """(modality, second, frame, row, column) of the tokens that enter a layer, read as docs/user/json.md describes it."""
    kept = value["kept"]
    run = next(number for number, (first, last) in enumerate(kept["layer_runs"]) if first <= layer <= last)
    found = set()
    for name in ("audio", "video"):
        place = kept[name]
        seconds = [start + step * index for start, step, count in place["seconds"] for index in range(count)]
        depth = [value for value, count in place["depth"] for _ in range(count)]
        cells = place.get("rows", 1) * place.get("columns", 1)
        for token, runs in enumerate(depth):
            if runs > run:
                moment, cell = divmod(token, cells)
                if name == "audio":
                    found.add((name, round(seconds[moment], 3), -1, -1, -1))
                else:
                    frame, (row, column) = moment * place["frames_per_grid"], divmod(cell, place["columns"])
                    found.add((name, round(seconds[moment], 3), frame, row, column))
    return found


def test_json_read_by_its_description_equals_the_records() -> None:
    report = samples.placed_report()
    value = through_text(to_dict(report, kept=True))
    for run in report.kept:
        names = {int(Modality.AUDIO): "audio", int(Modality.VIDEO): "video"}
        records = {
            (names[modality], round(second, 3), frame, row, column)
            for modality, second, frame, row, column in zip(
                run.modality.tolist(), run.second.tolist(), run.frame.tolist(), run.row.tolist(), run.column.tolist(), strict=True
            )
        }
        assert len(records) == len(run)
        for layer in range(run.first_layer, run.last_layer + 1):
            assert survivors(value, layer) == records
            assert len(run) == report.trace.entering[layer].media


def test_runs_of_equal_layers() -> None:
    report = samples.placed_report()
    assert [(run.first_layer, run.last_layer) for run in report.kept] == [(0, 3), (4, 5), (6, 6), (7, 7), (8, 9), (10, 10), (11, 11)]


def test_without_the_flag_nothing_is_added() -> None:
    value = to_dict(samples.placed_report())
    assert not {"kept", "attention"} & set(value)
    assert "layers_survived" not in value["tokens"]
    assert from_dict(through_text(value)).kept == ()


def test_attention_round_trips_to_five_digits() -> None:
    report = samples.placed_report()
    assert report.trace.attention is not None
    back = from_dict(through_text(to_dict(report, kept=True))).trace.attention
    assert back is not None
    assert (back.layers, back.queries, back.peak) == (report.trace.attention.layers, ("query",) * 4, report.trace.attention.peak)
    np.testing.assert_allclose(back.mass, report.trace.attention.mass, rtol=1e-4)


def test_a_comparison_keeps_both() -> None:
    full = replace(samples.placed_report(attention=False), method="none")
    comparison = replace(samples.comparison(), full=full, pruned=samples.placed_report())
    back = comparison_from_dict(through_text(comparison_to_dict(comparison, kept=True)))
    assert len(back.full.kept) == len(back.pruned.kept) > 0


def test_ten_minutes_are_small() -> None:
    """384 grids of 12 by 21 cells and 15,000 audio tokens: random survivors of 112,000 tokens are the worst case for run lengths."""
    tokens = samples.token_map(384, 12, 21, 15_000, 1.5625)
    report = samples.placed_report(tokens)
    value = kept_to_dict(report.trace, tokens)
    assert len(json.dumps(value)) < 700_000
    for name in ("audio", "video"):
        value[name].pop("depth")
    assert len(json.dumps(value)) < 20_000


@pytest.mark.parametrize("version", [0, 2, None])
def test_another_version_is_refused(version: int | None) -> None:
    report = samples.placed_report()
    assert report.token_map is not None
    with pytest.raises(ValueError, match="version"):
        token_map_from_dict({**kept_to_dict(report.trace, report.token_map), "version": version})


def test_a_report_names_itself_in_one_line() -> None:
    text = repr(samples.placed_report())
    assert text == "<Report 7b omnidrop kept 0.256 first_token 14.8 s answer 'The quick brown fox.'>"
