"""Names and options become methods, and a user's mistakes become one line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

from omnidrop_cli.commands import _exit
from omnidrop_cli.config import PruningConfig
from omnidrop_cli.errors import UsageError
from omnidrop_cli.prune import methods
from omnidrop_cli.prune.methods import describe, describe_all, get_method, names, parts
from omnidrop_cli.prune.methods.omnidrop import OmniDrop
from omnidrop_cli.prune.methods.random import Random


def test_options_become_values_of_their_type() -> None:
    given = {"tds-layer": "9", "use_tds": "off", "lambda_div": "0.5", "rows": "last", "audio_keep": "none"}
    method = get_method(PruningConfig("omnidrop", keep=0.25, options=given))
    assert method == OmniDrop(keep=0.25, tds_layer=9, use_tds=False, lambda_div=0.5, queries="last")


def test_seed_and_preset_arrive() -> None:
    assert get_method(PruningConfig("random", seed=7)) == Random(seed=7)
    assert get_method(PruningConfig("omnidrop", preset="paper-20", options={"t_mid": "0.6"})) == OmniDrop(
        calibration="paper-20", input_stage="paper", t_mid=0.6
    )


@pytest.mark.parametrize(
    ("choice", "message", "hint"),
    [
        (lambda: PruningConfig("omnidrp"), "unknown method 'omnidrp'", "omnidrop"),
        (lambda: PruningConfig("xyzzy"), "unknown method 'xyzzy'", "omnidrop methods"),
        (lambda: PruningConfig("omnidrop", preset="paper-3"), "no preset 'paper-3'", "paper-30"),
        (lambda: PruningConfig("none", preset="x"), "no preset 'x'", "none"),
        (lambda: PruningConfig("omnidrop", keep=0.3, preset="paper-30"), "`keep` and `preset`", "one of them"),
        (lambda: PruningConfig("omnidrop", keep=0.0), "keep is 0", "0.3"),
        (lambda: PruningConfig("omnidrop", keep=2.0), "keep is 2", "0.3"),
        (lambda: PruningConfig("omnidrop", keep=float("nan")), "keep is nan", "0.3"),
        (lambda: PruningConfig("none", keep=0.5), "none has no `keep`", "methods"),
        (lambda: PruningConfig("omnidrop", options={"lamda": "1"}), "no option 'lamda'", "lambda_div"),
        (
            lambda: PruningConfig("omnidrop", options={"lambda_div": "much"}),
            "lambda_div is 'much'; it must be a number",
            "the default is 0.2",
        ),
        (lambda: PruningConfig("omnidrop", options={"lambda_div": "-1"}), "lambda_div is -1; it must be a number at least 0", ""),
        (lambda: PruningConfig("omnidrop", options={"lambda_div": "nan"}), "lambda_div is nan", ""),
        (lambda: PruningConfig("omnidrop", options={"audio_keep": "0"}), "audio_keep is 0; it must be a number above 0 and at most 1", ""),
        (lambda: PruningConfig("omnidrop", options={"tds_layer": "1.5"}), "tds_layer is '1.5'; it must be a whole number", ""),
        (lambda: PruningConfig("omnidrop", options={"rows": "first"}), "one of query, last, text", "the default is query"),
        (lambda: PruningConfig("omnidrop", options={"use_tds": "maybe"}), "true or false", ""),
        (lambda: PruningConfig("omnidrop", options={"keep": "0.2"}), "keep is not a method option", "`keep`"),
        (lambda: PruningConfig("omnidrop", keep=0.2, options={"calibration": "paper-30"}), "and so does keep", "one of them"),
    ],
)
def test_mistakes_are_one_line_with_a_hint(choice: Callable[[], PruningConfig], message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        get_method(choice())
    assert message in caught.value.message
    assert "\n" not in caught.value.message
    assert hint in (caught.value.hint or "")


def test_none_takes_keep_1() -> None:
    get_method(PruningConfig("none", keep=1.0))


def test_every_method_describes_itself() -> None:
    described = json.loads(json.dumps(describe_all()))
    assert [entry["name"] for entry in described] == list(names())
    for entry in described:
        assert entry["summary"]
        assert all(option["help"] for option in entry["options"])


def test_methods_read_the_attention_that_their_papers_read() -> None:
    for name, expected in (
        ("omnidrop", {"audio_attention_clip"}),
        ("omnizip", {"audio_attention_clip"}),
        ("dash", {"audio_attention_clip"}),
        ("seats", {"audio_attention", "video_attention"}),
        ("seats+omnidrop", {"audio_attention", "video_attention"}),
        ("divprune", set()),
    ):
        assert get_method(PruningConfig(name)).needs == expected
    assert get_method(PruningConfig("omnidrop", options={"audio_scope": "window"})).needs == {"audio_attention"}


def test_presets_can_be_made() -> None:
    for entry in describe_all():
        for preset in entry["presets"]:
            get_method(PruningConfig(entry["name"], preset=preset))


def test_naming_methods_imports_no_torch() -> None:
    code = "import sys; from omnidrop_cli.prune import methods; methods.names(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    def offering(name: str, value: str) -> None:
        points = EntryPoints([EntryPoint(name, value, methods.GROUP)])
        monkeypatch.setattr(methods, "entry_points", lambda group: points)
        methods._offered.cache_clear()

    yield offering
    methods._offered.cache_clear()


def test_another_package_offers_a_method(offer) -> None:  # type: ignore[no-untyped-def]
    offer("theirs", "omnidrop_cli.prune.methods.random:RandomAtInput")
    assert names()[-1] == "theirs"
    assert get_method(PruningConfig("theirs", keep=0.5)).name == "random-input"


@pytest.mark.parametrize("value", ["not_a_module:X", "omnidrop_cli.prune.topk:Nope", "omnidrop_cli.prune.topk:top", ":::", "plugged:M"])
def test_a_broken_plugin_is_a_clear_error_and_takes_no_other_down(offer, value: str) -> None:  # type: ignore[no-untyped-def]
    offer("broken", value)
    with pytest.raises(UsageError, match="'broken'"):
        get_method(PruningConfig("broken"))
    said: list[str] = []
    assert [one["name"] for one in describe_all(said.append)] == [*methods._BUILT_IN]
    assert ["'broken'" in line for line in said] == [True]


@pytest.mark.parametrize("body", ["raise ValueError('no GPU')", "def (", "import sys; sys.exit(0)", "class M: presets = 5"])
def test_a_plugin_may_fail_in_any_way(offer, body: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "plugged.py").write_text(body)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "plugged", raising=False)
    offer("broken", "plugged:M")
    with pytest.raises(UsageError, match="'broken'"):
        get_method(PruningConfig("broken"))


def test_what_a_plugin_does_wrong_is_called_its_own(offer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "plugged.py").write_text(
        "from omnidrop_cli.prune.methods.none import Unpruned\nprint('hello')\n"
        "class M(Unpruned):\n    def plan(self, prompt):\n        raise prompt\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "plugged", raising=False)
    offer("theirs", "plugged:M")
    method = get_method(PruningConfig("theirs"))
    assert capsys.readouterr() == ("", "hello\n"), "stdout holds answers"
    for error in (KeyError("x"), SystemExit(0)):
        assert _exit._run(lambda *_, error=error, **__: method.plan(error), []) == 1
        assert f"error: method 'theirs' of plugged failed: {type(error).__name__}" in capsys.readouterr().err


def test_a_plugin_cannot_replace_a_built_in(offer) -> None:  # type: ignore[no-untyped-def]
    offer("omnidrop", "omnidrop_cli.prune.methods.random:Random")
    assert isinstance(get_method(PruningConfig("omnidrop")), OmniDrop)


def test_a_name_consists_of_one_method_or_two() -> None:
    assert parts("seats") == ("seats",)
    assert parts("seats+omnidrop") == ("seats", "omnidrop")
    for name, words in (("seats+", "unknown method ''"), ("seats+omnidrip", "'omnidrip'"), ("a+b+c", "is not two methods")):
        with pytest.raises(UsageError) as caught:
            parts(name)
        assert words in caught.value.message
    with pytest.raises(UsageError, match="drops nothing inside"):
        describe("seats+omnizip")


def test_every_option_of_a_composition_is_accepted_by_the_name_it_is_described_with() -> None:
    described = describe("seats+omnidrop")
    assert described["options"][0]["name"] == "keep"
    for option in described["options"][1:]:
        if option["name"].rpartition(".")[2] in ("audio_keep", "video_keep", "p_final", "calibration"):
            continue  # a composition shares the budget
        value = "none" if option["default"] is None else str(option["default"]).lower()
        get_method(PruningConfig("seats+omnidrop", keep=0.3, options={option["name"]: value}))


RANGES = {
    "omnidrop": {
        "audio_keep": ((0.01, 1), (0, 1.01)),
        "video_keep": ((0.01, 1), (0, 1.01)),
        "p_init": ((0, 0.9), (-0.01, 0.91)),
        "p_final": ((0, 0.9), (-0.01, 0.91)),
        "t_mid": ((0, 1), (-0.01, 1.01)),
        "beta": ((0.1, 1000), (0, 1000.1)),
        "tds_layer": ((0, 5), (-1,)),
        "lambda_div": ((0, 5.5), (-0.1,)),
    },
    "omnizip": {"contextual": ((0, 0.5), (-0.01, 0.51)), "merge": ((0, 100), (-1, 101))},
    "dash": {
        "threshold": ((-1, 1), (-1.01, 1.01)),
        "min_segment": ((1, 500), (0,)),
        "contextual": ((0, 0.5), (-0.01, 0.51)),
        "merge": ((0, 100), (-1, 101)),
    },
    "seats": {"scale": ((1, 3), (0.99, 3.01)), "temperature": ((0.01, 5), (0,))},
    "fastv": {"layer": ((1, 5), (0,)), "ratio": ((0.01, 1), (0, 1.01))},
    "divprune": {"time_decay": ((0, 100), (-0.1,))},
    "omniblend": {"time_decay": ((0, 100), (-0.1,))},
}
"""Method and option: values that are taken, and values that are refused."""


@pytest.mark.parametrize(("name", "option"), [(name, option) for name, options in RANGES.items() for option in options])
def test_options_are_taken_inside_their_range_and_refused_outside(name: str, option: str) -> None:
    taken, refused = RANGES[name][option]
    for value in taken:
        get_method(PruningConfig(name, options={option: value}))
    for value in refused:
        with pytest.raises(UsageError, match=f"{option} is {value}"):
            get_method(PruningConfig(name, options={option: value}))


def test_defaults_are_the_published_constants() -> None:
    """Sources are in each method's docstring; omniblend's decay is ours (docs/results)."""
    found = {entry["name"]: {one["name"]: one["default"] for one in entry["options"]} for entry in describe_all()}
    for name, expected in {
        "omnidrop": {"beta": 20.0, "lambda_div": 0.2, "use_plp": True, "use_tds": True, "normalise": False},
        "omnizip": {"contextual": 0.05, "merge": 3},
        "seats": {"scale": 1.4, "temperature": 0.1, "late": True},
        "dash": {"threshold": 0.4, "min_segment": 30, "contextual": 0.05, "merge": 3},
        "fastv": {"layer": 2},
        "divprune": {"time_decay": 0.0},
        "omniblend": {"time_decay": 4.0},
        "random": {"seed": 0},
    }.items():
        assert {option: found[name][option] for option in expected} == expected
