"""The loop of greedy max-min selection: in a matrix of distances, every pick is the token farthest from those already picked.

In: distances inside groups of tokens, and each token's distance to what is picked already. Out: the picks in order, of all groups at once.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from omnidrop_cli import kernels
from omnidrop_cli.model.cuda_capture import Capture

UNROLL = 16
"""Picks of one captured graph. Recording costs about as much as that many picks; a replay costs the host as much as one launch."""

MIN_CAPTURE = 4 * UNROLL
"""Fewer picks are not worth a capture."""

MOST = 1 << 14
"""Most tokens of a group that the kernel holds in the registers of one block: 16 in each of 1,024 threads."""


class PickLoop:
    """The largest of `nearest` is picked, and its row of `matrix` brings `nearest` up to date, again and again.

    One kernel for all picks where Triton runs, else three launches a pick on tensors that stay where they are.

    Attributes:
        matrix: (g, s, s) float32, distance from token i (rows) to token j. The diagonal must be minus infinity: it takes a pick out.
        nearest: (g, s) float32, distance from the picked to each token; minus infinity for what cannot be picked. Changes with every pick.
    """

    def __init__(self, matrix: Tensor, capture: Capture | None = None) -> None:
        """`matrix` may be filled later, and again. With `capture`, long runs without Triton are replayed from a graph."""
        groups, size, _ = matrix.shape
        self.matrix = matrix
        self.nearest = matrix.new_empty(groups, size)
        self._row = matrix.new_empty(groups, 1, size)
        self._value = matrix.new_empty(UNROLL, groups, 1)
        self._pick = torch.empty(UNROLL, groups, 1, dtype=torch.int64, device=matrix.device)
        self._capture = capture
        self._replay: Callable[[], None] | None = None

    def start(self, pick: Tensor) -> None:
        """Begin with `pick` (g, 1) int64 in every group."""
        self._take_row(pick)
        self.nearest.copy_(self._row[:, 0])

    def run(self, count: int) -> tuple[Tensor, Tensor]:
        """Picks `count` more tokens of every group.

        Returns:
            (count, g) int64 picks in order, and (count, g) their distance from what was picked before. Of equally distant tokens the lowest
            index is picked. A group with nothing left to pick gives any index, with minus infinity.
        """
        groups, size = self.nearest.shape
        if size <= MOST and kernels.runs_on(self.nearest.device):
            from omnidrop_cli.kernels.picks import pick

            return pick(self.matrix, self.nearest, count)
        picks = torch.empty(count, groups, dtype=torch.int64, device=self.nearest.device)
        values = self.nearest.new_empty(count, groups)
        done = 0
        while done < count:
            step = min(UNROLL, count - done)
            if step < UNROLL or not self._run_captured(count - done):
                self._picks(step)
            picks[done : done + step] = self._pick[:step, :, 0]
            values[done : done + step] = self._value[:step, :, 0]
            done += step
        return picks, values

    def _picks(self, count: int) -> None:
        """`count` picks, at most UNROLL, into the first places of `_pick` and `_value`."""
        for place in range(count):
            pick = self._pick[place]
            torch.max(self.nearest, dim=1, keepdim=True, out=(self._value[place], pick))
            self._take_row(pick)
            torch.minimum(self.nearest, self._row[:, 0], out=self.nearest)

    def _take_row(self, pick: Tensor) -> None:
        if len(self.matrix) == 1:
            torch.index_select(self.matrix[0], 0, pick[0], out=self._row[0])
        else:
            torch.gather(self.matrix, 1, pick[:, :, None].expand_as(self._row), out=self._row)

    def _run_captured(self, left: int) -> bool:
        """UNROLL picks by the graph, which is recorded first if the picks `left` are worth it; False where there is none."""
        if self._replay is not None:
            self._replay()
            return True
        if self._capture is None or left < MIN_CAPTURE:
            return False
        before = self.nearest.clone()
        try:
            self._replay = self._capture(lambda: self._picks(UNROLL))  # the warm-up makes the first picks
        except RuntimeError:  # the loop runs without a graph: slower, with the same result
            self._capture = None
            self.nearest.copy_(before)
            return False
        return True
