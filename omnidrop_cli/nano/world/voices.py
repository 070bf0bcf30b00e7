"""Every word in many voices, synthesised once with Debian's speech programs and then read from a cache.

Programs and voices: espeak-ng (GPL-3; its output is free), Flite and Festival with the CMU voices awb, kal, rms, slt and ked (BSD-like
licences of Carnegie Mellon and Edinburgh). Some voices are held out from training. No recording is in the project.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import tempfile
import wave
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnidrop_cli import fileio
from omnidrop_cli.errors import OmnidropError
from omnidrop_cli.nano.world.resample import to_length
from omnidrop_cli.nano.world.vocabulary import WORDS
from omnidrop_cli.outputs import SAMPLE_RATE_HZ

Wave = NDArray[np.float32]

SPEECH_RMS = 0.1
"""Level that every cached word is brought to."""

STRETCH = 0.26
"""A word takes between 77 and 130 % of its time. With 88 to 113 %, unseen voices of odd build were understood at 61 to 80 %."""

PACKAGES = {"espeak-ng": "espeak-ng", "flite": "flite", "festival": "festival festvox-kallpc16k festvox-kdlpc16k festvox-us-slt-hts"}


@dataclass(frozen=True, slots=True)
class Voice:
    """`speed` is words a minute for espeak-ng and a duration stretch for flite; `pitch` 0-99 is espeak-ng's alone."""

    engine: str
    name: str
    speed: float = 1.0
    pitch: int = 50
    held_out: bool = False

    @property
    def label(self) -> str:
        return f"{self.engine}-{self.name}-{self.speed:g}-{self.pitch}".replace("+", "_")


_TRAIN_VARIANTS = (  # noqa: SIM905
    "m1 m2 m3 m4 m6 m8 f1 f2 f4 f5 adam Alex Alicia Andrea Annie antonio belinda benjamin boris caleb david ed edward Gene "
    "gustave Henrique Hugo iven iven3 john Lee linda marcelo Marco max Michael Mike pablo paul pedro quincy rob steph victor "
    "klatt klatt2 klatt4"
).split()
_TEST_VARIANTS = "m5 m7 f3 Andy robert sandro shelby travis norbert zac anika miguel".split()  # noqa: SIM905
_ACCENTS = ("en-us", "en-gb", "en-us", "en-gb-x-rp")


def voices() -> list[Voice]:
    """All voices in a fixed order; a voice's number is its place here. The held-out ones are other speakers or variants altogether."""
    listed: list[Voice] = []
    for number, variant in enumerate(_TRAIN_VARIANTS):
        accent = _ACCENTS[number % len(_ACCENTS)]
        listed.append(Voice("espeak-ng", f"{accent}+{variant}", 150 + 7 * (number % 5), 30 + 11 * (number % 4)))
        listed.append(Voice("espeak-ng", f"en-us+{variant}", 135 + 9 * (number % 7), 25 + 13 * (number % 5)))
    listed += [Voice("flite", name, stretch) for name in ("kal", "kal16", "awb", "slt") for stretch in (0.85, 1.0, 1.15)]
    listed += [Voice("festival", name) for name in ("kal_diphone", "cmu_us_slt_arctic_hts")]
    for number, variant in enumerate(_TEST_VARIANTS):
        listed.append(Voice("espeak-ng", f"en-us+{variant}", 145 + 10 * (number % 4), 35 + 10 * (number % 4), held_out=True))
    listed += [Voice("flite", "rms", stretch, held_out=True) for stretch in (1.0, 1.1)]
    listed.append(Voice("festival", "ked_diphone", held_out=True))
    return listed


class VoiceBank:
    """Waveforms of all words in the chosen voices, in memory: float32 at 16 kHz, trimmed, at `SPEECH_RMS`."""

    def __init__(self, directory: Path, numbers: Sequence[int]) -> None:
        """Read the cache. Raises `OmnidropError` where a voice has not been synthesised yet (`synthesise`)."""
        self._words: dict[tuple[int, str], Wave] = {}
        everyone = voices()
        for number in numbers:
            file = directory / f"{everyone[number].label}.npz"
            if not file.exists():
                raise OmnidropError(f"{file}: this voice is not in the cache", "run `python -m omnidrop_cli.nano.train voices` first")
            with np.load(file) as stored:
                for word in WORDS:
                    self._words[number, word] = stored[word].astype(np.float32) / 32767

    def word(self, number: int, word: str) -> Wave:
        return self._words[number, word]

    def take(self, rng: np.random.Generator, word: str, number: int) -> float:
        """Seconds the word will last: the cached length, faster or slower (`timeline.WordTaker`).

        Its pitch and formants move along, so that every voice stands for a family of larger and smaller speakers.
        """
        return len(self._words[number, word]) / SAMPLE_RATE_HZ * float(np.exp(rng.uniform(-STRETCH, STRETCH)))


