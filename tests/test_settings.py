"""Settings: who wins, where each value came from, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from omnidrop_cli import paths, settings
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


def values(profile: str | None = None) -> dict[str, object]:
    return {name: setting.value for name, setting in settings.from_files(profile).items()}


def test_default_then_user_then_project_then_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.effective()["model"] == Setting("auto", "default")
    user = write_user('model = "3b"\nfps = 1')
    assert settings.effective()["model"] == Setting("3b", str(user))
    write_project('model = "7b"')
    assert settings.effective()["model"] == Setting("7b", "omnidrop.toml")
    assert settings.effective()["fps"] == Setting(1.0, str(user))
    monkeypatch.setenv("OMNIDROP_MODEL", "nano")
    assert settings.effective()["model"] == Setting("nano", "OMNIDROP_MODEL")


def test_a_profile_stands_between_files_and_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    user = write_user('model = "3b"\n[profile.work]\nmodel = "7b"\nfps = 1\n[profile.other]\nfps = 3')
    write_project("fps = 4\n[profile.work]\nfps = 5")
    assert values() == {"model": "3b", "fps": 4.0}
    assert settings.from_files("work")["fps"] == Setting(5.0, "omnidrop.toml [profile.work]")
    assert settings.from_files("work")["model"] == Setting("7b", f"{user} [profile.work]")
    assert values("other") == {"model": "3b", "fps": 3.0}
    assert settings.profiles() == {"work": ["omnidrop.toml", str(user)], "other": [str(user)]}
    monkeypatch.setenv("OMNIDROP_PROFILE", "work")
    assert settings.given()["model"].value == "7b"
    assert settings.given("other")["model"].value == "3b"
    monkeypatch.setenv("OMNIDROP_MODEL", "nano")
    assert settings.given()["model"].value == "nano"


def test_keys_may_be_spelled_as_flags_or_as_parameters() -> None:
    write_project("max-frames = 8\nmax_new_tokens = 9")
    assert values() == {"max-frames": 8, "max-new-tokens": 9}


def test_former_names_work_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    write_project("same-within = 1")
    found = settings.given()["dedup-threshold"]
    assert found.value == 1.0
    assert found.notice == "omnidrop.toml: same-within is deprecated; the key is dedup-threshold"
    monkeypatch.setenv("OMNIDROP_SAME_WITHIN", "2")
    assert settings.given()["dedup-threshold"].notice == "OMNIDROP_SAME_WITHIN is deprecated; the variable is OMNIDROP_DEDUP_THRESHOLD"
    monkeypatch.setenv("OMNIDROP_DEDUP_THRESHOLD", "3")
    assert settings.given()["dedup-threshold"] == Setting("3", "OMNIDROP_DEDUP_THRESHOLD")


def test_a_stronger_layer_replaces_keep_by_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    write_user("keep = 0.5")
    write_project('preset = "paper-20"\n[profile.a]\nkeep = 0.1')
    assert values() == {"preset": "paper-20"}
    assert values("a") == {"keep": 0.1}
    monkeypatch.setenv("OMNIDROP_KEEP", "0.4")
    assert set(settings.given()) == {"keep"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kep = 0.3", ["omnidrop.toml", "unknown key 'kep'", "did you mean keep"]),
        ("keep = 3", ["omnidrop.toml: keep is 3", "at most 1"]),
        ("keep = 30", ["a fraction", "30 % is 0.3"]),
        ("keep = 0", ["above 0"]),
        ("keep = nan", ["above 0"]),
        ("fps = inf", ["omnidrop.toml: fps is inf"]),
        ('keep = "0.3"', ["keep is '0.3'", "a number"]),
        ("keep = true", ["keep is true"]),
        ("max-frames = 8.5", ["a whole number at least 2"]),
        ("min-pixels = 5", ["a whole number at least 784"]),
        ('quant = "nf5"', ["one of auto, nf4, int8, none", "did you mean nf4"]),
        ("offline = 1", ["true or false"]),
        ("keep = ", ["omnidrop.toml cannot be read"]),
        ("keep = " + "[" * 5000, ["omnidrop.toml cannot be read"]),
        ("[ask]\nkeep = 0.3", ["unknown key 'ask'"]),
        ("profile = 1", ["not a table of tables"]),
        ("[profile.a]\nkeep = 3", ["omnidrop.toml [profile.a]: keep is 3"]),
        ("[profile.b]\nkeep = 0.3", ["there is no profile 'a'", "the profiles: b"]),
    ],
)
def test_a_bad_file_is_refused_by_name(text: str, words: list[str]) -> None:
    write_project(text)
    with pytest.raises(UsageError) as caught:
        settings.from_files("a" if "profile" in text else None)
    said = f"{caught.value.message} {caught.value.hint}"
    assert not [word for word in words if word not in said], said


def test_a_byte_order_mark_is_passed_over() -> None:
    write_project("\ufeffkeep = 0.2")
    assert settings.from_files()["keep"].value == 0.2


def test_a_file_that_is_not_text_is_refused() -> None:
    Path("omnidrop.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="cannot be read"):
        settings.from_files()


def test_a_variable_is_read_by_its_options_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text, value in (("keep", "0.4", 0.4), ("offline", "yes", True), ("max-frames", "9", 9), ("table", "off", False)):
        monkeypatch.setenv(KEYS[name].variable, text)
        assert settings.value_of(KEYS[name], settings.effective()[name]) == value
    monkeypatch.setenv("OMNIDROP_KEEP", "7")
    with pytest.raises(UsageError, match="OMNIDROP_KEEP is 7"):
        settings.value_of(KEYS["keep"], settings.effective()["keep"])


@pytest.mark.parametrize("name", KEYS)
def test_every_default_is_a_value_its_key_takes(name: str) -> None:
    assert KEYS[name].check(KEYS[name].default, name) == KEYS[name].default


def test_the_default_share_that_the_help_shows_is_the_methods() -> None:
    from omnidrop_cli.prune.budget import DEFAULT_KEEP

    assert KEYS["keep"].shown == f"{DEFAULT_KEEP:g}"
