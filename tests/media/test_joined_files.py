"""Files of real encoders joined by `cat`: of other rates and channels, with unknown sizes, with a part that was cut. All parts are read."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from omnidrop_cli.config import MediaConfig
from omnidrop_cli.media.clip import decode_media, plan_clip
from tests.media.cases import tone

PARTS = ((440, 44_100, 1), (880, 22_050, 2), (1500, 16_000, 1))
"""Hertz, sample rate and channels of each part, 1.5 s long."""

SECONDS = 1.5
KINDS = {
    "caf": [],
    "au": [],
    "tta": [],
    "flac": [],
    "wv": [],
    "wav": [],
    "aiff": [],
    "alac.caf": ["-c:a", "alac", "-f", "caf"],
    "ulaw.au": ["-c:a", "pcm_mulaw", "-f", "au"],
}
PIPED = ("caf", "au", "ulaw.au", "flac", "wav")
"""Encoders that write to a pipe, and then leave the sizes open."""


def encoded(kind: str, piped: bool) -> list[bytes]:
    parts = []
    for hertz, rate, channels in PARTS:
        words = [*tone(SECONDS, hertz, rate), "-ac", str(channels), *(KINDS[kind] or ["-f", kind])]
        target = ["pipe:1"] if piped else ["-y", f"part.{kind}"]
        done = subprocess.run(["ffmpeg", "-v", "error", "-nostdin", *words, *target], check=True, capture_output=True)
        parts.append(done.stdout if piped else Path(f"part.{kind}").read_bytes())
    return parts


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def loudest_hertz(samples: np.ndarray) -> float:
    return float(np.argmax(np.abs(np.fft.rfft(samples * np.hanning(len(samples))))) * 16_000 / len(samples))


def nearest(hertz: float) -> int:
    """The tone of `PARTS` that is meant."""
    return min((known for known, *_ in PARTS), key=lambda known: abs(known - hertz))


def heard(data: bytes) -> tuple[float, list[int], tuple[str, ...]]:
    """Seconds, the tone of every third of a second, and the warnings."""
    Path("joined").write_bytes(data)
    clip, plan = decode_media("joined", MediaConfig()), plan_clip("joined", MediaConfig())
    assert clip.waveform is not None
    assert len(clip.waveform) == plan.samples
    third = 16_000 // 3
    tones = [round(loudest_hertz(clip.waveform[at : at + third]), -1) for at in range(0, len(clip.waveform) - third + 1, third)]
    return (
        len(clip.waveform) / 16_000,
        [min((hertz for hertz, *_ in PARTS), key=lambda known: abs(known - one)) for one in tones],
        clip.warnings,
    )


@pytest.mark.parametrize(("kind", "piped"), [*((kind, False) for kind in KINDS), *((kind, True) for kind in PIPED)])
def test_every_part_is_heard(kind: str, piped: bool) -> None:
    parts = encoded(kind, piped)
    seconds, tones, warnings = heard(b"".join(parts))
    filled_s = 0.2 if kind == "alac.caf" else 0.03  # of the last packet of each part, 4,096 samples long
    assert seconds == pytest.approx(3 * SECONDS, abs=3 * filled_s)
    assert [tones[at] for at in (1, 2, 6, 7, 10, 11)] == [440, 440, 880, 880, 1500, 1500]
    assert "this file is 3 files one behind the other: all are used" in warnings
    assert not any("damaged" in warning or "breaks off" in warning for warning in warnings)
    for one in parts[:2]:
        alone, _, said = heard(one)
        assert alone == pytest.approx(SECONDS, abs=filled_s)
        assert not any("one behind the other" in warning for warning in said)


@pytest.mark.parametrize("kind", ["caf", "au", "tta", "flac", "wv", "wav", "aiff"])
@pytest.mark.parametrize("cut", [0, 1])
def test_a_part_that_was_cut_takes_no_other_with_it(kind: str, cut: int) -> None:
    parts = encoded(kind, piped=False)
    parts[cut] = parts[cut][: len(parts[cut]) // 2]
    _, tones, _ = heard(b"".join(parts))
    whole = [hertz for number, (hertz, *_) in enumerate(PARTS) if number != cut]
    assert [tones.count(hertz) >= 4 for hertz in whole] == [True, True]


@pytest.mark.parametrize("first", [0, 1], ids=["whole", "cut"])
def test_ivf(first: int) -> None:
    parts = []
    for source in ("testsrc2", "smptebars"):
        words = ["-f", "lavfi", "-i", f"{source}=size=112x112:rate=10:duration=2", "-c:v", "libvpx", "-f", "ivf"]
        parts.append(
            subprocess.run(["ffmpeg", "-v", "error", "-nostdin", *words, "-y", "p.ivf"], check=True) and Path("p.ivf").read_bytes()
        )
    Path("joined").write_bytes(parts[0][: -3000 * first or None] + parts[1])
    clip = decode_media("joined", MediaConfig(min_pixels=112 * 112, max_pixels=112 * 112))
    assert clip.frames is not None
    rows = clip.frames[-1][:, 10:50].astype(int)
    assert np.abs(rows - rows[:, :1]).mean() < 12  # bars are equal along their columns
    assert clip.duration_s == pytest.approx(4.0, abs=0.05) or first
    assert 2 < clip.duration_s <= 4