def synthesise(directory: Path, numbers: Sequence[int] | None = None, say: Callable[[str], None] | None = None) -> None:
    """Fill the cache, one file a voice; voices already there are kept. Raises `OmnidropError` where a program is missing or fails."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OmnidropError(f"{directory}: cannot make the voice cache ({error})", "give another --work directory") from error
    everyone = voices()
    for number in range(len(everyone)) if numbers is None else numbers:
        voice = everyone[number]
        file = directory / f"{voice.label}.npz"
        if file.exists():
            continue
        spoken = {word: _tidy(sound, rate, word, voice) for word, (sound, rate) in _speak_all(voice).items()}
        _write(file, spoken)
        if say:
            say(f"voice {number + 1} of {len(everyone)}: {voice.label}")


def _write(file: Path, spoken: dict[str, Wave]) -> None:
    stored: dict[str, Any] = {word: (sound * 32767).clip(-32767, 32767).astype(np.int16) for word, sound in spoken.items()}
    try:
        with fileio.replacing(file) as part:
            np.savez(part, **stored)
    except OSError as error:
        raise OmnidropError(f"{file}: cannot write the voice cache ({error})", "free some space; finished voices are kept") from error


def _speak_all(voice: Voice) -> dict[str, tuple[Wave, int]]:
    if shutil.which(voice.engine) is None:
        raise OmnidropError(f"{voice.engine} is not installed", f"apt-get install {PACKAGES[voice.engine]}")
    if voice.engine == "festival":
        return _festival(voice)
    return {word: _read(_call(_command(voice, word), voice)) for word in WORDS}


def _command(voice: Voice, word: str) -> list[str]:
    if voice.engine == "espeak-ng":
        return ["espeak-ng", "-v", voice.name, "-s", f"{voice.speed:g}", "-p", str(voice.pitch), "--stdout", word]
    return ["flite", "-voice", voice.name, "--setf", f"duration_stretch={voice.speed:g}", "-t", word, "-o", "/dev/stdout"]


def _call(command: Sequence[str], voice: Voice, text: str | None = None) -> bytes:
    done = subprocess.run(command, input=None if text is None else text.encode(), capture_output=True, check=False)
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
        raise OmnidropError(f"{voice.engine} failed on voice {voice.name}: {last[0]}", f"apt-get install {PACKAGES[voice.engine]}")
    return done.stdout


def _festival(voice: Voice) -> dict[str, tuple[Wave, int]]:
    """All words in one process: Festival takes longer to start than to speak."""
    with tempfile.TemporaryDirectory() as folder:
        script = [f"(voice_{voice.name})"]
        script += [f'(utt.save.wave (utt.synth (Utterance Text "{word}")) "{folder}/{word}.wav" \'riff)' for word in WORDS]
        _call(["festival", "--pipe"], voice, "\n".join(script))
        missing = [word for word in WORDS if not Path(folder, f"{word}.wav").exists()]
        if missing:
            raise OmnidropError(f"festival voice {voice.name} said nothing for {missing[0]!r}", f"apt-get install {PACKAGES['festival']}")
        return {word: _read(Path(folder, f"{word}.wav").read_bytes()) for word in WORDS}


def _read(data: bytes) -> tuple[Wave, int]:
    """A PCM wav, also one written to a pipe with a made-up length."""
    with wave.open(io.BytesIO(data)) as source:
        rate = source.getframerate()
        start = data.index(b"data") + 8
    samples = np.frombuffer(data[start : start + (len(data) - start) // 2 * 2], np.int16)
    return (samples / 32768).astype(np.float32), rate


def _tidy(sound: Wave, rate: int, word: str, voice: Voice) -> Wave:
    """To 16 kHz, silence trimmed from both ends, level set."""
    sound = to_length(sound, round(len(sound) * SAMPLE_RATE_HZ / rate))
    loud = np.nonzero(np.abs(sound) > 0.03 * np.abs(sound).max(initial=1e-9))[0]
    if not len(loud) or np.abs(sound).max() < 1e-3:
        raise OmnidropError(f"{voice.engine} voice {voice.name} is silent on {word!r}", f"apt-get install {PACKAGES[voice.engine]}")
    sound = sound[max(0, loud[0] - 80) : loud[-1] + 240]
    level = float(np.sqrt(np.mean(sound**2)))
    return np.asarray(sound * (SPEECH_RMS / level), np.float32)
