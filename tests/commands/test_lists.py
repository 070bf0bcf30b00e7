"""inspect, methods and doctor: their answers are on stdout, for people and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from omnidrop_cli import paths
from omnidrop_cli.commands import doctor
from omnidrop_cli.commands._packages import within
from omnidrop_cli.config import MediaConfig, ModelConfig
from omnidrop_cli.errors import FetchError, MediaError, UsageError
from omnidrop_cli.media.clip import decode_media
from omnidrop_cli.model import gpu_memory
from omnidrop_cli.model.names import resolve
from omnidrop_cli.prompt.counts import count_audio_tokens, count_mel_frames, count_video_tokens
from omnidrop_cli.prune.methods import names
from tests.clips import Clips
from tests.commands.running import Done

Run = Callable[..., Done]


@pytest.mark.parametrize("name", ["speech_video", "silent_video", "wav", "vfr", "portrait"])
@pytest.mark.parametrize("model", ["nano", "7b"])
def test_inspect_tells_what_ask_will_take(omnidrop: Run, clips: Clips, name: str, model: str) -> None:
    value = json.loads(omnidrop("inspect", str(clips[name]), "--json", "--fps", "1", "--model", model).out)
    clip = decode_media(clips[name], resolve(ModelConfig(name=model)).frame_bounds.fill(MediaConfig(fps=1.0)))
    frames = (0, None) if clip.frames is None else (len(clip.frames), list(clip.frames.shape[2:]))
    samples = 0 if clip.waveform is None else len(clip.waveform)
    assert (value["model"], value["frames"], value["frame_size"]) == (model, *frames)
    assert value["audio_s"] == samples / 16_000
    assert value["tokens"]["video"] == (0 if clip.frames is None else count_video_tokens(len(clip.frames), *clip.frames.shape[2:]))
    assert value["tokens"]["audio"] == count_audio_tokens(count_mel_frames(samples))
    assert value["warnings"] == list(clip.warnings)


def test_inspect_for_people(omnidrop: Run, clips: Clips) -> None:
    done = omnidrop("inspect", str(clips["speech_video"]), "--model", "7b")
    assert done.code == 0
    for words in ("h264, 320x180, 10 fps", "aac, 44100 Hz, 2 channels", "12 frames of 448x252 at 2 fps", "keep 0.3", "memory nf4", "7b"):
        assert words in done.out
    assert max(map(len, done.out.splitlines())) <= 80
    assert done.err == ""


def test_inspect_says_what_fits_this_gpu(omnidrop: Run, clips: Clips, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ("inspect", str(clips["speech_video"]), "--model", "7b")
    without = json.loads(omnidrop(*command, "--json").out)
    assert without["gpu"] is None
    assert "longest_s_by_keep" not in without["memory_guess_mb"][0]
    plain = omnidrop(*command).out
    assert "longest" not in plain
    assert without["quant_head_mb"] == {"nf4": -809, "int8": -544}
    assert "--quant-head nf4: 809 MB less; int8: 544 MB less" in plain
    monkeypatch.setattr(gpu_memory, "gpu_memory", lambda: gpu_memory.GpuMemory(free=12_000_000_000, total=12_900_000_000))
    found = json.loads(omnidrop(*command, "--json").out)
    assert found["gpu"] == {"free": 12_000_000_000, "total": 12_900_000_000}
    nf4, _, none = (list(row["longest_s_by_keep"].values()) for row in found["memory_guess_mb"])
    assert 60 < nf4[0] < 600 < nf4[2] < nf4[-1]  # unpruned, at 30 %, at 10 %
    assert not any(none)
    fewer = json.loads(omnidrop(*command, "--json", "--max-frames", "64").out)["memory_guess_mb"][0]["longest_s_by_keep"]
    assert fewer["1"] > nf4[0]
    shown = omnidrop(*command).out
    assert "longest nf4" in shown
    assert "12.0 of the GPU's 12.9 GB are free" in shown
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize(("clip", "words"), [("silent_video", "video tokens"), ("wav", "audio tokens"), ("rotated", "turned by")])
def test_inspect_clips_of_every_kind(omnidrop: Run, clips: Clips, clip: str, words: str) -> None:
    done = omnidrop("inspect", str(clips[clip]))
    assert done.code == 0
    assert words in done.out


def test_more_kept_needs_more_memory(omnidrop: Run, clips: Clips) -> None:
    value = json.loads(omnidrop("inspect", str(clips["speech_video"]), "--json", "--model", "7b").out)
    for row in value["memory_guess_mb"]:
        peaks = list(row["peak_by_keep"].values())
        assert peaks == sorted(peaks, reverse=True)
        assert peaks[-1] > row["weights"]
    by_quant = {row["quant"]: row["weights"] for row in value["memory_guess_mb"] if row["model"] == "7b"}
    assert by_quant["nf4"] < by_quant["int8"] < by_quant["none"]


@pytest.mark.parametrize("clip", ["text_mp4", "empty", "cut_no_index"])
def test_inspect_refuses_what_is_no_clip(omnidrop: Run, clips: Clips, clip: str) -> None:
    assert isinstance(omnidrop("inspect", str(clips[clip])).error, MediaError)


def test_inspect_of_an_address_offline(omnidrop: Run) -> None:
    assert isinstance(omnidrop("inspect", "https://example.invalid/clip.mp4", "--offline").error, FetchError)


def test_methods_lists_every_one(omnidrop: Run) -> None:
    done = omnidrop("methods")
    assert [line.split()[0] for line in done.out.splitlines() if not line.startswith(" ")] == list(names())
    value = json.loads(omnidrop("methods", "--json").out)
    assert [method["name"] for method in value["methods"]] == list(names())


def test_methods_shows_one_with_its_options(omnidrop: Run) -> None:
    done = omnidrop("methods", "omnidrop")
    for words in ("2605.14458", "beta", "default 20.0", "paper-20"):
        assert words in done.out
    assert isinstance(omnidrop("methods", "omnidrip").error, UsageError)
    both = omnidrop("methods", "seats+omnidrop").out
    assert "seats.scale" in both
    assert "omnidrop.beta" in both


def test_doctor_tells_all_and_where_settings_came_from(omnidrop: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("omnidrop.toml").write_text("keep = 0.5")
    monkeypatch.setenv("OMNIDROP_MODEL", "3b")
    done = omnidrop("doctor")
    assert done.code == 0
    for words in ("torch", "ffmpeg", "h264", "0.5 (from omnidrop.toml)", "3b (from OMNIDROP_MODEL)"):
        assert words in done.out
    value = json.loads(omnidrop("doctor", "--json").out)
    assert value["settings"]["keep"] == {"value": 0.5, "origin": "omnidrop.toml"}
    assert value["settings"]["fps"]["origin"] == "default"
    assert value["packages"]["torch"]["version"]
    assert {cache["holds"] for cache in value["caches"]} == {"models", *paths.PLACES}


def test_config_lists_every_settable_option(omnidrop: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("omnidrop.toml").write_text("[profile.work]\nkeep = 0.5")
    monkeypatch.setenv("OMNIDROP_MODEL", "3b")
    value = json.loads(omnidrop("config", "list", "--json", "--profile", "work").out)["settings"]
    assert value["keep"] == {"value": 0.5, "origin": "omnidrop.toml [profile.work]"}
    assert "3b (from OMNIDROP_MODEL)" in omnidrop("config", "list").out
    assert omnidrop("config", "path").out.splitlines() == ["omnidrop.toml", str(paths.config_file())]


def test_help_is_a_command_too(omnidrop: Run) -> None:
    assert omnidrop("help", "ask").out == omnidrop("ask", "--help").out
    assert "--revision" in omnidrop("help", "models", "pull").out


def test_doctor_never_fails(omnidrop: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every probe breaks; a broken settings file lies about too."""

    def broken() -> None:
        raise ImportError("no module named \x1b[31mtorch")

    Path("omnidrop.toml").write_text("kep = 1")
    monkeypatch.setattr(doctor, "PROBES", dict.fromkeys(doctor.PROBES, broken) | {"settings": doctor.PROBES["settings"]})
    done = omnidrop("doctor")
    assert done.code == 0
    assert "ImportError: no module named [31mtorch" in done.out
    assert "unknown key 'kep'" in done.out
    assert json.loads(omnidrop("doctor", "--json").out)["device"]["problem"].startswith("ImportError")


