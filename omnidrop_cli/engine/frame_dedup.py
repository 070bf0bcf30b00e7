"""Which temporal grids of a clip show what an earlier one showed, so that the vision encoder runs once for both.

Input: frames. Output: the grid whose encoding each grid takes. Slides, screen recordings and still scenes repeat their frames; grids
never attend to each other in the encoder and carry no temporal position there, so one encoding serves every repetition exactly.

Encoded video hardly ever repeats a picture bit for bit: each frame is predicted with a residue of its own. `same_within` lets
pictures count as the same that differ by coding noise only.
"""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def grid_digests(frames: NDArray[np.uint8], depth: int) -> list[bytes]:
    """One digest for each grid of `depth` frames (T, 3, H, W): equal digests, equal pixels."""

    def digest(start: int) -> bytes:
        return hashlib.sha256(np.ascontiguousarray(frames[start : start + depth]).data).digest()

    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:  # hashing lets other threads run
        return list(pool.map(digest, range(0, len(frames), depth)))


def grid_sources(
    frames: NDArray[np.uint8], digests: list[bytes], *, depth: int, cell: int, unit: int = 1, same_within: float = 0.0
) -> NDArray[np.int64]:
    """For each grid, the grid whose encoding serves it: itself, or an earlier one that is its own source.

    `digests` are `grid_digests(frames, depth)`. `unit` grids repeat together or not at all: attention that looks at two grids is
    the same only where both are. With `same_within` > 0 (levels of 255) units count as the same when in every cell of `cell` x
    `cell` pixels, the area of one token, the mean absolute difference is at most that. Differences are taken to the unit that was
    encoded, not to the one before, so they do not add up over a slow change.
    """
    units = [tuple(digests[at : at + unit]) for at in range(0, len(digests), unit)]
    seen: dict[tuple[bytes, ...], int] = {}
    near = _Near(frames, depth * unit, cell, same_within) if same_within > 0 else None
    first: list[int] = []
    for number, content in enumerate(units):
        found = seen.get(content)
        if found is None and near is not None and len(content) == unit:
            found = near.find(number)
        first.append(number if found is None else found)
        seen.setdefault(content, first[-1])
    grids = np.arange(len(digests))
    return np.asarray(first, dtype=np.int64)[grids // unit] * unit + grids % unit


class _Near:
    """Units of `span` frames encoded so far, by the mean of every cell.

    Means can differ by no more than the pixels do on average, so they rule out nearly all pairs before pixels are compared.
    """

    def __init__(self, frames: NDArray[np.uint8], span: int, cell: int, limit: float) -> None:
        self._frames, self._span, self._cell, self._limit = frames, span, cell, limit
        self._units: list[int] = []
        self._means: list[NDArray[np.float32]] = []

    def find(self, unit: int) -> int | None:
        """The latest encoded unit that `unit` is near to; where there is none, `unit` joins them."""
        mine = self._pixels(unit).astype(np.float32)
        means = self._cells(mine)
        if self._units:
            apart = np.abs(np.stack(self._means) - means).max(axis=1)
            for candidate in (self._units[int(place)] for place in np.flatnonzero(apart <= self._limit)[::-1]):
                if self._cells(np.abs(self._pixels(candidate) - mine)).max() <= self._limit:
                    return candidate
        self._units.append(unit)
        self._means.append(means)
        return None

    def _pixels(self, unit: int) -> NDArray[np.uint8]:
        return self._frames[unit * self._span : (unit + 1) * self._span]

    def _cells(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Mean over each cell of each frame: (span, 3, H, W) → (span * rows * cols,)."""
        span, channels, height, width = pixels.shape
        split = pixels.reshape(span, channels, height // self._cell, self._cell, width // self._cell, self._cell)
        means: NDArray[np.float32] = split.mean(axis=(1, 3, 5), dtype=np.float32).ravel()
        return means
