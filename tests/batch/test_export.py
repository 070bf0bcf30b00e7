"""Exports say what the rows say, and nothing in them works as a formula or as markup."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from omnidrop_cli.batch.answers_file import Row
from omnidrop_cli.batch.export import COLUMNS, to_csv, to_markdown, writer_for
from omnidrop_cli.errors import UsageError
from tests.batch.samples import row


def answer(number: int, text: str, media: str | None = None, question: str = "who?") -> Row:
    path = media or f"{number}.mp4"
    fields: dict[str, Any] = {
        "media": {"asked": path, "start_s": 0.0, "used_s": 2.5},
        "model": {"name": "nano", "quant": "none"},
        "pruning": {"method": "omnidrop", "retention_after": 0.3},
        "tokens": {"prompt": {"total": 120}, "generated": 7},
        "timing_s": {"total": 1.5},
        "finish_reason": "eos",
    }
    return {**row(number), "question": question, "answer": text, **fields}


def failure(number: int) -> Row:
    one = {**row(number), "media": {"asked": f"{number}.mp4"}, "error": {"type": "MediaError", "message": "not | media", "hint": None}}
    del one["answer"]
    return one


def test_csv_reads_back() -> None:
    rows = [answer(1, 'a "quoted", line\nand another'), failure(2)]
    back = list(csv.DictReader(io.StringIO("".join(to_csv(rows)))))
    assert list(back[0]) == list(COLUMNS)
    assert len(back) == 2
    assert back[0]["answer"] == 'a "quoted", line\nand another'
    assert (back[0]["prompt_tokens"], back[0]["total_s"], back[0]["used_s"]) == ("120", "1.5", "2.5")
    assert (back[1]["answer"], back[1]["error"], back[1]["model"]) == ("", "not | media", "")


@pytest.mark.parametrize("text", ["=1+1", "+cmd|' /C calc'!A0", "-x", "@SUM(A1)", "\t=1"])
def test_no_formula_in_csv(text: str) -> None:
    assert next(csv.DictReader(io.StringIO("".join(to_csv([answer(1, text)])))))["answer"] == f"'{text}"


@pytest.mark.parametrize("text", ["-5", "+3.5", "a=b"])
def test_numbers_and_plain_text_stay(text: str) -> None:
    assert next(csv.DictReader(io.StringIO("".join(to_csv([answer(1, text)])))))["answer"] == text


def test_markdown_groups_by_clip() -> None:
    rows = [answer(1, "one", "a_b.mp4"), answer(2, "two\nlines", "a_b.mp4", "what?"), failure(3)]
    page = "".join(to_markdown(rows))
    assert page.startswith(
        "# Answers\n\n## a\\_b.mp4\n\n**who?**\n\n> one\n\n*omnidrop, 30 % kept, nano, 1.5 s*\n\n**what?**\n\n> two\n> lines\n"
    )
    assert page.endswith("\n## 3.mp4\n\n**who?**\n\n*Failed: not \\| media*\n")


@pytest.mark.parametrize(("text", "shown"), [("1. one", "1\\. one"), ("- one", "\\- one"), ("===", "\\==="), ("v1.5 - a", "v1.5 - a")])
def test_no_list_or_rule_begins(text: str, shown: str) -> None:
    assert f"> {shown}\n" in "".join(to_markdown([answer(1, text)]))


def test_markup_of_strangers_is_inert() -> None:
    text = "".join(to_markdown([answer(1, "# big\n<img src=x>\n[a](javascript:b)\n\x1b[31mred", "x](y)\n# z.mp4")]))
    assert "\\<img" in text
    assert "\n# big" not in text
    assert "\n# z" not in text
    assert "\\](" in text
    assert "\\[a\\](" in text
    assert "\x1b" not in text


def test_suffix_decides() -> None:
    assert writer_for(Path("a.CSV")) is to_csv
    assert writer_for(Path("a.md")) is to_markdown
    with pytest.raises(UsageError, match="chosen by its suffix"):
        writer_for(Path("a.xlsx"))


def test_what_is_missing_or_cut_is_said() -> None:
    short = {**answer(1, ""), "finish_reason": "length", "pruning": {"method": "none", "retention_after": None}, "timing_s": {}}
    assert "".join(to_markdown([short])).endswith("\n\n> \n\n*none, nano, cut at its maximum length*\n")
    assert "".join(to_csv([])) == ",".join(COLUMNS) + "\n"


def test_a_row_that_was_changed_elsewhere_is_no_reason_to_fail() -> None:
    changed = answer(1, "fox") | {"timing_s": {"total": "x"}, "pruning": {"retention_after": "NaN", "method": 5}}
    assert "kept" not in "".join(to_markdown([changed]))
