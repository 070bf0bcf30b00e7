"""Sound from any file lies where it belongs in time, at 16 kHz, mono, nothing cut."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from omnidrop_cli.config import MediaConfig
from omnidrop_cli.media import audio
from omnidrop_cli.media.audio import read_audio
from omnidrop_cli.media.clip import decode_media
from omnidrop_cli.media.probe import scan
from tests import clips as make
from tests import signals
from tests.clips import Clips
from tests.signals import onsets

DEFAULT = MediaConfig()


def heard(path: Path, **options: float) -> np.ndarray:
    waveform = decode_media(path, MediaConfig(**options)).waveform  # type: ignore[arg-type]
    assert waveform is not None
    return waveform


@pytest.mark.parametrize("name", ["tone_video", "webm", "mkv", "mov", "surround", "stereo_wav", "cover_mp3", "sound_longer"])
def test_bursts_lie_on_the_second(clips: Clips, name: str) -> None:
    waveform = heard(clips[name])
    found = onsets(waveform, threshold=0.05)
    assert found == pytest.approx(list(range(1, len(found) + 1)), abs=0.01)
    assert found
    assert waveform.dtype == np.float32
    assert np.abs(waveform).max() <= 1.0


def test_a_late_sound_track_is_late(clips: Clips) -> None:
    """Its bursts lie at whole seconds of the track, and the track begins at 1.5 s."""
    assert onsets(heard(clips["delayed_audio"])) == pytest.approx([2.5, 3.5, 4.5], abs=0.03)
    assert onsets(heard(clips["delayed_audio"], start_s=1.0)) == pytest.approx([1.5, 2.5, 3.5], abs=0.03)
    assert onsets(heard(clips["delayed_audio"], start_s=2.0, end_s=4.0)) == pytest.approx([0.5, 1.5], abs=0.03)


@pytest.mark.parametrize("name", ["tone_video", "cover_mp3", "stereo_wav", "long_audio"])
@pytest.mark.parametrize("start_s", [0.25, 0.9, 1.7])
def test_a_stretch_equals_the_cut_whole(clips: Clips, name: str, start_s: float) -> None:
    whole = heard(clips[name])[round(start_s * 16_000) : round((start_s + 1.5) * 16_000)]
    part = heard(clips[name], start_s=start_s, end_s=start_s + 1.5)
    assert abs(len(part) - len(whole)) <= 1
    count = min(len(part), len(whole))
    assert np.abs(part[200:count] - whole[200:count]).max() < 0.02


@pytest.mark.parametrize(("suffix", "codec"), [("mp3", "libmp3lame"), ("ogg", "libopus"), ("webm", "libopus"), ("ogg", "libvorbis")])
def test_what_an_encoder_added_is_not_heard(tmp_path: Path, suffix: str, codec: str) -> None:
    """Encoders fill their first and last packets; the container says with how many samples."""
    path = tmp_path / f"a.{suffix}"
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "sine=440:sample_rate=48000:d=2.5", "-c:a", codec, str(path)]
    subprocess.run(command, check=True)
    assert len(heard(path)) == pytest.approx(2.5 * 16_000, abs=16)


def test_the_last_packet_of_aac_is_heard_as_its_decoder_gives_it(tmp_path: Path) -> None:
    """mp4 says that it ends with the recording; every player plays the 1,024 samples that it holds."""
    path = tmp_path / "a.m4a"
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "sine=440:sample_rate=48000:d=2.5", "-c:a", "aac", str(path)]
    subprocess.run(command, check=True)
    packets = -(-(120_000 + 1024) // 1024)
    assert len(heard(path)) == pytest.approx((packets - 1) * 1024 / 3, abs=2)


@pytest.mark.parametrize("name", ["tone_video", "webm", "cover_mp3"])
def test_frames_that_a_decoder_gives_late_lie_at_their_own_time_stamps(clips: Clips, name: str) -> None:
    """Some decoders give a packet's frame when they are fed the next packet."""
    track = scan(clips[name]).timeline.audio
    assert track is not None

    def times(behind: int) -> dict[int, float]:
        found, waiting = {}, []
        with av.open(str(clips[name])) as container:
            stream = container.streams.audio[0]
            for number, packet in enumerate(container.demux(stream)):
                if packet.size:
                    waiting.append(stream.codec_context.decode(packet))
                    late = waiting.pop(0) if len(waiting) > behind else []
                    decoder = SimpleNamespace(codec_context=SimpleNamespace(decode=lambda _, late=late: late), time_base=stream.time_base)
                    found |= {frame.pts: at_s for at_s, frame in audio._decoded(decoder, packet, track, number)}
        return found

    prompt, late = times(0), times(1)
    assert len(late) > 20
    assert late == pytest.approx({stamp: prompt[stamp] for stamp in late}, abs=1e-3)