def test_versions_outside_the_tested_range_are_marked() -> None:
    assert within("5.23.1", ">=5.23,<5.25") is True
    assert within("5.25.0", ">=5.23,<5.25") is False
    assert within("2.13.0+cpu", ">=2.9,<2.14") is True
    assert within(None, ">=1") is False
    assert within("1.0", None) is None


def test_the_verdict_on_transformers_is_shown(omnidrop: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from omnidrop_cli.model import self_check

    assert "works (tested)" in omnidrop("doctor").out
    monkeypatch.setattr(self_check, "_installed", lambda: "5.99.0")
    monkeypatch.setitem(self_check.PROBES, "layer loop", lambda _: self_check._expect(False, "results differ by 2"))
    done = omnidrop("doctor")
    assert done.code == 0
    assert "the probe 'layer loop' fails (results differ by 2)" in done.out


def test_cache_sizes_survive_odd_places(tmp_path: Path) -> None:
    assert doctor._size(tmp_path / "nowhere" / "at all") == {"size_mb": 0.0, "exists": False, "writable": True}
    (tmp_path / "blob").write_bytes(b"x" * 2_000_000)
    (tmp_path / "link").symlink_to(tmp_path / "blob")
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    assert doctor._size(tmp_path)["size_mb"] == 2.0


@pytest.mark.parametrize("problem", [None, "RuntimeError: Failed to find C compiler."])
def test_doctor_says_whether_kernels_run_on_a_gpu(problem: str | None) -> None:
    gpu = {"name": "NVIDIA X", "free_mb": 9000, "total_mb": 12000, "capability": "8.9", "bfloat16": True, "kernels_problem": problem}
    lines = list(doctor._device_lines({"threads": 2, "memory_mb": None, "cuda": "13.0", "gpus": [gpu]}))
    assert lines[2] == ("gpu", "NVIDIA X, 9.0 of 12.0 GB free, sm 8.9", False)
    name, text, wants_attention = lines[3]
    assert (name, wants_attention) == ("kernels", problem is not None)
    assert text == "run (Triton)" if problem is None else problem in text
