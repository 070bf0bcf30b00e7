"""How deep every patch and every moment of audio survives, as arrays that are drawn over frames and along time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from omnidrop_cli.errors import UsageError
from omnidrop_cli.outputs import Modality, Report

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class DepthMap:
    """Share of the layers that each audio and video token enters, 0 to 1.

    `patches` float64 (grids, rows, columns) with `grid_s` (grids,), `audio` float64 (tokens,) with `audio_s` (tokens,); seconds from the
    clip's start. Arrays of a modality that the prompt does not have are empty.
    """

    patches: NDArray[np.float64]
    grid_s: NDArray[np.float32]
    audio: NDArray[np.float64]
    audio_s: NDArray[np.float32]

    def at(self, second: float) -> NDArray[np.float64]:
        """(rows, columns) of the grid that covers a second."""
        import numpy as np

        index = int(np.searchsorted(self.grid_s, second + 1e-4, side="right")) - 1
        found: NDArray[np.float64] = self.patches[max(0, index)]
        return found

    def audio_between(self, start_s: float, end_s: float) -> float:
        """Mean over the audio tokens of a stretch; 0 where it has none."""
        inside = (self.audio_s >= start_s - 1e-4) & (self.audio_s < end_s - 1e-4)
        return float(self.audio[inside].mean()) if inside.any() else 0.0


def depth_map(report: Report) -> DepthMap:
    """The map of a report. Raises `UsageError` for one that was saved without its kept tokens."""
    tokens, trace = report.token_map, report.trace
    if tokens is None or not trace.kept:
        raise UsageError("the report was saved without its kept tokens", "save it with --kept or to_dict(report, kept=True)")
    depth = trace.layers_entered() / max(1, trace.num_layers)
    video, audio = tokens.rows(Modality.VIDEO), tokens.rows(Modality.AUDIO)
    shape = (int(tokens.row[video].max()) + 1, int(tokens.col[video].max()) + 1) if len(video) else (1, 1)
    cells = shape[0] * shape[1]
    return DepthMap(
        patches=depth[video].reshape(-1, *shape), grid_s=tokens.time_s[video][::cells], audio=depth[audio], audio_s=tokens.time_s[audio]
    )