def test_frames_without_time_stamps_follow_each_other(clips: Clips) -> None:
    track = scan(clips["tone_video"]).timeline.audio
    assert track is not None
    frames = [SimpleNamespace(pts=None, samples=480, sample_rate=48_000), SimpleNamespace(pts=None, samples=960, sample_rate=48_000)] * 2
    decoder = SimpleNamespace(codec_context=SimpleNamespace(decode=lambda _: frames), time_base=1)
    times = [at_s for at_s, _ in audio._decoded(decoder, "a packet", track, 5)]
    assert times == pytest.approx(float(track.heard_s[5]) + np.array([0, 0.01, 0.03, 0.04]))
    drained = [at_s for at_s, _ in audio._decoded(decoder, None, track, 5)]
    assert drained == pytest.approx(float(track.ends_s[5]) + np.array([0, 0.01, 0.03, 0.04]))


def test_packets_that_the_scan_did_not_see_are_left_out(clips: Clips) -> None:
    """A file may grow between scan and decoding. The others lie where they did."""
    found = scan(clips["stereo_wav"])
    track = found.timeline.audio
    assert track is not None
    known = np.ones(len(track), bool)
    at = int(np.searchsorted(track.heard_s, 1.0))  # a burst
    known[at : at + 3] = False
    fewer = replace(track, **{name: getattr(track, name)[known] for name in ("times_s", "heard_s", "ends_s", "part", "pts", "size")})
    samples = round(track.end_s * 16_000)
    whole, part = (read_audio(found.source, one, 0.0, samples).samples for one in (track, fewer))
    first, behind = round(track.heard_s[at] * 16_000), round(track.heard_s[at + 3] * 16_000)
    assert not part[first + 50 : behind - 50].any()
    assert np.abs(whole[first:behind]).max() > 0.01
    assert np.abs(part[: first - 50] - whole[: first - 50]).max() < 1e-3
    assert np.abs(part[behind + 50 :] - whole[behind + 50 :]).max() < 1e-3


@pytest.mark.parametrize("name", ["mkv", "webm"])
def test_a_stretch_of_matroska_is_exact_to_its_clock(clips: Clips, name: str) -> None:
    """Matroska counts in milliseconds: sixteen samples."""
    assert onsets(heard(clips[name], start_s=1.7, end_s=3.9)) == pytest.approx([0.3, 1.3], abs=0.003)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("channels", [1, 2])
def test_every_sample_format_has_the_same_level(tmp_path: Path, subtype: str, channels: int) -> None:
    levels = np.repeat(np.array([0.0, 0.5, -0.5, -1.0]), 4_000)
    soundfile.write(tmp_path / "levels.wav", np.stack([levels] * channels, axis=1), 16_000, subtype=subtype)
    assert np.array_equal(heard(tmp_path / "levels.wav"), levels.astype(np.float32))


def test_speech_survives_every_codec(clips: Clips) -> None:
    """Lossy copies of one sentence stay aligned with the wav: the best shift is under 5 ms."""
    original = heard(clips["wav"])
    for name in ("mp3", "m4a", "ogg", "flac"):
        copy = heard(clips[name])
        count = min(len(copy), len(original))
        spectrum = np.fft.rfft(original[:count], 2 * count) * np.conj(np.fft.rfft(copy[:count], 2 * count))
        shift = int(np.argmax(np.fft.irfft(spectrum)))
        assert min(shift, 2 * count - shift) < 80, name


