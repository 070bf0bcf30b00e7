"""Settings: who wins, where each value came from, and what is refused."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnidrop_cli import paths, settings
from omnidrop_cli.commands._options import GenerationFlags, MethodFlags, ModelFlags
from omnidrop_cli.errors import UsageError
from omnidrop_cli.settings import KEYS, Setting


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write_user(text: str) -> Path:
    path = paths.config_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def write_project(text: str) -> None:
    Path("omnidrop.toml").write_text(text)


def test_default_then_user_then_project_then_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.effective()["model"] == Setting("auto", "default")
    user = write_user('model = "3b"\nfps = 1')
    assert settings.effective()["model"] == Setting("3b", str(user))
    write_project('model = "7b"')
    assert settings.effective()["model"] == Setting("7b", "omnidrop.toml")
    assert settings.effective()["fps"] == Setting(1.0, str(user))
    monkeypatch.setenv("OMNIDROP_MODEL", "nano")
    assert settings.effective()["model"] == Setting("nano", "OMNIDROP_MODEL")


def test_keys_may_be_spelled_as_flags_or_as_parameters() -> None:
    write_project("max-frames = 8\nmax_new_tokens = 9")
    assert settings.defaults() == {"max_frames": 8, "max_new_tokens": 9}


def test_a_stronger_file_replaces_keep_by_preset() -> None:
    write_user("keep = 0.5")
    write_project('preset = "paper-20"')
    assert settings.defaults() == {"preset": "paper-20"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kep = 0.3", ["omnidrop.toml", "unknown key 'kep'", "did you mean keep"]),
        ("keep = 3", ["omnidrop.toml: keep is 3", "at most 1"]),
        ("keep = 30", ["a fraction", "0.3 keeps 30 %"]),
        ("keep = 0", ["above 0"]),
        ("keep = nan", ["above 0"]),
        ('keep = "0.3"', ["keep is '0.3'", "a number"]),
        ("keep = true", ["keep is true"]),
        ("max-frames = 8.5", ["a whole number at least 2"]),
        ('quant = "nf5"', ["one of auto, nf4, int8, none", "did you mean nf4"]),
        ("offline = 1", ["true or false"]),
        ("keep = ", ["omnidrop.toml cannot be read"]),
        ("keep = " + "[" * 5000, ["omnidrop.toml cannot be read", "nested too deeply"]),
        ("[ask]\nkeep = 0.3", ["unknown key 'ask'"]),
    ],
)
def test_a_bad_file_is_refused_by_name(text: str, words: list[str]) -> None:
    write_project(text)
    with pytest.raises(UsageError) as caught:
        settings.defaults()
    said = f"{caught.value.message} {caught.value.hint}"
    assert not [word for word in words if word not in said], said


def test_a_file_that_is_not_text_is_refused() -> None:
    Path("omnidrop.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="cannot be read"):
        settings.defaults()


@pytest.mark.parametrize("group", [GenerationFlags, MethodFlags, ModelFlags])
def test_flags_have_the_defaults_that_doctor_shows(group: Any) -> None:
    for field in fields(group):
        if field.name.replace("_", "-") in KEYS:
            assert field.default == KEYS[field.name.replace("_", "-")].default


@pytest.mark.parametrize("name", KEYS)
def test_every_default_is_a_value_its_key_takes(name: str) -> None:
    settings.check(name, KEYS[name].default, "default")


@given(st.floats())
def test_keep_takes_exactly_the_half_open_interval(value: float) -> None:
    assert KEYS["keep"].holds(value) == (0 < value <= 1)


@given(st.integers(-10, 10))
def test_whole_numbers_will_do_for_numbers_but_not_the_reverse(value: int) -> None:
    assert KEYS["temperature"].holds(value) == (0 <= value <= 5)
    assert not KEYS["max-frames"].holds(float(value) + 2)
