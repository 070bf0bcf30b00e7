"""Options as they are declared: types, bounds and choices, from Python values and from texts."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnidrop_cli.config import FetchConfig, GenerationConfig, MediaConfig, ModelConfig, PruningConfig, Request
from omnidrop_cli.errors import UsageError
from omnidrop_cli.options import Option, option, options_of, restored, seconds

CONFIGS = (MediaConfig, FetchConfig, ModelConfig, PruningConfig, GenerationConfig)

EDGES: list[tuple[type, str, list[Any], list[Any]]] = [
    (MediaConfig, "start_s", [0, 0.0, 90], [-0.1, math.inf, math.nan, "90", True, None, 10**400]),
    (MediaConfig, "end_s", [None, 0.1, 90], [0, -1, math.inf]),
    (MediaConfig, "fps", [0.01, 1, 120], [0, -1, 120.5, math.inf, math.nan]),
    (MediaConfig, "min_frames", [2, 4], [1, 0, 2.0, True]),
    (MediaConfig, "max_frames", [4, 10_000], [1, 3.5, math.inf, 10**400]),
    (MediaConfig, "min_pixels", [None, 784], [5, 783, 0, 1e3, 2**27 + 1]),
    (MediaConfig, "max_pixels", [None, 784], [783, -1, 2**27 + 1]),
    (MediaConfig, "dedup_threshold", [0, 0.5, 255], [-1, 256, math.nan]),
    (MediaConfig, "use_audio", [True, False], [1, "yes", None]),
    (ModelConfig, "quant", ["auto", "nf4", "int8", "none"], ["int3", "", None, 4]),
    (ModelConfig, "quant_head", ["nf4", "int8", "none"], ["auto", "", None]),
    (ModelConfig, "dtype", ["auto", "bfloat16", "float16", "float32"], ["float8"]),
    (ModelConfig, "attention", ["sdpa", "flash_attention_2"], ["eager"]),
    (ModelConfig, "revision", [None, "main"], [1]),
    (ModelConfig, "offline", [True, False], [0]),
    (PruningConfig, "keep", [None, 1e-9, 0.3, 1], [0, -0.1, 1.1, 30, math.inf, math.nan, "0.3"]),
    (PruningConfig, "seed", [0, 2**63 - 1], [-1, 2**63, 1.5]),
    (GenerationConfig, "seed", [0, 2**63 - 1], [-1, 2**63]),
    (GenerationConfig, "max_new_tokens", [1, 100_000], [0, -1, 2.5]),
    (GenerationConfig, "temperature", [0, 0.01, 1, 5], [1e-38, 0.009, -1, 5.1, math.inf, math.nan]),
    (GenerationConfig, "top_p", [0.1, 1], [0, 1.1]),
    (GenerationConfig, "repetition_penalty", [0.1, 1, 5], [0, 5.1, math.inf]),
    (GenerationConfig, "prompt_lookup", [0, 7], [-1, 8, 1.5, True]),
    (GenerationConfig, "stop", [(), ("a", "b")], ["a", (1,), 3]),
]
"""Config, field, values it takes, values it refuses."""


@pytest.mark.parametrize(("config", "field", "good", "bad"), EDGES, ids=lambda value: value if isinstance(value, str) else "")
def test_a_config_takes_and_refuses(config: type, field: str, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        assert getattr(config(**{field: value}), field) == value
    for value in bad:
        with pytest.raises(UsageError) as caught:
            config(**{field: value})
        assert caught.value.message.startswith(f"{options_of(config)[field].python_name} ")
        assert "--" not in f"{caught.value.message} {caught.value.hint}", "a library user gives parameters, not flags"


def test_every_option_has_edges_or_takes_any_text() -> None:
    tested = {(config, field) for config, field, *_ in EDGES}
    for config in CONFIGS:
        for name, one in options_of(config).items():
            assert (config, name) in tested or one.kind in (str, bool), name
            assert one.help.endswith("."), name


@pytest.mark.parametrize("config", CONFIGS)
def test_defaults_are_values_and_floats_are_floats(config: type) -> None:
    made = config()
    for name, one in options_of(config).items():
        assert one.kind is not float or getattr(made, name) is None or isinstance(getattr(made, name), float)
    assert {field.name for field in fields(config)} == set(options_of(config))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"use_audio": False, "use_video": False}, "leave nothing"),
        ({"start_s": 9, "end_s": 9}, "is not after"),
        ({"min_frames": 9, "max_frames": 8}, "`min_frames` is 9"),
        ({"min_pixels": 2000, "max_pixels": 1000}, "`min_pixels` is 2000"),
    ],
)
def test_a_part_that_cannot_be_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        MediaConfig(**values)
    assert words in caught.value.message


def test_keep_and_preset_are_one_budget() -> None:
    with pytest.raises(UsageError, match="both set the budget"):
        PruningConfig(keep=0.3, preset="paper-30")


@pytest.mark.parametrize(
    ("least", "most", "expected"),
    [(None, None, (100, 200)), (300, None, (300, 300)), (None, 90, (22.5, 90)), (150, None, (150, 200)), (None, 150, (100, 150))],
)
def test_a_given_pixel_bound_moves_the_models_other_one(least: int | None, most: int | None, expected: tuple[float, float]) -> None:
    scale = 784
    given = MediaConfig(min_pixels=least and least * scale, max_pixels=most and most * scale).with_bounds(100 * scale, 200 * scale)
    assert (given.min_pixels, given.max_pixels) == tuple(bound * scale for bound in expected)


# ---------------------------------------------------------------- texts

KEEP, FPS, QUANT = options_of(PruningConfig)["keep"], options_of(MediaConfig)["fps"], options_of(ModelConfig)["quant"]


@pytest.mark.parametrize(
    ("one", "text", "words"),
    [
        (KEEP, "30", ["--x is 30", "30 % is 0.3"]),
        (KEEP, "x", ["--x is 'x'", "a number above 0 and at most 1"]),
        (KEEP, "Infinity", ["--x is inf"]),
        (FPS, "fast", ["--x is 'fast'", "the default is 2"]),
        (QUANT, "nf5", ["one of auto, nf4, int8, none", "did you mean nf4?"]),
        (options_of(GenerationConfig)["temperature"], "1e-38", ["0, or a number at least 0.01 and at most 5"]),
        (options_of(MediaConfig)["start_s"], "soon", ["a time: seconds (90)"]),
        (options_of(ModelConfig)["offline"], "maybe", ["true or false"]),
        (options_of(MediaConfig)["max_frames"], "8.5", ["a whole number at least 2"]),
    ],
)
def test_a_wrong_text_is_refused_by_the_name_it_was_given_under(one: Option, text: str, words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        one.parse(text, "--x")
    said = f"{caught.value.message} | {caught.value.hint}"
    assert not [word for word in words if word not in said], said


def test_the_hint_says_what_an_option_without_a_default_is() -> None:
    with pytest.raises(UsageError, match="a whole number at least 1") as caught:
        Option("limit", int, optional=True, default=None, help="Ask at most N.", low=1).parse("0", "--limit")
    assert caught.value.hint == "Ask at most N."


@given(st.floats())
def test_keep_takes_exactly_the_half_open_interval(value: float) -> None:
    try:
        PruningConfig(keep=value)
    except UsageError:
        assert not 0 < value <= 1
    else:
        assert 0 < value <= 1


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_survives_its_text(value: float) -> None:
    assert Option("x", float, 0.0).parse(repr(value), "x") == value


@given(st.integers(0, 59), st.integers(0, 59), st.integers(0, 99))
def test_times_read_as_clocks_show_them(hours: int, minutes: int, hundredths: int) -> None:
    assert seconds(f"{hours}:{minutes:02d}:07.{hundredths:02d}") == pytest.approx(hours * 3600 + minutes * 60 + 7 + hundredths / 100)
    assert seconds(f"{minutes}:07") == minutes * 60 + 7
    assert seconds(f"{hundredths}.5") == hundredths + 0.5


@pytest.mark.parametrize("text", ["", "-1", "1:2:3:4", "1:-2", "1.5:00", "1e3", "inf", ".", "1:", "٣:00:x"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError):
        seconds(text)


def test_plain_dataclass_fields_are_options_too() -> None:
    """A plugin's method may declare its options without bounds."""

    @dataclass(frozen=True)
    class Theirs:
        depth: int = 3
        weight: float | None = option(None, "weight", low=0)
        anything: object = None

    found = options_of(Theirs)  # type: ignore[arg-type]
    assert set(found) == {"depth", "weight"}
    assert found["depth"].parse("5", "depth") == 5
    assert found["weight"].parse("none", "weight") is None


def test_a_config_of_an_earlier_run_is_understood() -> None:
    assert restored(MediaConfig, {"fps": 1, "same_within": 2, "gone": 3}) == MediaConfig(fps=1, dedup_threshold=2)
    assert restored(MediaConfig, asdict(MediaConfig(fps=3))) == MediaConfig(fps=3)
    with pytest.raises(UsageError):
        restored(MediaConfig, {"fps": -1})


@pytest.mark.parametrize("values", [{"stop": ("caf\udce9",)}, {"choices": ("a", "caf\udce9")}])
def test_words_for_the_model_are_text(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="not text"):
        GenerationConfig(**values)
    with pytest.raises(UsageError, match="--system holds bytes that are not text"):
        options_of(Request)["system"].parse("caf\udce9", "--system")
