"""Nothing that steers a terminal gets through, and nothing else is lost."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnidrop_cli.report.text import clean, escape_json, one_line, without_credentials

ANY = st.text(st.characters(), max_size=60)
SAFE_CONTROL = {"\n", "\t"}


@given(ANY)
def test_no_control_character_and_no_surrogate_survives(text: str) -> None:
    left = {character for character in clean(text) if unicodedata.category(character) in {"Cc", "Cs"}}
    assert left <= SAFE_CONTROL


@given(ANY)
def test_cleaning_piece_by_piece_is_cleaning_the_whole(text: str) -> None:
    assert "".join(map(clean, text)) == clean(text)
    assert clean(clean(text)) == clean(text)


@pytest.mark.parametrize("text", ["plain", "żółć 漢字 العربية 🙂\u200d↔\ufe0f", "a\tb\n"])
def test_ordinary_text_of_any_script_is_untouched(text: str) -> None:
    assert clean(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "[31mred[0m"),
        ("\x1b]8;;http://x\x07link", "]8;;http://xlink"),
        ("\x9b2J", "2J"),
        ("a\u202eb\u2066c\u2069", "abc"),
        ("over\rwritten", "overwritten"),
        ("bell\x07 back\x08", "bell back"),
        ("name\udcff.mp4", "name\ufffd.mp4"),
        ("hidden\U000e0041", "hidden"),
    ],
)
def test_what_steers_is_removed(text: str, shown: str) -> None:
    assert clean(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://me:p@ss@host/a.mp4 has changed", "http://host/a.mp4 has changed"),
        ("HTTPS://token@host:8/@you?x=a@b", "HTTPS://host:8/@you?x=a@b"),
        ("https://host/@you", "https://host/@you"),
        ("me@host and http://host", "me@host and http://host"),
    ],
)
def test_addresses_are_shown_without_their_password(text: str, shown: str) -> None:
    assert one_line(text) == without_credentials(text) == shown


@given(ANY)
def test_json_keeps_its_value_and_loses_its_teeth(text: str) -> None:
    document = escape_json(json.dumps({"answer": text}, ensure_ascii=False))
    assert json.loads(document) == {"answer": text}
    assert clean(document) == document


@given(ANY)
def test_one_line_is_one_line(text: str) -> None:
    assert len(one_line(text).splitlines()) <= 1