@pytest.mark.parametrize("name", ["wav", "stereo_wav", "flac"])
def test_lossless_files_equal_libsndfiles_reading(clips: Clips, name: str) -> None:
    samples, rate_hz = soundfile.read(clips[name], dtype="float32", always_2d=True)
    waveform = heard(clips[name])
    assert len(waveform) == pytest.approx(len(samples) * 16_000 / rate_hz, abs=1)
    if rate_hz == 16_000:
        assert np.array_equal(waveform, samples.mean(axis=1))


@pytest.mark.parametrize(("codec", "channels"), [("aac", 7), ("aac", 8), ("libvorbis", 8), ("libvorbis", 24), ("libopus", 16)])
def test_many_planar_channels(tmp_path: Path, codec: str, channels: int) -> None:
    """PyAV reads foreign memory from eight planar channels on; a child process, since a crash would end the tests."""
    path = make.many_channels(tmp_path, codec, channels)
    code = (
        "import sys, numpy; from omnidrop_cli.media.clip import decode_media; from omnidrop_cli.config import MediaConfig\n"
        "w = decode_media(sys.argv[1], MediaConfig()).waveform; print(len(w), numpy.sqrt((w[4000:-4000] ** 2).mean()))"
    )
    child = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    samples, rms = child.stdout.split()
    assert int(samples) == pytest.approx(16_000, abs=400)
    assert float(rms) == pytest.approx(0.5 / np.sqrt(2), rel=0.15)  # the LFE channel of 7.1 loses the tone


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
def test_samples_that_are_not_numbers_become_silence(tmp_path: Path, value: float, rate_hz: int) -> None:
    path, samples = tmp_path / "float.wav", signals.bursts(2.0, [1.0], rate_hz)
    samples[rate_hz // 2] = value
    soundfile.write(path, samples, rate_hz, subtype="FLOAT")
    waveform = heard(path)
    assert np.isfinite(waveform).all()
    assert onsets(np.where(np.arange(len(waveform)) < 12_000, 0, waveform)) == pytest.approx([1.0], abs=0.01)


def test_flac_without_a_length_and_cut(tmp_path: Path) -> None:
    whole = tmp_path / "whole.flac"
    soundfile.write(whole, signals.bursts(3.0, [1.0, 2.0]) + 0.01 * np.random.default_rng(0).standard_normal(48_000), 16_000)
    data = bytearray(whole.read_bytes())
    data[21] &= 0xF0  # the total number of samples (36 bits of STREAMINFO) says "unknown"
    data[22:26] = bytes(4)
    (tmp_path / "streamed.flac").write_bytes(data)
    assert np.array_equal(heard(tmp_path / "streamed.flac"), heard(whole))
    cut = decode_media(make.cut(whole, tmp_path / "cut.flac", 0.5), DEFAULT)
    assert cut.duration_s > 1.2
    assert any("breaks off" in warning for warning in cut.warnings)


def test_channels_are_averaged(clips: Clips) -> None:
    left_only = heard(clips["stereo_wav"])
    assert np.abs(left_only).max() == pytest.approx(0.25, abs=0.03)


def test_nothing_is_cut_after_five_minutes(clips: Clips) -> None:
    waveform = heard(clips["long_audio"])
    assert len(waveform) == 310 * 16_000
    assert onsets(waveform) == pytest.approx([1.0, 309.0], abs=0.01)


@pytest.mark.parametrize(
    ("rate", "subtype"), [(8_000, "PCM_U8"), (16_000, "PCM_24"), (48_000, "FLOAT"), (11_025, "ULAW"), (96_000, "PCM_16")]
)
def test_wav_kinds(tmp_path: Path, rate: int, subtype: str) -> None:
    path = tmp_path / "kind.wav"
    soundfile.write(path, signals.bursts(3.0, [1.0, 2.0], rate), rate, subtype=subtype)
    waveform = heard(path)
    assert abs(len(waveform) - 48_000) <= 2
    assert onsets(waveform) == pytest.approx([1.0, 2.0], abs=0.01)


def test_a_cut_wav_is_read_as_far_as_it_goes(clips: Clips, tmp_path: Path) -> None:
    path = make.cut(clips["stereo_wav"], tmp_path / "cut.wav", 0.75)
    assert onsets(heard(path)) == pytest.approx([1.0], abs=0.01)


def test_a_hole_is_silence(tmp_path: Path) -> None:
    """Two seconds of packets are missing from the middle of a recording: what follows keeps its time."""
    import av

    whole = make.write(tmp_path / "whole.mkv", sound=make.Track(signals.bursts(6.0, range(1, 6))))
    with av.open(str(whole)) as source, av.open(str(tmp_path / "hole.mkv"), "w") as out:
        track = out.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            if packet.dts is not None and not 1.5 < float(packet.pts * packet.time_base) < 3.5:
                packet.stream = track
                out.mux(packet)
    assert onsets(heard(tmp_path / "hole.mkv")) == pytest.approx([1.0, 4.0, 5.0], abs=0.03)


def test_silence_before_the_start_is_not_counted_twice(clips: Clips) -> None:
    assert decode_media(clips["delayed_audio"], MediaConfig(end_s=1.0)).waveform is None
    assert len(heard(clips["delayed_audio"], end_s=2.0)) == 32_000


def test_it_stops_when_asked(clips: Clips) -> None:
    scanned = scan(clips["long_audio"])
    assert scanned.timeline.audio is not None
    assert read_audio(scanned.source, scanned.timeline.audio, 0.0, 310 * 16_000, cancelled=lambda: True).decoded == 0


# ---------------------------------------------------------------- where samples go


def laid_out(frames: list[tuple[int, int]], size: int) -> tuple[np.ndarray, int]:
    """(samples, how many were dropped because others lie there) of (first sample, count) frames, sample by sample at 16 kHz."""
    out, behind, dropped = np.zeros(size, np.float32), None, 0
    for value, (at, count) in enumerate(frames, 1):
        kept = range(count)
        if behind is not None and abs(at - behind) <= 800:
            at = behind
        elif behind is not None and at < behind:
            dropped += min(behind - at, count)
            kept = range(behind - at, count)
        for n in kept:
            if 0 <= at + n < size:
                out[at + n] = value / 100
            if at + n >= 0:
                behind = at + n + 1
    return out, dropped


STEPS = st.sampled_from([0, 0, 300, 790, -300, -790, 810, 2_000, -810, -3_000])


@given(st.integers(-3_000, 3_000), st.lists(st.tuples(STEPS, st.integers(1, 2_500)), min_size=1, max_size=7), st.integers(1, 9_000))
def test_samples_lie_where_they_belong(first: int, steps: list[tuple[int, int]], size: int) -> None:
    """A twentieth of a second off is rounding; beyond that there is silence, or what lies on others is dropped."""
    at, frames = first, list[tuple[int, int]]()
    for step, count in steps:
        frames.append((at + step, count))
        at += step + count
    writer = audio._Writer(np.zeros(size, np.float32))
    for value, (at, count) in enumerate(frames, 1):
        writer.write(at / 16_000, np.full(count, value / 100, np.float32), 16_000)
    out, dropped = laid_out(frames, size)
    assert writer._out == pytest.approx(out)
    assert writer.overlap_s == pytest.approx(dropped / 16_000)
    assert writer.decoded == np.count_nonzero(out)
    assert writer.full == (writer._at >= size)


@pytest.mark.parametrize("rates", [(8_000, 8_000), (8_000, 16_000), (16_000, 8_000), (48_000, 8_000)])
def test_a_rate_may_change_between_frames(rates: tuple[int, int]) -> None:
    writer = audio._Writer(np.zeros(16_000, np.float32))
    for at_s, rate_hz in zip((0.0, 0.5), rates, strict=True):
        writer.write(at_s, np.full(rate_hz // 2, 0.25 + at_s, np.float32), rate_hz)
    writer.flush()
    assert writer._out[100:7_900] == pytest.approx(0.25, abs=0.01)
    assert writer._out[8_100:] == pytest.approx(0.75, abs=0.02)
    assert writer.decoded == pytest.approx(16_000, abs=2)
    assert writer.overlap_s == 0.0


def test_samples_behind_a_hole_keep_their_place_at_every_rate() -> None:
    writer = audio._Writer(np.zeros(16_000, np.float32))
    for at_s in (0.0, 0.5):
        writer.write(at_s, np.full(2_000, 0.5, np.float32), 8_000)
    writer.flush()
    assert writer._out[100:3_900] == pytest.approx(0.5, abs=0.01)
    assert writer._out[4_100:7_900] == pytest.approx(0.0, abs=0.01)
    assert writer._out[8_100:11_900] == pytest.approx(0.5, abs=0.01)


def read_wav(path: Path, channels: list[np.ndarray], rate_hz: int = 16_000) -> audio.Waveform:
    soundfile.write(path, np.stack(channels, axis=1), rate_hz, subtype="FLOAT")
    found = scan(path)
    assert found.timeline.audio is not None
    return read_audio(found.source, found.timeline.audio, 0.0, round(found.timeline.audio.end_s * 16_000))


@pytest.mark.parametrize(
    ("left", "right", "cancelled"),
    [(0.5, -0.5, True), (0.5, -0.46, True), (0.5, -0.42, False), (0.5, 0.5, False), (0.008, -0.008, False), (0.02, -0.02, True)],
)
def test_channels_that_cancel_each_other_out(tmp_path: Path, left: float, right: float, cancelled: bool) -> None:
    wave = np.sin(np.arange(16_000)).astype(np.float32)
    assert read_wav(tmp_path / "a.wav", [left * wave, right * wave]).cancelled_out == cancelled


def test_quiet_audio_is_neither_cancelled_nor_bad(tmp_path: Path) -> None:
    found = read_wav(tmp_path / "a.wav", [np.full(16_000, 0.01, np.float32)])
    assert (found.bad, found.cancelled_out, found.overlap_s, found.decoded) == (0, False, 0.0, 16_000)


def test_samples_that_are_no_numbers_are_counted_and_loud_ones_limited(tmp_path: Path) -> None:
    samples = np.zeros((16_000, 2), np.float32)
    samples[[5, 9_000, 15_000], 0] = np.nan
    samples[[6, 15_001], 1] = np.inf
    samples[7] = -np.inf
    found = read_wav(tmp_path / "a.wav", [*samples.T])
    assert found.bad == 7
    assert not found.samples.any()
    assert read_wav(tmp_path / "b.wav", [np.array([1.5, -1.5, 0.5], np.float32)]).samples.tolist() == [1.0, -1.0, 0.5]
    loud = av.AudioFrame.from_ndarray(np.array([[64.5, -1e30, 64.0, 0.5]], np.float32), format="flt", layout="mono")
    assert audio._mono(loud)[0].tolist() == [64.0, -64.0, 64.0, 0.5]


def test_the_last_samples_of_a_resampled_file_are_there(tmp_path: Path) -> None:
    found = read_wav(tmp_path / "a.wav", [np.full(8_000, 0.5, np.float32)], 8_000)
    assert found.samples[100:-8] == pytest.approx(0.5, abs=0.01)
    assert found.samples[-8:].min() > 0.1


def test_decoding_begins_half_a_second_early(clips: Clips) -> None:
    """A packet of AAC is 0.02 s long."""
    found = scan(clips["tone_video"])
    assert found.timeline.audio is not None
    times = [at_s for at_s, _ in audio._frames(found.source, found.timeline.audio, 2.0, 3.0)]
    assert 1.4 < times[0] <= 1.5
    assert 2.9 < times[-1] < 3.1
