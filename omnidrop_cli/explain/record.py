"""Records of an explanation: the reports of one question, and the clip as small pictures that a page can show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from omnidrop_cli.errors import UsageError
from omnidrop_cli.outputs import Report

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Film:
    """The sampled frames as JPEG thumbnails, one per pair of frames (a temporal grid of video tokens shows two).

    `at_s` (T,) are the seconds from the clip's start; `size` is (width, height) in pixels.
    """

    size: tuple[int, int]
    at_s: tuple[float, ...]
    jpegs: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, eq=False)
class SoundImage:
    """The waveform in short. `mel_png` is the log-mel spectrogram in grey, low frequencies at the bottom.

    `peaks` int8 (bins, 2) are the lowest and highest sample of each of equal parts of `seconds`, full scale 127.
    """

    seconds: float
    mel_png: bytes
    peaks: NDArray[np.int8]


def check_one_clip(clips: int) -> None:
    """Raises `UsageError` for a question about several `clips`: pages, sheets and overlays show one."""
    if clips > 1:
        raise UsageError(
            f"a page, a sheet or a video shows one clip, and there are {clips}",
            "ask about one; the terminal shows several (in Python: KeptView)",
        )


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """One question under several methods.

    `full` is the run without pruning, where it was made. `film` and `sound` are None for a track the clip does not have, for several
    clips, and for a saved report whose clip is gone. `preview` is the used part of the clip as MP4; `link` a relative path or an address
    to show instead.
    """

    reports: tuple[Report, ...]
    full: Report | None = None
    film: Film | None = None
    sound: SoundImage | None = None
    preview: bytes | None = None
    link: str | None = None

    @property
    def first(self) -> Report:
        return self.reports[0]
