"""The page without a browser: it holds everything, loads nothing, and nothing from outside becomes markup."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from omnidrop_cli.explain.make import with_link
from omnidrop_cli.explain.page import page
from omnidrop_cli.explain.record import Explanation
from omnidrop_cli.outputs import Answer
from omnidrop_cli.report.json import from_dict, to_dict
from tests.explain.scenes import demo_explanation, demo_report
from tests.report import samples


class Reader(HTMLParser):
    """Elements, their attributes, and the text of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, list[str]] = {}
        self.words = ""
        self._code: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self.inside.setdefault(tag, []).append("")
            self._code = tag

    def handle_endtag(self, tag: str) -> None:
        self._code = None

    def handle_data(self, data: str) -> None:
        if self._code is not None:
            self.inside[self._code][-1] += data
        else:
            self.words += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def data_in(text: str) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_it_is_one_file_that_loads_nothing() -> None:
    reader = Reader(page(demo_explanation()))
    for tag, attributes in reader.elements:
        for name in ("src", "href", "action", "data", "srcset"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, name)
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
    assert not re.search(r"https?://", "".join(reader.inside["script"][1:] + reader.inside["style"]))


def test_the_policy_names_the_very_script_and_style() -> None:
    text = page(demo_explanation())
    reader = Reader(text)
    policy = next(meta["content"] for meta in reader.of("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for kind in ("script", "style"):
        content = reader.inside[kind][-1]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy


HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)> {{script}} \u202egnp.exe \x1b[31m \udcff &amp; \"'>"


def hostile() -> Explanation:
    report = demo_report(answer=Answer(HOSTILE, (1,), "eos"), method=HOSTILE)
    report = replace(report, job=replace(report.job, question=HOSTILE, media=f"/tmp/{HOSTILE}"), warnings=(HOSTILE,))
    report = replace(report, model=replace(report.model, name=HOSTILE), clips=(samples.clip(path=f"/tmp/{HOSTILE}"),))
    full = replace(demo_report("none"), answer=Answer(f"{HOSTILE} and more", (1,), "eos"), method=HOSTILE)
    return demo_explanation(reports=(report,), full=full, link=HOSTILE)


def test_nothing_from_outside_becomes_markup() -> None:
    text = page(hostile())
    reader = Reader(text)
    assert len(reader.of("script")) == 2
    assert not reader.of("img")
    assert not [attributes for _, attributes in reader.elements if "onerror" in attributes]
    assert not set(text) & set("\u202e\x1b\udcff")
    assert "alert(1)" in reader.words  # shown as the text it is
    assert data_in(text)["reports"][0]["answer"] == HOSTILE
    text.encode("utf-8")


def test_the_numbers_inside_are_the_reports() -> None:
    explanation = demo_explanation()
    data = data_in(page(explanation))
    assert [one["pruning"]["method"] for one in data["reports"]] == ["omnidrop", "seats"]
    assert data["full"]["answer"] == "The garden is green."
    back = from_dict(data["reports"][0])
    assert back.trace.leaving == explanation.first.trace.leaving
    assert len(back.kept) == len(explanation.first.kept)
    assert len(data["film"]["jpegs"]) == 10


def test_folders_of_the_machine_stay_out() -> None:
    report = demo_report()
    model = replace(report.model, source="/home/somebody/models/mine")
    text = page(demo_explanation(reports=(replace(report, model=model),)))
    assert "somebody" not in text
    assert str(report.clip.source.path) not in text


def test_a_linked_clip_may_have_any_bytes_in_its_name(tmp_path: Path) -> None:
    clip = Path(os.fsdecode(os.fsencode(tmp_path / "caf") + b"\xe9.mp4"))
    clip.touch()
    report = demo_report()
    report = replace(report, clips=(replace(report.clip, source=replace(report.clip.source, path=str(clip))),))
    assert with_link(Explanation((report,)), tmp_path / "page.html").link == "caf%E9.mp4"


def test_every_number_is_in_a_table() -> None:
    explanation = demo_explanation()
    words = Reader(page(explanation)).words
    for counts in explanation.first.trace.entering:
        assert str(counts.audio) in words
        assert str(counts.video) in words
    for name in ("prefill", "first token", "KV cache", "peak memory", "weights"):
        assert name in words


def test_the_difference_of_the_answers_is_marked() -> None:
    text = page(demo_explanation())
    assert "<ins>A</ins> garden is green." in text
    assert "in the full answer only: <del>The</del>" in text


def test_marks_of_the_methods() -> None:
    marks = data_in(page(demo_explanation()))["marks"]
    assert [layer for layer, _ in marks[0]["key_chunks"]] == [6, 7]  # from tds_layer on
    assert marks[0]["windows"] == []
    report = demo_report("seats", 1)
    for layer, budgets in marks[1]["windows"]:
        assert sum(audio for audio, _ in budgets) == report.trace.leaving[layer].audio
        assert sum(video for _, video in budgets) == report.trace.leaving[layer].video


@pytest.mark.parametrize(("frames", "audio"), [(0, 250), (10, 0)])
def test_one_track_is_enough(frames: int, audio: int) -> None:
    from tests.report import samples

    tokens = samples.token_map(frames, 4, 4, audio)
    report = replace(demo_report(), token_map=tokens, trace=samples.nested_trace(tokens, samples.SHARE), prompt=tokens.counts())
    explanation = demo_explanation(reports=(report,), full=None)
    assert data_in(page(replace(explanation, film=None, sound=None)))["film"] is None


def test_a_report_without_its_tokens_is_refused() -> None:
    bare = from_dict(to_dict(demo_report()))
    with pytest.raises(ValueError, match="kept tokens"):
        page(demo_explanation(reports=(bare,)))
